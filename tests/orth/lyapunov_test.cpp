// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The Lyapunov equation: a dense Kronecker system, eigenvalues that are known, residuals, statuses.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <tuple>

#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/lyapunov.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::not_converged;
using stiefelx::not_finite;

/// Every scalar and both backends, each once: for laws that need not see every pair.
using law_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

using complex_x = matrix_x<std::complex<double>>;

template <class S>
struct solution {
  matrix_x<S> s;
  int status;
};

template <class Case>
solution<typename Case::scalar> solve_case(matrix_x<typename Case::scalar> const& m,
                                           matrix_x<typename Case::scalar> const& c,
                                           int iterations = 0) {
  place<Case> here;
  auto const a = here.up(m), right = here.up(c);
  auto s = here.up(matrix_x<typename Case::scalar>::Constant(c.rows(), c.cols(), 7));
  auto status = status_matrix<typename Case::backend>(here.ctx);
  stiefelx::lyapunov(here.ctx, a, right, s, status, {.iterations = iterations});
  return {here.down(s), status_value(here.ctx, status)};
}

struct dense_solution {
  complex_x s;
  double condition;  ///< 2 |m| over the separation of m and -m^H, at least
};

/// The linear system of all entries: (I x m + conj(m) x I) vec(s) = vec(c).
dense_solution kronecker(complex_x const& m, complex_x const& c) {
  index_t const p = m.rows();
  complex_x system = complex_x::Zero(p * p, p * p);
  for (index_t i = 0; i < p; ++i)
    for (index_t j = 0; j < p; ++j)
      for (index_t k = 0; k < p; ++k) {
        system(i + j * p, k + j * p) += m(i, k);
        system(i + j * p, i + k * p) += std::conj(m(j, k));
      }
  complex_x const inverse = system.partialPivLu().inverse();
  complex_x right(p * p, 1);
  for (index_t j = 0; j < p; ++j) right.middleRows(j * p, p) = c.col(j);
  complex_x const all = inverse * right;
  dense_solution found{complex_x(p, p), 2 * m.norm() * inverse.norm()};
  for (index_t j = 0; j < p; ++j) found.s.col(j) = all.middleRows(j * p, p);
  return found;
}

/// |c - m s - s m^H| relative to the terms that it is a difference of, in wide arithmetic.
template <class S>
double backward_error(matrix_x<S> const& m, matrix_x<S> const& c, matrix_x<S> const& s) {
  using wide = std::complex<long double>;
  matrix_x<wide> const a = loop_cast<wide>(m), x = loop_cast<wide>(s), b = loop_cast<wide>(c);
  matrix_x<wide> const rest = b - loop_product(a, x) - loop_product(x, loop_adjoint(a));
  auto const size = [](auto const& z) { return std::sqrt(z.cwiseAbs2().sum()); };
  return static_cast<double>(size(rest) / (2 * size(a) * size(x) + size(b)));
}

/// Eigenvalues in the right half plane: those of a random matrix, moved by 3 sqrt(p).
template <class S>
matrix_x<S> shifted(index_t p, std::uint64_t seed) {
  using real = stiefelx::real_of_t<S>;
  matrix_x<S> m = random_matrix<S>(p, p, seed);
  for (index_t j = 0; j < p; ++j) m(j, j) += S(real(3) * std::sqrt(static_cast<real>(p)));
  return m;
}

/// d I plus a skew-Hermitian matrix of unit size: all eigenvalues at distance d from the edge.
template <class S>
matrix_x<S> near_the_edge(index_t p, double d, std::uint64_t seed) {
  using real = stiefelx::real_of_t<S>;
  matrix_x<S> const a = random_matrix<S>(p, p, seed);
  matrix_x<S> m = a - loop_adjoint(a);
  m /= static_cast<real>(std::max(1e-3, static_cast<double>(frobenius(table(m)))));
  for (index_t j = 0; j < p; ++j) m(j, j) += S(static_cast<real>(d));
  return m;
}

