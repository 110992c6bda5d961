// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/status.hpp>

#include "arguments.hpp"
#include "elementwise.hpp"
#include "matrix.hpp"

namespace archetype {

namespace detail {

/// What a failed factorization leaves: nothing that a caller could use.
template <class B>
void spoil(B& b) {
  for (index_t j = 0; j < b.cols(); ++j)
    for (index_t i = 0; i < b.rows(); ++i) access::at(b, i, j) = unwritten<scalar_t<B>>();
}

/// Magnitude that orders pivots; within a factor of the square root of 2 of the modulus.
template <class S>
[[nodiscard]] real_of_t<S> magnitude(S const& s) {
  if constexpr (is_complex<S>) {
    return std::abs(s.real()) + std::abs(s.imag());
  } else {
    return std::abs(s);
  }
}

template <class B>
void swap_rows(B& b, index_t first, index_t second) {
  if (first == second) return;
  for (index_t j = 0; j < b.cols(); ++j)
    std::swap(access::at(b, first, j), access::at(b, second, j));
}

/// Row `target` of b minus factor times row `source`, from column `first` on.
template <class B>
void subtract_row(B& b, index_t target, scalar_t<B> factor, index_t source, index_t first) {
  for (index_t j = first; j < b.cols(); ++j)
    access::at(b, target, j) -= factor * access::get(b, source, j);
}

}  // namespace detail

/// \brief g = its upper Cholesky factor r with g = r^H r, zero below the diagonal.
///
/// Reads the upper triangle alone. A pivot that is not positive sets rank_deficient, a NaN sets
/// not_finite; g then holds NaN.
template <class G, class Status>
  requires Output<G>
void cholesky(context& ctx, G&& g, Status&& status) {
  using S = scalar_t<G>;
  expect_size("cholesky", g, g.cols(), g.cols());
  for (index_t j = 0; j < g.cols(); ++j) {
    for (index_t i = 0; i <= j; ++i) {
      wide_t<S> rest = wide(g, i, j);
      for (index_t k = 0; k < i; ++k) rest -= conjugate(wide(g, k, i)) * wide(g, k, j);
      if (i < j) {
        access::at(g, i, j) = converted<S>(rest / real_part(wide(g, i, i)));
        continue;
      }
      auto const pivot = real_part(rest);
      if (std::isnan(pivot) || pivot <= 0) {
        raise(ctx, status, pivot <= 0 ? stiefelx::rank_deficient : stiefelx::not_finite);
        detail::spoil(g);
        return;
      }
      access::at(g, j, j) = S(static_cast<real_of_t<S>>(std::sqrt(pivot)));
    }
    for (index_t i = j + 1; i < g.rows(); ++i) access::at(g, i, j) = S(0);
  }
}

/// y = y r^-1 for upper triangular r; entries of r below the diagonal are not read.
template <Input R, class Y>
  requires Output<Y> && Alike<R, Y>
void solve_right(context&, R const& r, Y&& y) {
  using S = scalar_t<Y>;
  expect_size("solve_right", r, y.cols(), y.cols());
  expect_apart("solve_right", r, y);
  for (index_t i = 0; i < y.rows(); ++i) {
    for (index_t j = 0; j < y.cols(); ++j) {
      wide_t<S> rest = wide(y, i, j);
      for (index_t k = 0; k < j; ++k) rest -= wide(y, i, k) * wide(r, k, j);
      access::at(y, i, j) = converted<S>(rest / wide(r, j, j));
    }
  }
}

/// \brief b = a^-1 b by Gaussian elimination with partial pivoting; a is overwritten.
///
/// A pivot column of zeros sets rank_deficient, one with a NaN or an infinity not_finite; b then holds NaN.
template <class A, class B, class Status>
  requires Output<A> && Output<B> && Alike<A, B>
void solve(context& ctx, A&& a, B&& b, Status&& status) {
  using S = scalar_t<A>;
  index_t const n = a.rows();
  expect_size("solve", a, n, n);
  expect_size("solve", b, n, b.cols());
  expect_apart("solve", a, b);
  for (index_t k = 0; k < n; ++k) {
    index_t best = k;
    for (index_t i = k + 1; i < n; ++i) {
      auto const size = detail::magnitude(access::get(a, i, k));
      if (size > detail::magnitude(access::get(a, best, k)) || std::isnan(size)) best = i;
    }
    S const pivot = access::get(a, best, k);
    bool const finite = std::isfinite(detail::magnitude(pivot));
    if (pivot == S(0) || !finite) {
      raise(ctx, status, finite ? stiefelx::rank_deficient : stiefelx::not_finite);
      detail::spoil(a);
      detail::spoil(b);
      return;
    }
    detail::swap_rows(a, k, best);
    detail::swap_rows(b, k, best);
    for (index_t i = k + 1; i < n; ++i) {
      S const factor = access::get(a, i, k) / pivot;
      detail::subtract_row(a, i, factor, k, k);
      detail::subtract_row(b, i, factor, k, 0);
    }
  }
  for (index_t k = n; k-- > 0;) {
    S const pivot = access::get(a, k, k);
    for (index_t j = 0; j < b.cols(); ++j) access::at(b, k, j) /= pivot;
    for (index_t i = 0; i < k; ++i) detail::subtract_row(b, i, access::get(a, i, k), k, 0);
  }
  detail::spoil(a);
}

}  // namespace archetype
