// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/stored_weights.hpp>

/// \file
/// \brief Adapters as part of the frozen weight, where the layer is one matrix for all tokens.
/// \ingroup nn

namespace stiefelx {

namespace detail {

// W += s up^T down^T, then finish(W). A weight of two bytes is rounded once, after both, some of its
// columns at a time.
template <class Ctx, class Up, class Down, class W, class Finish>
void add_to_weight(Ctx& ctx, double scaling, Up const& up, Down const& down, W&& frozen,
                   Finish const& finish) {
  if constexpr (NarrowScalar<scalar_t<W>>) {
    index_t const rows = frozen.rows(), cols = frozen.cols();
    index_t const most = std::max<index_t>(1, stored_block_entries / std::max<index_t>(rows, 1));
    for (index_t first = 0; first < cols; first += most) {
      index_t const count = std::min(most, cols - first);
      auto block = frozen.middleCols(first, count);
      auto sum = widened_weight(ctx, block);
      multiply_add(ctx, scaling, up.adjoint(), down.middleRows(first, count).adjoint(), sum);
      finish(sum);
      copy(ctx, sum, block);
    }
  } else {
    multiply_add(ctx, scaling, up.adjoint(), down.adjoint(), frozen);
    finish(frozen);
  }
}

template <class Ctx, class Up, class Down, class W>
void add_to_weight(Ctx& ctx, double scaling, Up const& up, Down const& down, W&& frozen) {
  add_to_weight(ctx, scaling, up, down, frozen, [](auto&) {});
}

// A mixture is one matrix only where its gates are the same for all tokens and outputs are added.
template <class Gates>
void expect_fixed_gates(char const* function, Gates const& gates, index_t experts, mixing kind) {
  expect_option(gates.cols() == 1, function, "the number of gates' columns", gates.cols(),
                "1: gates that differ from token to token have no merged weight");
  expect_shape(function, "gates", gates, experts, 1);
  expect_option(kind == mixing::none, function, "kind", static_cast<int>(kind),
                "mixing::none: an orthogonalized mixture is not linear in x");
}

}  // namespace detail

/// \brief Adds a low-rank update to a frozen weight, \f$ W \mathrel{+}= s B A \f$.
/// \ingroup nn
///
/// Afterwards the layer without the adapter gives what it gave with it, up to rounding. With -s
/// the update is taken out again, up to rounding: keep a copy of W where its bits matter.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r
/// \param[in]     up       r x d_out
/// \param[in]     scaling  \f$ s \f$
/// \param[in,out] frozen   d_out x d_in; where it has two bytes an entry, the sum in float is rounded
///                         once
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// 2 r d_in d_out flops; for a weight of two bytes at most 1 MiB of scratch, or a column.
template <class Ctx, RealWeight Down, RealWeight Up, RealWeight W>
  requires OutputMatrix<W> && StoredAs<arithmetic_t<scalar_t<W>>, Down, Up>
void merge_lora(Ctx& ctx, Down const& down, Up const& up, double scaling, W&& frozen) {
  expect_shape("merge_lora", "up", up, down.cols(), frozen.rows());
  expect_shape("merge_lora", "down", down, frozen.cols(), up.rows());
  detail::add_to_weight(ctx, scaling, widened_weight(ctx, up), widened_weight(ctx, down), frozen);
}

/// \brief Adds an update of three factors to a frozen weight, \f$ W \mathrel{+}= s\,U M V^T \f$.
/// \ingroup nn
///
/// Afterwards the layer without the adapter gives what factored_lora_forward() made of it, up to
/// rounding; with -s the update is taken out again, up to rounding.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     down     d_in x r, V
/// \param[in]     middle   r x r, \f$ M^T \f$
/// \param[in]     up       r x d_out, \f$ U^T \f$
/// \param[in]     scaling  \f$ s \f$
/// \param[in,out] frozen   d_out x d_in; of two bytes an entry it is rounded once
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// That of merge_lora() and 2 r^2 d_out flops; scratch r x d_out.
template <class Ctx, RealWeight Down, RealWeight Middle, RealWeight Up, RealWeight W>
  requires OutputMatrix<W> && StoredAs<arithmetic_t<scalar_t<W>>, Down, Middle, Up>
void merge_factored_lora(Ctx& ctx, Down const& down, Middle const& middle, Up const& up,
                         double scaling, W&& frozen) {
  char const* const name = "merge_factored_lora";
  index_t const r = down.cols();
  expect_shape(name, "down", down, frozen.cols(), r);
  expect_shape(name, "middle", middle, r, r);
  expect_shape(name, "up", up, r, frozen.rows());
  auto const later = product(ctx, widened_weight(ctx, middle), widened_weight(ctx, up));
  detail::add_to_weight(ctx, scaling, later, widened_weight(ctx, down), frozen);
}

/// \brief Makes a frozen weight the weight-decomposed one, \f$ W_j \leftarrow m_j (W + s B A)_j / n_j \f$.
/// \ingroup nn
///
/// The \f$ n_j \f$ are those of dora_norms(). Afterwards the layer without the adapter gives what
/// dora_forward() makes of it with the norms of these factors, up to rounding; a row without a
/// direction becomes zero, as its output is. Lengths of rows of W are lost: keep a copy of W where the
/// merge has to be undone.
///
/// \param[in]     ctx        where to run; nothing waits
/// \param[in]     magnitude  1 x d_out, m
/// \param[in]     down       d_in x r
/// \param[in]     up         r x d_out
/// \param[in]     scaling    \f$ s \f$
/// \param[in,out] frozen     d_out x d_in; of two bytes an entry it is rounded once
/// \throws shape_error  if a shape does not fit
/// \par Cost
/// That of dora_norms() and merge_lora(), and a pass over W.
/// \see \cite liu2024dora
template <class Ctx, RealWeight M, RealWeight Down, RealWeight Up, RealWeight W>
  requires OutputMatrix<W> && StoredAs<arithmetic_t<scalar_t<W>>, M, Down, Up>
void merge_dora(Ctx& ctx, M const& magnitude, Down const& down, Up const& up, double scaling,
                W&& frozen) {
  char const* const name = "merge_dora";
  index_t const d_out = frozen.rows();
  expect_shape(name, "magnitude", magnitude, 1, d_out);
  expect_shape(name, "down", down, frozen.cols(), down.cols());
  expect_shape(name, "up", up, down.cols(), d_out);
  auto norms = scratch<double>(ctx, 1, d_out);
  dora_norms(ctx, frozen, down, up, scaling, norms);
  auto const& wide = widened_weight(ctx, magnitude);
  auto const& lengths = dense(ctx, wide);
  auto const& divisors = dense(ctx, norms);
  auto const give_lengths = [&](auto& sum) {
    auto const& rows = dense(ctx, sum);
    run_batch(ctx, sum.cols(), magnitude_body{}, lengths, divisors, rows, sum);
  };
  detail::add_to_weight(ctx, scaling, widened_weight(ctx, up), widened_weight(ctx, down), frozen,
                        give_lengths);
}

/// \brief Adds a mixture with fixed gates to a frozen weight, \f$ W \mathrel{+}= s \sum_e c_e B_e A_e \f$.
/// \ingroup nn
///
/// Where experts have factors of their own, \f$ s_e \f$ stands in the sum in place of s before it.
///
/// This is exact where every token has the same gates and nothing else happens to the outputs: a
/// gate a task, as in MOELoRA, or the mean gates of a soft router as an approximation of one's
/// own. Everything else is refused. Gates that a router chooses token by token make the layer
/// another matrix for every token, and an orthogonalized mixture is not linear in x even with
/// fixed gates.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     gates    E x 1
/// \param[in]     kind     form of the mixture; `mixing::none` is the only one that merges
/// \param[in,out] frozen   d_out x d_in; of two bytes an entry it is rounded once
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if gates differ from token to token (more columns than one), or the
///                       mixture is not linear
/// \par Cost
/// 2 E r d_in d_out flops, one copy of up.
template <class Ctx, class Down, class Up, class Scaling, RealMatrix Gates, RealWeight W>
  requires OutputMatrix<W> && StoredAs<arithmetic_t<scalar_t<W>>, Down, Up, Gates>
void merge_experts(Ctx& ctx, lora_experts<Down, Up, Scaling> const& experts, Gates const& gates,
                   mixing kind, W&& frozen) {
  char const* const name = "merge_experts";
  expect_option(experts.count >= 1, name, "experts.count", experts.count, "a number of at least 1");
  index_t const rank = experts.down.cols() / experts.count;
  expect_shape(name, "experts.down", experts.down, frozen.cols(), rank * experts.count);
  expect_shape(name, "experts.up", experts.up, experts.down.cols(), frozen.rows());
  detail::expect_scaling(name, "experts.scaling", experts.scaling, experts.count);
  detail::expect_fixed_gates(name, gates, experts.count, kind);
  auto const& coefficients = dense(ctx, gates);
  auto weighted = scratch<scalar_t<Gates>>(ctx, experts.up.rows(), experts.up.cols());
  copy(ctx, experts.up, weighted);
  for (index_t e = 0; e < experts.count; ++e)
    scale(ctx, coefficients.middleRows(e, 1), weighted.middleRows(e * rank, rank));
  detail::scale_experts(ctx, experts.scaling, experts.count, rank, weighted);
  detail::add_to_weight(ctx, detail::common_scaling(experts.scaling), weighted,
                        widened_weight(ctx, experts.down), frozen);
}

/// \brief The same for experts that share their down-factor,
/// \f$ W \mathrel{+}= s \big( \sum_e c_e B_e \big) A \f$.
/// \ingroup nn
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     experts  E experts of rank r
/// \param[in]     gates    E x 1
/// \param[in]     kind     form of the mixture; `mixing::none` is the only one that merges
/// \param[in,out] frozen   d_out x d_in; of two bytes an entry it is rounded once
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if gates differ from token to token (more columns than one), or the
///                       mixture is not linear
/// \par Cost
/// 2 r d_in d_out + 2 E r d_out flops; scratch r x d_out, and up widened where it has two bytes.
template <class Ctx, class Down, class Up, class Scaling, RealMatrix Gates, RealWeight W>
  requires OutputMatrix<W> && StoredAs<arithmetic_t<scalar_t<W>>, Down, Up, Gates>
void merge_experts(Ctx& ctx, hydra_experts<Down, Up, Scaling> const& experts, Gates const& gates,
                   mixing kind, W&& frozen) {
  char const* const name = "merge_experts";
  expect_option(experts.count >= 1, name, "experts.count", experts.count, "a number of at least 1");
  index_t const rank = experts.down.cols();
  expect_shape(name, "experts.down", experts.down, frozen.cols(), rank);
  expect_shape(name, "experts.up", experts.up, rank * experts.count, frozen.rows());
  detail::expect_scaling(name, "experts.scaling", experts.scaling, experts.count);
  detail::expect_fixed_gates(name, gates, experts.count, kind);
  auto sum = scratch<scalar_t<Gates>>(ctx, rank, frozen.rows());
  auto coefficients = clone(ctx, gates);
  detail::scale_experts(ctx, experts.scaling, experts.count, 1, coefficients);
  auto const& up = widened_weight(ctx, experts.up);
  fill(ctx, 0, sum);
  for (index_t e = 0; e < experts.count; ++e)
    axpy(ctx, coefficients.middleRows(e, 1), up.middleRows(e * rank, rank), sum);
  detail::add_to_weight(ctx, detail::common_scaling(experts.scaling), sum,
                        widened_weight(ctx, experts.down), frozen);
}

}  // namespace stiefelx
