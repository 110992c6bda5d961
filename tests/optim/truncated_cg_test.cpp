// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The model's minimizer in a ball: dense solves, the Cauchy point, singular and indefinite models.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <Eigen/Cholesky>
#include <boost/test/unit_test.hpp>

#include <optim/brockett.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/optim/truncated_cg.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::truncation;

/// A model <g, v> + <v, a v> / 2 on a flat space, as the tests see it.
template <class S>
struct model {
  matrix_x<S> a, g;

  double value(matrix_x<S> const& v) const {
    matrix_x<S> const av = loop_product(a, v);
    return Eigen::numext::real((loop_adjoint(g) * v).trace() +
                               (loop_adjoint(v) * av).trace() * S(0.5));
  }

  /// The least value along -g in a ball.
  double cauchy(double radius) const {
    double const length = g.norm();
    matrix_x<S> const ag = loop_product(a, g);
    double const curvature = Eigen::numext::real((loop_adjoint(g) * ag).trace());
    double const t =
        curvature > 0 ? std::min(radius / length, length * length / curvature) : radius / length;
    return value(g * S(static_cast<stiefelx::real_of_t<S>>(-t)));
  }
};

/// What truncated_cg finds for a model, and the step. The preconditioner is `smooth` times.
template <class Case, bool Preconditioned = false>
struct search {
  using S = typename Case::scalar;
  using X = decltype(clone(std::declval<typename Case::context&>(),
                           std::declval<typename Case::matrix&>()));
  using numbers = decltype(scratch<double>(std::declval<typename Case::context&>(), 1, 4));

  matrix_x<S> step;
  stiefelx::truncated_cg_result found;

  search(model<S> const& q, double radius, double residual, index_t products,
         matrix_x<S> const& smooth = matrix_x<S>(), double sufficient = 0) {
    place<Case> p;
    index_t const n = q.g.rows(), k = q.g.cols();
    auto const a = p.up(q.a), s = p.up(smooth), g = p.up(q.g);
    auto const x = p.up(matrix_x<S>::Zero(n, k));
    matrix_x<S> const pg = Preconditioned ? loop_product(smooth, q.g) : q.g;
    auto const z = p.up(pg);
    double const weighted = Eigen::numext::real((loop_adjoint(q.g) * pg).trace());
    stiefelx::truncated_cg<X, numbers, Preconditioned> solver(p.ctx, x);
    found = solver.find(
        p.ctx, euclidean{n, k}, x, g, z, [&](auto const& v, auto& w) { multiply(p.ctx, a, v, w); },
        [&](auto const& v, auto& w) { multiply(p.ctx, s, v, w); },
        {weighted, radius, residual, sufficient, products});
    step = p.down(solver.step());
  }
};

