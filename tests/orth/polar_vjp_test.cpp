// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The reverse rule of the polar factor: central differences, a dense linear system, laws, and equal
// singular values.

#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/polar_vjp.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "linear_oracle.hpp"

namespace {

using namespace support;
using stiefelx::not_converged;
using stiefelx::not_finite;
using stiefelx::rank_deficient;

/// Every scalar and both backends, each once: for laws that need not see every pair.
using law_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

struct extent {
  index_t rows, cols;
};

std::vector<extent> const extents{{1, 1}, {6, 1}, {4, 4}, {7, 3}};

/// Matrices with a known polar factor: a = q h with h = u diag(values) u^H.
template <class S>
struct sample {
  matrix_x<S> a, q, h;
};

template <class S>
sample<S> with_values(extent size, std::vector<double> const& values) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const q = orthonormal_frame<wide>(size.rows, size.cols, 1);
  matrix_x<wide> const u = orthonormal_frame<wide>(size.cols, size.cols, 2);
  matrix_x<wide> scaled = u;
  for (index_t j = 0; j < size.cols; ++j)
    scaled.col(j) *= values[static_cast<std::size_t>(j) % values.size()];
  matrix_x<wide> const h = loop_product(scaled, loop_adjoint(u));
  return {loop_cast<S>(loop_product(q, h)), loop_cast<S>(q), loop_cast<S>(h)};
}

template <class S>
struct gradient {
  matrix_x<S> da;
  int status;
};

template <class Case>
gradient<typename Case::scalar> reverse(sample<typename Case::scalar> const& at,
                                        matrix_x<typename Case::scalar> const& cotangent,
                                        bool in_place = false, int iterations = 0) {
  place<Case> here;
  auto const a = here.up(at.a), q = here.up(at.q), dq = here.up(cotangent);
  auto da = here.up(cotangent);
  auto status = status_matrix<typename Case::backend>(here.ctx);
  stiefelx::lyapunov_options const options{.iterations = iterations};
  if (in_place)
    stiefelx::polar_vjp(here.ctx, a, q, da, da, status, options);
  else
    stiefelx::polar_vjp(here.ctx, a, q, dq, da, status, options);
  return {here.down(da), status_value(here.ctx, status)};
}

/// dq h + q dh = da with q^H dq skew and dh Hermitian.
template <class S>
matrix_x<S> oracle(sample<S> const& at, matrix_x<S> const& cotangent) {
  matrix_x<S> const no_q = at.q * S(0), no_h = at.h * S(0);
  std::vector<factor_pair<S>> directions;
  for (auto const& unit : units<S>(at.q.rows(), at.q.cols())) directions.push_back({unit, no_h});
  for (auto const& unit : units<S>(at.h.rows(), at.h.cols()))
    directions.push_back({no_q, unit + loop_adjoint(unit)});
  return solved_cotangent<S>(
      directions,
      [&](auto const& d) {
        return matrix_x<S>(loop_product(d.first, at.h) + loop_product(at.q, d.second));
      },
      [&](auto const& d) {
        matrix_x<S> const s = loop_product(loop_adjoint(at.q), d.first);
        return matrix_x<S>(s + loop_adjoint(s));
      },
      {cotangent, no_h}, at.q.rows(), at.q.cols());
}

/// The factor by Newton's iteration x <- (x + x^-H) / 2 of a square matrix, here q^H a.
template <class S>
matrix_x<S> plain_polar(matrix_x<S> const& a) {
  matrix_x<S> g = loop_product(loop_adjoint(a), a), z = matrix_x<S>::Identity(a.cols(), a.cols());
  // The coupled iteration for g^(-1/2); g's size is brought below one.
  double const size = std::sqrt(real_inner(g, g));
  g /= S(size);
  for (int k = 0; k < 40; ++k) {
    matrix_x<S> t = loop_product(z, g) * S(-0.5);
    for (index_t j = 0; j < t.cols(); ++j) t(j, j) += S(1.5);
    g = loop_product(g, t);
    z = loop_product(t, z);
  }
  return loop_product(a, z) / S(std::sqrt(size));
}

