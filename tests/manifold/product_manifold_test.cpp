// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Powers of one manifold and products of different ones: laws, and what each factor does alone.

#include <cmath>
#include <tuple>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <manifold/laws.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/product.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_stack.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <support/thrown.hpp>

namespace {

using namespace support;
using stiefelx::oblique;
using stiefelx::polar_retraction;
using stiefelx::power;
using stiefelx::product_of;
using stiefelx::qr_retraction;
using stiefelx::sphere;
using stiefelx::stiefel;

constexpr index_t n = 4;

struct column_defect {
  template <class A>
  double operator()(A const& y) const {
    double most = 0;
    for (index_t j = 0; j < y.cols(); ++j)
      most = std::max(most, std::abs(static_cast<double>(y.col(j).norm()) - 1));
    return most;
  }
};

/// Two points of the product, and two tangent vectors at the first.
template <class Case>
struct pair_of_points {
  using matrix = typename Case::matrix;
  using point = std::pair<matrix, matrix>;

  pair_of_points() {
    random_point(at.ctx, m, stream, x);
    random_tangent(at.ctx, m, stream, x, u);
    random_tangent(at.ctx, m, stream, x, v);
  }
  point blank() {
    return {at.up(matrix_x<double>::Zero(6, 2)), at.up(matrix_x<double>::Zero(n, 1))};
  }
  double pairing(point const& a, point const& b) {
    inner(at.ctx, m, x, a, b, s);
    return value(at.ctx, s);
  }

  place<Case> at;
  product_of<stiefel, sphere> m{stiefel{6, 2}, sphere{n, 1}};
  stiefelx::random_stream stream{3, 0};
  point x = blank(), u = blank(), v = blank(), w = blank();
  typename Case::matrix s = at.number(0.0);
};

}  // namespace

BOOST_AUTO_TEST_SUITE(product_manifold)

