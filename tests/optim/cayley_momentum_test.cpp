// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cayley SGD against the method written out with n x n matrices in long double, its step cap, its
// drift, and known optima.

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/drift.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/optim/cayley_momentum.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::cayley_momentum_options;
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

/// W of the method as it is published, n x n.
dense rotation(dense const& x, dense const& m) {
  dense const mx = loop_product(m, loop_adjoint(x));
  dense const inside = loop_product(x, loop_product(loop_adjoint(x), mx));
  dense const half = mx - exact(0.5L) * inside;
  return half - loop_adjoint(half);
}

/// The method with n x n matrices.
struct dense_method {
  cayley_momentum_options o;
  dense x, u, w;
  long double alpha = 0;

  void step(dense const& g) {
    w = rotation(x, exact(static_cast<long double>(o.momentum)) * u + g);
    u = loop_product(w, x);
    long double const cap = 2 * static_cast<long double>(o.contraction) /
                            (w.norm() + static_cast<long double>(o.epsilon));
    alpha = std::min(static_cast<long double>(o.learning_rate), cap);
    dense y = x - exact(alpha) * u;
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

BOOST_AUTO_TEST_SUITE(cayley_momentum)

// --- against n x n matrices ----------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(one_step_is_the_dense_one, Case, cases) {
  using S = typename Case::scalar;
  index_t const shapes[][2] = {{9, 2}, {5, 4}, {4, 4}, {3, 1}};
  for (auto const& [n, k] : shapes) {
    matrix_x<S> const start = orthonormal_frame<S>(n, k, 1), g = gradient<S>(n, k, 0);
    // A rate below the cap and one far beyond it; the bare iteration and with clean-up.
    for (double rate : {0.01, 100.0}) {
      for (int iterations : {0, 1, 2, 5}) {
        for (int cleaning : {0, 1}) {
          BOOST_TEST_CONTEXT(n << "x" << k << ", rate " << rate << ", " << iterations << " + "
                               << cleaning) {
            place<Case> p;
            cayley_momentum_options const o{
                .learning_rate = rate, .iterations = iterations, .newton_schulz_steps = cleaning};
            auto x = p.up(start);
            stiefelx::cayley_momentum opt(p.ctx, stiefel{n, k}, x, o);
            opt.step(p.ctx, x, p.up(g));
            dense_method method{o, start.template cast<exact>(), dense::Zero(n, k), {}};
            method.step(g.template cast<exact>());
            BOOST_TEST(near(p.down(opt.velocity()), method.u, tolerance<S>(n)));
            BOOST_TEST(near(p.down(x), method.x, tolerance<S>(n)));
          }
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
  for (double rate : {0.02, 10.0}) {
    place<Case> p;
    cayley_momentum_options const o{
        .learning_rate = rate, .momentum = 0.8, .newton_schulz_steps = 4};
    auto x = p.up(start);
    stiefelx::cayley_momentum opt(p.ctx, stiefel{n, k}, x, o);
    dense_method method{o, start.template cast<exact>(), dense::Zero(n, k), {}};
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
    BOOST_TEST(near(p.down(opt.velocity()), method.u, tolerance<S>(20, 20)));
    BOOST_TEST(near(p.down(x), method.x, tolerance<S>(20, 20)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_norm_of_the_rotation_is_that_of_the_dense_one, Case, cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const shapes[][2] = {{9, 2}, {4, 4}, {3, 1}};
  for (auto const& [n, k] : shapes) {
    place<Case> p;
    matrix_x<S> const x = orthonormal_frame<S>(n, k, 1), v = tangent_vector(x, 2);
    auto squared = p.number(real(0));
    stiefelx::rotation_squared_norm(p.ctx, p.up(x), p.up(v), squared);
    dense const w = rotation(x.template cast<exact>(), v.template cast<exact>());
    matrix_x<long double> expected(1, 1);
    expected(0, 0) = w.squaredNorm();
    BOOST_TEST(near(p.down(squared), expected, tolerance<S>(n)));
  }
}

BOOST_AUTO_TEST_CASE(iterations_contract_towards_the_cayley_transform) {
  stiefelx::host::context ctx;
  index_t const n = 9, k = 3;
  matrix_x<double> const start = orthonormal_frame<double>(n, k, 1), g = gradient<double>(n, k, 0);
  for (double q : {0.5, 0.1}) {
    auto const after = [&](int iterations) {
      matrix_x<double> x = start;
      stiefelx::cayley_momentum opt(ctx, stiefel{n, k}, x,
                                    {.learning_rate = 100,
                                     .contraction = q,
                                     .iterations = iterations,
                                     .newton_schulz_steps = 0});
      opt.step(ctx, x, g);
      return x;
    };
    // The exact transform of the same, capped, step.
    dense_method method{
        {.learning_rate = 100, .contraction = q}, start.cast<exact>(), dense::Zero(n, k), {}};
    method.step(g.cast<exact>());
    matrix_x<double> const v = (exact(-method.alpha) * method.u).real().cast<double>();
    matrix_x<double> transformed(n, k);
    retract(ctx, stiefel{n, k}, start, v, transformed, stiefelx::cayley_retraction{});
    double before = (after(0) - transformed).norm();
    BOOST_TEST(before >= 0.01 * q);
    for (int iterations = 1; iterations <= 6; ++iterations) {
      double const now = (after(iterations) - transformed).norm();
      // Contracts by the spectral norm, which is at most 1 / sqrt(2) of the norm that is capped.
      BOOST_TEST(now <= q * std::sqrt(0.5) * before + tolerance<double>(n));
      before = now;
    }
  }
}

// --- drift ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_bare_step_drifts_within_its_bound_and_is_repaired, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 9, k = 3;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  for (double q : {0.5, 0.25}) {
    place<Case> p;
    auto x = p.up(start), y = p.up(start);
    stiefelx::cayley_momentum bare(
        p.ctx, stiefel{n, k}, x,
        {.learning_rate = 100, .contraction = q, .newton_schulz_steps = 0});
    stiefelx::cayley_momentum clean(p.ctx, stiefel{n, k}, y,
                                    {.learning_rate = 100, .contraction = q});
    auto const g = p.up(gradient<S>(n, k, 0));
    bare.step(p.ctx, x, g);
    clean.step(p.ctx, y, g);
    // |y^H y - I|_2 <= 4 q^4 for two iterations; the Frobenius norm is at most sqrt(3) times it.
    double const bound = 4 * std::pow(q, 4) * std::sqrt(3.0), found = orthonormality(p.down(x));
    BOOST_TEST(found <= bound + tolerance<S>(n));
    BOOST_TEST(found >= 1e-3 * bound);
    BOOST_TEST(orthonormality(p.down(y)) <= found * found + tolerance<S>(n));
    for (int step = 0; step < 4; ++step) restabilize(p.ctx, stiefel{n, k}, x);
    BOOST_TEST(orthonormality(p.down(x)) <= tolerance<S>(n));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal_and_the_velocity_tangent, Case, cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  index_t const n = 12, k = 4;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  // Gradients of norm up to 15 and momentum 0.9 give |u| <= 150, so that alpha |W|_2 / 2 <= 150
  // rate and the defect of a step is at most 3/4 (4 (150 rate)^4)^2 sqrt(4), far below rounding.
  double const rate = 2e-5;
  auto x = p.up(start);
  stiefelx::cayley_momentum opt(p.ctx, stiefel{n, k}, x, {.learning_rate = rate});
  matrix_x<S> before;
  for (int t = 0; t < (host ? 2000 : 50); ++t) {
    before = p.down(x);
    opt.step(p.ctx, x, p.up(gradient<S>(n, k, t)));
  }
  BOOST_TEST(orthonormality(p.down(x)) <= tolerance<S>(n));
  matrix_x<S> const s = loop_product(loop_adjoint(before), p.down(opt.velocity()));
  BOOST_TEST((s + loop_adjoint(s)).norm() <= tolerance<S>(n) * p.down(opt.velocity()).norm());
  BOOST_TEST(!near(p.down(x), start, 1e-3));
  // At the cap, q = 1/2, each of the k eigenvalues of the defect is at most the square of 4 q^4,
  // and no step adds to another.
  auto y = p.up(start);
  stiefelx::cayley_momentum capped(p.ctx, stiefel{n, k}, y, {.learning_rate = 100});
  for (int t = 0; t < (host ? 500 : 50); ++t) {
    capped.step(p.ctx, y, p.up(gradient<S>(n, k, t)));
    BOOST_TEST(orthonormality(p.down(y)) <=
               std::pow(4 * std::pow(0.5, 4), 2) * std::sqrt(static_cast<double>(k)));
  }
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, 4, 2));
  place<Case> p;
  auto const minus_target = p.up(matrix_x<S>(-target));
  auto x = p.up(orthonormal_frame<S>(n, k, 3));
  stiefelx::cayley_momentum opt(p.ctx, stiefel{n, k}, x, {.learning_rate = 0.5, .momentum = 0.5});
  for (int t = 0; t < 400; ++t) opt.step(p.ctx, x, minus_target);
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
  stiefelx::cayley_momentum opt(p.ctx, stiefel{n, k}, x, {.learning_rate = 0.2, .momentum = 0.5});
  for (int t = 0; t < 300; ++t) opt.step(p.ctx, x, product(p.ctx, a, x));
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
    return stiefelx::cayley_momentum(ctx, stiefel{6, 2}, x);
  };
  expect_bad_gradients_ignored<Case>(make, start);
  expect_saved_state_goes_on<Case>(make, start);
  place<Case> p;
  auto opt = make(p.ctx, p.up(start));
  BOOST_TEST(array_names(opt) == (std::vector<std::string>{"velocity"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_zero_gradient_keeps_the_point) {
  stiefelx::host::context ctx;
  matrix_x<double> const start = orthonormal_frame<double>(6, 2, 1), zero = start * 0;
  matrix_x<double> x = start;
  stiefelx::cayley_momentum opt(ctx, stiefel{6, 2}, x);
  for (int t = 0; t < 5; ++t) opt.step(ctx, x, zero);
  BOOST_TEST(near(x, start, tolerance<double>(6)));
}

BOOST_AUTO_TEST_CASE(row_major_strided_and_fixed_points_are_taken) {
  expect_layouts_taken(
      [](auto& ctx, auto const& x) { return stiefelx::cayley_momentum(ctx, stiefel{5, 3}, x); });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  stiefel const m{5, 3};
  auto const made = [&](cayley_momentum_options o) {
    return message_of([&] { stiefelx::cayley_momentum(p.ctx, m, x, o); });
  };
  std::string const name = "cayley_momentum: ";
  BOOST_TEST(made({.learning_rate = -1}) ==
             name + "learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.momentum = 1}) == name + "momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.contraction = 1}) ==
             name + "contraction is 1.000000, expected a number in (0, 1)");
  BOOST_TEST(made({.epsilon = 0}) == name + "epsilon is 0.000000, expected a number above 0");
  BOOST_TEST(made({.iterations = -1}) ==
             name + "iterations is -1, expected a number of at least 0");
  BOOST_TEST(made({.newton_schulz_steps = -1}) ==
             name + "newton_schulz_steps is -1, expected a number of at least 0");
  expect_wrong_steps_named(p, "cayley_momentum", stiefelx::cayley_momentum(p.ctx, m, x));
}

BOOST_AUTO_TEST_SUITE_END()
