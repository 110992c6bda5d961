// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Trust region: known optima, the order of convergence, saddles, and Hessians by differences.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <Eigen/Cholesky>
#include <boost/test/unit_test.hpp>

#include <optim/brockett.hpp>
#include <optim/ended.hpp>
#include <optim/users_sphere.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/trust_region.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include <host/counted_heap.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::gradient_below;
using stiefelx::iteration;
using stiefelx::iterations;
using stiefelx::stiefel;
using stiefelx::stop_reason;
using plain = test_case<host_backend, double>;

}  // namespace

BOOST_AUTO_TEST_SUITE(trust_region)

// --- optima --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(known_optima_are_reached, Case, solver_cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  matrix_x<S> const frame = orthonormal_frame<S>(n, n, 1);
  matrix_x<S> weighted = frame;
  double const values[] = {-4, -3.5, -3, -1, -0.8, -0.5, 0, 1};
  for (index_t j = 0; j < n; ++j) weighted.col(j) *= static_cast<typename Case::real>(values[j]);
  matrix_x<S> const a = loop_product(weighted, loop_adjoint(frame));
  matrix_x<S> const none = matrix_x<S>::Zero(n, k), lead = frame.leftCols(k);
  matrix_x<double> distinct(1, k);
  distinct << 3, 2, 1;
  // The gradient is rounded to eps |a| |D|, and curvature is at least 0.5: two gaps of Brockett.
  double const bound = tolerance<S>(n, 12 / 0.5);
  place<Case> p;
  auto const run = [&](auto f) {
    auto x = p.up(orthonormal_frame<S>(n, k, 3));
    auto const found = minimize(p.ctx, f, x, stiefelx::trust_region{},
                                gradient_below{bound / 2} || iterations{100});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST(found.last.cost_evaluations == f.costs);
    BOOST_TEST(found.last.gradient_evaluations == f.gradients);
    BOOST_TEST(found.last.hessian_evaluations == f.hessians);
    BOOST_TEST(f.hessians > 0);
    BOOST_TEST(f.most_gradients == 1);
    return matrix_x<S>(p.down(x));
  };
  using problem = brockett<Case, stiefel>;
  auto const span = run(problem::make(p.ctx, {n, k}, a, none, equal_weights(k)));
  BOOST_TEST(
      near(loop_product(span, loop_adjoint(span)), loop_product(lead, loop_adjoint(lead)), bound));
  auto const sorted = run(problem::make(p.ctx, {n, k}, a, none, distinct));
  matrix_x<S> const moduli = loop_product(loop_adjoint(lead), sorted).cwiseAbs().template cast<S>();
  BOOST_TEST(near(moduli, matrix_x<S>::Identity(k, k), bound));
  matrix_x<S> const target = loop_product(lead, positive_matrix<S>(k, 4, 2));
  auto const polar =
      run(problem::make(p.ctx, {n, k}, matrix_x<S>::Zero(n, n), target, equal_weights(k)));
  BOOST_TEST(near(polar, lead, bound));
}

/// Brockett's cost with eigenvalues 1, 2, ..., n, and its gradients' lengths from a start.
template <bool Hessian>
std::vector<double> gradients_of(matrix_x<double> start, double bound, double theta = 0.5) {
  index_t const n = start.rows(), k = start.cols();
  place<plain> p;
  matrix_x<double> const a = Eigen::VectorXd::LinSpaced(n, 1, static_cast<double>(n)).asDiagonal();
  matrix_x<double> const weights = Eigen::RowVectorXd::LinSpaced(k, static_cast<double>(k), 1);
  auto f = brockett<plain, stiefel, Hessian>::make(p.ctx, {n, k}, a, matrix_x<double>::Zero(n, k),
                                                   weights);
  std::vector<double> lengths;
  auto const found =
      minimize(p.ctx, f, start, stiefelx::trust_region{.theta = theta},
               gradient_below{bound} || iterations{100},
               [&](iteration const& at, auto const&) { lengths.push_back(at.gradient_norm); });
  BOOST_TEST(ended(found, stop_reason::gradient_norm));
  BOOST_TEST(near(start.cwiseAbs(), matrix_x<double>::Identity(n, k), 1e-5));
  BOOST_TEST(f.most_gradients == 1);
  BOOST_TEST(found.last.cost_evaluations == f.costs);
  if (!Hessian) BOOST_TEST(found.last.hessian_evaluations < f.gradients);
  return lengths;
}

BOOST_AUTO_TEST_CASE(the_order_of_convergence_is_two) {
  auto const e = gradients_of<true>(orthonormal_frame<double>(10, 3, 4), 1e-10, 1);
  // Among the steps whose gradient falls below 0.3 the order is log(e'' / e') / log(e' / e).
  double best = 0;
  for (std::size_t t = 1; t + 1 < e.size(); ++t)
    if (e[t - 1] < 1) best = std::max(best, std::log(e[t + 1] / e[t]) / std::log(e[t] / e[t - 1]));
  BOOST_TEST(best >= 1.9);
}

