// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Line searches: their conditions hold at the step that they take, by costs and slopes evaluated
// here; and what they do where there is no such step.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <Eigen/Core>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/gradient_descent.hpp>
#include <stiefelx/optim/hager_zhang.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/nonmonotone.hpp>
#include <stiefelx/optim/strong_wolfe.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;
using host::context;
using matrix = matrix_x<double>;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// A function of one variable that falls at zero, and its derivative.
struct curve {
  char const* name;
  std::function<double(double)> value;
  std::function<double(double)> derivative;
};

/// The curve as a problem on the real line.
struct on_the_line {
  euclidean manifold{1, 1};
  curve const& along;
  int costs = 0, gradients = 0;

  double cost(context&, auto const& x) {
    ++costs;
    return along.value(x(0, 0));
  }
  void gradient(context&, auto const& x, auto& g) {
    ++gradients;
    g(0, 0) = along.derivative(x(0, 0));
  }
};

/// What one search from zero found.
struct one_search {
  minimum found;
  double step;  ///< multiple of the negative gradient
  int costs, gradients;
};

template <class Search>
one_search search_once(Search const& search, curve const& along, double first_step) {
  context ctx;
  on_the_line problem{.along = along};
  matrix x = matrix::Zero(1, 1);
  gradient_descent const solver{.search = search, .first_step = first_step};
  auto const found = minimize(ctx, problem, x, solver, iterations{1});
  return {found, x(0, 0) / -along.derivative(0), problem.costs, problem.gradients};
}

double power(double x, int n) { return std::pow(x, n); }

/// Curves with one valley, with many, with a flat one, with a far one and with a kink.
std::vector<curve> const curves{
    {"parabola", [](double t) { return power(t - 3, 2); }, [](double t) { return 2 * (t - 3); }},
    {"quartic", [](double t) { return power(t, 4) - 2 * t; },
     [](double t) { return 4 * power(t, 3) - 2; }},
    {"rational", [](double t) { return -t / (t * t + 2); },
     [](double t) { return (t * t - 2) / power(t * t + 2, 2); }},
    {"flat", [](double t) { return power(t + 0.004, 5) - 2 * power(t + 0.004, 4); },
     [](double t) { return 5 * power(t + 0.004, 4) - 8 * power(t + 0.004, 3); }},
    {"waves", [](double t) { return 0.1 * t * t - std::sin(5 * t); },
     [](double t) { return 0.2 * t - 5 * std::cos(5 * t); }},
    {"far", [](double t) { return std::cosh(t / 100 - 1); },
     [](double t) { return std::sinh(t / 100 - 1) / 100; }},
    {"kink", [](double t) { return std::fabs(t - 1) + 0.01 * t * t; },
     [](double t) { return (t > 1 ? 1 : -1) + 0.02 * t; }}};

std::vector<double> const first_steps{1e-3, 0.1, 1, 10, 1e3};

/// f(curve, first step) for all of them; a failure names both.
template <class F>
void for_each_curve(F const& f) {
  for (auto const& along : curves)
    for (double first : first_steps)
      BOOST_TEST_CONTEXT(along.name << " from " << first) f(along, first);
}

/// Cost and slope at zero and at the step, each from the curve itself.
struct at_step {
  double cost0, slope0, cost, slope;
};

at_step evaluate(curve const& along, double step) {
  double const d = -along.derivative(0);
  return {along.value(0), along.derivative(0) * d, along.value(step * d),
          along.derivative(step * d) * d};
}

/// f(search) for each of the searches with default options.
template <class F>
void for_each_search(F const& f) {
  BOOST_TEST_CONTEXT("armijo") f(armijo{});
  BOOST_TEST_CONTEXT("strong_wolfe") f(strong_wolfe{});
  BOOST_TEST_CONTEXT("hager_zhang") f(hager_zhang{});
}

