// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// AdamW against its formula in long double, clipping, and the learning-rate schedule.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/clip.hpp>
#include <stiefelx/optim/schedule.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::adamw_options;
using stiefelx::cosine_schedule;

/// Gradient of step t; sizes differ by orders of magnitude, and one entry is always zero.
template <class S>
matrix_x<S> gradient(int t) {
  matrix_x<S> g = random_matrix<S>(5, 3, static_cast<std::uint64_t>(100 + t));
  for (index_t j = 0; j < 3; ++j) g.col(j) *= static_cast<S>(std::pow(10.0, 3 * (1 - j)));
  g(4, 2) = S(0);
  return g;
}

/// One entry's AdamW by the formula, in long double.
struct scalar_adamw {
  adamw_options o;
  long double x, m = 0, v = 0;
  int t = 0;

  void step(long double g) {
    ++t;
    m = static_cast<long double>(o.beta1) * m + (1 - static_cast<long double>(o.beta1)) * g;
    v = static_cast<long double>(o.beta2) * v + (1 - static_cast<long double>(o.beta2)) * g * g;
    long double const first = m / (1 - std::pow(static_cast<long double>(o.beta1), t));
    long double const second = v / (1 - std::pow(static_cast<long double>(o.beta2), t));
    x -= o.learning_rate * (first / (std::sqrt(second) + o.epsilon) + o.weight_decay * x);
  }
};

