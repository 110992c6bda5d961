// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>

#include <Eigen/Core>

#include <stiefelx/host/verbs.hpp>

/// \file
/// \brief Products of the host with factors of two bytes an entry, part by part.
/// \ingroup host

namespace stiefelx::host::detail {

// Entries of the scratch in which a part of a stored factor becomes float: 1 MiB leaves room in a
// second-level cache for what the product packs.
inline constexpr index_t stored_part_entries = index_t{1} << 18;

// Size of such parts: the whole where it fits. Else at least 256 of the inner dimension, so that the
// result is not read and written more often than by a product of floats; or what tall_product()
// takes with `cols` columns of the result.
struct stored_part {
  index_t outer;  // rows of a left factor, columns of a right one
  index_t inner;

  static stored_part of(index_t outer, index_t inner, bool is_tall, index_t cols) {
    if (outer * inner <= stored_part_entries)
      return {std::max<index_t>(1, outer), std::max<index_t>(1, inner)};
    index_t const depth = is_tall && outer >= 256 && cols <= 4096
                              ? std::clamp<index_t>((index_t{1} << 17) / cols, 32, 256)
                              : std::max<index_t>(256, stored_part_entries / outer);
    index_t const part = std::min(inner, depth);
    return {std::min(outer, stored_part_entries / part), part};
  }
};

template <class A, class B, class C>
void multiply_into(context& ctx, scalar_t<C> alpha, A const& a, B const& b, C&& c, bool add);

// A part of a stored matrix as float, in the matrix's own order.
template <class A>
auto widened_part(context& ctx, float* memory, A const& a) {
  constexpr int order = (flags<A> & Eigen::RowMajorBit) ? Eigen::RowMajor : Eigen::ColMajor;
  using Plain = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, order>;
  Eigen::Map<Plain, Eigen::AlignedMax> part(memory, a.rows(), a.cols());
  copy(ctx, a, part);
  return part;
}

// multiply_into() where a or b has two bytes an entry. Sums over the inner dimension go in the order
// of the parts, each of them as the product of floats does it.
template <class A, class B, class C>
void multiply_stored(context& ctx, float alpha, A const& a, B const& b, C&& c, bool add,
                     bool prefers_tall) {
  constexpr bool left = NarrowScalar<scalar_t<A>>;
  index_t const depth = a.cols(), outer = left ? c.rows() : c.cols();
  bool const is_tall = prefers_tall && left && (flags<A> & Eigen::RowMajorBit) == 0;
  auto const size = stored_part::of(outer, depth, is_tall, std::max<index_t>(1, c.cols()));
  auto memory = scratch<float>(ctx, std::min(size.inner, depth), std::min(size.outer, outer));
  if (depth == 0 && !add) c.setZero();
  for (index_t k = 0; k < depth; k += size.inner) {
    index_t const inner = std::min(size.inner, depth - k);
    for (index_t i = 0; i < outer; i += size.outer) {
      index_t const count = std::min(size.outer, outer - i);
      if constexpr (left) {
        auto const part = widened_part(ctx, memory.data(), a.block(i, k, count, inner));
        multiply_into(ctx, alpha, part, b.middleRows(k, inner), c.middleRows(i, count),
                      add || k > 0);
      } else {
        auto const part = widened_part(ctx, memory.data(), b.block(k, i, inner, count));
        multiply_into(ctx, alpha, a.middleCols(k, inner), part, c.middleCols(i, count),
                      add || k > 0);
      }
    }
  }
}

// A small matrix of static size, in the scalar of arithmetic.
template <class A>
auto const& in_arithmetic(A const& a) {
  return a;
}
template <class A>
  requires NarrowScalar<scalar_t<A>>
plain_t<A, float> in_arithmetic(A const& a) {
  return a.template cast<float>();
}

}  // namespace stiefelx::host::detail
