// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The forms in which Eigen hands matrices to the host's verbs: row-major, strided, expressions,
// vectors, static sizes. A verb gives for each what it gives for a plain matrix.

#include <cmath>
#include <type_traits>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/context.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::inputs;
using stiefelx::no_status;
using stiefelx::outputs;

using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using any_stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
using strided_map = Eigen::Map<matrix_x<double>, Eigen::Unaligned, any_stride>;

/// The value of entries around a view; verbs must not change it.
constexpr double around = -77;

/// f(x) for a in the forms that can be read and written and are not a plain block (those have
/// their tests on both backends); the entries between those of a strided map stay as they are.
template <class F>
void for_each_output(matrix_x<double> const& a, F const& f) {
  BOOST_TEST_CONTEXT("row-major") {
    row_major x = a;
    f(x);
  }
  BOOST_TEST_CONTEXT("strided") {
    matrix_x<double> all = matrix_x<double>::Constant(2 * a.rows() + 3, a.cols() + 1, around);
    strided_map x(all.data() + 1, a.rows(), a.cols(), any_stride(all.rows(), 2));
    x = a;
    f(x);
    x.setConstant(around);
    BOOST_TEST((all.array() == around).all());
  }
}

/// f(x) for a in the same forms and as an expression.
template <class F>
void for_each_input(matrix_x<double> const& a, F const& f) {
  for_each_output(a, f);
  BOOST_TEST_CONTEXT("sum") { f(0.5 * a + 0.5 * a); }
}

double const bound = tolerance<double>(40);

struct add_weighted {
  template <class S>
  void operator()(S& y, S a, S b, S c) const {
    y += c * a * b;
  }
};

