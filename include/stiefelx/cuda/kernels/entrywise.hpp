// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <utility>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>
#include <stiefelx/cuda/kernels/numbered.hpp>

/// \file
/// \brief Element text on packs of entries, and the kernel that takes it over a matrix with gaps
/// between its columns.
/// \ingroup cuda

namespace stiefelx::cuda {

/// \brief Element text with its matrices.
/// \ingroup cuda
///
/// A pack of every output and input is loaded, f is called for each place of the pack, and the
/// packs of the outputs are stored. An entry that f does not read costs no load, since f is
/// inlined.
template <class F, class Outputs, class Inputs>
struct element_body;

/// \brief The case of operands written Y... and read X...
/// \ingroup cuda
template <class F, std::size_t... I, class... Y, std::size_t... J, class... X>
struct element_body<F, numbered_list<std::index_sequence<I...>, entry_operand<Y>...>,
                    numbered_list<std::index_sequence<J...>, entry_operand<X const>...>> {
  F f;                                                                         ///< element text
  numbered_list<std::index_sequence<I...>, entry_operand<Y>...> outputs;       ///< what it changes
  numbered_list<std::index_sequence<J...>, entry_operand<X const>...> inputs;  ///< what it reads

  /// \tparam V    entries of the pack
  /// \param[in] i  row of its first entry
  /// \param[in] j  column
  template <int V>
  STIEFELX_HD void operator()(index_t i, index_t j, pack_size<V>) const {
    numbered_list<std::index_sequence<I...>, entry_pack<Y, V>...> y{
        {output<I, Y>().template load<V>(i, j)}...};
    [[maybe_unused]] numbered_list<std::index_sequence<J...>, entry_pack<X, V>...> const x{
        {input<J, X>().template load<V>(i, j)}...};
    for (int v = 0; v < V; ++v)
      f(static_cast<numbered<I, entry_pack<Y, V>>&>(y).value.entry[v]...,
        static_cast<numbered<J, entry_pack<X, V>> const&>(x).value.entry[v]...);
    (output<I, Y>().template store<V>(i, j, static_cast<numbered<I, entry_pack<Y, V>>&>(y).value),
     ...);
  }

 private:
  template <std::size_t K, class T>
  STIEFELX_HD entry_operand<T> const& output() const {
    return static_cast<numbered<K, entry_operand<T>> const&>(outputs).value;
  }
  template <std::size_t K, class T>
  STIEFELX_HD entry_operand<T const> const& input() const {
    return static_cast<numbered<K, entry_operand<T const>> const&>(inputs).value;
  }
};

/// \brief Kernel: body(i, j, pack) over a matrix.
/// \ingroup cuda
template <int V, class Body>
struct entrywise {
  Body body;        ///< what happens to a pack
  entry_walk walk;  ///< which packs a lane has

  /// What a lane does.
  STIEFELX_HD void operator()() const { walk.template each<V>(body); }
};

/// \brief Element text for the pack of a number, over one column.
/// \ingroup cuda
template <int V, class Body>
struct flat_packs {
  Body body;     ///< what happens to a pack
  index_t rows;  ///< entries in all

  /// \param[in] pack  its number
  STIEFELX_HD void operator()(index_t pack) const {
    index_t const i = pack * V;
    if (i + V <= rows) {
      body(i, 0, pack_size<V>{});
    } else {
      for (index_t k = i; k < rows; ++k) body(k, 0, pack_size<1>{});
    }
  }
};

/// \brief Queues body(i, j, pack) over a matrix, by packs where that is possible.
/// \ingroup cuda
/// \tparam V            entries of a pack
/// \param[in] queue      where to queue it
/// \param[in] is_aligned  whether packs of every operand may be loaded and stored at once
/// \param[in] rows       rows
/// \param[in] cols       columns
/// \param[in] body       what happens to a pack
template <int V, class Body>
void queue_entrywise(stream_ref queue, bool is_aligned, index_t rows, index_t cols,
                     Body const& body) {
  if (rows == 0 || cols == 0) return;
  constexpr index_t most_blocks = index_t{1} << 30;
  auto const plan = plan_walk(rows, cols, is_aligned ? V : 1, most_blocks);
  if (is_aligned)
    launch(queue, plan.shape, entrywise<V, Body>{body, plan.walk});
  else
    launch(queue, plan.shape, entrywise<1, Body>{body, plan.walk});
}

}  // namespace stiefelx::cuda
