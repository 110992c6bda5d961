// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Matrices of fixed rank against dense oracles: the projector onto the tangent space, the metric,
// the truncated singular value decomposition, and descents to a matrix of known rank.

#include <cmath>
#include <complex>
#include <vector>

#include <Eigen/LU>
#include <Eigen/SVD>
#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/fixed_rank.hpp>
#include <stiefelx/manifold/fixed_rank_retraction.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <support/loops.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using of_rank = stiefelx::fixed_rank;

/// Thin, and with fewer than 2 r rows or columns.
std::vector<of_rank> const shapes{{9, 7, 2}, {3, 8, 2}, {8, 3, 2}, {4, 4, 4}, {5, 1, 1}};

/// A complex matrix a + i b as the real one [a -b; b a], so that one oracle serves every scalar:
/// products, adjoints and projectors go over, and singular values come twice.
template <class A>
Eigen::MatrixXd real_form(A const& a) {
  using S = typename A::Scalar;
  if constexpr (std::is_floating_point_v<S>) {
    return a.template cast<double>();
  } else {
    Eigen::MatrixXd both(2 * a.rows(), 2 * a.cols());
    both << a.real(), -a.imag(), a.imag(), a.real();
    return both;
  }
}

/// The orthogonal projector onto the tangent space at b q^T, by its definition, applied to z.
Eigen::MatrixXd projected(Eigen::MatrixXd const& b, Eigen::MatrixXd const& q,
                          Eigen::MatrixXd const& z) {
  Eigen::MatrixXd const u = b * (b.transpose() * b).inverse();
  Eigen::MatrixXd const pz = u * (b.transpose() * z), zp = z * q * q.transpose();
  return pz + zp - pz * q * q.transpose();
}

/// The truncated singular value decomposition, and what the gap below it does to errors.
struct truncated {
  truncated(Eigen::MatrixXd const& a, index_t rank) {
    Eigen::JacobiSVD<Eigen::MatrixXd> const svd(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
    auto const& sigma = svd.singularValues();
    nearest = svd.matrixU().leftCols(rank) * sigma.head(rank).asDiagonal() *
              svd.matrixV().leftCols(rank).transpose();
    double const below = sigma.size() > rank ? sigma(rank) : 0;
    condition = sigma(0) / (sigma(rank - 1) - below);
  }
  Eigen::MatrixXd nearest;
  double condition;
};

/// Dense matrices of a patch.
template <class P>
struct dense_view {
  using S = typename P::S;
  using table = matrix_x<S>;

  explicit dense_view(P& patch) : at(patch), m(patch.m) {}

  table left(table const& x) const { return x.topRows(m.rows); }
  table right(table const& x) const { return x.bottomRows(m.cols); }
  /// W of a point.
  template <class A>
  table product_of(A const& x) const {
    table const a = at.down(x);
    return loop_product(left(a), loop_adjoint(right(a)));
  }
  /// The matrix that a tangent vector stands for.
  template <class A, class B>
  table direction_of(A const& x, B const& v) const {
    table const a = at.down(x), d = at.down(v);
    return loop_product(left(d), loop_adjoint(right(a))) +
           loop_product(left(a), loop_adjoint(right(d)));
  }
  /// The gradients by the factors for a dense gradient.
  template <class A>
  table factor_gradient(A const& x, table const& z) const {
    table const a = at.down(x);
    table g(m.rows + m.cols, m.rank);
    g.topRows(m.rows) = loop_product(z, right(a));
    g.bottomRows(m.cols) = loop_product(loop_adjoint(z), left(a));
    return g;
  }

  P& at;
  of_rank m;
};

template <class Case>
using rank_patch = patch<Case, of_rank>;

struct right_defect {
  of_rank m;

