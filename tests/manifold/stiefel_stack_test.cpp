// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Stacks of small points against the functions of one point, and the laws of each point.

#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/batch_lanes.hpp>
#include <stiefelx/manifold/stiefel_stack.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::cayley_retraction;
using stiefelx::fixed_stiefel;
using stiefelx::polar_retraction;
using stiefelx::power;
using stiefelx::qr_retraction;
using stiefelx::random_stream;
using stiefelx::stiefel;

/// Points and tangent vectors of norm about 1 side by side.
template <class S>
struct points {
  power<stiefel> m;
  matrix_x<S> x, v;

  points(stiefel one, index_t count)
      : m{one, count}, x(one.n, one.p * count), v(one.n, one.p * count) {
    for (index_t k = 0; k < count; ++k) {
      auto const seed = static_cast<std::uint64_t>(1 + k);
      matrix_x<S> const point = orthonormal_frame<S>(one.n, one.p, seed);
      matrix_x<S> step = tangent_vector<S>(point, seed + 1000);
      if (step.norm() > 1) step /= step.norm();
      this->point(x, k) = point;
      this->point(v, k) = step;
    }
  }

  auto point(matrix_x<S>& a, index_t k) const {
    return a.middleCols(k * m.manifold.p, m.manifold.p);
  }
};

/// Every small p with the n from p on that tell tiles and chunks apart.
std::vector<stiefel> const small_manifolds = [] {
  std::vector<stiefel> made{{0, 0}, {3, 0}};
  for (index_t p = 1; p <= 9; ++p)
    for (index_t const n : {p, p + 1, p + 3, 2 * p, index_t{20}}) made.push_back({n, p});
  return made;
}();

