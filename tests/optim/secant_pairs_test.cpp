// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The pairs of L-BFGS and its directions, against the dense recursion in long double.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/brockett.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/optim/limited_bfgs.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/secant_pairs.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::gradient_below;
using stiefelx::iteration;
using stiefelx::iterations;

using exact = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
using pair_list = std::vector<std::pair<exact, exact>>;

/// Real and imaginary parts of all entries in one column: the metric becomes the dot product.
template <class S>
exact flat(matrix_x<S> const& a) {
  constexpr index_t parts = sizeof(S) / sizeof(stiefelx::real_of_t<S>);
  exact v(parts * a.size(), 1);
  for (index_t k = 0; k < a.size(); ++k) {
    v(parts * k, 0) = Eigen::numext::real(a.data()[k]);
    if constexpr (parts == 2) v(2 * k + 1, 0) = Eigen::numext::imag(a.data()[k]);
  }
  return v;
}

/// The dense inverse Hessian of BFGS after the last pairs, from the newest pair's scaling.
exact dense_inverse(pair_list const& all, std::size_t last) {
  auto const& [s_new, y_new] = all.back();
  index_t const n = s_new.rows();
  exact const one = exact::Identity(n, n);
  exact h = one * (s_new.cwiseProduct(y_new).sum() / y_new.squaredNorm());
  for (std::size_t k = all.size() - std::min(last, all.size()); k < all.size(); ++k) {
    auto const& [s, y] = all[k];
    long double const rho = 1 / s.cwiseProduct(y).sum();
    h = ((one - rho * s * y.transpose()) * h * (one - rho * y * s.transpose()) +
         rho * s * s.transpose())
            .eval();
  }
  return h;
}

/// The points of a run.
template <class Case, class Problem, class Solver, class Stop>
std::vector<exact> points_of(place<Case>& p, Problem& f, Solver const& solver, Stop const& stop) {
  using S = typename Case::scalar;
  std::vector<exact> points;
  auto x = p.up(matrix_x<S>::Zero(f.manifold.n, f.manifold.p));
  minimize(p.ctx, f, x, solver, stop,
           [&](iteration const&, auto const& y) { points.push_back(flat<S>(p.down(y))); });
  return points;
}

/// Sine of the angle between two columns, about.
double angle(exact const& u, exact const& v) {
  return static_cast<double>((u / u.norm() - v / v.norm()).norm());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(secant_pairs)

BOOST_AUTO_TEST_CASE_TEMPLATE(pairs_apply_the_dense_recursion, Case, solver_cases) {
  using S = typename Case::scalar;
  index_t const n = 5, k = 2, room = 4;
  place<Case> p;
  euclidean const m{n, k};
  matrix_x<S> const a = positive_matrix<S>(n, 10, 1);
  auto const x = p.up(matrix_x<S>::Zero(n, k));
  stiefelx::secant_pairs known(p.ctx, x, room);
  pair_list all;
  for (std::uint64_t t = 0; t < 7; ++t) {
    matrix_x<S> const s = random_matrix<S>(n, k, 10 + t);
    matrix_x<S> const y = loop_product(a, s);
    known.add(p.ctx, m, x, p.up(s), p.up(y));
    all.emplace_back(flat(s), flat(y));
    matrix_x<S> const v = random_matrix<S>(n, k, 30 + t);
    auto hv = p.up(v), hy = p.up(y);
    known.apply(p.ctx, m, x, hv);
    known.apply(p.ctx, m, x, hy);
    // The matrix and its inverse each enlarge an error by 10.
    double const bound = tolerance<S>(n * k, 100);
    BOOST_TEST(near(flat<S>(p.down(hv)), dense_inverse(all, room) * flat(v), bound));
    BOOST_TEST(near(p.down(hy), s, bound));
  }
  BOOST_TEST(known.size() == room);
  BOOST_TEST(known.capacity() == room);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pair_of_no_curvature_has_no_effect, Case, double_cases) {
  index_t const n = 6;
  place<Case> p;
  euclidean const m{n, 1};
  auto const x = p.up(matrix_x<double>::Zero(n, 1));
  matrix_x<double> const s = random_matrix<double>(n, 1, 1), v = random_matrix<double>(n, 1, 2);
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  stiefelx::secant_pairs known(p.ctx, x, 4);
  auto before = p.up(v);
  known.add(p.ctx, m, x, p.up(s), p.up(matrix_x<double>(3 * s)));
  known.apply(p.ctx, m, x, before);
  for (double factor : {-1.0, 0.0}) {
    known.add(p.ctx, m, x, p.up(v), p.up(matrix_x<double>(factor * v)));
    auto after = p.up(v);
    known.apply(p.ctx, m, x, after);
    BOOST_TEST(same(p.down(after), p.down(before)));
  }
  double scale_of = nan, initial = 7;
  stiefelx::secant_scale_element{}(scale_of, initial, nan, 1);
  BOOST_TEST(scale_of == 0);
  BOOST_TEST(initial == 7);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(directions_are_those_of_dense_bfgs, Case, double_cases) {
  index_t const n = 12;
  std::size_t const room = 5;
  place<Case> p;
  auto f = flat_quadratic<Case>(p.ctx, n);
  exact const a = p.down(f.a).template cast<long double>();
  exact const c = p.down(f.c).template cast<long double>();
  auto const x = points_of(p, f, stiefelx::limited_bfgs{.pairs = room}, gradient_below{1e-4});
  BOOST_TEST_REQUIRE(x.size() > room + 3);
  pair_list all;
  double shortest = 1;
  for (std::size_t k = 0; k + 1 < x.size(); ++k) {
    exact const step = x[k + 1] - x[k], g = a * x[k] - c;
    exact const expected = all.empty() ? exact(-g) : exact(-dense_inverse(all, room) * g);
    // Points and gradients are rounded, and the pairs are their differences.
    shortest = std::min(shortest, static_cast<double>(step.norm() / x.back().norm()));
    BOOST_TEST(angle(step, expected) <= tolerance<double>(n, 100 / shortest));
    all.emplace_back(step, a * step);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_pair_below_the_bound_of_caution_is_not_taken, Case, double_cases) {
  place<Case> p;
  auto f = flat_quadratic<Case>(p.ctx, 6);
  exact const a = p.down(f.a).template cast<long double>();
  exact const c = p.down(f.c).template cast<long double>();
  // With the power zero's limit and a gradient near one, curvatures from 0.1 to 1 are held against
  // the bound itself.
  auto const widest = [&](double caution) {
    auto const x = points_of(
        p, f, stiefelx::limited_bfgs{.caution = caution, .caution_power = 1e-12}, iterations{6});
    double found = 0;
    for (std::size_t k = 0; k + 1 < x.size(); ++k)
      found = std::max(found, angle(x[k + 1] - x[k], c - a * x[k]));
    return found;
  };
  BOOST_TEST(widest(1.01) <= tolerance<double>(6, 1000));
  BOOST_TEST(widest(0.09) > 0.1);
}

BOOST_AUTO_TEST_SUITE_END()