  template <class A>
  double operator()(A const& y) const {
    matrix_x<typename A::Scalar> const q = y.bottomRows(m.cols), g = q.adjoint() * q;
    return static_cast<double>(
        (g - matrix_x<typename A::Scalar>::Identity(g.rows(), g.cols())).norm());
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(fixed_rank)

BOOST_AUTO_TEST_CASE_TEMPLATE(fixed_rank_obeys_the_laws_of_a_manifold, Case, law_cases) {
  for (double const damping : {0.0, 0.5}) {
    of_rank const m{9, 7, 2, damping};
    rank_patch<Case> at(m, 16, 2);
    obeys_the_minimum(at);
    has_dimension(at, std::is_floating_point_v<typename Case::scalar> ? 28 : 56);
    has_retraction(at, right_defect{m});
    quadratic<rank_patch<Case>> const cost(at, 1);
    auto const slope =
        check_gradient(at.ctx, at.m, at.x, at.v, cost,
                       [&](auto& ctx, auto const& y, auto& g) { cost.gradient(ctx, y, g); });
    BOOST_TEST_CONTEXT(slope) BOOST_TEST(slope.passed);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradient_is_the_projector_of_the_dense_oracle, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const& m : shapes) BOOST_TEST_CONTEXT(m.rows << "x" << m.cols) {
      rank_patch<Case> at(m, m.rows + m.cols, m.rank);
      dense_view<rank_patch<Case>> const dense(at);
      matrix_x<S> const z = random_matrix<S>(m.rows, m.cols, 3),
                        y = random_matrix<S>(m.rows, m.cols, 4);
      auto v = at.blank(), again = at.blank(), other = at.blank();
      riemannian_gradient(at.ctx, m, at.x, at.up(dense.factor_gradient(at.x, z)), v);
      matrix_x<S> const pz = dense.direction_of(at.x, v);
      Eigen::MatrixXd const b = real_form(dense.left(at.down(at.x))),
                            q = real_form(dense.right(at.down(at.x)));
      // b^H b is inverted, so its condition counts.
      Eigen::MatrixXd const g = b.transpose() * b;
      double const rounding = tolerance<S>(m.rows + m.cols, g.norm() * g.inverse().norm());
      BOOST_TEST(near(real_form(pz), projected(b, q, real_form(z)), rounding, 5));
      // Idempotent and self-adjoint, through the factors.
      riemannian_gradient(at.ctx, m, at.x, at.up(dense.factor_gradient(at.x, pz)), again);
      BOOST_TEST(near(dense.direction_of(at.x, again), pz, rounding, 5));
      riemannian_gradient(at.ctx, m, at.x, at.up(dense.factor_gradient(at.x, y)), other);
      matrix_x<S> const py = dense.direction_of(at.x, other);
      double const one = static_cast<double>(std::real((pz.adjoint() * y).trace()));
      double const two = static_cast<double>(std::real((z.adjoint() * py).trace()));
      BOOST_TEST(std::abs(one - two) < 30 * rounding);
      // The metric is that of the space around W.
      double const three = static_cast<double>(std::real((pz.adjoint() * py).trace()));
      BOOST_TEST(std::abs(at.metric(v, other) - three) < 30 * rounding);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_is_the_truncated_singular_value_decomposition, Case,
                              accuracy_cases) {
  using S = typename Case::scalar;
  for (auto const& m : shapes)
    for (double const length : {0.0, 0.3, 3.0})
      BOOST_TEST_CONTEXT(m.rows << "x" << m.cols << ", length " << length) {
        rank_patch<Case> at(m, m.rows + m.cols, m.rank);
        dense_view<rank_patch<Case>> const dense(at);
        auto const step = at.times(length, at.v);
        matrix_x<S> const sum = dense.product_of(at.x) + dense.direction_of(at.x, step);
        index_t const copies = real_form(sum).rows() / m.rows;
        truncated const expected(real_form(sum), copies * m.rank);
        auto y = at.blank();
        auto bits = status_matrix<typename Case::backend>(at.ctx);
        retract(at.ctx, m, at.x, step, y, bits);
        // The gap below the last singular value that is kept sets the condition.
        BOOST_TEST(near(real_form(dense.product_of(y)), expected.nearest,
                        tolerance<S>(m.rows + m.cols, expected.condition)));
        BOOST_TEST(right_defect{m}(at.down(y)) < at.rounding());
        BOOST_TEST(value(at.ctx, bits) == 0);
        if (length == 0) BOOST_TEST(near(at.down(y), at.down(at.x), at.rounding()));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(transport_is_the_projector_at_the_new_point, Case, law_cases) {
  using S = typename Case::scalar;
  of_rank const m{9, 7, 2};
  rank_patch<Case> at(m, 16, 2);
  dense_view<rank_patch<Case>> const dense(at);
  auto y = at.blank(), w = at.blank(), turned = at.blank();
  retract(at.ctx, m, at.x, at.times(2, at.v), y);
  transport(at.ctx, m, at.x, y, at.u, w);
  Eigen::MatrixXd const expected =
      projected(real_form(dense.left(at.down(y))), real_form(dense.right(at.down(y))),
                real_form(dense.direction_of(at.x, at.u)));
  BOOST_TEST(near(real_form(dense.direction_of(y, w)), expected, at.rounding(20)));
  // Other factors of the same y give the same matrix.
  matrix_x<S> const basis = orthonormal_frame<S>(2, 2, 8);
  auto const other = at.up(at.down(y) * basis);
  transport(at.ctx, m, at.x, other, at.u, turned);
  BOOST_TEST(near(real_form(dense.direction_of(other, turned)), expected, at.rounding(20)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(drift_is_repaired_without_a_change_of_the_matrix, Case, plain_cases) {
  of_rank const m{9, 7, 2};
  rank_patch<Case> at(m, 16, 2);
  dense_view<rank_patch<Case>> const dense(at);
  matrix_x<double> x = at.down(at.x);
  double const drift = 1e-6;
  x.bottomRows(7) *= 1 + drift;
  auto const off = at.up(x);
  auto y = at.blank();
  retract(at.ctx, m, off, at.blank(), y);
  BOOST_TEST(right_defect{m}(at.down(y)) < 100 * drift * drift);
  BOOST_TEST(near(dense.product_of(y), dense.product_of(off), 100 * drift * drift));
  // Factors of any kind become a point.
  auto const z = at.up(random_matrix<double>(16, 2, 9));
  nearest_point(at.ctx, m, z, y);
  BOOST_TEST(near(dense.product_of(y), dense.product_of(z), at.rounding(5)));
  BOOST_TEST(right_defect{m}(at.down(y)) < at.rounding());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(descent_finds_a_matrix_of_the_rank_also_from_zero, Case,
                              plain_cases) {
  for (bool const from_zero : {false, true}) {
    of_rank const m{9, 7, 2, from_zero ? 0.1 : 0.0};
    rank_patch<Case> at(m, 16, 2);
    dense_view<rank_patch<Case>> const dense(at);
    matrix_x<double> const target =
        orthonormal_frame<double>(9, 2, 3) * orthonormal_frame<double>(7, 2, 4).transpose();
    auto x = at.times(1, at.x);
    if (from_zero) {
      matrix_x<double> start = at.down(at.x);
      start.topRows(9).setZero();
      x = at.up(start);
    }
    stiefelx::riemannian_momentum optimizer(at.ctx, m, x, {.learning_rate = 0.2, .momentum = 0.5});
    for (int k = 0; k < 300; ++k) {
      matrix_x<double> const gradient = dense.product_of(x) - target;
      optimizer.step(at.ctx, x, at.up(dense.factor_gradient(x, gradient)));
    }
    BOOST_TEST_CONTEXT("from zero " << from_zero)
    BOOST_TEST(near(dense.product_of(x), target, 1e-9));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, plain_cases) {
  of_rank const m{9, 7, 2};
  rank_patch<Case> at(m, 16, 2);
  auto small = at.blank(9, 2);
  BOOST_TEST(message_of([&] { project(at.ctx, m, at.x, small, at.v); }) ==
             "project: z is 9x2, expected 16x2");
  BOOST_TEST(message_of([&] { retract(at.ctx, m, at.x, at.v, at.v); }) ==
             "retract: y overlaps v, expected separate memory");
  BOOST_TEST(message_of([&] { project(at.ctx, of_rank{9, 7, 8}, at.x, at.u, at.v); }) ==
             "project: the manifold is fixed_rank{9, 7, 8}, expected a rank up to rows and cols");
  BOOST_TEST(message_of([&] { project(at.ctx, of_rank{9, 7, 2, -1}, at.x, at.u, at.v); }) ==
             "project: fixed_rank::damping is -1.000000, expected a number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
