// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// StelLA's wrapper: gradient descent inside it against plain loops, other optimizers inside it, one
// of the test's own, and what every optimizer promises.

#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/muon.hpp>
#include <stiefelx/optim/sgd.hpp>
#include <stiefelx/optim/stella.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::adamw;
using stiefelx::exponential_retraction;
using stiefelx::sgd;
using stiefelx::stella_options;
using stiefelx::stiefel;
using exact = std::complex<long double>;

/// Each backend once, with the coarsest scalar and with a complex one.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;
using real_cases_once =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, double>>;

template <class S>
matrix_x<S> gradient(index_t n, index_t p, int t) {
  return random_matrix<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// The sign of an entry.
struct sign_element {
  double rate;
  template <class S>
  STIEFELX_HD void operator()(S& x, S const& g) const {
    x -= static_cast<S>(g > S(0) ? rate : g < S(0) ? -rate : 0.0);
  }
};

/// An optimizer of a user: one step function, no status, no state to save.
struct sign_descent {
  double rate;
  template <class Ctx, class X, class G>
  void step(Ctx& ctx, X& x, G const& g) {
    transform(ctx, sign_element{rate}, stiefelx::outputs(x), stiefelx::inputs(g));
  }
};

/// The polar factor by Newton and Schulz in long double, of singular values of about one.
matrix_x<exact> polar_by_loops(matrix_x<exact> x) {
  x /= exact(x.norm());
  for (int k = 0; k < 60; ++k) {
    matrix_x<exact> const cube = loop_product(x, loop_product(loop_adjoint(x), x));
    x = exact(1.5L) * x - exact(0.5L) * cube;
  }
  return x;
}

matrix_x<exact> canonical_gradient(matrix_x<exact> const& x, matrix_x<exact> const& g) {
  return g - loop_product(x, loop_product(loop_adjoint(g), x));
}

matrix_x<exact> tangent_part(matrix_x<exact> const& x, matrix_x<exact> const& z) {
  matrix_x<exact> const s = loop_product(loop_adjoint(x), z);
  matrix_x<exact> const mean = exact(0.5L) * (s + loop_adjoint(s));
  return z - loop_product(x, mean);
}

template <class S>
double orthonormality(matrix_x<S> const& x) {
  matrix_x<S> const defect =
      loop_product(loop_adjoint(x), x) - matrix_x<S>::Identity(x.cols(), x.cols());
  return static_cast<double>(defect.norm());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(stella)

// --- closed loops --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(around_gradient_descent_it_is_the_riemannian_step, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 7, k = 3;
  for (double momentum : {0.0, 0.8}) {
    for (double hidden : {0.0, 28.0}) {
      BOOST_TEST_CONTEXT("momentum " << momentum << ", hidden " << hidden) {
        place<Case> p;
        matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
        auto x = p.up(start);
        stiefelx::stella opt(p.ctx, stiefel{n, k}, x,
                             sgd(p.ctx, x, {.learning_rate = 0.02, .momentum = momentum}),
                             {.hidden = hidden});
        matrix_x<exact> y = start.template cast<exact>(), u = matrix_x<exact>::Zero(n, k);
        // sqrt(28 / 7) = 2.
        long double const length = hidden > 0 ? 0.04L : 0.02L;
        for (int t = 0; t < 10; ++t) {
          matrix_x<S> const g = gradient<S>(n, k, t);
          opt.step(p.ctx, x, p.up(g));
          u = exact(static_cast<long double>(momentum)) * u +
              canonical_gradient(y, g.template cast<exact>());
          y = polar_by_loops(y - exact(length) * tangent_part(y, u));
        }
        BOOST_TEST(near(p.down(opt.base().velocity()), u, tolerance<S>(10)));
        BOOST_TEST(near(p.down(x), y, tolerance<S>(10)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_exponential_follows_the_geodesic, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 7, k = 3;
  place<Case> p;
  auto x = p.up(orthonormal_frame<S>(n, k, 1));
  auto y = p.up(p.down(x));
  stiefelx::stella opt(p.ctx, stiefel{n, k}, x, sgd(p.ctx, x, {.learning_rate = 0.1}),
                       stella_options{}, exponential_retraction{});
  for (int t = 0; t < 5; ++t) {
    matrix_x<S> const g = gradient<S>(n, k, t), at = p.down(y);
    opt.step(p.ctx, x, p.up(g));
    matrix_x<S> const across = loop_product(loop_adjoint(g), at);
    matrix_x<S> const v = S(-0.1) * (g - loop_product(at, across));
    exp(p.ctx, stiefel{n, k}, y, p.up(v), y);
  }
  BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(n, 5)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(around_a_users_own_optimizer_it_takes_the_three_steps, Case,
                              real_cases_once) {
  using S = typename Case::scalar;
  index_t const n = 6, k = 2;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  auto x = p.up(start);
  stiefelx::stella opt(p.ctx, stiefel{n, k}, x, sign_descent{0.05});
  matrix_x<exact> y = start.template cast<exact>();
  for (int t = 0; t < 10; ++t) {
    matrix_x<S> const g = gradient<S>(n, k, t);
    opt.step(p.ctx, x, p.up(g));
    matrix_x<exact> z = canonical_gradient(y, g.template cast<exact>());
    for (index_t j = 0; j < k; ++j)
      for (index_t i = 0; i < n; ++i) z(i, j) = z(i, j).real() > 0 ? -0.05L : 0.05L;
    y = polar_by_loops(y + tangent_part(y, z));
  }
  BOOST_TEST(near(p.down(x), y, tolerance<S>(10)));
  int arrays = 0;
  opt.for_each_array([&](char const*, auto&) { ++arrays; });
  BOOST_TEST(arrays == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(on_euclidean_it_is_the_base_optimizer, Case, real_cases_once) {
  using S = typename Case::scalar;
  place<Case> p;
  auto x = p.up(random_matrix<S>(5, 3, 1));
  auto y = p.up(random_matrix<S>(5, 3, 1));
  stiefelx::adamw_options const o{.learning_rate = 0.05, .weight_decay = 0.1};
  stiefelx::stella opt(p.ctx, stiefelx::euclidean{5, 3}, x, adamw(p.ctx, x, o));
  adamw other(p.ctx, y, o);
  for (int t = 0; t < 10; ++t) {
    if (t == 5) {
      opt.set_learning_rate(0.02);
      other.set_learning_rate(0.02);
    }
    auto const g = p.up(gradient<S>(5, 3, t));
    opt.step(p.ctx, x, g);
    other.step(p.ctx, y, g);
  }
  BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(10)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(weight_decay_of_the_base_moves_no_frame, Case, real_cases_once) {
  using S = typename Case::scalar;
  place<Case> p;
  auto x = p.up(orthonormal_frame<S>(7, 3, 1));
  auto y = p.up(p.down(x));
  stiefelx::stella plain(p.ctx, stiefel{7, 3}, x, adamw(p.ctx, x, {.learning_rate = 0.05}));
  stiefelx::stella decayed(p.ctx, stiefel{7, 3}, y,
                           adamw(p.ctx, y, {.learning_rate = 0.05, .weight_decay = 0.5}));
  for (int t = 0; t < 5; ++t) {
    auto const g = p.up(gradient<S>(7, 3, t));
    plain.step(p.ctx, x, g);
    decayed.step(p.ctx, y, g);
  }
  // AdamW's direction jumps with the sign of a gradient that is new, so errors grow with it.
  BOOST_TEST(near(p.down(y), p.down(x), tolerance<S>(7, 5)));
}

// --- known optima and orthonormality -------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, 4, 2));
  place<Case> p;
  auto const minus_target = p.up(matrix_x<S>(-target));
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 3);
  {
    auto x = p.up(start);
    stiefelx::stella opt(p.ctx, stiefel{n, k}, x,
                         sgd(p.ctx, x, {.learning_rate = 0.2, .momentum = 0.5}));
    for (int t = 0; t < 400; ++t) opt.step(p.ctx, x, minus_target);
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, 4)));
  }
  // The step of these has a length near the rate, so the point is some last steps away.
  auto const falling = [&](auto& opt, auto& x, double factor) {
    double rate = 0.1;
    for (int t = 0; t < 800; ++t, rate *= 0.98) {
      opt.set_learning_rate(rate);
      opt.step(p.ctx, x, minus_target);
    }
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, 4) + 10 * factor * rate));
  };
  auto x = p.up(start);
  stiefelx::stella by_muon(p.ctx, stiefel{n, k}, x, stiefelx::muon(p.ctx, x, {.momentum = 0.5}));
  falling(by_muon, x, std::sqrt(8.0 / 3));
  if constexpr (std::is_floating_point_v<S>) {
    auto y = p.up(start);
    stiefelx::stella by_adam(p.ctx, stiefel{n, k}, y,
                             adamw(p.ctx, y, {.beta1 = 0.5, .beta2 = 0.9}));
    falling(by_adam, y, std::sqrt(24.0));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal_around_adamw, Case, real_cases_once) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  index_t const n = 12, k = 4;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  auto x = p.up(start);
  stiefelx::stella opt(p.ctx, stiefel{n, k}, x, adamw(p.ctx, x, {.learning_rate = 0.05}));
  for (int t = 0; t < (host ? 3000 : 50); ++t) opt.step(p.ctx, x, p.up(gradient<S>(n, k, t)));
  BOOST_TEST(orthonormality(p.down(x)) <= tolerance<S>(n));
  BOOST_TEST(!near(p.down(x), start, 0.1));
}

// --- what every optimizer promises ---------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto const make = [](auto& ctx, auto const& x) {
    return stiefelx::stella(ctx, stiefel{6, 2}, x,
                            sgd(ctx, x, {.learning_rate = 0.05, .momentum = 0.9}));
  };
  expect_bad_gradients_ignored<Case>(make, start);
  expect_saved_state_goes_on<Case>(make, start);
  place<Case> p;
  auto opt = make(p.ctx, p.up(start));
  BOOST_TEST(array_names(opt) == (std::vector<std::string>{"base.velocity"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, real_cases_once) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto x = p.up(start);
  stiefelx::stella opt(p.ctx, stiefel{6, 2}, x, adamw(p.ctx, x));
  for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
  BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE(row_major_strided_and_fixed_points_are_taken) {
  expect_layouts_taken([](auto& ctx, auto const& x) {
    return stiefelx::stella(ctx, stiefel{5, 3}, x, sgd(ctx, x));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  stiefel const m{5, 3};
  BOOST_TEST(message_of([&] {
               stiefelx::stella(p.ctx, m, x, sgd(p.ctx, x), stella_options{.hidden = -1});
             }) == "stella: hidden is -1.000000, expected a number of at least 0");
  expect_wrong_steps_named(p, "stella", stiefelx::stella(p.ctx, m, x, sgd(p.ctx, x)));
}

BOOST_AUTO_TEST_SUITE_END()
