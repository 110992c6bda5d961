// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Exponential, logarithm, distance and transports with the archetype backend.

#include <complex>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_logarithm.hpp>
#include <stiefelx/manifold/stiefel_parallel_transport.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/orth/skew_exponential.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
void geodesics(archetype::context& ctx, archetype::matrix<S> const& a, archetype::matrix<S>& x,
               archetype::matrix<S> const& d, archetype::matrix<S> const& v,
               archetype::matrix<S>& w, archetype::matrix<real_of_t<S>>& s,
               archetype::matrix<int>& status) {
  skew_exponential(ctx, a, w);
  skew_exponential(ctx, a.adjoint(), w.middleRows(0, 2), status, {.squarings = 6});
  unitary_logarithm(ctx, a, w);
  unitary_logarithm(ctx, a.adjoint(), w.middleRows(0, 2), status);

  stiefel const m{x.rows(), x.cols(), 0.25};
  exp(ctx, m, x, v, w);
  exp(ctx, m, x.middleCols(0, 2), v, w.middleCols(0, 2), status);
  exp(ctx, m, a.adjoint(), a.adjoint(), w);
  retract(ctx, m, x, v, x, exponential_retraction{});
  log(ctx, m, x, v, w);
  log(ctx, m, x, v.middleCols(0, 2), w.middleCols(0, 2), status, {.tolerance = 1e-9});
  log(ctx, m, a.adjoint(), v, w, no_status{});
  distance(ctx, m, x, v, s);
  distance(ctx, m, a.adjoint(), v, s.middleCols(0, 1), status, {.iterations = 9});
  inverse_retract(ctx, m, x, v, w, exponential_retraction{});
  inverse_retract(ctx, m, x, v, w, exponential_retraction{}, status);

  transport_along(ctx, m, x, d, x, v, w, projection_transport{});
  transport_along(ctx, m, x, d, x, v, w, differentiated{qr_retraction{}});
  transport_along(ctx, m, x, d, x, v, w, differentiated{polar_retraction{}});
  transport_along(ctx, m, x, d, x, v, w, differentiated{cayley_retraction{}});
  transport_along(ctx, m, x, d, x, v, w, cayley_transport{});
  transport_along(ctx, m, x, d, x, v, w, parallel_transport{});
  transport_along(ctx, m, a.adjoint(), d, x, v, w, differentiated{qr_retraction{}});
  transport_along(ctx, m, x, a.adjoint(), x, v, w, differentiated{polar_retraction{}});
  transport_along(ctx, m, x, d, a.adjoint(), v, w, differentiated{cayley_retraction{}});
  transport_along(ctx, m, x, d, x, a.adjoint(), w, cayley_transport{});
  transport_along(ctx, m, a.adjoint(), d, x, v, w.middleCols(0, 2), parallel_transport{});
}

template void geodesics(archetype::context&, archetype::matrix<float> const&,
                        archetype::matrix<float>&, archetype::matrix<float> const&,
                        archetype::matrix<float> const&, archetype::matrix<float>&,
                        archetype::matrix<float>&, archetype::matrix<int>&);
template void geodesics(archetype::context&, archetype::matrix<double> const&,
                        archetype::matrix<double>&, archetype::matrix<double> const&,
                        archetype::matrix<double> const&, archetype::matrix<double>&,
                        archetype::matrix<double>&, archetype::matrix<int>&);
template void geodesics(archetype::context&, archetype::matrix<std::complex<double>> const&,
                        archetype::matrix<std::complex<double>>&,
                        archetype::matrix<std::complex<double>> const&,
                        archetype::matrix<std::complex<double>> const&,
                        archetype::matrix<std::complex<double>>&, archetype::matrix<double>&,
                        archetype::matrix<int>&);

}  // namespace stiefelx
