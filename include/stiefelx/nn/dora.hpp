// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/stored_weights.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// Element text of dora_norms().
/// \ingroup nn
struct dora_norm_element {
  double scaling;  ///< s

  /// \param[out] length   row norm of W + s B A
  /// \param[in]  frozen   squared row norm of W
  /// \param[in]  cross    inner product of the rows of W and B A
  /// \param[in]  squared  squared row norm of B A
  STIEFELX_HD void operator()(double& length, double const& frozen, double const& cross,
                              double const& squared) const {
    double const sum = frozen + scaling * (2 * cross + scaling * squared);
    // Rounding may leave a vanishing row a little below zero. An infinite sum becomes NaN: divided by
    // infinity, a row would be zero without a word.
    length = sum <= 0 ? 0 : std::sqrt(sum + (sum - sum));
  }
};

/// \brief Team text: one token's outputs times magnitude over norm.
/// \ingroup nn
struct magnitude_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team       lanes share the rows
  /// \param[in]  t          the token
  /// \param[in]  magnitude  1 x d_out
  /// \param[in]  norms      1 x d_out
  /// \param[in]  z          d_out x T
  /// \param[out] y          d_out x T; may be z
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> magnitude,
                              matrix_ref<double const> norms, matrix_ref<S const> z,
                              matrix_ref<S> y) const {
    for (index_t i = team.rank(); i < z.rows; i += team.size()) {
      double const length = norms(0, i);
      y(i, t) = length == 0
                    ? S(0)
                    : static_cast<S>(static_cast<double>(magnitude(0, i)) / length) * z(i, t);
    }
  }
};

/// \brief Team text: the gradient of some magnitudes, over all tokens in order.
/// \ingroup nn
struct magnitude_backward_body {
  static constexpr index_t rows = 16;   ///< magnitudes an item: a line of memory in float
  static constexpr index_t parts = 16;  ///< of the tokens, at most: a group of 16 lanes has one

  /// \returns doubles of scratch a team: a sum of each part and row
  index_t scratch_size() const { return parts * rows; }

  /// \param[in]     team        lanes share the rows, and groups of 16 the tokens
  /// \param[in]     item        rows 16 item to 16 item + 15
  /// \param[in]     sums        scratch_size() doubles
  /// \param[in]     norms       1 x d_out
  /// \param[in]     z           d_out x T
  /// \param[in]     dy          d_out x T
  /// \param[in,out] dmagnitude  1 x d_out, accumulates
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t item, double* sums,
                              matrix_ref<double const> norms, matrix_ref<S const> z,
                              matrix_ref<S const> dy, matrix_ref<S> dmagnitude) const {
    index_t const first = item * rows;
    index_t const count = z.rows - first < rows ? z.rows - first : rows;
    index_t const lanes = team.size(), wide = lanes < rows ? lanes : rows;
    index_t const most = lanes / rows < parts ? lanes / rows : parts, groups = most > 1 ? most : 1;
    index_t const group = team.rank() / wide, begin = team.rank() % wide;
    if (group < groups) {
      double* const own = sums + group * rows;
      for (index_t i = begin; i < count; i += wide) own[i] = 0;
      for (index_t t = group; t < z.cols; t += groups)
        for (index_t i = begin; i < count; i += wide)
          own[i] += static_cast<double>(z(first + i, t)) * static_cast<double>(dy(first + i, t));
    }
    team.barrier();
    for (index_t i = team.rank(); i < count; i += lanes) {
      double total = sums[i];
      for (index_t g = 1; g < groups; ++g) total += sums[g * rows + i];
      if (norms(0, first + i) != 0)
        dmagnitude(0, first + i) += static_cast<S>(total / norms(0, first + i));
    }
  }
};

namespace detail {

// Squared lengths of the rows of a frozen weight; of one of two bytes, some rows at a time.
template <class Ctx, class W, class N>
void squared_row_lengths(Ctx& ctx, W const& frozen, N& lengths) {
  if constexpr (NarrowScalar<scalar_t<W>>) {
    index_t const rows = frozen.rows(), cols = frozen.cols();
    index_t const most = std::max<index_t>(1, stored_block_entries / std::max<index_t>(cols, 1));
    for (index_t first = 0; first < rows; first += most) {
      index_t const count = std::min(most, rows - first);
      auto const block = widened_weight(ctx, frozen.middleRows(first, count));
      column_inner(ctx, block.adjoint(), block.adjoint(), lengths.middleCols(first, count));
    }
  } else {
    column_inner(ctx, frozen.adjoint(), frozen.adjoint(), lengths);
  }
}

}  // namespace detail