struct double_column {
  index_t scratch_size() const { return 0; }
  template <class Team>
  void operator()(Team const&, index_t j, double*, stiefelx::matrix_ref<double> y,
                  stiefelx::matrix_ref<double const> x) const {
    for (index_t i = 0; i < y.rows; ++i) y(i, j) = 2 * x(i, j);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(verb_inputs)

BOOST_AUTO_TEST_CASE(every_form_of_an_input_is_read_alike) {
  stiefelx::host::context ctx;
  matrix_x<double> const a = random_matrix<double>(7, 4, 1);
  matrix_x<double> const b = random_matrix<double>(7, 4, 2);
  for_each_input(a, [&](auto const& x) {
    matrix_x<double> y = b;
    copy(ctx, x, y);
    BOOST_TEST(same(y, a));
    BOOST_TEST(same(clone(ctx, x), a));
    BOOST_TEST(same(widen(ctx, x), a));
    BOOST_TEST(same(dense(ctx, x), a));
    static_assert(!decltype(dense(ctx, x))::IsRowMajor);
    y = b;
    axpy(ctx, 2, x, y);
    BOOST_TEST(near(y, b + 2 * a, bound));
    y = b;
    copy_if(ctx, matrix_x<double>::Ones(1, 1), x, y);
    BOOST_TEST(same(y, a));

    matrix_x<double> s(1, 1);
    inner(ctx, x, b, s);
    BOOST_TEST(
        near(s, (a.cwiseProduct(b)).rowwise().sum().colwise().sum(), bound, a.norm() * b.norm()));
    norm(ctx, x, s);
    BOOST_TEST(std::abs(s(0, 0) - a.norm()) <= bound * a.norm());
    all_finite(ctx, x, s);
    BOOST_TEST(s(0, 0) == 1);
    matrix_x<double> w(1, 4);
    column_inner(ctx, x, b, w);
    BOOST_TEST(near(w, a.cwiseProduct(b).colwise().sum(), bound, a.norm() * b.norm()));
    matrix_x<double> v(7, 1);
    sum_columns(ctx, x, v);
    BOOST_TEST(near(v, a.rowwise().sum(), bound, 2 * a.norm()));
    BOOST_TEST(near(gram(ctx, x), loop_product(loop_adjoint(a), a), bound));
  });
}

BOOST_AUTO_TEST_CASE(every_form_of_a_factor_is_multiplied_alike) {
  stiefelx::host::context ctx;
  for (index_t n : {5, 33}) {
    matrix_x<double> const a = random_matrix<double>(n, n + 1, 1);
    matrix_x<double> const b = random_matrix<double>(n + 1, n, 2);
    matrix_x<double> const ab = loop_product(a, b);
    for_each_input(a, [&](auto const& x) {
      BOOST_TEST(near(product(ctx, x, b), ab, bound, a.norm() * b.norm()));
      BOOST_TEST(near(product(ctx, b.adjoint(), x.adjoint()), loop_adjoint(ab), bound,
                      a.norm() * b.norm()));
    });
    matrix_x<double> const half = 0.5 * loop_adjoint(a);
    BOOST_TEST(near(product(ctx, 2 * half.adjoint(), b), ab, bound, a.norm() * b.norm()));
    for_each_output(random_matrix<double>(n, n, 3), [&](auto&& y) {
      multiply(ctx, a, b, y);
      BOOST_TEST(near(y, ab, bound, a.norm() * b.norm()));
      multiply_add(ctx, -2, a, b, y);
      BOOST_TEST(near(y, -ab, bound, a.norm() * b.norm()));
    });
  }
}

BOOST_AUTO_TEST_CASE(every_form_of_an_output_is_written_alike) {
  stiefelx::host::context ctx;
  matrix_x<double> const a = random_matrix<double>(6, 6, 1);
  matrix_x<double> const b = random_matrix<double>(6, 6, 2);
  matrix_x<double> const w = random_matrix<double>(1, 6, 3);
  for_each_output(b, [&](auto&& y) {
    copy(ctx, a, y);
    BOOST_TEST(same(y, a));
    scale(ctx, 2, y);
    BOOST_TEST(same(y, 2 * a));
    axpy(ctx, -1, a, y);
    BOOST_TEST(same(y, a));
    scale_columns(ctx, w, y);
    BOOST_TEST(same(y, (a.array().rowwise() * w.row(0).array()).matrix()));
    copy_if(ctx, matrix_x<double>::Ones(1, 1), a, y);
    symmetrize(ctx, y);
    BOOST_TEST(same(y, (a + a.transpose()) / 2));
    set_identity(ctx, y);
    BOOST_TEST(same(y, matrix_x<double>::Identity(6, 6)));
    fill(ctx, 3, y);
    BOOST_TEST(same(y, matrix_x<double>::Constant(6, 6, 3)));
  });
}

BOOST_AUTO_TEST_CASE(every_form_of_a_matrix_is_factored_alike) {
  stiefelx::host::context ctx;
  matrix_x<double> const g = positive_matrix<double>(6, 10, 1);
  matrix_x<double> const b = random_matrix<double>(6, 6, 2);
  matrix_x<double> r = g;
  cholesky(ctx, r, no_status{});
  for_each_output(g, [&](auto&& y) {
    cholesky(ctx, y, no_status{});
    BOOST_TEST(same(y, r));
  });
  for_each_output(b, [&](auto&& y) {
    solve_right(ctx, r, y);
    BOOST_TEST(near(loop_product<double>(y, r), b, bound));
  });
  for_each_output(g, [&](auto&& y) {
    matrix_x<double> x = b;
    solve(ctx, y, x, no_status{});
    BOOST_TEST(near(loop_product(g, x), b, 10 * bound));
  });
  for_each_output(b, [&](auto&& y) {
    matrix_x<double> m = g;
    solve(ctx, m, y, no_status{});
    BOOST_TEST(near(loop_product<double>(g, y), b, 10 * bound));
  });
  for_each_output(r, [&](auto&& y) {
    matrix_x<double> x = b;
    solve_right(ctx, y, x);
    BOOST_TEST(near(loop_product(x, r), b, bound));
  });
}

// --- element text and team text ------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(transform_takes_every_form) {
  stiefelx::host::context ctx;
  matrix_x<double> const a = random_matrix<double>(5, 4, 1);
  matrix_x<double> const b = random_matrix<double>(5, 4, 2);
  matrix_x<double> const c = matrix_x<double>::Constant(1, 1, 0.5);
  matrix_x<double> const expected = a + 0.5 * a.cwiseProduct(b);
  for_each_input(b, [&](auto const& x) {
    matrix_x<double> y = a;
    transform(ctx, add_weighted{}, outputs(y), inputs(a, x, c));
    BOOST_TEST(near(y, expected, bound));
  });
  for_each_output(a, [&](auto&& y) {
    transform(ctx, add_weighted{}, outputs(y), inputs(y, b, c));
    BOOST_TEST(near(y, expected, bound));
  });
}

BOOST_AUTO_TEST_CASE(run_batch_takes_every_form) {
  stiefelx::host::context ctx;
  matrix_x<double> const a = random_matrix<double>(5, 4, 1);
  for_each_output(random_matrix<double>(5, 4, 2), [&](auto&& y) {
    run_batch(ctx, 4, double_column{}, y, a);
    BOOST_TEST(same(y, 2 * a));
  });
  for_each_input(a, [&](auto const& x) {
    matrix_x<double> y = a;
    run_batch(ctx, 4, double_column{}, y, x);
    BOOST_TEST(same(y, 2 * a));
  });
}

BOOST_AUTO_TEST_CASE(vectors_are_matrices_of_one_row_or_column) {
  stiefelx::host::context ctx;
  Eigen::RowVectorXd const w = random_matrix<double>(1, 6, 1);
  Eigen::Matrix<double, 1, 6> const fixed = w;
  Eigen::VectorXd const v = random_matrix<double>(6, 1, 2);
  matrix_x<double> const m = random_matrix<double>(5, 6, 3);
  matrix_x<double> const c = matrix_x<double>::Constant(1, 1, 2);
  BOOST_TEST(same(clone(ctx, w), w));
  BOOST_TEST(same(dense(ctx, w), w));
  BOOST_TEST(same(widen(ctx, m.row(2)), m.row(2)));
  BOOST_TEST(same(zeros_like(ctx, w), matrix_x<double>::Zero(1, 6)));
  BOOST_TEST(near(product(ctx, w, v), loop_product<double>(w, v), bound));
  BOOST_TEST(near(product(ctx, v, w), loop_product<double>(v, w), bound));

  Eigen::RowVectorXd y = w;
  transform(ctx, add_weighted{}, outputs(y), inputs(w, fixed, c));
  BOOST_TEST(near(y, w + 2 * w.cwiseProduct(w), bound));
  matrix_x<double> plain = w;
  transform(ctx, add_weighted{}, outputs(plain), inputs(m.row(1), w, c));
  BOOST_TEST(near(plain, w + 2 * w.cwiseProduct(m.row(1)), bound));
  Eigen::VectorXd z = v;
  transform(ctx, add_weighted{}, outputs(z), inputs(v, m.row(0).transpose(), c));
  BOOST_TEST(near(z, v + 2 * v.cwiseProduct(m.row(0).transpose()), bound));

  matrix_x<double> scaled = m;
  scale_columns(ctx, fixed, scaled);
  BOOST_TEST(same(scaled, (m.array().rowwise() * w.array()).matrix()));
  run_batch(ctx, 6, double_column{}, y, w);
  BOOST_TEST(same(y, 2 * w));
}

// --- static sizes --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(static_sizes_stay_static) {
  stiefelx::host::context ctx;
  using tall = Eigen::Matrix<double, 6, 3>;
  using square = Eigen::Matrix<double, 3, 3>;
  matrix_x<double> const a = random_matrix<double>(6, 3, 1);
  tall x = a;
  static_assert(std::is_same_v<decltype(clone(ctx, x)), tall>);
  static_assert(std::is_same_v<decltype(zeros_like(ctx, x)), tall>);
  static_assert(std::is_same_v<decltype(product(ctx, x.adjoint(), x)), square>);
  static_assert(std::is_same_v<decltype(gram(ctx, x)), square>);

