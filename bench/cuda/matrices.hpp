// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <stiefelx/core/random.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

#include "bench/support/cases.hpp"

/// \file
/// \brief Matrices of the device benchmarks, and looks at results by plain loops in double on the host.

namespace bench {

using stiefelx::index_t;

/// \brief Entries of a normal distribution, the same ones in every run.
/// \param[in] ctx        where
/// \param[in] rows       rows
/// \param[in] cols       columns
/// \param[in] deviation  standard deviation
/// \param[in] seed       tells matrices apart
template <class S>
stiefelx::cuda::matrix<S> normal(stiefelx::cuda::context& ctx, index_t rows, index_t cols,
                                 double deviation, std::uint64_t seed) {
  stiefelx::cuda::matrix<S> made(rows, cols);
  stiefelx::random_stream stream{seed, 0};
  fill_normal(ctx, stream, deviation, made);
  return made;
}

/// The entries of a matrix of the device, column by column.
template <class A>
std::vector<stiefelx::scalar_t<A>> on_host(stiefelx::cuda::context& ctx, A const& a) {
  std::vector<stiefelx::scalar_t<A>> entries(static_cast<std::size_t>(a.rows() * a.cols()));
  download(ctx, a, entries.data());
  return entries;
}

namespace detail {

inline std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", x);
  return text;
}

}  // namespace detail

/// \brief Looks whether two columns are orthonormal to rounding: for `pairs` columns of each matrix of
/// a stack and all columns of it, |q_i^T q_j - [i = j]| <= 100 sqrt(n) eps, in double on the host.
/// \param[in] ctx    where q is
/// \param[in] q      n x (p b)
/// \param[in] p      columns of a matrix
/// \param[in] pairs  how many of its columns are compared with all
/// \returns empty if so, else what was found
template <class A>
std::string orthonormality_fault(stiefelx::cuda::context& ctx, A const& q, index_t p,
                                 index_t pairs = 3) {
  using S = stiefelx::scalar_t<A>;
  index_t const n = q.rows(), matrices = q.cols() / p;
  // 100 sqrt(n) eps: rounding errors of mean zero grow with the root of the length of a sum.
  double const limit = 100 * std::sqrt(static_cast<double>(n)) *
                       static_cast<double>(std::numeric_limits<S>::epsilon());
  // The first, the last and some between: every matrix of a large stack takes too long.
  index_t const step = matrices > 64 ? matrices / 64 : 1;
  for (index_t m = 0; m < matrices; m += step) {
    std::vector<S> const entries = on_host(ctx, q.middleCols(m * p, p));
    for (index_t c = 0; c < pairs; ++c) {
      index_t const i = c * (p - 1) / (pairs > 1 ? pairs - 1 : 1);
      for (index_t j = 0; j < p; ++j) {
        double sum = i == j ? -1 : 0;
        for (index_t row = 0; row < n; ++row)
          sum += static_cast<double>(entries[static_cast<std::size_t>(row + i * n)]) *
                 static_cast<double>(entries[static_cast<std::size_t>(row + j * n)]);
        // Written so that NaN fails.
        if (!(std::abs(sum) <= limit))
          return "columns " + std::to_string(i) + " and " + std::to_string(j) + " of matrix " +
                 std::to_string(m) + " are orthonormal to " + detail::number(sum) +
                 " only, expected " + detail::number(limit);
      }
    }
  }
  return "";
}

/// \brief Looks whether entries agree, ||found - expected|| <= limit ||expected||.
/// \returns empty if so, else what was found
inline std::string difference_fault(std::string const& what, std::vector<double> const& found,
                                    std::vector<double> const& expected, double limit) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  double const relative = std::sqrt(difference / size);
  if (relative <= limit) return "";
  return what + " differs from plain loops by " + detail::number(relative) + ", expected " +
         detail::number(limit);
}

/// \brief Looks whether every entry is finite and one is not zero.
/// \returns empty if so, else what was found
template <class A>
std::string finiteness_fault(stiefelx::cuda::context& ctx, std::string const& what, A const& a) {
  double sum = 0;
  for (auto const entry : on_host(ctx, a)) sum += std::abs(static_cast<double>(entry));
  if (std::isfinite(sum) && sum > 0) return "";
  return what + " is not finite, or zero";
}

/// "n=4096,p=64"
inline std::string shape_text(tall shape) {
  return "n=" + std::to_string(shape.n) + ",p=" + std::to_string(shape.p);
}

/// "b=10000,n=16,p=8"
inline std::string shape_text(index_t count, tall each) {
  return "b=" + std::to_string(count) + "," + shape_text(each);
}

}  // namespace bench