/// Hermitian with eigenvalues from -1 to 1.
template <class S>
matrix_x<S> indefinite_matrix(index_t n) {
  using real = stiefelx::real_of_t<S>;
  matrix_x<S> const frame = orthonormal_frame<S>(n, n, 1);
  matrix_x<S> weighted = frame;
  for (index_t j = 0; j < n; ++j)
    weighted.col(j) *=
        static_cast<real>(-1 + 2.0 * static_cast<double>(j) / static_cast<double>(n - 1));
  return loop_product(weighted, loop_adjoint(frame));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(truncated_cg)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_large_ball_holds_the_newton_step, Case, solver_cases) {
  using S = typename Case::scalar;
  index_t const n = 12;
  model<S> const q{positive_matrix<S>(n, 10, 1), random_matrix<S>(n, 1, 7)};
  matrix_x<S> const newton = q.a.ldlt().solve(-q.g);
  double const bound = tolerance<S>(n, 10);
  search<Case> const s(q, 1e3, bound * q.g.norm() / 10, 3 * n);
  BOOST_TEST((s.found.reason == truncation::residual));
  BOOST_TEST(s.found.products <= n + 2);
  BOOST_TEST(near(s.step, newton, bound));
  BOOST_TEST(std::abs(s.found.model - q.value(newton)) <= bound * std::abs(q.value(newton)));
  BOOST_TEST(std::abs(s.found.length - newton.norm()) <= bound * newton.norm());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_is_never_worse_than_the_cauchy_point, Case, solver_cases) {
  using S = typename Case::scalar;
  index_t const n = 9, k = 2;
  int boundary = 0, negative = 0, inside = 0;
  for (bool definite : {true, false}) {
    model<S> const q{definite ? positive_matrix<S>(n, 30, 1) : indefinite_matrix<S>(n),
                     random_matrix<S>(n, k, 7)};
    for (double radius = 0.01; radius < 1e3; radius *= 4) {
      search<Case> const s(q, radius, 0.01 * q.g.norm(), 100);
      boundary += s.found.reason == truncation::boundary;
      negative += s.found.reason == truncation::negative_curvature;
      inside += s.found.reason == truncation::residual;
      bool const ends = s.found.reason != truncation::residual;
      double const value = q.value(s.step), bound = tolerance<S>(n * k, 30);
      double const size = q.g.norm() * s.step.norm() + s.step.squaredNorm();
      BOOST_TEST(value <= q.cauchy(radius) + bound * size);
      BOOST_TEST(std::abs(s.found.model - value) <= bound * size);
      if (ends) BOOST_TEST(std::abs(s.step.norm() - radius) <= bound * radius);
      BOOST_TEST(s.step.norm() <= radius * (1 + bound));
    }
  }
  BOOST_TEST(boundary > 0);
  BOOST_TEST(negative > 0);
  BOOST_TEST(inside > 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_exact_preconditioner_needs_one_product, Case, double_cases) {
  index_t const n = 8, k = 2;
  matrix_x<double> const a = positive_matrix<double>(n, 100, 1);
  model<double> const q{a, random_matrix<double>(n, k, 7)};
  matrix_x<double> const inverse = a.ldlt().solve(matrix_x<double>::Identity(n, n));
  matrix_x<double> const newton = -inverse * q.g;
  double const bound = tolerance<double>(n, 100);
  search<Case, true> const s(q, 1e3, 1e-10, 50, inverse);
  BOOST_TEST((s.found.reason == truncation::residual));
  BOOST_TEST(s.found.products == 1);
  BOOST_TEST(near(s.step, newton, bound));
  // The ball has the preconditioner's norm, <v, a v>^(1/2).
  double const whole = std::sqrt((newton.transpose() * a * newton).trace());
  search<Case, true> const half(q, whole / 2, 1e-10, 50, inverse);
  BOOST_TEST((half.found.reason == truncation::boundary));
  BOOST_TEST(near(half.step, newton / 2, bound));
  // Another one: conjugate gradients still find the Newton step, in more products.
  matrix_x<double> const rough = a.diagonal().cwiseInverse().asDiagonal();
  search<Case, true> const other(q, 1e3, bound / 100, 100, rough);
  BOOST_TEST((other.found.reason == truncation::residual));
  BOOST_TEST(other.found.products > 1);
  BOOST_TEST(near(other.step, newton, tolerance<double>(n * other.found.products, 100)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_sufficient_step_is_kept_where_the_hessian_is_singular, Case,
                              double_cases) {
  index_t const n = 10;
  Eigen::VectorXd d = Eigen::VectorXd::LinSpaced(n, 1, 2), g = Eigen::VectorXd::Ones(n);
  // Curvature of both signs along two directions that hardly matter.
  d(0) = 1e-4;
  d(1) = -1e-4;
  g(0) = g(1) = 1e-3;
  model<double> const q{d.asDiagonal(), g};
  search<Case> const far(q, 5, 1e-6, 100);
  BOOST_TEST((far.found.reason != truncation::residual));
  BOOST_TEST(std::abs(far.step.norm() - 5) <= tolerance<double>(n));
  search<Case> const near_by(q, 5, 1e-6, 100, matrix_x<double>(), 0.1 * g.norm());
  BOOST_TEST((near_by.found.reason == truncation::sufficient));
  matrix_x<double> const residual = q.g + q.a * near_by.step;
  BOOST_TEST(residual.norm() < 0.01 * g.norm());
  BOOST_TEST(near_by.step.norm() < 3);
  double const bound = tolerance<double>(n) * g.norm();
  BOOST_TEST(std::abs(near_by.found.model - q.value(near_by.step)) <= bound);
  BOOST_TEST(std::abs(near_by.found.length - near_by.step.norm()) <= bound);
  BOOST_TEST(near_by.found.products == far.found.products);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(products_are_limited_and_must_be_finite, Case, double_cases) {
  model<double> q{positive_matrix<double>(9, 30, 1), random_matrix<double>(9, 1, 7)};
  search<Case> const s(q, 1e3, 0, 3);
  BOOST_TEST((s.found.reason == truncation::product_limit));
  BOOST_TEST(s.found.products == 3);
  BOOST_TEST(std::abs(s.found.length - s.step.norm()) <= tolerance<double>(9) * s.step.norm());
  q.a(2, 2) = std::numeric_limits<double>::quiet_NaN();
  search<Case> const bad(q, 0.5, 0, 3);
  BOOST_TEST((bad.found.reason == truncation::not_finite));
  BOOST_TEST(std::abs(bad.found.model + 0.5 * q.g.norm()) <= tolerance<double>(9) * q.g.norm());
  BOOST_TEST(near(bad.step, -0.5 * q.g.normalized(), tolerance<double>(9)));
}

BOOST_AUTO_TEST_SUITE_END()
