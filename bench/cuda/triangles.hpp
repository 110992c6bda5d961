// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/cholesky.hpp>
#include <stiefelx/team/team.hpp>

#include "bench/cuda/matrices.hpp"

/// \file
/// \brief Triangular factors of many matrices: a body, matrices for it, and looks at results.

namespace bench {

/// Team text: the upper Cholesky factor of one n x n matrix of many, in place.
struct cholesky_of_each {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes
  /// \param[in]     item  which matrix
  /// \param[in,out] g     n x (n b)
  /// \param[out]    bits  1 x b, status of each
  template <stiefelx::Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double*, stiefelx::matrix_ref<S> g,
                              stiefelx::matrix_ref<int> bits) const {
    int const found = stiefelx::small_cholesky(team, g.middle_columns(item * g.rows, g.rows));
    if (team.rank() == 0) bits(0, item) = found;
  }
};

/// \brief Positive matrices side by side, the same ones in every run: n I plus symmetric entries.
/// \param[in] ctx    where
/// \param[in] count  b
/// \param[in] n      order of each
/// \returns n x (n b)
inline stiefelx::cuda::matrix<float> positive(stiefelx::cuda::context& ctx, index_t count,
                                              index_t n) {
  std::vector<float> entries(static_cast<std::size_t>(n * n * count));
  for (index_t m = 0; m < count; ++m)
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i) {
        // Between -1/2 and 1/2, from i + j and i j alone, so each matrix is symmetric.
        index_t const mixed = (m * 7919 + (i + j) * 104729 + i * j * 1299709) % 1009;
        entries[static_cast<std::size_t>((m * n + j) * n + i)] =
            static_cast<float>(mixed) / 1009.0f - 0.5f + (i == j ? static_cast<float>(n) : 0.0f);
      }
  stiefelx::cuda::matrix<float> made(n, n * count);
  upload(ctx, entries.data(), made);
  return made;
}

namespace detail {

// ||L R - A|| against ||A|| for some matrices of a stack, where product(l, r, i, j, m) is an entry.
template <class A, class Entry>
std::string stack_fault(stiefelx::cuda::context& ctx, A const& a, index_t cols,
                        Entry const& entry) {
  index_t const matrices = a.cols() / cols, step = matrices > 16 ? matrices / 16 : 1;
  std::vector<double> found, expected;
  for (index_t m = 0; m < matrices; m += step) {
    auto const given = on_host(ctx, a.middleCols(m * cols, cols));
    expected.insert(expected.end(), given.begin(), given.end());
    entry(m, found);
  }
  double const limit =
      1e3 * static_cast<double>(std::numeric_limits<stiefelx::scalar_t<A>>::epsilon());
  return difference_fault("the product of the factors", found, expected, limit);
}

}  // namespace detail

/// \brief Looks whether Q R = A with R upper triangular, for some matrices of a stack.
/// \returns empty if so, else what was found
template <class A, class Q, class R>
std::string factors_fault(stiefelx::cuda::context& ctx, A const& a, Q const& q, R const& r,
                          index_t p) {
  index_t const n = a.rows();
  return detail::stack_fault(ctx, a, p, [&](index_t m, std::vector<double>& found) {
    auto const left = on_host(ctx, q.middleCols(m * p, p));
    auto const right = on_host(ctx, r.middleCols(m * p, p));
    for (index_t j = 0; j < p; ++j)
      for (index_t i = 0; i < n; ++i) {
        double sum = 0;
        for (index_t k = 0; k <= j; ++k)
          sum += static_cast<double>(left[static_cast<std::size_t>(i + k * n)]) *
                 static_cast<double>(right[static_cast<std::size_t>(k + j * p)]);
        found.push_back(sum);
      }
  });
}

/// \brief Looks whether R^T R = G with R the upper triangle, for some matrices of a stack.
/// \returns empty if so, else what was found
template <class G, class R>
std::string cholesky_fault(stiefelx::cuda::context& ctx, G const& g, R const& r, index_t n) {
  return detail::stack_fault(ctx, g, n, [&](index_t m, std::vector<double>& found) {
    auto const factor = on_host(ctx, r.middleCols(m * n, n));
    auto const at = [&](index_t i, index_t j) {
      return static_cast<double>(factor[static_cast<std::size_t>(i + j * n)]);
    };
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i) {
        double sum = 0;
        for (index_t k = 0; k <= i && k <= j; ++k) sum += at(k, i) * at(k, j);
        found.push_back(sum);
      }
  });
}

}  // namespace bench
