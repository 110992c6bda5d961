// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Problems whose minimum is known from eigenvalues, a bisection or how they were made: every solver
// of minimize() that fits reaches it. Run with --log_level=message for the iterations.

#include <algorithm>
#include <cmath>
#include <complex>
#include <functional>
#include <limits>
#include <type_traits>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <Eigen/SVD>
#include <boost/test/unit_test.hpp>

#include <optim/ended.hpp>
#include <optim/problems.hpp>
#include <stiefelx/manifold/generalized_stiefel.hpp>
#include <stiefelx/manifold/generalized_stiefel_retraction.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/barzilai_borwein.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/gradient_descent.hpp>
#include <stiefelx/optim/limited_bfgs.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/trust_region.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::gradient_below;
using stiefelx::iterations;
using stiefelx::stiefel;
using stiefelx::stop_reason;
using matrix = matrix_x<double>;

/// Relative length of the gradient that is asked for: where the cost is known to its rounding.
double const short_gradient = std::sqrt(std::numeric_limits<double>::epsilon());

/// \brief Minimizes with every solver, and compares the end to what is known.
///
/// A gradient of length g leaves, to second order, a distance of g / c to the minimum and a cost of
/// g^2 / 2 c above it, c the least curvature; 4 covers the orders beyond. The method of steepest
/// descent divides the excess of the cost by (1 - 1/k)^-1 an iteration, k the ratio of curvatures,
/// and conjugate gradients with the root of k; an inexact search and the way to where the cost is
/// quadratic are given a factor of 10.
template <class M, class S, class Distance>
void every_solver_reaches(known_problem<M, S> const& problem, matrix_x<S> const& start,
                          Distance const& distance) {
  double const asked = short_gradient * problem.size;
  double const condition = problem.largest / problem.convexity;
  double const away = 4 * asked / problem.convexity;
  double const above =
      4 * asked * asked / problem.convexity +
      tolerance<S>(start.size()) * std::max(std::abs(problem.minimum), problem.size);
  double const digits = -std::log(short_gradient);
  auto const limit = [&](double rate) { return static_cast<index_t>(10 * rate * digits) + 50; };
  BOOST_REQUIRE(distance(start) > away);
  stiefelx::host::context ctx;
  auto const reach = [&](char const* name, auto const& solver, index_t most) {
    BOOST_TEST_CONTEXT(name) {
      matrix_x<S> x = start;
      auto const found =
          minimize(ctx, problem, x, solver, gradient_below{asked} || iterations{most});
      BOOST_TEST_MESSAGE("  " << name << ": " << found.last.number << " iterations of at most "
                              << most << ", " << found.last.cost_evaluations << " costs, "
                              << found.last.hessian_evaluations << " products; cost "
                              << found.last.cost - problem.minimum << " above, distance "
                              << distance(x) << " of at most " << away);
      BOOST_TEST(ended(found, stop_reason::gradient_norm));
      BOOST_TEST(std::abs(found.last.cost - problem.minimum) <= above);
      BOOST_TEST(distance(x) <= away);
    }
  };
  BOOST_TEST_MESSAGE("condition " << condition);
  reach("gradient_descent", stiefelx::gradient_descent{}, limit(condition));
  reach("barzilai_borwein", stiefelx::barzilai_borwein{}, limit(condition));
  reach("conjugate_gradient", stiefelx::conjugate_gradient{}, limit(std::sqrt(condition)));
  reach("limited_bfgs", stiefelx::limited_bfgs{}, limit(std::sqrt(condition)));
  // Newton's method doubles digits; the way there is what the radius allows.
  reach("trust_region", stiefelx::trust_region{}, 100);
}

