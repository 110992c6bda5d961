// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Entry by entry verbs and reductions against naive loops, on both backends.

#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/shapes.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

/// Re sum of conj(a) b over rows [0, n) of column j, in the wide scalar.
template <class S>
double column_sum(matrix_x<S> const& a, matrix_x<S> const& b, index_t j) {
  using wide = stiefelx::wide_t<S>;
  double sum = 0;
  for (index_t i = 0; i < a.rows(); ++i)
    sum += std::real(std::complex<double>(Eigen::numext::conj(wide(a(i, j))) * wide(b(i, j))));
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(verbs)

// --- copies and constants ------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_gives_the_entries_of_its_input, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    auto const x = p.up(a);
    auto y = p.up(random_matrix<S>(rows, cols, 2));
    copy(p.ctx, x, y);
    BOOST_TEST(same(p.down(y), a));

    auto z = p.up(random_matrix<S>(cols, rows, 3));
    copy(p.ctx, x.adjoint(), z);
    BOOST_TEST(same(p.down(z), a.adjoint()));
    BOOST_TEST(same(p.down(clone(p.ctx, x)), a));
    BOOST_TEST(same(p.down(clone(p.ctx, x.adjoint())), a.adjoint()));
    BOOST_TEST(same(p.down(clone(p.ctx, x.adjoint().adjoint())), a));
    BOOST_TEST(same(p.down(dense(p.ctx, x)), a));
    BOOST_TEST(same(p.down(dense(p.ctx, x.adjoint())), a.adjoint()));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_to_itself_changes_nothing, Case, complex_cases) {
  place<Case> p;
  auto const a = random_matrix<typename Case::scalar>(5, 3, 1);
  auto x = p.up(a);
  copy(p.ctx, x, x);
  BOOST_TEST(same(p.down(x), a));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_rounds_to_the_scalar_of_its_output, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  using narrow = std::conditional_t<std::is_floating_point_v<S>, float, std::complex<float>>;
  matrix_x<S> const a = random_matrix<S>(7, 3, 1);
  auto const x = p.up(a);
  auto const w = widen(p.ctx, x);
  static_assert(std::is_same_v<stiefelx::scalar_t<decltype(w)>, wide>);
  BOOST_TEST(same(p.down(w), a.template cast<wide>()));
  auto y = p.up(matrix_x<narrow>::Zero(7, 3));
  copy(p.ctx, w, y);
  BOOST_TEST(same(p.down(y), a.template cast<narrow>()));
  BOOST_TEST(same(p.down(widen(p.ctx, x.adjoint())), a.adjoint().template cast<wide>()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(constants_fill_their_view_and_nothing_else, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  matrix_x<S> expected = random_matrix<S>(6, 5, 1);
  auto x = p.up(expected);
  fill(p.ctx, 1.5, x.middleRows(1, 2).middleCols(2, 2));
  expected.block(1, 2, 2, 2).setConstant(S(1.5));
  set_identity(p.ctx, x.middleRows(3, 2).middleCols(1, 3));
  expected.block(3, 1, 2, 3).setIdentity();
  fill(p.ctx, 7, x.middleCols(5, 0));
  BOOST_TEST(same(p.down(x), expected));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(zeros_are_zero_and_keep_the_shape, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for_each_shape([&](index_t rows, index_t cols) {
    auto const x = p.up(random_matrix<S>(rows, cols, 1));
    BOOST_TEST(same(p.down(zeros<S>(p.ctx, rows, cols)), matrix_x<S>::Zero(rows, cols)));
    BOOST_TEST(same(p.down(zeros<int>(p.ctx, rows, cols)), matrix_x<int>::Zero(rows, cols)));
    BOOST_TEST(same(p.down(zeros_like(p.ctx, x)), matrix_x<S>::Zero(rows, cols)));
    auto const s = scratch<S>(p.ctx, rows, cols);
    BOOST_TEST(s.rows() == rows);
    BOOST_TEST(s.cols() == cols);
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copy_if_asks_its_condition, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  matrix_x<S> const a = random_matrix<S>(4, 3, 1);
  matrix_x<S> const b =
      matrix_x<S>::Constant(4, 3, S(std::numeric_limits<typename Case::real>::quiet_NaN()));
  auto x = p.up(a);
  copy_if(p.ctx, p.number(0.0), p.up(b), x);
  BOOST_TEST(same(p.down(x), a));
  auto y = p.up(b);
  copy_if(p.ctx, p.number(1.0F), x, y);
  BOOST_TEST(same(p.down(y), a));
}

// --- linear combinations -------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(scale_multiplies_by_a_number_or_a_matrix, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    auto x = p.up(a);
    scale(p.ctx, -0.3, x);
    BOOST_TEST(near(p.down(x), R(-0.3) * a, tolerance<S>(1)));
    auto y = p.up(a);
    scale(p.ctx, p.number(R(-0.3)), y);
    BOOST_TEST(near(p.down(y), R(-0.3) * a, tolerance<S>(1)));
  });
  auto strip = p.up(matrix_x<S>::Ones(4, 2));
  scale(p.ctx, 3, strip.middleRows(1, 2));
  matrix_x<S> expected = matrix_x<S>::Ones(4, 2);
  expected.middleRows(1, 2).setConstant(S(3));
  BOOST_TEST(same(p.down(strip), expected));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(axpy_adds_a_multiple, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    matrix_x<S> const b = random_matrix<S>(rows, cols, 2);
    matrix_x<S> const flipped = a.adjoint();
    matrix_x<S> const expected = b + R(0.7) * a;
    double const reference = static_cast<double>(a.norm() + b.norm());
    auto x = p.up(b);
    axpy(p.ctx, 0.7, p.up(a), x);
    BOOST_TEST(near(p.down(x), expected, tolerance<S>(1), reference));
    auto y = p.up(b);
    axpy(p.ctx, p.number(R(0.7)), p.up(a), y);
    BOOST_TEST(near(p.down(y), expected, tolerance<S>(1), reference));
    auto z = p.up(b);
    axpy(p.ctx, 0.7, p.up(flipped).adjoint(), z);
    BOOST_TEST(near(p.down(z), expected, tolerance<S>(1), reference));
    axpy(p.ctx, -1, z, z);
    BOOST_TEST(same(p.down(z), matrix_x<S>::Zero(rows, cols)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(scale_columns_uses_one_weight_a_column, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    matrix_x<R> const w = random_matrix<R>(1, cols, 2);
    matrix_x<S> expected = a;
    for (index_t j = 0; j < cols; ++j) expected.col(j) *= w(0, j);
    auto x = p.up(a);
    scale_columns(p.ctx, p.up(w), x);
    BOOST_TEST(near(p.down(x), expected, tolerance<S>(1)));
  });
}

// --- reductions ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(inner_is_the_real_part_of_the_trace, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    matrix_x<S> const b = random_matrix<S>(rows, cols, 2);
    double expected = 0;
    double square = 0;
    for (index_t j = 0; j < cols; ++j) {
      expected += column_sum(a, b, j);
      square += column_sum(a, a, j);
    }
    double const size = static_cast<double>(a.norm()) * static_cast<double>(b.norm());
    double const bound = tolerance<S>(rows * cols) * size;
    auto s = p.number(R(-1));
    inner(p.ctx, p.up(a), p.up(b), s);
    BOOST_TEST(std::abs(static_cast<double>(value(p.ctx, s)) - expected) <= bound);
    auto t = p.number(-1.0);
    inner(p.ctx, p.up(a).adjoint(), p.up(b).adjoint(), t);
    BOOST_TEST(std::abs(value(p.ctx, t) - expected) <= bound);
    norm(p.ctx, p.up(a), s);
    double const found = static_cast<double>(value(p.ctx, s));
    BOOST_TEST(std::abs(found - std::sqrt(square)) <=
               tolerance<S>(rows * cols) * std::sqrt(square));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(column_sums_agree_with_loops, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    matrix_x<S> const b = random_matrix<S>(rows, cols, 2);
    matrix_x<double> expected(1, cols);
    for (index_t j = 0; j < cols; ++j) expected(0, j) = column_sum(a, b, j);
    auto w = p.up(random_matrix<R>(1, cols, 3));
    column_inner(p.ctx, p.up(a), p.up(b), w);
    double const reference = static_cast<double>(a.norm()) * static_cast<double>(b.norm());
    BOOST_TEST(near(p.down(w), expected, tolerance<S>(rows), reference));

    matrix_x<S> sums = matrix_x<S>::Zero(rows, 1);
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) sums(i, 0) += a(i, j);
    auto v = p.up(random_matrix<S>(rows, 1, 4));
    sum_columns(p.ctx, p.up(a), v);
    double const length = std::sqrt(static_cast<double>(cols)) * static_cast<double>(a.norm());
    BOOST_TEST(near(p.down(v), sums, tolerance<S>(cols), length));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(all_finite_sees_each_entry, Case, complex_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  using R = typename Case::real;
  using limits = std::numeric_limits<R>;
  auto const verdict = [&](matrix_x<S> const& a) {
    auto s = p.number(R(7));
    all_finite(p.ctx, p.up(a), s);
    return static_cast<double>(value(p.ctx, s));
  };
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> a = random_matrix<S>(rows, cols, 1);
    BOOST_TEST(verdict(a) == 1);
    for (index_t k = 0; k < a.size(); k += 1 + a.size() / 9) {
      for (R bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()}) {
        matrix_x<S> b = a;
        b(k % rows, k / rows) = S(bad);
        BOOST_TEST(verdict(b) == 0);
        if constexpr (!std::is_floating_point_v<S>) {
          b(k % rows, k / rows) = S(0, bad);
          BOOST_TEST(verdict(b) == 0);
        }
      }
    }
  });
  BOOST_TEST(verdict(matrix_x<S>::Constant(4, 3, S(limits::max()))) == 1);
  matrix_x<S> opposite = matrix_x<S>::Zero(2, 1);
  opposite(0, 0) = S(limits::infinity());
  opposite(1, 0) = S(-limits::infinity());
  BOOST_TEST(verdict(opposite) == 0);
}

BOOST_AUTO_TEST_SUITE_END()
