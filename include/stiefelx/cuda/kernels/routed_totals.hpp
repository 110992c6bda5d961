// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>
#include <stiefelx/cuda/kernels/routed_rows.hpp>

namespace stiefelx::cuda {

/// \brief What happens to a pack of the result of routed_outer: s times its sums over the parts of
/// the tokens are added, from the first part to the last.
/// \ingroup cuda
///
/// It is a body of queue_entrywise(). An expert without slots keeps its bits.
template <bool ByRows, class T, class C>
struct routed_totals {
  entry_operand<T> out;   ///< experts along the columns, or along the rows
  T const* sums;          ///< of the first part
  index_t stride;         ///< entries from one column of the sums to the next
  index_t step;           ///< entries from the sums of one part to those of the next
  int const* found;       ///< E x parts: whether an expert has slots
  int experts;            ///< E
  int parts;              ///< of the tokens
  unsigned rank;          ///< r
  device_number<T, C> s;  ///< factor

  /// \param[in] i  row of the first entry of the pack
  /// \param[in] j  column
  template <int V>
  STIEFELX_HD void operator()(index_t i, index_t j, pack_size<V>) const {
    entry_pack<T, V> total{};
    T const* const first = sums + i + j * stride;
    for (int part = 0; part < parts; ++part) {
      auto const sum = *reinterpret_cast<entry_pack<T, V> const*>(first + part * step);
      for (int v = 0; v < V; ++v) total.entry[v] += sum.entry[v];
    }
    T const factor = s.value();
    auto was = out.template load<V>(i, j);
    int expert = -1;
    bool has_slots = false;
    for (int v = 0; v < V; ++v) {
      int const mine = expert_of(ByRows ? i + v : j);
      if (mine != expert) has_slots = is_found(mine);
      expert = mine;
      if (has_slots) was.entry[v] += factor * total.entry[v];
    }
    out.template store<V>(i, j, was);
  }

 private:
  STIEFELX_HD int expert_of(index_t c) const {
    return static_cast<int>(static_cast<unsigned>(c) / rank);
  }
  STIEFELX_HD bool is_found(int expert) const {
    int any = 0;
    for (int part = 0; part < parts; ++part) any |= found[part * experts + expert];
    return any != 0;
  }
};

}  // namespace stiefelx::cuda
