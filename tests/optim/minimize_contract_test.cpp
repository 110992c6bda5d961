// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The frame of the deterministic solvers: criteria, records, what is evaluated how often, waits,
// allocations, and points and manifolds of users' types.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <Eigen/Core>
#include <boost/test/unit_test.hpp>

#include <host/counted_heap.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/barzilai_borwein.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/gradient_descent.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/strong_wolfe.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace by_ref {

// A user's sphere whose functions fix the scalar, of the result of inner() too.
using stiefelx::host::context;
template <class S>
using in = Eigen::Ref<support::matrix_x<S> const> const&;
template <class S>
using out = Eigen::Ref<support::matrix_x<S>>;

template <class S>
struct sphere {
  friend void project(context&, sphere, in<S> x, in<S> z, out<S> v) {
    v = z - x.cwiseProduct(z).sum() * x;
  }
  friend void retract(context&, sphere, in<S> x, in<S> v, out<S> y) { y = (x + v).normalized(); }
  friend void inner(context&, sphere, in<S>, in<S> u, in<S> v, out<S> s) {
    s(0, 0) = u.cwiseProduct(v).sum();
  }
};

}  // namespace by_ref

namespace {

using namespace support;
using namespace stiefelx;
using matrix = matrix_x<double>;

/// A host context that counts what waits on other backends: a better match for the two verbs.
struct counting_context : host::context {
  int waits = 0;
};
template <class A>
void download(counting_context& ctx, A const& a, scalar_t<A>* data) {
  ++ctx.waits;
  stiefelx::host::download(ctx, a, data);
}
template <class A>
scalar_t<A> value(counting_context& ctx, A const& a) {
  ++ctx.waits;
  return stiefelx::host::value(ctx, a);
}

/// -tr(x^T a x) / 2, with a x kept for the gradient; writes down where it is asked.
struct leading {
  stiefel manifold;
  matrix a;
  bool writes = true;
  int caches = 0, costs = 0, gradients = 0;
  std::vector<matrix> cost_at{}, gradient_at{};