template <class S>
constexpr double worst = std::is_same_v<stiefelx::real_of_t<S>, float> ? 1e5 : 1e12;

}  // namespace

BOOST_AUTO_TEST_SUITE(lyapunov)

BOOST_AUTO_TEST_CASE_TEMPLATE(the_solution_is_that_of_the_kronecker_system, Case, complex_cases) {
  using S = typename Case::scalar;
  for (index_t const p : {1, 2, 5, 9}) {
    matrix_x<S> const c = random_matrix<S>(p, p, 2);
    for (auto const& m : {shifted<S>(p, 1), near_the_edge<S>(p, 1e-3, 3),
                          matrix_x<S>(positive_matrix<S>(p, 1e3, 4))})
      BOOST_TEST_CONTEXT("p = " << p << ", m(0, 0) = " << m(0, 0)) {
        auto const expected =
            kronecker(loop_cast<std::complex<double>>(m), loop_cast<std::complex<double>>(c));
        auto const found = solve_case<Case>(m, c);
        BOOST_TEST(found.status == 0);
        BOOST_TEST(near(found.s, expected.s, tolerance<S>(p, expected.condition)));
      }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_residual_is_rounding_at_every_condition_number, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const c = random_matrix<S>(8, 8, 2);
  for (double condition = 1; condition <= worst<S>; condition *= 10)
    for (auto const& m :
         {matrix_x<S>(positive_matrix<S>(8, condition, 1)), near_the_edge<S>(8, 1 / condition, 5)})
      BOOST_TEST_CONTEXT("condition " << condition << ", m(0, 0) = " << m(0, 0)) {
        auto const found = solve_case<Case>(m, c);
        BOOST_TEST(found.status == 0);
        BOOST_TEST(backward_error(m, c, found.s) < tolerance<S>(1));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_positive_matrix_divides_by_sums_of_eigenvalues, Case, law_cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  // Repeated eigenvalues, and one far below.
  double const values[] = {2, 2, 2, 0.5, 0.5, 1e-3};
  index_t const p = 6;
  matrix_x<wide> const u = orthonormal_frame<wide>(p, p, 1);
  matrix_x<wide> inside = random_matrix<wide>(p, p, 2), divided = inside, scaled = u;
  for (index_t j = 0; j < p; ++j) {
    scaled.col(j) *= values[j];
    for (index_t i = 0; i < p; ++i) divided(i, j) /= values[i] + values[j];
  }
  auto const turned = [&](matrix_x<wide> const& a) {
    return loop_cast<S>(loop_product(loop_product(u, a), loop_adjoint(u)));
  };
  matrix_x<S> const m = loop_cast<S>(loop_product(scaled, loop_adjoint(u)));
  for (int const iterations : {0, 12}) {
    auto const found = solve_case<Case>(m, turned(inside), iterations);
    BOOST_TEST(found.status == 0);
    BOOST_TEST(near(found.s, turned(divided), tolerance<S>(p, 2 / 1e-3)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(small_cases_have_known_solutions, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const c = random_matrix<S>(4, 4, 1);
  matrix_x<S> const three = matrix_x<S>::Identity(4, 4) * S(3);
  BOOST_TEST(near(solve_case<Case>(three, c).s, c / S(6), tolerance<S>(1)));
  // One Jordan block: s = [5 -2; -2 2] for the right side [6 0; 0 4].
  matrix_x<S> m(2, 2), right(2, 2), s(2, 2);
  m << S(1), S(1), S(0), S(1);
  right << S(6), S(-2), S(-2), S(4);
  s << S(5), S(-2), S(-2), S(2);
  BOOST_TEST(near(solve_case<Case>(m, right).s, s, tolerance<S>(2)));
  BOOST_TEST(solve_case<Case>(matrix_x<S>(0, 0), matrix_x<S>(0, 0)).status == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_hermitian_or_skew_side_gives_a_solution_of_its_kind, Case,
                              law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const m = shifted<S>(7, 1), z = random_matrix<S>(7, 7, 2);
  matrix_x<S> const h = solve_case<Case>(m, z + loop_adjoint(z)).s;
  matrix_x<S> const k = solve_case<Case>(m, z - loop_adjoint(z)).s;
  BOOST_TEST(near(h, loop_adjoint(h), tolerance<S>(7)));
  BOOST_TEST(near(k, -loop_adjoint(k), tolerance<S>(7)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_matrix_off_the_right_half_plane_is_reported, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const c = random_matrix<S>(5, 5, 2);
  matrix_x<S> mixed = matrix_x<S>::Identity(5, 5);
  mixed(2, 2) = S(-3);
  matrix_x<S> singular = matrix_x<S>::Identity(5, 5);
  singular(4, 4) = S(0);
  matrix_x<S> const skew = random_matrix<S>(5, 5, 3);
  for (auto const& m :
       {matrix_x<S>(-shifted<S>(5, 1)), mixed, singular, matrix_x<S>(matrix_x<S>::Zero(5, 5)),
        matrix_x<S>(skew - loop_adjoint(skew))})
    BOOST_TEST_CONTEXT("m(2, 2) = " << m(2, 2))
  BOOST_TEST(solve_case<Case>(m, c).status == not_converged);
  // Also where s = c / 2 solves the equation.
  matrix_x<S> corner = c * S(0);
  corner(0, 0) = S(2);
  BOOST_TEST(solve_case<Case>(mixed, corner).status == not_converged);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(entries_that_are_not_finite_are_reported, Case, law_cases) {
  using S = typename Case::scalar;
  using limits = std::numeric_limits<typename Case::real>;
  for (auto const bad : {limits::quiet_NaN(), limits::infinity()})
    for (bool const in_m : {true, false})
      for (int const iterations : {0, 4}) {
        matrix_x<S> m = shifted<S>(4, 1), c = random_matrix<S>(4, 4, 2);
        (in_m ? m : c)(1, 2) = S(bad);
        BOOST_TEST((solve_case<Case>(m, c, iterations).status & not_finite) != 0);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(twelve_iterations_do_and_one_does_not, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const m = positive_matrix<S>(30, worst<S>, 1), c = random_matrix<S>(30, 30, 2);
  auto const found = solve_case<Case>(m, c, 12);
  BOOST_TEST(found.status == 0);
  BOOST_TEST(backward_error(m, c, found.s) < tolerance<S>(1));
  BOOST_TEST(solve_case<Case>(m, c, 1).status == not_converged);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  place<Case> here;
  auto const m = here.up(shifted<double>(3, 1));
  auto s = here.up(shifted<double>(3, 1));
  auto& ctx = here.ctx;
  auto const cut = m.middleCols(0, 2);
  BOOST_TEST(message_of([&] { stiefelx::lyapunov(ctx, cut, m, s); }) ==
             "lyapunov: m is 3x2, expected 2x2");
  BOOST_TEST(message_of([&] { stiefelx::lyapunov(ctx, m, cut, s); }) ==
             "lyapunov: c is 3x2, expected 3x3");
  BOOST_TEST(message_of([&] { stiefelx::lyapunov(ctx, m, m, s.middleCols(0, 2)); }) ==
             "lyapunov: s is 3x2, expected 3x3");
  BOOST_TEST(message_of([&] { stiefelx::lyapunov(ctx, m, s, s); }) ==
             "lyapunov: s overlaps c, expected separate memory");
  BOOST_TEST(message_of([&] { stiefelx::lyapunov(ctx, s, m, s); }) ==
             "lyapunov: s overlaps m, expected separate memory");
  BOOST_TEST(message_of([&] {
               stiefelx::lyapunov(ctx, m, m, s, stiefelx::no_status{}, {.iterations = -1});
             }) == "lyapunov: iterations is -1, expected a number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
