// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include <Eigen/Core>

#include <stiefelx/core/status.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/simd/cholesky.hpp>
#include <stiefelx/simd/gram.hpp>
#include <stiefelx/simd/triangular_solve.hpp>

/// \file
/// \brief Gram matrices, Cholesky and LU factors and triangular solves of the host.
/// \ingroup host

namespace stiefelx::host {

namespace detail {

// From here on the kernels of simd/ are faster than products: measured crossover, all p.
template <class Y>
bool is_for_simd(Y const& y) {
  return y.rows() >= 64 && y.cols() >= 4;
}

template <class Y>
inline constexpr bool may_use_simd =
    std::is_floating_point_v<scalar_t<Y>> && is_plain<Y> && !is_fixed<plain_t<Y, scalar_t<Y>>>;

// Rows a task of a triangular solve takes: fixed, so results do not depend on the threads.
inline constexpr index_t solve_rows = 2048;

// Below this order a plain loop is as fast, and the same for fixed and dynamic sizes. Beyond the
// other one the factor leaves the second-level cache, and blocks of products are faster.
inline constexpr index_t smallest_simd_factor = 12;
inline constexpr index_t largest_simd_factor = 1024;

// Blocks of this order stay in the first-level cache; the work outside them is products.
inline constexpr index_t factor_block = 48;

// Upper Cholesky factor of a diagonal block; a pivot that is not positive becomes a tiny positive
// number so that the factor can be formed to its end. Returns status bits.
template <class G>
int cholesky_block(G&& g) {
  using Real = real_t<G>;
  int bits = 0;
  for (index_t j = 0; j < g.cols(); ++j) {
    Real const diagonal = Eigen::numext::real(g(j, j));
    for (index_t i = 0; i < j; ++i)
      g(i, j) = (g(i, j) - g.col(i).head(i).dot(g.col(j).head(i))) / Eigen::numext::real(g(i, i));
    Real pivot = diagonal - g.col(j).head(j).squaredNorm();
    if (std::isnan(pivot)) bits |= not_finite;
    // Left of rounding the pivot is a difference of numbers of the size of the diagonal entry.
    if (pivot <= std::numeric_limits<Real>::min()) {
      bits |= rank_deficient;
      pivot = std::max(std::numeric_limits<Real>::epsilon() * diagonal,
                       std::numeric_limits<Real>::min());
    }
    g(j, j) = std::sqrt(pivot);
  }
  return bits;
}

// What the head of a column says as the pivot of an LU factor. A comparison may have passed a NaN
// over, but never a number that is not zero.
template <class Column>
int pivot_bits(Column const& column) {
  using S = typename Column::Scalar;
  S const pivot = column(0);
  if (!Eigen::numext::isfinite(pivot)) return not_finite;
  if (pivot != S(0)) return 0;
  return (column.array() == S(0)).all() ? rank_deficient : not_finite;
}

// y = y r^-1 by substitution, for a triangle of one block.
template <class R, class Y>
void solve_right_block(R const& r, Y&& y) {
  for (index_t j = 0; j < r.cols(); ++j) {
    for (index_t i = 0; i < j; ++i) y.col(j) -= y.col(i) * r(i, j);
    y.col(j) /= r(j, j);
  }
}

// b = r^-H b by substitution, for a triangle of one block.
template <class R, class B>
void solve_left_adjoint_block(R const& r, B&& b) {
  for (index_t c = 0; c < b.cols(); ++c)
    for (index_t j = 0; j < r.cols(); ++j)
      b(j, c) = (b(j, c) - r.col(j).head(j).dot(b.col(c).head(j))) / Eigen::numext::conj(r(j, j));
}

// f(g) with a plain view of a dynamic g, so that what is long is compiled once for every owner of such
// memory; with g itself where its size is static or its memory is not plain.
template <class F, class... G>
decltype(auto) with_plain_views(F const& f, G&... g) {
  if constexpr (((is_plain<G> && !is_fixed<plain_t<G, scalar_t<G>>>) && ...))
    return f(view_of(g)...);
  else
    return f(g...);
}

// cholesky() by blocks. Returns status bits.
template <class G>
int cholesky_by_blocks(context& ctx, G& g) {
  int bits = 0;
  index_t const n = g.cols();
  for (index_t k = 0; k < n; k += factor_block) {
    index_t const b = std::min(factor_block, n - k), rest = n - k - b;
    auto diagonal = g.block(k, k, b, b);
    bits |= cholesky_block(diagonal);
    if (rest == 0) continue;
    auto panel = g.block(k, k + b, b, rest);
    solve_left_adjoint_block(diagonal, panel);
    auto trailing = g.block(k + b, k + b, rest, rest);
    multiply_add(ctx, -1, panel.adjoint(), panel, trailing);
  }
  for (index_t j = 0; j < n; ++j) g.col(j).tail(n - 1 - j).setZero();
  return bits;
}

// solve_right() by blocks.
template <class R, class Y>
void solve_right_by_blocks(context& ctx, R& r, Y& y) {
  index_t const n = r.cols();
  for (index_t k = 0; k < n; k += factor_block) {
    index_t const b = std::min(factor_block, n - k);
    auto now = y.middleCols(k, b);
    if (k > 0) multiply_add(ctx, -1, y.middleCols(0, k), r.block(0, k, k, b), now);
    solve_right_block(r.block(k, k, b, b), now);
  }
}

// solve() by blocks. Returns status bits.
template <class A, class B>
int solve_by_blocks(context& ctx, A& a, B& b) {
  int bits = 0;
  index_t const n = a.cols();
  for (index_t k = 0; k < n; k += factor_block) {
    index_t const w = std::min(factor_block, n - k), rest = n - k - w;
    for (index_t j = k; j < k + w; ++j) {
      index_t pivot = 0;
      a.col(j).tail(n - j).cwiseAbs().maxCoeff(&pivot);
      if (pivot != 0) {
        a.row(j).swap(a.row(j + pivot));
        b.row(j).swap(b.row(j + pivot));
      }
      // Behind such a pivot nothing is finite, so later ones tell nothing.
      if (bits == 0) bits = pivot_bits(a.col(j).tail(n - j));
      a.col(j).tail(n - j - 1) /= a(j, j);
      for (index_t c = j + 1; c < k + w; ++c)
        a.col(c).tail(n - j - 1) -= a.col(j).tail(n - j - 1) * a(j, c);
    }
    auto const substitute = [&](auto&& part) {
      for (index_t c = 0; c < part.cols(); ++c)
        for (index_t j = k; j < k + w; ++j)
          part.col(c).segment(j + 1, k + w - 1 - j) -=
              a.col(j).segment(j + 1, k + w - 1 - j) * part(j, c);
    };
    substitute(b);
    if (rest == 0) continue;
    auto trailing = a.middleCols(k + w, rest);
    substitute(trailing);
    auto const lower = a.block(k + w, k, rest, w);
    auto lower_b = b.middleRows(k + w, rest);
    auto lower_a = trailing.middleRows(k + w, rest);
    multiply_add(ctx, -1, lower, b.middleRows(k, w), lower_b);
    multiply_add(ctx, -1, lower, trailing.middleRows(k, w), lower_a);
  }
  for (index_t c = 0; c < b.cols(); ++c)
    for (index_t j = n - 1; j >= 0; --j) {
      b(j, c) /= a(j, j);
      b.col(c).head(j) -= a.col(j).head(j) * b(j, c);
    }
  return bits;
}

}  // namespace detail

/// \brief A scratch Gram matrix y^H y, Hermitian to the bit.
/// \ingroup host
/// \param[in] ctx  threads and arena
/// \param[in] y    n x p, any expression
/// \returns p x p, on the stack when p is static
template <EigenMatrix Y>
auto gram(context& ctx, Y const& y) {
  if constexpr (detail::may_use_simd<Y>) {
    if (detail::is_for_simd(y)) {
      using S = scalar_t<Y>;
      index_t const n = y.rows(), p = y.cols();
      using Plain = Eigen::Matrix<S, detail::expression_t<Y>::ColsAtCompileTime,
                                  detail::expression_t<Y>::ColsAtCompileTime>;
      auto g = detail::make<Plain>(ctx, p, p);
      auto room = scratch<S>(ctx, simd::gram_workspace<S>(n, p), 1);
      simd::gram(n, p, y.data(), y.outerStride(), g.data(), g.outerStride(), room.data());
      return g;
    }
  }
  auto g = product(ctx, y.adjoint(), y);
  symmetrize(ctx, g);
  return g;
}

/// \brief g = r, the upper triangular factor of g = r^H r with a positive diagonal.
/// \ingroup host
///
/// The strict lower part becomes zero. A pivot that is not positive sets `rank_deficient`, a NaN
/// `not_finite`; the factor is then of no use.
/// \param[in]     ctx     threads and arena
/// \param[in,out] g       Hermitian; only the upper triangle is read
/// \param[in,out] status  1 x 1 int, or no_status{}
template <EigenOutput G, class Status>
void cholesky(context& ctx, G&& g, Status&& status) {
  int bits = 0;
  index_t const n = g.cols();
  if constexpr (detail::may_use_simd<G>) {
    if (n >= detail::smallest_simd_factor && n <= detail::largest_simd_factor) {
      using S = scalar_t<G>;
      auto room = scratch<S>(ctx, simd::cholesky_workspace<S>(n), 1);
      bits = simd::cholesky(n, g.data(), g.outerStride(), room.data());
      if (bits != 0) raise(ctx, status, bits);
      return;
    }
  }
  bits = detail::with_plain_views([&](auto&& m) { return detail::cholesky_by_blocks(ctx, m); }, g);
  if (bits != 0) raise(ctx, status, bits);
}

/// \brief y = y r^-1.
/// \ingroup host
/// \param[in]     ctx  threads and arena
/// \param[in]     r    p x p, upper triangular with a nonzero diagonal; below it nothing is read
/// \param[in,out] y    n x p; must not overlap r
template <EigenMatrix R, EigenOutput Y>
void solve_right(context& ctx, R const& r, Y&& y) {
  if constexpr (detail::may_use_simd<Y> && detail::is_plain<R>) {
    if (detail::is_for_simd(y)) {
      using S = scalar_t<Y>;
      index_t const rows = y.rows(), p = y.cols(), room = simd::solve_right_workspace<S>(p);
      index_t const tasks = (rows + detail::solve_rows - 1) / detail::solve_rows;
      auto memory = scratch<S>(ctx, room, std::min<index_t>(tasks, ctx.workers.size()));
      ctx.workers.for_each_index(tasks, [&](index_t task, int worker) {
        index_t const first = task * detail::solve_rows;
        simd::solve_right(std::min(detail::solve_rows, rows - first), p, r.data(), r.outerStride(),
                          y.data() + first, y.outerStride(), memory.data() + worker * room);
      });
      return;
    }
  }
  detail::with_plain_views(
      [&](auto&& triangle, auto&& rows) { detail::solve_right_by_blocks(ctx, triangle, rows); }, r,
      y);
}

/// \brief b = a^-1 b by LU with partial pivoting.
/// \ingroup host
///
/// A zero pivot column sets `rank_deficient`, one with a NaN or an infinity `not_finite`; the first of
/// them tells, and leaves b with infinities or NaN. What b holds sets nothing.
/// \param[in]     ctx     threads and arena
/// \param[in,out] a       n x n; overwritten by its factors, rows in pivot order
/// \param[in,out] b       n x m; must not overlap a
/// \param[in,out] status  1 x 1 int, or no_status{}
template <EigenOutput A, EigenOutput B, class Status>
void solve(context& ctx, A&& a, B&& b, Status&& status) {
  int const bits = detail::with_plain_views(
      [&](auto&& m, auto&& y) { return detail::solve_by_blocks(ctx, m, y); }, a, b);
  if (bits != 0) raise(ctx, status, bits);
}

}  // namespace stiefelx::host
