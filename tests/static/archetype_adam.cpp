// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every variant of riemannian_adam with the archetype backend, for one point and for stacks of points.
// nvcc compiles this file as well.

#include <complex>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

struct visit_adam_arrays {
  template <class A>
  void operator()(char const*, A&) const {}
};

template <class S, class Manifold>
void adam_variants(archetype::context& ctx, Manifold m, archetype::matrix<S>& x,
                   archetype::matrix<S> const& g, archetype::matrix<int>& status) {
  riemannian_adam adam(
      ctx, m, x,
      {.amsgrad = true, .weight_decay = 1e-2, .second_moment = adam_moment::rows_and_columns});
  adam.step(ctx, x, g);
  adam.step(ctx, x.middleCols(0, x.cols()), g.adjoint().adjoint(), status);
  adam.set_learning_rate(1e-2);
  adam.for_each_array(visit_adam_arrays{});
  copy(ctx, adam.first_moment(), x);
  copy(ctx, adam.skew_first_moment(), x.middleRows(0, x.cols()));
  (void)adam.second_moment();
  (void)adam.skew_second_moment();
  (void)adam.row_moments();
  (void)adam.column_moments();
}

template void adam_variants(archetype::context&, stiefel, archetype::matrix<float>&,
                            archetype::matrix<float> const&, archetype::matrix<int>&);
template void adam_variants(archetype::context&, euclidean, archetype::matrix<double>&,
                            archetype::matrix<double> const&, archetype::matrix<int>&);
template void adam_variants(archetype::context&, power<stiefel>, archetype::matrix<float>&,
                            archetype::matrix<float> const&, archetype::matrix<int>&);
template void adam_variants(archetype::context&, power<fixed_stiefel<5, 3>>,
                            archetype::matrix<double>&, archetype::matrix<double> const&,
                            archetype::matrix<int>&);
template void adam_variants(archetype::context&, power<euclidean>,
                            archetype::matrix<std::complex<double>>&,
                            archetype::matrix<std::complex<double>> const&,
                            archetype::matrix<int>&);
template void adam_variants(archetype::context&, power<stiefel>,
                            archetype::matrix<std::complex<double>>&,
                            archetype::matrix<std::complex<double>> const&,
                            archetype::matrix<int>&);

}  // namespace stiefelx
