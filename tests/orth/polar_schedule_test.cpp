// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The polynomials of the polar iterations: published coefficients, optimality, and what they do to
// singular values.

#include <algorithm>
#include <cmath>
#include <cstddef>

#include <boost/test/unit_test.hpp>

#include <stiefelx/team/polar_schedule.hpp>

namespace {

using stiefelx::make_polar_schedule;
using stiefelx::odd_polynomial;
using stiefelx::optimal_cubic;
using stiefelx::optimal_quintic;
using stiefelx::polar_degree;

/// Largest |p(x) - 1| over [lower, upper], on a fine grid.
double largest_error(odd_polynomial p, double lower, double upper) {
  double worst = 0;
  constexpr int points = 20000;
  for (int i = 0; i <= points; ++i)
    worst = std::max(worst, std::abs(p(lower + (upper - lower) * i / points) - 1));
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(polar_schedule)

// Amsel, Persson, Musco and Gower, arXiv:2505.16932, algorithm 1: singular values in [1e-3, 1], the
// polynomials recentred, and divided by powers of 1.01 for safety.
BOOST_AUTO_TEST_CASE(quintics_are_the_published_ones) {
  double const published[7][3] = {{8.2051, -22.9019, 16.4607}, {4.0664, -2.8612, 0.5184},
                                  {3.9096, -2.8234, 0.5250},   {3.2856, -2.4153, 0.4853},
                                  {2.2779, -1.6198, 0.3985},   {1.8726, -1.2307, 0.3585},
                                  {1.8564, -1.2132, 0.3568}};
  constexpr double cushion = 0.02407327424182761, safety = 1.01;
  double lower = 1e-3, upper = 1;
  for (auto const& row : published) {
    odd_polynomial p = optimal_quintic(std::max(lower, cushion * upper), upper);
    double const centre = 2 / (p(lower) + p(upper));
    p = {p.a * centre, p.b * centre, p.c * centre};
    // The list has four decimals, some of them cut off.
    constexpr double digit = 1e-4;
    BOOST_TEST(std::abs(p.a / safety - row[0]) < digit);
    BOOST_TEST(std::abs(p.b / std::pow(safety, 3) - row[1]) < digit);
    BOOST_TEST(std::abs(p.c / std::pow(safety, 5) - row[2]) < digit);
    lower = p(lower);
    upper = 2 - lower;
  }
}

// An odd polynomial of the family is the best one when its error has one size and alternating signs
// at one point more than it has coefficients.
BOOST_AUTO_TEST_CASE(errors_alternate_with_one_size) {
  for (double const lower : {0.01, 0.1, 0.5, 0.9, 0.99}) {
    BOOST_TEST_CONTEXT("lower " << lower) {
      double const upper = 1.3;
      odd_polynomial const cubic = optimal_cubic(lower, upper);
      double const size = 1 - cubic(lower);
      double const turn = std::sqrt(-cubic.a / (3 * cubic.b));
      BOOST_TEST(size > 0);
      BOOST_TEST(std::abs(cubic(turn) - 1 - size) < 1e-14);
      BOOST_TEST(std::abs(1 - cubic(upper) - size) < 1e-14);
      BOOST_TEST(largest_error(cubic, lower, upper) < size + 1e-14);

      odd_polynomial const quintic = optimal_quintic(lower, upper);
      double const less = 1 - quintic(lower);
      double const root = std::sqrt(9 * quintic.b * quintic.b - 20 * quintic.a * quintic.c);
      double const first = std::sqrt((-3 * quintic.b - root) / (10 * quintic.c));
      double const second = std::sqrt((-3 * quintic.b + root) / (10 * quintic.c));
      BOOST_TEST(less > 0);
      BOOST_TEST(less < size);
      BOOST_TEST(std::abs(quintic(first) - 1 - less) < 1e-13);
      BOOST_TEST(std::abs(1 - quintic(second) - less) < 1e-13);
      BOOST_TEST(std::abs(quintic(upper) - 1 - less) < 1e-13);
      BOOST_TEST(largest_error(quintic, lower, upper) < less + 1e-13);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_narrow_interval_gives_newton_and_schulz) {
  odd_polynomial const p = optimal_quintic(1 - 1e-6, 1 + 1e-6);
  BOOST_TEST(std::abs(p.a - 1.875) < 1e-5);
  BOOST_TEST(std::abs(p.b + 1.25) < 1e-5);
  BOOST_TEST(std::abs(p.c - 0.375) < 1e-5);
}

BOOST_AUTO_TEST_CASE(a_schedule_brings_every_singular_value_to_one) {
  for (auto const degree : {polar_degree::cubic, polar_degree::quintic})
    for (double const lower : {1.0, 0.9, 0.3, 1e-3, 1e-8, 1e-17}) {
      BOOST_TEST_CONTEXT("lower " << lower << ", quintic " << (degree == polar_degree::quintic)) {
        auto const schedule = make_polar_schedule(degree, lower, 0, 1e-15);
        double worst = 0;
        // A little beyond the interval: rounding must not drive a value out of it.
        for (double x = lower; x < 1 + 1e-12; x *= 1.003) {
          double y = std::min(x, 1 + 1e-13);
          for (int k = 0; k < schedule.count; ++k) y = schedule[k](y);
          worst = std::max(worst, std::abs(y - 1));
        }
        BOOST_TEST(worst < 1e-14);
      }
    }
}

// From the paper of the method and from what the quintic gains over the cubic.
BOOST_AUTO_TEST_CASE(schedules_are_short) {
  auto const steps = [](polar_degree degree, double lower) {
    return make_polar_schedule(degree, lower, 0, 1e-15).count;
  };
  BOOST_TEST(steps(polar_degree::quintic, 0.7) == 3);
  BOOST_TEST(steps(polar_degree::quintic, 1e-3) == 8);
  BOOST_TEST(steps(polar_degree::cubic, 1e-3) < 15);
  BOOST_TEST(steps(polar_degree::quintic, 1e-17) < 33);
  BOOST_TEST(make_polar_schedule(polar_degree::quintic, 1e-3, 5, 1e-15).count == 5);
}

BOOST_AUTO_TEST_CASE(a_schedule_goes_on_with_its_last_step) {
  auto const schedule = make_polar_schedule(polar_degree::cubic, 1e-3, 100, 1e-15);
  BOOST_TEST(schedule.count == 100);
  BOOST_TEST(schedule[99].a == 1.5);
  BOOST_TEST(schedule[99].b == -0.5);
}

BOOST_AUTO_TEST_SUITE_END()
