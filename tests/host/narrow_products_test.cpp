// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Matrices of two bytes an entry on the host: conversion of runs, transfer, and products.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/narrow.hpp>
#include <stiefelx/host/multiply.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "counted_heap.hpp"

namespace {

using namespace support;
using stiefelx::bfloat16;
using stiefelx::float16;
using stiefelx::host::context;

using stored = std::tuple<bfloat16, float16>;
using matrix_f = matrix_x<float>;
template <class S>
using row_major = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class A, class B>
bool same_bits(A const& a, B const& b) {
  static_assert(std::is_same_v<typename A::Scalar, typename B::Scalar>);
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      if (std::memcmp(&a.coeff(i, j), &b.coeff(i, j), sizeof(typename A::Scalar)) != 0)
        return false;
  return true;
}

/// Random entries, rounded one by one.
template <class S>
matrix_x<S> stored_matrix(index_t rows, index_t cols, std::uint64_t seed) {
  matrix_f const a = random_matrix<float>(rows, cols, seed);
  matrix_x<S> b(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) b(i, j) = S(a(i, j));
  return b;
}

/// Every entry by the conversion of one number.
template <class S>
matrix_f widened(matrix_x<S> const& a) {
  matrix_f b(a.rows(), a.cols());
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) b(i, j) = a(i, j);
  return b;
}