/// The arrays of an optimizer's state, downloaded, with their names.
template <class Case, class Opt>
std::vector<std::pair<std::string, matrix_x<double>>> arrays_of(place<Case>& p, Opt& opt) {
  std::vector<std::pair<std::string, matrix_x<double>>> all;
  opt.for_each_array([&](char const* name, auto& a) {
    all.emplace_back(name, p.down(a).template cast<double>());
  });
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(adamw)

// --- adamw ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(fifty_steps_agree_with_the_formula, Case, real_cases) {
  using S = typename Case::scalar;
  adamw_options const settings[] = {
      {},
      {.learning_rate = 1e-2, .weight_decay = 0.1},
      {.learning_rate = 0.05, .beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 1e-2},
      {.beta1 = 0, .beta2 = 0}};
  for (adamw_options o : settings) {
    place<Case> p;
    matrix_x<S> const start = random_matrix<S>(5, 3, 1);
    auto x = p.up(start);
    auto status = status_matrix<typename Case::backend>(p.ctx);
    stiefelx::adamw opt(p.ctx, x, o);
    std::vector<scalar_adamw> entries;
    for (index_t j = 0; j < 3; ++j)
      for (index_t i = 0; i < 5; ++i) entries.push_back({o, static_cast<long double>(start(i, j))});
    for (int t = 0; t < 50; ++t) {
      if (t == 30) {
        opt.set_learning_rate(2e-3);
        for (auto& e : entries) e.o.learning_rate = 2e-3;
      }
      matrix_x<S> const g = gradient<S>(t);
      if (t % 3 == 0)
        opt.step(p.ctx, x, p.up(g), status);
      else if (t % 3 == 1)
        opt.step(p.ctx, x, p.up(g));
      else
        opt.step(p.ctx, x, p.up(g), stiefelx::no_status{});
      for (std::size_t k = 0; k < entries.size(); ++k)
        entries[k].step(
            static_cast<long double>(g(static_cast<index_t>(k) % 5, static_cast<index_t>(k) / 5)));
    }
    matrix_x<long double> expected(5, 3), m(5, 3), v(5, 3);
    for (index_t k = 0; k < 15; ++k) {
      auto const& e = entries[static_cast<std::size_t>(k)];
      expected(k % 5, k / 5) = e.x;
      m(k % 5, k / 5) = e.m;
      v(k % 5, k / 5) = e.v;
    }
    // Rounding of 1 - beta and beta^t to S enters every step alike, four times a step.
    double const bound = tolerance<S>(50, 4);
    BOOST_TEST(near(p.down(x), expected, bound));
    for (index_t j = 0; j < 3; ++j) {
      BOOST_TEST(near(p.down(opt.first_moment()).col(j), m.col(j), bound));
      BOOST_TEST(near(p.down(opt.second_moment()).col(j), v.col(j), bound));
    }
    BOOST_TEST(status_value(p.ctx, status) == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_that_is_not_finite_changes_nothing, Case, real_cases) {
  using S = typename Case::scalar;
  for (S bad : {std::numeric_limits<S>::quiet_NaN(), std::numeric_limits<S>::infinity(),
                -std::numeric_limits<S>::infinity()}) {
    place<Case> p;
    auto x = p.up(random_matrix<S>(5, 3, 1));
    auto twin = p.up(random_matrix<S>(5, 3, 1));
    stiefelx::adamw opt(p.ctx, x, {.weight_decay = 0.1});
    stiefelx::adamw other(p.ctx, twin, {.weight_decay = 0.1});
    for (int t = 0; t < 4; ++t) {
      auto status = status_matrix<typename Case::backend>(p.ctx);
      matrix_x<S> const before = p.down(x);
      auto const state = arrays_of(p, opt);
      matrix_x<S> g = gradient<S>(t);
      g(2, 1) = bad;
      opt.step(p.ctx, x, p.up(g), status);
      BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
      BOOST_TEST(same(p.down(x), before));
      auto const after = arrays_of(p, opt);
      for (std::size_t i = 0; i < state.size(); ++i)
        BOOST_TEST(same(after[i].second, state[i].second));
      opt.step(p.ctx, x, p.up(gradient<S>(t)));
      other.step(p.ctx, twin, p.up(gradient<S>(t)));
      BOOST_TEST(same(p.down(x), p.down(twin)));
      BOOST_TEST(!same(p.down(x), before));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_parameter, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(5, 3, 1);
  auto x = p.up(start);
  stiefelx::adamw opt(p.ctx, x);
  for (int t = 0; t < 3; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(5, 3)));
  BOOST_TEST(same(p.down(x), start));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_state_goes_on_with_the_same_bits, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  auto x = p.up(random_matrix<S>(5, 3, 1));
  stiefelx::adamw opt(p.ctx, x);
  for (int t = 0; t < 3; ++t) opt.step(p.ctx, x, p.up(gradient<S>(t)));
  auto copy_of_x = p.up(p.down(x));
  stiefelx::adamw loaded(p.ctx, copy_of_x);
  auto const saved = arrays_of(p, opt);
  std::vector<std::string> names;
  loaded.for_each_array([&](char const* name, auto& a) {
    matrix_x<double> const array = saved[names.size()].second;
    copy(p.ctx, p.up(array), a);
    names.emplace_back(name);
  });
  std::vector<std::string> const expected{"first_moment", "second_moment", "power1", "power2"};
  BOOST_TEST(names == expected, boost::test_tools::per_element());
  for (int t = 3; t < 6; ++t) {
    opt.step(p.ctx, x, p.up(gradient<S>(t)));
    loaded.step(p.ctx, copy_of_x, p.up(gradient<S>(t)));
  }
  BOOST_TEST(same(p.down(x), p.down(copy_of_x)));
}

BOOST_AUTO_TEST_CASE(row_major_strided_and_empty_parameters_are_taken) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  stiefelx::host::context ctx;
  matrix_x<double> x = random_matrix<double>(5, 3, 1);
  row_major by_rows = x;
  matrix_x<double> all = matrix_x<double>::Constant(12, 3, -77);
  Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<12, 2>> strided(all.data(), 5, 3);
  strided = x;
  stiefelx::adamw a(ctx, x), b(ctx, by_rows), c(ctx, strided);
  for (int t = 0; t < 3; ++t) {
    matrix_x<double> const g = gradient<double>(t);
    row_major const g_by_rows = g;
    a.step(ctx, x, g);
    b.step(ctx, by_rows, g_by_rows);
    c.step(ctx, strided, 2 * g - g);
  }
  BOOST_TEST(same(by_rows, x));
  BOOST_TEST(same(strided, x));
  matrix_x<double> none(4, 0);
  stiefelx::adamw d(ctx, none);
  BOOST_CHECK_NO_THROW(d.step(ctx, none, none.eval()));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(5, 3, 1));
  auto wrong = p.up(random_matrix<double>(3, 5, 1));
  auto all = p.up(random_matrix<double>(5, 5, 1));
  auto const made = [&](adamw_options o) {
    return message_of([&] { stiefelx::adamw(p.ctx, x, o); });
  };
  BOOST_TEST(made({.learning_rate = -1}) ==
             "adamw: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.beta1 = 1}) == "adamw: beta1 is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.beta2 = -0.5}) == "adamw: beta2 is -0.500000, expected a number in [0, 1)");
  BOOST_TEST(made({.epsilon = 0}) == "adamw: epsilon is 0.000000, expected a number above 0");
  BOOST_TEST(made({.weight_decay = std::nan("")}) == "adamw: weight_decay is " +
                                                         std::to_string(std::nan("")) +
                                                         ", expected a number of at least 0");
  stiefelx::adamw opt(p.ctx, x);
  BOOST_TEST(message_of([&] { opt.step(p.ctx, wrong, x); }) ==
             "adamw::step: x is 3x5, expected 5x3");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, x, wrong); }) ==
             "adamw::step: g is 3x5, expected 5x3");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, all.middleCols(0, 3), all.middleCols(2, 3)); }) ==
             "adamw::step: x overlaps g, expected separate memory");
}

