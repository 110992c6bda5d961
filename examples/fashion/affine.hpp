// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief What an affine layer needs beside products: team and element text of the example's own.

namespace example {

/// Team text: adds the bias to one token's column.
struct bias_body {
  /// \returns 0: no scratch
  stiefelx::index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes share the rows
  /// \param[in]     t     the token
  /// \param[in]     bias  d x 1
  /// \param[in,out] y     d x T
  template <stiefelx::Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t t, double*,
                              stiefelx::matrix_ref<S const> bias, stiefelx::matrix_ref<S> y) const {
    for (stiefelx::index_t i = team.rank(); i < y.rows; i += team.size()) y(i, t) += bias(i, 0);
  }
};

/// Team text: the gradient of a block of bias entries, over all tokens in order.
struct bias_gradient_body {
  static constexpr stiefelx::index_t block = 16;  ///< rows of an item

  /// \returns 0: no scratch
  stiefelx::index_t scratch_size() const { return 0; }

  /// \param[in]     team   lanes share the rows
  /// \param[in]     item   the block
  /// \param[in]     dy     d x T
  /// \param[in,out] dbias  d x 1, accumulates
  template <stiefelx::Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t item, double*,
                              stiefelx::matrix_ref<S const> dy,
                              stiefelx::matrix_ref<S> dbias) const {
    using stiefelx::index_t;
    index_t const first = item * block, tokens = dy.cols;
    bool const whole = first + block <= dy.rows;
    index_t const end = whole ? first + block : dy.rows;
    index_t t = tokens > 0 ? 1 : 0;
    for (index_t i = first + team.rank(); t > 0 && i < end; i += team.size())
      dbias(i, 0) += dy(i, 0);
    // Four tokens at a time, so that few additions wait for the one before. Each lane stays with its
    // rows, so no lane waits for another.
    for (; whole && t + 3 < tokens; t += 4)
      for (index_t i = first + team.rank(); i < end; i += team.size())
        dbias(i, 0) += (dy(i, t) + dy(i, t + 1)) + (dy(i, t + 2) + dy(i, t + 3));
    for (; t < tokens; ++t)
      for (index_t i = first + team.rank(); i < end; i += team.size()) dbias(i, 0) += dy(i, t);
  }
};

/// \brief Adds a bias to every column.
/// \param[in]     ctx   where to run; nothing waits
/// \param[in]     bias  d x 1
/// \param[in,out] y     d x T
template <class Ctx, class Bias, class Y>
void add_bias(Ctx& ctx, Bias const& bias, Y&& y) {
  run_batch(ctx, y.cols(), bias_body{}, bias, y);
}

/// \brief Adds the sums of dy's rows to the gradient of a bias.
/// \param[in]     ctx    where to run; nothing waits
/// \param[in]     dy     d x T
/// \param[in,out] dbias  d x 1
template <class Ctx, class DY, class DBias>
void add_bias_gradient(Ctx& ctx, DY const& dy, DBias&& dbias) {
  constexpr auto block = bias_gradient_body::block;
  run_batch(ctx, (dy.rows() + block - 1) / block, bias_gradient_body{}, dy, dbias);
}

/// Element text: a gradient on its way back through a function of each entry.
struct through_slope_element {
  /// \param[in,out] g      gradient
  /// \param[in]     slope  derivative of the function
  template <class S>
  STIEFELX_HD void operator()(S& g, S const& slope) const {
    g *= slope;
  }
};

}  // namespace example
