// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The variants of riemannian_adam: AMSGrad, decay, moments a row and a column, and split coordinates,
// held to recursions in long double, to known optima, and to what each promises of its state.

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "step_laws.hpp"

namespace {

using namespace support;
using stiefelx::adam_moment;
using stiefelx::euclidean;
using stiefelx::riemannian_adam;
using stiefelx::riemannian_adam_options;
using stiefelx::stiefel;
using real_table = matrix_x<long double>;

constexpr long double epsilon = 1e-8L;

/// The variants beside the default.
std::vector<riemannian_adam_options> const variants = [] {
  std::vector<riemannian_adam_options> all;
  for (adam_moment const moment :
       {adam_moment::matrix, adam_moment::rows_and_columns, adam_moment::split})
    for (bool const amsgrad : {false, true})
      all.push_back({.learning_rate = 0.05,
                     .beta1 = 0.8,
                     .beta2 = 0.9,
                     .amsgrad = amsgrad,
                     .weight_decay = 0.1,
                     .second_moment = moment});
  return all;
}();

/// Gradients that become smaller and large again: largest moments differ from the last ones.
template <class S>
matrix_x<S> varying_gradient(index_t n, index_t p, int t) {
  using real = stiefelx::real_of_t<S>;
  return step_gradient<S>(n, p, t) / static_cast<real>(1 + t % 5);
}

/// 1 - beta^t
long double missing(long double beta, int t) { return 1 - std::pow(beta, static_cast<double>(t)); }

/// The Q factor of a by Gram-Schmidt, twice.
matrix_x<exact> exact_frame(matrix_x<exact> a) {
  for (index_t j = 0; j < a.cols(); ++j) {
    for (int pass = 0; pass < 2; ++pass)
      for (index_t k = 0; k < j; ++k) {
        exact s = 0;
        for (index_t i = 0; i < a.rows(); ++i) s += std::conj(a(i, k)) * a(i, j);
        for (index_t i = 0; i < a.rows(); ++i) a(i, j) -= s * a(i, k);
      }
    long double square = 0;
    for (index_t i = 0; i < a.rows(); ++i) square += std::norm(a(i, j));
    for (index_t i = 0; i < a.rows(); ++i) a(i, j) /= std::sqrt(square);
  }
  return a;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(adam_moments)

// --- recursions ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(amsgrad_and_decay_follow_their_recursion, Case, step_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  for (bool const amsgrad : {false, true}) {
    matrix_x<S> const start = random_matrix<S>(4, 3, 1);
    auto x = p.up(start);
    riemannian_adam opt(p.ctx, euclidean{4, 3}, x,
                        {.learning_rate = 0.05,
                         .beta1 = 0.8,
                         .beta2 = 0.7,
                         .amsgrad = amsgrad,
                         .weight_decay = 0.3});
    matrix_x<exact> y = loop_cast<exact>(start), m = matrix_x<exact>::Zero(4, 3);
    long double v = 0, largest = 0;
    for (int t = 1; t <= 30; ++t) {
      matrix_x<S> const g = varying_gradient<S>(4, 3, t);
      opt.step(p.ctx, x, p.up(g));
      m = exact(0.8L) * m + exact(0.2L) * loop_cast<exact>(g);
      v = 0.7L * v + 0.3L * loop_cast<exact>(g).squaredNorm();
      largest = std::max(largest, v);
      long double const root = std::sqrt((amsgrad ? largest : v) / missing(0.7L, t)) + epsilon;
      y -= exact(0.05L / (missing(0.8L, t) * root)) * m + exact(0.05L * 0.3L) * y;
    }
    BOOST_TEST(largest > 1.5L * v);
    BOOST_TEST(near(p.down(opt.first_moment()), m, tolerance<S>(30)));
    BOOST_TEST(near(p.down(x), y, tolerance<S>(30)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rows_and_columns_follow_their_recursion, Case, step_cases) {
  using S = typename Case::scalar;
  index_t const n = 4, k = 3;
  place<Case> p;
  for (bool const amsgrad : {false, true}) {
    matrix_x<S> const start = random_matrix<S>(n, k, 1);
    auto x = p.up(start);
    riemannian_adam opt(p.ctx, euclidean{n, k}, x,
                        {.learning_rate = 0.05,
                         .beta1 = 0.8,
                         .beta2 = 0.7,
                         .amsgrad = amsgrad,
                         .second_moment = adam_moment::rows_and_columns});
    matrix_x<exact> y = loop_cast<exact>(start), m = matrix_x<exact>::Zero(n, k);
    real_table rows = real_table::Zero(n, 2), columns = real_table::Zero(2, k);
    for (int t = 1; t <= 30; ++t) {
      matrix_x<S> const g = varying_gradient<S>(n, k, t);
      opt.step(p.ctx, x, p.up(g));
      matrix_x<exact> const r = loop_cast<exact>(g);
      m = exact(0.8L) * m + exact(0.2L) * r;
      rows.col(0) *= 0.7L;
      columns.row(0) *= 0.7L;
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < n; ++i) {
          rows(i, 0) += 0.3L / k * std::norm(r(i, j));
          columns(0, j) += 0.3L / n * std::norm(r(i, j));
        }
      rows.col(1) = rows.col(1).cwiseMax(rows.col(0));
      columns.row(1) = columns.row(1).cwiseMax(columns.row(0));
      index_t const used = amsgrad ? 1 : 0;
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < n; ++i) {
          long double const left = rows(i, used) / missing(0.7L, t) + epsilon * epsilon;
          long double const right = columns(used, j) / missing(0.7L, t) + epsilon * epsilon;
          y(i, j) -= 0.05L / missing(0.8L, t) * m(i, j) / std::pow(left * right, 0.25L);
        }
    }
    BOOST_TEST(near(p.down(opt.first_moment()), m, tolerance<S>(30)));
    BOOST_TEST(near(p.down(opt.row_moments()), rows, tolerance<S>(30)));
    BOOST_TEST(near(p.down(opt.column_moments()), columns, tolerance<S>(30)));
    BOOST_TEST(near(p.down(x), y, tolerance<S>(30)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(split_moments_follow_their_recursion, Case, step_cases) {
  using S = typename Case::scalar;
  index_t const n = 6, k = 3;
  place<Case> p;
  for (bool const amsgrad : {false, true}) {
    matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
    auto x = p.up(start);
    riemannian_adam opt(p.ctx, stiefel{n, k}, x,
                        {.learning_rate = 0.05,
                         .beta1 = 0.8,
                         .beta2 = 0.7,
                         .amsgrad = amsgrad,
                         .second_moment = adam_moment::split});
    matrix_x<exact> y = loop_cast<exact>(start);
    matrix_x<exact> skew = matrix_x<exact>::Zero(k, k), normal = matrix_x<exact>::Zero(n, k);
    // Second moments of the skew coordinates above those of the normal ones; largest ones beside.
    real_table second = real_table::Zero(k + n, 2 * k);
    // A coordinate is as exact as the whole gradient, and is divided by its own size.
    long double worst = 1;
    for (int t = 1; t <= 6; ++t) {
      matrix_x<S> const g = varying_gradient<S>(n, k, t);
      opt.step(p.ctx, x, p.up(g));
      matrix_x<exact> const h = loop_cast<exact>(g);
      matrix_x<exact> const s = loop_product(loop_adjoint(y), h);
      matrix_x<exact> parts(k + n, k), moments(k + n, k);
      parts << exact(0.5L) * (s - loop_adjoint(s)), h - loop_product(y, s);
      moments << skew, normal;
      moments = exact(0.8L) * moments + exact(0.2L) * parts;
      skew = moments.topRows(k);
      matrix_x<exact> scaled(k + n, k);
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < k + n; ++i) {
          second(i, j) = 0.7L * second(i, j) + 0.3L * std::norm(parts(i, j));
          second(i, k + j) = std::max(second(i, k + j), second(i, j));
          long double const used = second(i, amsgrad ? k + j : j) / missing(0.7L, t);
          scaled(i, j) = -0.05L / (missing(0.8L, t) * (std::sqrt(used) + epsilon)) * moments(i, j);
          if (used > 0) worst = std::max(worst, h.norm() / std::sqrt(used));
        }
      matrix_x<exact> const along = scaled.bottomRows(n);
      matrix_x<exact> const back = loop_product(y, loop_product(loop_adjoint(y), along));
      y = exact_frame(y + loop_product(y, matrix_x<exact>(scaled.topRows(k))) + along - back);
      matrix_x<exact> const bottom = moments.bottomRows(n);
      normal = bottom - loop_product(y, loop_product(loop_adjoint(y), bottom));
    }
    double const bound = tolerance<S>(n, static_cast<double>(worst));
    BOOST_TEST(near(p.down(x), y, bound));
    BOOST_TEST(near(p.down(opt.skew_first_moment()), skew, bound));
    BOOST_TEST(near(p.down(opt.first_moment()), normal, bound));
    BOOST_TEST(near(p.down(opt.skew_second_moment()), second.topLeftCorner(k, k), bound));
    BOOST_TEST(near(p.down(opt.second_moment()), second.bottomLeftCorner(n, k), bound));
  }
}

// --- invariants ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(split_states_live_in_their_spaces, Case, step_cases) {
  using S = typename Case::scalar;
  index_t const n = 9, k = 4;
  place<Case> p;
  for (stiefel const m :
       {stiefel{n, k}, stiefel{n, k, stiefelx::canonical_metric}, stiefel{k, k}}) {
    auto x = p.up(orthonormal_frame<S>(m.n, k, 1));
    riemannian_adam opt(p.ctx, m, x, {.learning_rate = 0.05, .second_moment = adam_moment::split});
    double size = 0;
    for (int t = 0; t < 40; ++t) {
      matrix_x<S> const g = varying_gradient<S>(m.n, k, t);
      opt.step(p.ctx, x, p.up(g));
      size = std::max(size, static_cast<double>(g.norm()));
    }
    matrix_x<S> const y = p.down(x), skew = p.down(opt.skew_first_moment());
    matrix_x<S> const normal = p.down(opt.first_moment());
    matrix_x<double> const second = p.down(opt.skew_second_moment());
    BOOST_TEST(frame_distance(y) <= tolerance<S>(n, 2));
    // To the bit: a skew matrix has no other rounding.
    BOOST_TEST(same(skew, matrix_x<S>(-loop_adjoint(skew))));
    BOOST_TEST(same(second, loop_adjoint(second)));
    BOOST_TEST(skew.norm() > 0.1);
    BOOST_TEST(loop_product(loop_adjoint(y), normal).norm() <= tolerance<S>(n) * size);
    if (m.n > k) BOOST_TEST(normal.norm() > 0.1);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rows_and_columns_keep_points_and_moments_in_place, Case, step_cases) {
  using S = typename Case::scalar;
  index_t const n = 9, k = 4;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  auto x = p.up(start);
  riemannian_adam opt(p.ctx, stiefel{n, k}, x,
                      {.learning_rate = 0.05, .second_moment = adam_moment::rows_and_columns});
  for (int t = 0; t < 40; ++t) opt.step(p.ctx, x, p.up(varying_gradient<S>(n, k, t)));
  matrix_x<S> const y = p.down(x), v = p.down(opt.first_moment());
  matrix_x<S> const s = loop_product(loop_adjoint(y), v);
  BOOST_TEST(frame_distance(y) <= tolerance<S>(n, 2));
  BOOST_TEST((s + loop_adjoint(s)).norm() <= tolerance<S>(n) * v.norm());
  BOOST_TEST(!near(y, start, 0.1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rows_and_columns_step_along_the_projected_direction, Case,
                              step_cases) {
  using S = typename Case::scalar;
  index_t const n = 6, k = 3;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1), g = step_gradient<S>(n, k, 0);
  auto x = p.up(start);
  riemannian_adam opt(p.ctx, stiefel{n, k}, x,
                      {.learning_rate = 0.1, .second_moment = adam_moment::rows_and_columns});
  opt.step(p.ctx, x, p.up(g));
  matrix_x<exact> const y = loop_cast<exact>(start);
  auto const projected = [&](matrix_x<exact> const& z) {
    matrix_x<exact> const s = loop_product(loop_adjoint(y), z);
    matrix_x<exact> const symmetric = exact(0.5L) * (s + loop_adjoint(s));
    return matrix_x<exact>(z - loop_product(y, symmetric));
  };
  // Corrected moments of a first step are those of its gradient.
  matrix_x<exact> const r = projected(loop_cast<exact>(g));
  matrix_x<exact> scaled = r;
  for (index_t j = 0; j < k; ++j)
    for (index_t i = 0; i < n; ++i) {
      long double const row = r.row(i).squaredNorm() / k, column = r.col(j).squaredNorm() / n;
      scaled(i, j) /= std::pow(row * column, 0.25L);
    }
  matrix_x<exact> const expected = exact_frame(y - exact(0.1L) * projected(scaled));
  BOOST_TEST(near(p.down(x), expected, tolerance<S>(n, 4)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(decay_does_nothing_on_stiefel, Case, step_cases) {
  using S = typename Case::scalar;
  for (auto options : variants) {
    place<Case> p;
    auto x = p.up(orthonormal_frame<S>(6, 2, 1)), y = p.up(orthonormal_frame<S>(6, 2, 1));
    riemannian_adam with(p.ctx, stiefel{6, 2}, x, options);
    options.weight_decay = 0;
    riemannian_adam without(p.ctx, stiefel{6, 2}, y, options);
    auto const g = p.up(step_gradient<S>(6, 2, 0));
    with.step(p.ctx, x, g);
    without.step(p.ctx, y, g);
    BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(6)));
  }
}

// --- known optimum -------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, step_cases) {
  using S = typename Case::scalar;
  constexpr double condition = 4;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, condition, 2));
  for (auto options : variants) {
    BOOST_TEST_INFO_SCOPE("moment " << int(options.second_moment) << ", amsgrad "
                                    << options.amsgrad);
    place<Case> p;
    auto const minus_target = p.up(matrix_x<S>(-target));
    auto x = p.up(orthonormal_frame<S>(n, k, 3));
    options.beta1 = 0.5;
    riemannian_adam opt(p.ctx, stiefel{n, k}, x, options);
    // Adam's steps have a length near the rate whatever the gradient, so the rate falls, and the point
    // is some last steps away. Those of AMSGrad fall with the gradient.
    double const decay = options.amsgrad ? 1 : 0.98;
    double rate = options.amsgrad || options.second_moment == adam_moment::matrix ? 0.2 : 0.05;
    for (int t = 0; t < 900; ++t, rate *= decay) {
      opt.set_learning_rate(rate);
      opt.step(p.ctx, x, minus_target);
    }
    double const last_steps = options.amsgrad ? 0 : 10 * rate;
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, condition) + last_steps));
  }
}

