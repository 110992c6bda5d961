// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The drift contract: which retractions keep points orthonormal over many steps, and the policy
// that does it for the others. The sizes are small; the bounds are those of the full size, shared
// out.

#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/drift.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_pade.hpp>
#include <stiefelx/manifold/stiefel_polar_light.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;

/// Every scalar and both backends, each once: for laws that need not see every pair.
using law_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

using host_float = test_case<host_backend, float>;

/// Item 6 of the geometry: at p = 32 in float the error stays below 5e-6, and it grows as p.
constexpr double allowed(index_t p) { return 5e-6 * static_cast<double>(p) / 32; }

double error_of(matrix_x<float> const& x) {
  matrix_x<double> const fine = loop_cast<double>(x);
  matrix_x<double> defect = loop_product(loop_adjoint(fine), fine);
  for (index_t j = 0; j < x.cols(); ++j) defect(j, j) -= 1;
  return static_cast<double>(frobenius(table(defect)));
}

/// The largest error after steps of norm 0.1 in random directions.
template <class How>
double worst_error(stiefel m, int steps, How const& how, drift_policy const& policy = {}) {
  place<host_float> here;
  random_stream stream{7, 0};
  matrix_x<float> x(m.n, m.p), v(m.n, m.p);
  random_point(here.ctx, m, stream, x);
  restabilizer keeper(policy);
  double worst = 0;
  for (int k = 0; k < steps; ++k) {
    random_tangent(here.ctx, m, stream, x, v);
    v *= 0.1F;
    retract(here.ctx, m, x, v, x, how);
    keeper.step(here.ctx, m, x, how);
    if (k % 7 == 0 || k > steps - 40) worst = std::max(worst, error_of(x));
  }
  return worst;
}

/// A frame whose Gram matrix is off by an error of the size.
template <class S>
matrix_x<S> drifted(index_t n, index_t p, double size) {
  matrix_x<S> const x = orthonormal_frame<S>(n, p, 1), z = random_matrix<S>(p, p, 2);
  auto const part =
      static_cast<stiefelx::real_of_t<S>>(size / static_cast<double>(frobenius(table(z))));
  return x + loop_product(x, z) * S(part);
}

template <class Case>
matrix_x<typename Case::scalar> repaired(matrix_x<typename Case::scalar> const& a,
                                         drift_policy const& policy) {
  place<Case> here;
  auto x = here.up(a);
  restabilize(here.ctx, stiefel{a.rows(), a.cols()}, x, policy);
  return here.down(x);
}

template <class Case>
double drift_of(matrix_x<typename Case::scalar> const& a) {
  place<Case> here;
  auto const x = here.up(a);
  auto s = here.number(typename Case::real(7));
  drift(here.ctx, stiefel{a.rows(), a.cols()}, x, s);
  return static_cast<double>(value(here.ctx, s));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(drift)

BOOST_AUTO_TEST_CASE(retractions_that_correct_drift_stay_orthonormal_alone) {
  stiefel const m{64, 8};
  drift_policy const never{.every = 0};
  BOOST_TEST(worst_error(m, 1000, qr_retraction{}, never) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, polar_retraction{6}, never) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, polar_light_retraction{.iterations = 6}, never) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, cayley_iteration_retraction{}, never) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, restabilized{exponential_retraction{}}, never) < allowed(8));
}

BOOST_AUTO_TEST_CASE(the_others_stay_orthonormal_under_the_default_policy) {
  stiefel const m{64, 8};
  BOOST_TEST(worst_error(m, 1000, cayley_retraction{}) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, pade_retraction{}) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, cayley_iteration_retraction{5, 0}) < allowed(8));
  BOOST_TEST(worst_error(m, 1000, exponential_retraction{}) < allowed(8));
}

BOOST_AUTO_TEST_CASE(the_others_drift_without_a_policy) {
  stiefel const m{64, 8};
  drift_policy const never{.every = 0};
  BOOST_TEST(worst_error(m, 1000, exponential_retraction{}, never) > allowed(8));
}

