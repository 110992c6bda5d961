// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Optimizers on manifolds: the Euclidean methods where there is no curvature, known optima where
// there is, and gradients that are not finite.

#include <cmath>
#include <complex>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::momentum_options;
using stiefelx::riemannian_adam_options;
using stiefelx::stiefel;

template <class S>
matrix_x<S> gradient(index_t n, index_t p, int t) {
  return random_matrix<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// Makes an optimizer of either kind, so that one test serves both.
struct make_momentum {
  template <class Ctx, class M, class X>
  auto operator()(Ctx& ctx, M m, X const& x) const {
    return stiefelx::riemannian_momentum(ctx, m, x, {.learning_rate = 0.05});
  }
};
struct make_adam {
  template <class Ctx, class M, class X>
  auto operator()(Ctx& ctx, M m, X const& x) const {
    return stiefelx::riemannian_adam(ctx, m, x, {.learning_rate = 0.05});
  }
};

/// Runs f with a maker of each optimizer.
template <class F>
void for_each_optimizer(F const& f) {
  BOOST_TEST_CONTEXT("momentum") f(make_momentum{});
  BOOST_TEST_CONTEXT("adam") f(make_adam{});
}

/// The arrays of an optimizer's state, by the scalar they have.
template <class S>
struct state_arrays {
  std::vector<matrix_x<S>> points;
  std::vector<matrix_x<double>> numbers;
};

template <class Case, class Opt>
state_arrays<typename Case::scalar> arrays_of(place<Case>& p, Opt& opt) {
  state_arrays<typename Case::scalar> all;
  opt.for_each_array([&](char const*, auto& a) {
    if constexpr (std::is_same_v<stiefelx::scalar_t<decltype(a)>, typename Case::scalar>)
      all.points.push_back(p.down(a));
    else
      all.numbers.push_back(p.down(a));
  });
  return all;
}

template <class S>
double orthonormality(matrix_x<S> const& x) {
  matrix_x<S> const defect =
      loop_product(loop_adjoint(x), x) - matrix_x<S>::Identity(x.cols(), x.cols());
  return static_cast<double>(defect.norm());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(riemannian)

// --- no curvature --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(momentum_on_euclidean_is_heavy_ball, Case, complex_cases) {
  using S = typename Case::scalar;
  using exact = std::complex<long double>;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(4, 3, 1);
  auto x = p.up(start);
  momentum_options const o{.learning_rate = 0.05, .momentum = 0.8};
  stiefelx::riemannian_momentum opt(p.ctx, euclidean{4, 3}, x, o);
  matrix_x<exact> y = start.template cast<exact>(), u = matrix_x<exact>::Zero(4, 3);
  for (int t = 0; t < 50; ++t) {
    matrix_x<S> const g = gradient<S>(4, 3, t);
    opt.step(p.ctx, x, p.up(g));
    u = exact(0.8L) * u + g.template cast<exact>();
    y -= exact(0.05L) * u;
  }
  BOOST_TEST(near(p.down(opt.velocity()), u, tolerance<S>(50)));
  BOOST_TEST(near(p.down(x), y, tolerance<S>(50)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(adam_on_euclidean_is_adam_with_one_moment, Case, complex_cases) {
  using S = typename Case::scalar;
  using exact = std::complex<long double>;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(4, 3, 1);
  auto x = p.up(start);
  riemannian_adam_options const o{.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.95};
  stiefelx::riemannian_adam opt(p.ctx, euclidean{4, 3}, x, o);
  matrix_x<exact> y = start.template cast<exact>(), m = matrix_x<exact>::Zero(4, 3);
  long double v = 0;
  for (int t = 1; t <= 50; ++t) {
    matrix_x<S> const g = gradient<S>(4, 3, t);
    opt.step(p.ctx, x, p.up(g));
    m = exact(0.8L) * m + exact(0.2L) * g.template cast<exact>();
    v = 0.95L * v + 0.05L * g.template cast<exact>().squaredNorm();
    long double const root = std::sqrt(v / (1 - std::pow(0.95L, t))) + 1e-8L;
    y -= exact(0.05L / ((1 - std::pow(0.8L, t)) * root)) * m;
  }
  BOOST_TEST(near(p.down(opt.first_moment()), m, tolerance<S>(50)));
  BOOST_TEST(std::abs(p.down(opt.second_moment())(0, 0) - static_cast<double>(v)) <=
             tolerance<S>(50) * static_cast<double>(v));
  BOOST_TEST(near(p.down(x), y, tolerance<S>(50)));
}

// --- known optima --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(procrustes_reaches_the_polar_factor, Case, complex_cases) {
  using S = typename Case::scalar;
  constexpr double condition = 4;
  index_t const n = 8, k = 3;
  matrix_x<S> const best = orthonormal_frame<S>(n, k, 1);
  matrix_x<S> const target = loop_product(best, positive_matrix<S>(k, condition, 2));
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 3);
  // f = -Re tr(x^H c): curvature at the optimum is at least the smallest singular value of c, and
  // the gradient is rounded to eps |c|.
  double const bound = tolerance<S>(n, condition);
  place<Case> p;
  auto const minus_target = p.up(matrix_x<S>(-target));
  {
    auto x = p.up(start);
    stiefelx::riemannian_momentum opt(p.ctx, stiefel{n, k}, x,
                                      {.learning_rate = 0.5, .momentum = 0.5});
    for (int t = 0; t < 400; ++t) opt.step(p.ctx, x, minus_target);
    BOOST_TEST(near(p.down(x), best, bound));
  }
  {
    auto x = p.up(start);
    stiefelx::riemannian_adam opt(p.ctx, stiefel{n, k}, x, {.beta1 = 0.5, .beta2 = 0.9});
    double rate = 0.2;
    for (int t = 0; t < 900; ++t, rate *= 0.98) {
      opt.set_learning_rate(rate);
      opt.step(p.ctx, x, minus_target);
    }
    // A step has a length near the rate, so the point is some last steps from where it is going.
    BOOST_TEST(near(p.down(x), best, bound + 10 * rate));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rayleigh_reaches_the_leading_eigenspace, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 8, k = 3;
  matrix_x<S> const frame = orthonormal_frame<S>(n, n, 1);
  matrix_x<S> weighted = frame;
  real const values[] = {4, real(3.5), 3, 1, real(0.8), real(0.5), 0, -1};
  for (index_t j = 0; j < n; ++j) weighted.col(j) *= values[j];
  matrix_x<S> const matrix = loop_product(weighted, loop_adjoint(frame));
  matrix_x<S> const lead = frame.leftCols(k);
  matrix_x<S> const best = loop_product(lead, loop_adjoint(lead));
  place<Case> p;
  auto const a = p.up(matrix_x<S>(-matrix));
  auto x = p.up(orthonormal_frame<S>(n, k, 3));
  stiefelx::riemannian_momentum opt(p.ctx, stiefel{n, k}, x,
                                    {.learning_rate = 0.2, .momentum = 0.5});
  for (int t = 0; t < 300; ++t) opt.step(p.ctx, x, product(p.ctx, a, x));
  matrix_x<S> const found = p.down(x);
  // The gap is 2 and the matrix has norm 4.
  BOOST_TEST(near(loop_product(found, loop_adjoint(found)), best, tolerance<S>(n, 4.0 / 2)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_stay_orthonormal_and_moments_tangent, Case, complex_cases) {
  using S = typename Case::scalar;
  constexpr bool host = std::is_same_v<typename Case::backend, host_backend>;
  int const steps = host ? 2000 : 50;
  index_t const n = 12, k = 4;
  double const bound = tolerance<S>(n);
  auto const symmetric_part = [](matrix_x<S> const& x, matrix_x<S> const& v) {
    matrix_x<S> const s = loop_product(loop_adjoint(x), v);
    return static_cast<double>((s + loop_adjoint(s)).norm() / v.norm());
  };
  place<Case> p;
  matrix_x<S> const start = orthonormal_frame<S>(n, k, 1);
  {
    auto x = p.up(start);
    auto opt = make_momentum{}(p.ctx, stiefel{n, k}, x);
    matrix_x<S> before;
    for (int t = 0; t < steps; ++t) {
      before = p.down(x);
      opt.step(p.ctx, x, p.up(gradient<S>(n, k, t)));
    }
    BOOST_TEST(orthonormality(p.down(x)) <= bound);
    BOOST_TEST(symmetric_part(before, p.down(opt.velocity())) <= bound);
    BOOST_TEST(!near(p.down(x), start, 0.1));
  }
  {
    auto x = p.up(start);
    auto opt = make_adam{}(p.ctx, stiefel{n, k}, x);
    for (int t = 0; t < steps; ++t) opt.step(p.ctx, x, p.up(gradient<S>(n, k, t)));
    BOOST_TEST(orthonormality(p.down(x)) <= bound);
    BOOST_TEST(symmetric_part(p.down(x), p.down(opt.first_moment())) <= bound);
    BOOST_TEST(!near(p.down(x), start, 0.1));
  }
}

// --- gradients that are not finite, zero gradients, saved states ---------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_that_is_not_finite_changes_nothing, Case, complex_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = 6, k = 2;
  for_each_optimizer([&](auto const& make) {
    for (real bad : {std::numeric_limits<real>::quiet_NaN(), std::numeric_limits<real>::infinity(),
                     -std::numeric_limits<real>::infinity()}) {
      place<Case> p;
      auto x = p.up(orthonormal_frame<S>(n, k, 1));
      auto twin = p.up(orthonormal_frame<S>(n, k, 1));
      auto opt = make(p.ctx, stiefel{n, k}, x);
      auto other = make(p.ctx, stiefel{n, k}, twin);
      for (int t = 0; t < 4; ++t) {
        auto status = status_matrix<typename Case::backend>(p.ctx);
        matrix_x<S> const before = p.down(x);
        auto const state = arrays_of(p, opt);
        matrix_x<S> g = gradient<S>(n, k, t);
        g(3, 1) = S(bad);
        opt.step(p.ctx, x, p.up(g), status);
        BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
        BOOST_TEST(same(p.down(x), before));
        auto const after = arrays_of(p, opt);
        for (std::size_t i = 0; i < state.points.size(); ++i)
          BOOST_TEST(same(after.points[i], state.points[i]));
        for (std::size_t i = 0; i < state.numbers.size(); ++i)
          BOOST_TEST(same(after.numbers[i], state.numbers[i]));
        // A step with a good gradient goes on as if the bad one had never been.
        auto good = status_matrix<typename Case::backend>(p.ctx);
        opt.step(p.ctx, x, p.up(gradient<S>(n, k, t)), good);
        other.step(p.ctx, twin, p.up(gradient<S>(n, k, t)), stiefelx::no_status{});
        BOOST_TEST(status_value(p.ctx, good) == 0);
        BOOST_TEST(same(p.down(x), p.down(twin)));
        BOOST_TEST(!same(p.down(x), before));
      }
    }
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_zero_gradient_keeps_the_point, Case, complex_cases) {
  using S = typename Case::scalar;
  for_each_optimizer([&](auto const& make) {
    place<Case> p;
    matrix_x<S> const start = orthonormal_frame<S>(6, 2, 1);
    auto x = p.up(start);
    auto opt = make(p.ctx, stiefel{6, 2}, x);
    for (int t = 0; t < 5; ++t) opt.step(p.ctx, x, p.up(matrix_x<S>::Zero(6, 2)));
    BOOST_TEST(near(p.down(x), start, tolerance<S>(6)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_state_goes_on_with_the_same_bits, Case, complex_cases) {
  using S = typename Case::scalar;
  for_each_optimizer([&](auto const& make) {
    place<Case> p;
    auto x = p.up(orthonormal_frame<S>(6, 2, 1));
    auto opt = make(p.ctx, stiefel{6, 2}, x);
    for (int t = 0; t < 3; ++t) opt.step(p.ctx, x, p.up(gradient<S>(6, 2, t)));
    auto x_loaded = p.up(p.down(x));
    auto loaded = make(p.ctx, stiefel{6, 2}, x_loaded);
    auto const saved = arrays_of(p, opt);
    std::size_t point = 0, number = 0;
    loaded.for_each_array([&](char const*, auto& a) {
      if constexpr (std::is_same_v<stiefelx::scalar_t<decltype(a)>, S>)
        copy(p.ctx, p.up(saved.points[point++]), a);
      else
        copy(p.ctx, p.up(saved.numbers[number++]), a);
    });
    BOOST_TEST(point == saved.points.size());
    BOOST_TEST(number == saved.numbers.size());
    for (int t = 3; t < 6; ++t) {
      opt.step(p.ctx, x, p.up(gradient<S>(6, 2, t)));
      loaded.step(p.ctx, x_loaded, p.up(gradient<S>(6, 2, t)));
    }
    BOOST_TEST(same(p.down(x), p.down(x_loaded)));
  });
}

// --- forms and errors ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(row_major_and_strided_points_are_taken) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for_each_optimizer([](auto const& make) {
    stiefelx::host::context ctx;
    matrix_x<double> x = orthonormal_frame<double>(5, 3, 1);
    row_major by_rows = x;
    matrix_x<double> all = matrix_x<double>::Constant(12, 3, -77);
    Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<12, 2>> strided(all.data(), 5, 3);
    strided = x;
    Eigen::Matrix<double, 5, 3> fixed = x;
    auto a = make(ctx, stiefel{5, 3}, x);
    auto b = make(ctx, stiefel{5, 3}, by_rows);
    auto c = make(ctx, stiefel{5, 3}, strided);
    auto d = make(ctx, stiefel{5, 3}, fixed);
    for (int t = 0; t < 3; ++t) {
      matrix_x<double> const g = gradient<double>(5, 3, t);
      row_major const g_by_rows = g;
      a.step(ctx, x, g);
      b.step(ctx, by_rows, g_by_rows);
      c.step(ctx, strided, 2 * g - g);
      d.step(ctx, fixed, Eigen::Matrix<double, 5, 3>(g));
    }
    double const bound = tolerance<double>(5);
    BOOST_TEST(near(by_rows, x, bound));
    BOOST_TEST(near(strided, x, bound));
    BOOST_TEST(near(fixed, x, bound));
    strided.setConstant(-77);
    BOOST_TEST((all.array() == -77).all());
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  auto wrong = p.up(random_matrix<double>(3, 5, 1));
  auto all = p.up(random_matrix<double>(5, 5, 1));
  stiefel const m{5, 3};
  auto const momentum = [&](momentum_options o) {
    return message_of([&] { stiefelx::riemannian_momentum(p.ctx, m, x, o); });
  };
  auto const adam = [&](riemannian_adam_options o) {
    return message_of([&] { stiefelx::riemannian_adam(p.ctx, m, x, o); });
  };
  BOOST_TEST(momentum({.learning_rate = -1}) ==
             "riemannian_momentum: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(momentum({.momentum = 1}) ==
             "riemannian_momentum: momentum is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(adam({.learning_rate = -1}) ==
             "riemannian_adam: learning_rate is -1.000000, expected a number of at least 0");
  BOOST_TEST(adam({.beta1 = 1}) ==
             "riemannian_adam: beta1 is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(adam({.beta2 = -1}) ==
             "riemannian_adam: beta2 is -1.000000, expected a number in [0, 1)");
  BOOST_TEST(adam({.epsilon = 0}) ==
             "riemannian_adam: epsilon is 0.000000, expected a number above 0");
  auto const steps = [&](std::string const& name, auto opt) {
    BOOST_TEST(message_of([&] { opt.step(p.ctx, wrong, x); }) ==
               name + "::step: x is 3x5, expected 5x3");
    BOOST_TEST(message_of([&] { opt.step(p.ctx, x, wrong); }) ==
               name + "::step: g is 3x5, expected 5x3");
    BOOST_TEST(message_of([&] { opt.step(p.ctx, x, x); }) ==
               name + "::step: x overlaps g, expected separate memory");
    BOOST_TEST(message_of([&] { opt.step(p.ctx, all.middleCols(0, 3), all.middleCols(2, 3)); }) ==
               name + "::step: x overlaps g, expected separate memory");
  };
  steps("riemannian_momentum", make_momentum{}(p.ctx, m, x));
  steps("riemannian_adam", make_adam{}(p.ctx, m, x));
}

BOOST_AUTO_TEST_SUITE_END()
