// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/simd/pack.hpp>

/// \file
/// \brief W small matrices to and from lane order: entry (i, j) of all of them in one pack.
/// \ingroup simd

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief Up to W matrices of one shape at equal distances in memory.
/// \ingroup simd
///
/// Lane k is matrix k; lanes without a matrix hold copies of the last one when they are read and
/// are not written.
/// \tparam T  float or double, const where the matrices are only read
/// \tparam W  number of lanes
template <class T, std::ptrdiff_t W>
struct item_group {
  T* data;                ///< first entry of the first matrix
  std::ptrdiff_t stride;  ///< entries from one column to the next
  std::ptrdiff_t step;    ///< entries from one matrix to the next
  std::ptrdiff_t items;   ///< number of matrices, 1 to W

  /// A view that may be written serves where one is only read.
  operator item_group<T const, W>() const
    requires(!std::is_const_v<T>)
  {
    return {data, stride, step, items};
  }
};

/// \brief Transposes W packs: lane i of pack j becomes lane j of pack i.
/// \ingroup simd
///
/// First inside blocks of 16 bytes, then the blocks, because instruction sets shuffle within a block
/// at least twice as fast as across. W log2(W) shuffles.
/// \param[in,out] v  W packs
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline void transpose(pack<T, W>* v);

/// \brief Brings matrices into lane order.
/// \ingroup simd
/// \param[in]  n, p       rows and columns
/// \param[in]  a          the matrices
/// \param[out] to         n x p packs, column-major
/// \param[in]  to_stride  distance of its columns
template <class Team, class N, class P, class T, std::ptrdiff_t W>
void read_item(Team const&, N n, P p, item_group<T, W> a, pack<std::remove_const_t<T>, W>* to,
               std::ptrdiff_t to_stride);

/// \brief Brings the sums of two matrices each into lane order.
/// \ingroup simd
///
/// The sums are formed in y first: reading and writing memory in its own order keeps the hardware's
/// prefetchers at work, which lose track of 2 W matrices read side by side.
/// \param[in]  team       lanes; one
/// \param[in]  n, p       rows and columns
/// \param[in]  a          matrices
/// \param[in]  b          as many
/// \param[out] y          as many, their sums; may be a
/// \param[out] to         n x p packs, column-major
/// \param[in]  to_stride  distance of its columns
template <class Team, class N, class P, class T, std::ptrdiff_t W>
void read_sum(Team const& team, N n, P p, std::type_identity_t<item_group<T const, W>> a,
              std::type_identity_t<item_group<T const, W>> b, item_group<T, W> y, pack<T, W>* to,
              std::ptrdiff_t to_stride);

/// \brief Brings matrices back from lane order.
/// \ingroup simd
/// \param[in]  n, p         rows and columns
/// \param[in]  from         n x p packs, column-major
/// \param[in]  from_stride  distance of its columns
/// \param[out] a            the matrices
template <class Team, class N, class P, class T, std::ptrdiff_t W>
void write_item(Team const&, N n, P p, pack<T, W> const* from, std::ptrdiff_t from_stride,
                item_group<T, W> a);

