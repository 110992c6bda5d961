// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// x^H B x = I with either metric: laws, a case with an exact answer, and what B = I gives.

#include <cmath>
#include <complex>

#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/generalized_stiefel.hpp>
#include <stiefelx/manifold/generalized_stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using stiefelx::by_matrix;

using stiefelx::polar_retraction;

constexpr index_t n = 6, p = 3;

/// B and its inverse on a backend.
template <class Case>
struct product_of_b {
  using S = typename Case::scalar;

  product_of_b() : b(positive_matrix<S>(n, 9, 7)) {
    matrix_x<S> const inverse = b.inverse();
    forward = Case::backend::upload(keep, b);
    back = Case::backend::upload(keep, inverse);
  }

  auto without_solver() const { return stiefelx::generalized_stiefel{n, p, by_matrix(forward)}; }
  auto with_solver() const {
    return stiefelx::generalized_stiefel{n, p, by_matrix(forward), by_matrix(back)};
  }

  template <class A>
  double operator()(A const& y) const {
    matrix_x<S> const g = y.adjoint() * b * y;
    return static_cast<double>((g - matrix_x<S>::Identity(g.rows(), g.cols())).norm());
  }

  matrix_x<S> b;
  typename Case::context keep;
  typename Case::matrix forward = Case::backend::upload(keep, matrix_x<S>::Zero(1, 1));
  typename Case::matrix back = Case::backend::upload(keep, matrix_x<S>::Zero(1, 1));
};