BOOST_AUTO_TEST_CASE_TEMPLATE(power_of_spheres_obeys_the_laws_of_a_manifold, Case, double_cases) {
  patch<Case, power<sphere>> at({{n, 1}, 3}, n, 3);
  obeys_the_minimum(at);
  has_the_dimension_of_its_type(at);
  has_retraction(at, column_defect{});
  has_exp_and_log(at, column_defect{}, {0.5, 2});
  has_parallel_transport(at, 1.5);
  has_gradient_and_hessian(at, 1);
  BOOST_TEST(injectivity_radius(at.m) == injectivity_radius(sphere{n, 1}));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(power_of_spheres_is_the_oblique_manifold, Case, double_cases) {
  patch<Case, power<sphere>> at({{n, 1}, 3}, n, 3);
  oblique const columns{n, 3};
  auto a = at.blank(), b = at.blank();
  auto const same_result = [&] { BOOST_TEST(near(at.down(a), at.down(b), at.rounding())); };
  fill_normal(at.ctx, at.stream, 1, a);
  nearest_point(at.ctx, columns, a, b);
  nearest_point(at.ctx, at.m, a, a);
  same_result();
  BOOST_TEST(std::abs(at.distance_to(at.x, a) - [&] {
               auto s = at.number(0.0);
               distance(at.ctx, columns, at.x, b, s);
               return value(at.ctx, s);
             }()) < at.rounding());
  transport(at.ctx, at.m, at.x, at.x, at.u, a);
  transport(at.ctx, columns, at.x, at.x, at.u, b);
  same_result();
  BOOST_TEST(dimension(at.m) == dimension(columns));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(power_of_stiefel_goes_point_by_point_for_every_retraction, Case,
                              double_cases) {
  place<Case> at;
  stiefel const one{6, 2};
  power<stiefel> const all{one, 3};
  stiefelx::random_stream stream{4, 0};
  auto x = at.up(matrix_x<double>::Zero(6, 6)), v = at.up(matrix_x<double>::Zero(6, 6)),
       y = at.up(matrix_x<double>::Zero(6, 6)), alone = at.up(matrix_x<double>::Zero(6, 2));
  random_point(at.ctx, all, stream, x);
  random_tangent(at.ctx, all, stream, x, v);
  auto const compare = [&](auto... how) {
    retract(at.ctx, all, x, v, y, how...);
    for (index_t k = 0; k < 3; ++k) {
      retract(at.ctx, one, x.middleCols(2 * k, 2), v.middleCols(2 * k, 2), alone, how...);
      BOOST_TEST(near(at.down(y).middleCols(2 * k, 2), at.down(alone), tolerance<double>(6)));
    }
  };
  compare();
  compare(qr_retraction{});
  compare(polar_retraction{});
  compare(stiefelx::cayley_retraction{});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(product_sums_the_metric_and_moves_each_factor, Case, double_cases) {
  pair_of_points<Case> p;
  auto& ctx = p.at.ctx;
  BOOST_TEST(dimension(p.m) == dimension(stiefel{6, 2}) + dimension(sphere{n, 1}));
  double const rounding = tolerance<double>(20);
  norm(ctx, p.m, p.x, p.u, p.s);
  BOOST_TEST(std::abs(value(ctx, p.s) - 1) < rounding);

  auto part = p.at.number(0.0);
  inner(ctx, stiefel{6, 2}, p.x.first, p.u.first, p.v.first, part);
  double sum = value(ctx, part);
  inner(ctx, sphere{n, 1}, p.x.second, p.u.second, p.v.second, part);
  sum += value(ctx, part);
  BOOST_TEST(std::abs(p.pairing(p.u, p.v) - sum) < rounding);

  // Each output is that of the factor alone; std::tie does what a pair does.
  auto alone = p.blank();
  auto const factors_agree = [&] {
    BOOST_TEST(same(p.at.down(p.w.first), p.at.down(alone.first)));
    BOOST_TEST(same(p.at.down(p.w.second), p.at.down(alone.second)));
  };
  retract(ctx, p.m, p.x, p.v, p.w);
  retract(ctx, stiefel{6, 2}, p.x.first, p.v.first, alone.first);
  retract(ctx, sphere{n, 1}, p.x.second, p.v.second, alone.second);
  factors_agree();
  auto point = p.blank();
  copy(ctx, p.x.first, point.first);
  copy(ctx, p.x.second, point.second);
  auto tied = std::tie(point.first, point.second);
  retract(ctx, p.m, tied, std::tie(p.v.first, p.v.second), tied);
  BOOST_TEST(same(p.at.down(point.first), p.at.down(alone.first)));

  auto z = p.blank();
  fill_normal(ctx, p.stream, 1, z.first);
  fill_normal(ctx, p.stream, 1, z.second);
  riemannian_gradient(ctx, p.m, p.x, z, p.w);
  project(ctx, p.m, p.x, z, alone);
  factors_agree();
  transport(ctx, p.m, p.x, point, p.v, p.w);
  project(ctx, p.m, point, p.v, alone);
  factors_agree();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(product_takes_options_a_factor_and_manifolds_with_geodesics, Case,
                              double_cases) {
  place<Case> at;
  stiefelx::random_stream stream{6, 0};
  auto const blank = [&](index_t rows, index_t cols) {
    return at.up(matrix_x<double>::Zero(rows, cols));
  };
  product_of const m{sphere{3, 1}, oblique{n, 2}};
  auto x = std::tuple(blank(3, 1), blank(n, 2)), v = std::tuple(blank(3, 1), blank(n, 2)),
       y = std::tuple(blank(3, 1), blank(n, 2)), back = std::tuple(blank(3, 1), blank(n, 2));
  random_point(at.ctx, m, stream, x);
  random_tangent(at.ctx, m, stream, x, v);
  exp(at.ctx, m, x, v, y);
  log(at.ctx, m, x, y, back);
  auto s = at.number(0.0);
  distance(at.ctx, m, x, y, s);
  BOOST_TEST(std::abs(value(at.ctx, s) - 1) < tolerance<double>(11));
  BOOST_TEST(near(at.down(std::get<0>(back)), at.down(std::get<0>(v)), tolerance<double>(3), 1));
  BOOST_TEST(near(at.down(std::get<1>(back)), at.down(std::get<1>(v)), tolerance<double>(8), 1));

  product_of const frames{stiefel{6, 2}, stiefel{5, 3}};
  auto a = blank(6, 2), b = blank(5, 3), va = blank(6, 2), vb = blank(5, 3), c = blank(6, 2),
       d = blank(5, 3), alone = blank(5, 3);
  auto point = std::tie(a, b), step = std::tie(va, vb), end = std::tie(c, d);
  random_point(at.ctx, frames, stream, point);
  random_tangent(at.ctx, frames, stream, point, step);
  retract(at.ctx, frames, point, step, end, qr_retraction{}, polar_retraction{});
  retract(at.ctx, stiefel{5, 3}, b, vb, alone, polar_retraction{});
  BOOST_TEST(same(at.down(d), at.down(alone)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_named, Case, double_cases) {
  patch<Case, power<sphere>> at({{n, 1}, 3}, n, 3);
  auto odd = at.blank(n, 4);
  BOOST_TEST(message_of([&] { project(at.ctx, at.m, odd, odd, at.v); }) ==
             "project: x has 4 columns, expected a multiple of the 3 matrices of the stack");
  BOOST_TEST(message_of([&] { retract(at.ctx, at.m, at.x, odd, at.v); }) ==
             "retract: v is 4x4, expected 4x3");
  BOOST_TEST(message_of([&] { exp(at.ctx, at.m, at.x, at.v, at.v); }) ==
             "exp: y overlaps v, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
