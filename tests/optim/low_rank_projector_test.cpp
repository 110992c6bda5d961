// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The low-rank projector of past inputs: exact while it has room, and never more than exact.

#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>

#include <Eigen/Eigenvalues>
#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/low_rank_projector.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

/// The matrix that a projector applies.
template <class Case, class Projector>
matrix_x<typename Case::scalar> matrix_of(place<Case>& p, Projector const& projector, index_t d) {
  using S = typename Case::scalar;
  auto y = p.up(matrix_x<S>::Identity(d, d));
  projector.apply(p.ctx, y, y);
  return p.down(y);
}

/// Whether p is (I + S / alpha)^-1 for inputs with S = inputs inputs^H.
template <class S>
boost::test_tools::assertion_result is_projector_of(matrix_x<S> const& p, matrix_x<S> const& inputs,
                                                    double alpha) {
  using W = stiefelx::wide_t<S>;
  matrix_x<W> const a = loop_cast<W>(inputs), one = matrix_x<W>::Identity(p.rows(), p.rows());
  matrix_x<W> const inverse = one + loop_product(a, loop_adjoint(a)) / alpha;
  return near(loop_product(loop_cast<W>(p), inverse), one, tolerance<S>(p.rows(), inverse.norm()));
}

/// Both backends, real and complex.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(low_rank_projector)