/// The problem of a curve without the counts, for other solvers' options.
template <class Cost, class Gradient>
auto line_problem(Cost cost, Gradient gradient) {
  return problem_of{euclidean{1, 1}, [cost](context&, auto const& x) { return cost(x(0, 0)); },
                    [gradient](context&, auto const& x, auto& g) { g(0, 0) = gradient(x(0, 0)); }};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(line_search)

// --- the conditions ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(armijos_condition_holds_and_its_first_trial_is_taken_where_it_may) {
  armijo const search{.decrease = 0.1, .contraction = 0.5};
  for_each_curve([&](curve const& along, double first) {
    auto const found = search_once(search, along, first);
    BOOST_REQUIRE(found.found.reason == stop_reason::iteration_limit);
    auto const at = evaluate(along, found.step);
    BOOST_TEST(found.step > 0);
    BOOST_TEST(at.cost <= at.cost0 + 0.1 * found.step * at.slope0);
    double const tried = first / std::fabs(along.derivative(0));
    auto const at_first = evaluate(along, tried);
    bool const enough = at_first.cost <= at_first.cost0 + 0.1 * tried * at_first.slope0;
    BOOST_TEST((found.costs == 2) == enough);
    BOOST_TEST(found.step <= (enough ? 1 : 0.5) * tried * (1 + tolerance<double>(1)));
    BOOST_TEST(found.gradients == 2);
  });
}

BOOST_AUTO_TEST_CASE(both_strong_wolfe_conditions_hold) {
  for (double curvature : {0.9, 0.1, 1e-3}) {
    strong_wolfe const search{.decrease = 1e-4, .curvature = curvature};
    for_each_curve([&](curve const& along, double first) {
      bool const kink = std::string(along.name) == "kink";
      if (kink && curvature < 0.9) return;
      auto const found = search_once(search, along, first);
      BOOST_REQUIRE(found.found.reason == stop_reason::iteration_limit);
      auto const at = evaluate(along, found.step);
      BOOST_TEST(at.cost <= at.cost0 + 1e-4 * found.step * at.slope0);
      if (!kink) BOOST_TEST(std::fabs(at.slope) <= -curvature * at.slope0 * (1 + 1e-12));
      BOOST_TEST(found.costs < (kink ? 42 : 30));
    });
  }
}

BOOST_AUTO_TEST_CASE(wolfes_conditions_or_the_approximate_ones_hold) {
  for (double curvature : {0.9, 0.2}) {
    hager_zhang const search{.decrease = 0.1, .curvature = curvature};
    for_each_curve([&](curve const& along, double first) {
      bool const kink = std::string(along.name) == "kink";
      auto const found = search_once(search, along, first);
      BOOST_REQUIRE(found.found.reason == stop_reason::iteration_limit);
      auto const at = evaluate(along, found.step);
      bool const wolfe = at.cost <= at.cost0 + 0.1 * found.step * at.slope0;
      bool const approximate =
          at.slope <= -0.8 * at.slope0 && at.cost <= at.cost0 + 1e-6 * std::fabs(at.cost0);
      BOOST_TEST((wolfe || approximate));
      if (!kink || curvature == 0.9) BOOST_TEST(at.slope >= curvature * at.slope0 * (1 + 1e-12));
      BOOST_TEST(found.costs < 40);
    });
  }
}

BOOST_AUTO_TEST_CASE(on_a_parabola_interpolation_finds_the_minimum) {
  curve const& parabola = curves[0];
  for (double first : {0.01, 1.0, 100.0}) {
    auto const wolfe =
        search_once(strong_wolfe{.decrease = 1e-12, .curvature = 1e-8}, parabola, first);
    // The start, the first trial, the minimum; and one more where that is far away.
    BOOST_TEST(wolfe.costs <= (first == 1 ? 3 : 6));
    BOOST_TEST(std::fabs(wolfe.step - 0.5) < tolerance<double>(1));
    // Near a half, the decrease that is asked for leaves but the minimum.
    auto const secant =
        search_once(hager_zhang{.decrease = 0.5 - 1e-9, .curvature = 0.5}, parabola, first);
    BOOST_TEST(secant.costs <= (first == 1 ? 4 : 8));
    BOOST_TEST(std::fabs(secant.step - 0.5) < tolerance<double>(1));
  }
}

