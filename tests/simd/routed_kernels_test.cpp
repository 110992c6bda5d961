// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels of routed products between guards, with memory of exactly the promised sizes, against sums
// in long double.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/simd/routed_dots.hpp>
#include <stiefelx/simd/routed_outer.hpp>
#include <stiefelx/simd/routed_sums.hpp>
#include <support/guarded.hpp>

namespace {

using stiefelx::matrix_ref;
using stiefelx::simd::native_width;
using stiefelx::simd::routed_entry;
using support::fill_random;
using support::guarded;
using scalars = std::tuple<float, double>;

struct extent {
  std::ptrdiff_t width, experts, rank, slots, tokens;
};

// Widths around registers, strips and stretches of 4 KiB; ranks below, at and above a tile; lists of
// every length that a tile can have.
template <class T>
std::vector<extent> extents() {
  constexpr std::ptrdiff_t w = native_width<T>, deep = 4096 / std::ptrdiff_t{sizeof(T)};
  return {{1, 1, 1, 1, 1},         {w, 2, 4, 1, 3},           {w - 1, 3, 8, 2, 7},
          {w + 1, 1, 3, 1, 5},     {4 * w, 2, 8, 2, 13},      {4 * w + 3, 4, 16, 2, 29},
          {12 * w, 2, 9, 3, 11},   {13 * w + 1, 3, 17, 2, 9}, {deep, 2, 8, 1, 8},
          {deep + 5, 2, 12, 2, 5}, {2 * deep + w, 1, 1, 1, 4}};
}

struct routing {
  std::vector<int> ids, begin;
  std::vector<routed_entry> entries;
  bool repeats;

  explicit routing(extent const& e, bool may_repeat)
      : ids(std::size_t(e.slots * e.tokens)),
        begin(std::size_t(e.experts + 1), -7),
        entries(ids.size()) {
    // An expert of every three goes without a token, and every fifth slot is empty.
    for (std::ptrdiff_t t = 0; t < e.tokens; ++t)
      for (std::ptrdiff_t i = 0; i < e.slots; ++i) {
        std::ptrdiff_t const n = t * e.slots + i;
        std::ptrdiff_t const expert = may_repeat ? t * t / 2 % e.experts : (t + i) % e.experts;
        bool const empty = n % 5 == 4 || (e.experts > 2 && expert % 3 == 1);
        ids[std::size_t(n)] = empty ? -1 : static_cast<int>(expert);
      }
    repeats = stiefelx::simd::sort_by_expert({ids.data(), e.slots, e.tokens, e.slots}, 0, e.tokens,
                                             e.rank, e.experts, begin.data(), entries.data());
  }

  int expert(extent const& e, std::ptrdiff_t i, std::ptrdiff_t t) const {
    return ids[std::size_t(t * e.slots + i)];
  }
};

template <class T>
struct problem {
  extent e;
  routing r;
  guarded<T> a, x, h;
  guarded<T> vectors;

