// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Transports along a step on the Stiefel manifold.

#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_parallel_transport.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/testing/check_transport.hpp>
#include <stiefelx/testing/slope.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::cayley_retraction;
using stiefelx::cayley_transport;
using stiefelx::differentiated;
using stiefelx::exponential_retraction;
using stiefelx::parallel_transport;
using stiefelx::polar_retraction;
using stiefelx::projection_transport;
using stiefelx::qr_retraction;
using stiefelx::stiefel;

using cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

std::vector<stiefel> const shapes{{1, 1}, {4, 1}, {5, 5}, {5, 4}, {12, 4}};
std::vector<double> const metrics{-0.75, stiefelx::euclidean_metric, stiefelx::canonical_metric,
                                  0.5};

/// The transports, each with the retraction that makes its step.
enum class kind { projection, qr, polar, cayley, rotation, parallel };

std::vector<kind> const all{kind::projection, kind::qr,       kind::polar,
                            kind::cayley,     kind::rotation, kind::parallel};

char const* name(kind how) {
  char const* const names[] = {"projection", "qr", "polar", "cayley", "rotation", "parallel"};
  return names[static_cast<int>(how)];
}

bool is_isometric(kind how) { return how == kind::rotation || how == kind::parallel; }

/// y = R_x(d).
template <class Ctx, class A>
void move(Ctx& ctx, kind how, stiefel m, A const& x, A const& d, A& y) {
  if (how == kind::polar) return retract(ctx, m, x, d, y, polar_retraction{});
  if (how == kind::parallel) return retract(ctx, m, x, d, y, exponential_retraction{});
  if (how == kind::cayley || how == kind::rotation)
    return retract(ctx, m, x, d, y, cayley_retraction{});
  retract(ctx, m, x, d, y, qr_retraction{});
}

/// w = the transport of v.
template <class Ctx, class A>
void carry(Ctx& ctx, kind how, stiefel m, A const& x, A const& d, A const& y, A const& v, A& w) {
  using stiefelx::transport_along;
  if (how == kind::projection) transport_along(ctx, m, x, d, y, v, w, projection_transport{});
  if (how == kind::qr) transport_along(ctx, m, x, d, y, v, w, differentiated{qr_retraction{}});
  if (how == kind::polar)
    transport_along(ctx, m, x, d, y, v, w, differentiated{polar_retraction{}});
  if (how == kind::cayley)
    transport_along(ctx, m, x, d, y, v, w, differentiated{cayley_retraction{}});
  if (how == kind::rotation) transport_along(ctx, m, x, d, y, v, w, cayley_transport{});
  if (how == kind::parallel) transport_along(ctx, m, x, d, y, v, w, parallel_transport{});
}

/// A point, a step and two tangent vectors, and what a retraction and a transport make of them.
template <class Case>
struct path : place<Case> {
  using S = typename Case::scalar;
  using dense = matrix_x<S>;
  using place<Case>::ctx;

  explicit path(stiefel manifold, double length = 1.2)
      : path(manifold, orthonormal_frame<S>(manifold.n, manifold.p, 1), length) {}
  path(stiefel manifold, dense const& point, double length)
      : path(manifold, point, tangent_of_length(point, length, 2)) {}
  path(stiefel manifold, dense const& point, dense const& step)
      : m(manifold),
        x(point),
        d(step),
        u(tangent_of_length(x, 1, 3)),
        v(tangent_of_length(x, 1, 4)) {}

  dense moved(kind how, dense const& from, dense const& step) {
    auto const point = this->up(from), along = this->up(step);
    auto y = this->up(from);
    move(ctx, how, m, point, along, y);
    return this->down(y);
  }

  dense carried(kind how, dense const& from, dense const& step, dense const& to,
                dense const& vector) {
    auto const a = this->up(from), b = this->up(step), c = this->up(to), e = this->up(vector);
    auto w = this->up(vector);
    carry(ctx, how, m, a, b, c, e, w);
    return this->down(w);
  }

  stiefel m;
  dense x, d, u, v;
};

template <class S>
double length_of(matrix_x<S> const& a) {
  return static_cast<double>(frobenius(table(a)));
}

/// Tangent, linear, the identity at zero; and isometric where that is promised.
template <class Case>
void is_a_transport(stiefel m, kind how) {
  path<Case> at(m);
  auto const x = at.up(at.x), d = at.up(at.d), u = at.up(at.u), v = at.up(at.v);
  if (length_of(at.d) == 0) return;
  auto const found = stiefelx::check_transport(
      at.ctx, m, x, d, u, v,
      [&](auto& ctx, auto const& step, auto& y) { move(ctx, how, m, x, step, y); },
      [&](auto& ctx, auto const& step, auto const& y, auto const& from, auto& to) {
        auto vector = zeros_like(ctx, x), result = zeros_like(ctx, x);
        copy(ctx, from, vector);
        carry(ctx, how, m, x, step, y, vector, result);
        copy(ctx, result, to);
      },
      {.isometric = is_isometric(how)});
  BOOST_TEST_CONTEXT(name(how) << ", " << m.n << "x" << m.p << ", alpha " << m.alpha << "\n"
                               << found)
  BOOST_TEST(found.passed);
}

