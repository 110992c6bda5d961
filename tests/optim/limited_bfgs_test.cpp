// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// L-BFGS: known optima, and what it does where curvature or a search fails.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/brockett.hpp>
#include <optim/ended.hpp>
#include <optim/users_sphere.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/limited_bfgs.hpp>
#include <stiefelx/optim/minimize.hpp>
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
using stiefelx::pair_space;
using stiefelx::search_result;
using stiefelx::search_start;
using stiefelx::stiefel;
using stiefelx::stop_reason;

constexpr pair_space both_spaces[] = {pair_space::tangent, pair_space::ambient};

/// Refuses its third call and writes down how long each direction is against the gradient.
struct third_call_fails {
  stiefelx::armijo inside{};
  std::vector<double>* ratios = nullptr;

  void expect_options() const {}
  template <class Run, class D>
  search_result operator()(Run& run, D const& direction, search_start const& start) const {
    // One exactly for the gradient's own direction, above one for every other.
    double const squared = run.current().squared;
    ratios->push_back(squared * start.length * start.length / (start.slope * start.slope));
    if (ratios->size() == 3) return {0, stop_reason::search_limit};
    return inside(run, direction, start);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(limited_bfgs)

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
  for (pair_space space : both_spaces) {
    place<Case> p;
    auto const run = [&](auto f) {
      auto x = p.up(orthonormal_frame<S>(n, k, 3));
      auto const found = minimize(p.ctx, f, x, stiefelx::limited_bfgs{.pairs = 5, .space = space},
                                  gradient_below{bound / 2} || iterations{500});
      BOOST_TEST(ended(found, stop_reason::gradient_norm));
      BOOST_TEST(found.last.cost_evaluations == f.costs);
      BOOST_TEST(found.last.gradient_evaluations == f.gradients);
      BOOST_TEST(f.most_gradients == 1);
      BOOST_TEST(f.hessians == 0);
      return matrix_x<S>(p.down(x));
    };
    using problem = brockett<Case, stiefel>;
    auto const span = run(problem::make(p.ctx, {n, k}, a, none, equal_weights(k)));
    BOOST_TEST(near(loop_product(span, loop_adjoint(span)), loop_product(lead, loop_adjoint(lead)),
                    bound));
    auto const sorted = run(problem::make(p.ctx, {n, k}, a, none, distinct));
    matrix_x<S> const moduli =
        loop_product(loop_adjoint(lead), sorted).cwiseAbs().template cast<S>();
    BOOST_TEST(near(moduli, matrix_x<S>::Identity(k, k), bound));
    matrix_x<S> const target = loop_product(lead, positive_matrix<S>(k, 4, 2));
    auto const polar =
        run(problem::make(p.ctx, {n, k}, matrix_x<S>::Zero(n, n), target, equal_weights(k)));
    BOOST_TEST(near(polar, lead, bound));
  }
}

BOOST_AUTO_TEST_CASE(the_gradient_falls_to_1e_8_of_the_matrix) {
  index_t const n = 200, k = 5;
  matrix_x<double> const g = random_matrix<double>(n, n, 1);
  matrix_x<double> const a = -(g + g.transpose()) / (2 * std::sqrt(200.0));
  double const bound = 1e-8 * std::sqrt(2.0);  // the largest eigenvalue's limit
  for (pair_space space : both_spaces) {
    place<test_case<host_backend, double>> p;
    auto f = brockett<test_case<host_backend, double>, stiefel>::make(
        p.ctx, {n, k}, a, matrix_x<double>::Zero(n, k), equal_weights(k));
    matrix_x<double> x = orthonormal_frame<double>(n, k, 3);
    auto const found = minimize(p.ctx, f, x, stiefelx::limited_bfgs{.space = space},
                                gradient_below{bound} || iterations{600});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    // Seen from outside: the residual of the eigenspace.
    matrix_x<double> const ax = a * x;
    BOOST_TEST((ax - x * (x.transpose() * ax)).norm() <= 1.01 * bound);
  }
}

BOOST_AUTO_TEST_CASE(the_valley_of_rosenbrock_is_followed_to_its_end) {
  stiefelx::host::context ctx;
  matrix_x<double> x(2, 1);
  x << -1.2, 1;
  auto const found =
      minimize(ctx,
               stiefelx::problem_of{euclidean{2, 1},
                                    [](auto&, auto const& y) {
                                      double const a = y(1) - y(0) * y(0), b = 1 - y(0);
                                      return 100 * a * a + b * b;
                                    },
                                    [](auto&, auto const& y, auto&& g) {
                                      double const a = y(1) - y(0) * y(0);
                                      g(0) = -400 * a * y(0) - 2 * (1 - y(0));
                                      g(1) = 200 * a;
                                    }},
               x, stiefelx::limited_bfgs{.pairs = 5}, gradient_below{1e-10} || iterations{200});
  BOOST_TEST(ended(found, stop_reason::gradient_norm));
  // The smaller curvature at (1, 1) is 0.4.
  BOOST_TEST(near(x, matrix_x<double>::Ones(2, 1), 1e-10 / 0.39));
}

BOOST_AUTO_TEST_CASE(a_region_of_negative_curvature_is_left) {
  stiefelx::host::context ctx;
  matrix_x<double> x(2, 1);
  x << 0.01, 1e-3;
  auto const found = minimize(ctx,
                              stiefelx::problem_of{euclidean{2, 1},
                                                   [](auto&, auto const& y) {
                                                     double const a = y(0) * y(0) - 1;
                                                     return a * a / 4 + y(1) * y(1);
                                                   },
                                                   [](auto&, auto const& y, auto&& g) {
                                                     g(0) = (y(0) * y(0) - 1) * y(0);
                                                     g(1) = 2 * y(1);
                                                   }},
                              x, stiefelx::limited_bfgs{.first_step = 1e-3},
                              gradient_below{1e-10} || iterations{100});
  BOOST_TEST(ended(found, stop_reason::gradient_norm));
  matrix_x<double> expected(2, 1);
  expected << 1, 0;
  BOOST_TEST(near(x.cwiseAbs(), expected, 1e-10));
}

BOOST_AUTO_TEST_CASE(a_preconditioner_is_the_initial_inverse) {
  stiefelx::host::context ctx;
  index_t const n = 40, k = 2;
  Eigen::VectorXd const d = Eigen::VectorXd::LinSpaced(n, 0, 2).array().unaryExpr(
      [](double e) { return std::pow(10.0, e); });
  stiefel const m{n, k};
  auto const cost = [&](auto&, auto const& x) {
    return x.cwiseProduct(d.asDiagonal() * x).sum() / 2;
  };
  auto const gradient = [&](auto&, auto const& x, auto&& g) { g = d.asDiagonal() * x; };
  auto const precondition = [&](auto& where, auto const& x, auto const& v, auto&& w) {
    // Only tangent vectors, to the rounding of a gradient of length 100, may be asked about.
    BOOST_TEST((x.transpose() * v + v.transpose() * x).norm() <= tolerance<double>(n, 100));
    w = d.asDiagonal().inverse() * v;
    project(where, m, x, w, w);
  };
  matrix_x<double> const start = orthonormal_frame<double>(n, k, 1);
  auto const stop = gradient_below{1e-8} || iterations{1000};
  for (pair_space space : both_spaces) {
    stiefelx::limited_bfgs<> const solver{.space = space};
    matrix_x<double> x = start, y = start;
    auto const plain = minimize(ctx, stiefelx::problem_of{m, cost, gradient}, x, solver, stop);
    auto const better =
        minimize(ctx, stiefelx::problem_of{m, cost, gradient, stiefelx::absent{}, precondition}, y,
                 solver, stop);
    BOOST_TEST(ended(plain, stop_reason::gradient_norm));
    BOOST_TEST(ended(better, stop_reason::gradient_norm));
    BOOST_TEST(2 * better.last.number < plain.last.number);
    BOOST_TEST(near(y * y.transpose(), x * x.transpose(), 1e-6));
  }
}

// --- failures, memory, forms ---------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_failed_search_starts_anew_along_the_gradient) {
  place<test_case<host_backend, double>> p;
  auto f = flat_quadratic<test_case<host_backend, double>>(p.ctx, 8);
  std::vector<double> ratios;
  matrix_x<double> x = matrix_x<double>::Zero(8, 1);
  stiefelx::limited_bfgs<third_call_fails> const solver{.search = {.ratios = &ratios}};
  auto const found = minimize(p.ctx, f, x, solver, gradient_below{1e-8} || iterations{100});
  BOOST_TEST(ended(found, stop_reason::gradient_norm));
  BOOST_TEST_REQUIRE(ratios.size() > 5U);
  double const own = 1 + tolerance<double>(8);
  BOOST_TEST(ratios[0] <= own);
  BOOST_TEST(ratios[2] > 1.001);
  BOOST_TEST(ratios[3] <= own);
  BOOST_TEST(ratios[4] > 1.001);
}

