// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Metrics, Hessians, tangent coordinates and turned points with the archetype backend; nvcc compiles
// this file as well, without Eigen.

#include <complex>

#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/row_orthonormal.hpp>
#include <stiefelx/manifold/row_orthonormal_geodesic.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_basis.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
void metrics(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& v,
             archetype::matrix<S>& w, archetype::matrix<real_of_t<S>>& s,
             archetype::matrix<int>& status) {
  stiefel const m{x.rows(), x.cols(), canonical_metric};
  random_stream stream;
  random_point(ctx, m, stream, x);
  random_tangent(ctx, m, stream, x, w);
  inner(ctx, m, x, v, v.middleCols(0, v.cols()), s);
  norm(ctx, m, x, v, s);
  riemannian_gradient(ctx, m, x, v, w);
  riemannian_gradient(ctx, m, x, w, w);
  riemannian_hessian(ctx, m, x, v, v, v, w);
  riemannian_hessian(ctx, m, x.middleRows(0, x.rows()), v, w, v, w);
  weingarten(ctx, stiefel{x.rows(), x.cols()}, x, v, v.adjoint().adjoint(), w);
  nearest_point(ctx, m, v, x);
  nearest_point(ctx, m, x, x, status);
  auto c = zeros<real_of_t<S>>(ctx, dimension(m), 1);
  tangent_coordinates(ctx, m, x, v, c);
  tangent_vector(ctx, m, x, c, w.middleCols(0, w.cols()));
  (void)injectivity_radius(m);
}

template <class S>
void turned(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& v,
            archetype::matrix<S>& w, archetype::matrix<real_of_t<S>>& s) {
  row_orthonormal const m{{x.cols(), x.rows()}};
  static_assert(ManifoldOn<row_orthonormal, archetype::context, archetype::matrix<S>>);
  random_stream stream;
  random_point(ctx, m, stream, x);
  random_tangent(ctx, m, stream, x, w);
  project(ctx, m, x, v, w);
  riemannian_gradient(ctx, m, x, v, w);
  retract(ctx, m, x, v, w.middleRows(0, w.rows()));
  retract(ctx, m, x, v, x, polar_retraction{});
  retract(ctx, m, x, v, x, cayley_retraction{});
  transport(ctx, m, x, x, v, w);
  nearest_point(ctx, m, v, x);
  inner(ctx, m, x, v, v, s);
  norm(ctx, m, x, v.adjoint().adjoint(), s);
  transport_or_project(ctx, m, x, x, v, w);
  gradient_or_project(ctx, m, x, v, w);

  riemannian_hessian(ctx, m, x, v, v, v, w);
  weingarten(ctx, m, x, v, v, w);
  exp(ctx, m, x, v, x);
  (void)log(ctx, m, x, v, w);
  (void)distance(ctx, m, x, v, s);
  inverse_retract(ctx, m, x, v, w);
  inverse_retract(ctx, m, x, v, w, cayley_retraction{});
  transport_along(ctx, m, x, v, x, v, w, projection_transport{});
}

template void metrics(archetype::context&, archetype::matrix<float>&,
                      archetype::matrix<float> const&, archetype::matrix<float>&,
                      archetype::matrix<float>&, archetype::matrix<int>&);
template void turned(archetype::context&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, archetype::matrix<float>&,
                     archetype::matrix<float>&);
template void metrics(archetype::context&, archetype::matrix<double>&,
                      archetype::matrix<double> const&, archetype::matrix<double>&,
                      archetype::matrix<double>&, archetype::matrix<int>&);
template void turned(archetype::context&, archetype::matrix<double>&,
                     archetype::matrix<double> const&, archetype::matrix<double>&,
                     archetype::matrix<double>&);
template void metrics(archetype::context&, archetype::matrix<std::complex<double>>&,
                      archetype::matrix<std::complex<double>> const&,
                      archetype::matrix<std::complex<double>>&, archetype::matrix<double>&,
                      archetype::matrix<int>&);
template void turned(archetype::context&, archetype::matrix<std::complex<double>>&,
                     archetype::matrix<std::complex<double>> const&,
                     archetype::matrix<std::complex<double>>&, archetype::matrix<double>&);

}  // namespace stiefelx