// --- states, forms and errors --------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_that_is_not_finite_changes_nothing, Case, step_cases) {
  using S = typename Case::scalar;
  for (auto const& options : variants)
    expect_bad_gradients_ignored<Case>(
        [&](auto& ctx, auto const& x) { return riemannian_adam(ctx, stiefel{6, 2}, x, options); },
        orthonormal_frame<S>(6, 2, 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_state_goes_on_with_the_same_bits, Case, step_cases) {
  using S = typename Case::scalar;
  for (auto const& options : variants)
    expect_saved_state_goes_on<Case>(
        [&](auto& ctx, auto const& x) { return riemannian_adam(ctx, stiefel{6, 2}, x, options); },
        orthonormal_frame<S>(6, 2, 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, step_cases) {
  using S = typename Case::scalar;
  for (auto const& options : variants) {
    place<Case> p;
    matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
    auto x = p.up(start);
    riemannian_adam opt(p.ctx, stiefel{6, 2}, x, options);
    for (int t = 0; t < 4; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>(matrix_x<S>::Zero(6, 2))));
    BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
  }
}

BOOST_AUTO_TEST_CASE(row_major_and_strided_points_are_taken) {
  for (auto const& options : variants)
    expect_layouts_taken(
        [&](auto& ctx, auto const& x) { return riemannian_adam(ctx, stiefel{5, 3}, x, options); });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_options_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  BOOST_TEST(message_of([&] { riemannian_adam(p.ctx, stiefel{5, 3}, x, {.weight_decay = -1}); }) ==
             "riemannian_adam: weight_decay is -1.000000, expected a number of at least 0");
  BOOST_TEST(message_of([&] {
               riemannian_adam(p.ctx, euclidean{5, 3}, x, {.second_moment = adam_moment::split});
             }) ==
             "riemannian_adam: second_moment is split, expected matrix or rows_and_columns: "
             "the manifold has no skew and normal parts");
  for (auto const& options : variants)
    expect_wrong_steps_named(p, "riemannian_adam",
                             riemannian_adam(p.ctx, stiefel{5, 3}, x, options));
}

BOOST_AUTO_TEST_SUITE_END()