/// f(options) for each retraction.
template <class F>
void for_each_retraction(F const& f) {
  f("qr", qr_retraction{});
  f("polar", polar_retraction{});
  f("cayley", cayley_retraction{});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stiefel_stack)

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_agrees_with_the_function_of_one_point, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  for (stiefel const one : small_manifolds) {
    points<S> const data(one, 5);
    auto const x = at.up(data.x), v = at.up(data.v);
    for_each_retraction([&](char const* name, auto how) {
      BOOST_TEST_INFO_SCOPE(name << " " << one.n << "x" << one.p);
      auto y = at.up(data.v), expected = at.up(data.v);
      retract(at.ctx, data.m, x, v, y, how);
      for (index_t k = 0; k < data.m.count; ++k)
        retract(at.ctx, one, x.middleCols(k * one.p, one.p), v.middleCols(k * one.p, one.p),
                expected.middleCols(k * one.p, one.p), how);
      double const size = std::sqrt(static_cast<double>(data.x.cols()));
      BOOST_TEST(near(at.down(y), at.down(expected), tolerance<S>(one.n, 2), size));
    });
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(projections_and_gradients_agree_with_those_of_one_point, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  for (stiefel const one : small_manifolds)
    for (double const alpha : {stiefelx::euclidean_metric, stiefelx::canonical_metric, 0.7}) {
      points<S> data({one.n, one.p, alpha}, 5);
      stiefel const m = data.m.manifold;
      BOOST_TEST_INFO_SCOPE(m.n << "x" << m.p << ", alpha " << alpha);
      data.v = random_matrix<S>(m.n, data.v.cols(), 3);
      auto const x = at.up(data.x), z = at.up(data.v);
      auto tangent = at.up(data.v), gradient = at.up(data.v);
      auto one_tangent = at.up(data.v), one_gradient = at.up(data.v);
      project(at.ctx, data.m, x, z, tangent);
      riemannian_gradient(at.ctx, data.m, x, z, gradient);
      for (index_t k = 0; k < data.m.count; ++k) {
        auto const xk = x.middleCols(k * m.p, m.p), zk = z.middleCols(k * m.p, m.p);
        project(at.ctx, m, xk, zk, one_tangent.middleCols(k * m.p, m.p));
        riemannian_gradient(at.ctx, m, xk, zk, one_gradient.middleCols(k * m.p, m.p));
      }
      double const size = data.v.norm();
      BOOST_TEST(near(at.down(tangent), at.down(one_tangent), tolerance<S>(m.n, 2), size));
      BOOST_TEST(near(at.down(gradient), at.down(one_gradient), tolerance<S>(m.n, 4), size));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_keeps_orthonormal_columns_and_zero_stays, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  for (stiefel const one : {stiefel{1, 1}, stiefel{8, 3}, stiefel{16, 8}, stiefel{9, 9},
                            stiefel{33, 7}, stiefel{64, 32}, stiefel{65, 64}}) {
    points<S> data(one, 3);
    double const size = std::sqrt(static_cast<double>(one.p));
    auto const x = at.up(data.x), v = at.up(data.v);
    auto const zero = at.up(matrix_x<S>(matrix_x<S>::Zero(one.n, data.x.cols())));
    for_each_retraction([&](char const* name, auto how) {
      BOOST_TEST_INFO_SCOPE(name << " " << one.n << "x" << one.p);
      auto y = at.up(data.v), stays = at.up(data.v);
      retract(at.ctx, data.m, x, v, y, how);
      retract(at.ctx, data.m, x, zero, stays, how);
      matrix_x<S> const moved = at.down(y);
      for (index_t k = 0; k < data.m.count; ++k)
        BOOST_TEST(orthonormality<S>(moved.middleCols(k * one.p, one.p)) <=
                   tolerance<S>(one.n, 2) * size);
      BOOST_TEST(near(at.down(stays), data.x, tolerance<S>(one.n)));
    });
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_output_may_be_the_input_it_replaces, Case, retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  points<S> const data({7, 3}, 6);
  auto const x = at.up(data.x), v = at.up(data.v);
  for_each_retraction([&](char const* name, auto how) {
    BOOST_TEST_INFO_SCOPE(name);
    auto apart = at.up(data.v), in_place = at.up(data.x);
    retract(at.ctx, data.m, x, v, apart, how);
    retract(at.ctx, data.m, in_place, v, in_place, how);
    BOOST_TEST(same(at.down(in_place), at.down(apart)));
  });
  auto apart = at.up(data.x), in_place = at.up(data.v);
  project(at.ctx, data.m, x, v, apart);
  project(at.ctx, data.m, x, in_place, in_place);
  BOOST_TEST(same(at.down(in_place), at.down(apart)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(fixed_sizes_give_what_sizes_at_run_time_give, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  index_t const count = 21;
  points<S> const data({8, 3}, count);
  power<fixed_stiefel<8, 3>> const fixed{{}, count};
  auto const x = at.up(data.x), v = at.up(data.v);
  double const size = data.x.norm();
  for_each_retraction([&](char const* name, auto how) {
    BOOST_TEST_INFO_SCOPE(name);
    auto y = at.up(data.v), expected = at.up(data.v);
    retract(at.ctx, fixed, x, v, y, how);
    retract(at.ctx, data.m, x, v, expected, how);
    BOOST_TEST(near(at.down(y), at.down(expected), tolerance<S>(8), size));
  });
  auto w = at.up(data.v), expected = at.up(data.v);
  project(at.ctx, fixed, x, v, w);
  project(at.ctx, data.m, x, v, expected);
  BOOST_TEST(near(at.down(w), at.down(expected), tolerance<S>(8), size));
  riemannian_gradient(at.ctx, power<fixed_stiefel<8, 3>>{{.alpha = 0}, count}, x, v, w);
  riemannian_gradient(at.ctx, power<stiefel>{{8, 3, 0}, count}, x, v, expected);
  BOOST_TEST(near(at.down(w), at.down(expected), tolerance<S>(8), size));
  random_stream first{5, 0}, second{5, 0};
  random_point(at.ctx, fixed, first, w);
  random_point(at.ctx, data.m, second, expected);
  BOOST_TEST(same(at.down(w), at.down(expected)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(not_a_number_stays_in_its_own_point, Case, retraction_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> at;
  points<S> const data({6, 4}, 19);
  for (real const poison :
       {std::numeric_limits<real>::quiet_NaN(), std::numeric_limits<real>::infinity()})
    for_each_retraction([&](char const* name, auto how) {
      BOOST_TEST_INFO_SCOPE(name << " " << poison);
      index_t const bad = 13, p = 4;
      points<S> spoiled = data;
      spoiled.v(5, bad * p + 2) = S(poison);
      auto clean = at.up(data.v), dirty = at.up(data.v);
      retract(at.ctx, data.m, at.up(data.x), at.up(data.v), clean, how);
      retract(at.ctx, data.m, at.up(spoiled.x), at.up(spoiled.v), dirty, how);
      matrix_x<S> const a = at.down(clean), b = at.down(dirty);
      BOOST_TEST(same(b.leftCols(bad * p), a.leftCols(bad * p)));
      BOOST_TEST(same(b.rightCols((18 - bad) * p), a.rightCols((18 - bad) * p)));
      BOOST_TEST(!b.middleCols(bad * p, p).allFinite());
    });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_point_does_not_see_its_place_in_the_stack, Case, retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  index_t const count = 37, p = 3;
  points<S> const data({7, p}, count);
  points<S> turned = data;
  for (index_t k = 0; k < count; ++k) {
    turned.point(turned.x, k) = data.x.middleCols((count - 1 - k) * p, p);
    turned.point(turned.v, k) = data.v.middleCols((count - 1 - k) * p, p);
  }
  for_each_retraction([&](char const* name, auto how) {
    BOOST_TEST_INFO_SCOPE(name);
    auto y = at.up(data.v), z = at.up(data.v);
    retract(at.ctx, data.m, at.up(data.x), at.up(data.v), y, how);
    retract(at.ctx, data.m, at.up(turned.x), at.up(turned.v), z, how);
    matrix_x<S> const a = at.down(y), b = at.down(z);
    for (index_t k = 0; k < count; ++k)
      BOOST_TEST(same(b.middleCols(k * p, p), a.middleCols((count - 1 - k) * p, p)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_count_of_points_is_served, Case, double_cases) {
  place<Case> at;
  for (index_t const count : {0, 1, 2, 7, 8, 9, 17}) {
    BOOST_TEST_INFO_SCOPE(count << " points");
    points<double> const data({5, 2}, count);
    auto const x = at.up(data.x), v = at.up(data.v);
    auto y = at.up(data.x), w = at.up(data.x);
    retract(at.ctx, data.m, x, v, y);
    project(at.ctx, data.m, x, v, w);
    matrix_x<double> const moved = at.down(y);
    for (index_t k = 0; k < count; ++k)
      BOOST_TEST(orthonormality<double>(moved.middleCols(2 * k, 2)) <= tolerance<double>(5, 2));
    BOOST_TEST(near(at.down(w), data.v, tolerance<double>(5), 1));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_too_large_for_lanes_take_the_function_of_one_point, Case,
                              double_cases) {
  place<Case> at;
  points<double> const data({70, 66}, 2);
  auto const x = at.up(data.x), v = at.up(data.v);
  for_each_retraction([&](char const* name, auto how) {
    BOOST_TEST_INFO_SCOPE(name);
    auto y = at.up(data.v), expected = at.up(data.v);
    retract(at.ctx, data.m, x, v, y, how);
    for (index_t k = 0; k < 2; ++k)
      retract(at.ctx, data.m.manifold, x.middleCols(k * 66, 66), v.middleCols(k * 66, 66),
              expected.middleCols(k * 66, 66), how);
    BOOST_TEST(same(at.down(y), at.down(expected)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_point_draws_different_points, Case, retraction_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  power<stiefel> const m{{6, 2}, 9};
  auto x = at.up(matrix_x<S>(6, 18));
  random_stream stream{3, 0};
  random_point(at.ctx, m, stream, x);
  BOOST_TEST(stream.offset == 1u);
  matrix_x<S> const drawn = at.down(x);
  for (index_t k = 0; k < 9; ++k) {
    BOOST_TEST(orthonormality<S>(drawn.middleCols(2 * k, 2)) <= tolerance<S>(6, 2));
    // Two independent points in six dimensions are far apart.
    if (k > 0) BOOST_TEST((drawn.middleCols(2 * k, 2) - drawn.leftCols(2)).norm() > 0.1);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_names_function_argument_and_shapes, Case, double_cases) {
  place<Case> at;
  points<double> const data({5, 2}, 3);
  auto x = at.up(data.x), v = at.up(data.v), y = at.up(data.v);
  auto const text = [&](auto const& m, auto const& a, auto const& b, auto&& c) {
    return message_of([&] { retract(at.ctx, m, a, b, c); });
  };
  BOOST_TEST(text(data.m, x.middleCols(0, 5), v, y) == "retract: x is 5x5, expected 5x6");
  BOOST_TEST(text(data.m, x, v.middleRows(0, 4), y) == "retract: v is 4x6, expected 5x6");
  BOOST_TEST(text(data.m, x, v, y.middleCols(0, 4)) == "retract: y is 5x4, expected 5x6");
  BOOST_TEST(text(power<stiefel>{{5, 2}, -1}, x, v, y) ==
             "retract: power::count is -1, expected a number of at least 0");
  BOOST_TEST(text(power<stiefel>{{2, 5}, 1}, x, v, y) ==
             "retract: the manifold is stiefel{2, 5}, expected 0 <= p <= n");
  BOOST_TEST(text(data.m, x, v, v) == "retract: y overlaps v, expected separate memory");
  power<stiefel> const two{{5, 2}, 2};
  BOOST_TEST(text(two, x.middleCols(0, 4), v.middleCols(0, 4), x.middleCols(2, 4)) ==
             "retract: y overlaps x, expected the same matrix or separate memory");
  BOOST_TEST(message_of([&] { project(at.ctx, data.m, x, v, x); }) ==
             "project: v overlaps x, expected separate memory");
  BOOST_TEST(message_of([&] { riemannian_gradient(at.ctx, data.m, x, v.middleCols(0, 2), y); }) ==
             "riemannian_gradient: g is 5x2, expected 5x6");
  BOOST_TEST(message_of([&] {
               retract(at.ctx, data.m, x, v, y, polar_retraction{.iterations = 0});
             }) == "retract: polar_retraction::iterations is 0, expected a number of at least 1");
}

BOOST_AUTO_TEST_SUITE_END()
