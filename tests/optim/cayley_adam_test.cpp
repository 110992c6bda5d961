// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cayley Adam against the method written out with n x n matrices in long double, its drift, and
// known optima.

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/optim/cayley_adam.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::cayley_adam_options;
using stiefelx::stiefel;
using exact = std::complex<long double>;
using dense = matrix_x<exact>;

/// Each backend once, with the coarsest scalar and with a complex one.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

template <class S>
matrix_x<S> gradient(index_t n, index_t p, int t) {
  return random_matrix<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// The method with n x n matrices.
struct dense_method {
  cayley_adam_options o;
  dense x, m;
  long double v = 0;
  int t = 0;

  void step(dense const& g) {
    ++t;
    auto const beta1 = static_cast<long double>(o.beta1), beta2 = static_cast<long double>(o.beta2);
    auto const epsilon = static_cast<long double>(o.epsilon);
    m = exact(beta1) * m + exact(1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g.squaredNorm();
    long double const r =
        (1 - std::pow(beta1, t)) * std::sqrt(v / (1 - std::pow(beta2, t)) + epsilon);
    dense const mx = loop_product(m, loop_adjoint(x));
    dense const inside = loop_product(x, loop_product(loop_adjoint(x), mx));
    dense const half = mx - exact(0.5L) * inside;
    dense const w = (half - loop_adjoint(half)) / exact(r);
    m = exact(r) * loop_product(w, x);
    long double const cap = 2 * static_cast<long double>(o.contraction) / (w.norm() + epsilon);
    long double const alpha = std::min(static_cast<long double>(o.learning_rate), cap);
    dense y = x - exact(alpha) * loop_product(w, x);
    for (int k = 0; k < o.iterations; ++k) {
      dense const sum = x + y;
      y = x - exact(alpha / 2) * loop_product(w, sum);
    }
    for (int k = 0; k < o.newton_schulz_steps; ++k)
      y = exact(1.5L) * y - exact(0.5L) * loop_product(y, loop_product(loop_adjoint(y), y));
    x = y;
  }
};

template <class S>
double orthonormality(matrix_x<S> const& x) {
  matrix_x<S> const defect =
      loop_product(loop_adjoint(x), x) - matrix_x<S>::Identity(x.cols(), x.cols());
  return static_cast<double>(defect.norm());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cayley_adam)

// --- against n x n matrices ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(one_step_is_the_dense_one, Case, cases) {
  using S = typename Case::scalar;
  index_t const shapes[][2] = {{9, 2}, {5, 4}, {4, 4}, {3, 1}};
  for (auto const& [n, k] : shapes) {
    matrix_x<S> const start = orthonormal_frame<S>(n, k, 1), g = gradient<S>(n, k, 0);
    for (double rate : {0.1, 100.0}) {
      for (int iterations : {0, 2, 5}) {
        BOOST_TEST_CONTEXT(n << "x" << k << ", rate " << rate << ", " << iterations) {
          place<Case> p;
          cayley_adam_options const o{
              .learning_rate = rate, .iterations = iterations, .newton_schulz_steps = 0};
          auto x = p.up(start);
          stiefelx::cayley_adam opt(p.ctx, stiefel{n, k}, x, o);
          opt.step(p.ctx, x, p.up(g));
          dense_method method{o, start.template cast<exact>(), dense::Zero(n, k)};
          method.step(g.template cast<exact>());
          BOOST_TEST(near(p.down(x), method.x, tolerance<S>(n)));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(twenty_steps_agree_with_the_dense_method, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 7, k = 3;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  // Off the manifold by d, project() and W x differ by d; four clean-ups take the cap's 1/16 to
  // rounding: 3/4 d^2 gives 3e-3, 7e-6, 4e-11 and 1e-21.
  for (double rate : {0.1, 10.0}) {
    place<Case> p;
    cayley_adam_options const o{
        .learning_rate = rate, .beta1 = 0.8, .beta2 = 0.95, .newton_schulz_steps = 4};
    auto x = p.up(start);
    stiefelx::cayley_adam opt(p.ctx, stiefel{n, k}, x, o);
    dense_method method{o, start.template cast<exact>(), dense::Zero(n, k)};
    for (int t = 0; t < 20; ++t) {
      if (t == 10) {
        opt.set_learning_rate(rate / 2);
        method.o.learning_rate = rate / 2;
      }
      matrix_x<S> const g = gradient<S>(n, k, t);
      opt.step(p.ctx, x, p.up(g));
      method.step(g.template cast<exact>());
    }
    // Each step turns by less than 2 q = 1 radian, and its direction depends on the point.
    BOOST_TEST(near(p.down(opt.first_moment()), method.m, tolerance<S>(20, 20)));
    BOOST_TEST(near(p.down(x), method.x, tolerance<S>(20, 20)));
    matrix_x<long double> second(1, 1);
    second(0, 0) = method.v;
    BOOST_TEST(near(p.down(opt.second_moment()), second, tolerance<S>(20)));
  }
}

// --- orthonormality and known optima -------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal, Case, cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  index_t const n = 12, k = 4;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  // |m| <= r up to the decays' warm-up and |W|_2 <= 2 |m| / sqrt(3), so that a step of 2e-3 leaves
  // less than 4 (1.2e-3)^4 and its square is below rounding.
  auto x = p.up(start);
  stiefelx::cayley_adam opt(p.ctx, stiefel{n, k}, x, {.learning_rate = 2e-3});
  matrix_x<S> before;
  for (int t = 0; t < (host ? 2000 : 50); ++t) {
    before = p.down(x);
    opt.step(p.ctx, x, p.up(gradient<S>(n, k, t)));
  }
  BOOST_TEST(orthonormality(p.down(x)) <= tolerance<S>(n));
  matrix_x<S> const s = loop_product(loop_adjoint(before), p.down(opt.first_moment()));
  BOOST_TEST((s + loop_adjoint(s)).norm() <= tolerance<S>(n) * p.down(opt.first_moment()).norm());
  BOOST_TEST(!near(p.down(x), start, 1e-3));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, 4, 2));
  place<Case> p;
  auto const minus_target = p.up(matrix_x<S>(-target));
  auto x = p.up(orthonormal_frame<S>(n, k, 3));
  stiefelx::cayley_adam opt(p.ctx, stiefel{n, k}, x, {.beta1 = 0.5});
  for (int t = 0; t < 400; ++t) opt.step(p.ctx, x, minus_target);
  // The second moment is of the whole gradient, which stays: steps shrink with the tangent part.
  BOOST_TEST(near(p.down(x), best, tolerance<S>(n, 4)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rayleigh_reaches_the_leading_eigenspace, Case, cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 8, k = 3;
  matrix_x<S> const frame = orthonormal_frame<S>(n, n, 1);
  matrix_x<S> weighted = frame;
  real const values[] = {4, real(3.5), 3, 1, real(0.8), real(0.5), 0, -1};
  for (index_t j = 0; j < n; ++j) weighted.col(j) *= values[j];
  matrix_x<S> const lead = frame.leftCols(k);
  place<Case> p;
  auto const a = p.up(matrix_x<S>(-loop_product(weighted, loop_adjoint(frame))));
  auto x = p.up(orthonormal_frame<S>(n, k, 3));
  stiefelx::cayley_adam opt(p.ctx, stiefel{n, k}, x, {.beta1 = 0.5});
  for (int t = 0; t < 400; ++t) opt.step(p.ctx, x, product(p.ctx, a, x));
  matrix_x<S> const found = p.down(x);
  // The gap is 2 and the matrix has norm 4.
  BOOST_TEST(near(loop_product(found, loop_adjoint(found)), loop_product(lead, loop_adjoint(lead)),
                  tolerance<S>(n, 4.0 / 2)));
}

// --- what every optimizer promises ---------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto const make = [](auto& ctx, auto const& x) {
    return stiefelx::cayley_adam(ctx, stiefel{6, 2}, x);
  };
  expect_bad_gradients_ignored<Case>(make, start);
  expect_saved_state_goes_on<Case>(make, start);
  place<Case> p;
  auto opt = make(p.ctx, p.up(start));
  BOOST_TEST(array_names(opt) ==
                 (std::vector<std::string>{"first_moment", "second_moment", "power1", "power2"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, double_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto x = p.up(start);
  stiefelx::cayley_adam opt(p.ctx, stiefel{6, 2}, x);
  for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
  BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE(row_major_strided_and_fixed_points_are_taken) {
  expect_layouts_taken(
      [](auto& ctx, auto const& x) { return stiefelx::cayley_adam(ctx, stiefel{5, 3}, x); });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  stiefel const m{5, 3};
  auto const made = [&](cayley_adam_options o) {
    return message_of([&] { stiefelx::cayley_adam(p.ctx, m, x, o); });
  };
  std::string const name = "cayley_adam: ";
  BOOST_TEST(made({.learning_rate = -1}) ==
             name + "learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.beta1 = 1}) == name + "beta1 is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.beta2 = -1}) == name + "beta2 is -1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.contraction = 0}) ==
             name + "contraction is 0.000000, expected a number in (0, 1)");
  BOOST_TEST(made({.epsilon = 0}) == name + "epsilon is 0.000000, expected a number above 0");
  BOOST_TEST(made({.iterations = -1}) ==
             name + "iterations is -1, expected a number of at least 0");
  BOOST_TEST(made({.newton_schulz_steps = -1}) ==
             name + "newton_schulz_steps is -1, expected a number of at least 0");
  expect_wrong_steps_named(p, "cayley_adam", stiefelx::cayley_adam(p.ctx, m, x));
}

BOOST_AUTO_TEST_SUITE_END()
