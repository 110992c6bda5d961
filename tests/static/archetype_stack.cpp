// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stacks of small points with the archetype backend; nvcc compiles this file as well, without Eigen.

#include <complex>

#include <stiefelx/manifold/stiefel_stack.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class M, class S>
void stack_functions(archetype::context& ctx, power<M> m, archetype::matrix<S>& x,
                     archetype::matrix<S> const& v, archetype::matrix<S>& w) {
  random_stream stream;
  random_point(ctx, m, stream, x);
  project(ctx, m, x, v, w);
  project(ctx, m, x, w, w);
  riemannian_gradient(ctx, m, x, v.middleRows(0, v.rows()), w);
  retract(ctx, m, x, v, w);
  retract(ctx, m, x, v, x);
  retract(ctx, m, x, v, w.middleCols(0, w.cols()), qr_retraction{});
  retract(ctx, m, x, v, w, polar_retraction{.iterations = 6});
  retract(ctx, m, x, v, w, cayley_retraction{});
}

template <class S>
void stacks(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& v,
            archetype::matrix<S>& w) {
  stack_functions(ctx, power<stiefel>{{8, 3}, 10}, x, v, w);
  stack_functions(ctx, power<fixed_stiefel<8, 3>>{{}, 10}, x, v, w);
  // A fixed manifold serves as one of sizes at run time.
  retract(ctx, fixed_stiefel<8, 3>{}, x, v, w);
}

template void stacks(archetype::context&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, archetype::matrix<float>&);
template void stacks(archetype::context&, archetype::matrix<std::complex<double>>&,
                     archetype::matrix<std::complex<double>> const&,
                     archetype::matrix<std::complex<double>>&);

}  // namespace stiefelx
