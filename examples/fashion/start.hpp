// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/orth/householder_qr.hpp>

/// \file
/// \brief Where parameters start.
///
/// Random numbers are drawn on the host and uploaded, so that a network has the same bits at the start
/// wherever it lives: the device has logarithms and cosines of its own.

namespace example {

namespace detail {

using random_words = std::array<std::uint32_t, 4>;

struct uniform_draw {
  double bound;
  double operator()(random_words const& w) const {
    return -bound + 2 * bound * stiefelx::uniform_open(w[0], w[1]);
  }
};

struct normal_draw {
  double deviation;
  double operator()(random_words const& w) const {
    double const radius = deviation * std::sqrt(-2 * std::log(stiefelx::uniform_open(w[0], w[1])));
    return radius * std::cos(2 * std::numbers::pi * stiefelx::uniform_open(w[2], w[3]));
  }
};

template <class S, class Ctx, class Draw>
auto drawn(Ctx& ctx, stiefelx::random_stream& random, stiefelx::index_t rows,
           stiefelx::index_t cols, Draw draw) {
  std::vector<S> numbers(static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = static_cast<S>(draw(stiefelx::philox(random.seed, random.offset, i)));
  ++random.offset;
  auto made = zeros<S>(ctx, rows, cols);
  upload(ctx, numbers.data(), made);
  return made;
}

}  // namespace detail

/// \brief The numbers of fill_uniform(), from -bound to bound.
/// \param[in]     ctx     where the matrix is to live
/// \param[in,out] random  advanced by one draw
/// \param[in]     bound   above 0
/// \param[in]     rows    rows
/// \param[in]     cols    columns
/// \returns an owning matrix
template <class S, class Ctx>
auto uniform_start(Ctx& ctx, stiefelx::random_stream& random, double bound, stiefelx::index_t rows,
                   stiefelx::index_t cols) {
  return detail::drawn<S>(ctx, random, rows, cols, detail::uniform_draw{bound});
}

/// \brief The numbers of fill_normal().
/// \param[in]     ctx        where the matrix is to live
/// \param[in,out] random     advanced by one draw
/// \param[in]     deviation  at least 0
/// \param[in]     rows       rows
/// \param[in]     cols       columns
/// \returns an owning matrix
template <class S, class Ctx>
auto normal_start(Ctx& ctx, stiefelx::random_stream& random, double deviation,
                  stiefelx::index_t rows, stiefelx::index_t cols) {
  return detail::drawn<S>(ctx, random, rows, cols, detail::normal_draw{deviation});
}

/// \brief The point of random_point() on a Stiefel manifold: Q of a normal matrix.
/// \param[in]     ctx     where the matrix is to live
/// \param[in,out] random  advanced by one draw
/// \param[in]     rows    at least cols
/// \param[in]     cols    columns, which become orthonormal
/// \returns an owning matrix
template <class S, class Ctx>
auto orthonormal_start(Ctx& ctx, stiefelx::random_stream& random, stiefelx::index_t rows,
                       stiefelx::index_t cols) {
  auto made = normal_start<S>(ctx, random, 1, rows, cols);
  auto r = scratch<S>(ctx, cols, cols);
  stiefelx::householder_qr(ctx, made, made, r);
  return made;
}

}  // namespace example
