// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>

/// \file
/// \brief The r x r work of a mixture in rank space: products with blocks \f$ B_i^T B_j \f$.
/// \ingroup nn
///
/// A token's slots lie one after the other, r numbers each. `Fixed` is the rank where it is known
/// when compiling, so that sums stay in registers, or 0.

namespace stiefelx::detail {

template <class S>
STIEFELX_HD void widen_column(S const* from, index_t count, double* to) {
  for (index_t a = 0; a < count; ++a) to[a] = static_cast<double>(from[a]);
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

// k x k Gram matrix by columns, both triangles; empty slots have zero outputs.
template <unsigned Fixed>
STIEFELX_HD void token_gram(matrix_ref<double const> moments, int const* ids, index_t k,
                            index_t rank, double const* h, double* g, double* room) {
  for (index_t j = 0; j < k; ++j)
    for (index_t i = j; i < k; ++i) {
      double sum = 0;
      if (ids[i] >= 0 && ids[j] >= 0) {
        for (index_t a = 0; a < rank; ++a) room[a] = 0;
        add_block<Fixed>(moments, ids[i], ids[j], rank, 1, h + j * rank, room);
        sum = dot<Fixed>(rank, h + i * rank, room);
      }
      g[i + j * k] = sum;
      g[j + i * k] = sum;
    }
}

// Calls text with the rank as a constant where one was compiled for it.
template <class Text>
STIEFELX_HD void with_rank(index_t rank, Text const& text) {
  switch (rank) {
    case 8:
      return text.template operator()<8>();
    case 16:
      return text.template operator()<16>();
    default:
      return text.template operator()<0>();
  }
}

}  // namespace stiefelx::detail