BOOST_AUTO_TEST_CASE(the_conditions_hold_along_a_retractions_curve) {
  index_t const n = 12, p = 3;
  context ctx;
  matrix const a = positive_matrix<double>(n, 10, 1);
  matrix const start = orthonormal_frame<double>(n, p, 20);
  stiefel const m{n, p};
  auto const cost = [&](matrix const& x) { return -0.5 * x.cwiseProduct(a * x).sum(); };
  problem_of problem{m, [&](context&, auto const& x) { return cost(x); },
                     [&](context&, auto const& x, auto& g) { g.noalias() = -a * x; }};
  auto const check = [&](auto const& search, auto const& how, double curvature, double first) {
    matrix x = start;
    double length = 0;
    auto const found = minimize(
        ctx, problem, x, gradient_descent{.search = search, .first_step = first, .retraction = how},
        iterations{1}, [&](iteration const& at, auto const&) {
          if (at.number == 0) length = at.gradient_norm;
        });
    BOOST_REQUIRE(found.reason == stop_reason::iteration_limit);
    matrix d(n, p), y(n, p);
    project(ctx, m, start, a * start, d);
    double const t = found.last.step_length / length, h = 1e-3 * t;
    auto const along = [&](double s) {
      retract(ctx, m, start, s * d, y, how);
      return cost(y);
    };
    // Central differences of order four.
    double const slope =
        (8 * (along(t + h) - along(t - h)) - (along(t + 2 * h) - along(t - 2 * h))) / (12 * h);
    double const slope0 = -length * length;
    BOOST_TEST(found.last.cost <= cost(start) + 1e-4 * t * slope0);
    BOOST_TEST(slope >= 1.0001 * curvature * slope0);
    BOOST_TEST(slope <= -1.0001 * curvature * slope0);
  };
  for (double first : {0.01, 1.0, 30.0}) {
    check(strong_wolfe{.curvature = 0.01}, qr_retraction{}, 0.01, first);
    check(strong_wolfe{.curvature = 0.01}, polar_retraction{}, 0.01, first);
  }
}

// --- where there is no such step -----------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_step_out_of_the_domain_is_taken_back) {
  // b x - log(x): not a number for negative x, and infinite at 0.
  context ctx;
  index_t const n = 4;
  matrix b(n, 1);
  b << 0.5, 1, 2, 8;
  problem_of barrier{
      euclidean{n, 1},
      [&](context&, auto const& x) { return (b.array() * x.array() - x.array().log()).sum(); },
      [&](context&, auto const& x, auto& g) { g = (b.array() - 1 / x.array()).matrix(); }};
  for_each_search([&](auto const& search) {
    for (double first : {1e-3, 1.0, 1e6}) {
      matrix x = matrix::Ones(n, 1);
      auto const found =
          minimize(ctx, barrier, x, gradient_descent{.search = search, .first_step = first},
                   gradient_below{1e-7} || iterations{2000});
      BOOST_TEST_CONTEXT(to_string(found.reason) << " after " << found.last.number) {
        BOOST_TEST((found.reason == stop_reason::gradient_norm));
        BOOST_TEST((x - b.cwiseInverse()).norm() < 1e-6);
      }
    }
  });
}

