// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Pade, polar-light and iterated Cayley retractions: laws, formulas and accuracy.

#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>
#include <vector>

#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/manifold/stiefel_pade.hpp>
#include <stiefelx/manifold/stiefel_polar_light.hpp>
#include <stiefelx/manifold/stiefel_quasi_geodesic.hpp>
#include <stiefelx/testing/check_retraction.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::cayley_iteration_retraction;
using stiefelx::cayley_retraction;
using stiefelx::pade_retraction;
using stiefelx::polar_light_retraction;
using stiefelx::polar_light_rotation;
using stiefelx::stiefel;
using stiefelx::wide_t;

/// A retraction of this file with its options.
struct how {
  char const* name;
  enum { pade, polar_light, cayley_iteration, quasi_geodesic, cayley } method;
  int first = 2;   ///< order, rotation or iterations
  int second = 1;  ///< Newton-Schulz steps
};

how const pade_1{"pade 1", how::pade, 1}, pade_2{"pade 2", how::pade, 2},
    light{"polar-light", how::polar_light, 0},
    light_cayley{"polar-light by Cayley", how::polar_light, 1},
    quasi{"quasi-geodesic", how::quasi_geodesic}, cayley{"cayley", how::cayley};

how iteration(int iterations, int newton_schulz_steps) {
  return {"cayley iteration", how::cayley_iteration, iterations, newton_schulz_steps};
}

std::vector<how> const exact{pade_1, pade_2, light, light_cayley, quasi};

std::vector<how> with_iteration() {
  std::vector<how> all = exact;
  all.push_back(iteration(5, 1));
  return all;
}

/// A manifold with one of these retractions, so that a test is instantiated once for all of them.
struct frames {
  stiefel m;
  how method;
};

template <class Ctx, class X, class V, class Y>
void retract(Ctx& ctx, frames const& f, X const& x, V const& v, Y&& y) {
  switch (f.method.method) {
    case how::pade:
      return stiefelx::retract(ctx, f.m, x, v, y, pade_retraction{.order = f.method.first});
    case how::polar_light:
      return stiefelx::retract(
          ctx, f.m, x, v, y,
          polar_light_retraction{.rotation = static_cast<polar_light_rotation>(f.method.first)});
    case how::cayley_iteration:
      return stiefelx::retract(ctx, f.m, x, v, y,
                               cayley_iteration_retraction{.iterations = f.method.first,
                                                           .newton_schulz_steps = f.method.second});
    case how::quasi_geodesic:
      return stiefelx::retract(ctx, f.m, x, v, y, stiefelx::quasi_geodesic_retraction{});
    default:
      return stiefelx::retract(ctx, f.m, x, v, y, cayley_retraction{});
  }
}

template <class Case>
matrix_x<typename Case::scalar> moved(how method, matrix_x<typename Case::scalar> const& x,
                                      matrix_x<typename Case::scalar> const& v,
                                      bool in_place = false) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  frames const f{{x.rows(), x.cols()}, method};
  auto const step = backend::upload(ctx, v), from = backend::upload(ctx, x);
  auto y = backend::upload(ctx, in_place ? x : v);
  if (in_place)
    retract(ctx, f, y, step, y);
  else
    retract(ctx, f, from, step, y);
  return backend::download(ctx, y);
}

template <class S>
matrix_x<S> identity(index_t n) {
  matrix_x<S> eye = matrix_x<S>::Zero(n, n);
  for (index_t j = 0; j < n; ++j) eye(j, j) = S(1);
  return eye;
}

/// A skew 3 x 3 matrix that turns two columns by an angle and, where entries are complex, the third
/// by a phase.
template <class S>
matrix_x<S> generator(double angle, double phase) {
  using real = stiefelx::real_of_t<S>;
  matrix_x<S> a = matrix_x<S>::Zero(3, 3);
  a(1, 0) = static_cast<real>(angle);
  a(0, 1) = -a(1, 0);
  if constexpr (!std::is_same_v<S, real>) a(2, 2) = S(0, phase);
  return a;
}

