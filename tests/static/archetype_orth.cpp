// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The orthogonalizations of stacks, their options and the singular values with the archetype
// backend; nvcc compiles this file as well, without Eigen.

#include <complex>

#include <stiefelx/core/stack.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/svd.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
void orthogonalizations(archetype::context& ctx, stack s, archetype::matrix<S> const& a,
                        archetype::matrix<S>& q, archetype::matrix<S>& r,
                        archetype::matrix<real_of_t<S>>& w, archetype::matrix<int>& status) {
  gram_schmidt(ctx, a, q, r, status, {.method = gram_schmidt_method::mgs});
  gram_schmidt(ctx, s, a, q, r);
  gram_schmidt(ctx, s, a.adjoint(), q, r, status, {.method = gram_schmidt_method::mgs});
  householder_qr(ctx, s, a, q, r);
  householder_qr(ctx, s, q, q, r.middleCols(0, r.cols()), status);
  cholesky_qr(ctx, s, a, q, r);
  cholesky_qr(ctx, s, a.adjoint(), q, r, status, {.method = cholesky_qr_method::two_passes});
  polar(ctx, a, q, status, {.method = polar_method::singular_values});
  polar(ctx, a, q, no_status{}, {.smallest = 0.5, .largest = 2});
  polar(ctx, s, a, q);
  polar(ctx, s, a.adjoint(), q, status, {.method = polar_method::newton_schulz});
  svd(ctx, a, q, w, r);
  svd(ctx, a.adjoint(), q, w, r, status);
  svd(ctx, s, a, q, w, r);
  svd(ctx, s, q, q, w.middleCols(0, w.cols()), r, status);
  inverse_sqrt(ctx, a, 0, 10, r, status);
  inverse_sqrt(ctx, s, a, 0, 10, r);
  inverse_sqrt(ctx, s, a.adjoint(), 0, 10, r, status);
}

#define STIEFELX_INSTANTIATE(S)                                                             \
  template void orthogonalizations(archetype::context&, stack, archetype::matrix<S> const&, \
                                   archetype::matrix<S>&, archetype::matrix<S>&,            \
                                   archetype::matrix<real_of_t<S>>&, archetype::matrix<int>&);
STIEFELX_INSTANTIATE(float)
STIEFELX_INSTANTIATE(double)
STIEFELX_INSTANTIATE(std::complex<float>)
STIEFELX_INSTANTIATE(std::complex<double>)
#undef STIEFELX_INSTANTIATE

}  // namespace stiefelx