BOOST_AUTO_TEST_CASE(searches_that_measure_avoid_a_gradient_that_is_not_finite) {
  // The cost is finite everywhere, its gradient only below 1.2.
  curve const half{"half", [](double t) { return power(t - 1, 2); },
                   [](double t) { return t < 1.2 ? 2 * (t - 1) : not_a_number; }};
  for (double first : {1.3, 1.9}) {
    auto const wolfe = search_once(strong_wolfe{.curvature = 0.5}, half, first);
    auto const hager = search_once(hager_zhang{.curvature = 0.5}, half, first);
    for (auto const& each : {wolfe, hager}) {
      BOOST_TEST((each.found.reason == stop_reason::iteration_limit));
      BOOST_TEST(std::fabs(half.derivative(2 * each.step)) <= 0.5 * 2);
    }
    auto const refused = search_once(armijo{}, half, first);
    BOOST_TEST((refused.found.reason == stop_reason::not_finite));
    BOOST_TEST(refused.step == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_cost_that_falls_for_ever_is_reported) {
  context ctx;
  for_each_search([&](auto const& search) {
    matrix x = matrix::Zero(1, 1);
    // A line, and a curve that is minus infinity at once.
    auto const line =
        minimize(ctx, line_problem([](double t) { return -t; }, [](double) { return -1.0; }), x,
                 gradient_descent{.search = search}, iterations{4000});
    BOOST_TEST((line.reason == stop_reason::unbounded));
    BOOST_TEST(line.last.cost < -1e200);
    BOOST_TEST(std::isfinite(x(0, 0)));
    x.setZero();
    auto const steep = minimize(
        ctx,
        line_problem([](double t) { return -std::exp(t); }, [](double t) { return -std::exp(t); }),
        x, gradient_descent{.search = search, .first_step = 1e4}, iterations{10});
    BOOST_TEST((steep.reason == stop_reason::unbounded));
    BOOST_TEST(x(0, 0) == 0);
  });
}

BOOST_AUTO_TEST_CASE(a_wrong_gradient_ends_at_the_smallest_step_or_the_limit) {
  context ctx;
  // The cost rises where the gradient says that it falls.
  auto const wrong = line_problem([](double t) { return t; }, [](double) { return -1.0; });
  auto const infinite =
      line_problem([](double t) { return t == 0 ? 0.0 : infinity; }, [](double) { return -1.0; });
  auto const check = [&](auto const& problem, auto search) {
    matrix x = matrix::Zero(1, 1);
    search.smallest_step = 1e-6;
    search.evaluations = 50;
    auto const short_step = minimize(ctx, problem, x, gradient_descent{.search = search});
    BOOST_TEST((short_step.reason == stop_reason::smallest_step));
    search.evaluations = 3;
    auto const limited = minimize(ctx, problem, x, gradient_descent{.search = search});
    BOOST_TEST((limited.reason == stop_reason::search_limit));
    BOOST_TEST(limited.last.cost_evaluations == 4);
    BOOST_TEST(limited.last.number == 0);
    BOOST_TEST(x(0, 0) == 0);
  };
  for_each_search([&](auto const& search) {
    check(wrong, search);
    check(infinite, search);
  });
}

BOOST_AUTO_TEST_CASE(where_the_limit_comes_first_the_best_step_so_far_is_taken) {
  // Exact search in few evaluations: the second condition is out of reach.
  curve const& waves = curves[4];
  for (index_t limit : {3, 4, 5}) {
    auto const wolfe =
        search_once(strong_wolfe{.curvature = 1.1e-4, .evaluations = limit}, waves, 0.1);
    BOOST_TEST((wolfe.found.reason == stop_reason::iteration_limit));
    BOOST_TEST(wolfe.costs <= 1 + limit);
    BOOST_TEST(wolfe.gradients <= 1 + limit);
    BOOST_TEST(wolfe.found.last.cost == waves.value(wolfe.step * 5));
    BOOST_TEST(wolfe.found.last.cost < waves.value(0));
    BOOST_TEST(wolfe.found.last.gradient_norm == std::fabs(waves.derivative(wolfe.step * 5)));
  }
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused_by_name) {
  context ctx;
  matrix x = matrix::Ones(1, 1);
  auto const message = [&](auto const& solver) {
    return message_of([&] {
      minimize(ctx, line_problem([](double t) { return t * t; }, [](double t) { return 2 * t; }), x,
               solver);
    });
  };
  BOOST_TEST(message(gradient_descent{.search = armijo{.decrease = 0.6}}) ==
             "armijo: decrease is 0.600000, expected a number in (0, 1/2]");
  BOOST_TEST(message(gradient_descent{.search = strong_wolfe{.curvature = 1}}) ==
             "strong_wolfe: curvature is 1.000000, expected a number between decrease and 1");
  BOOST_TEST(
      message(gradient_descent{.search = hager_zhang{.expansion = not_a_number}}).substr(0, 32) ==
      "hager_zhang: expansion is nan, e");
  BOOST_TEST(message(gradient_descent{.reference = largest_recent{.count = 65}}) ==
             "largest_recent: count is 65, expected a number from 1 to 64");
  BOOST_TEST(message(gradient_descent{.reference = average_cost{.decay = -0.5}}) ==
             "average_cost: decay is -0.500000, expected a number in [0, 1]");
  BOOST_TEST(message(gradient_descent{.first_step = 0}) ==
             "gradient_descent: first_step is 0.000000, expected a number above 0");
}

BOOST_AUTO_TEST_SUITE_END()
