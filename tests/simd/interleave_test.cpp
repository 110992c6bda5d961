// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

#include <stiefelx/simd/interleave.hpp>
#include <stiefelx/team/team.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::serial_team;
using stiefelx::simd::item_group;
using stiefelx::simd::pack;

// Whole registers of 16, 32 and 64 bytes.
using packs = std::tuple<pack<float, 4>, pack<float, 8>, pack<float, 16>, pack<double, 2>,
                         pack<double, 4>, pack<double, 8>>;

template <class Pack>
struct traits;

template <class T, std::ptrdiff_t W>
struct traits<pack<T, W>> {
  using scalar = T;
  static constexpr std::ptrdiff_t width = W;
};

template <class Pack>
typename traits<Pack>::scalar lane(Pack const& a, std::ptrdiff_t i) {
  return a.lanes[i];
}

/// A stack of W n x p matrices with a gap between columns and one between matrices, in guarded memory.
template <class Pack>
struct items {
  using T = typename traits<Pack>::scalar;
  static constexpr std::ptrdiff_t w = traits<Pack>::width;

  std::ptrdiff_t n, p, gap, count;
  support::guarded<T> memory;

  items(std::ptrdiff_t rows, std::ptrdiff_t cols, std::ptrdiff_t between, std::ptrdiff_t number,
        std::ptrdiff_t shift)
      : n(rows),
        p(cols),
        gap(between),
        count(number),
        memory(rows, cols * number, between, shift) {}

  item_group<T, w> group() { return {memory.data(), n + gap, (n + gap) * p, count}; }
  T& at(std::ptrdiff_t k, std::ptrdiff_t i, std::ptrdiff_t j) { return memory(i, k * p + j); }

  /// Every entry names its place.
  void number(T first) {
    for (std::ptrdiff_t k = 0; k < count; ++k)
      for (std::ptrdiff_t j = 0; j < p; ++j)
        for (std::ptrdiff_t i = 0; i < n; ++i) at(k, i, j) = first + T(i + n * (j + p * k));
  }
};

using shape = std::pair<std::ptrdiff_t, std::ptrdiff_t>;
std::vector<shape> const shapes{{0, 0}, {3, 0},  {1, 1},  {2, 1},  {3, 2},  {4, 2}, {8, 3},
                                {5, 5}, {16, 1}, {17, 2}, {25, 3}, {33, 1}, {9, 9}};

/// f(n, p, gap, count, shift, stride of the lane order).
template <class Pack, class F>
void for_each_layout(F const& f) {
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  for (auto const& [n, p] : shapes)
    for (std::ptrdiff_t const gap : {0, 3})
      for (std::ptrdiff_t const count : {std::ptrdiff_t{1}, w - 1, w})
        for (std::ptrdiff_t const padding : {0, 5}) {
          BOOST_TEST_INFO_SCOPE(n << "x" << p << ", gap " << gap << ", " << count << " items");
          f(n, p, gap, count, gap + count % 3, n + padding);
        }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(interleave)

BOOST_AUTO_TEST_CASE_TEMPLATE(transpose_swaps_lane_and_pack, Pack, packs) {
  using scalar = typename traits<Pack>::scalar;
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  Pack v[std::size_t{w}];
  for (std::ptrdiff_t i = 0; i < w; ++i)
    for (std::ptrdiff_t j = 0; j < w; ++j) v[i].lanes[j] = scalar(i * w + j);
  transpose(v);
  for (std::ptrdiff_t i = 0; i < w; ++i)
    for (std::ptrdiff_t j = 0; j < w; ++j) BOOST_TEST(lane(v[i], j) == scalar(j * w + i));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(read_item_puts_matrix_k_into_lane_k, Pack, packs) {
  constexpr std::ptrdiff_t w = traits<Pack>::width;
  for_each_layout<Pack>([](auto n, auto p, auto gap, auto count, auto shift, auto stride) {
    items<Pack> a(n, p, gap, count, shift);
    a.number(1);
    std::vector<Pack> to(std::size_t(stride * p + 1), Pack::broadcast(-1));
    read_item(serial_team{}, n, p, a.group(), to.data(), stride);
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < stride; ++i)
        for (std::ptrdiff_t k = 0; k < w; ++k) {
          // Lanes without a matrix repeat the last one; between the columns nothing is written.
          auto const expected = i < n ? a.at(std::min(k, count - 1), i, j) : -1;
          BOOST_TEST(lane(to[std::size_t(j * stride + i)], k) == expected);
        }
    BOOST_TEST(lane(to.back(), 0) == -1);
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(write_item_brings_back_what_read_item_took, Pack, packs) {
  for_each_layout<Pack>([](auto n, auto p, auto gap, auto count, auto shift, auto stride) {
    items<Pack> a(n, p, gap, count, shift), b(n, p, 3 - gap, count, shift + 1);
    a.number(1);
    b.number(0);
    std::vector<Pack> lanes(std::size_t(stride * p));
    read_item(serial_team{}, n, p, a.group(), lanes.data(), stride);
    write_item(serial_team{}, n, p, lanes.data(), stride, b.group());
    for (std::ptrdiff_t k = 0; k < count; ++k)
      for (std::ptrdiff_t j = 0; j < p; ++j)
        for (std::ptrdiff_t i = 0; i < n; ++i) BOOST_TEST(b.at(k, i, j) == a.at(k, i, j));
    BOOST_TEST(b.memory.is_intact());
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(read_sum_adds_matrix_by_matrix_and_in_place, Pack, packs) {
  for_each_layout<Pack>([](auto n, auto p, auto gap, auto count, auto shift, auto stride) {
    items<Pack> a(n, p, gap, count, shift), b(n, p, 0, count, 1), y(n, p, gap, count, shift);
    a.number(1);
    b.number(1000);
    y.number(0);
    std::vector<Pack> apart(std::size_t(stride * p)), in_place(std::size_t(stride * p));
    read_sum(serial_team{}, n, p, a.group(), b.group(), y.group(), apart.data(), stride);
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        for (std::ptrdiff_t k = 0; k < count; ++k)
          BOOST_TEST(lane(apart[std::size_t(j * stride + i)], k) == a.at(k, i, j) + b.at(k, i, j));
    BOOST_TEST(y.memory.is_intact());
    read_sum(serial_team{}, n, p, a.group(), b.group(), a.group(), in_place.data(), stride);
    for (std::ptrdiff_t j = 0; j < p; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        BOOST_TEST(lane(in_place[std::size_t(j * stride + i)], 0) ==
                   lane(apart[std::size_t(j * stride + i)], 0));
    BOOST_TEST(a.memory.is_intact());
  });
}

BOOST_AUTO_TEST_SUITE_END()
