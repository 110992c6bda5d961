// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Inverse retractions: round trips, where they exist, known values and refused arguments.

#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>
#include <vector>

#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_inverse_pade.hpp>
#include <stiefelx/manifold/stiefel_inverse_polar_light.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_quasi_geodesic.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "steps.hpp"

namespace {

using namespace support;
using stiefelx::cayley_retraction;
using stiefelx::pade_retraction;
using stiefelx::polar_light_retraction;
using stiefelx::polar_light_rotation;
using stiefelx::polar_retraction;
using stiefelx::qr_retraction;
using stiefelx::stiefel;

enum class how { qr, polar, cayley, pade_1, pade_2, light, light_cayley, quasi };

std::vector<how> const all{how::qr,     how::polar, how::cayley,       how::pade_1,
                           how::pade_2, how::light, how::light_cayley, how::quasi};

char const* name(how method) {
  char const* const names[] = {"qr",
                               "polar",
                               "cayley",
                               "pade 1",
                               "pade 2",
                               "polar-light",
                               "polar-light by Cayley",
                               "quasi-geodesic"};
  return names[static_cast<int>(method)];
}

/// Calls f with the options of a retraction.
template <class F>
void with(how method, F const& f) {
  switch (method) {
    case how::qr:
      return f(qr_retraction{});
    case how::polar:
      return f(polar_retraction{.iterations = 20});
    case how::cayley:
      return f(cayley_retraction{});
    case how::pade_1:
      return f(pade_retraction{.order = 1});
    case how::pade_2:
      return f(pade_retraction{.order = 2});
    case how::light:
      return f(polar_light_retraction{.iterations = 20});
    case how::quasi:
      return f(stiefelx::quasi_geodesic_retraction{});
    default:
      return f(polar_light_retraction{.rotation = polar_light_rotation::cayley, .iterations = 20});
  }
}

using host_case = test_case<host_backend, double>;
using complex_host = test_case<host_backend, std::complex<double>>;

/// What came of an inverse.
template <class S>
struct result {
  matrix_x<S> v;
  int status;
};

template <class Case, class S = typename Case::scalar>
matrix_x<S> moved(how method, matrix_x<S> const& x, matrix_x<S> const& v) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  auto const from = backend::upload(ctx, x), step = backend::upload(ctx, v);
  auto y = backend::upload(ctx, x);
  with(method, [&](auto options) {
    stiefelx::retract(ctx, stiefel{x.rows(), x.cols()}, from, step, y, options);
  });
  return backend::download(ctx, y);
}

template <class Case, class S = typename Case::scalar>
result<S> inverse(how method, matrix_x<S> const& x, matrix_x<S> const& y) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  auto const from = backend::upload(ctx, x), to = backend::upload(ctx, y);
  auto v = backend::upload(ctx, matrix_x<S>::Zero(x.rows(), x.cols()));
  auto status = status_matrix<backend>(ctx);
  with(method, [&](auto options) {
    stiefelx::inverse_retract(ctx, stiefel{x.rows(), x.cols()}, from, to, v, options, status);
  });
  return {backend::download(ctx, v), status_value(ctx, status)};
}

template <class S>
bool all_nan(matrix_x<S> const& v) {
  return (v.array() != v.array()).all();
}

/// The 2-norm of x^H v + v^H x, which is zero for tangent v.
template <class S>
double normal_part(matrix_x<S> const& x, matrix_x<S> const& v) {
  matrix_x<S> const s = loop_product(loop_adjoint(x), v);
  return static_cast<double>(frobenius(table(s + loop_adjoint(s))));
}

/// Whether only steps up to a length are given back.
bool has_limits(how method) {
  return method == how::pade_2 || method == how::light || method == how::quasi;
}

/// How much an error of y counts in v: at most the square of 1 + |v|, as the pages say.
double condition(double length) { return (1 + length) * (1 + length); }

}  // namespace

BOOST_AUTO_TEST_SUITE(inverse_retraction)

