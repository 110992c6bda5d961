// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/orth/stack_arguments.hpp>
#include <stiefelx/team/small_inverse_sqrt.hpp>

namespace stiefelx {

/// \brief Inverse square root of a positive definite matrix by the coupled Newton-Schulz iteration.
/// \ingroup orth
///
/// With \f$ Y_0 = g/c,\ Z_0 = I \f$ and \f$ T = (3 I - Z Y)/2 \f$, \f$ Y \leftarrow Y T,\ Z
/// \leftarrow T Z \f$ converge to the square root and its inverse \cite higham2008, section 6.7.
/// c centres the spectrum, so every eigenvalue of g/c lies in (0, 2]. An eigenvalue \f$ \sigma^2
/// \f$ has its error squared once \f$ \sigma \f$ is near one, and grows by half before: double
/// precision takes about \f$ 5 + \log_{1.5}(1/\sigma) \f$ iterations. Products only, so it runs
/// anywhere.
///
/// For \f$ g = a^H a \f$ and the condition number \f$ \kappa \f$ of a, the columns of a z lose
/// orthogonality as \f$ O(\kappa^2 \epsilon) \f$: polar() does without the Gram matrix. With a
/// status, z g z is compared with I, and `not_converged` set when they differ by more than \f$ p
/// \sqrt\epsilon \f$: for too few iterations, a singular or indefinite g, or a condition number
/// beyond \f$ \epsilon^{-1/2} \f$. A NaN or an infinity sets `not_finite` also.
///
/// \param[in]     ctx         where to run; nothing waits
/// \param[in]     g           p x p, Hermitian, positive definite
/// \param[in]     smallest    lower bound of g's eigenvalues, or 0
/// \param[in]     iterations  how many, at least 1
/// \param[out]    z           p x p; must not overlap g
/// \param[in,out] status      1 x 1 int, or no_status{}
/// \throws shape_error   if g is not square or z has another shape
/// \throws option_error  if iterations is below 1
/// \throws alias_error   if z overlaps g
/// \par Cost
/// 6 p^3 flops an iteration, and 4 p^3 for a status; three p x p scratch matrices.
template <class Ctx, Matrix G, class Z, class Status = no_status>
  requires OutputMatrix<Z> && SameScalar<G, Z>
void inverse_sqrt(Ctx& ctx, G const& g, double smallest, int iterations, Z&& z,
                  Status&& status = {}) {
  expect_shape("inverse_sqrt", "g", g, g.cols(), g.cols());
  expect_shape("inverse_sqrt", "z", z, g.cols(), g.cols());
  expect_option(iterations >= 1, "inverse_sqrt", "iterations", iterations,
                "a number of at least 1");
  expect_distinct(ctx, "inverse_sqrt", "z", z, "g", g);
  auto scaling = scratch<double>(ctx, 1, 2);
  auto y = clone(ctx, g);
  run_batch(ctx, 1, newton_schulz_scaling_body{smallest}, y, scaling);
  scale(ctx, scaling.middleCols(0, 1), y);
  set_identity(ctx, z);
  auto t = clone(ctx, y);
  auto next = clone(ctx, y);
  for (int k = 0; k < iterations; ++k) {
    set_identity(ctx, t);
    scale(ctx, 1.5, t);
    multiply_add(ctx, -0.5, z, y, t);
    multiply(ctx, y, t, next);
    copy(ctx, next, y);
    multiply(ctx, t, z, next);
    copy(ctx, next, z);
  }
  scale(ctx, scaling.middleCols(1, 1), z);
  symmetrize(ctx, z);
  if constexpr (!std::is_same_v<std::remove_cvref_t<Status>, no_status>) {
    auto bits = clear_status(ctx, 1);
    multiply(ctx, z, g, t);
    multiply(ctx, t, z, next);
    run_batch(ctx, 1, small_identity_body{}, next, bits);
    raise(ctx, status, bits);
  }
}

/// \brief Inverse square root of every matrix of a stack.
/// \ingroup orth
///
/// Matrix k of the stack is columns k p, ..., k p + p - 1; each is treated, and gets its status, as
/// by the function of one matrix.
///
/// \param[in]     ctx         where to run, one team a matrix; nothing waits
/// \param[in]     s           how many matrices
/// \param[in]     g           p x (p count), each Hermitian, positive definite
/// \param[in]     smallest    lower bound of all their eigenvalues, or 0
/// \param[in]     iterations  how many, at least 1
/// \param[out]    z           p x (p count); must not overlap g
/// \param[in,out] status      1 x count int, or no_status{}
/// \throws shape_error   if g's matrices are not square, or z or status has another shape
/// \throws option_error  if iterations is below 1
/// \throws alias_error   if z overlaps g
/// \par Cost
/// 6 p^3 flops an iteration and matrix, 6 p^2 + 2 doubles of scratch a team.
template <class Ctx, Matrix G, class Z, class Status = no_status>
  requires OutputMatrix<Z> && SameScalar<G, Z>
void inverse_sqrt(Ctx& ctx, stack s, G const& g, double smallest, int iterations, Z&& z,
                  Status&& status = {}) {
  index_t const p = columns_of_each("inverse_sqrt", "g", s, g);
  expect_shape("inverse_sqrt", "g", g, p, g.cols());
  expect_shape("inverse_sqrt", "z", z, p, g.cols());
  detail::expect_statuses("inverse_sqrt", s, status);
  expect_option(iterations >= 1, "inverse_sqrt", "iterations", iterations,
                "a number of at least 1");
  expect_distinct(ctx, "inverse_sqrt", "z", z, "g", g);
  auto const& input = dense(ctx, g);
  auto bits = clear_status(ctx, s.count);
  run_batch(ctx, s.count, small_inverse_sqrt_body{p, smallest, iterations}, input, z, bits);
  detail::raise_each(ctx, s, status, bits);
}

}  // namespace stiefelx