namespace detail {

// out = the lanes of a and b that Index names, where lane k of b is W + k.
template <class T, std::ptrdiff_t W, int... Index>
[[gnu::always_inline]] inline pack<T, W> shuffle(pack<T, W> a, pack<T, W> b,
                                                 std::integer_sequence<int, Index...>) {
  return {__builtin_shufflevector(a.lanes, b.lanes, Index...)};
}

// Lane l of both interleavings of a and b within blocks of Q lanes, in units of U lanes.
template <int W, int Q, int U, int High>
constexpr int interleaved_lane(int l) {
  int const block = l / Q * Q, unit = l % Q / U;
  return block + High * Q / 2 + unit / 2 * U + l % U + (unit % 2 == 1 ? W : 0);
}

template <int Q, int U, int High, class T, std::ptrdiff_t W, int... L>
[[gnu::always_inline]] inline pack<T, W> interleave_blocks(pack<T, W> a, pack<T, W> b,
                                                           std::integer_sequence<int, L...>) {
  return shuffle(
      a, b, std::integer_sequence<int, interleaved_lane<static_cast<int>(W), Q, U, High>(L)...>{});
}

// The blocks of Q lanes of a, then of b, that have an even (odd) number.
template <int Q, int Odd, class T, std::ptrdiff_t W, int... L>
[[gnu::always_inline]] inline pack<T, W> every_other_block(pack<T, W> a, pack<T, W> b,
                                                           std::integer_sequence<int, L...>) {
  return shuffle(a, b, std::integer_sequence<int, (L / Q * 2 + Odd) * Q + L % Q...>{});
}

// Even (odd) blocks of Q lanes, a's and b's in turn.
template <int Q, int Odd, class T, std::ptrdiff_t W, int... L>
[[gnu::always_inline]] inline pack<T, W> alternate_blocks(pack<T, W> a, pack<T, W> b,
                                                          std::integer_sequence<int, L...>) {
  constexpr int w = static_cast<int>(W);
  return shuffle(a, b,
                 std::integer_sequence<int, ((L / Q / 2 * 2 + Odd) * Q + L % Q +
                                             (L / Q % 2 == 1 ? w : 0))...>{});
}

// v[0], v[Distance], ..., Count packs of Count blocks each: transposes the grid of blocks.
template <int Count, int Q, int Distance, class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline void transpose_blocks(pack<T, W>* v) {
  constexpr std::make_integer_sequence<int, static_cast<int>(W)> lanes{};
  if constexpr (Count == 2) {
    pack<T, W> const a = v[0], b = v[Distance];
    v[0] = every_other_block<Q, 0>(a, b, lanes);
    v[Distance] = every_other_block<Q, 1>(a, b, lanes);
  } else if constexpr (Count == 4) {
    pack<T, W> const a = every_other_block<Q, 0>(v[0], v[Distance], lanes);
    pack<T, W> const b = every_other_block<Q, 1>(v[0], v[Distance], lanes);
    pack<T, W> const c = every_other_block<Q, 0>(v[2 * Distance], v[3 * Distance], lanes);
    pack<T, W> const d = every_other_block<Q, 1>(v[2 * Distance], v[3 * Distance], lanes);
    v[0] = every_other_block<Q, 0>(a, c, lanes);
    v[Distance] = every_other_block<Q, 0>(b, d, lanes);
    v[2 * Distance] = every_other_block<Q, 1>(a, c, lanes);
    v[3 * Distance] = every_other_block<Q, 1>(b, d, lanes);
  } else {
    static_assert(Count == 1, "a pack is at most four blocks of 16 bytes");
  }
}

// Transposes Q x Q entries inside each block for Q packs.
template <int Q, class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline void transpose_inside(pack<T, W>* v) {
  constexpr std::make_integer_sequence<int, static_cast<int>(W)> lanes{};
  if constexpr (Q == 2) {
    pack<T, W> const a = v[0], b = v[1];
    v[0] = interleave_blocks<Q, 1, 0>(a, b, lanes);
    v[1] = interleave_blocks<Q, 1, 1>(a, b, lanes);
  } else {
    static_assert(Q == 4);
    pack<T, W> const a = interleave_blocks<Q, 1, 0>(v[0], v[1], lanes);
    pack<T, W> const b = interleave_blocks<Q, 1, 1>(v[0], v[1], lanes);
    pack<T, W> const c = interleave_blocks<Q, 1, 0>(v[2], v[3], lanes);
    pack<T, W> const d = interleave_blocks<Q, 1, 1>(v[2], v[3], lanes);
    v[0] = interleave_blocks<Q, 2, 0>(a, c, lanes);
    v[1] = interleave_blocks<Q, 2, 1>(a, c, lanes);
    v[2] = interleave_blocks<Q, 2, 0>(b, d, lanes);
    v[3] = interleave_blocks<Q, 2, 1>(b, d, lanes);
  }
}

// Whether W / 2 entries of all W lanes are transposed as well: packs of four blocks.
template <class T, std::ptrdiff_t W>
inline constexpr bool has_half_chunks = W * std::ptrdiff_t{sizeof(T)} == 64;

// Transposes the W / 2 lanes of both halves of W / 2 packs, each half for itself.
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline void transpose_halves(pack<T, W>* v) {
  constexpr std::make_integer_sequence<int, static_cast<int>(W)> lanes{};
  constexpr int q = 16 / static_cast<int>(sizeof(T));
  transpose_inside<q>(v);
  transpose_inside<q>(v + q);
  unroll<q>([&](std::ptrdiff_t c) __attribute__((always_inline)) {
    pack<T, W> const a = v[c], b = v[q + c];
    v[c] = alternate_blocks<q, 0>(a, b, lanes);
    v[q + c] = alternate_blocks<q, 1>(a, b, lanes);
  });
}

// a's lanes, then b's.
template <class T, std::ptrdiff_t H, int... L>
[[gnu::always_inline]] inline pack<T, 2 * H> join(pack<T, H> a, pack<T, H> b,
                                                  std::integer_sequence<int, L...>) {
  return {__builtin_shufflevector(a.lanes, b.lanes, L...)};
}

// Lanes First, First + 1, ... of a.
template <int First, class T, std::ptrdiff_t W, int... L>
[[gnu::always_inline]] inline pack<T, W / 2> half_of(pack<T, W> a,
                                                     std::integer_sequence<int, L...>) {
  return {__builtin_shufflevector(a.lanes, a.lanes, (First + L)...)};
}

// What is left of a run behind whole chunks of W: a half chunk, a whole one, or entry by entry.
enum class chunk { half, whole, single };

// Runs f(kind, first) over the chunks of a run; the last one overlaps the one before. First is the kind
// of those that run as long as they fit.
template <class T, std::ptrdiff_t W, chunk First, class F>
[[gnu::always_inline]] inline void for_each_chunk(std::ptrdiff_t length, F const& f) {
  using whole = std::integral_constant<chunk, chunk::whole>;
  std::ptrdiff_t e = 0;
  if constexpr (First == chunk::half && has_half_chunks<T, W>) {
    for (; e + W / 2 <= length; e += W / 2) f(std::integral_constant<chunk, chunk::half>{}, e);
  }
  for (; e + W <= length; e += W) f(whole{}, e);
  if (e == length) return;
  if constexpr (has_half_chunks<T, W>) {
    if (length - e <= W / 2 && length >= W / 2)
      return f(std::integral_constant<chunk, chunk::half>{}, length - W / 2);
  }
  if (length > W)
    f(whole{}, length - W);
  else
    f(std::integral_constant<chunk, chunk::single>{}, e);
}

// Brings entries first, first + 1, ... of every lane into lane order; lane(k) points to lane k's run.
template <class T, std::ptrdiff_t W, class Lane>
[[gnu::always_inline]] inline void read_run(std::ptrdiff_t length, Lane const& lane,
                                            pack<T, W>* to) {
  constexpr std::make_integer_sequence<int, static_cast<int>(W)> lanes{};
  // Joining two halves while they are loaded takes the place of one stage of shuffles.
  for_each_chunk<T, W, chunk::half>(
      length, [&](auto kind, std::ptrdiff_t e) __attribute__((always_inline)) {
        if constexpr (kind == chunk::whole) {
          pack<T, W> v[std::size_t{W}];
          unroll<W>([&](std::ptrdiff_t k)
                        __attribute__((always_inline)) { v[k] = pack<T, W>::load(lane(k) + e); });
          transpose(v);
          unroll<W>([&](std::ptrdiff_t k) __attribute__((always_inline)) { to[e + k] = v[k]; });
        } else if constexpr (kind == chunk::half) {
          constexpr std::ptrdiff_t h = W / 2;
          pack<T, W> v[std::size_t{h}];
          unroll<h>([&](std::ptrdiff_t k) __attribute__((always_inline)) {
            v[k] = join(pack<T, h>::load(lane(k) + e), pack<T, h>::load(lane(k + h) + e), lanes);
          });
          transpose_halves(v);
          unroll<h>([&](std::ptrdiff_t k) __attribute__((always_inline)) { to[e + k] = v[k]; });
        } else {
          for (; e < length; ++e) {
            T values[std::size_t{W}];
            for (std::ptrdiff_t k = 0; k < W; ++k) values[k] = lane(k)[e];
            to[e] = pack<T, W>::load(values);
          }
        }
      });
}

// The way back, for the lanes below `items`.
template <class T, std::ptrdiff_t W, class Lane>
[[gnu::always_inline]] inline void write_run(std::ptrdiff_t length, Lane const& lane,
                                             std::ptrdiff_t items, pack<T, W> const* from) {
  for_each_chunk<T, W, chunk::whole>(
      length, [&](auto kind, std::ptrdiff_t e) __attribute__((always_inline)) {
        if constexpr (kind == chunk::whole) {
          pack<T, W> v[std::size_t{W}];
          unroll<W>([&](std::ptrdiff_t k) __attribute__((always_inline)) { v[k] = from[e + k]; });
          transpose(v);
          unroll<W>([&](std::ptrdiff_t k) __attribute__((always_inline)) {
            if (k < items) v[k].store(lane(k) + e);
          });
        } else if constexpr (kind == chunk::half) {
          constexpr std::ptrdiff_t h = W / 2;
          constexpr std::make_integer_sequence<int, static_cast<int>(h)> lanes{};
          pack<T, W> v[std::size_t{h}];
          unroll<h>([&](std::ptrdiff_t k) __attribute__((always_inline)) { v[k] = from[e + k]; });
          transpose_halves(v);
          unroll<h>([&](std::ptrdiff_t k) __attribute__((always_inline)) {
            if (k < items) half_of<0>(v[k], lanes).store(lane(k) + e);
            if (k + h < items) half_of<static_cast<int>(h)>(v[k], lanes).store(lane(k + h) + e);
          });
        } else {
          for (; e < length; ++e)
            for (std::ptrdiff_t k = 0; k < items; ++k) lane(k)[e] = from[e].lanes[k];
        }
      });
}

// out = a + b; out may be a.
template <std::ptrdiff_t W, class T>
inline void add_run(std::ptrdiff_t length, T const* a, T const* b, T* out) {
  std::ptrdiff_t e = 0;
  for (; e + W <= length; e += W)
    (pack<T, W>::load(a + e) + pack<T, W>::load(b + e)).store(out + e);
  for (; e < length; ++e) out[e] = a[e] + b[e];
}

}  // namespace detail