BOOST_AUTO_TEST_CASE_TEMPLATE(few_directions_give_the_inverse, Case, cases) {
  using S = typename Case::scalar;
  for (double alpha : {0.2, 5.0}) {
    place<Case> p;
    stiefelx::low_rank_projector projector(p.ctx, p.up(matrix_x<S>::Zero(9, 2)),
                                           {.rank = 3, .alpha = alpha});
    BOOST_TEST(same(matrix_of(p, projector, 9), matrix_x<S>::Identity(9, 9)));
    matrix_x<S> const start = p.down(projector.basis());
    BOOST_TEST(same(start.adjoint() * start, matrix_x<S>::Identity(3, 3)));
    matrix_x<S> const frame = random_matrix<S>(9, 3, 1);
    matrix_x<S> all(9, 0);
    std::uint64_t seed = 2;
    for (index_t count : {1, 2, 0, 11, 1}) {
      matrix_x<S> const a = frame * random_matrix<S>(3, count, seed++);
      matrix_x<S> const before = all;
      all.resize(9, before.cols() + count);
      all << before, a;
      projector.observe(p.ctx, p.up(a));
      BOOST_TEST_CONTEXT("alpha " << alpha << ", " << count << " inputs")
      BOOST_TEST(is_projector_of(matrix_of(p, projector, 9), all, alpha));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(alpha_zero_is_the_orthogonal_projector, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  stiefelx::low_rank_projector projector(p.ctx, p.up(matrix_x<S>::Zero(8, 1)),
                                         {.rank = 4, .alpha = 0});
  // Two directions of very different energy, met repeatedly; two places of the basis stay free.
  matrix_x<S> a = random_matrix<S>(8, 2, 1);
  a.col(1) *= S(1e-2);
  for (int t = 0; t < 100; ++t) projector.observe(p.ctx, p.up(a));
  matrix_x<S> const found = matrix_of(p, projector, 8);
  BOOST_TEST(near(found * found, found, tolerance<S>(8)));
  BOOST_TEST(near(found, found.adjoint(), tolerance<S>(8)));
  for (index_t j = 0; j < 2; ++j)
    BOOST_TEST(near(found * a.col(j), matrix_x<S>::Zero(8, 1), tolerance<S>(8, 100),
                    static_cast<double>(a.col(j).norm())));
  BOOST_TEST(std::abs(std::abs(found.trace()) - 6) <= tolerance<S>(8));
  auto const parts = p.down(projector.removed_parts(p.ctx));
  for (index_t j = 0; j < 4; ++j) BOOST_TEST(parts(0, j) == (j < 2 ? 1 : 0));
}

BOOST_AUTO_TEST_CASE(the_cap_keeps_the_strongest_directions_and_removes_no_more) {
  using solver = Eigen::SelfAdjointEigenSolver<matrix_x<double>>;
  stiefelx::host::context ctx;
  // One block, so that the cut is that of the whole: at most 32 inputs and d - m = 4 here.
  matrix_x<double> all = random_matrix<double>(7, 4, 1);
  stiefelx::low_rank_projector projector(ctx, all, {.rank = 3});
  projector.observe(ctx, all);
  matrix_x<double> const squares = projector.roots().cwiseAbs2().transpose();
  solver const first(all * all.transpose(), Eigen::EigenvaluesOnly);
  BOOST_TEST(near(squares, first.eigenvalues().tail(3).reverse(), tolerance<double>(7)));
  matrix_x<double> const more = random_matrix<double>(7, 36, 2);
  projector.observe(ctx, more);
  matrix_x<double> const kept =
      projector.basis() * projector.roots().cwiseAbs2().asDiagonal() * projector.basis().adjoint();
  matrix_x<double> const whole = all * all.transpose() + more * more.transpose();
  solver const lost(whole - kept, Eigen::EigenvaluesOnly);
  BOOST_TEST(lost.eigenvalues().minCoeff() >= -tolerance<double>(40) * whole.norm());
  BOOST_TEST(lost.eigenvalues().maxCoeff() > 1);
}

BOOST_AUTO_TEST_CASE(thousands_of_updates_in_float_keep_the_basis_orthonormal) {
  stiefelx::host::context ctx;
  matrix_x<float> const inputs = random_matrix<float>(12, 500, 1);
  stiefelx::low_rank_projector projector(ctx, inputs, {.rank = 4});
  matrix_x<double> const on = matrix_x<double>::Ones(1, 1);
  for (int t = 0; t < 3000; ++t) {
    projector.observe(ctx, inputs.middleCols(t % 499, 1 + t % 2));
    projector.forget(ctx, 0.999, on);
  }
  matrix_x<double> const u = projector.basis().cast<double>();
  BOOST_TEST(near(u.transpose() * u, matrix_x<double>::Identity(4, 4), tolerance<float>(12)));
  BOOST_TEST(projector.roots()(0, 3) > 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(forgetting_scales_the_inputs_of_the_past, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  stiefelx::low_rank_projector projector(p.ctx, p.up(matrix_x<S>::Zero(6, 1)),
                                         {.rank = 4, .alpha = 1});
  matrix_x<S> const a = random_matrix<S>(6, 2, 1), b = random_matrix<S>(6, 2, 2);
  projector.observe(p.ctx, p.up(a));
  auto const before = p.down(projector.roots());
  projector.forget(p.ctx, 0.25, p.number(0.0));
  projector.forget(p.ctx, 1.0, p.number(1.0));
  BOOST_TEST(same(p.down(projector.roots()), before));
  projector.forget(p.ctx, 0.25, p.number(1.0));
  projector.observe(p.ctx, p.up(b));
  matrix_x<S> all(6, 4);
  all << a * S(0.5), b;
  BOOST_TEST(is_projector_of(matrix_of(p, projector, 6), all, 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(inputs_that_are_not_finite_change_no_bit, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  stiefelx::low_rank_projector projector(p.ctx, p.up(matrix_x<S>::Zero(6, 1)), {.rank = 2});
  projector.observe(p.ctx, p.up(random_matrix<S>(6, 3, 1)));
  auto const basis = p.down(projector.basis());
  auto const roots = p.down(projector.roots());
  using Real = typename Case::real;
  for (S bad :
       {S(std::numeric_limits<Real>::quiet_NaN()), S(std::numeric_limits<Real>::infinity())}) {
    auto status = status_matrix<typename Case::backend>(p.ctx);
    matrix_x<S> a = random_matrix<S>(6, 3, 2);
    a(0, 2) = bad;
    projector.observe(p.ctx, p.up(a), status);
    BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
    BOOST_TEST(same(p.down(projector.basis()), basis));
    BOOST_TEST(same(p.down(projector.roots()), roots));
  }
  auto status = status_matrix<typename Case::backend>(p.ctx);
  projector.observe(p.ctx, p.up(matrix_x<S>::Zero(6, 2)), status);
  BOOST_TEST(status_value(p.ctx, status) == 0);
  BOOST_TEST(near(p.down(projector.roots()), roots, tolerance<S>(6)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(copied_arrays_go_on_with_the_same_bits, Case, cases) {
  using S = typename Case::scalar;
  place<Case> p;
  auto like = p.up(matrix_x<S>::Zero(6, 1));
  stiefelx::low_rank_projector one(p.ctx, like, {.rank = 3}), other(p.ctx, like, {.rank = 3});
  one.observe(p.ctx, p.up(random_matrix<S>(6, 4, 1)));
  std::string names;
  one.for_each_array([&](std::string const& name, auto& from) {
    names += name + " ";
    auto const kept = p.up(p.down(from));
    other.for_each_array([&](std::string const& place_name, auto& to) {
      using stiefelx::scalar_t;
      if constexpr (std::is_same_v<scalar_t<decltype(kept)>, scalar_t<decltype(to)>>)
        if (place_name == name) copy(p.ctx, kept, to);
    });
  });
  BOOST_TEST(names == "basis roots ");
  one.observe(p.ctx, p.up(random_matrix<S>(6, 2, 2)));
  other.observe(p.ctx, p.up(random_matrix<S>(6, 2, 2)));
  BOOST_TEST(same(p.down(one.basis()), p.down(other.basis())));
  BOOST_TEST(same(p.down(one.roots()), p.down(other.roots())));
  BOOST_TEST(decltype(one)::bytes(6, 3) ==
             static_cast<double>(18 * sizeof(S) + 3 * sizeof(typename Case::real)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(4, 3, 1));
  auto tall = p.up(random_matrix<double>(5, 3, 1));
  auto wide = p.up(random_matrix<double>(4, 6, 1));
  auto const made = [&](stiefelx::low_rank_projector_options o) {
    return message_of([&] { stiefelx::low_rank_projector(p.ctx, x, o); });
  };
  std::string const ranks = "a number of at least 1, and below the number of inputs";
  BOOST_TEST(made({.rank = 4}) == "low_rank_projector: rank is 4, expected " + ranks);
  BOOST_TEST(made({.rank = 0}) == "low_rank_projector: rank is 0, expected " + ranks);
  BOOST_TEST(made({.rank = 2, .alpha = -1}) ==
             "low_rank_projector: alpha is -1.000000, expected a number of at least 0");
  stiefelx::low_rank_projector projector(p.ctx, x, {.rank = 2});
  BOOST_TEST(message_of([&] { projector.observe(p.ctx, tall); }) ==
             "low_rank_projector::observe: a is 5x3, expected 4x3");
  BOOST_TEST(message_of([&] { projector.apply(p.ctx, tall, x); }) ==
             "low_rank_projector::apply: g is 5x3, expected 4x3");
  BOOST_TEST(message_of([&] { projector.apply(p.ctx, x, tall); }) ==
             "low_rank_projector::apply: y is 5x3, expected 4x3");
  BOOST_TEST(
      message_of([&] { projector.apply(p.ctx, wide.middleCols(0, 3), wide.middleCols(1, 3)); }) ==
      "low_rank_projector::apply: y overlaps g, expected the same matrix or separate "
      "memory");
  BOOST_TEST(message_of([&] { projector.forget(p.ctx, 0, p.number(1.0)); }) ==
             "low_rank_projector::forget: rho is 0.000000, expected a number in (0, 1]");
}

BOOST_AUTO_TEST_SUITE_END()
