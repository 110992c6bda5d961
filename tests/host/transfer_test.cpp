// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The verbs upload and download: entries of the caller's memory, column by column, on both backends.

#include <complex>
#include <cstddef>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/shapes.hpp>

namespace {

using namespace support;

/// The entries one after the other, column by column, with one more at each end that stays.
template <class S>
struct guarded_entries {
  S const guard = S(-77);
  std::vector<S> all;

  explicit guarded_entries(index_t size) : all(static_cast<std::size_t>(size) + 2, guard) {}
  S* data() { return all.data() + 1; }
  bool intact() const { return all.front() == guard && all.back() == guard; }
};

/// download() of a against plain loops.
template <class Case, class A, class S>
void expect_download(place<Case>& p, A const& a, matrix_x<S> const& expected) {
  guarded_entries<S> found(expected.size());
  download(p.ctx, a, found.data());
  bool equal = true;
  for (index_t j = 0; j < expected.cols(); ++j)
    for (index_t i = 0; i < expected.rows(); ++i)
      equal = equal && found.data()[j * expected.rows() + i] == expected(i, j);
  BOOST_TEST(equal);
  BOOST_TEST(found.intact());
}

/// Entry (i, j) of a matrix that tells all entries apart.
template <class S>
S label(index_t i, index_t j) {
  if constexpr (std::is_arithmetic_v<S>)
    return static_cast<S>(100 * i + j + 1);
  else
    return S(static_cast<typename S::value_type>(100 * i + j + 1), typename S::value_type(i - j));
}

template <class S>
matrix_x<S> labels(index_t rows, index_t cols) {
  matrix_x<S> a(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) a(i, j) = label<S>(i, j);
  return a;
}

template <class Case, class S>
void expect_round_trip() {
  place<Case> p;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = labels<S>(rows, cols);
    expect_download(p, p.up(a), a);
    guarded_entries<S> source(rows * cols);
    for (index_t k = 0; k < rows * cols; ++k) source.data()[k] = label<S>(k, k + 1);
    auto b = p.up(matrix_x<S>::Zero(rows, cols));
    upload(p.ctx, source.data(), b);
    matrix_x<S> expected(rows, cols);
    for (index_t k = 0; k < rows * cols; ++k) expected(k % rows, k / rows) = source.data()[k];
    BOOST_TEST(same(p.down(b), expected));
    expect_download(p, b, expected);
  });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(transfer)

BOOST_AUTO_TEST_CASE_TEMPLATE(entries_go_and_come_column_by_column, Case, complex_cases) {
  expect_round_trip<Case, typename Case::scalar>();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(integers_are_taken_too, Case, double_cases) {
  expect_round_trip<Case, int>();
  expect_round_trip<Case, std::complex<float>>();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(views_transfer_their_own_entries_alone, Case, complex_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> expected = labels<S>(6, 5);
  auto a = p.up(expected);
  auto const strip = [&](auto&& m) { return m.middleRows(1, 3).middleCols(2, 2); };
  expect_download(p, strip(a), matrix_x<S>(expected.block(1, 2, 3, 2)));
  expect_download(p, a.adjoint(), matrix_x<S>(expected.adjoint()));
  std::vector<S> source;
  for (index_t k = 0; k < 6; ++k) source.push_back(label<S>(-k, k));
  upload(p.ctx, source.data(), strip(a));
  for (index_t k = 0; k < 6; ++k) expected(1 + k % 3, 2 + k / 3) = label<S>(-k, k);
  BOOST_TEST(same(p.down(a), expected));
}

BOOST_AUTO_TEST_CASE(every_layout_of_the_host_transfers_by_columns) {
  place<test_case<host_backend, double>> p;
  matrix_x<double> const a = labels<double>(4, 3);
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> by_rows = a;
  Eigen::Matrix<double, 4, 3> fixed = a;
  expect_download(p, by_rows, a);
  expect_download(p, fixed, a);
  expect_download(p, a + a, matrix_x<double>(2 * a));
  std::vector<double> source;
  for (index_t k = 0; k < 12; ++k) source.push_back(label<double>(k, 0));
  upload(p.ctx, source.data(), by_rows);
  upload(p.ctx, source.data(), fixed);
  for (index_t k = 0; k < 12; ++k)
    BOOST_TEST(by_rows(k % 4, k / 4) == source[static_cast<std::size_t>(k)]);
  BOOST_TEST(same(by_rows, fixed));
}

BOOST_AUTO_TEST_SUITE_END()
