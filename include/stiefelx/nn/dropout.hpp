// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Names a dropout mask: the same three numbers give the same mask everywhere.
/// \ingroup nn
///
/// Nothing of a mask is stored. Entry (i, t) is kept or dropped by a word of Philox at the position
/// (seed, offset, first_token + t, i), so the backward pass makes the mask again, on any number of
/// threads and on either side, and a batch may be cut into pieces without changing it.
struct dropout_mask {
  double rate = 0;                ///< probability of dropping an entry, in [0, 1)
  std::uint64_t seed = 0;         ///< names the stream
  std::uint64_t offset = 0;       ///< which mask of the stream; a checkpoint keeps it
  std::uint64_t first_token = 0;  ///< number of the first column
};

/// \brief Takes the next mask of a stream.
/// \ingroup nn
/// \param[in,out] stream  advanced by one draw
/// \param[in]     rate    probability of dropping an entry, in [0, 1)
/// \returns the mask's name
/// \throws option_error  if the rate is outside [0, 1)
inline dropout_mask next_dropout_mask(random_stream& stream, double rate) {
  expect_option(rate >= 0 && rate < 1, "next_dropout_mask", "rate", rate, "a number in [0, 1)");
  return {rate, stream.seed, stream.offset++, 0};
}

/// \brief Team text: one token's entries, dropped or divided by the probability of being kept.
/// \ingroup nn
struct dropout_body {
  dropout_mask mask;  ///< which

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes share the rows, four at a time
  /// \param[in]  t     the token
  /// \param[in]  x     d x T
  /// \param[out] y     d x T; may be x
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> x,
                              matrix_ref<S> y) const {
    apply(team, t, mask.seed, x, y);
  }

  /// \brief The same with the mask of the expert that the token's slot lists.
  /// \param[in]  team  lanes share the rows, four at a time
  /// \param[in]  t     the token
  /// \param[in]  ids   1 x T of int; below 0 for an empty slot
  /// \param[in]  x     d x T
  /// \param[out] y     d x T; may be x; zero for an empty slot
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<int const> ids,
                              matrix_ref<S const> x, matrix_ref<S> y) const {
    int const expert = ids(0, t);
    if (expert < 0) {
      for (index_t i = team.rank(); i < x.rows; i += team.size()) y(i, t) = S(0);
      return;
    }
    // Philox's own increment keeps the experts' keys apart.
    apply(team, t, mask.seed + (static_cast<std::uint64_t>(expert) + 1) * 0x9E3779B97F4A7C15U, x,
          y);
  }

 private:
  template <Team Lanes, class S>
  STIEFELX_HD void apply(Lanes const& team, index_t t, std::uint64_t key, matrix_ref<S const> x,
                         matrix_ref<S> y) const {
    S const factor = static_cast<S>(1 / (1 - mask.rate));
    // A word is uniform on 0 .. 2^32 - 1, so this many of its values mean dropped.
    auto const dropped = static_cast<std::uint64_t>(mask.rate * 0x1p32);
    std::uint64_t const token = mask.first_token + static_cast<std::uint64_t>(t);
    for (index_t first = 4 * team.rank(); first < x.rows; first += 4 * team.size()) {
      auto const words =
          philox(key, mask.offset, (token << 32) | static_cast<std::uint64_t>(first / 4));
      index_t const count = x.rows - first < 4 ? x.rows - first : 4;
      for (index_t i = 0; i < count; ++i)
        y(first + i, t) =
            words[static_cast<std::size_t>(i)] < dropped ? S(0) : factor * x(first + i, t);
    }
  }
};

namespace detail {

template <class Ctx, class X, class Y>
void expect_dropout(Ctx& ctx, char const* function, dropout_mask const& mask, X const& x,
                    Y const& y) {
  expect_option(mask.rate >= 0 && mask.rate < 1, function, "rate", mask.rate, "a number in [0, 1)");
  expect_shape(function, "y", y, x.rows(), x.cols());
  expect_same_or_distinct(ctx, function, "y", y, "x", x);
}

}  // namespace detail

/// \brief Drops entries at random and divides the others by the probability of being kept.
/// \ingroup nn
///
/// \f$ y = m \circ x / (1 - p) \f$ with \f$ m_{it} = 0 \f$ at rate p. The map is linear and diagonal, so
/// the same call with the same mask takes the gradient of y to that of x. With rate 0 y is x.
///
/// \param[in]  ctx   where to run; nothing waits
/// \param[in]  mask  which mask
/// \param[in]  x     d x T, a token is a column
/// \param[out] y     d x T; may be x
/// \throws shape_error   if y has another shape
/// \throws alias_error   if y overlaps x without being x
/// \throws option_error  if the rate is outside [0, 1)
/// \par Cost
/// Ten rounds of Philox for four entries; one pass over x and y.
/// \see \cite srivastava2014
template <class Ctx, RealMatrix X, class Y>
  requires OutputMatrix<Y> && SameScalar<X, Y>
void dropout(Ctx& ctx, dropout_mask const& mask, X const& x, Y&& y) {
  detail::expect_dropout(ctx, "dropout", mask, x, y);
  auto const& input = dense(ctx, x);
  if (mask.rate == 0)
    copy(ctx, input, y);
  else
    run_batch(ctx, x.cols(), dropout_body{mask}, input, y);
}

/// \brief dropout() with a mask of its own for every expert.
/// \ingroup nn
///
/// Column t takes the mask of expert ids(0, t): the experts that see a token drop different entries
/// of it, as in implementations that call dropout inside a loop over experts. A column with an
/// empty slot (below 0) becomes zero, also at rate 0.
///
/// \param[in]  ctx   where to run; nothing waits
/// \param[in]  mask  which masks
/// \param[in]  ids   1 x T of int, one slot of a routing
/// \param[in]  x     d x T
/// \param[out] y     d x T; may be x
/// \throws shape_error   if a shape does not fit
/// \throws alias_error   if y overlaps x without being x
/// \throws option_error  if the rate is outside [0, 1)
/// \par Cost
/// As dropout().
template <class Ctx, Matrix Ids, RealMatrix X, class Y>
  requires OutputMatrix<Y> && SameScalar<X, Y>
void expert_dropout(Ctx& ctx, dropout_mask const& mask, Ids const& ids, X const& x, Y&& y) {
  detail::expect_dropout(ctx, "expert_dropout", mask, x, y);
  expect_shape("expert_dropout", "ids", ids, 1, x.cols());
  auto const& listed = dense(ctx, ids);
  auto const& input = dense(ctx, x);
  run_batch(ctx, x.cols(), dropout_body{mask}, listed, input, y);
}

}  // namespace stiefelx