BOOST_AUTO_TEST_CASE(the_full_size_stays_orthonormal_from_the_start) {
  stiefel const m{256, 32};
  BOOST_TEST(worst_error(m, 200, qr_retraction{}) < allowed(32));
  BOOST_TEST(worst_error(m, 100, polar_retraction{6}) < allowed(32));
  BOOST_TEST(worst_error(m, 100, cayley_retraction{}) < allowed(32));
}

BOOST_AUTO_TEST_CASE(every_retraction_states_whether_it_corrects_drift) {
  struct unknown_retraction {};
  static_assert(corrects_drift(qr_retraction{}));
  static_assert(corrects_drift(polar_retraction{}));
  static_assert(corrects_drift(polar_light_retraction{}));
  static_assert(corrects_drift(cayley_iteration_retraction{}));
  static_assert(!corrects_drift(cayley_iteration_retraction{5, 0}));
  static_assert(!corrects_drift(cayley_retraction{}));
  static_assert(!corrects_drift(pade_retraction{}));
  static_assert(!corrects_drift(exponential_retraction{}));
  static_assert(!corrects_drift(unknown_retraction{}));
  static_assert(corrects_drift(restabilized{cayley_retraction{}}));
}

/// One step from a drifted point: what corrects drift leaves rounding, what does not leaves drift.
template <class Case, class How>
double error_after_a_step(How const& how) {
  using S = typename Case::scalar;
  place<Case> here;
  stiefel const m{20, 4};
  matrix_x<S> const a = drifted<S>(20, 4, 1e-2);
  auto const x = here.up(a);
  auto v = here.up(tangent_vector<S>(orthonormal_frame<S>(20, 4, 1), 3) * S(0.1)), y = here.up(a);
  retract(here.ctx, m, x, v, y, how);
  return drift_of<Case>(here.down(y));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_statement_is_what_one_step_from_a_drifted_point_shows, Case,
                              law_cases) {
  using S = typename Case::scalar;
  auto const check = [](auto const& how, double limit) {
    double const error = error_after_a_step<Case>(how);
    BOOST_TEST((error < limit) == corrects_drift(how), "error " << error << ", limit " << limit);
  };
  check(qr_retraction{}, tolerance<S>(20));
  check(polar_retraction{}, tolerance<S>(20));
  check(polar_light_retraction{}, tolerance<S>(20));
  check(cayley_retraction{}, 5e-3);
  check(pade_retraction{}, 5e-3);
  check(exponential_retraction{}, 5e-3);
  // One Newton-Schulz step squares the error.
  check(cayley_iteration_retraction{}, 2e-4);
  check(cayley_iteration_retraction{5, 0}, 5e-3);
  check(restabilized{exponential_retraction{}}, 2e-4);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_meter_reads_the_error_of_the_gram_matrix, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(9, 4, 1);
  BOOST_TEST(drift_of<Case>(x) < tolerance<S>(9));
  // (1 + t)^2 - 1 on each of four diagonal entries, t = 1/8.
  BOOST_TEST(std::abs(drift_of<Case>(x * S(1.125)) - 2 * 0.265625) < tolerance<S>(9));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(newton_schulz_squares_the_error_and_qr_removes_it, Case,
                              complex_cases) {
  using S = typename Case::scalar;
  for (double const size : {0.1, 0.01, 0.001}) {
    matrix_x<S> const a = drifted<S>(12, 5, size);
    double const before = drift_of<Case>(a);
    // 3/4 d^2 + d^3/4 in each direction, and d is at most a fifth here.
    double const after = drift_of<Case>(repaired<Case>(a, {}));
    BOOST_TEST(after < 0.8 * before * before + tolerance<S>(12));
    BOOST_TEST(drift_of<Case>(repaired<Case>(a, {.repair = drift_repair::qr})) < tolerance<S>(12));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(newton_schulz_goes_to_the_nearest_point, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const x = orthonormal_frame<S>(12, 5, 1), z = random_matrix<S>(5, 5, 2);
  // A Hermitian error is normal to the manifold: the nearest point is x itself.
  matrix_x<S> const h = (z + loop_adjoint(z)) * S(1e-5);
  matrix_x<S> const found = repaired<Case>(x + loop_product(x, h), {});
  BOOST_TEST(near(found, x, tolerance<S>(12) + 1e-8));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_point_below_the_limit_keeps_its_bits, Case, law_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = drifted<S>(12, 5, 0.01);
  double const error = drift_of<Case>(a);
  for (auto const repair : {drift_repair::newton_schulz, drift_repair::qr}) {
    BOOST_TEST(same(repaired<Case>(a, {.above = 1.01 * error, .repair = repair}), a));
    BOOST_TEST(same(repaired<Case>(a, {.above = 0.99 * error, .repair = repair}),
                    repaired<Case>(a, {.repair = repair})));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_policy_looks_at_every_kth_step, Case, double_cases) {
  place<Case> here;
  stiefel const m{6, 2};
  auto x = here.up(orthonormal_frame<double>(6, 2, 1));
  restabilizer keeper({.every = 3}), never({.every = 0}), standard;
  for (int k = 1; k <= 9; ++k) {
    BOOST_TEST(keeper.step(here.ctx, m, x, cayley_retraction{}) == (k % 3 == 0));
    BOOST_TEST(keeper.steps() == k % 3);
    BOOST_TEST(!keeper.step(here.ctx, m, x, qr_retraction{}));
    BOOST_TEST(!never.step(here.ctx, m, x, cayley_retraction{}));
  }
  for (int k = 1; k <= standard.policy().every; ++k)
    BOOST_TEST(standard.step(here.ctx, m, x, cayley_retraction{}) == (k % 8 == 0));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_point_of_a_stack_is_restabilized_by_its_own_error, Case,
                              double_cases) {
  place<Case> here;
  matrix_x<double> all(9, 6);
  all << orthonormal_frame<double>(9, 3, 4), drifted<double>(9, 3, 0.01);
  auto x = here.up(all);
  restabilize(here.ctx, power<stiefel>{{9, 3}, 2}, x, {.above = 1e-3});
  matrix_x<double> const found = here.down(x);
  BOOST_TEST(same(found.leftCols(3), all.leftCols(3)));
  BOOST_TEST(same(found.rightCols(3), repaired<Case>(all.rightCols(3), {})));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_number_that_is_not_finite_stays_in_sight, Case, real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> a = orthonormal_frame<S>(6, 2, 1);
  a(3, 1) = std::numeric_limits<S>::quiet_NaN();
  BOOST_TEST(std::isnan(repaired<Case>(a, {})(3, 1)));
  BOOST_TEST(std::isnan(repaired<Case>(a, {.above = 0.1})(3, 1)));
  BOOST_TEST(std::isnan(drift_of<Case>(a)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  place<Case> here;
  auto x = here.up(orthonormal_frame<double>(6, 2, 1));
  auto& ctx = here.ctx;
  BOOST_TEST(message_of([&] { restabilize(ctx, stiefel{5, 2}, x); }) ==
             "restabilize: x is 6x2, expected 5x2");
  BOOST_TEST(message_of([&] { restabilize(ctx, power<stiefel>{{6, 2}, 2}, x); }) ==
             "restabilize: x is 6x2, expected 6x4");
  BOOST_TEST(message_of([&] { stiefelx::drift(ctx, stiefel{6, 2}, x, x.middleRows(0, 1)); }) ==
             "drift: s is 1x2, expected 1x1");
  BOOST_TEST(message_of([&] { restabilizer keeper({.every = -1}); }) ==
             "restabilizer: drift_policy::every is -1, expected a number of at least 0");
  BOOST_TEST(message_of([&] { restabilize(ctx, stiefel{6, 2}, x, {.above = -0.5}); }) ==
             "restabilize: drift_policy::above is -0.500000, expected a number of at least 0");
}

BOOST_AUTO_TEST_SUITE_END()
