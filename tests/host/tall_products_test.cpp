// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of tall thin matrices by the verbs of the host: every order of the operands, targets that
// are parts of other matrices, threads, and memory.

#include <cstddef>
#include <cstring>
#include <limits>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/multiply.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::host::context;
using scalars = std::tuple<float, double>;

struct extent {
  index_t rows, depth, cols;
};

// Tall in c = a b, tall in c = a^T b, around the limits of either, too small for both, and of few
// products an entry.
std::vector<extent> const extents{
    {600, 16, 16}, {331, 64, 37},  {600, 8, 4},  {600, 8, 40}, {100, 700, 5}, {5, 700, 4},
    {37, 531, 64}, {3, 300, 3},    {2, 9000, 2}, {31, 15, 31}, {600, 530, 9}, {520, 300, 8},
    {130, 64, 12}, {1030, 150, 1}, {130, 63, 2}, {300, 5, 35}, {259, 15, 70}, {331, 1, 50}};

template <class S>
matrix_x<S> wide_product(matrix_x<S> const& a, matrix_x<S> const& b) {
  return (a.template cast<long double>() * b.template cast<long double>()).template cast<S>();
}

template <class S>
bool same_bits(matrix_x<S> const& a, matrix_x<S> const& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(S) * static_cast<std::size_t>(a.size())) == 0;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tall_products)

BOOST_AUTO_TEST_CASE_TEMPLATE(products_agree_in_every_order_of_the_operands, S, scalars) {
  context ctx;
  for (auto const& e : extents)
    BOOST_TEST_CONTEXT(e.rows << "x" << e.depth << " times " << e.depth << "x" << e.cols) {
      matrix_x<S> const a = random_matrix<S>(e.rows, e.depth, 1);
      matrix_x<S> const b = random_matrix<S>(e.depth, e.cols, 2);
      matrix_x<S> const start = random_matrix<S>(e.rows, e.cols, 3);
      matrix_x<S> const at = a.transpose(), bt = b.transpose();
      matrix_x<S> const expected = wide_product<S>(a, b);
      double const bound = tolerance<S>(e.depth), size = double(a.norm() * b.norm());
      auto const check = [&](auto const& left, auto const& right) {
        // What c held does not count, be it NaN.
        matrix_x<S> c = matrix_x<S>::Constant(e.rows, e.cols, std::numeric_limits<S>::quiet_NaN());
        multiply(ctx, left, right, c);
        BOOST_TEST(near(c, expected, bound, size));
        c = start;
        multiply_add(ctx, -1, left, right, c);
        BOOST_TEST(near(c, matrix_x<S>(start - expected), bound, size + double(start.norm())));
      };
      check(a, b);
      check(at.adjoint(), b);
      check(a, bt.adjoint());
      check(at.adjoint(), bt.adjoint());
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(products_write_only_their_part_of_a_matrix, S, scalars) {
  context ctx;
  for (auto const& e : {extent{300, 20, 13}, extent{13, 700, 9}}) {
    matrix_x<S> const large = random_matrix<S>(e.rows + e.depth, e.depth + e.cols, 1);
    matrix_x<S> const other = random_matrix<S>(e.depth + 5, e.rows + e.cols + 2, 2);
    for (bool const by_rows : {false, true}) {
      matrix_x<S> target = random_matrix<S>(e.rows + 4, e.cols + 6, 3);
      matrix_x<S> expected = target;
      matrix_x<S> const a = by_rows
                                ? matrix_x<S>(other.middleCols(1, e.rows).middleRows(2, e.depth))
                                : matrix_x<S>(large.middleRows(3, e.rows).middleCols(2, e.depth));
      matrix_x<S> const b = other.middleCols(e.rows, e.cols).middleRows(3, e.depth);
      matrix_x<S> const left = by_rows ? matrix_x<S>(a.transpose()) : a;
      expected.middleCols(2, e.cols).middleRows(1, e.rows) += S(2) * wide_product<S>(left, b);
      auto part = target.middleCols(2, e.cols).middleRows(1, e.rows);
      auto const right = other.middleCols(e.rows, e.cols).middleRows(3, e.depth);
      if (by_rows)
        multiply_add(ctx, 2, other.middleCols(1, e.rows).middleRows(2, e.depth).adjoint(), right,
                     part);
      else
        multiply_add(ctx, 2, large.middleRows(3, e.rows).middleCols(2, e.depth), right, part);
      BOOST_TEST(near(target, expected, tolerance<S>(e.depth), double(2 * left.norm() * b.norm())));
      part.setZero();
      expected.middleCols(2, e.cols).middleRows(1, e.rows).setZero();
      BOOST_TEST(same_bits<S>(target, expected));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(products_have_the_same_bits_for_any_number_of_threads, S, scalars) {
  for (auto const& e : extents)
    BOOST_TEST_CONTEXT(e.rows << "x" << e.depth << " times " << e.depth << "x" << e.cols) {
      matrix_x<S> const a = random_matrix<S>(e.rows, e.depth, 1);
      matrix_x<S> const at = a.transpose(), b = random_matrix<S>(e.depth, e.cols, 2);
      matrix_x<S> const start = random_matrix<S>(e.rows, e.cols, 3);
      context one;
      matrix_x<S> straight = start, adjoint = start;
      multiply_add(one, 0.7, a, b, straight);
      multiply_add(one, 0.7, at.adjoint(), b, adjoint);
      for (int threads : {2, 3, 5}) {
        context several({.threads = threads});
        matrix_x<S> c = start;
        multiply_add(several, 0.7, a, b, c);
        BOOST_TEST(same_bits<S>(c, straight));
        c = start;
        multiply_add(several, 0.7, at.adjoint(), b, c);
        BOOST_TEST(same_bits<S>(c, adjoint));
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(products_take_no_more_memory_after_the_first, S, scalars) {
  for (int threads : {1, 3}) {
    context ctx({.threads = threads});
    matrix_x<S> const a = random_matrix<S>(700, 33, 1), b = random_matrix<S>(700, 21, 2);
    matrix_x<S> s(33, 21), c(700, 21);
    auto const both = [&] {
      multiply(ctx, a.adjoint(), b, s);
      multiply(ctx, a, s, c);
    };
    both();
    std::size_t const held = ctx.memory.capacity();
    for (int i = 0; i < 3; ++i) both();
    BOOST_TEST(ctx.memory.capacity() == held);
    BOOST_TEST(ctx.memory.live() == 0u);
  }
}

BOOST_AUTO_TEST_SUITE_END()
