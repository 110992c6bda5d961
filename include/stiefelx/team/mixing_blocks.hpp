// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/filled_slot.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief The r x r work of a mixture in rank space: products with blocks \f$ B_i^T B_j \f$.
/// \ingroup nn
///
/// A token's slots lie one after the other, r numbers each. One lane has a block in its registers:
/// `Fixed` is the rank where it is known when compiling, or 0. Several lanes share the rows of a block.

namespace stiefelx::detail {

template <class Lanes>
inline constexpr bool is_one_lane = std::is_same_v<Lanes, serial_team>;

template <class Lanes, class S>
STIEFELX_HD void widen_column(Lanes const& team, S const* from, index_t count, double* to) {
  for (index_t a = team.rank(); a < count; a += team.size()) to[a] = static_cast<double>(from[a]);
}

template <unsigned Fixed>
STIEFELX_HD double dot(index_t rank, double const* a, double const* b) {
  if constexpr (Fixed > 0) {
    // Partial sums as wide as a vector, added up in a tree: a single one would be a long chain.
    constexpr unsigned ways = Fixed < 8 ? Fixed : 8;
    double part[ways];
    for (index_t w = 0; w < index_t(ways); ++w) part[w] = a[w] * b[w];
    for (index_t i = ways; i < index_t(Fixed); i += ways)
      for (index_t w = 0; w < index_t(ways); ++w) part[w] += a[i + w] * b[i + w];
    for (index_t width = ways / 2; width > 0; width /= 2)
      for (index_t w = 0; w < width; ++w) part[w] += part[w + width];
    return part[0];
  } else {
    double sum = 0;
    for (index_t i = 0; i < rank; ++i) sum += a[i] * b[i];
    return sum;
  }
}

// out += factor C_ij h, with C_ij the r x r block of the moments.
template <unsigned Fixed>
STIEFELX_HD void add_block(matrix_ref<double const> moments, index_t i, index_t j, index_t rank,
                           double factor, double const* h, double* out) {
  index_t const r = Fixed > 0 ? index_t(Fixed) : rank;
  double const* column = moments.column(j * r) + i * r;
  if constexpr (Fixed > 0) {
    // Even and odd columns apart: two short chains of additions instead of a long one.
    double even[Fixed], odd[Fixed];
    for (index_t a = 0; a < index_t(Fixed); ++a) {
      even[a] = 0;
      odd[a] = 0;
    }
    for (index_t b = 0; b < index_t(Fixed); b += 2) {
      double const* const next = column + moments.stride;
      double const first = h[b], second = h[b + 1];
      for (index_t a = 0; a < index_t(Fixed); ++a) even[a] += column[a] * first;
      for (index_t a = 0; a < index_t(Fixed); ++a) odd[a] += next[a] * second;
      column = next + moments.stride;
    }
    for (index_t a = 0; a < index_t(Fixed); ++a) out[a] += factor * (even[a] + odd[a]);
  } else {
    for (index_t b = 0; b < r; ++b, column += moments.stride) {
      double const c = factor * h[b];
      for (index_t a = 0; a < r; ++a) out[a] += column[a] * c;
    }
  }
}

// Entry `row` of C_ij h, with C_ij as above. Lanes take adjacent rows, which a device reads at once.
STIEFELX_HD inline double block_row(matrix_ref<double const> moments, index_t i, index_t j,
                                    index_t rank, index_t row, double const* h) {
  double const* entry = moments.column(j * rank) + i * rank + row;
  double sum = 0;
  for (index_t b = 0; b < rank; ++b, entry += moments.stride) sum += *entry * h[b];
  return sum;
}

// Calls text with the rank as a constant where one was compiled for it, and one lane has a use for it.
template <class Lanes, class Text>
STIEFELX_HD void with_rank(Lanes const&, index_t rank, Text const& text) {
  if constexpr (is_one_lane<Lanes>) {
    switch (rank) {
      case 8:
        return text.template operator()<8>();
      case 16:
        return text.template operator()<16>();
      default:
        break;
    }
  }
  text.template operator()<0>();
}

// a^T b, the same for every lane.
template <unsigned Fixed, class Lanes>
STIEFELX_HD double dot(Lanes const& team, index_t rank, double const* a, double const* b) {
  if constexpr (is_one_lane<Lanes>) {
    return dot<Fixed>(rank, a, b);
  } else {
    double part = 0;
    for (index_t i = team.rank(); i < rank; i += team.size()) part += a[i] * b[i];
    return team.sum(part);
  }
}

// k x k Gram matrix by columns, both triangles; empty slots have zero outputs. One lane writes it.
template <class Lanes>
STIEFELX_HD void token_gram(Lanes const& team, matrix_ref<double const> moments, int const* ids,
                            index_t k, index_t rank, double const* h, double* g,
                            [[maybe_unused]] double* room) {
  index_t const experts = rank > 0 ? moments.cols / rank : 0;
  with_rank(team, rank, [&]<unsigned Fixed>() {
    for (index_t j = 0; j < k; ++j)
      for (index_t i = j; i < k; ++i) {
        bool const filled = is_filled(ids[i], experts) && is_filled(ids[j], experts);
        double sum = 0;
        if constexpr (is_one_lane<Lanes>) {
          if (filled) {
            for (index_t a = 0; a < rank; ++a) room[a] = 0;
            add_block<Fixed>(moments, ids[i], ids[j], rank, 1, h + j * rank, room);
            sum = dot<Fixed>(rank, h + i * rank, room);
          }
        } else {
          for (index_t a = team.rank(); filled && a < rank; a += team.size())
            sum += block_row(moments, ids[i], ids[j], rank, a, h + j * rank) * h[i * rank + a];
          sum = team.sum(sum);
          if (team.rank() != 0) continue;
        }
        g[i + j * k] = sum;
        g[j + i * k] = sum;
      }
  });
}

// out_i += sum_j w_ij C_ij h_j for every slot i; w is k x k by columns. A lane writes the rows of each
// slot that are its own.
template <class Lanes>
STIEFELX_HD void add_gram_rows(Lanes const& team, matrix_ref<double const> moments, int const* ids,
                               index_t k, index_t rank, double const* w, double const* h,
                               double* out) {
  index_t const experts = rank > 0 ? moments.cols / rank : 0;
  auto const factor = [=](index_t i, index_t j) {
    return is_filled(ids[i], experts) && is_filled(ids[j], experts) ? w[i + j * k] : 0;
  };
  with_rank(team, rank, [&]<unsigned Fixed>() {
    if constexpr (is_one_lane<Lanes>) {
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < k; ++i)
          if (double const c = factor(i, j); c != 0)
            add_block<Fixed>(moments, ids[i], ids[j], rank, c, h + j * rank, out + i * rank);
    } else {
      for (index_t i = 0; i < k; ++i)
        for (index_t a = team.rank(); a < rank; a += team.size()) {
          double sum = out[i * rank + a];
          for (index_t j = 0; j < k; ++j)
            if (double const c = factor(i, j); c != 0)
              sum += c * block_row(moments, ids[i], ids[j], rank, a, h + j * rank);
          out[i * rank + a] = sum;
        }
    }
  });
}

}  // namespace stiefelx::detail