/// The exponential of that matrix.
template <class S>
matrix_x<S> rotation(double angle, double phase) {
  using real = stiefelx::real_of_t<S>;
  matrix_x<S> e = identity<S>(3);
  e(0, 0) = e(1, 1) = static_cast<real>(std::cos(angle));
  e(1, 0) = static_cast<real>(std::sin(angle));
  e(0, 1) = -e(1, 0);
  if constexpr (!std::is_same_v<S, real>) e(2, 2) = std::polar(real(1), real(phase));
  return e;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(more_retractions)

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_has_the_right_value_and_derivative_at_zero, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  for (stiefel const m : {stiefel{4, 1}, stiefel{5, 5}, stiefel{9, 3}})
    for (how const& method : with_iteration()) {
      matrix_x<S> const frame = orthonormal_frame<S>(m.n, m.p, 1);
      auto const x = Case::backend::upload(ctx, frame);
      auto const v = Case::backend::upload(ctx, tangent_vector(frame, 2));
      auto const found = stiefelx::check_retraction(ctx, frames{m, method}, x, v);
      BOOST_TEST_CONTEXT(method.name << ", " << m.n << "x" << m.p << "\n" << found) {
        BOOST_TEST(found.passed);
        BOOST_TEST(!found.steps.exact);
        BOOST_TEST(found.steps.slope < 2.1);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_keeps_orthonormal_columns, Case, retraction_cases) {
  using S = typename Case::scalar;
  for (stiefel const m : {stiefel{0, 0}, {3, 0}, {1, 1}, {4, 1}, {5, 5}, {12, 5}, {40, 17}})
    for (how const& method : exact)
      for (double const length : {0.0, 1e-3, 1.0, 20.0})
        BOOST_TEST_CONTEXT(method.name << ", " << m.n << "x" << m.p << ", length " << length) {
          matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
          matrix_x<S> const y = moved<Case>(method, x, tangent_of_length(x, length, 2));
          BOOST_TEST(orthonormality(y) <= tolerance<S>(m.n, 1 + length));
          if (length == 0) BOOST_TEST(near(y, x, tolerance<S>(m.n)));
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_in_place_has_the_same_bits_and_so_have_two_runs, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(13, 6, 1);
  matrix_x<S> const v = tangent_of_length(x, 1, 2);
  for (how const& method : with_iteration()) BOOST_TEST_CONTEXT(method.name) {
      matrix_x<S> const y = moved<Case>(method, x, v);
      BOOST_TEST(same(moved<Case>(method, x, v, true), y));
      BOOST_TEST(same(moved<Case>(method, x, v), y));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(pade_retraction_is_the_dense_approximant, Case, retraction_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  for (stiefel const m : {stiefel{1, 1}, stiefel{4, 1}, stiefel{5, 5}, stiefel{12, 5}})
    for (double const length : {0.5, 3.0}) {
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const v = tangent_of_length(x, length, 2);
      matrix_x<wide> const point = loop_cast<wide>(x), w = dense_rotation(x, v);
      matrix_x<wide> const even = identity<wide>(m.n) + loop_product(w, w) / wide(12);
      matrix_x<wide> const below = even - w / wide(2), above = even + w / wide(2);
      matrix_x<wide> const right = loop_product(above, point);
      matrix_x<wide> const expected = below.partialPivLu().solve(right);
      BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", length " << length) {
        BOOST_TEST(near(moved<Case>(pade_2, x, v), expected, tolerance<S>(m.n, 1 + length)));
        BOOST_TEST(near(moved<Case>(pade_1, x, v), moved<Case>(cayley, x, v),
                        tolerance<S>(m.n, 1 + length)));
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(polar_light_turns_within_the_span_and_stretches_beyond_it, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const frame = orthonormal_frame<S>(7, 6, 1);
  matrix_x<S> const x = frame.leftCols(3), beside = frame.rightCols(3);
  matrix_x<S> const k = loop_product(beside, random_matrix<S>(3, 3, 2));
  matrix_x<S> const v = loop_product(x, generator<S>(0.7, 0.4)) + k;
  for (how const& method : {light, light_cayley}) {
    bool const exponential = method.first == 0;
    matrix_x<S> const turned = exponential
                                   ? rotation<S>(0.7, 0.4)
                                   : rotation<S>(2 * std::atan(0.7 / 2), 2 * std::atan(0.4 / 2));
    // sum = y h with h Hermitian and h^2 = I + k^H k, so that h is positive definite.
    matrix_x<S> const y = moved<Case>(method, x, v), sum = loop_product(x, turned) + k;
    matrix_x<S> const h = loop_product(loop_adjoint(y), sum);
    matrix_x<S> const square = identity<S>(3) + loop_product(loop_adjoint(k), k);
    double const size = static_cast<double>(frobenius(table(sum)));
    BOOST_TEST_CONTEXT(method.name) {
      BOOST_TEST(near(loop_product(y, h), sum, tolerance<S>(7, 5), size));
      BOOST_TEST(near(h, loop_adjoint(h), tolerance<S>(7, 5), size));
      BOOST_TEST(near(loop_product(h, h), square, tolerance<S>(7, 5), size * size));
      for (index_t j = 0; j < 3; ++j) BOOST_TEST(std::real(h(j, j)) > 0.9);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(quasi_geodesic_moves_the_span_and_turns_the_frame, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  // Each column of x has a direction and an angle of its own.
  matrix_x<S> const frame = orthonormal_frame<S>(7, 6, 1);
  matrix_x<S> const x = frame.leftCols(3);
  matrix_x<S> k = frame.rightCols(3), moved_span = x;
  for (index_t j = 0; j < 3; ++j) {
    auto const angle = static_cast<real>(0.5 + 0.4 * static_cast<double>(j));
    moved_span.col(j) = x.col(j) * std::cos(angle) + k.col(j) * std::sin(angle);
    k.col(j) *= angle;
  }
  matrix_x<S> const v = loop_product(x, generator<S>(0.7, 0.4)) + k;
  BOOST_TEST(near(moved<Case>(quasi, x, v), loop_product(moved_span, rotation<S>(0.7, 0.4)),
                  tolerance<S>(7)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cayley_iteration_is_the_dense_fixed_point_iteration, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  for (stiefel const m : {stiefel{4, 1}, stiefel{5, 5}, stiefel{9, 3}}) {
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    matrix_x<S> const v = tangent_of_length(x, 1.5, 2);
    matrix_x<wide> const point = loop_cast<wide>(x), w = dense_rotation(x, v);
    matrix_x<wide> y = point + loop_cast<wide>(v);
    for (int k = 0; k < 5; ++k) {
      BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", " << k << " steps")
      BOOST_TEST(near(moved<Case>(iteration(k, 0), x, v), y, tolerance<S>(m.n, 4)));
      matrix_x<wide> const sum = (point + y) / wide(2);
      y = point + loop_product(w, sum);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(cayley_iteration_leaves_the_error_of_its_page, Case, double_cases) {
  using S = double;
  // One column that turns in a plane: W has the norm t, and its Cayley transform is known.
  for (double const t : {0.05, 0.27, 0.54, 0.81})
    for (int k = 0; k < 7; ++k) {
      matrix_x<S> x = matrix_x<S>::Zero(5, 1), v = x, cayley_point = x;
      x(1, 0) = 1;
      v(3, 0) = t;
      double const turn = 2 * std::atan(t / 2);
      cayley_point(1, 0) = std::cos(turn);
      cayley_point(3, 0) = std::sin(turn);
      matrix_x<S> const y = moved<Case>(iteration(k, 0), x, v);
      double const error = std::pow(t / 2, k + 1) * t / std::sqrt(1 + t * t / 4);
      int const power = k % 2 == 0 ? k + 2 : k + 3;
      BOOST_TEST_CONTEXT("t = " << t << ", " << k << " steps") {
        BOOST_TEST(std::abs((y - cayley_point).norm() - error) <= tolerance<S>(5));
        BOOST_TEST(orthonormality(y) <= 4 * std::pow(t / 2, power) + tolerance<S>(5));
        BOOST_TEST(orthonormality(y) >= 2 * std::pow(t / 2, power) - tolerance<S>(5));
      }
    }
  // The bound for every tangent vector, by the norm that bounds W.
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1);
  for (double const length : {0.1, 1.0}) {
    matrix_x<S> const v = tangent_of_length(x, length, 2);
    matrix_x<S> const limit = moved<Case>(cayley, x, v);
    for (int k = 0; k < 6; ++k)
      BOOST_TEST((moved<Case>(iteration(k, 0), x, v) - limit).norm() <=
                 std::pow(length / std::sqrt(3), k + 1) * length + tolerance<S>(9));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(newton_schulz_steps_square_the_defect, Case, double_cases) {
  matrix_x<double> const x = orthonormal_frame<double>(9, 4, 1);
  for (double const length : {0.3, 0.6, 1.0}) {
    matrix_x<double> const v = tangent_of_length(x, length, 2);
    double const before = orthonormality(moved<Case>(iteration(2, 0), x, v));
    double const after = orthonormality(moved<Case>(iteration(2, 1), x, v));
    BOOST_TEST(after <= 0.75 * before * before * (1 + before) + tolerance<double>(9));
    BOOST_TEST(after < 0.1 * before);
    BOOST_TEST(orthonormality(moved<Case>(iteration(2, 4), x, v)) < tolerance<double>(9));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_retraction_treats_drift_as_its_page_says, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  matrix_x<S> const x = orthonormal_frame<S>(9, 3, 1);
  matrix_x<S> const v = tangent_of_length(x, 0.1, 2);
  matrix_x<S> const off = x * real(1.001);
  double const before = orthonormality(off);
  for (how const& method : {pade_1, pade_2, iteration(5, 0)}) BOOST_TEST_CONTEXT(method.name)
  BOOST_TEST(std::abs(orthonormality(moved<Case>(method, off, v)) - before) < 1e-2 * before);
  for (how const& method : {light, light_cayley}) BOOST_TEST_CONTEXT(method.name)
  BOOST_TEST(orthonormality(moved<Case>(method, off, v)) < tolerance<S>(9));
  BOOST_TEST(orthonormality(moved<Case>(quasi, off, v)) > 0.9 * before);
  BOOST_TEST(orthonormality(moved<Case>(iteration(5, 1), off, v)) <
             before * before + tolerance<S>(9));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_way_back_is_the_turned_tangent_vector_reversed, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  using wide = wide_t<S>;
  for (stiefel const m : {stiefel{4, 1}, stiefel{5, 5}, stiefel{9, 3}}) {
    matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
    matrix_x<S> const v = tangent_of_length(x, 1.5, 2);
    for (how const& method : {cayley, pade_1, pade_2}) {
      // W y is tangent at y and the velocity of the whole way there.
      matrix_x<S> const y = moved<Case>(method, x, v);
      matrix_x<S> const back = loop_cast<S>(loop_product(dense_rotation(x, v), loop_cast<wide>(y)));
      BOOST_TEST_CONTEXT(method.name << ", " << m.n << "x" << m.p)
      BOOST_TEST(near(moved<Case>(method, y, -back), x, tolerance<S>(m.n, 4)));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rotation_factors_give_the_skew_matrix_that_turns_x_along_v, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  using backend = typename Case::backend;
  typename Case::context ctx;
  index_t const n = 9, p = 3;
  matrix_x<S> const x = orthonormal_frame<S>(n, p, 1), v = tangent_of_length(x, 1, 2);
  auto a = backend::upload(ctx, matrix_x<S>::Zero(n, 2 * p));
  auto k = backend::upload(ctx, matrix_x<S>::Zero(2 * p, 2 * p));
  stiefelx::rotation_factors(ctx, stiefel{n, p}, backend::upload(ctx, x), backend::upload(ctx, v),
                             a, k);
  matrix_x<S> const left = backend::download(ctx, a);
  matrix_x<S> right(n, 2 * p);
  right << left.rightCols(p), -left.leftCols(p);
  matrix_x<S> const w = loop_product(left, loop_adjoint(right));
  BOOST_TEST(near(w, dense_rotation(x, v), tolerance<S>(n)));
  BOOST_TEST(near(loop_product(w, x), v, tolerance<S>(n)));
  BOOST_TEST(
      near(backend::download(ctx, k), loop_product(loop_adjoint(right), left), tolerance<S>(n)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_spreads_to_the_new_point, Case, retraction_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(7, 3, 1);
  matrix_x<S> v = tangent_of_length(x, 1, 2);
  v(2, 1) = S(std::numeric_limits<typename Case::real>::quiet_NaN());
  for (how const& method : with_iteration())
    BOOST_TEST_CONTEXT(method.name) BOOST_TEST(!moved<Case>(method, x, v).allFinite());
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_refused) {
  stiefelx::host::context ctx;
  stiefel const m{5, 2};
  matrix_x<double> const x = orthonormal_frame<double>(5, 2, 1), v = tangent_vector(x, 2);
  matrix_x<double> y = x;
  auto const text = [&](auto options) {
    return message_of([&] { stiefelx::retract(ctx, m, x, v, y, options); });
  };
  BOOST_TEST(text(pade_retraction{.order = 3}) ==
             "retract: pade_retraction::order is 3, expected 1 or 2");
  BOOST_TEST(text(polar_light_retraction{.iterations = 0}) ==
             "retract: polar_light_retraction::iterations is 0, expected a number of at least 1");
  BOOST_TEST(text(cayley_iteration_retraction{.iterations = -1}) ==
             "retract: cayley_iteration_retraction::iterations is -1, expected a number of at "
             "least 0");
  BOOST_TEST(text(cayley_iteration_retraction{.newton_schulz_steps = -2}) ==
             "retract: cayley_iteration_retraction::newton_schulz_steps is -2, expected a number "
             "of at least 0");
  BOOST_TEST(same(y, x));
}

BOOST_AUTO_TEST_SUITE_END()