template <class S>
void falls() {
  for (auto const size : extents) BOOST_TEST_CONTEXT(size.rows << "x" << size.cols) {
      // A real number has the factor 1 or -1.
      if (size.rows == 1 && std::is_floating_point_v<S>) continue;
      auto const at = with_values<S>(size, {2, 1, 1, 0.7});
      matrix_x<S> const cotangent = random_matrix<S>(size.rows, size.cols, 3);
      matrix_x<S> const direction = random_matrix<S>(size.rows, size.cols, 4);
      auto const da = reverse<test_case<host_backend, S>>(at, cotangent).da;
      auto const loss = [&](double h) {
        return real_inner(cotangent, plain_polar<S>(at.a + direction * S(h)));
      };
      BOOST_TEST(falls_as_square(loss, real_inner(da, direction), 6));
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(polar_vjp)

BOOST_AUTO_TEST_CASE(central_differences_approach_the_derivative_as_the_square) {
  falls<double>();
  falls<std::complex<double>>();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_entry_is_that_of_the_dense_system, Case, complex_cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  // Distinct, equal and nearly equal singular values.
  for (auto const& values : {std::vector<double>{2, 1, 0.5}, {1}, {3, 3, 0.1}, {1, 1 + 1e-9, 1}})
    for (auto const size : extents)
      for (int const iterations : {0, 12})
        BOOST_TEST_CONTEXT(size.rows << "x" << size.cols << ", values from " << values[0]) {
          matrix_x<S> const cotangent = random_matrix<S>(size.rows, size.cols, 3);
          matrix_x<wide> const expected =
              oracle<wide>(with_values<wide>(size, values), loop_cast<wide>(cotangent));
          auto const found =
              reverse<Case>(with_values<S>(size, values), cotangent, false, iterations);
          BOOST_TEST(found.status == 0);
          // The rotation alone, of one number, is zero: measured by the cotangent.
          BOOST_TEST(near(found.da, expected, tolerance<S>(size.rows, 30),
                          static_cast<double>(frobenius(table(cotangent)))));
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_real_square_matrix_may_have_one_tiny_singular_value, Case,
                              real_cases) {
  using S = typename Case::scalar;
  extent const size{4, 4};
  constexpr double eps = std::numeric_limits<S>::epsilon();
  std::vector<double> const values{2, 1, 0.5, 1e4 * eps};
  matrix_x<S> const cotangent = random_matrix<S>(4, 4, 3);
  matrix_x<double> const expected =
      oracle<double>(with_values<double>(size, values), loop_cast<double>(cotangent));
  auto const found = reverse<Case>(with_values<S>(size, values), cotangent);
  BOOST_TEST(found.status == 0);
  // The least sum of two singular values is a half, the largest one is two.
  BOOST_TEST(near(found.da, expected, tolerance<S>(4, 4)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_rule_is_linear_in_the_cotangent, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents) {
    auto const at = with_values<S>(size, {2, 1, 1});
    matrix_x<S> const a = random_matrix<S>(size.rows, size.cols, 3);
    matrix_x<S> const b = random_matrix<S>(size.rows, size.cols, 4);
    matrix_x<S> const expected = reverse<Case>(at, a).da * S(2) - reverse<Case>(at, b).da;
    double const length = static_cast<double>(frobenius(table(a)) + frobenius(table(b)));
    BOOST_TEST(near(reverse<Case>(at, a * S(2) - b).da, expected, tolerance<S>(size.rows), length));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_cotangent_normal_to_the_frames_gives_zero, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents) {
    auto const at = with_values<S>(size, {2, 1, 0.5});
    matrix_x<S> const z = random_matrix<S>(size.cols, size.cols, 4);
    matrix_x<S> const normal = loop_product(at.q, matrix_x<S>(z + loop_adjoint(z)));
    BOOST_TEST(near(reverse<Case>(at, normal).da, normal * S(0), tolerance<S>(size.rows, 4),
                    static_cast<double>(frobenius(table(normal)))));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_gradient_is_normal_to_every_change_of_the_hermitian_factor, Case,
                              law_cases) {
  using S = typename Case::scalar;
  auto const at = with_values<S>({7, 3}, {2, 1, 0.5});
  auto const da = reverse<Case>(at, random_matrix<S>(7, 3, 3)).da;
  // q of q (h + t s) is q for every Hermitian s, so q^H da has no Hermitian part.
  matrix_x<S> const along = loop_product(loop_adjoint(at.q), da);
  BOOST_TEST(near(along, -loop_adjoint(along), tolerance<S>(7, 4),
                  static_cast<double>(frobenius(table(da)))));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_gradient_may_replace_the_cotangent, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents) {
    auto const at = with_values<S>(size, {2, 1, 0.5});
    matrix_x<S> const cotangent = random_matrix<S>(size.rows, size.cols, 3);
    BOOST_TEST(same(reverse<Case>(at, cotangent, true).da, reverse<Case>(at, cotangent).da));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stack_has_the_gradients_of_its_matrices, Case, double_cases) {
  auto const first = with_values<double>({6, 3}, {2, 1, 0.5});
  auto const second = with_values<double>({6, 3}, {1, 1, 0});
  matrix_x<double> const slope = random_matrix<double>(6, 3, 3);
  matrix_x<double> a(6, 6), q(6, 6), dq(6, 6);
  a << first.a, second.a;
  q << first.q, second.q;
  dq << slope, slope;
  place<Case> here;
  auto const a_up = here.up(a), q_up = here.up(q);
  auto da = here.up(dq);
  auto status = here.up(matrix_x<int>::Zero(1, 2));
  stiefelx::polar_vjp(here.ctx, stiefelx::stack{2}, a_up, q_up, da, da, status);
  BOOST_TEST(same(here.down(da).leftCols(3), reverse<Case>(first, slope).da));
  BOOST_TEST(here.down(status)(0, 0) == 0);
  BOOST_TEST(here.down(status)(0, 1) == reverse<Case>(second, slope).status);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(matrices_without_a_derivative_are_reported, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const cotangent = random_matrix<S>(6, 3, 3);
  auto const deficient = reverse<Case>(with_values<S>({6, 3}, {1, 1, 0}), cotangent);
  BOOST_TEST((deficient.status & (rank_deficient | not_converged)) != 0);
  auto const twice = reverse<Case>(with_values<S>({3, 3}, {1, 0, 0}), cotangent.topRows(3));
  BOOST_TEST((twice.status & not_converged) != 0);
  auto at = with_values<S>({6, 3}, {1});
  at.a(2, 1) = S(std::numeric_limits<typename Case::real>::quiet_NaN());
  BOOST_TEST((reverse<Case>(at, cotangent).status & not_finite) != 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  place<Case> here;
  auto& ctx = here.ctx;
  auto const a = here.up(random_matrix<double>(5, 2, 1)),
             dq = here.up(random_matrix<double>(5, 2, 2));
  auto da = here.up(random_matrix<double>(5, 2, 3));
  auto const cut = a.middleRows(0, 4);
  auto const wide = a.middleRows(0, 1);
  auto const says = [](auto const& f, char const* expected) {
    BOOST_TEST(message_of(f) == expected);
  };
  says([&] { stiefelx::polar_vjp(ctx, wide, wide, wide, da); },
       "polar_vjp: a is 1x2, expected at least as many rows as columns");
  says([&] { stiefelx::polar_vjp(ctx, a, cut, dq, da); }, "polar_vjp: q is 4x2, expected 5x2");
  says([&] { stiefelx::polar_vjp(ctx, a, a, cut, da); }, "polar_vjp: dq is 4x2, expected 5x2");
  says([&] { stiefelx::polar_vjp(ctx, cut, cut, cut, da); }, "polar_vjp: da is 5x2, expected 4x2");
  says([&] { stiefelx::polar_vjp(ctx, da, a, dq, da); },
       "polar_vjp: da overlaps a, expected separate memory");
  says([&] { stiefelx::polar_vjp(ctx, a, da, dq, da); },
       "polar_vjp: da overlaps q, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