BOOST_AUTO_TEST_CASE(a_saddle_is_left) {
  // Columns are eigenvectors of the wrong eigenvalues: a critical point, but for a touch.
  matrix_x<double> x = matrix_x<double>::Zero(10, 3);
  x(4, 0) = x(7, 1) = x(2, 2) = 1;
  stiefelx::host::context ctx;
  matrix_x<double> start(10, 3);
  retract(ctx, stiefel{10, 3}, x, 1e-6 * tangent_vector<double>(x, 1), start);
  auto const e = gradients_of<true>(start, 1e-8);
  BOOST_TEST(e.front() < 1e-4);
  BOOST_TEST(*std::max_element(e.begin(), e.end()) > 1);
}

BOOST_AUTO_TEST_CASE(the_gradient_falls_to_1e_8_of_the_matrix) {
  index_t const n = 200, k = 5;
  matrix_x<double> const g = random_matrix<double>(n, n, 1);
  matrix_x<double> const a = -(g + g.transpose()) / (2 * std::sqrt(200.0));
  double const bound = 1e-8 * std::sqrt(2.0);  // the largest eigenvalue's limit
  place<plain> p;
  auto f = brockett<plain, stiefel>::make(p.ctx, {n, k}, a, matrix_x<double>::Zero(n, k),
                                          equal_weights(k));
  matrix_x<double> x = orthonormal_frame<double>(n, k, 3);
  auto const found =
      minimize(p.ctx, f, x, stiefelx::trust_region{}, gradient_below{bound} || iterations{100});
  BOOST_TEST(ended(found, stop_reason::gradient_norm));
  // Seen from outside: the residual of the eigenspace.
  matrix_x<double> const ax = a * x;
  BOOST_TEST((ax - x * (x.transpose() * ax)).norm() <= 1.01 * bound);
}

// --- differences ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(differences_agree_with_the_hessian, Case, solver_cases) {
  using S = typename Case::scalar;
  index_t const n = 7, k = 3;
  place<Case> p;
  matrix_x<double> weights(1, k);
  weights << 3, 2, 1;
  auto f = brockett<Case, stiefel>::make(p.ctx, {n, k}, positive_matrix<S>(n, 10, 1),
                                         random_matrix<S>(n, k, 2), weights);
  matrix_x<S> const point = orthonormal_frame<S>(n, k, 3);
  auto const x = p.up(point);
  stiefelx::absent none;
  auto const stop = iterations{1};
  using X = decltype(clone(p.ctx, x));
  stiefelx::minimization<typename Case::context, decltype(f), X, stiefelx::default_retraction,
                         stiefelx::iterations, stiefelx::absent>
      run(p.ctx, f, x, {}, stop, none);
  run.begin();
  stiefelx::finite_difference_hessian differences(run);
  double const root = std::sqrt(std::numeric_limits<typename Case::real>::epsilon());
  for (double length : {1e-3, 1.0, 1e3}) {
    matrix_x<S> const v = tangent_vector<S>(point, 5) * S(static_cast<typename Case::real>(length));
    auto const up = p.up(v);
    auto expected = p.up(v), found = p.up(v);
    run.apply_hessian(up, expected);
    differences(run, up, found);
    // Second derivatives are at most 3 |D| |a| + |c| of the order 15, and so is twice the third.
    BOOST_TEST(
        near(p.down(found), p.down(expected), 15 * root * (1 + std::sqrt(3.0)) * v.norm(), 1));
    BOOST_TEST(!near(p.down(found), p.down(expected), 1e-3 * root * v.norm(), 1));
  }
  auto zero = p.up(matrix_x<S>::Zero(n, k)), product = p.up(point);
  differences(run, zero, product);
  BOOST_TEST(same(p.down(product), matrix_x<S>::Zero(n, k)));
  BOOST_TEST(run.last().hessian_evaluations == 7);
}

BOOST_AUTO_TEST_CASE(a_problem_without_a_hessian_converges) {
  auto const exact = gradients_of<true>(orthonormal_frame<double>(10, 3, 4), 1e-7);
  auto const about = gradients_of<false>(orthonormal_frame<double>(10, 3, 4), 1e-7);
  BOOST_TEST(about.size() <= exact.size() + 2);
}

BOOST_AUTO_TEST_CASE(three_functions_of_a_user_are_a_manifold) {
  stiefelx::host::context ctx;
  Eigen::VectorXd const d = Eigen::VectorXd::LinSpaced(6, 1, 6);
  auto const cost = [&](auto&, auto const& y) {
    return y.cwiseProduct(d.asDiagonal() * y).sum() / 2;
  };
  auto const gradient = [&](auto&, auto const& y, auto&& g) { g = d.asDiagonal() * y; };
  // The manifold has no riemannian_hessian(), so this is the Riemannian one.
  auto const hessian = [&](auto& where, auto const& y, auto const& v, auto&& h) {
    double const level = y.cwiseProduct(d.asDiagonal() * y).sum();
    Eigen::MatrixXd const dv = d.asDiagonal() * v - level * v;
    project(where, by_ref::sphere{}, y, dv, h);
  };
  auto const check = [&](auto const& problem) {
    matrix_x<double> x = random_matrix<double>(6, 1, 3).normalized();
    auto const found = minimize(ctx, problem, x, stiefelx::trust_region{},
                                gradient_below{1e-10} || iterations{30});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST(std::abs(x(0, 0)) > 1 - tolerance<double>(6));
  };
  check(stiefelx::problem_of{by_ref::sphere{}, cost, gradient});
  check(stiefelx::problem_of{by_ref::sphere{}, cost, gradient, hessian});
}

