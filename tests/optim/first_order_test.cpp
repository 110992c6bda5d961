// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Nesterov's momentum, decay, and the adaptive methods with one moment a matrix, a row or a column:
// held to recursions in long double, to known optima, and to what each promises about its state.

#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/rasa.hpp>
#include <stiefelx/optim/riemannian_adagrad.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/riemannian_rmsprop.hpp>
#include <stiefelx/optim/sgd.hpp>
#include <stiefelx/optim/tangent_decay.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::stiefel;
using exact = std::complex<long double>;
using exact_matrix = matrix_x<exact>;

constexpr stiefelx::index_t rows = 5, cols = 3;

template <class S>
matrix_x<S> gradient(int t) {
  return random_matrix<S>(rows, cols, static_cast<std::uint64_t>(100 + t));
}

struct make_nesterov {
  static constexpr bool steps_keep_their_length = false;
  static constexpr double procrustes_rate = 0.2;
  template <class Ctx, class M, class X>
  auto operator()(Ctx& ctx, M m, X const& x, double rate) const {
    return stiefelx::riemannian_momentum(
        ctx, m, x, {.learning_rate = rate, .momentum = 0.5, .nesterov = true});
  }
};
struct make_rmsprop {
  static constexpr bool steps_keep_their_length = true;
  static constexpr double procrustes_rate = 0.2;
  template <class Ctx, class M, class X>
  auto operator()(Ctx& ctx, M m, X const& x, double rate) const {
    return stiefelx::riemannian_rmsprop(ctx, m, x,
                                        {.learning_rate = rate, .decay = 0.9, .momentum = 0.5});
  }
};
struct make_adagrad {
  static constexpr bool steps_keep_their_length = false;
  static constexpr double procrustes_rate = 1;
  template <class Ctx, class M, class X>
  auto operator()(Ctx& ctx, M m, X const& x, double rate) const {
    return stiefelx::riemannian_adagrad(ctx, m, x, {.learning_rate = rate});
  }
};
struct make_rasa {
  static constexpr bool steps_keep_their_length = false;
  static constexpr double procrustes_rate = 0.03;
  template <class Ctx, class M, class X>
  auto operator()(Ctx& ctx, M m, X const& x, double rate) const {
    return stiefelx::rasa(ctx, m, x, {.learning_rate = rate, .decay = 0.9});
  }
};

template <class F>
void for_each_optimizer(F const& f) {
  BOOST_TEST_CONTEXT("nesterov") f(make_nesterov{});
  BOOST_TEST_CONTEXT("rmsprop") f(make_rmsprop{});
  BOOST_TEST_CONTEXT("adagrad") f(make_adagrad{});
  BOOST_TEST_CONTEXT("rasa") f(make_rasa{});
}

