// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Learning-rate schedules: exact values at their corners, continuity, composition and ranges.

#include <cmath>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/schedule.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using stiefelx::constant_schedule;
using stiefelx::cosine_schedule;
using stiefelx::index_t;
using stiefelx::linear_schedule;
using stiefelx::step_schedule;
using stiefelx::warm_up;
using support::message_of;
using support::tolerance;

/// Largest change of the rate from one of the first steps to the next.
template <class Schedule>
double largest_jump(Schedule const& s, index_t first, index_t end) {
  double jump = 0;
  for (index_t t = first; t < end; ++t) jump = std::fmax(jump, std::abs(s(t + 1) - s(t)));
  return jump;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(schedule)

BOOST_AUTO_TEST_CASE(a_constant_stays) {
  constant_schedule const s{0.3};
  for (index_t t : {index_t(0), index_t(1), index_t(1000000)}) BOOST_TEST(s(t) == 0.3);
}

BOOST_AUTO_TEST_CASE(a_line_meets_its_ends_to_the_bit) {
  linear_schedule const s{0.3, 7, 0.1};
  BOOST_TEST(s(0) == 0.3);
  BOOST_TEST(s(7) == 0.3 * 0.1);
  BOOST_TEST(s(8) == s(7));
  BOOST_TEST(s(1000000) == s(7));
  BOOST_TEST(linear_schedule({0.3, 7})(7) == 0);
  BOOST_TEST(linear_schedule({8, 4})(1) == 6);
  BOOST_TEST(linear_schedule({8, 4, 0.5})(3) == 5);
  BOOST_TEST(linear_schedule({8, 0, 0.5})(0) == 4);
  BOOST_TEST(linear_schedule({8, 5, 1})(3) == 8);
  // Equal differences, down to the last.
  for (index_t t = 0; t < 7; ++t)
    BOOST_TEST(std::abs(s(t) - s(t + 1) - 0.3 * 0.9 / 7) <= tolerance<double>(1) * 0.3);
}

BOOST_AUTO_TEST_CASE(a_stair_falls_at_its_edges_alone) {
  step_schedule const s{8, 3, 0.5};
  double const expected[] = {8, 8, 8, 4, 4, 4, 2, 2, 2, 1};
  for (index_t t = 0; t < 10; ++t) BOOST_TEST(s(t) == expected[t]);
  BOOST_TEST(s(3 * 2000) == 0);
  BOOST_TEST(std::abs(step_schedule({2, 1})(3) - 2e-3) <= tolerance<double>(1) * 2e-3);
  BOOST_TEST(step_schedule({1, 2, 3})(5) == 9);
}

BOOST_AUTO_TEST_CASE(a_warm_up_rises_to_the_first_rate_and_hands_over) {
  warm_up const s{4, step_schedule{8, 3, 0.5}};
  double const expected[] = {2, 4, 6, 8, 8, 8, 8, 4, 4, 4, 2};
  for (index_t t = 0; t < 11; ++t) BOOST_TEST(s(t) == expected[t]);
  warm_up const none{0, linear_schedule{8, 4}};
  for (index_t t = 0; t < 6; ++t) BOOST_TEST(none(t) == linear_schedule({8, 4})(t));
  // A warm-up may come before a warm-up, and before a callable of a user.
  warm_up const twice{2, warm_up{4, constant_schedule{8}}};
  double const slow[] = {1, 2, 2, 4, 6, 8, 8};
  for (index_t t = 0; t < 7; ++t) BOOST_TEST(twice(t) == slow[t]);
  warm_up const own{2, [](index_t t) { return 1.0 / static_cast<double>(t + 1); }};
  BOOST_TEST(own(0) == 0.5);
  BOOST_TEST(own(1) == 1);
  BOOST_TEST(own(4) == 1.0 / 3);
}

BOOST_AUTO_TEST_CASE(a_cosine_has_its_warm_up_inside_or_outside) {
  cosine_schedule const inside{0.3, 50, 8, 0.1};
  warm_up const outside{8, cosine_schedule{0.3, 42, 0, 0.1}};
  for (index_t t = 0; t < 60; ++t)
    BOOST_TEST(std::abs(inside(t) - outside(t)) <= tolerance<double>(1) * 0.3);
  BOOST_TEST(cosine_schedule({0.3, 42})(0) == 0.3);
  BOOST_TEST(std::abs(cosine_schedule({0.3, 42, 0, 0.5})(21) - 0.3 * 0.75) <=
             tolerance<double>(1) * 0.3);
}

BOOST_AUTO_TEST_CASE(rates_do_not_jump) {
  index_t const steps = 1000;
  // The slope of a line is 1 / N, of half a cosine at most pi / 2 N, of a warm-up 1 / w.
  double const slack = 1 + tolerance<double>(1) * static_cast<double>(steps);
  double const line = 1.0 / static_cast<double>(steps);
  BOOST_TEST(largest_jump(linear_schedule{1, steps}, 0, 2 * steps) <= line * slack);
  BOOST_TEST(largest_jump(cosine_schedule{1, steps}, 0, 2 * steps) <= 1.5708 * line * slack);
  BOOST_TEST(largest_jump(warm_up{steps, cosine_schedule{1, steps}}, 0, 3 * steps) <=
             1.5708 * line * slack);
  BOOST_TEST(largest_jump(warm_up{steps, linear_schedule{1, steps, 0.5}}, 0, 3 * steps) <=
             line * slack);
  // Where a warm-up ends the rate is there already: the first step after it has the same one.
  BOOST_TEST(largest_jump(warm_up{5, constant_schedule{1}}, 4, 9) == 0);
}

BOOST_AUTO_TEST_CASE(ranges_are_checked_at_the_first_call) {
  auto const text = [](auto const& s, index_t t = 0) { return message_of([&] { (void)s(t); }); };
  double const nan = std::nan("");
  BOOST_TEST(text(constant_schedule{-1}) ==
             "constant_schedule: peak is -1.000000, expected a number of at least 0");
  BOOST_TEST(text(constant_schedule{1}, -1) ==
             "constant_schedule: t is -1, expected a step of at least 0");
  BOOST_TEST(text(linear_schedule{nan, 1}) == "linear_schedule: peak is " + std::to_string(nan) +
                                                  ", expected a number of at least 0");
  BOOST_TEST(text(linear_schedule{1, -2}) ==
             "linear_schedule: steps is -2, expected a number of at least 0");
  BOOST_TEST(text(linear_schedule{1, 1, 1.5}) ==
             "linear_schedule: final_fraction is 1.500000, expected a number in [0, 1]");
  BOOST_TEST(text(linear_schedule{1, 1}, -3) ==
             "linear_schedule: t is -3, expected a step of at least 0");
  BOOST_TEST(text(step_schedule{-1, 1}) ==
             "step_schedule: peak is -1.000000, expected a number of at least 0");
  BOOST_TEST(text(step_schedule{1, 0}) ==
             "step_schedule: every is 0, expected a number of at least 1");
  BOOST_TEST(text(step_schedule{1, 1, 0}) ==
             "step_schedule: factor is 0.000000, expected a number above 0");
  BOOST_TEST(text(step_schedule{1, 1}, -1) ==
             "step_schedule: t is -1, expected a step of at least 0");
  BOOST_TEST(text(cosine_schedule{-1, 1}) ==
             "cosine_schedule: peak is -1.000000, expected a number of at least 0");
  BOOST_TEST(text(cosine_schedule{1, -1}) ==
             "cosine_schedule: steps is -1, expected a number of at least 0");
  BOOST_TEST(text(cosine_schedule{1, 5, 6}) ==
             "cosine_schedule: warm_up is 6, expected a number in [0, steps]");
  BOOST_TEST(text(cosine_schedule{1, 5, -1}) ==
             "cosine_schedule: warm_up is -1, expected a number in [0, steps]");
  BOOST_TEST(text(cosine_schedule{1, 5, 0, -0.5}) ==
             "cosine_schedule: final_fraction is -0.500000, expected a number in [0, 1]");
  BOOST_TEST(text(cosine_schedule{1, 5}, -1) ==
             "cosine_schedule: t is -1, expected a step of at least 0");
  BOOST_TEST(text(warm_up{-1, constant_schedule{1}}) ==
             "warm_up: steps is -1, expected a number of at least 0");
  BOOST_TEST(text(warm_up{3, constant_schedule{1}}, -1) ==
             "warm_up: t is -1, expected a step of at least 0");
  BOOST_TEST(text(warm_up{3, constant_schedule{-1}}) ==
             "constant_schedule: peak is -1.000000, expected a number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
