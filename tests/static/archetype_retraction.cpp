// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The retractions of the Stiefel manifold and their inverses with the archetype backend; nvcc
// compiles this file as well, without Eigen.

#include <complex>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/manifold/stiefel_inverse_pade.hpp>
#include <stiefelx/manifold/stiefel_inverse_polar_light.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_pade.hpp>
#include <stiefelx/manifold/stiefel_polar_light.hpp>
#include <stiefelx/manifold/stiefel_quasi_geodesic.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_rotation.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
void retractions(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& v,
                 archetype::matrix<S>& y, archetype::matrix<int>& status) {
  stiefel const m{x.rows(), x.cols()};
  auto a = scratch<S>(ctx, m.n, 2 * m.p), k = scratch<S>(ctx, 2 * m.p, 2 * m.p);
  rotation_factors(ctx, m, x, v, a, k);
  retract(ctx, m, x, v, y, pade_retraction{.order = 2});
  retract(ctx, m, x, v, x, polar_light_retraction{});
  retract(ctx, m, x.adjoint().adjoint(), v, y.middleCols(0, m.p), cayley_iteration_retraction{});

  retract(ctx, m, x, v, y, quasi_geodesic_retraction{});

  inverse_retract(ctx, m, x, v, y);
  inverse_retract(ctx, m, x, v, y, qr_retraction{}, status);
  inverse_retract(ctx, m, x, v, y, polar_retraction{}, status);
  inverse_retract(ctx, m, x, v, y, cayley_retraction{}, status);
  inverse_retract(ctx, m, x, v, y, pade_retraction{}, status);
  inverse_retract(ctx, m, x, v, y, polar_light_retraction{}, status);
  inverse_retract(ctx, m, x, v, y, quasi_geodesic_retraction{}, status);
  inverse_retract(ctx, m, x.adjoint().adjoint(), v.middleCols(0, m.p), y.middleCols(0, m.p),
                  cayley_retraction{}, no_status{});
}

template void retractions(archetype::context&, archetype::matrix<float>&,
                          archetype::matrix<float> const&, archetype::matrix<float>&,
                          archetype::matrix<int>&);
template void retractions(archetype::context&, archetype::matrix<double>&,
                          archetype::matrix<double> const&, archetype::matrix<double>&,
                          archetype::matrix<int>&);
template void retractions(archetype::context&, archetype::matrix<std::complex<double>>&,
                          archetype::matrix<std::complex<double>> const&,
                          archetype::matrix<std::complex<double>>&, archetype::matrix<int>&);

}  // namespace stiefelx
