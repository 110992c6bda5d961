// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <string>
#include <type_traits>

#include <Eigen/Core>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/host/verbs.hpp>
#include <stiefelx/simd/routed_dots.hpp>
#include <stiefelx/simd/routed_outer.hpp>
#include <stiefelx/simd/routed_sums.hpp>

/// \file
/// \brief How the routed products cut tokens and experts into pieces for their kernels.
/// \ingroup host
///
/// Nothing is gathered: tokens are sorted by expert in blocks, and kernels read and write them where
/// they are. Experts are copied once a call into the order of the kernels. The order of every sum
/// follows from sizes and ids alone, so the bits do not depend on the number of threads.

namespace stiefelx::host {

namespace detail {

[[noreturn]] STIEFELX_COLD inline void throw_expert(char const* function, int found,
                                                    index_t experts) {
  throw option_error(std::string(function) + ": ids holds " + std::to_string(found) +
                     ", expected a number below " + std::to_string(experts));
}

// Sizes of a routed product.
struct routing_sizes {
  index_t width, experts, rank, slots, tokens;
};

// An id beyond the last expert would be an address beyond the last column.
inline routing_sizes expect_routing(char const* function, matrix_ref<int const> ids, index_t width,
                                    index_t columns, index_t rows) {
  index_t const slots = ids.rows, rank = slots > 0 ? rows / slots : 0;
  routing_sizes const sizes{width, rank > 0 ? columns / rank : 0, rank, slots,
                            rank > 0 ? ids.cols : 0};
  for (index_t t = 0; t < sizes.tokens; ++t)
    for (index_t i = 0; i < slots; ++i)
      if (rank > 0 && ids(i, t) >= sizes.experts) throw_expert(function, ids(i, t), sizes.experts);
  return sizes;
}

// Runs f on a column-major view of y.
template <class Y, class F>
void with_plain_output(context& ctx, Y& y, F const& f) {
  if constexpr (is_plain<Y>) {
    f(matrix_ref<scalar_t<Y>>{y.data(), y.rows(), y.cols(), y.outerStride()});
  } else {
    auto copied = clone(ctx, y);
    f(matrix_ref<scalar_t<Y>>{copied.data(), copied.rows(), copied.cols(), copied.outerStride()});
    y = copied;
  }
}

template <class M>
matrix_ref<scalar_t<M> const> ref_of(M const& m) {
  return {m.data(), m.rows(), m.cols(), m.outerStride()};
}

template <class S>
auto map_of(matrix_ref<S> m) {
  using Plain = dynamic_matrix<std::remove_const_t<S>>;
  return Eigen::Map<std::conditional_t<std::is_const_v<S>, Plain const, Plain>, Eigen::Unaligned,
                    Eigen::OuterStride<>>(m.data, m.rows, m.cols, Eigen::OuterStride<>(m.stride));
}

// All experts by columns or by rows: the memory of a, or of a copy.
template <EigenMatrix A>
auto experts_of(context& ctx, A const& a) {
  if constexpr (has_memory<A> &&
                int(Eigen::internal::inner_stride_at_compile_time<expression_t<A>>::ret) == 1) {
    constexpr int order = flags<A> & Eigen::RowMajorBit ? Eigen::RowMajor : Eigen::ColMajor;
    using Plain = Eigen::Matrix<scalar_t<A>, Eigen::Dynamic, Eigen::Dynamic, order>;
    return Eigen::Map<Plain const, Eigen::Unaligned, Eigen::OuterStride<>>(
        a.data(), a.rows(), a.cols(), Eigen::OuterStride<>(a.outerStride()));
  } else {
    return clone(ctx, a);
  }
}

// Whether every token takes all experts in their order: the products are dense then.
inline bool is_dense(routing_sizes const& z, matrix_ref<int const> ids) {
  if (z.slots != z.experts || z.slots == 0) return false;
  for (index_t t = 0; t < z.tokens; ++t)
    for (index_t i = 0; i < z.slots; ++i)
      if (ids(i, t) != i) return false;
  return true;
}

// Tokens whose 4 KiB of rows stay in the second-level cache while each expert in turn takes its own.
inline constexpr index_t routed_block = 128;
// Tokens whose strips of rows do, with the next block's and with the sums of all experts.
inline constexpr index_t outer_block = 128;

// The entries of some tokens, sorted by expert, and a place for a vector of each.
template <class S>
struct sorted_block {
  int* begin;
  simd::routed_entry* entries;
  S* vectors;
  bool repeats;