template <class T, std::ptrdiff_t W>
inline void transpose(pack<T, W>* v) {
  constexpr int q = std::min<int>(static_cast<int>(W), 16 / static_cast<int>(sizeof(T)));
  constexpr int blocks = static_cast<int>(W) / q;
  unroll<blocks>([&](std::ptrdiff_t g)
                     __attribute__((always_inline)) { detail::transpose_inside<q>(v + g * q); });
  // Now pack g q + c holds in block b the entries of rows g q, ..., g q + q - 1 in column b q + c.
  unroll<q>([&](std::ptrdiff_t c)
                __attribute__((always_inline)) { detail::transpose_blocks<blocks, q, q>(v + c); });
}

template <class Team, class N, class P, class T, std::ptrdiff_t W>
void read_item(Team const&, N n, P p, item_group<T, W> a, pack<std::remove_const_t<T>, W>* to,
               std::ptrdiff_t to_stride) {
  if (n * p == 1 && a.step == 1 && a.items == W) {
    *to = pack<std::remove_const_t<T>, W>::load(a.data);
    return;
  }
  bool const flat = a.stride == n && to_stride == n;
  std::ptrdiff_t const runs = flat ? (p > 0 ? 1 : 0) : std::ptrdiff_t{p};
  for (std::ptrdiff_t r = 0; r < runs; ++r) {
    T* const first = a.data + r * a.stride;
    auto const lane = [&](std::ptrdiff_t k) __attribute__((always_inline)) {
      return first + std::min(k, a.items - 1) * a.step;
    };
    detail::read_run<std::remove_const_t<T>, W>(flat ? n * p : std::ptrdiff_t{n}, lane,
                                                to + r * to_stride);
  }
}