  square g = gram(ctx, x);
  BOOST_TEST(near(g, loop_product(loop_adjoint(a), a), bound));
  Eigen::Matrix<int, 1, 1> status = Eigen::Matrix<int, 1, 1>::Zero();
  cholesky(ctx, g, status);
  BOOST_TEST(value(ctx, status) == 0);
  solve_right(ctx, g, x);
  BOOST_TEST(near(loop_product<double>(x, g), a, bound));
  BOOST_TEST(near(gram(ctx, x), square::Identity(), 10 * bound));
  square h = square::Identity() * 2;
  square b = g;
  solve(ctx, h, b, status);
  BOOST_TEST(same(b, g / 2));
  multiply(ctx, x.adjoint(), x, b);
  BOOST_TEST(near(b, square::Identity(), 10 * bound));
  BOOST_TEST(ctx.memory.capacity() == 0U);
}

BOOST_AUTO_TEST_CASE(any_number_of_threads_gives_the_same_bits) {
  stiefelx::host::context one;
  stiefelx::host::context three({.threads = 3});
  matrix_x<double> const a = random_matrix<double>(40, 50, 1);
  matrix_x<double> const b = random_matrix<double>(50, 700, 2);
  matrix_x<double> const found = product(three, a, b);
  BOOST_TEST(same(found, product(one, a, b)));
  BOOST_TEST(near(found, loop_product(a, b), bound, a.norm() * b.norm()));
  matrix_x<double> y(50, 700);
  run_batch(three, 700, double_column{}, y, b);
  BOOST_TEST(same(y, 2 * b));

  matrix_x<double> const tall = random_matrix<double>(5000, 6, 3);
  BOOST_TEST(same(gram(three, tall), gram(one, tall)));
  matrix_x<double> r = gram(one, tall);
  cholesky(one, r, no_status{});
  matrix_x<double> q = tall;
  matrix_x<double> q_of_three = tall;
  solve_right(one, r, q);
  solve_right(three, r, q_of_three);
  BOOST_TEST(same(q_of_three, q));
}

BOOST_AUTO_TEST_SUITE_END()
