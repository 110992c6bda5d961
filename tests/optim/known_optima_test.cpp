// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Conjugate gradients by every rule on problems whose optimum a decomposition gives.

#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <type_traits>

#include <Eigen/Eigenvalues>
#include <boost/test/unit_test.hpp>

#include <optim/brockett.hpp>
#include <optim/conjugate_rules.hpp>
#include <optim/ended.hpp>
#include <stiefelx/manifold/fixed_rank.hpp>
#include <stiefelx/manifold/fixed_rank_retraction.hpp>
#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;
using matrix = matrix_x<double>;
using both_fields = std::tuple<double, std::complex<double>>;
using host_cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
                              test_case<host_backend, std::complex<double>>>;

/// Singular values, ascending, by the eigenvalues of the Gram matrix.
Eigen::VectorXd singular_values(matrix const& a) {
  return Eigen::SelfAdjointEigenSolver<matrix>(a.transpose() * a).eigenvalues().cwiseSqrt();
}

/// Orthogonality of x, by the largest entry.
template <class S>
double defect(matrix_x<S> const& x) {
  return (x.adjoint() * x - matrix_x<S>::Identity(x.cols(), x.cols())).cwiseAbs().maxCoeff();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(known_optima)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_rule_finds_the_leading_eigenspace_to_1e_8, Case, host_cases) {
  using S = typename Case::scalar;
  index_t const n = 24, p = 3;
  place<Case> at;
  matrix_x<S> const a = positive_matrix<S>(n, 30, 5);
  auto problem = brockett<Case, stiefel, false>::make(at.ctx, stiefel{n, p}, -a,
                                                      matrix_x<S>::Zero(n, p), equal_weights(p));
  using wide = stiefelx::wide_t<S>;
  Eigen::SelfAdjointEigenSolver<matrix_x<wide>> const oracle(loop_cast<wide>(a));
  double const largest = oracle.eigenvalues().tail(p).sum();
  double const eps = std::numeric_limits<typename Case::real>::epsilon();
  double const bound = eps < 1e-10 ? 1e-8 * static_cast<double>(a.norm()) : 20 * eps;
  for_each_rule([&](conjugate_rule rule) {
    auto x = at.up(orthonormal_frame<S>(n, p, 60));
    auto const found = minimize(at.ctx, problem, x, stiefelx::conjugate_gradient{.rule = rule},
                                gradient_below{bound} || iterations{400});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST(std::fabs(-2 * found.last.cost - largest) < tolerance<S>(n) * largest);
    BOOST_TEST(defect<S>(at.down(x)) < tolerance<S>(n));
    BOOST_TEST(problem.most_gradients == 1);
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(brocketts_cost_pairs_eigenvalues_with_weights, S, both_fields) {
  using Case = test_case<host_backend, S>;
  index_t const n = 16, p = 4;
  place<Case> at;
  matrix_x<S> const a = positive_matrix<S>(n, 10, 7);
  matrix_x<double> weights(1, p);
  weights << 4, 1, 3, 2;
  auto problem = brockett<Case, stiefel, false>::make(at.ctx, stiefel{n, p}, a,
                                                      matrix_x<S>::Zero(n, p), weights);
  auto const values = Eigen::SelfAdjointEigenSolver<matrix_x<S>>(a).eigenvalues().eval();
  // The largest weight goes to the least eigenvalue.
  double const least = (4 * values(0) + 3 * values(1) + 2 * values(2) + values(3)) / 2;
  double const bound = 1e-8 * a.norm();
  for (double metric : {euclidean_metric, canonical_metric})
    for_each_rule([&](conjugate_rule rule) {
      problem.manifold.alpha = metric;
      matrix_x<S> x = orthonormal_frame<S>(n, p, 80);
      stiefelx::conjugate_gradient const solver{.rule = rule};
      auto const found =
          minimize(at.ctx, problem, x, solver, gradient_below{bound} || iterations{600});
      BOOST_TEST(ended(found, stop_reason::gradient_norm));
      BOOST_TEST_MESSAGE("Brockett: " << found.last.number << " iterations, "
                                      << found.last.cost_evaluations << " costs");
      BOOST_TEST(std::fabs(found.last.cost - least) <
                 tolerance<double>(n) * least + bound * bound / (values(1) - values(0)));
    });
}

BOOST_AUTO_TEST_CASE(known_optima_on_other_manifolds_are_reached) {
  using Case = test_case<host_backend, double>;
  index_t const n = 15, p = 3;
  place<Case> at;
  matrix const a = positive_matrix<double>(n, 20, 9), none = matrix::Zero(n, p);
  matrix const start = orthonormal_frame<double>(n, p, 100);
  Eigen::SelfAdjointEigenSolver<matrix> const oracle(a);
  auto const& values = oracle.eigenvalues();
  auto const expect = [&](auto const& m, matrix const& square, matrix const& line, matrix x,
                          double optimum) {
    using M = std::remove_cvref_t<decltype(m)>;
    auto problem = brockett<Case, M, false>::make(at.ctx, m, square, line, equal_weights(x.cols()));
    auto const found = minimize(at.ctx, problem, x, stiefelx::conjugate_gradient{},
                                gradient_below{1e-8} || iterations{600});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST(std::fabs(found.last.cost - optimum) < tolerance<double>(n) * std::fabs(optimum));
    BOOST_TEST(problem.most_gradients == 1);
  };
  BOOST_TEST_CONTEXT("grassmann, leading eigenspace")
  expect(grassmann{n, p}, -a, none, start, -values.tail(p).sum() / 2);
  BOOST_TEST_CONTEXT("sphere, leading eigenvector")
  expect(sphere{n, 1}, -a, none.leftCols(1), start.leftCols(1), -values(n - 1) / 2);
  BOOST_TEST_CONTEXT("oblique, one eigenvector many times")
  expect(oblique{n, p}, -a, none, start, -values(n - 1) * p / 2);
  matrix const c = random_matrix<double>(n, p, 11);
  BOOST_TEST_CONTEXT("stiefel, Procrustes")
  expect(stiefel{n, p}, matrix::Zero(n, n), c, start, -singular_values(c).sum());
}

BOOST_AUTO_TEST_CASE(the_nearest_matrix_of_low_rank_is_that_of_eckart_and_young) {
  index_t const rows = 9, cols = 7, rank = 2;
  host::context ctx;
  fixed_rank const m{rows, cols, rank};
  matrix const target = conditioned_matrix<double>(rows, cols, 50, 12);
  problem_of nearest{
      m,
      [&](host::context&, auto const& x) {
        return 0.5 * (x.topRows(rows) * x.bottomRows(cols).transpose() - target).squaredNorm();
      },
      [&](host::context&, auto const& x, auto& g) {
        matrix const rest = x.topRows(rows) * x.bottomRows(cols).transpose() - target;
        g.topRows(rows) = rest * x.bottomRows(cols);
        g.bottomRows(cols) = rest.transpose() * x.topRows(rows);
      }};
  matrix x(rows + cols, rank);
  random_stream stream{1, 0};
  random_point(ctx, m, stream, x);
  auto const found = minimize(ctx, nearest, x, stiefelx::conjugate_gradient{},
                              gradient_below{1e-9} || iterations{600});
  BOOST_TEST(ended(found, stop_reason::gradient_norm));
  double const rest = singular_values(target).head(cols - rank).squaredNorm() / 2;
  BOOST_TEST(std::fabs(found.last.cost - rest) < tolerance<double>(rows, 10) * rest);
}

BOOST_AUTO_TEST_SUITE_END()