// The arrays of a state, whatever their scalar, as one list.
template <class Case, class Opt>
std::vector<matrix_x<std::complex<double>>> arrays_of(place<Case>& p, Opt& opt) {
  std::vector<matrix_x<std::complex<double>>> all;
  opt.for_each_array([&](char const*, auto& a) {
    all.push_back(p.down(a).template cast<std::complex<double>>());
  });
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(first_order)

// --- no curvature --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(sgd_follows_its_recursion, Case, complex_cases) {
  using S = typename Case::scalar;
  for (bool nesterov : {false, true}) {
    place<Case> p;
    matrix_x<S> const start = random_matrix<S>(rows, cols, 1);
    auto x = p.up(start);
    stiefelx::sgd opt(
        p.ctx, x,
        {.learning_rate = 0.05, .momentum = 0.8, .nesterov = nesterov, .weight_decay = 0.1});
    exact_matrix y = start.template cast<exact>(), u = exact_matrix::Zero(rows, cols);
    for (int t = 0; t < 40; ++t) {
      matrix_x<S> const g = gradient<S>(t);
      opt.step(p.ctx, x, p.up(g));
      u = exact(0.8L) * u + g.template cast<exact>();
      exact_matrix const d =
          nesterov ? exact_matrix(g.template cast<exact>() + exact(0.8L) * u) : u;
      y -= exact(0.05L) * (d + exact(0.1L) * y);
    }
    BOOST_TEST(near(p.down(opt.velocity()), u, tolerance<S>(40)));
    BOOST_TEST(near(p.down(x), y, tolerance<S>(40)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(momentum_on_euclidean_is_sgd, Case, complex_cases) {
  using S = typename Case::scalar;
  for (bool nesterov : {false, true}) {
    place<Case> p;
    matrix_x<S> const start = random_matrix<S>(rows, cols, 1);
    auto x = p.up(start), y = p.up(start);
    stiefelx::sgd flat(
        p.ctx, x,
        {.learning_rate = 0.05, .momentum = 0.8, .nesterov = nesterov, .weight_decay = 0.1});
    stiefelx::riemannian_momentum curved(
        p.ctx, euclidean{rows, cols}, y,
        {.learning_rate = 0.05, .momentum = 0.8, .nesterov = nesterov, .weight_decay = 0.1});
    for (int t = 0; t < 10; ++t) {
      flat.step(p.ctx, x, p.up(gradient<S>(t)));
      curved.step(p.ctx, y, p.up(gradient<S>(t)));
    }
    BOOST_TEST(near(p.down(y), p.down(x), tolerance<S>(10)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rmsprop_and_adagrad_follow_their_recursions, Case, complex_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(rows, cols, 1);
  euclidean const m{rows, cols};
  auto x = p.up(start), z = p.up(start);
  stiefelx::riemannian_rmsprop mean(
      p.ctx, m, x,
      {.learning_rate = 0.05, .decay = 0.9, .epsilon = 1e-3, .momentum = 0.8, .weight_decay = 0.1});
  stiefelx::riemannian_adagrad sum(
      p.ctx, m, z, {.learning_rate = 0.05, .start = 2, .epsilon = 1e-3, .weight_decay = 0.1});
  exact_matrix a = start.template cast<exact>(), b = a, u = exact_matrix::Zero(rows, cols);
  long double v = 0, w = 2;
  for (int t = 0; t < 40; ++t) {
    matrix_x<S> const g = gradient<S>(t);
    exact_matrix const e = g.template cast<exact>();
    mean.step(p.ctx, x, p.up(g));
    v = 0.9L * v + 0.1L * e.squaredNorm();
    u = exact(0.8L) * u + e / exact(std::sqrt(v) + 1e-3L);
    a -= exact(0.05L) * (u + exact(0.1L) * a);
    sum.step(p.ctx, z, p.up(g));
    w += e.squaredNorm();
    b -= exact(0.05L) * (e / exact(std::sqrt(w) + 1e-3L) + exact(0.1L) * b);
  }
  BOOST_TEST(near(p.down(mean.velocity()), u, tolerance<S>(40)));
  BOOST_TEST(std::abs(p.down(mean.mean_square())(0, 0) - static_cast<double>(v)) <=
             tolerance<S>(40) * static_cast<double>(v));
  BOOST_TEST(near(p.down(x), a, tolerance<S>(40)));
  BOOST_TEST(std::abs(p.down(sum.sum_of_squares())(0, 0) - static_cast<double>(w)) <=
             tolerance<S>(40) * static_cast<double>(w));
  BOOST_TEST(near(p.down(z), b, tolerance<S>(40)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rasa_follows_its_recursion, Case, complex_cases) {
  using S = typename Case::scalar;
  using stiefelx::rasa_side;
  for (auto const side : {rasa_side::both, rasa_side::rows, rasa_side::columns}) {
    place<Case> p;
    matrix_x<S> const start = random_matrix<S>(rows, cols, 1);
    auto x = p.up(start);
    stiefelx::rasa opt(
        p.ctx, euclidean{rows, cols}, x,
        {.learning_rate = 0.05, .decay = 0.7, .epsilon = 1e-3, .side = side, .weight_decay = 0.1});
    exact_matrix y = start.template cast<exact>();
    std::vector<long double> l(rows, 0), c(cols, 0), top_l(rows, 0), top_c(cols, 0);
    for (int t = 0; t < 30; ++t) {
      // Gradients that shrink, so that the largest moments are not the last ones.
      matrix_x<S> const g = gradient<S>(t) / typename Case::real(1 + t);
      opt.step(p.ctx, x, p.up(g));
      exact_matrix d = g.template cast<exact>();
      for (std::size_t i = 0; i < l.size(); ++i) {
        l[i] = 0.7L * l[i] + 0.3L / cols * d.row(static_cast<Eigen::Index>(i)).squaredNorm();
        top_l[i] = std::max(top_l[i], l[i]);
      }
      for (std::size_t j = 0; j < c.size(); ++j) {
        c[j] = 0.7L * c[j] + 0.3L / rows * d.col(static_cast<Eigen::Index>(j)).squaredNorm();
        top_c[j] = std::max(top_c[j], c[j]);
      }
      long double const a = side == rasa_side::both ? 0.25L : side == rasa_side::rows ? 0.5L : 0;
      long double const b = side == rasa_side::both ? 0.25L : side == rasa_side::columns ? 0.5L : 0;
      for (Eigen::Index j = 0; j < cols; ++j)
        for (Eigen::Index i = 0; i < rows; ++i)
          d(i, j) *= std::pow(top_l[static_cast<std::size_t>(i)] + 1e-3L, -a) *
                     std::pow(top_c[static_cast<std::size_t>(j)] + 1e-3L, -b);
      y -= exact(0.05L) * (d + exact(0.1L) * y);
    }
    BOOST_TEST(near(p.down(x), y, tolerance<S>(30)));
    auto const moments = p.down(opt.row_moments());
    for (Eigen::Index i = 0; i < rows; ++i) {
      double const expected = static_cast<double>(top_l[static_cast<std::size_t>(i)]);
      BOOST_TEST(std::abs(moments(i, 1) - expected) <= tolerance<S>(30) * expected);
      BOOST_TEST(moments(i, 0) < moments(i, 1));
    }
  }
}

// --- curvature -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, complex_cases) {
  using S = typename Case::scalar;
  constexpr double condition = 4;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, condition, 2));
  for_each_optimizer([&](auto const& make) {
    place<Case> p;
    auto const minus_target = p.up(matrix_x<S>(-target));
    auto x = p.up(orthonormal_frame<S>(n, k, 3));
    double rate = make.procrustes_rate;
    auto opt = make(p.ctx, stiefel{n, k}, x, rate);
    // A step by the mean square has a length near the rate, however short the gradient.
    bool const falls = make.steps_keep_their_length;
    for (int t = 0; t < 700; ++t, rate *= falls ? 0.98 : 1) {
      opt.set_learning_rate(rate);
      opt.step(p.ctx, x, minus_target);
    }
    BOOST_TEST(near(p.down(x), best, tolerance<S>(n, condition) + (falls ? 10 * rate : 0)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal, Case, complex_cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  for_each_optimizer([&](auto const& make) {
    place<Case> p;
    auto x = p.up(orthonormal_frame<S>(rows, cols, 1));
    matrix_x<S> const start = p.down(x);
    auto opt = make(p.ctx, stiefel{rows, cols}, x, 0.05);
    for (int t = 0; t < (host ? 1000 : 30); ++t) opt.step(p.ctx, x, p.up(gradient<S>(t)));
    matrix_x<S> const y = p.down(x);
    matrix_x<S> const defect = loop_product(loop_adjoint(y), y) - matrix_x<S>::Identity(cols, cols);
    BOOST_TEST(static_cast<double>(defect.norm()) <= tolerance<S>(rows));
    BOOST_TEST(!near(y, start, tolerance<S>(rows)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(decay_is_the_tangent_part_of_the_point, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  matrix_x<S> const v = random_matrix<S>(rows, cols, 2);
  {
    // A point of a Stiefel manifold is normal to it.
    auto const x = p.up(orthonormal_frame<S>(rows, cols, 1));
    auto d = p.up(v);
    add_tangent_decay(p.ctx, stiefel{rows, cols}, 0.5, x, d);
    BOOST_TEST(near(p.down(d), v, tolerance<S>(rows)));
  }
  {
    matrix_x<S> const at = random_matrix<S>(rows, cols, 3);
    auto d = p.up(v);
    add_tangent_decay(p.ctx, euclidean{rows, cols}, 0.5, p.up(at), d);
    BOOST_TEST(near(p.down(d), matrix_x<S>(v + real(0.5) * at), tolerance<S>(rows)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rasa_steps_along_a_tangent_vector, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(rows, cols, 1), g = gradient<S>(1);
  stiefel const m{rows, cols};
  auto x = p.up(start), y = p.up(start), d = p.up(g);
  stiefelx::rasa opt(p.ctx, m, x,
                     {.learning_rate = 0.5, .decay = 0, .side = stiefelx::rasa_side::rows});
  opt.step(p.ctx, x, p.up(g));
  project(p.ctx, m, y, d, d);
  matrix_x<S> scaled = p.down(d);
  for (Eigen::Index i = 0; i < rows; ++i)
    scaled.row(i) /= std::sqrt(scaled.row(i).squaredNorm() / real(cols) + real(1e-8));
  d = p.up(matrix_x<S>(real(-0.5) * scaled));
  project(p.ctx, m, y, d, d);
  retract(p.ctx, m, y, d, y);
  BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(rows, 10)));
}

// --- gradients that are not finite, zero gradients, errors ---------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_that_is_not_finite_changes_nothing, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  auto const test = [](auto const& construct) {
    for (real bad :
         {std::numeric_limits<real>::quiet_NaN(), std::numeric_limits<real>::infinity()}) {
      place<Case> p;
      auto x = p.up(orthonormal_frame<S>(rows, cols, 1));
      auto opt = construct(p.ctx, x);
      for (int t = 0; t < 2; ++t) {
        auto status = status_matrix<typename Case::backend>(p.ctx);
        matrix_x<S> const before = p.down(x);
        auto const state = arrays_of(p, opt);
        matrix_x<S> g = gradient<S>(t);
        g(3, 1) = S(bad);
        opt.step(p.ctx, x, p.up(g), status);
        BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
        BOOST_TEST(same(p.down(x), before));
        auto const after = arrays_of(p, opt);
        for (std::size_t i = 0; i < state.size(); ++i) BOOST_TEST(same(after[i], state[i]));
        auto good = status_matrix<typename Case::backend>(p.ctx);
        opt.step(p.ctx, x, p.up(gradient<S>(t)), good);
        BOOST_TEST(status_value(p.ctx, good) == 0);
        BOOST_TEST(!same(p.down(x), before));
      }
    }
  };
  for_each_optimizer([&](auto const& make) {
    test([&](auto& ctx, auto const& x) { return make(ctx, stiefel{rows, cols}, x, 0.05); });
  });
  test([](auto& ctx, auto const& x) { return stiefelx::sgd(ctx, x, {.momentum = 0.5}); });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, complex_cases) {
  using S = typename Case::scalar;
  for_each_optimizer([&](auto const& make) {
    place<Case> p;
    matrix_x<S> const start = orthonormal_frame<S>(rows, cols, 1);
    auto x = p.up(start);
    auto opt = make(p.ctx, stiefel{rows, cols}, x, 0.05);
    for (int t = 0; t < 5; ++t)
      opt.step(p.ctx, x, p.up(matrix_x<S>(matrix_x<S>::Zero(rows, cols))));
    BOOST_TEST(near(p.down(x), start, tolerance<S>(rows)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(rows, cols, 1));
  auto wrong = p.up(random_matrix<double>(cols, rows, 1));
  stiefel const m{rows, cols};
  using std::string;
  auto const rms = [&](stiefelx::rmsprop_options o) {
    return message_of([&] { stiefelx::riemannian_rmsprop(p.ctx, m, x, o); });
  };
  BOOST_TEST(rms({.decay = 1}) ==
             "riemannian_rmsprop: decay is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(rms({.momentum = -1}) ==
             "riemannian_rmsprop: momentum is -1.000000, expected a number in [0, 1)");
  BOOST_TEST(rms({.epsilon = 0}) ==
             "riemannian_rmsprop: epsilon is 0.000000, expected a number above 0");
  BOOST_TEST(message_of([&] { stiefelx::riemannian_adagrad(p.ctx, m, x, {.start = -1}); }) ==
             "riemannian_adagrad: start is -1.000000, expected a number of at least 0");
  BOOST_TEST(message_of([&] { stiefelx::rasa(p.ctx, m, x, {.weight_decay = -1}); }) ==
             "rasa: weight_decay is -1.000000, expected a number of at least 0");
  BOOST_TEST(message_of([&] { stiefelx::sgd(p.ctx, x, {.momentum = 1}); }) ==
             "sgd: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(
      message_of([&] { stiefelx::riemannian_momentum(p.ctx, m, x, {.weight_decay = -1}); }) ==
      "riemannian_momentum: weight_decay is -1.000000, expected a number of at least 0");
  auto const steps = [&](auto opt) {
    string const name = decltype(opt)::name;
    BOOST_TEST(message_of([&] { opt.step(p.ctx, wrong, x); }) ==
               name + "::step: x is 3x5, expected 5x3");
    BOOST_TEST(message_of([&] { opt.step(p.ctx, x, wrong); }) ==
               name + "::step: g is 3x5, expected 5x3");
    BOOST_TEST(message_of([&] { opt.step(p.ctx, x, x); }) ==
               name + "::step: x overlaps g, expected separate memory");
  };
  steps(make_rmsprop{}(p.ctx, m, x, 0.1));
  steps(make_adagrad{}(p.ctx, m, x, 0.1));
  steps(make_rasa{}(p.ctx, m, x, 0.1));
  steps(stiefelx::sgd(p.ctx, x));
}

BOOST_AUTO_TEST_SUITE_END()
