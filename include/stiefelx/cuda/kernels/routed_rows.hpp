// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/unroll.hpp>
#include <stiefelx/cuda/copy_kernels.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>

/// \file
/// \brief What the kernels of routed products read: experts by columns or by rows, a factor, packs
/// of rows.
/// \ingroup cuda
///
/// Where packs cannot be loaded at once, a lane loads their entries one by one: it has the same rows
/// then, and the sums the same order.

namespace stiefelx::cuda {

/// Rank columns of an expert that a lane keeps in registers.
/// \ingroup cuda
inline constexpr int rank_tile = 8;

/// \brief A pack in the type of arithmetic.
/// \ingroup cuda
/// \param[in] stored  as it lies in memory
/// \returns its entries converted
template <class T, class A, int V>
STIEFELX_HD entry_pack<T, V> converted_pack(entry_pack<A, V> stored) {
  entry_pack<T, V> pack;
  unroll<V>([&](index_t v)
                __attribute__((always_inline)) { pack.entry[v] = converted<T>(stored.entry[v]); });
  return pack;
}

/// \brief V entries of a line one by one, with zeros beyond its end.
/// \ingroup cuda
/// \param[in] line  its first entry that is wanted
/// \param[in] left  entries from there to its end, or less than one
/// \returns the pack
template <class T, int V, class A>
STIEFELX_HD entry_pack<T, V> load_singly(A const* line, index_t left) {
  entry_pack<T, V> pack;
  unroll<V>([&](index_t v) __attribute__((always_inline)) {
    pack.entry[v] = v < left ? converted<T>(line[v]) : T(0);
  });
  return pack;
}

/// \brief V rows of some columns, with zeros beyond their end; all loads are issued together.
/// \ingroup cuda
/// \tparam Packed     whether V entries of a column may be loaded at once
/// \param[in]  columns  first entry of each
/// \param[in]  i        row of the first entry
/// \param[in]  rows     rows of a column
/// \param[out] packs    one of each column
template <bool Packed, class T, int V, std::size_t N>
STIEFELX_HD void load_rows(T const* const (&columns)[N], index_t i, index_t rows,
                           entry_pack<T, V> (&packs)[N]) {
  if (Packed && i + V <= rows) {
    unroll<N>([&](index_t n) __attribute__((always_inline)) {
      packs[n] = *reinterpret_cast<entry_pack<T, V> const*>(columns[n] + i);
    });
  } else {
    unroll<N>([&](index_t n) __attribute__((always_inline)) {
      packs[n] = load_singly<T, V>(columns[n] + i, rows - i);
    });
  }
}

/// \brief A d x (E r) matrix whose columns lie one after the other, or whose rows do.
/// \ingroup cuda
///
/// Packs lie along the memory: several rows of a column, or several columns of a row.
template <class A, bool ByRows>
struct expert_columns {
  A* data;         ///< first entry
  index_t rows;    ///< d
  index_t cols;    ///< E r
  index_t stride;  ///< entries from one column to the next, or from one row
  bool is_packed;  ///< whether packs that start at a multiple of their size may be loaded at once

  /// \param[in] i  row
  /// \param[in] c  column
  /// \returns the address of the entry
  STIEFELX_HD A* at(index_t i, index_t c) const {
    return ByRows ? data + c + i * stride : data + i + c * stride;
  }

  /// \brief V rows of rank_tile columns, with zeros beyond the ends.
  /// \param[in]  i     row of the first entry, a multiple of V
  /// \param[in]  c     column
  /// \param[in]  left  columns of the expert from there on
  /// \param[out] tile  a pack of each column
  template <class T, int V>
  STIEFELX_HD void load_tile(index_t i, index_t c, index_t left,
                             entry_pack<T, V> (&tile)[rank_tile]) const {
    if constexpr (ByRows)
      load_along_rows(i, c, left, tile);
    else
      load_along_columns(i, c, left, tile);
  }

 private:
  using Stored = std::remove_const_t<A>;

  template <class T, int V>
  STIEFELX_HD void load_along_columns(index_t i, index_t c, index_t left,
                                      entry_pack<T, V> (&tile)[rank_tile]) const {
    // A column beyond the expert is its last one once more, and then dropped: no load waits behind
    // a branch.
    auto const column = [&](auto b) __attribute__((always_inline)) {
      return static_cast<Stored const*>(at(i, c + (b < left ? b : left - 1)));
    };
    if (is_packed && i + V <= rows) {
      entry_pack<Stored, V> stored[rank_tile];
      unroll<rank_tile>([&](index_t b) __attribute__((always_inline)) {
        stored[b] = *reinterpret_cast<entry_pack<Stored, V> const*>(column(b));
      });
      unroll<rank_tile>([&](index_t b) __attribute__((always_inline)) {
        tile[b] = b < left ? converted_pack<T>(stored[b]) : entry_pack<T, V>{};
      });
    } else {
      unroll<rank_tile>([&](index_t b) __attribute__((always_inline)) {
        tile[b] = load_singly<T, V>(column(b), b < left ? rows - i : 0);
      });
    }
  }

  // A lane reads 16 bytes of a row at once, not one entry of a line that 31 others share with none.
  template <class T, int V>
  STIEFELX_HD void load_along_rows(index_t i, index_t c, index_t left,
                                   entry_pack<T, V> (&tile)[rank_tile]) const {
    constexpr int across = pack_entries<Stored>;
    unroll<V>([&](index_t v) __attribute__((always_inline)) {
      // A row beyond the end is the last one once more, and then zero.
      bool const inside = i + v < rows;
      Stored const* const row = at(inside ? i + v : rows - 1, c);
      unroll<rank_tile / across>([&](index_t q) __attribute__((always_inline)) {
        index_t const first = q * across;
        entry_pack<T, across> pack{};
        if (is_packed) {
          if (first < left)
            pack = converted_pack<T>(
                *reinterpret_cast<entry_pack<Stored, across> const*>(row + first));
        } else {
          pack = load_singly<T, across>(row + first, left - first);
        }
        unroll<across>([&](index_t w) __attribute__((always_inline)) {
          tile[first + w].entry[v] = inside ? pack.entry[w] : T(0);
        });
      });
    });
  }
};

/// \brief A coefficient: a number, or one that the kernel reads.
/// \ingroup cuda
template <class T, class C>
struct device_number {
  T number;     ///< where there is no address
  C const* at;  ///< on the device, or null

  /// \returns the coefficient
  STIEFELX_HD T value() const { return at == nullptr ? number : static_cast<T>(*at); }
};

}  // namespace stiefelx::cuda