  static index_t round(index_t count, index_t size) {
    index_t const line = index_t{arena::alignment} / size;
    return (count + line - 1) / line * line;
  }
  static index_t ints(routing_sizes const& z, index_t tokens) {
    return round(z.experts + 1, sizeof(int)) + round(2 * z.slots * tokens, sizeof(int));
  }
  static index_t vector_size(routing_sizes const& z, index_t tokens) {
    return round(z.slots * z.rank * tokens, sizeof(S));
  }

  sorted_block(routing_sizes const& z, int* memory, S* room)
      : begin(memory),
        entries(reinterpret_cast<simd::routed_entry*>(memory + round(z.experts + 1, sizeof(int)))),
        vectors(room),
        repeats(false) {}

  void sort(routing_sizes const& z, matrix_ref<int const> ids, index_t first, index_t count) {
    repeats = simd::sort_by_expert(ids, first, count, z.rank, z.experts, begin, entries);
  }
  // Copies s times the slots, in the order of the entries.
  void gather(routing_sizes const& z, S s, matrix_ref<S const> h, index_t first) {
    S* to = vectors;
    for (int k = 0; k < begin[z.experts]; ++k) {
      S const* const from = h.column(first + entries[k].token) + entries[k].row;
      for (index_t j = 0; j < z.rank; ++j) *to++ = s * from[j];
    }
  }
};

// Copies experts in the order of a kernel, a few a task.
template <class S, class Copy>
void copy_experts(context& ctx, routing_sizes const& z, simd::expert_columns<S> a, index_t size,
                  S* copied, Copy const& copy_some) {
  if (z.experts == 0) return;
  index_t const per_task = (z.experts + ctx.workers.size() - 1) / ctx.workers.size();
  ctx.workers.for_each_index((z.experts + per_task - 1) / per_task, [&](index_t task, int) {
    index_t const first = task * per_task;
    auto part = a;
    part.data += first * z.rank * a.col_stride;
    copy_some(part, z.rank, std::min(per_task, z.experts - first), copied + first * size);
  });
}

template <class S>
void zero_empty_slots(routing_sizes const& z, matrix_ref<int const> ids, index_t first,
                      index_t count, matrix_ref<S> h) {
  for (index_t t = first; t < first + count; ++t)
    for (index_t i = 0; i < z.slots; ++i)
      if (ids(i, t) < 0 || z.width == 0) std::fill_n(h.column(t) + i * z.rank, z.rank, S(0));
}

template <class S>
void routed_dots(context& ctx, routing_sizes const& z, matrix_ref<int const> ids,
                 simd::expert_columns<S> a, matrix_ref<S const> x, matrix_ref<S> h) {
  index_t const size = simd::routed_dots_size<S>(z.width, z.rank, 1);
  auto copied = scratch<S>(ctx, size, z.experts);
  copy_experts(ctx, z, a, size, copied.data(), simd::copy_for_dots<S>);
  index_t const tasks = (z.tokens + routed_block - 1) / routed_block;
  index_t const room = sorted_block<S>::ints(z, routed_block);
  auto memory = scratch<int>(ctx, room, std::min<index_t>(tasks, ctx.workers.size()));
  ctx.workers.for_each_index(tasks, [&](index_t task, int worker) {
    index_t const first = task * routed_block, count = std::min(routed_block, z.tokens - first);
    sorted_block<S> block(z, memory.data() + worker * room, nullptr);
    block.sort(z, ids, first, count);
    zero_empty_slots(z, ids, first, count, h);
    index_t const next = std::min(routed_block, z.tokens - first - count);
    index_t const steps = simd::routed_dots_steps<S>(z.width, z.rank, block.begin[z.experts]);
    simd::routed_dots(z.width, z.rank, z.experts, copied.data(), block.begin, block.entries,
                      x.column(first), x.stride, h.column(first), h.stride,
                      simd::line_walk(x.column(first + count), z.width, next, x.stride, steps));
  });
}

template <class S>
void routed_sums(context& ctx, routing_sizes const& z, S s, matrix_ref<int const> ids,
                 simd::expert_columns<S> a, matrix_ref<S const> h, bool from_zero,
                 matrix_ref<S> y) {
  index_t const size = simd::routed_sums_size<S>(z.width, z.rank, 1);
  auto copied = scratch<S>(ctx, size, z.experts);
  copy_experts(ctx, z, a, size, copied.data(), simd::copy_for_sums<S>);
  index_t const tasks = (z.tokens + routed_block - 1) / routed_block;
  index_t const workers = std::min<index_t>(tasks, ctx.workers.size());
  index_t const room = sorted_block<S>::ints(z, routed_block);
  index_t const vector_room = sorted_block<S>::vector_size(z, routed_block);
  auto memory = scratch<int>(ctx, room, workers);
  auto vectors = scratch<S>(ctx, vector_room, workers);
  ctx.workers.for_each_index(tasks, [&](index_t task, int worker) {
    index_t const first = task * routed_block, count = std::min(routed_block, z.tokens - first);
    sorted_block<S> block(z, memory.data() + worker * room, vectors.data() + worker * vector_room);
    block.sort(z, ids, first, count);
    block.gather(z, s, h, first);
    simd::routed_sums(z.width, z.rank, z.experts, copied.data(), block.begin, block.entries,
                      block.repeats, block.vectors, from_zero, y.column(first), y.stride, count,
                      std::min(routed_block, z.tokens - first - count));
  });
}

// put(rows of the strip, its first row, sums) adds the sums of a strip to their target.
template <class S, class Put>
void routed_outer(context& ctx, routing_sizes const& z, S s, matrix_ref<int const> ids,
                  matrix_ref<S const> x, matrix_ref<S const> h, Put const& put) {
  index_t const blocks = (z.tokens + outer_block - 1) / outer_block;
  index_t const room = sorted_block<S>::ints(z, outer_block);
  index_t const vector_room = sorted_block<S>::vector_size(z, outer_block);
  auto memory = scratch<int>(ctx, room, blocks);
  auto vectors = scratch<S>(ctx, vector_room, blocks);
  auto const block_of = [&](index_t i) {
    return sorted_block<S>(z, memory.data() + i * room, vectors.data() + i * vector_room);
  };
  auto const tokens_of = [&](index_t i) {
    return std::clamp<index_t>(z.tokens - i * outer_block, 0, outer_block);
  };
  ctx.workers.for_each_index(blocks, [&](index_t i, int) {
    auto block = block_of(i);
    block.sort(z, ids, i * outer_block, tokens_of(i));
    block.gather(z, s, h, i * outer_block);
  });
  constexpr index_t height = simd::outer_rows<S>;
  index_t const strips = (z.width + height - 1) / height;
  index_t const workers = std::min<index_t>(strips, ctx.workers.size());
  auto copies = scratch<S>(ctx, height * outer_block, 2 * workers);
  auto sums = scratch<S>(ctx, height * z.experts * z.rank, workers);
  // A strip of rows a task: every sum takes its tokens in their order, whoever computes it.
  ctx.workers.for_each_index(strips, [&](index_t strip, int worker) {
    index_t const row = strip * height, rows = std::min(height, z.width - row);
    S* const own = sums.data() + worker * sums.rows();
    std::fill_n(own, sums.rows(), S(0));
    auto const place = [&](index_t i) {
      return copies.data() + (2 * worker + i % 2) * copies.rows();
    };
    auto const copy_of = [&](index_t i) {
      index_t const first = std::min(i * outer_block, z.tokens);
      return simd::strip_copy<S>(rows, tokens_of(i), x.data + first * x.stride + row, x.stride,
                                 place(i));
    };
    copy_of(0).finish();
    for (index_t i = 0; i < blocks; ++i) {
      auto const block = block_of(i);
      auto next = copy_of(i + 1);
      simd::routed_outer(rows, z.rank, z.experts, block.begin, block.entries, place(i),
                         block.vectors, own, next);
      next.finish();
    }
    put(rows, row, own);
  });
}

}  // namespace detail

}  // namespace stiefelx::host