/// Floats around every boundary of rounding: 2^16 upper halves with lower halves at and beside ties of
/// either type, NaN and infinities among them.
matrix_f boundary_floats() {
  std::uint32_t const lower[] = {0,      1,      0xFFF,  0x1000, 0x1001,
                                 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
  matrix_f a(std::ssize(lower), 65536);
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) {
      std::uint32_t const u = static_cast<std::uint32_t>(j) << 16 | lower[i];
      std::memcpy(&a(i, j), &u, sizeof u);
    }
  return a;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(narrow_products)

// --- conversion ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_widens_every_pattern_as_one_number, S, stored) {
  context ctx;
  matrix_x<S> a(65536, 1);
  for (index_t i = 0; i < 65536; ++i) a(i, 0).bits = static_cast<std::uint16_t>(i);
  matrix_f b(65536, 1);
  copy(ctx, a, b);
  BOOST_TEST(same_bits(b, widened(a)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_rounds_floats_once_as_one_number, S, stored) {
  context ctx;
  matrix_f const a = boundary_floats();
  matrix_x<S> b(a.rows(), a.cols()), expected(a.rows(), a.cols());
  copy(ctx, a, b);
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) expected(i, j) = S(a(i, j));
  BOOST_TEST(same_bits(b, expected));
  // The same entries as long runs, whole registers and a rest.
  matrix_f const t = a.transpose();
  matrix_x<S> c(t.rows() + 3, t.cols());
  copy(ctx, t, c.middleRows(1, t.rows()));
  BOOST_TEST(same_bits(matrix_x<S>(c.middleRows(1, t.rows()).transpose()), expected));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_rounds_doubles_once_and_converts_all_layouts, S, stored) {
  context ctx;
  // Above a tie by less than a float can hold: by way of float it would be the tie, and round to even.
  matrix_x<double> d = matrix_x<double>::Constant(3, 2, 1);
  d(1, 1) += (std::is_same_v<S, bfloat16> ? 0x1p-8 : 0x1p-11) + 0x1p-40;
  matrix_x<S> n(3, 2);
  copy(ctx, d, n);
  BOOST_TEST(float(n(0, 0)) == 1);
  BOOST_TEST(float(n(1, 1)) == 1 + (std::is_same_v<S, bfloat16> ? 0x1p-7F : 0x1p-10F));
  matrix_x<double> back(3, 2);
  copy(ctx, n, back);
  BOOST_TEST(back(1, 1) == double(float(n(1, 1))));

  matrix_x<S> const a = stored_matrix<S>(19, 23, 1);
  matrix_f const w = widened(a);
  matrix_f b(19, 23), flipped(23, 19);
  row_major<float> rows(19, 23);
  copy(ctx, a, rows);
  copy(ctx, a.adjoint(), flipped);
  copy(ctx, a.middleRows(2, 17), b.middleRows(0, 17));
  BOOST_TEST(same_bits(matrix_f(rows), w));
  BOOST_TEST(same_bits(matrix_f(flipped.transpose()), w));
  BOOST_TEST(same_bits(matrix_f(b.topRows(17)), matrix_f(w.middleRows(2, 17))));
  row_major<S> narrow_rows(19, 23);
  copy(ctx, w, narrow_rows);
  BOOST_TEST(same_bits(matrix_x<S>(narrow_rows), a));
  matrix_x<bfloat16> other(19, 23);
  copy(ctx, a, other);
  BOOST_TEST(float(other(5, 7)) == float(bfloat16(w(5, 7))));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(stored_matrices_are_matrices_of_the_context, S, stored) {
  context ctx;
  auto z = zeros<S>(ctx, 3, 4);
  static_assert(std::is_same_v<stiefelx::owning_t<context, decltype(z)>, matrix_x<S>>);
  BOOST_TEST((z.rows() == 3 && float(z(2, 3)) == 0));
  fill(ctx, 1.5, z);
  BOOST_TEST(float(z(1, 1)) == 1.5F);
  std::vector<S> entries(12);
  for (std::size_t k = 0; k < 12; ++k) entries[k] = S(static_cast<int>(k));
  upload(ctx, entries.data(), z);
  BOOST_TEST(float(z(2, 1)) == 5);
  std::vector<S> found(6);
  download(ctx, z.middleCols(1, 2), found.data());
  BOOST_TEST(float(found[5]) == 8);
  auto const region = memory(ctx, z.middleRows(1, 2));
  BOOST_TEST((region.runs == 4 && region.length == 4 && region.stride == 6));
  auto const plain = dense(ctx, z.middleCols(1, 2));
  BOOST_TEST((plain.data() == z.data() + 3));
  BOOST_TEST(same_bits(matrix_x<S>(clone(ctx, z)), z));
  auto const wide = widen(ctx, z);
  static_assert(std::is_same_v<stiefelx::scalar_t<decltype(wide)>, double>);
  BOOST_TEST(wide(2, 3) == 11);
  Eigen::Ref<matrix_x<S> const> const ref = z;
  Eigen::Map<matrix_x<S>> map(entries.data(), 4, 3);
  copy(ctx, ref.adjoint(), map);
  BOOST_TEST(float(map(3, 2)) == 11);
}

// --- products ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(products_have_the_bits_of_widened_factors, S, stored) {
  context ctx;
  struct extent {
    index_t m, k, n;
  };
  for (extent e :
       {extent{1, 1, 1}, {5, 0, 3}, {0, 4, 2}, {33, 31, 3}, {29, 31, 27}, {203, 97, 18}}) {
    matrix_x<S> const a = stored_matrix<S>(e.m, e.k, 1), b = stored_matrix<S>(e.k, e.n, 2);
    matrix_f const x = random_matrix<float>(e.k, e.n, 3), y = random_matrix<float>(e.m, e.k, 4);
    matrix_f const wa = widened(a), wb = widened(b), start = random_matrix<float>(e.m, e.n, 5);
    matrix_f c(e.m, e.n), expected(e.m, e.n);
    BOOST_TEST_CONTEXT(e.m << " x " << e.k << " x " << e.n) {
      multiply(ctx, a, x, c), multiply(ctx, wa, x, expected);
      BOOST_TEST(same_bits(c, expected));
      multiply(ctx, y, b, c), multiply(ctx, y, wb, expected);
      BOOST_TEST(same_bits(c, expected));
      multiply(ctx, a, b, c), multiply(ctx, wa, wb, expected);
      BOOST_TEST(same_bits(c, expected));
      c = start, expected = start;
      multiply_add(ctx, -0.5, a, x, c), multiply_add(ctx, -0.5, wa, x, expected);
      BOOST_TEST(same_bits(c, expected));
      BOOST_TEST(same_bits(matrix_f(product(ctx, a.adjoint(), start)),
                           matrix_f(product(ctx, wa.adjoint(), start))));
      BOOST_TEST(same_bits(matrix_f(product(ctx, start, b.transpose())),
                           matrix_f(product(ctx, start, wb.transpose()))));
      row_major<float> rows(e.m, e.n), expected_rows(e.m, e.n);
      multiply(ctx, a, x, rows), multiply(ctx, wa, x, expected_rows);
      BOOST_TEST(same_bits(rows, expected_rows));
    }
  }
  matrix_x<S> const a = stored_matrix<S>(40, 30, 6);
  matrix_f const w = widened(a), x = random_matrix<float>(12, 5, 7);
  BOOST_TEST(same_bits(matrix_f(product(ctx, a.block(3, 7, 20, 12), x)),
                       matrix_f(product(ctx, w.block(3, 7, 20, 12), x))));
  row_major<S> const ra = a;
  row_major<float> const rw = w;
  BOOST_TEST(same_bits(matrix_f(product(ctx, ra.middleCols(4, 12), x)),
                       matrix_f(product(ctx, rw.middleCols(4, 12), x))));
  Eigen::Matrix<S, 3, 4> const fixed = a.template topLeftCorner<3, 4>();
  Eigen::Matrix<float, 4, 2> const right = x.topLeftCorner<4, 2>();
  Eigen::Matrix<float, 3, 2> c, expected;
  multiply(ctx, fixed, right, c);
  multiply(ctx, Eigen::Matrix<float, 3, 4>(w.topLeftCorner<3, 4>()), right, expected);
  BOOST_TEST(same_bits(c, expected));
}

BOOST_AUTO_TEST_CASE(large_factors_are_added_up_in_parts) {
  context ctx;
  index_t const m = 1100, k = 700, n = 6;
  auto const size = stiefelx::host::detail::stored_part::of(m, k, true, n);
  BOOST_REQUIRE((size.outer < m && size.inner < k));
  BOOST_TEST(size.outer * size.inner <= stiefelx::host::detail::stored_part_entries);
  matrix_x<bfloat16> const a = stored_matrix<bfloat16>(m, k, 1);
  matrix_f const w = widened(a), x = random_matrix<float>(k, n, 2),
                 y = random_matrix<float>(n, m, 3);
  matrix_f const start = random_matrix<float>(m, n, 4);
  matrix_f c = start, in_parts = start, whole = start;
  multiply_add(ctx, 0.25, a, x, c);
  multiply_add(ctx, 0.25, w, x, whole);
  for (index_t l = 0; l < k; l += size.inner)
    for (index_t i = 0; i < m; i += size.outer) {
      index_t const depth = std::min(size.inner, k - l), rows = std::min(size.outer, m - i);
      multiply_add(ctx, 0.25, w.block(i, l, rows, depth), x.middleRows(l, depth),
                   in_parts.middleRows(i, rows));
    }
  BOOST_TEST(same_bits(c, in_parts));
  BOOST_TEST(near(c, whole, tolerance<float>(k), whole.norm()));
  // As a right factor, and turned around.
  BOOST_TEST(near(matrix_f(product(ctx, y, a)), matrix_f(product(ctx, y, w)), tolerance<float>(m),
                  y.norm() * w.norm()));
  BOOST_TEST(near(matrix_f(product(ctx, a.adjoint(), y.adjoint())),
                  matrix_f(product(ctx, w.adjoint(), y.adjoint())), tolerance<float>(m),
                  y.norm() * w.norm()));
}

BOOST_AUTO_TEST_CASE(scratch_of_a_product_does_not_grow_with_the_stored_factor) {
  // Wide, tall and square, 8 MiB each; a part has at most 1 MiB and x few bytes.
  for (auto [m, k] : {std::pair<index_t, index_t>{4, 1 << 20}, {1 << 20, 4}, {2048, 2048}}) {
    context ctx;
    matrix_x<bfloat16> const a = matrix_x<bfloat16>::Constant(m, k, bfloat16(1));
    matrix_f const x = matrix_f::Ones(k, 1);
    matrix_f y(m, 1);
    multiply(ctx, a, x, y);
    BOOST_TEST(y(m - 1, 0) == static_cast<float>(k));
    std::size_t const held = ctx.memory.capacity();
    BOOST_TEST(held <= std::size_t{3} << 20);
    long const before = heap_calls;
    multiply(ctx, a, x, y);
    BOOST_TEST(heap_calls == before);
    BOOST_TEST(ctx.memory.capacity() == held);
  }
}

BOOST_AUTO_TEST_CASE(results_do_not_depend_on_threads) {
  matrix_x<float16> const a = stored_matrix<float16>(600, 900, 1);
  matrix_f const x = random_matrix<float>(900, 40, 2);
  context one, two({.threads = 2});
  matrix_f y(600, 40), z(600, 40);
  multiply(one, a, x, y);
  multiply(two, a, x, z);
  BOOST_TEST(same_bits(y, z));
}

BOOST_AUTO_TEST_SUITE_END()
