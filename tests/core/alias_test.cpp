// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/alias.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace {

using namespace support;
using stiefelx::alias_error;
using stiefelx::expect_distinct;
using stiefelx::expect_same_or_distinct;
using stiefelx::memory_region;

/// Whether two rectangles of one grid share a cell, by looking at every cell.
struct box {
  index_t row, col, rows, cols;
};

bool share_a_cell(box const& a, box const& b) {
  for (index_t i = a.row; i < a.row + a.rows; ++i)
    for (index_t j = a.col; j < a.col + a.cols; ++j)
      if (i >= b.row && i < b.row + b.rows && j >= b.col && j < b.col + b.cols) return true;
  return false;
}

/// Every rectangle of a grid, the empty ones too.
std::vector<box> boxes(index_t rows, index_t cols) {
  std::vector<box> all;
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < cols; ++j)
      for (index_t m = 0; i + m <= rows; ++m)
        for (index_t n = 0; j + n <= cols; ++n) all.push_back({i, j, m, n});
  return all;
}

template <class M>
auto cut(M& m, box const& b) {
  return m.middleRows(b.row, b.rows).middleCols(b.col, b.cols);
}

/// Counts pairs of rectangles for which overlap() is not what the cells say.
template <class Ctx, class M>
int wrong_verdicts(Ctx& ctx, M& m) {
  int wrong = 0;
  auto const all = boxes(m.rows(), m.cols());
  std::vector<memory_region> regions;
  for (box const& b : all) regions.push_back(memory(ctx, cut(m, b)));
  for (std::size_t p = 0; p < all.size(); ++p)
    for (std::size_t q = 0; q < all.size(); ++q)
      if (overlap(regions[p], regions[q]) != share_a_cell(all[p], all[q])) ++wrong;
  return wrong;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(alias)

BOOST_AUTO_TEST_CASE_TEMPLATE(overlap_is_exact_for_rectangles_of_one_matrix, Case, real_cases) {
  typename Case::context ctx;
  auto tall = zeros<typename Case::scalar>(ctx, 5, 3);
  BOOST_TEST(wrong_verdicts(ctx, tall) == 0);
  auto wide = zeros<typename Case::scalar>(ctx, 2, 6);
  BOOST_TEST(wrong_verdicts(ctx, wide) == 0);
}

BOOST_AUTO_TEST_CASE(overlap_is_exact_for_rectangles_of_a_row_major_matrix) {
  stiefelx::host::context ctx;
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> m(4, 4);
  BOOST_TEST(wrong_verdicts(ctx, m) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(separate_matrices_do_not_overlap, Case, double_cases) {
  typename Case::context ctx;
  auto const a = zeros<double>(ctx, 4, 4);
  auto const b = zeros<double>(ctx, 4, 4);
  BOOST_CHECK_NO_THROW(expect_distinct(ctx, "project", "v", a, "z", b));
  BOOST_CHECK_NO_THROW(expect_same_or_distinct(ctx, "project", "v", a, "z", b));
  BOOST_CHECK_NO_THROW(expect_distinct(ctx, "project", "v", a.middleCols(1, 0), "z", a));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(shared_memory_is_refused_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto a = zeros<double>(ctx, 4, 4);
  auto const named = [](std::string expected) {
    return [text = "project: v overlaps z, expected " +
                   std::move(expected)](alias_error const& error) { return error.what() == text; };
  };
  BOOST_CHECK_EXCEPTION(expect_distinct(ctx, "project", "v", a, "z", a), alias_error,
                        named("separate memory"));
  BOOST_CHECK_EXCEPTION(
      expect_same_or_distinct(ctx, "project", "v", a.middleRows(0, 3), "z", a.middleRows(1, 3)),
      alias_error, named("the same matrix or separate memory"));
  BOOST_CHECK_THROW(
      expect_same_or_distinct(ctx, "project", "v", a.middleCols(0, 2), "z", a.middleCols(0, 3)),
      std::invalid_argument);
  BOOST_CHECK_THROW(expect_distinct(ctx, "project", "v", a.middleCols(0, 2), "z", a.adjoint()),
                    alias_error);
  BOOST_CHECK_NO_THROW(expect_same_or_distinct(ctx, "project", "v", a, "z", a));
  BOOST_CHECK_NO_THROW(
      expect_same_or_distinct(ctx, "project", "v", a.middleRows(0, 2), "z", a.middleRows(2, 2)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_adjoint_is_not_the_same_matrix, Case, double_cases) {
  typename Case::context ctx;
  auto a = zeros<double>(ctx, 4, 4);
  BOOST_CHECK_THROW(expect_same_or_distinct(ctx, "project", "v", a, "z", a.adjoint()), alias_error);
}

BOOST_AUTO_TEST_CASE(expressions_and_strided_maps_have_the_memory_they_cover) {
  stiefelx::host::context ctx;
  matrix_x<double> a = matrix_x<double>::Zero(6, 4);
  BOOST_CHECK_NO_THROW(expect_distinct(ctx, "project", "v", a, "z", a + a));
  BOOST_CHECK_THROW(expect_distinct(ctx, "project", "v", a, "z", a.row(5)), alias_error);
  using strided =
      Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  strided const even(a.data(), 3, 2, {6, 2});
  BOOST_CHECK_THROW(expect_distinct(ctx, "project", "v", even, "z", a.middleRows(4, 1)),
                    alias_error);
  BOOST_CHECK_NO_THROW(expect_distinct(ctx, "project", "v", even, "z", a.middleCols(2, 2)));
  matrix_x<float> other(6, 4);
  BOOST_CHECK_NO_THROW(expect_distinct(ctx, "copy", "b", other, "a", a));
}

BOOST_AUTO_TEST_CASE(archetype_verbs_refuse_an_overlap_in_part) {
  archetype::context ctx;
  auto a = zeros<double>(ctx, 4, 4);
  BOOST_CHECK_THROW(copy(ctx, a.adjoint(), a), std::logic_error);
  BOOST_CHECK_THROW(axpy(ctx, 1, a.middleRows(0, 3), a.middleRows(1, 3)), std::logic_error);
  BOOST_CHECK_THROW(multiply(ctx, a, a, a), std::logic_error);
  BOOST_CHECK_NO_THROW(axpy(ctx, 1, a, a));
  BOOST_CHECK_NO_THROW(copy(ctx, a.middleRows(0, 2), a.middleRows(2, 2)));
}

BOOST_AUTO_TEST_SUITE_END()