template <class Team, class N, class P, class T, std::ptrdiff_t W>
void read_sum(Team const& team, N n, P p, std::type_identity_t<item_group<T const, W>> a,
              std::type_identity_t<item_group<T const, W>> b, item_group<T, W> y, pack<T, W>* to,
              std::ptrdiff_t to_stride) {
  std::ptrdiff_t const size = n * p;
  bool const flat = a.stride == n && b.stride == n && y.stride == n;
  if (flat && a.step == size && b.step == size && y.step == size) {
    detail::add_run<W>(y.items * size, a.data, b.data, y.data);
  } else {
    for (std::ptrdiff_t k = 0; k < y.items; ++k)
      for (std::ptrdiff_t j = 0; j < p; ++j)
        detail::add_run<W>(n, a.data + k * a.step + j * a.stride,
                           b.data + k * b.step + j * b.stride, y.data + k * y.step + j * y.stride);
  }
  read_item(team, n, p, y, to, to_stride);
}

template <class Team, class N, class P, class T, std::ptrdiff_t W>
void write_item(Team const&, N n, P p, pack<T, W> const* from, std::ptrdiff_t from_stride,
                item_group<T, W> a) {
  if (n * p == 1 && a.step == 1 && a.items == W) return from->store(a.data);
  bool const flat = a.stride == n && from_stride == n;
  std::ptrdiff_t const runs = flat ? (p > 0 ? 1 : 0) : std::ptrdiff_t{p};
  for (std::ptrdiff_t r = 0; r < runs; ++r) {
    T* const first = a.data + r * a.stride;
    auto const lane = [&](std::ptrdiff_t k)
                          __attribute__((always_inline)) { return first + k * a.step; };
    detail::write_run<T, W>(flat ? n * p : std::ptrdiff_t{n}, lane, a.items,
                            from + r * from_stride);
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
