// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/testing/check_transport.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/thrown.hpp>
#include <testing/faulty_sphere.hpp>

namespace {

using namespace support;
using faulty::has;
using faulty::sphere;
using faulty::text;

/// What carries a vector from x to y.
struct carrier {
  bool parallel = false;      ///< along the great circle, which is isometric; else by projection
  double stretch = 0;         ///< relative error of the result's length
  double leave = 0;           ///< part of y that is added to the result
  bool quadratic = false;     ///< the result is multiplied by the norm of v
  bool is_isometric = false;  ///< whether that is asked for
};

template <class Case>
stiefelx::transport_report check(carrier how) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  typename Case::context ctx;
  sphere const m{8, 1};
  matrix_x<S> const frame = orthonormal_frame<S>(8, 4, 1);
  auto const x = Case::backend::upload(ctx, frame.col(0));
  auto const d = Case::backend::upload(ctx, frame.col(1));
  auto const u = Case::backend::upload(ctx, frame.col(2) + frame.col(1));
  auto const v = Case::backend::upload(ctx, frame.col(3) - real(2) * frame.col(1));
  return stiefelx::check_transport(
      ctx, m, x, d, u, v, [&](auto& at, auto const& step, auto& y) { retract(at, m, x, step, y); },
      [&](auto& at, auto const& step, auto const& y, auto const& from, auto& to) {
        auto s = zeros<real>(at, 1, 1);
        auto length = zeros<real>(at, 1, 1);
        auto inverse = zeros<real>(at, 1, 1);
        auto result = clone(at, from);
        if (how.parallel) {
          // v - <y, v> / (1 + <x, y>) (x + y)
          inner(at, y, from, s);
          inner(at, x, y, length);
          double const factor =
              -static_cast<double>(value(at, s)) / (1 + static_cast<double>(value(at, length)));
          axpy(at, factor, x, result);
          axpy(at, factor, y, result);
        } else {
          project(at, m, y, from, result);
        }
        if (how.quadratic) {
          norm(at, from, s);
          scale(at, s, result);
        }
        norm(at, step, s);
        axpy(at, how.leave * static_cast<double>(value(at, s)), y, result);
        scale(at, 1 + how.stretch, result);
        copy(at, result, to);
      },
      {.isometric = how.is_isometric});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(check_transport)

BOOST_AUTO_TEST_CASE_TEMPLATE(right_transports_pass, Case, complex_cases) {
  for (carrier const how : {carrier{}, carrier{.parallel = true, .is_isometric = true}}) {
    auto const found = check<Case>(how);
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(found.passed);
      BOOST_TEST((found.isometry < 1e-4) == how.parallel);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_fault_is_named, Case, double_cases) {
  struct fault {
    carrier how;
    char const* says;
  };
  fault const faults[] = {
      {{.is_isometric = true}, "<T_d u, T_d v> = <u, v>: FAILED"},
      {{.parallel = true, .stretch = 1e-6}, "T_0 v = v: FAILED"},
      {{.parallel = true, .leave = 1e-6}, "T_d u is tangent at y: FAILED"},
      {{.parallel = true, .quadratic = true}, "T_d (2 u - 3 v) = 2 T_d u - 3 T_d v: FAILED"}};
  for (fault const& each : faults) {
    auto const found = check<Case>(each.how);
    BOOST_TEST_CONTEXT(text(found)) {
      BOOST_TEST(!found.passed);
      BOOST_TEST(has(text(found), each.says));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto const x = Case::backend::upload(ctx, orthonormal_frame<double>(6, 1, 1));
  auto const zero = zeros_like(ctx, x);
  sphere const m{6, 1};
  BOOST_TEST(
      has(message_of([&] { stiefelx::check_transport(ctx, m, x, x, x.middleRows(0, 5), x); }),
          "check_transport: u is 5x1, expected 6x1"));
  BOOST_TEST(has(message_of([&] { stiefelx::check_transport(ctx, m, x, zero, x, x); }),
                 "check_transport: the norm of d is 0"));
}

BOOST_AUTO_TEST_SUITE_END()