  problem(extent const& sizes, bool may_repeat, std::ptrdiff_t gap, std::ptrdiff_t shift)
      : e(sizes),
        r(sizes, may_repeat),
        a(e.width, e.experts * e.rank, gap, shift),
        x(e.width, e.tokens, gap, shift),
        h(e.slots * e.rank, e.tokens, gap, shift),
        vectors(e.rank, std::max(1, r.begin.back()), 0, shift) {
    fill_random(a);
    fill_random(x);
    for (std::ptrdiff_t k = 0; k < r.begin.back(); ++k)
      for (std::ptrdiff_t j = 0; j < e.rank; ++j)
        vectors(j, k) = T((3 * k + 5 * j) % 17 - 8) / T(8);
  }
};

// Whether |found - sum| is within the rounding of `terms` products and sums.
template <class T>
bool is_near(T found, long double sum, long double magnitude, std::ptrdiff_t terms) {
  return std::abs(found - sum) <=
         static_cast<long double>(terms + 1) * std::numeric_limits<T>::epsilon() * magnitude;
}

// The memory of a matrix by columns, or of its transpose by rows.
template <class T>
stiefelx::simd::expert_columns<T> columns_of(guarded<T>& a, guarded<T>& transposed, bool by_rows) {
  if (!by_rows) return {a.data(), 1, a.stride, a.rows};
  for (std::ptrdiff_t j = 0; j < a.cols; ++j)
    for (std::ptrdiff_t i = 0; i < a.rows; ++i) transposed(j, i) = a(i, j);
  return {transposed.data(), transposed.stride, 1, a.rows};
}

// Elements at a multiple of a register's size, between guards.
template <class T>
guarded<T> aligned_memory(std::ptrdiff_t size) {
  guarded<T> memory(size, 1, 0, 0);
  memory.offset = stiefelx::simd::align_to_register(memory.data()) - memory.data();
  return memory;
}

template <class T>
void check_dots(problem<T>& p, bool by_rows) {
  extent const& e = p.e;
  guarded<T> transposed(p.a.cols, p.a.rows, 1, 1);
  auto copied = aligned_memory<T>(stiefelx::simd::routed_dots_size<T>(e.width, e.rank, e.experts));
  stiefelx::simd::copy_for_dots(columns_of(p.a, transposed, by_rows), e.rank, e.experts,
                                copied.data());
  stiefelx::simd::routed_dots(e.width, e.rank, e.experts, copied.data(), p.r.begin.data(),
                              p.r.entries.data(), p.x.data(), p.x.stride, p.h.data(), p.h.stride,
                              stiefelx::simd::line_walk());
  BOOST_TEST(copied.is_intact());
  BOOST_TEST(p.h.is_intact());
  std::ptrdiff_t wrong = 0;
  for (std::ptrdiff_t t = 0; t < e.tokens; ++t)
    for (std::ptrdiff_t row = 0; row < e.slots * e.rank; ++row) {
      int const expert = p.r.expert(e, row / e.rank, t);
      // An empty slot keeps its signaling NaN.
      if (expert < 0) {
        if (std::memcmp(&p.h(row, t), &support::guard<T>, sizeof(T)) != 0) ++wrong;
        continue;
      }
      long double sum = 0, magnitude = 0;
      for (std::ptrdiff_t i = 0; i < e.width; ++i) {
        long double const term =
            static_cast<long double>(p.a(i, expert * e.rank + row % e.rank)) * p.x(i, t);
        sum += term;
        magnitude += std::abs(term);
      }
      if (!is_near(p.h(row, t), sum, magnitude, e.width)) ++wrong;
    }
  BOOST_TEST(wrong == 0);
}

template <class T>
void check_sums(problem<T>& p, bool by_rows, bool from_zero) {
  extent const& e = p.e;
  guarded<T> transposed(p.a.cols, p.a.rows, 1, 1), before(e.width, e.tokens, 0, 0);
  auto copied = aligned_memory<T>(stiefelx::simd::routed_sums_size<T>(e.width, e.rank, e.experts));
  stiefelx::simd::copy_for_sums(columns_of(p.a, transposed, by_rows), e.rank, e.experts,
                                copied.data());
  for (std::ptrdiff_t t = 0; t < e.tokens; ++t)
    for (std::ptrdiff_t i = 0; i < e.width; ++i) {
      if (from_zero) p.x(i, t) = std::numeric_limits<T>::quiet_NaN();
      before(i, t) = from_zero ? T{0} : p.x(i, t);
    }
  stiefelx::simd::routed_sums(e.width, e.rank, e.experts, copied.data(), p.r.begin.data(),
                              p.r.entries.data(), p.r.repeats, p.vectors.data(), from_zero,
                              p.x.data(), p.x.stride, e.tokens, 0);
  BOOST_TEST(copied.is_intact());
  BOOST_TEST(p.vectors.is_intact());
  BOOST_TEST(p.x.is_intact());
  std::ptrdiff_t wrong = 0;
  std::vector<long double> sum, magnitude;
  for (std::ptrdiff_t t = 0; t < e.tokens; ++t) {
    sum.assign(std::size_t(e.width), 0);
    magnitude = sum;
    for (std::ptrdiff_t n = 0; n < e.experts; ++n)
      for (int k = p.r.begin[std::size_t(n)]; k < p.r.begin[std::size_t(n + 1)]; ++k)
        for (std::ptrdiff_t j = 0; p.r.entries[std::size_t(k)].token == t && j < e.rank; ++j)
          for (std::ptrdiff_t i = 0; i < e.width; ++i) {
            long double const term =
                static_cast<long double>(p.a(i, n * e.rank + j)) * p.vectors(j, k);
            sum[std::size_t(i)] += term;
            magnitude[std::size_t(i)] += std::abs(term);
          }
    for (std::ptrdiff_t i = 0; i < e.width; ++i) {
      long double const start = before(i, t);
      if (!is_near(p.x(i, t), start + sum[std::size_t(i)],
                   std::abs(start) + magnitude[std::size_t(i)], e.rank * e.slots))
        ++wrong;
    }
  }
  BOOST_TEST(wrong == 0);
}

template <class T>
void check_outer(problem<T>& p) {
  extent const& e = p.e;
  constexpr std::ptrdiff_t height = stiefelx::simd::outer_rows<T>;
  guarded<T> a(e.width, e.experts * e.rank, 3, 1), b(e.experts * e.rank, e.width, 3, 1);
  for (std::ptrdiff_t j = 0; j < a.cols; ++j)
    for (std::ptrdiff_t i = 0; i < e.width; ++i) a(i, j) = b(j, i) = T((i + 7 * j) % 5);
  for (std::ptrdiff_t row = 0; row < e.width; row += height) {
    std::ptrdiff_t const rows = std::min(height, e.width - row);
    auto strip = aligned_memory<T>(height * e.tokens), sums = aligned_memory<T>(height * a.cols);
    auto unused = aligned_memory<T>(height * e.tokens);
    std::fill_n(sums.data(), height * a.cols, T(0));
    stiefelx::simd::strip_copy<T> copying(rows, e.tokens, p.x.data() + row, p.x.stride,
                                          strip.data());
    copying.finish();
    // Beside the products the same strip is copied once more.
    stiefelx::simd::strip_copy<T> again(rows, e.tokens, p.x.data() + row, p.x.stride,
                                        unused.data());
    stiefelx::simd::routed_outer(rows, e.rank, e.experts, p.r.begin.data(), p.r.entries.data(),
                                 strip.data(), p.vectors.data(), sums.data(), again);
    again.finish();
    stiefelx::simd::add_strip(rows, a.cols, sums.data(), a.data() + row, a.stride);
    stiefelx::simd::add_strip_transposed(rows, a.cols, sums.data(), b.data() + row * b.stride,
                                         b.stride);
    BOOST_TEST(strip.is_intact());
    BOOST_TEST(unused.is_intact());
    BOOST_TEST(sums.is_intact());
    std::ptrdiff_t different = 0;
    for (std::ptrdiff_t t = 0; t < e.tokens; ++t)
      for (std::ptrdiff_t i = 0; i < rows; ++i)
        if (unused(t * height + i, 0) != p.x(row + i, t)) ++different;
    // Zeros, and not what lies behind the last row, fill the last pack.
    constexpr std::ptrdiff_t w = native_width<T>;
    for (std::ptrdiff_t t = 0; t < e.tokens; ++t)
      for (std::ptrdiff_t i = rows; i < (rows + w - 1) / w * w; ++i)
        if (unused(t * height + i, 0) != 0) ++different;
    BOOST_TEST(different == 0);
  }
  BOOST_TEST(a.is_intact());
  BOOST_TEST(b.is_intact());
  std::ptrdiff_t wrong = 0;
  for (std::ptrdiff_t n = 0; n < e.experts; ++n)
    for (std::ptrdiff_t j = 0; j < e.rank; ++j)
      for (std::ptrdiff_t i = 0; i < e.width; ++i) {
        std::ptrdiff_t const col = n * e.rank + j;
        long double sum = T((i + 7 * col) % 5), magnitude = sum;
        for (int k = p.r.begin[std::size_t(n)]; k < p.r.begin[std::size_t(n + 1)]; ++k) {
          long double const term =
              static_cast<long double>(p.x(i, p.r.entries[std::size_t(k)].token)) * p.vectors(j, k);
          sum += term;
          magnitude += std::abs(term);
        }
        std::ptrdiff_t const terms = p.r.begin[std::size_t(n + 1)] - p.r.begin[std::size_t(n)] + 1;
        if (!is_near(a(i, col), sum, magnitude, terms)) ++wrong;
        if (std::memcmp(&a(i, col), &b(col, i), sizeof(T)) != 0) ++wrong;
      }
  BOOST_TEST(wrong == 0);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(routed_kernels)

BOOST_AUTO_TEST_CASE(entries_are_sorted_by_expert_then_token_then_slot) {
  for (bool const may_repeat : {false, true})
    for (extent const& e : extents<float>()) {
      routing const r(e, may_repeat);
      std::ptrdiff_t filled = 0, wrong = 0;
      bool repeats = false;
      for (std::ptrdiff_t t = 0; t < e.tokens; ++t)
        for (std::ptrdiff_t i = 0; i < e.slots; ++i) {
          filled += r.expert(e, i, t) >= 0;
          for (std::ptrdiff_t j = 0; j < i; ++j)
            repeats |= r.expert(e, i, t) >= 0 && r.expert(e, i, t) == r.expert(e, j, t);
        }
      BOOST_TEST(r.begin.front() == 0);
      BOOST_TEST(r.begin.back() == filled);
      BOOST_TEST(r.repeats == repeats);
      for (std::ptrdiff_t n = 0; n < e.experts; ++n)
        for (int k = r.begin[std::size_t(n)]; k < r.begin[std::size_t(n + 1)]; ++k) {
          routed_entry const q = r.entries[std::size_t(k)];
          if (q.row % e.rank != 0 || r.expert(e, q.row / e.rank, q.token) != n) ++wrong;
          if (k == r.begin[std::size_t(n)]) continue;
          routed_entry const p = r.entries[std::size_t(k - 1)];
          if (p.token > q.token || (p.token == q.token && p.row >= q.row)) ++wrong;
        }
      BOOST_TEST(wrong == 0);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(routed_kernels_agree_with_long_double_sums, T, scalars) {
  for (extent const& e : extents<T>())
    for (bool const odd : {false, true})
      BOOST_TEST_CONTEXT("d=" << e.width << ", E=" << e.experts << ", r=" << e.rank
                              << ", k=" << e.slots << ", T=" << e.tokens << ", odd " << odd) {
        problem<T> p(e, odd, odd ? 3 : 0, odd ? 1 : 0);
        check_dots(p, odd);
        check_outer(p);
        check_sums(p, odd, false);
        check_sums(p, odd, true);
        BOOST_TEST(p.a.is_intact());
      }
}

// A token's slot depends on its column of x and its expert alone, whichever tile it falls into.
BOOST_AUTO_TEST_CASE_TEMPLATE(dots_have_the_same_bits_in_every_tile, T, scalars) {
  extent const all{6 * native_width<T> + 3, 1, 11, 1, 7};
  problem<T> whole(all, false, 0, 0);
  std::fill(whole.r.ids.begin(), whole.r.ids.end(), 0);
  whole.r.repeats = stiefelx::simd::sort_by_expert({whole.r.ids.data(), 1, 7, 1}, 0, 7, all.rank, 1,
                                                   whole.r.begin.data(), whole.r.entries.data());
  check_dots(whole, false);
  std::ptrdiff_t different = 0;
  for (std::ptrdiff_t t = 0; t < all.tokens; ++t) {
    problem<T> single({all.width, 1, all.rank, 1, 1}, false, 0, 0);
    for (std::ptrdiff_t j = 0; j < all.rank; ++j)
      for (std::ptrdiff_t i = 0; i < all.width; ++i) single.a(i, j) = whole.a(i, j);
    for (std::ptrdiff_t i = 0; i < all.width; ++i) single.x(i, 0) = whole.x(i, t);
    check_dots(single, true);
    for (std::ptrdiff_t j = 0; j < all.rank; ++j)
      if (std::memcmp(&single.h(j, 0), &whole.h(j, t), sizeof(T)) != 0) ++different;
  }
  BOOST_TEST(different == 0);
}

BOOST_AUTO_TEST_SUITE_END()