template <class Case, class M>
void obeys_the_laws(product_of_b<Case> const& around, M const& m) {
  patch<Case, M> at(m, n, p);
  BOOST_TEST(around(at.down(at.x)) < at.rounding(9));
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, around);
  has_retraction(at, around, polar_retraction{});
  if constexpr (M::has_solve) {
    is_second_order(at, polar_retraction{});
    has_gradient_and_hessian(at, 1, polar_retraction{});
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(generalized_stiefel)

BOOST_AUTO_TEST_CASE_TEMPLATE(the_metric_of_b_obeys_the_laws_of_a_manifold, Case, law_cases) {
  product_of_b<Case> const around;
  obeys_the_laws(around, around.with_solver());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_metric_of_the_space_around_obeys_the_laws_of_a_manifold, Case,
                              law_cases) {
  product_of_b<Case> const around;
  obeys_the_laws(around, around.without_solver());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(hessians_of_both_metrics_are_derivatives_of_the_gradient, Case,
                              plain_cases) {
  // Hess f[v] is the projected derivative of the gradient field along a curve with velocity v.
  product_of_b<Case> const around;
  auto const check = [&](auto const& m) {
    patch<Case, std::remove_cvref_t<decltype(m)>> at(m, n, p);
    quadratic<std::remove_cvref_t<decltype(at)>> const cost(at, 1);
    auto const gradient_at = [&](double t) {
      auto const step = at.times(t, at.v);
      auto y = at.blank(), g = at.blank();
      retract(at.ctx, m, at.x, step, y, polar_retraction{});
      cost.gradient(at.ctx, y, g);
      riemannian_gradient(at.ctx, m, y, g, g);
      return at.down(g);
    };
    double const t = 1e-4;
    auto const difference = at.up((gradient_at(t) - gradient_at(-t)) / (2 * t));
    auto expected = at.blank(), found = at.blank(), g = at.blank(), h = at.blank();
    project(at.ctx, m, at.x, difference, expected);
    cost.gradient(at.ctx, at.x, g);
    cost.hessian(at.ctx, at.v, h);
    riemannian_hessian(at.ctx, m, at.x, g, h, at.v, found);
    BOOST_TEST(near(at.down(found), at.down(expected), 100 * t * t));
  };
  check(around.with_solver());
  check(around.without_solver());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nearest_point_of_the_diagonal_case_is_exact, Case, plain_cases) {
  place<Case> at;
  matrix_x<double> b = matrix_x<double>::Zero(3, 3), z = matrix_x<double>::Zero(3, 2);
  b.diagonal() << 1, 4, 1;
  z(0, 0) = 1;
  z(1, 1) = 2;
  matrix_x<double> expected = z;
  expected(1, 1) = 0.5;
  auto const matrix = at.up(b), from = at.up(z);
  stiefelx::generalized_stiefel const m{3, 2, by_matrix(matrix)};
  auto x = at.up(z);
  auto bits = status_matrix<typename Case::backend>(at.ctx);
  nearest_point(at.ctx, m, from, x, bits);
  BOOST_TEST(same(at.down(x), expected));
  BOOST_TEST(value(at.ctx, bits) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nearest_point_is_nearest_in_the_norm_of_b, Case, accuracy_cases) {
  product_of_b<Case> const around;
  auto const m = around.with_solver();
  patch<Case, std::remove_cvref_t<decltype(m)>> at(m, n, p);
  auto const z = at.up(random_matrix<typename Case::scalar>(n, p, 3));
  auto x = at.blank(), gap = at.blank();
  nearest_point(at.ctx, m, z, x);
  BOOST_TEST(around(at.down(x)) < at.rounding(9));
  // The residual is normal at x: its projection vanishes.
  copy(at.ctx, z, gap);
  axpy(at.ctx, -1, x, gap);
  project(at.ctx, m, x, gap, gap);
  BOOST_TEST(static_cast<double>(at.down(gap).norm()) < at.rounding(30));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_identity_gives_the_stiefel_manifold, Case, plain_cases) {
  place<Case> at;
  auto const eye = at.up(matrix_x<double>::Identity(n, n));
  auto const x = at.up(orthonormal_frame<double>(n, p, 2)),
             z = at.up(random_matrix<double>(n, p, 3));
  auto v = at.up(random_matrix<double>(n, p, 3)), w = at.up(random_matrix<double>(n, p, 3));
  stiefelx::stiefel const plain{n, p};
  project(at.ctx, plain, x, z, w);
  auto const compare = [&](auto const& m) {
    project(at.ctx, m, x, z, v);
    BOOST_TEST(near(at.down(v), at.down(w), tolerance<double>(n)));
    auto y = at.up(random_matrix<double>(n, p, 3)),
         expected = at.up(random_matrix<double>(n, p, 3));
    retract(at.ctx, m, x, v, y);
    retract(at.ctx, plain, x, v, expected);
    BOOST_TEST(near(at.down(y), at.down(expected), tolerance<double>(n)));
  };
  compare(stiefelx::generalized_stiefel{n, p, by_matrix(eye)});
  compare(stiefelx::generalized_stiefel{n, p, by_matrix(eye), by_matrix(eye)});
}

BOOST_AUTO_TEST_CASE(b_may_be_any_callable) {
  // 2 I plus the shift up and down, without a matrix.
  auto const chain = [](auto&, auto const& x, auto& bx) {
    bx = 3 * x;
    bx.topRows(x.rows() - 1) += x.bottomRows(x.rows() - 1);
    bx.bottomRows(x.rows() - 1) += x.topRows(x.rows() - 1);
  };
  matrix_x<double> b = 3 * matrix_x<double>::Identity(n, n);
  b.diagonal(1).setOnes();
  b.diagonal(-1).setOnes();
  using Case = test_case<host_backend, double>;
  patch<Case, stiefelx::generalized_stiefel<std::remove_cvref_t<decltype(chain)>>> at({n, p, chain},
                                                                                      n, p);
  matrix_x<double> const g = at.x.transpose() * b * at.x;
  BOOST_TEST(near(g, matrix_x<double>::Identity(p, p), at.rounding(5)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, plain_cases) {
  product_of_b<Case> const around;
  auto const m = around.without_solver();
  patch<Case, std::remove_cvref_t<decltype(m)>> at(m, n, p);
  auto wide = m;
  wide.p = n + 1;
  BOOST_TEST(message_of([&] { retract(at.ctx, m, at.x, at.v, at.v); }) ==
             "retract: y overlaps v, expected separate memory");
  BOOST_TEST(message_of([&] { project(at.ctx, wide, at.x, at.v, at.u); }) ==
             "project: the manifold is generalized_stiefel{6, 7}, expected 0 <= p <= n");
  BOOST_TEST(message_of([&] {
               retract(at.ctx, m, at.x, at.v, at.u, polar_retraction{.iterations = 0});
             }) == "retract: polar_retraction::iterations is 0, expected a number of at least 1");
}

BOOST_AUTO_TEST_SUITE_END()