/// \brief Row norms of an adapted weight, \f$ n_j = \lVert (W + s B A)_j \rVert \f$, from its factors.
/// \ingroup nn
///
/// \f$ n_j^2 = \lVert w_j \rVert^2 + 2 s \langle W A^T, B \rangle_j + s^2\, b_j (A A^T) b_j^T \f$: the product
/// \f$ B A \f$ of the size of W is never formed. Sums that cancel lose digits, so an update that
/// nearly removes a row of W has a norm of few digits. With zero \f$ s \f$ these are the row norms
/// of W, which is where magnitudes start. A row with a NaN or an infinity, or whose squares overflow, has
/// the norm NaN: its outputs become NaN, not zero.
///
/// \param[in]  ctx      where to run; nothing waits
/// \param[in]  frozen   d_out x d_in, W; like the factors, it may have two bytes an entry
/// \param[in]  down     d_in x r
/// \param[in]  up       r x d_out
/// \param[in]  scaling  \f$ s \f$
/// \param[out] norms    1 x d_out of double
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// 2 r d_in d_out + 2 r^2 (d_in + d_out) flops and a pass over W; scratch r x d_out twice.
/// \see \cite liu2024dora
template <class Ctx, RealWeight W, RealWeight Down, RealWeight Up, class N>
  requires OutputMatrix<N> && StoredAs<arithmetic_t<scalar_t<W>>, Down, Up>
void dora_norms(Ctx& ctx, W const& frozen, Down const& down, Up const& up, double scaling,
                N&& norms) {
  index_t const d_out = frozen.rows(), r = down.cols();
  expect_shape("dora_norms", "down", down, frozen.cols(), r);
  expect_shape("dora_norms", "up", up, r, d_out);
  expect_shape("dora_norms", "norms", norms, 1, d_out);
  auto const wide_up = widen(ctx, up);
  auto const cross = product(ctx, widened_weight(ctx, down).adjoint(), frozen.adjoint());
  auto const wide_cross = widen(ctx, cross);
  auto const wide_down = widen(ctx, down);
  auto const square = gram(ctx, wide_down);
  auto const applied = product(ctx, square, wide_up);
  auto lengths = scratch<arithmetic_t<scalar_t<W>>>(ctx, 1, d_out);
  auto crossed = scratch<double>(ctx, 1, d_out);
  auto squared = scratch<double>(ctx, 1, d_out);
  detail::squared_row_lengths(ctx, frozen, lengths);
  column_inner(ctx, wide_cross, wide_up, crossed);
  column_inner(ctx, applied, wide_up, squared);
  auto const wide_lengths = widen(ctx, lengths);
  transform(ctx, dora_norm_element{scaling}, outputs(norms),
            inputs(wide_lengths, crossed, squared));
}

/// \brief A weight-decomposed low-rank adapter: directions adapted by B A, lengths of rows learned.
/// \ingroup nn
///
/// With \f$ z = W x + s B A x \f$, \f$ y_j = m_j z_j / n_j \f$: row j of the adapted weight has length
/// \f$ m_j \f$. A row whose norm is zero has no direction and gives zero. This is DoRA
/// \cite liu2024dora.
///
/// \param[in]     ctx        where to run; nothing waits
/// \param[in]     magnitude  1 x d_out, m
/// \param[in]     norms      1 x d_out of double, by dora_norms() of the present factors
/// \param[in]     down       d_in x r
/// \param[in]     up         r x d_out
/// \param[in]     scaling    \f$ s \f$
/// \param[in]     x          d_in x T, a token is a column
/// \param[in,out] z          d_out x T; W x on entry, z on exit, saved for dora_backward(); must not
///                           overlap x
/// \param[out]    y          d_out x T; may be z where no backward pass follows
/// \param[out]    h          r x T, saved likewise; must not overlap x, y or z
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if outputs overlap x or each other, but for y being z
/// \par Cost
/// That of lora_forward() and a pass over z and y.
template <class Ctx, RealWeight M, RealMatrix N, RealWeight Down, RealWeight Up, RealMatrix X,
          class Z, class Y, class H>
  requires OutputMatrix<Z> && OutputMatrix<Y> && OutputMatrix<H> && SameScalar<X, Z, Y, H> &&
           StoredAs<scalar_t<X>, M, Down, Up>
void dora_forward(Ctx& ctx, M const& magnitude, N const& norms, Down const& down, Up const& up,
                  double scaling, X const& x, Z&& z, Y&& y, H&& h) {
  index_t const d_out = up.cols();
  expect_shape("dora_forward", "magnitude", magnitude, 1, d_out);
  expect_shape("dora_forward", "norms", norms, 1, d_out);
  expect_shape("dora_forward", "z", z, d_out, x.cols());
  expect_shape("dora_forward", "y", y, d_out, x.cols());
  expect_same_or_distinct(ctx, "dora_forward", "y", y, "z", z);
  expect_distinct(ctx, "dora_forward", "y", y, "x", x);
  expect_distinct(ctx, "dora_forward", "h", h, "y", y);
  lora_forward(ctx, down, up, scaling, x, z, h);
  auto const& wide = widened_weight(ctx, magnitude);
  auto const& lengths = dense(ctx, wide);
  auto const& divisors = dense(ctx, norms);
  auto const& input = dense(ctx, z);
  run_batch(ctx, x.cols(), magnitude_body{}, lengths, divisors, input, y);
}