/// R_x(d + t v) - R_x(d) is t times the transport of v, to second order.
template <class Case>
void is_the_derivative(stiefel m, kind how) {
  using S = typename Case::scalar;
  path<Case> at(m);
  if (length_of(at.d) == 0) return;
  matrix_x<S> const y = at.moved(how, at.x, at.d);
  matrix_x<S> const w = at.carried(how, at.x, at.d, y, at.v);
  auto const found = stiefelx::measure_slope(
      [&](double t) {
        auto const step = static_cast<typename Case::real>(t);
        return length_of<S>(at.moved(how, at.x, at.d + step * at.v) - y - step * w);
      },
      0.5, std::numeric_limits<typename Case::real>::epsilon(), length_of(at.x));
  BOOST_TEST_CONTEXT(name(how) << ", " << m.n << "x" << m.p << "\n" << found) {
    BOOST_TEST(found.passed);
    BOOST_TEST(!found.exact);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(transports)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_transport_is_tangent_linear_and_the_identity_at_zero, Case,
                              cases) {
  for (stiefel m : shapes)
    for (kind const how : all)
      for (double const alpha : metrics) {
        m.alpha = alpha;
        if (is_isometric(how) || alpha == stiefelx::euclidean_metric) is_a_transport<Case>(m, how);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(differentiated_transports_are_derivatives_of_their_retractions, Case,
                              cases) {
  for (stiefel const m : shapes)
    for (kind const how : {kind::qr, kind::polar, kind::cayley}) is_the_derivative<Case>(m, how);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(projection_transport_is_transport, Case, cases) {
  path<Case> at({7, 3});
  auto const y = at.moved(kind::projection, at.x, at.d);
  auto const from = at.up(at.x), to = at.up(y), v = at.up(at.v);
  auto w = at.up(at.v);
  stiefelx::transport(at.ctx, at.m, from, to, v, w);
  BOOST_TEST(same(at.carried(kind::projection, at.x, at.d, y, at.v), at.down(w)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_transport_back_inverts_the_isometric_ones, Case, cases) {
  using S = typename Case::scalar;
  for (stiefel m : shapes)
    for (double const alpha : metrics)
      for (kind const how : {kind::rotation, kind::parallel}) {
        m.alpha = alpha;
        path<Case> at(m);
        matrix_x<S> const y = at.moved(how, at.x, at.d);
        matrix_x<S> const back = -at.carried(how, at.x, at.d, y, at.d);
        matrix_x<S> const w = at.carried(how, at.x, at.d, y, at.v);
        double const allowed = tolerance<S>(m.n, 10);
        BOOST_TEST_CONTEXT(name(how) << ", " << m.n << "x" << m.p << ", alpha " << alpha) {
          BOOST_TEST(near(at.moved(how, y, back), at.x, allowed));
          BOOST_TEST(near(at.carried(how, y, back, at.x, w), at.v, allowed, 1));
        }
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(geodesics_continue_along_their_own_transported_velocity, Case,
                              cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  // exp_x((s + t) d) = exp_y(s T d) with y = exp_x(t d), and T in one step is T in two.
  for (stiefel m : shapes)
    for (double const alpha : metrics) {
      m.alpha = alpha;
      path<Case> at(m, 2);
      kind const how = kind::parallel;
      matrix_x<S> const first = at.d * real(0.6);
      matrix_x<S> const y = at.moved(how, at.x, first), z = at.moved(how, at.x, at.d);
      matrix_x<S> const rest = at.carried(how, at.x, first, y, at.d) * real(0.4);
      matrix_x<S> const halfway = at.carried(how, at.x, first, y, at.v);
      matrix_x<S> const once = at.carried(how, at.x, at.d, z, at.v);
      double const allowed = tolerance<S>(m.n, 20);
      BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", alpha " << alpha) {
        BOOST_TEST(near(at.moved(how, y, rest), z, allowed));
        BOOST_TEST(near(at.carried(how, y, rest, z, halfway), once, allowed, 1));
      }
    }
}

BOOST_AUTO_TEST_CASE(parallel_transport_has_no_covariant_derivative) {
  using S = std::complex<double>;
  for (stiefel m : {stiefel{9, 3}, stiefel{4, 3}, stiefel{4, 4}})
    for (double const alpha : metrics) {
      m.alpha = alpha;
      path<test_case<host_backend, S>> at(m);
      auto const point = [&](double t) { return at.moved(kind::parallel, at.x, t * at.d); };
      auto const vector = [&](double t) {
        return at.carried(kind::parallel, at.x, t * at.d, point(t), at.v);
      };
      // w' + y (y'^H w + w^H y')/2 + c (I - y y^H) (y' w^H + w y'^H) y with c = (2 alpha + 1) /
      // (2 (alpha + 1)); by differences of second order.
      auto const error = [&](double h) {
        matrix_x<S> const y = point(0.7), w = vector(0.7);
        matrix_x<S> const speed = (point(0.7 + h) - point(0.7 - h)) / (2 * h);
        matrix_x<S> const change = (vector(0.7 + h) - vector(0.7 - h)) / (2 * h);
        matrix_x<S> const both = loop_product(loop_adjoint(speed), w);
        matrix_x<S> const hermitian = (both + loop_adjoint(both)) / 2;
        matrix_x<S> const turn = (loop_product(speed, loop_product(loop_adjoint(w), y)) +
                                  loop_product(w, loop_product(loop_adjoint(speed), y))) *
                                 ((2 * alpha + 1) / (2 * (alpha + 1)));
        matrix_x<S> const rest = change + loop_product(y, hermitian) + turn -
                                 loop_product(y, loop_product(loop_adjoint(y), turn));
        return rest.norm();
      };
      BOOST_TEST_CONTEXT(m.n << "x" << m.p << ", alpha " << alpha)
      BOOST_TEST(std::abs(std::log2(error(2e-3) / error(1e-3)) - 2) < 0.05);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(parallel_transport_takes_a_normal_part_of_any_rank, Case, cases) {
  using S = typename Case::scalar;
  // Unit vectors, where completed columns meet those of x, the same turned, where rounding is all
  // that is left of them, and a normal part of almost no size.
  for (bool const turned : {false, true})
    for (index_t const n : {4, 5, 8})
      for (double const small : {0.0, 1e-12, 1e-7, 1e-3})
        for (double const alpha : metrics) {
          matrix_x<S> turn = matrix_x<S>::Identity(n, n);
          if (turned) turn = orthonormal_frame<S>(n, n, 5);
          matrix_x<S> const x = turn.leftCols(3);
          matrix_x<S> d = matrix_x<S>::Zero(n, 3);
          d(0, 1) = S(-0.5);
          d(1, 0) = S(0.5);
          d(3, 2) = S(1);
          d(n - 1, 1) += S(static_cast<typename Case::real>(small));
          d = loop_product(turn, d);
          path<Case> at({n, 3, alpha}, x, d);
          matrix_x<S> const y = at.moved(kind::parallel, x, d);
          matrix_x<S> const w = at.carried(kind::parallel, x, d, y, at.v);
          matrix_x<S> const skew = loop_product(loop_adjoint(y), w), minus = -loop_adjoint(skew);
          double const weight = 1 / (2 * (alpha + 1)) - 1;
          auto const square = [&](matrix_x<S> const& point, matrix_x<S> const& a) {
            double const part = length_of<S>(loop_product(loop_adjoint(point), a));
            return std::pow(length_of(a), 2) + weight * part * part;
          };
          BOOST_TEST_CONTEXT(n << "x3, alpha " << alpha << ", small " << small) {
            BOOST_TEST(near(skew, minus, tolerance<S>(n, 4), 1));
            BOOST_TEST(std::abs(square(y, w) - square(x, at.v)) < tolerance<S>(n, 10));
          }
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(transports_in_place_have_the_same_bits, Case, cases) {
  for (stiefel const m : {stiefel{7, 3}, stiefel{4, 4}})
    for (kind const how : all) {
      path<Case> at(m);
      auto const y = at.moved(how, at.x, at.d);
      auto const x = at.up(at.x), d = at.up(at.d), to = at.up(y);
      auto v = at.up(at.v);
      carry(at.ctx, how, m, x, d, to, v, v);
      BOOST_TEST_CONTEXT(name(how))
      BOOST_TEST(same(at.down(v), at.carried(how, at.x, at.d, y, at.v)));
    }
}

BOOST_AUTO_TEST_CASE(transports_refuse_wrong_arguments) {
  place<test_case<archetype_backend, double>> at;
  auto x = at.up(matrix_x<double>::Identity(5, 2)), wide = at.up(matrix_x<double>::Zero(5, 3));
  auto v = at.up(matrix_x<double>::Zero(5, 2)), w = at.up(matrix_x<double>::Zero(5, 2));
  stiefel const m{5, 2};
  for (kind const how : all) BOOST_TEST_CONTEXT(name(how)) {
      BOOST_CHECK_THROW(carry(at.ctx, how, m, wide, v, x, v, w), stiefelx::shape_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, x, wide, x, v, w), stiefelx::shape_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, x, v, wide, v, w), stiefelx::shape_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, x, v, x, wide, w), stiefelx::shape_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, x, v, x, v, wide), stiefelx::shape_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, w, v, x, v, w), stiefelx::alias_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, x, w, x, v, w), stiefelx::alias_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, m, x, v, w, x, w), stiefelx::alias_error);
      BOOST_CHECK_THROW(carry(at.ctx, how, stiefel{5, 2, -2}, x, v, x, v, w),
                        stiefelx::option_error);
    }
}

BOOST_AUTO_TEST_SUITE_END()