// --- reasons and options -------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_radius_below_the_smallest_ends_it) {
  stiefelx::host::context ctx;
  matrix_x<double> x = matrix_x<double>::Ones(3, 1);
  // The gradient has the wrong sign.
  auto const found = minimize(
      ctx,
      stiefelx::problem_of{euclidean{3, 1}, [](auto&, auto const& y) { return y.squaredNorm(); },
                           [](auto&, auto const& y, auto&& g) { g = -y; }},
      x, stiefelx::trust_region{.smallest_radius = 1e-6});
  BOOST_TEST(ended(found, stop_reason::smallest_step));
  BOOST_TEST(same(x, matrix_x<double>::Ones(3, 1)));
  BOOST_TEST(found.last.cost_evaluations < 40);
}

BOOST_AUTO_TEST_CASE(the_radius_doubles_up_to_the_largest) {
  place<plain> p;
  auto f = flat_quadratic<plain>(p.ctx, 8);
  double const distance = f.a.ldlt().solve(f.c).norm();
  auto const run = [&](double first, double largest) {
    matrix_x<double> x = matrix_x<double>::Zero(8, 1);
    double longest = 0;
    auto const found = minimize(
        p.ctx, f, x, stiefelx::trust_region{.first_radius = first, .largest_radius = largest},
        gradient_below{1e-10} || iterations{60},
        [&](iteration const& at, auto const&) { longest = std::max(longest, at.step_length); });
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST(longest <= largest * (1 + tolerance<double>(8)));
    return found.last.number;
  };
  // Ten doublings cover the distance, and the model is exact; a largest radius makes more steps.
  BOOST_TEST(run(distance / 1000, distance) <= 20);
  BOOST_TEST(run(distance / 1000, distance / 30) >= 30);
}

BOOST_AUTO_TEST_CASE(nothing_is_allocated_after_the_first_iterations) {
  index_t const n = 30, k = 3;
  auto const check = [&](auto f, place<plain>& p) {
    matrix_x<double> x = orthonormal_frame<double>(n, k, 2);
    long early = 0, late = 0;
    auto const found = minimize(p.ctx, f, x, stiefelx::trust_region{}, gradient_below{1e-6},
                                [&](iteration const& at, auto const&) {
                                  if (at.number == 2) early = heap_calls;
                                  late = heap_calls;
                                });
    BOOST_TEST(found.last.number > 3);
    BOOST_TEST(late == early);
  };
  place<plain> p;
  matrix_x<double> const a = positive_matrix<double>(n, 100, 5);
  matrix_x<double> const none = matrix_x<double>::Zero(n, k);
  check(brockett<plain, stiefel>::make(p.ctx, {n, k}, a, none, equal_weights(k)), p);
  check(brockett<plain, stiefel, false>::make(p.ctx, {n, k}, a, none, equal_weights(k)), p);
}

BOOST_AUTO_TEST_CASE(a_cost_without_bound_is_named) {
  stiefelx::host::context ctx;
  matrix_x<double> x = matrix_x<double>::Zero(1, 1);
  auto const found = minimize(
      ctx,
      stiefelx::problem_of{euclidean{1, 1},
                           [](auto&, auto const& y) {
                             return y(0) < 9 ? -y(0) : -std::numeric_limits<double>::infinity();
                           },
                           [](auto&, auto const&, auto&& g) { g(0) = -1; }},
      x, stiefelx::trust_region{});
  BOOST_TEST(ended(found, stop_reason::unbounded));
  BOOST_TEST(x(0) < 9);
}

BOOST_AUTO_TEST_CASE(wrong_options_are_named) {
  auto const text = [](stiefelx::trust_region<> const& solver) {
    return message_of([&] { solver.expect_options(); });
  };
  BOOST_TEST(text({.first_radius = 0}) ==
             "trust_region: first_radius is 0.000000, expected a number above 0");
  BOOST_TEST(
      text({.first_radius = 2, .largest_radius = 1}) ==
      "trust_region: largest_radius is 1.000000, expected a number of at least first_radius");
  BOOST_TEST(text({.smallest_radius = 0}) ==
             "trust_region: smallest_radius is 0.000000, expected a number above 0");
  BOOST_TEST(text({.acceptance = 0.25}) ==
             "trust_region: acceptance is 0.250000, expected a number in [0, 1/4)");
  BOOST_TEST(text({.kappa = 1}) == "trust_region: kappa is 1.000000, expected a number in (0, 1)");
  BOOST_TEST(text({.theta = -1}) ==
             "trust_region: theta is -1.000000, expected a number of at least 0");
  BOOST_TEST(text({.products = 0}) == "trust_region: products is 0, expected a number above 0");
  BOOST_TEST(text({.regularization = -1}) ==
             "trust_region: regularization is -1.000000, expected a number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