BOOST_AUTO_TEST_CASE(a_search_that_fails_along_the_gradient_gives_its_reason) {
  stiefelx::host::context ctx;
  matrix_x<double> x = matrix_x<double>::Ones(3, 1);
  // The gradient has the wrong sign.
  auto const found = minimize(
      ctx,
      stiefelx::problem_of{euclidean{3, 1}, [](auto&, auto const& y) { return y.squaredNorm(); },
                           [](auto&, auto const& y, auto&& g) { g = -y; }},
      x, stiefelx::limited_bfgs{});
  BOOST_TEST(ended(found, stop_reason::smallest_step));
  BOOST_TEST(same(x, matrix_x<double>::Ones(3, 1)));
}

BOOST_AUTO_TEST_CASE(nothing_is_allocated_after_the_first_iterations) {
  place<test_case<host_backend, double>> p;
  index_t const n = 30, k = 3;
  auto f = brockett<test_case<host_backend, double>, stiefel>::make(
      p.ctx, {n, k}, positive_matrix<double>(n, 100, 5), matrix_x<double>::Zero(n, k),
      equal_weights(k));
  for (pair_space space : both_spaces) {
    matrix_x<double> x = orthonormal_frame<double>(n, k, 2);
    long early = 0, late = 0;
    minimize(p.ctx, f, x, stiefelx::limited_bfgs{.pairs = 4, .space = space}, iterations{30},
             [&](iteration const& at, auto const&) {
               if (at.number == 2) early = heap_calls;
               late = heap_calls;
             });
    BOOST_TEST(early > 0);
    BOOST_TEST(late == early);
  }
}