  struct cache {
    matrix product;
  };
  template <class C, class X>
  cache make_cache(C&, X const& x) {
    ++caches;
    return {matrix(x.rows(), x.cols())};
  }
  template <class C, class X>
  double cost(C&, X const& x, cache& known) {
    ++costs;
    if (writes) cost_at.push_back(x);
    known.product.noalias() = a * x;
    return -0.5 * x.cwiseProduct(known.product).sum();
  }
  template <class C, class X, class G>
  void gradient(C&, X const& x, cache& known, G&& g) {
    ++gradients;
    if (writes) gradient_at.push_back(x);
    g = -known.product;
  }
};

leading make_leading(index_t n = 14, index_t p = 3) {
  return {stiefel{n, p}, positive_matrix<double>(n, 20, 1)};
}
matrix start(index_t n = 14, index_t p = 3) { return orthonormal_frame<double>(n, p, 50); }

/// An observer that keeps records, and ends after some.
struct recorder {
  index_t last = std::numeric_limits<index_t>::max();
  std::vector<iteration> seen{};
  std::vector<matrix> points{};
  template <class X>
  bool operator()(iteration const& at, X const& x) {
    seen.push_back(at);
    points.push_back(x);
    return at.number >= last;
  }
};

bool is_met(stop_reason reason) { return reason != stop_reason::none; }

/// How often each point of a list occurs in it, at most.
long most_often(std::vector<matrix> const& points) {
  long most = 0;
  for (auto const& each : points)
    most = std::max<long>(most, std::count(points.begin(), points.end(), each));
  return most;
}

/// f(solver) for a solver of each kind; a failure names it.
template <class F>
void for_each_solver(F const& f) {
  BOOST_TEST_CONTEXT("descent, Armijo") f(gradient_descent{});
  BOOST_TEST_CONTEXT("conjugate, Armijo") f(conjugate_gradient{.search = armijo{}});
  BOOST_TEST_CONTEXT("conjugate, strong Wolfe")
  f(conjugate_gradient{.search = strong_wolfe{.curvature = 1.1e-4, .evaluations = 3}});
  BOOST_TEST_CONTEXT("conjugate, Hager and Zhang")
  f(conjugate_gradient{.rule = conjugate_rule::hager_zhang,
                       .search = hager_zhang{.first_part = 0.1}});
  BOOST_TEST_CONTEXT("Barzilai and Borwein") f(barzilai_borwein{});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(minimize_contract)

BOOST_AUTO_TEST_CASE(criteria_compose_by_their_truth_table) {
  iteration const at{};
  for (bool a : {false, true})
    for (bool b : {false, true}) {
      auto const first = [a](iteration const&) {
        return a ? stop_reason::cost_target : stop_reason::none;
      };
      auto const second = [b](iteration const&) {
        return b ? stop_reason::time_limit : stop_reason::none;
      };
      auto const either = stiefelx::operator||(first, second);
      auto const both = stiefelx::operator&&(first, second);
      BOOST_TEST(is_met(either(at)) == (a || b));
      BOOST_TEST(is_met(both(at)) == (a && b));
      if (a || b)
        BOOST_TEST((either(at) == (a ? stop_reason::cost_target : stop_reason::time_limit)));
      if (a && b) BOOST_TEST((both(at) == stop_reason::cost_target));
      // Composites of composites.
      for (bool c : {false, true}) {
        auto const third = iterations{c ? 0 : 1};
        BOOST_TEST(is_met(((either && third) || both)(at)) == (((a || b) && c) || (a && b)));
        BOOST_TEST(is_met((third || (both && either))(at)) == (c || (a && b)));
      }
    }
}

BOOST_AUTO_TEST_CASE(each_criterion_is_met_at_its_bound_and_not_before) {
  iteration at{.number = 3,
               .cost = -8,
               .previous_cost = -7,
               .gradient_norm = 2,
               .step_length = 0.5,
               .cost_evaluations = 9,
               .seconds = 4};
  auto const expect = [&](auto met, auto not_met, stop_reason reason) {
    BOOST_TEST((met(at) == reason));
    BOOST_TEST((not_met(at) == stop_reason::none));
    BOOST_TEST(std::string(to_string(reason)) != "unknown");
  };
  expect(gradient_below{2}, gradient_below{1.9}, stop_reason::gradient_norm);
  expect(cost_change_below{0.125}, cost_change_below{0.124}, stop_reason::cost_change);
  expect(cost_below{-8}, cost_below{-8.1}, stop_reason::cost_target);
  expect(step_below{0.5}, step_below{0.4}, stop_reason::step_length);
  expect(iterations{3}, iterations{4}, stop_reason::iteration_limit);
  expect(evaluations{9}, evaluations{10}, stop_reason::evaluation_limit);
  expect(seconds{4}, seconds{4.1}, stop_reason::time_limit);
  at.gradient_norm = std::numeric_limits<double>::quiet_NaN();
  BOOST_TEST(!is_met(gradient_below{1e300}(at)));
  // Nothing has changed yet at the start.
  at.number = 0;
  BOOST_TEST(!is_met(cost_change_below{1}(at)));
  BOOST_TEST(!is_met(step_below{1}(at)));
}

BOOST_AUTO_TEST_CASE(the_observer_sees_every_iteration_with_true_records_and_may_end) {
  for_each_solver([](auto const& solver) {
    counting_context ctx;
    auto problem = make_leading();
    matrix x = start();
    recorder seen{.last = 6};
    auto const found = minimize(ctx, problem, x, solver, gradient_below{0} || iterations{9}, seen);
    BOOST_TEST((found.reason == stop_reason::observer));
    BOOST_REQUIRE(seen.seen.size() == 7U);
    BOOST_TEST(same(seen.points.front(), start()));
    BOOST_TEST(same(seen.points.back(), x));
    BOOST_TEST(seen.seen[0].step_length == 0);
    double best = seen.seen[0].cost;
    for (std::size_t k = 0; k < 7; ++k) {
      auto const& at = seen.seen[k];
      auto const& before = seen.seen[k == 0 ? 0 : k - 1];
      matrix const& point = seen.points[k];
      matrix const product = problem.a * point;
      BOOST_TEST(at.number == static_cast<index_t>(k));
      BOOST_TEST(std::fabs(at.cost + 0.5 * point.cwiseProduct(product).sum()) <
                 tolerance<double>(14));
      BOOST_TEST(at.previous_cost == before.cost);
      matrix const gradient = product - point * (point.transpose() * product);
      BOOST_TEST(std::fabs(at.gradient_norm - gradient.norm()) < tolerance<double>(14));
      BOOST_TEST(at.seconds >= before.seconds);
      if (k > 0) {
        BOOST_TEST(at.cost_evaluations > before.cost_evaluations);
        BOOST_TEST(at.gradient_evaluations > before.gradient_evaluations);
        // A retraction shortens the way; a chord is no longer than the step.
        double const chord = (point - seen.points[k - 1]).norm();
        BOOST_TEST(chord <= at.step_length * (1 + tolerance<double>(14)));
        BOOST_TEST(chord >= at.step_length / std::sqrt(1 + std::pow(at.step_length, 2)) / 2);
      }
      best = std::min(best, at.cost);
    }
    BOOST_TEST(found.last.cost == best);
    BOOST_TEST(found.last.cost_evaluations == problem.costs);
    BOOST_TEST(found.last.gradient_evaluations == problem.gradients);
    BOOST_TEST(found.last.hessian_evaluations == 0);
  });
}

BOOST_AUTO_TEST_CASE(nothing_is_computed_twice_and_a_solver_waits_once_a_gradient) {
  for_each_solver([](auto const& solver) {
    counting_context ctx;
    auto problem = make_leading();
    matrix x = start();
    recorder seen{.last = 12};
    minimize(ctx, problem, x, solver, gradient_below{0} || iterations{12}, seen);
    BOOST_TEST(problem.caches == 3);
    BOOST_TEST(most_often(problem.cost_at) == 1);
    BOOST_TEST(most_often(problem.gradient_at) == 1);
    // Where there is a gradient, there was the cost.
    for (auto const& each : problem.gradient_at)
      BOOST_TEST(std::count(problem.cost_at.begin(), problem.cost_at.end(), each) == 1);
    BOOST_TEST(ctx.waits == problem.gradients);
    BOOST_TEST(problem.gradients <= problem.costs);
  });
}

BOOST_AUTO_TEST_CASE(nothing_is_allocated_after_the_first_iteration) {
  for_each_solver([](auto const& solver) {
    counting_context ctx;
    auto problem = make_leading(40, 6);
    problem.writes = false;
    matrix x = start(40, 6);
    long after_first = -1, at_last = -1;
    minimize(ctx, problem, x, solver, gradient_below{0} || iterations{12},
             [&](iteration const& at, auto const&) {
               if (at.number == 1) after_first = heap_calls;
               at_last = heap_calls;
             });
    BOOST_TEST(after_first > 0);
    BOOST_TEST(at_last == after_first);
  });
}

BOOST_AUTO_TEST_CASE(a_start_that_is_not_finite_or_does_not_fit_is_refused) {
  counting_context ctx;
  auto problem = make_leading();
  matrix x = matrix::Zero(13, 3);
  recorder seen;
  auto const stop = gradient_below{0} || iterations{12};
  BOOST_TEST(message_of([&] { minimize(ctx, problem, x, gradient_descent{}, stop, seen); }) ==
             "project: x is 13x3, expected 14x3");
  BOOST_TEST(problem.costs == 0);

  x = start();
  problem.a(2, 2) = std::numeric_limits<double>::quiet_NaN();
  auto const no_cost = minimize(ctx, problem, x, gradient_descent{}, stop, seen);
  BOOST_TEST((no_cost.reason == stop_reason::not_finite));
  BOOST_TEST(std::isnan(no_cost.last.cost));
  BOOST_TEST(std::isnan(no_cost.last.gradient_norm));
  BOOST_TEST(seen.seen.empty());
  BOOST_TEST(same(x, start()));
}

BOOST_AUTO_TEST_CASE(at_a_stationary_point_there_is_no_descent) {
  for_each_solver([](auto const& solver) {
    counting_context ctx;
    auto problem = make_leading();
    problem.a.setZero();
    matrix x = start();
    recorder seen{};
    auto const found = minimize(ctx, problem, x, solver, gradient_below{-1} || iterations{9}, seen);
    BOOST_TEST((found.reason == stop_reason::no_descent));
    BOOST_TEST(problem.costs == 1);
    BOOST_TEST(same(x, start()));
    // The criterion is asked at the start, before any step.
    auto const done = minimize(ctx, problem, x, solver, gradient_below{0} || iterations{9}, seen);
    BOOST_TEST((done.reason == stop_reason::gradient_norm));
  });
}

BOOST_AUTO_TEST_CASE(points_may_be_row_major_strided_or_of_fixed_size) {
  counting_context ctx;
  auto problem = make_leading();
  recorder seen{};
  auto const stop = gradient_below{0} || iterations{12};
  matrix expected = start();
  minimize(ctx, problem, expected, gradient_descent{}, stop, seen);
  BOOST_TEST((expected - start()).norm() > 0.1);

  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = start();
  minimize(ctx, problem, rows, gradient_descent{}, stop, seen);
  BOOST_TEST(near(rows, expected, tolerance<double>(14, 100)));
  matrix wide = matrix::Zero(20, 5);
  wide.block(2, 1, 14, 3) = start();
  minimize(ctx, problem, wide.block(2, 1, 14, 3), gradient_descent{}, stop, seen);
  BOOST_TEST(near(wide.block(2, 1, 14, 3), expected, tolerance<double>(14, 100)));
  BOOST_TEST(wide.topRows(2).norm() + wide.col(0).norm() + wide.col(4).norm() == 0);
  Eigen::Matrix<double, 14, 3> fixed = start();
  minimize(ctx, problem, fixed, gradient_descent{}, stop, seen);
  BOOST_TEST(near(fixed, expected, tolerance<double>(14, 100)));
}

template <class S>
void find_least_eigenvector() {
  counting_context ctx;
  index_t const n = 6;
  matrix_x<S> const spectrum = Eigen::Matrix<S, Eigen::Dynamic, 1>::LinSpaced(n, 1, n).asDiagonal();
  matrix_x<S> x = random_matrix<S>(n, 1, 3).normalized();
  problem_of const rayleigh{by_ref::sphere<S>{},
                            [&](auto&, auto const& y) {
                              return 0.5 * static_cast<double>(y.cwiseProduct(spectrum * y).sum());
                            },
                            [&](auto&, auto const& y, auto& g) { g = spectrum * y; }};
  double const eps = std::numeric_limits<S>::epsilon();
  auto const found = minimize(ctx, rayleigh, x, conjugate_gradient{}, gradient_below{100 * eps});
  BOOST_TEST((found.reason == stop_reason::gradient_norm));
  BOOST_TEST(std::fabs(found.last.cost - 0.5) < tolerance<S>(n));
}

BOOST_AUTO_TEST_CASE(a_users_manifold_that_fixes_the_scalar_is_enough) {
  find_least_eigenvector<double>();
  find_least_eigenvector<float>();
}

BOOST_AUTO_TEST_CASE(the_direction_moves_along_the_curve_and_stays_tangent) {
  host::context ctx;
  index_t const n = 9, p = 3;
  matrix const x = start(n, p), d = 0.7 * tangent_vector(x, 2);
  matrix y(n, p), w(n, p), ahead(n, p), behind(n, p);
  stiefel const m{n, p};
  auto const check = [&](auto const& how) {
    double const h = 1e-5;
    retract_by(ctx, m, x, d, y, how);
    move_along_curve(ctx, m, x, d, y, d, w, how);
    retract_by(ctx, m, x, (1 + h) * d, ahead, how);
    retract_by(ctx, m, x, (1 - h) * d, behind, how);
    BOOST_TEST(near(w, (ahead - behind) / (2 * h), 1e-8));
  };
  check(default_retraction{});
  check(qr_retraction{});
  check(polar_retraction{});
  check(cayley_retraction{});

  // Their transports along geodesics lead elsewhere than their retractions.
  auto const expect_tangent = [&](auto const& other, matrix const& at, matrix const& step) {
    matrix to = at, moved = at, again = at;
    retract(ctx, other, at, step, to);
    move_along_curve(ctx, other, at, step, to, step, moved, default_retraction{});
    project(ctx, other, to, moved, again);
    BOOST_TEST(near(moved, again, tolerance<double>(n)));
    BOOST_TEST(step.cwiseProduct(moved).sum() > 0);
  };
  matrix const point = x / std::sqrt(3.0);
  matrix const tangent = d - point.cwiseProduct(d).sum() * point;
  expect_tangent(sphere{n, p}, point, tangent);
  matrix columns = d;
  for (index_t j = 0; j < p; ++j) columns.col(j) -= x.col(j).dot(d.col(j)) * x.col(j);
  expect_tangent(oblique{n, p}, x, columns);
}

BOOST_AUTO_TEST_SUITE_END()