/// \brief Gradients of dora_forward(), with the norms as constants.
/// \ingroup nn
///
/// \f$ \bar m_j \mathrel{+}= \sum_t \bar y_{jt} z_{jt} / n_j \f$ and \f$ \bar z_j = m_j \bar y_j / n_j \f$; from
/// there on the gradients are those of lora_backward() with \f$ \bar z \f$. The norms n depend on A
/// and B as well, and the method leaves that part out on purpose. Parameter gradients accumulate,
/// dz is overwritten, dx takes beta and does not hold the frozen layer's part \f$ W^T \bar z \f$. A
/// parameter's gradient overlaps neither the parameter nor x, dy and dz, as in lora_backward(); dx may
/// be x.
///
/// \param[in]     ctx         where to run; nothing waits
/// \param[in]     magnitude   1 x d_out
/// \param[in]     norms       1 x d_out of double, of the forward call
/// \param[in]     down        d_in x r
/// \param[in]     up          r x d_out
/// \param[in]     scaling     \f$ s \f$
/// \param[in]     x           d_in x T, of the forward call
/// \param[in]     z           d_out x T, of the forward call
/// \param[in]     h           r x T, of the forward call
/// \param[in]     dy          d_out x T
/// \param[in,out] dmagnitude  1 x d_out, accumulates; must not overlap magnitude
/// \param[in,out] ddown       d_in x r, accumulates; must not overlap down or x
/// \param[in,out] dup         r x d_out, accumulates; must not overlap up, dy or dz
/// \param[out]    dz          d_out x T, the gradient of W x; may be dy
/// \param[in]     beta        factor of what dx holds; with 0 it is not read
/// \param[in,out] dx          d_in x T; must not overlap dy or dz; may be x
/// \throws shape_error  if a shape does not fit
/// \throws alias_error  if dz overlaps dy without being dy, or an output what it must not
/// \par Cost
/// That of lora_backward() and two passes over dy.
template <class Ctx, RealWeight M, RealMatrix N, RealWeight Down, RealWeight Up, RealMatrix X,
          RealMatrix Z, RealMatrix H, RealMatrix DY, class DM, class DDown, class DUp, class DZ,
          class DX>
  requires OutputMatrix<DM> && OutputMatrix<DDown> && OutputMatrix<DUp> && OutputMatrix<DZ> &&
           OutputMatrix<DX> && SameScalar<X, Z, H, DY, DM, DDown, DUp, DZ, DX> &&
           StoredAs<scalar_t<X>, M, Down, Up>
void dora_backward(Ctx& ctx, M const& magnitude, N const& norms, Down const& down, Up const& up,
                   double scaling, X const& x, Z const& z, H const& h, DY const& dy,
                   DM&& dmagnitude, DDown&& ddown, DUp&& dup, DZ&& dz, double beta, DX&& dx) {
  index_t const d_out = up.cols(), tokens = x.cols();
  char const* const name = "dora_backward";
  expect_shape(name, "magnitude", magnitude, 1, d_out);
  expect_shape(name, "norms", norms, 1, d_out);
  expect_shape(name, "x", x, down.rows(), tokens);
  expect_shape(name, "z", z, d_out, tokens);
  expect_shape(name, "h", h, down.cols(), tokens);
  expect_shape(name, "dy", dy, d_out, tokens);
  expect_shape(name, "dmagnitude", dmagnitude, 1, d_out);
  expect_shape(name, "up", up, down.cols(), d_out);
  expect_shape(name, "ddown", ddown, down.rows(), down.cols());
  expect_shape(name, "dup", dup, up.rows(), d_out);
  expect_shape(name, "dz", dz, d_out, tokens);
  expect_shape(name, "dx", dx, down.rows(), tokens);
  expect_same_or_distinct(ctx, name, "dz", dz, "dy", dy);
  expect_distinct(ctx, name, "dx", dx, "dy", dy);
  expect_distinct(ctx, name, "dx", dx, "dz", dz);
  expect_distinct(ctx, name, "dmagnitude", dmagnitude, "magnitude", magnitude);
  expect_distinct(ctx, name, "dup", dup, "dz", dz);
  detail::expect_own_gradients(ctx, name, down, up, x, dy, ddown, dup);
  auto const& wide = widened_weight(ctx, magnitude);
  auto const& lengths = dense(ctx, wide);
  auto const& divisors = dense(ctx, norms);
  auto const& saved = dense(ctx, z);
  auto const& incoming = dense(ctx, dy);
  constexpr index_t rows = magnitude_backward_body::rows;
  run_batch(ctx, (d_out + rows - 1) / rows, magnitude_backward_body{}, divisors, saved, incoming,
            dmagnitude);
  run_batch(ctx, tokens, magnitude_body{}, lengths, divisors, incoming, dz);
  lora_backward(ctx, down, up, scaling, x, h, dz, ddown, dup, beta, dx);
}

}  // namespace stiefelx