BOOST_AUTO_TEST_CASE(three_functions_of_a_user_are_a_manifold) {
  stiefelx::host::context ctx;
  Eigen::VectorXd const d = Eigen::VectorXd::LinSpaced(6, 1, 6);
  for (pair_space space : both_spaces) {
    matrix_x<double> x = random_matrix<double>(6, 1, 3).normalized();
    auto const found = minimize(
        ctx,
        stiefelx::problem_of{
            by_ref::sphere{},
            [&](auto&, auto const& y) { return y.cwiseProduct(d.asDiagonal() * y).sum() / 2; },
            [&](auto&, auto const& y, auto&& g) { g = d.asDiagonal() * y; }},
        x, stiefelx::limited_bfgs{.space = space}, gradient_below{1e-10} || iterations{100});
    BOOST_TEST(ended(found, stop_reason::gradient_norm));
    BOOST_TEST(std::abs(x(0, 0)) > 1 - tolerance<double>(6));
  }
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
      x, stiefelx::limited_bfgs{});
  BOOST_TEST(ended(found, stop_reason::unbounded));
  BOOST_TEST(x(0) < 9);
}

BOOST_AUTO_TEST_CASE(wrong_options_are_named) {
  auto const text = [](stiefelx::limited_bfgs<> const& solver) {
    return message_of([&] { solver.expect_options(); });
  };
  BOOST_TEST(text({.pairs = 0}) == "limited_bfgs: pairs is 0, expected a number above 0");
  BOOST_TEST(text({.caution = -1}) ==
             "limited_bfgs: caution is -1.000000, expected a number of at least 0");
  BOOST_TEST(text({.caution_power = 0}) ==
             "limited_bfgs: caution_power is 0.000000, expected a number above 0");
  BOOST_TEST(text({.first_step = 0}) ==
             "limited_bfgs: first_step is 0.000000, expected a number above 0");
  BOOST_TEST(text({.search = {.decrease = 1}}) ==
             "armijo: decrease is 1.000000, expected a number in (0, 1/2]");
}

BOOST_AUTO_TEST_SUITE_END()