// --- clip ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(clip_brings_the_joint_norm_to_its_bound, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const a = random_matrix<S>(5, 3, 1), b = random_matrix<S>(2, 7, 2);
  double const joint = std::sqrt(static_cast<double>(a.squaredNorm() + b.squaredNorm()));
  for (double share : {0.25, 1e-6}) {
    auto x = p.up(a);
    auto y = p.up(b);
    stiefelx::clip_by_global_norm(p.ctx, share * joint, x, y);
    BOOST_TEST(near(p.down(x), a * static_cast<S>(share), tolerance<S>(29)));
    BOOST_TEST(near(p.down(y), b * static_cast<S>(share), tolerance<S>(29)));
  }
  for (double share : {1.001, 1e6}) {
    auto x = p.up(a);
    auto y = p.up(b);
    stiefelx::clip_by_global_norm(p.ctx, share * joint, x, y.middleCols(0, 7));
    BOOST_TEST(same(p.down(x), a));
    BOOST_TEST(same(p.down(y), b));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(clip_leaves_zero_and_not_finite_gradients, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  auto zero = p.up(matrix_x<S>::Zero(3, 2));
  stiefelx::clip_by_global_norm(p.ctx, 1, zero);
  BOOST_TEST(same(p.down(zero), matrix_x<S>::Zero(3, 2)));
  for (S bad : {std::numeric_limits<S>::quiet_NaN(), std::numeric_limits<S>::infinity()}) {
    matrix_x<S> a = random_matrix<S>(3, 2, 1), b = random_matrix<S>(4, 1, 2) * S(100);
    a(1, 1) = bad;
    auto x = p.up(a);
    auto y = p.up(b);
    stiefelx::clip_by_global_norm(p.ctx, 1, x, y);
    BOOST_TEST(same(p.down(x), a));
    BOOST_TEST(same(p.down(y), b));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(clip_refuses_a_bound_that_is_not_positive, Case, double_cases) {
  place<Case> p;
  auto g = p.up(random_matrix<double>(3, 2, 1));
  for (double bound : {0.0, -1.0, std::nan("")})
    BOOST_TEST(message_of([&] { stiefelx::clip_by_global_norm(p.ctx, bound, g); }) ==
               "clip_by_global_norm: bound is " + std::to_string(bound) +
                   ", expected a number above 0");
}

// --- schedule ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_schedule_warms_up_falls_and_stays) {
  cosine_schedule const s{2, 110, 10, 0.1};
  double const bound = tolerance<double>(1);
  auto const expect = [&](index_t t, double rate) {
    BOOST_TEST_CONTEXT("t = " << t) BOOST_TEST(std::abs(s(t) - rate) <= bound * rate);
  };
  expect(0, 0.2);
  expect(4, 1);
  expect(9, 2);
  expect(10, 2);
  expect(35, 2 * (0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2));
  expect(60, 2 * (0.1 + 0.9 / 2));
  expect(110, 0.2);
  expect(111, 0.2);
  expect(100000, 0.2);
  for (index_t t = 10; t < 110; ++t) BOOST_TEST(s(t + 1) < s(t));
}

BOOST_AUTO_TEST_CASE(the_schedule_needs_no_warm_up_and_no_steps) {
  BOOST_TEST(cosine_schedule({3, 10})(0) == 3);
  BOOST_TEST(std::abs(cosine_schedule({3, 10})(10)) <= tolerance<double>(1));
  BOOST_TEST(cosine_schedule({.peak = 4, .steps = 0, .final_fraction = 0.5})(0) == 2);
  BOOST_TEST(cosine_schedule({.peak = 4, .steps = 5, .warm_up = 5, .final_fraction = 0.5})(4) == 4);
  BOOST_TEST(cosine_schedule({.peak = 4, .steps = 5, .warm_up = 5, .final_fraction = 0.5})(5) == 2);
}

BOOST_AUTO_TEST_SUITE_END()
