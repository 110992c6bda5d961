// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/stack.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: the lower triangle of a square matrix, mirrored up; the diagonal becomes real.
/// \ingroup orth
struct mirror_lower_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes
  /// \param[in]     j     the column
  /// \param[in,out] h     p x p; Hermitian after every column
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t j, double*, matrix_ref<S> h) const {
    for (index_t i = team.rank(); i < j; i += team.size()) h(i, j) = conjugate(h(j, i));
    if (team.rank() == 0) h(j, j) = S(real_part(h(j, j)));
  }
};

/// \brief Team text: whether a diagonal entry of a triangle says that its column depends on others.
/// \ingroup orth
struct dependent_column_body {
  index_t rows;  ///< n of the matrix behind the triangle

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes
  /// \param[in]  j       the column
  /// \param[in]  r       p x p, upper triangular
  /// \param[out] status  1 x p; `rank_deficient` where |r_jj| <= rank_tolerance() of r's column j
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t j, double*, matrix_ref<S const> r,
                              matrix_ref<int> status) const {
    double const whole = std::sqrt(column_squared_norm(team, r.column(j), j + 1));
    double const tolerance = static_cast<double>(rank_tolerance<S>(rows));
    if (team.rank() == 0)
      status(0, j) =
          static_cast<double>(modulus(r(j, j))) <= tolerance * whole ? rank_deficient : 0;
  }
};

namespace detail {

// The arguments of a reverse rule for every matrix of a stack; the columns of each.
template <class Ctx, class Q, class R, class DQ, class DR, class DA>
index_t expect_qr_vjp(Ctx& ctx, char const* function, stack s, Q const& q, R const& r, DQ const& dq,
                      DR const& dr, DA const& da) {
  index_t const p = columns_of_each(function, "da", s, da);
  index_t const k = std::min(da.rows(), p);
  expect_shape(function, "q", q, da.rows(), k * s.count);
  expect_shape(function, "r", r, k, p * s.count);
  expect_shape(function, "dq", dq, da.rows(), k * s.count);
  expect_shape(function, "dr", dr, k, p * s.count);
  expect_same_or_distinct(ctx, function, "da", da, "dq", dq);
  expect_distinct(ctx, function, "da", da, "q", q);
  expect_distinct(ctx, function, "da", da, "r", r);
  expect_distinct(ctx, function, "da", da, "dr", dr);
  return p;
}

// Raises not_finite unless every entry of a gradient is finite.
template <class Ctx, class A, class Status>
void raise_unless_finite(Ctx& ctx, A const& a, Status&& status) {
  auto finite = scratch<real_t<A>>(ctx, 1, 1);
  auto bits = scratch<int>(ctx, 1, 1);
  all_finite(ctx, a, finite);
  transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
  raise(ctx, status, bits);
}

}  // namespace detail

/// \brief Reverse rule of the QR factorization whose r has a positive diagonal.
/// \ingroup orth
///
/// For \f$ a = q\,r \f$ and cotangents \f$ \bar q, \bar r \f$ of q and r, the cotangent of a is \f[
/// \bar a = (\bar q + q\,h)\,r^{-H}, \qquad h = \mathrm{mirror}(r\,\bar r^H - \bar q^H q) , \f]
/// where mirror() keeps the lower triangle with the real part of the diagonal and puts its
/// conjugate above \cite walter2010. A cotangent c of a matrix y stands for the derivative \f$
/// \mathrm{Re\,tr}(c^H \delta y) \f$ of a real loss.
///
/// A wide matrix \f$ a = [a_1, a_2] \f$, \f$ a_1 \f$ n x n, has \f$ a_1 = q\,r_1 \f$ and \f$ r =
/// [r_1, q^H a_2] \f$: the QR factorization of its first n columns. With \f$ r_2 \f$ the part of r
/// beyond them, \f$ h = \mathrm{mirror}(r_1 \bar r_1^H - \bar r_2 r_2^H - \bar q^H q) \f$, \f$ \bar
/// a_1 \f$ as above with \f$ \bar q + q\,r_2 \bar r_2^H \f$ for \f$ \bar q \f$, and \f$ \bar a_2 =
/// q\,\bar r_2 \f$ \cite roberts2020. In all shapes, with k = min(n, p), q is n x k and r is k x p.
///
/// The rule divides by the diagonal of r. `rank_deficient` is set where \f$ |r_{jj}| \f$ is at most
/// rank_tolerance() (n times the unit roundoff) of the norm of r's column j: there QR has no
/// derivative, and da is of no use. `not_finite` is set when da has an entry that is not finite.
///
/// The rule is that of every method here: gram_schmidt(), householder_qr(), cholesky_qr(), and of
/// the QR retraction with a = x + v, whose cotangent is that of x and of v alike.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     q       n x k, orthonormal columns, from the factorization
/// \param[in]     r       k x p, upper triangular with a positive diagonal, from the factorization
/// \param[in]     dq      n x k, cotangent of q
/// \param[in]     dr      k x p, cotangent of r; what it has below the diagonal counts for nothing
/// \param[out]    da      n x p, cotangent of a; may be dq, must not overlap q, r or dr
/// \param[in,out] status  1 x 1 int, or no_status{}
/// \throws shape_error  if the shapes are not these
/// \throws alias_error  if da overlaps q, r or dr, or dq without being dq
/// \par Cost
/// 6 n k^2 + 4 n k (p - k) flops and p x p products; one n x k and two k x k scratch matrices.
template <class Ctx, Matrix Q, Matrix R, Matrix DQ, Matrix DR, class DA, class Status = no_status>
  requires OutputMatrix<DA> && SameScalar<Q, R, DQ, DR, DA>
void qr_vjp(Ctx& ctx, Q const& q, R const& r, DQ const& dq, DR const& dr, DA&& da,
            Status&& status = {}) {
  using S = scalar_t<Q>;
  (void)detail::expect_qr_vjp(ctx, "qr_vjp", stack{1}, q, r, dq, dr, da);
  index_t const n = q.rows(), k = q.cols(), rest = r.cols() - k;
  auto const& frame = dense(ctx, q);
  auto y = clone(ctx, dq);
  auto h = product(ctx, y.adjoint(), frame);
  auto square = scratch<S>(ctx, k, k);
  auto upper = scratch<S>(ctx, k, k);
  copy(ctx, r.middleCols(0, k), square);
  copy(ctx, dr.middleCols(0, k), upper);
  scale(ctx, -1, h);
  multiply_add(ctx, 1, square, upper.adjoint(), h);
  if (rest > 0) {
    auto const r2 = clone(ctx, r.middleCols(k, rest));
    auto const dr2 = clone(ctx, dr.middleCols(k, rest));
    multiply_add(ctx, -1, dr2, r2.adjoint(), h);
    auto const mixed = product(ctx, r2, dr2.adjoint());
    multiply_add(ctx, 1, frame, mixed, y);
    multiply(ctx, frame, dr2, da.middleCols(k, rest));
  }
  run_batch(ctx, k, mirror_lower_body{}, h);
  multiply_add(ctx, 1, frame, h, y);

  auto bits = clear_status(ctx, k);
  run_batch(ctx, k, dependent_column_body{n}, std::as_const(square), bits);
  set_identity(ctx, upper);
  solve_right(ctx, square, upper);
  multiply(ctx, y, upper.adjoint(), da.middleCols(0, k));
  raise(ctx, status, bits);
  detail::raise_unless_finite(ctx, da, status);
}

}  // namespace stiefelx