Eigen::VectorXd spread(index_t n, double first, double last) {
  return Eigen::VectorXd::LinSpaced(n, first, last);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(planted_optima)

BOOST_AUTO_TEST_CASE(the_leading_eigenspace_is_found) {
  index_t const n = 40, p = 4;
  matrix const q = orthonormal_frame<double>(n, n, 1);
  Eigen::VectorXd const values = spread(n, 4, -2);
  auto const problem =
      eigenspace_problem<stiefel, double>({n, p}, with_eigenvalues(q, values), values);
  matrix const lead = q.leftCols(p);
  every_solver_reaches(problem, orthonormal_frame<double>(n, p, 2),
                       [&](matrix const& x) { return space_distance<double>(x, lead); });
}

BOOST_AUTO_TEST_CASE(principal_components_of_condition_1000_are_found) {
  // The spectrum of POGO's instance, from 1 to 1/1000 in equal ratios; it keeps three quarters.
  index_t const n = 32, p = 24;
  Eigen::VectorXd values(n);
  for (index_t j = 0; j < n; ++j)
    values(j) = std::pow(1000, -static_cast<double>(j) / static_cast<double>(n - 1));
  matrix const q = orthonormal_frame<double>(n, n, 3);
  auto const problem =
      eigenspace_problem<stiefel, double>({n, p}, with_eigenvalues(q, values), values);
  matrix const lead = q.leftCols(p);
  every_solver_reaches(problem, orthonormal_frame<double>(n, p, 4),
                       [&](matrix const& x) { return space_distance<double>(x, lead); });
}

BOOST_AUTO_TEST_CASE(brocketts_cost_finds_eigenvectors_in_the_order_of_the_weights) {
  index_t const n = 12, p = 3;
  Eigen::VectorXd const values = spread(n, -1, 3), weights = spread(p, 3, 1);
  auto const run = [&]<class S>(S) {
    matrix_x<S> const q = orthonormal_frame<S>(n, n, 5), lead = q.leftCols(p);
    auto const problem =
        brockett_problem<stiefel, S>({n, p}, with_eigenvalues(q, values), values, weights);
    // Columns are known up to a factor of modulus one.
    auto const distance = [&](matrix_x<S> const& x) {
      Eigen::VectorXd const cosines = (lead.adjoint() * x).diagonal().cwiseAbs();
      matrix_x<S> rest = x;
      for (index_t j = 0; j < p; ++j) rest.col(j) -= lead.col(j) * lead.col(j).dot(x.col(j));
      return cosines.minCoeff() > 0.5 ? static_cast<double>(rest.norm()) : 1.0;
    };
    every_solver_reaches(problem, orthonormal_frame<S>(n, p, 6), distance);
  };
  BOOST_TEST_CONTEXT("real") run(double{});
  BOOST_TEST_CONTEXT("complex") run(std::complex<double>{});
}

BOOST_AUTO_TEST_CASE(procrustes_finds_the_polar_factor_of_its_component) {
  index_t const n = 6;
  matrix const a = conditioned_matrix<double>(9, n, 3, 7);
  matrix const planted = orthonormal_frame<double>(n, n, 9);
  matrix const b = a * planted + 0.05 * random_matrix<double>(9, n, 10);
  Eigen::JacobiSVD<matrix> const svd(a.transpose() * b, Eigen::ComputeFullU | Eigen::ComputeFullV);
  matrix const best = svd.matrixU() * svd.matrixV().transpose();
  auto const problem = procrustes_problem<stiefel>({n, n}, a, b, best, svd.singularValues());
  matrix start = orthonormal_frame<double>(n, n, 11);
  if (start.determinant() * best.determinant() < 0) start.col(0) *= -1;
  every_solver_reaches(problem, start, [&](matrix const& x) { return (x - best).norm(); });
}

BOOST_AUTO_TEST_CASE(the_generalized_eigenproblem_is_solved) {
  index_t const n = 16, p = 3;
  matrix const a = with_eigenvalues<double>(orthonormal_frame<double>(n, n, 12), spread(n, -1, 3));
  matrix const b = positive_matrix<double>(n, 100, 13);
  Eigen::LLT<matrix> const factor(b);
  auto const solve_b = [&](auto&, auto const& g, auto& y) { y = factor.solve(matrix(g)); };
  stiefelx::generalized_stiefel const m(n, p, stiefelx::by_matrix(b), solve_b);
  Eigen::GeneralizedSelfAdjointEigenSolver<matrix> const oracle(a, b);
  Eigen::VectorXd const values = -oracle.eigenvalues();
  auto const problem = eigenspace_problem<std::remove_const_t<decltype(m)>, double>(m, -a, values);
  matrix const root = factor.matrixU();
  matrix const lead = root * oracle.eigenvectors().leftCols(p);
  // The pull-back by the root of B is the Stiefel manifold.
  matrix const start =
      root.triangularView<Eigen::Upper>().solve(orthonormal_frame<double>(n, p, 14));
  every_solver_reaches(problem, start,
                       [&](matrix const& x) { return space_distance<double>(root * x, lead); });
}

BOOST_AUTO_TEST_CASE(the_trace_ratio_is_the_root_of_a_monotone_equation) {
  index_t const n = 20, p = 3;
  matrix const a = with_eigenvalues<double>(orthonormal_frame<double>(n, n, 15), spread(n, 2, -1));
  matrix const b = positive_matrix<double>(n, 10, 16);
  double const ratio = largest_trace_ratio(a, b, p, -10, 20);
  Eigen::SelfAdjointEigenSolver<matrix> const at_best(a - ratio * b);
  matrix const lead = at_best.eigenvectors().rightCols(p);
  Eigen::VectorXd const values = at_best.eigenvalues().reverse();
  auto problem = trace_ratio_problem<stiefel>({n, p}, a, b);
  double const scale = 2 / (lead.transpose() * b * lead).trace();
  problem.minimum = -ratio;
  problem.size = scale * values.cwiseAbs().maxCoeff();
  problem.convexity = scale * (values(p - 1) - values(p));
  problem.largest = scale * (values(0) - values(n - 1));
  every_solver_reaches(problem, orthonormal_frame<double>(n, p, 17),
                       [&](matrix const& x) { return space_distance<double>(x, lead); });
}

BOOST_AUTO_TEST_CASE(independent_components_are_found_up_to_sign_and_order) {
  index_t const n = 5;
  matrix const q = orthonormal_frame<double>(n, n, 18);
  auto const problem = ica_problem<stiefel>({n, n}, q, spread(n, 2, 1));
  every_solver_reaches(problem, orthonormal_frame<double>(n, n, 19),
                       [&](matrix const& x) { return amari_index(q, x); });
}

BOOST_AUTO_TEST_CASE(matrices_that_commute_are_diagonalized_together) {
  index_t const n = 5, count = 4;
  matrix const q = orthonormal_frame<double>(n, n, 20);
  auto const problem =
      diagonalization_problem<stiefel>({n, n}, q, random_matrix<double>(count, n, 21));
  every_solver_reaches(problem, orthonormal_frame<double>(n, n, 22),
                       [&](matrix const& x) { return amari_index(q, x); });
}

BOOST_AUTO_TEST_CASE(a_correlation_matrix_of_low_rank_is_met_exactly) {
  index_t const rank = 3, n = 12;
  auto const unit_columns = [&](std::uint64_t seed) {
    matrix x = random_matrix<double>(rank, n, seed);
    x.colwise().normalize();
    return x;
  };
  matrix const planted = unit_columns(23), c = planted.transpose() * planted;
  auto problem = correlation_problem<stiefelx::oblique>({rank, n}, c);
  // The Hessian at the planted factor, in coordinates of the tangent space: its least eigenvalue
  // beyond those of the rotations, which leave the cost alone.
  matrix basis = matrix::Zero(rank * n, (rank - 1) * n), hessian(rank * n, rank * n);
  for (index_t k = 0; k < rank * n; ++k) {
    matrix e = matrix::Zero(rank, n);
    e(k % rank, k / rank) = 1;
    hessian.col(k) = problem.curvature(planted, e).reshaped();
  }
  for (index_t j = 0; j < n; ++j) {
    matrix const frame = planted.col(j).householderQr().householderQ();
    basis.block(rank * j, (rank - 1) * j, rank, rank - 1) = frame.rightCols(rank - 1);
  }
  Eigen::SelfAdjointEigenSolver<matrix> const curvature(basis.transpose() * hessian * basis);
  index_t const rotations = rank * (rank - 1) / 2;
  problem.convexity = curvature.eigenvalues()(rotations);
  problem.largest = problem.size = curvature.eigenvalues()(curvature.eigenvalues().size() - 1);
  BOOST_REQUIRE(problem.convexity > 0);
  BOOST_TEST(std::abs(curvature.eigenvalues()(rotations - 1)) <=
             tolerance<double>(rank * n) * problem.largest);
  every_solver_reaches(problem, unit_columns(24), [&](matrix const& x) {
    Eigen::JacobiSVD<matrix> const svd(planted * x.transpose(),
                                       Eigen::ComputeFullU | Eigen::ComputeFullV);
    return (svd.matrixU() * svd.matrixV().transpose() * x - planted).norm();
  });
}

BOOST_AUTO_TEST_SUITE_END()
