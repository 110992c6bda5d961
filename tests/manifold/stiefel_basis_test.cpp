// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tangent coordinates: round trips, isometry and orthonormality, also at points whose top block
// breaks careless formulas.

#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_basis.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::alias_error;
using stiefelx::stiefel;

std::vector<double> const alphas{-0.75, -0.5, 0, 0.5};
std::vector<stiefel> const manifolds{{0, 0}, {3, 0}, {1, 1},  {4, 1},
                                     {5, 5}, {6, 5}, {12, 5}, {40, 17}};

template <class A>
double size_of(A const& a) {
  return static_cast<double>(frobenius(table(a)));
}

template <class Case>
struct ground : place<Case> {
  using S = typename Case::scalar;
  using real = typename Case::real;

  static index_t count(stiefel m) {
    return std::is_same_v<S, real> ? dimension(m) : complex_dimension(m);
  }

  matrix_x<real> coordinates(stiefel m, matrix_x<S> const& x, matrix_x<S> const& v) {
    auto const point = this->up(x), vector = this->up(v);
    auto c = this->up(matrix_x<real>::Zero(count(m), 1));
    stiefelx::tangent_coordinates(this->ctx, m, point, vector, c);
    return this->down(c);
  }

  matrix_x<S> vector(stiefel m, matrix_x<S> const& x, matrix_x<real> const& c) {
    auto const point = this->up(x);
    auto const given = this->up(c);
    auto v = this->up(x);
    stiefelx::tangent_vector(this->ctx, m, point, given, v);
    return this->down(v);
  }

  double inner(stiefel m, matrix_x<S> const& x, matrix_x<S> const& u, matrix_x<S> const& v) {
    auto const point = this->up(x), first = this->up(u), second = this->up(v);
    auto s = this->number(real(0));
    stiefelx::inner(this->ctx, m, point, first, second, s);
    return static_cast<double>(value(this->ctx, s));
  }