BOOST_AUTO_TEST_CASE_TEMPLATE(inverse_retract_gives_back_the_tangent_vector, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  for (stiefel const m : {stiefel{0, 0}, {3, 0}, {1, 1}, {4, 1}, {5, 5}, {7, 5}, {12, 5}})
    for (how const method : all)
      for (double const length : {0.0, 1e-3, 0.5, 1.5, 10.0}) {
        // Those of limited range: Pade 2, and angles below pi or pi / 2.
        if (length > 2 && has_limits(method)) continue;
        matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
        matrix_x<S> const v = tangent_of_length(x, length, 2);
        auto const found = inverse<Case>(method, x, moved<Case>(method, x, v));
        BOOST_TEST_CONTEXT(name(method) << ", " << m.n << "x" << m.p << ", length " << length) {
          BOOST_TEST(found.status == 0);
          BOOST_TEST(near(found.v, v, tolerance<S>(m.n), condition(length)));
          BOOST_TEST(normal_part(x, found.v) <= tolerance<S>(m.n, condition(length)));
        }
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retract_gives_back_the_point, Case, retraction_cases) {
  using S = typename Case::scalar;
  for (stiefel const m : {stiefel{4, 1}, {5, 5}, {7, 5}, {12, 5}})
    for (how const origin : {how::qr, how::cayley}) {
      // A point that another retraction has made.
      matrix_x<S> const x = orthonormal_frame<S>(m.n, m.p, 1);
      matrix_x<S> const y = moved<Case>(origin, x, tangent_of_length(x, 1, 2));
      for (how const method : all) {
        auto const found = inverse<Case>(method, x, y);
        BOOST_TEST_CONTEXT(name(method) << " of " << name(origin) << ", " << m.n << "x" << m.p) {
          BOOST_TEST(found.status == 0);
          BOOST_TEST(near(moved<Case>(method, x, found.v), y, tolerance<S>(m.n, condition(1))));
          BOOST_TEST(normal_part(x, found.v) <= tolerance<S>(m.n, condition(1)));
        }
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(status_says_where_there_is_no_inverse, Case, double_cases) {
  int exist[3] = {}, tried = 0;
  for (stiefel const m : {stiefel{6, 2}, stiefel{5, 3}, stiefel{3, 3}})
    for (std::uint64_t seed = 1; seed <= 20; ++seed, ++tried) {
      matrix_x<double> const x = orthonormal_frame<double>(m.n, m.p, 1);
      matrix_x<double> const y = orthonormal_frame<double>(m.n, m.p, 2 + seed);
      matrix_x<double> const along = x.transpose() * y;
      bool minors = true;
      for (index_t j = 1; j <= m.p; ++j) {
        matrix_x<double> const block = along.topLeftCorner(j, j);
        minors = minors && block.determinant() > 0;
      }
      bool const right =
          Eigen::EigenSolver<matrix_x<double>>(along).eigenvalues().real().minCoeff() > 0;
      bool const same_side = along.determinant() > 0;
      exist[0] += minors;
      exist[1] += right;
      exist[2] += same_side;
      for (how const method : {how::qr, how::polar, how::light, how::quasi}) {
        bool const expected = method == how::qr ? minors : method == how::polar ? right : same_side;
        auto const found = inverse<Case>(method, x, y);
        BOOST_TEST_CONTEXT(name(method) << ", " << m.n << "x" << m.p << ", seed " << seed) {
          BOOST_TEST((found.status == 0) == expected);
          BOOST_TEST(all_nan(found.v) == !expected);
          if (expected)
            BOOST_TEST(near(moved<Case>(method, x, found.v), y,
                            tolerance<double>(m.n, condition(found.v.norm()))));
        }
      }
    }
  for (int const count : exist) BOOST_TEST((count > 5 && count < tried - 5));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_opposite_and_the_outside_of_a_column_are_out_of_reach, Case,
                              retraction_cases) {
  using S = typename Case::scalar;
  // The columns of the identity give exact zeros, those of a random frame their rounding.
  for (bool const rounded : {true, false})
    for (index_t p = 1; p <= 4; ++p) {
      matrix_x<S> const frame =
          rounded ? orthonormal_frame<S>(5, 5, 1) : matrix_x<S>(matrix_x<S>::Identity(5, 5));
      matrix_x<S> const x = frame.leftCols(p);
      matrix_x<S> opposite = x, outside = x;
      opposite.col(p - 1) *= S(-1);
      outside.col(p - 1) = frame.col(p);
      for (how const method : all) BOOST_TEST_CONTEXT(name(method) << ", " << p << rounded) {
          auto const first = inverse<Case>(method, x, opposite);
          BOOST_TEST(first.status != 0);
          BOOST_TEST(all_nan(first.v));
          // The Cayley transform turns by any angle below pi.
          if (method == how::cayley || method == how::pade_1 || method == how::pade_2) continue;
          auto const second = inverse<Case>(method, x, outside);
          BOOST_TEST(second.status != 0);
          BOOST_TEST(all_nan(second.v));
        }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(pade_2_says_so_where_its_iteration_does_not_converge, Case,
                              double_cases) {
  matrix_x<double> x = matrix_x<double>::Zero(4, 1), v = x;
  x(0, 0) = 1;
  for (double const angle : {0.1, 1.0, 2.0, 3.2}) {
    v(2, 0) = angle;
    auto const found = inverse<Case>(how::pade_2, x, moved<Case>(how::pade_2, x, v));
    BOOST_TEST(found.status == (angle > 3 ? stiefelx::not_converged : 0));
    BOOST_TEST(all_nan(found.v) == (angle > 3));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_is_reported_and_spreads, Case, retraction_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(7, 3, 1);
  matrix_x<S> y = x;
  y(2, 1) = S(std::numeric_limits<typename Case::real>::quiet_NaN());
  for (how const method : all) {
    auto const found = inverse<Case>(method, x, y);
    BOOST_TEST_CONTEXT(name(method)) {
      BOOST_TEST((found.status & stiefelx::not_finite) != 0);
      BOOST_TEST(all_nan(found.v));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_of_rank_one_turns_a_plane_by_the_known_angle, Case,
                              double_cases) {
  // The points of Manifolds.jl's tests: p = [e1 e2] and X with the last row k = (-0.1, 0.2). In the
  // plane of e3 and the row's direction u each retraction is a turn by an angle of |k| alone.
  matrix_x<double> const x = matrix_x<double>::Identity(3, 2);
  matrix_x<double> v = matrix_x<double>::Zero(3, 2);
  v.row(2) << -0.1, 0.2;
  double const k = std::sqrt(0.05);
  for (how const method : all) {
    if (method == how::qr) continue;
    bool const is_cayley = method == how::cayley || method == how::pade_1;
    double const angle = is_cayley               ? 2 * std::atan(k / 2)
                         : method == how::pade_2 ? 2 * std::atan(k / 2 / (1 - k * k / 12))
                         : method == how::quasi  ? k
                                                 : std::atan(k);
    matrix_x<double> const u = v.row(2) / k;
    matrix_x<double> expected(3, 2);
    expected.topRows(2) =
        matrix_x<double>::Identity(2, 2) + (std::cos(angle) - 1) * (u.transpose() * u);
    expected.row(2) = std::sin(angle) * u;
    matrix_x<double> const y = moved<Case>(method, x, v);
    auto const found = inverse<Case>(method, x, y);
    BOOST_TEST_CONTEXT(name(method)) {
      BOOST_TEST(near(y, expected, tolerance<double>(3)));
      BOOST_TEST(found.status == 0);
      BOOST_TEST(near(found.v, v, tolerance<double>(3), 1));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_values_of_the_tests_of_manifolds_jl_come_out, Case,
                              double_cases) {
  double const h = 1 / std::sqrt(2.0);
  matrix_x<double> p = matrix_x<double>::Identity(3, 2), q = p, r = p, expected = p;
  q << h, -h, h, h, 0, 0;
  r << 0, 0, h, -h, h, h;
  expected << 0, -1, 1, 0, 0, 0;
  BOOST_TEST(near(inverse<Case>(how::qr, p, q).v, expected, tolerance<double>(3)));
  matrix_x<double> north(2, 1), diagonal(2, 1), east(2, 1);
  north << 0, 1;
  diagonal << h, h;
  east << 1, 0;
  BOOST_TEST(near(inverse<Case>(how::qr, north, diagonal).v, east, tolerance<double>(2)));

  matrix_x<double> const x43 = matrix_x<double>::Identity(4, 3);
  matrix_x<double> v43 = matrix_x<double>::Zero(4, 3);
  v43.row(3).setOnes();
  for (how const method : {how::qr, how::polar, how::cayley, how::light})
    BOOST_TEST(near(inverse<Case>(method, x43, moved<Case>(method, x43, v43)).v, v43,
                    tolerance<double>(4, condition(2))));

  for (how const method : all) BOOST_TEST_CONTEXT(name(method)) {
      auto const first = inverse<Case>(method, p, q), second = inverse<Case>(method, q, r);
      BOOST_TEST(first.status == 0);
      BOOST_TEST(near(moved<Case>(method, p, first.v), q, tolerance<double>(3, condition(2))));
      // q^T r is singular, which only the Cayley transform permits; Pade 2 is far from x there.
      if (method == how::cayley || method == how::pade_1)
        BOOST_TEST(near(moved<Case>(method, q, second.v), r, tolerance<double>(3, condition(3))));
      else if (method != how::pade_2)
        BOOST_TEST(second.status != 0);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_phase_is_a_step_along_the_complex_column, Case, retraction_cases) {
  using S = typename Case::scalar;
  if constexpr (!std::is_same_v<S, typename Case::real>) {
    matrix_x<S> const x = orthonormal_frame<S>(3, 1, 1);
    S const i(0, 1);
    for (double const angle : {0.4, -1.2, 2.0}) {
      matrix_x<S> const y = x * std::polar(1.0, angle);
      for (how const method : all) {
        double const along = method == how::qr || method == how::polar ? std::tan(angle)
                             : method == how::light || method == how::quasi
                                 ? angle
                                 : 2 * std::tan(angle / 2);
        auto const found = inverse<Case>(method, x, y);
        bool const reached = std::abs(angle) < 1.5 || (method != how::qr && method != how::polar);
        BOOST_TEST_CONTEXT(name(method) << ", " << angle) {
          BOOST_TEST((found.status == 0) == reached);
          if (reached && method != how::pade_2)
            BOOST_TEST(near(found.v, x * (i * along), tolerance<S>(3, condition(along))));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_recursion_of_the_inverse_of_qr_is_the_same_with_several_lanes) {
  using S = std::complex<double>;
  index_t const p = 5;
  matrix_x<S> const x = orthonormal_frame<S>(9, p, 1), v = tangent_of_length(x, 1, 2);
  for (bool const exists : {true, false}) {
    matrix_x<S> along = loop_product(loop_adjoint(x), moved<complex_host>(how::qr, x, v));
    if (!exists) along.col(3) *= S(-1);
    auto const triangle = [&](index_t lanes, int& status) {
      matrix_x<S> lu = along, r = along;
      Eigen::MatrixXi bits = Eigen::MatrixXi::Constant(1, 1, -1);
      stiefelx::run_thread_team(lanes, [&](auto const& team) {
        stiefelx::inverse_qr_body{1e10}(
            team, 0, nullptr, stiefelx::matrix_ref<S const>{along.data(), p, p, p},
            stiefelx::matrix_ref<S>{lu.data(), p, p, p}, stiefelx::matrix_ref<S>{r.data(), p, p, p},
            stiefelx::matrix_ref<int>{bits.data(), 1, 1, 1});
      });
      status = bits(0, 0);
      return r;
    };
    int one = -1, three = -1;
    BOOST_TEST(same(triangle(3, three), triangle(1, one)));
    BOOST_TEST(one == (exists ? 0 : stiefelx::rank_deficient));
    BOOST_TEST(three == one);
  }
}

BOOST_AUTO_TEST_CASE(refused_arguments_are_named) {
  stiefelx::host::context ctx;
  stiefel const m{5, 2};
  matrix_x<double> x = orthonormal_frame<double>(5, 2, 1),
                   y = moved<host_case>(how::qr, x, tangent_vector(x, 2)), v = x;
  matrix_x<double> const wide_matrix = matrix_x<double>::Zero(2, 6);
  for (how const method : all)
    with(method, [&](auto options) {
      BOOST_TEST_CONTEXT(name(method)) {
        BOOST_TEST(message_of([&] { inverse_retract(ctx, m, x, y, x, options); }) ==
                   "inverse_retract: v overlaps x, expected separate memory");
        BOOST_TEST(message_of([&] { inverse_retract(ctx, m, x, y, y, options); }) ==
                   "inverse_retract: v overlaps y, expected separate memory");
        BOOST_TEST(message_of([&] { inverse_retract(ctx, m, x, wide_matrix, v, options); }) ==
                   "inverse_retract: y is 2x6, expected 5x2");
      }
    });
  BOOST_TEST(message_of([&] { inverse_retract(ctx, m, x, y, v, pade_retraction{.order = 0}); }) ==
             "inverse_retract: pade_retraction::order is 0, expected 1 or 2");
  // Neither retraction nor status has to be named; outputs may be views.
  matrix_x<double> room = matrix_x<double>::Zero(7, 5);
  inverse_retract(ctx, m, x * 1.0, y, room.block(1, 2, 5, 2));
  inverse_retract(ctx, m, x, y, v, qr_retraction{});
  BOOST_TEST(near(room.block(1, 2, 5, 2), v, tolerance<double>(5)));
}

BOOST_AUTO_TEST_SUITE_END()
