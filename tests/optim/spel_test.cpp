// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// SPEL: its formula with polar factors from plain loops, its relations to muon and between
// manifolds, known optima, and orthonormality over many steps.

#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <optim/step_laws.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/row_orthonormal.hpp>
#include <stiefelx/manifold/scaled_stiefel.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/optim/muon.hpp>
#include <stiefelx/optim/spel.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::muon_method;
using stiefelx::spel_options;
using stiefelx::stiefel;
using exact = std::complex<long double>;

/// Each backend once, with the coarsest scalar and with a complex one.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

/// A frame: its tangent part is well conditioned, so that its polar factor is.
template <class S>
matrix_x<S> gradient(index_t n, index_t p, int t) {
  return orthonormal_frame<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// The polar factor by Newton and Schulz in long double.
matrix_x<exact> polar_by_loops(matrix_x<exact> x) {
  x /= exact(x.norm());
  for (int k = 0; k < 60; ++k) {
    matrix_x<exact> const cube = loop_product(x, loop_product(loop_adjoint(x), x));
    x = exact(1.5L) * x - exact(0.5L) * cube;
  }
  return x;
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

BOOST_AUTO_TEST_SUITE(spel)

// --- the formula ---------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(steps_are_two_polar_factors, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 12, k = 3;
  // Rates on both sides of the bound up to which the Gram matrix is used.
  for (spel_options o : {spel_options{.learning_rate = 0.1}, spel_options{.momentum = 0},
                         spel_options{.learning_rate = 0.45, .momentum = 0.5},
                         spel_options{.learning_rate = 0.8, .momentum = 0.5}}) {
    BOOST_TEST_CONTEXT("rate " << o.learning_rate) {
      place<Case> p;
      matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
      auto x = p.up(start);
      auto status = status_matrix<typename Case::backend>(p.ctx);
      stiefelx::spel opt(p.ctx, stiefel{n, k}, x, o);
      matrix_x<exact> y = start.template cast<exact>(), m = matrix_x<exact>::Zero(n, k);
      auto const beta = static_cast<long double>(o.momentum);
      for (int t = 0; t < 6; ++t) {
        matrix_x<S> const g = gradient<S>(n, k, t);
        opt.step(p.ctx, x, p.up(g), status);
        m = exact(beta) * m + exact(1 - beta) * g.template cast<exact>();
        y -= exact(static_cast<long double>(o.learning_rate)) * polar_by_loops(tangent_part(y, m));
        y = polar_by_loops(y);
      }
      BOOST_TEST(near(p.down(opt.momentum()), m, tolerance<S>(6)));
      // A polar factor enlarges a relative error by less than 6 for singular values in [1/3, 1].
      BOOST_TEST(near(p.down(x), y, tolerance<S>(n, 6 * 6)));
      BOOST_TEST(status_value(p.ctx, status) == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(on_euclidean_it_is_muon_without_scaling, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  auto x = p.up(random_matrix<S>(6, 4, 1));
  auto y = p.up(random_matrix<S>(6, 4, 1));
  for (auto method : {muon_method::published, muon_method::polar_express}) {
    stiefelx::spel opt(p.ctx, stiefelx::euclidean{6, 4}, x,
                       {.learning_rate = 0.05, .momentum = 0.8, .method = method, .iterations = 5});
    stiefelx::muon other(p.ctx, y,
                         {.learning_rate = 0.05,
                          .momentum = 0.8,
                          .nesterov = false,
                          .method = method,
                          .iterations = 5,
                          .scaling = stiefelx::muon_scaling::unscaled});
    for (int t = 0; t < 10; ++t) {
      auto const g = p.up(random_matrix<S>(6, 4, static_cast<std::uint64_t>(100 + t)));
      opt.step(p.ctx, x, g);
      other.step(p.ctx, y, g);
    }
    BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(10)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_radius_multiplies_points_and_rates, Case, cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 8, k = 3;
  double const radius = 2.5;
  for (double rate : {0.1, 0.7}) {
    place<Case> p;
    matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
    auto x = p.up(start);
    auto y = p.up(matrix_x<S>(start * static_cast<real>(radius)));
    stiefelx::spel opt(p.ctx, stiefel{n, k}, x, {.learning_rate = rate});
    stiefelx::spel scaled(p.ctx, stiefelx::scaled_stiefel{n, k, radius}, y,
                          {.learning_rate = rate * radius});
    for (int t = 0; t < 5; ++t) {
      auto const g = p.up(gradient<S>(n, k, t));
      opt.step(p.ctx, x, g);
      scaled.step(p.ctx, y, g);
    }
    BOOST_TEST(near(p.down(y), p.down(x) * static_cast<real>(radius), tolerance<S>(n, 6 * 5)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(orthonormal_rows_take_the_transposed_step, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  auto x = p.up(start);
  auto y = p.up(loop_adjoint(start));
  stiefelx::spel opt(p.ctx, stiefel{n, k}, x);
  stiefelx::spel rows(p.ctx, stiefelx::row_orthonormal{stiefel{n, k}}, y);
  for (int t = 0; t < 5; ++t) {
    matrix_x<S> const g = gradient<S>(n, k, t);
    opt.step(p.ctx, x, p.up(g));
    rows.step(p.ctx, y, p.up(loop_adjoint(g)));
  }
  BOOST_TEST(near(p.down(y), loop_adjoint(p.down(x)), tolerance<S>(n, 6 * 5)));
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, cases) {
  using S = typename Case::scalar;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, 4, 2));
  place<Case> p;
  auto const minus_target = p.up(matrix_x<S>(-target));
  for (auto method : {muon_method::published, muon_method::polar_express}) {
    auto x = p.up(orthonormal_frame<S>(n, k, 3));
    stiefelx::spel opt(p.ctx, stiefel{n, k}, x,
                       {.momentum = 0.5, .method = method, .iterations = 5});
    double rate = 0.2;
    for (int t = 0; t < 500; ++t, rate *= 0.97) {
      opt.set_learning_rate(rate);
      opt.step(p.ctx, x, minus_target);
    }
    // A step has a length near the rate, so the point is some last steps from where it is going.
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, 4) + 10 * rate));
  }
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
  stiefelx::spel opt(p.ctx, stiefel{n, k}, x, {.momentum = 0.5});
  double rate = 0.2;
  for (int t = 0; t < 500; ++t, rate *= 0.97) {
    opt.set_learning_rate(rate);
    opt.step(p.ctx, x, product(p.ctx, a, x));
  }
  matrix_x<S> const found = p.down(x);
  // The gap is 2 and the matrix has norm 4.
  BOOST_TEST(near(loop_product(found, loop_adjoint(found)), loop_product(lead, loop_adjoint(lead)),
                  tolerance<S>(n, 4.0 / 2) + 10 * rate));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal, Case, cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  index_t const n = 12, k = 4;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  for (double rate : {0.05, 0.9}) {
    auto x = p.up(start);
    stiefelx::spel opt(p.ctx, stiefel{n, k}, x, {.learning_rate = rate});
    int const steps = host && rate < 0.5 ? 2000 : 50;
    for (int t = 0; t < steps; ++t)
      opt.step(p.ctx, x, p.up(random_matrix<S>(n, k, static_cast<std::uint64_t>(100 + t))));
    BOOST_TEST(orthonormality(p.down(x)) <= tolerance<S>(n));
    BOOST_TEST(!near(p.down(x), start, 0.1));
  }
}

// --- what every optimizer promises ---------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(bad_gradients_change_nothing_and_states_go_on, Case, step_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  // Rates on both sides of the bound up to which the Gram matrix is used.
  for (double rate : {0.05, 0.9}) {
    auto const make = [&](auto& ctx, auto const& x) {
      return stiefelx::spel(ctx, stiefel{6, 2}, x, {.learning_rate = rate});
    };
    expect_bad_gradients_ignored<Case>(make, start);
    expect_saved_state_goes_on<Case>(make, start);
    place<Case> p;
    auto opt = make(p.ctx, p.up(start));
    BOOST_TEST(array_names(opt) == std::vector<std::string>{"momentum"},
               boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
  auto x = p.up(start);
  stiefelx::spel opt(p.ctx, stiefel{6, 2}, x);
  for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
  BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE(row_major_strided_and_fixed_points_are_taken) {
  expect_layouts_taken(
      [](auto& ctx, auto const& x) { return stiefelx::spel(ctx, stiefel{5, 3}, x); }, 485);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  stiefel const m{5, 3};
  auto const made = [&](spel_options o) {
    return message_of([&] { stiefelx::spel(p.ctx, m, x, o); });
  };
  BOOST_TEST(made({.learning_rate = -1}) ==
             "spel: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({.momentum = 1}) == "spel: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(made({.method = muon_method::published, .iterations = 0}) ==
             "spel: iterations is 0, expected a number of at least 1");
  BOOST_TEST(made({.iterations = -1}) == "spel: iterations is -1, expected a number of at least 0");
  BOOST_TEST(made({.smallest = 0}) == "spel: smallest is 0.000000, expected a number in (0, 1)");
  BOOST_TEST(made({.epsilon = 0}) == "spel: epsilon is 0.000000, expected a number above 0");
  expect_wrong_steps_named(p, "spel", stiefelx::spel(p.ctx, m, x));
}

BOOST_AUTO_TEST_SUITE_END()