  /// Both round trips, and inner products on both sides.
  void expect_isometry(stiefel m, matrix_x<S> const& x) {
    matrix_x<S> const u = tangent_vector(x, 2), v = tangent_vector(x, 3);
    matrix_x<real> const cu = coordinates(m, x, u), cv = coordinates(m, x, v);
    double const weight = 1 / (2 * (m.alpha + 1));
    double const allowed = tolerance<S>(m.n, 4 * (1 + weight));
    double const size = 1 + size_of(u) * size_of(v);
    BOOST_TEST(std::abs(static_cast<double>((loop_product(loop_adjoint(cu), cv)).sum()) -
                        inner(m, x, u, v)) <= allowed * size);
    BOOST_TEST(near(vector(m, x, cu), u, allowed, 1 + size_of(u)));
    matrix_x<real> const c = random_matrix<real>(count(m), 1, 4);
    matrix_x<S> const w = vector(m, x, c);
    matrix_x<S> const a = loop_product(loop_adjoint(x), w);
    BOOST_TEST(size_of(a + loop_adjoint(a)) <= allowed * (1 + size_of(w)));
    BOOST_TEST(near(coordinates(m, x, w), c, allowed, 1 + size_of(c) / std::sqrt(weight)));
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(stiefel_basis)

BOOST_AUTO_TEST_CASE_TEMPLATE(coordinates_are_an_isometry, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  for (double const alpha : alphas)
    for (stiefel m : manifolds) BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << alpha) {
        m.alpha = alpha;
        at.expect_isometry(m, orthonormal_frame<S>(m.n, m.p, 1));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(coordinates_are_stable_at_every_top_block, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  index_t const p = 4;
  stiefel const m{2 * p + 1, p};
  matrix_x<S> const zero = matrix_x<S>::Zero(m.n, p);
  matrix_x<S> const turn = orthonormal_frame<S>(p, p, 6);
  auto const with_top = [&](matrix_x<S> const& top) {
    matrix_x<S> x = zero;
    x.topRows(p) = top;
    return x;
  };
  matrix_x<S> const one = matrix_x<S>::Identity(p, p);
  matrix_x<S> below = zero, half = zero, cycle = zero, nearly = zero;
  below.bottomRows(p) = turn;
  half.topRows(p).leftCols(2) = turn.leftCols(2);
  half.bottomRows(p).rightCols(2) = turn.rightCols(2);
  for (index_t j = 0; j < p; ++j) cycle((j + 1) % p, j) = S(-1);
  using real = typename Case::real;
  real const small = std::sqrt(std::numeric_limits<real>::epsilon());
  nearly.topRows(p) = -std::sqrt(1 - small * small) * one;
  nearly.bottomRows(p) = small * turn;
  BOOST_TEST_CONTEXT("identity") at.expect_isometry(m, with_top(one));
  BOOST_TEST_CONTEXT("minus identity") at.expect_isometry(m, with_top(-one));
  BOOST_TEST_CONTEXT("orthogonal") at.expect_isometry(m, with_top(turn));
  BOOST_TEST_CONTEXT("zero") at.expect_isometry(m, below);
  BOOST_TEST_CONTEXT("singular") at.expect_isometry(m, half);
  BOOST_TEST_CONTEXT("cycle") at.expect_isometry(m, cycle);
  BOOST_TEST_CONTEXT("nearly minus identity") at.expect_isometry(m, nearly);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(unit_coordinates_give_an_orthonormal_basis, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  ground<Case> at;
  matrix_x<S> fixed(3, 1);
  fixed << S(real(0.1)), S(real(-0.7)), S(real(std::sqrt(0.5)));
  struct place_of {
    stiefel m;
    matrix_x<S> x;
  };
  for (auto const& [m, x] :
       {place_of{{3, 1}, fixed}, place_of{{4, 2, 0}, orthonormal_frame<S>(4, 2, 1)}}) {
    index_t const count = at.count(m);
    matrix_x<double> products(count, count);
    std::vector<matrix_x<S>> basis;
    for (index_t i = 0; i < count; ++i) {
      matrix_x<real> unit = matrix_x<real>::Zero(count, 1);
      unit(i, 0) = 1;
      basis.push_back(at.vector(m, x, unit));
    }
    for (index_t i = 0; i < count; ++i)
      for (index_t j = 0; j < count; ++j)
        products(i, j) = at.inner(m, x, basis[std::size_t(i)], basis[std::size_t(j)]);
    BOOST_TEST(near(products, matrix_x<double>::Identity(count, count), tolerance<S>(4)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(coordinates_leave_the_normal_part_out, Case, complex_cases) {
  using S = typename Case::scalar;
  ground<Case> at;
  stiefel const m{9, 4};
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1), z = random_matrix<S>(9, 4, 2);
  auto const point = at.up(x);
  auto v = at.up(z);
  project(at.ctx, m, point, v, v);
  BOOST_TEST(near(at.coordinates(m, x, z), at.coordinates(m, x, at.down(v)), tolerance<S>(9)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_of_coordinates_is_named, Case, double_cases) {
  place<Case> at;
  auto& ctx = at.ctx;
  stiefel const m{5, 2};
  auto x = at.up(orthonormal_frame<double>(5, 2, 1));
  auto v = at.up(matrix_x<double>::Zero(5, 2));
  auto c = at.up(matrix_x<double>::Zero(7, 1)), wrong = at.up(matrix_x<double>::Zero(8, 1));
  tangent_coordinates(ctx, m, x, v, c);
  BOOST_TEST(message_of([&] { tangent_coordinates(ctx, m, x, v, wrong); }) ==
             "tangent_coordinates: c is 8x1, expected 7x1");
  BOOST_TEST(message_of([&] { stiefelx::tangent_vector(ctx, m, x, wrong, v); }) ==
             "tangent_vector: c is 8x1, expected 7x1");
  BOOST_TEST(message_of([&] { stiefelx::tangent_vector(ctx, m, x, c, x); }) ==
             "tangent_vector: v overlaps x, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
