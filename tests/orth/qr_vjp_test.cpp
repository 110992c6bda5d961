// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The reverse rules of QR and Gram-Schmidt: central differences, a dense linear system, laws.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/vjp.hpp>
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
using stiefelx::not_finite;
using stiefelx::rank_deficient;
using stiefelx::stack;

/// Every scalar and both backends, each once: for laws that need not see every pair.
using law_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

struct extent {
  index_t rows, cols;
  index_t rank() const { return std::min(rows, cols); }
};

std::vector<extent> const extents{{1, 1}, {6, 1}, {1, 4}, {4, 4}, {7, 3}, {3, 7}};

/// q, r of a with a positive diagonal, each column projected twice by plain loops. Columns that are
/// named as dropped, and those beyond the rows, have no column of q.
template <class S>
factor_pair<S> plain_qr(matrix_x<S> const& a, std::vector<index_t> const& dropped = {}) {
  index_t const k = std::min(a.rows(), a.cols());
  factor_pair<S> found{matrix_x<S>::Zero(a.rows(), k), matrix_x<S>::Zero(k, a.cols())};
  auto& [q, r] = found;
  for (index_t j = 0; j < a.cols(); ++j) {
    matrix_x<S> v = a.middleCols(j, 1);
    for (int pass = 0; pass < 2; ++pass)
      for (index_t i = 0; i < std::min(j, k); ++i) {
        S const along = loop_product(loop_adjoint(matrix_x<S>(q.middleCols(i, 1))), v)(0, 0);
        r(i, j) += along;
        v -= q.middleCols(i, 1) * along;
      }
    if (j >= k || std::count(dropped.begin(), dropped.end(), j) > 0) continue;
    double const length = std::sqrt(real_inner(v, v));
    r(j, j) = S(static_cast<stiefelx::real_of_t<S>>(length));
    q.col(j) = v / r(j, j);
  }
  return found;
}

/// Cotangents of q and r; what r's has below the diagonal must count for nothing.
template <class S>
factor_pair<S> cotangents(extent size, std::uint64_t seed) {
  return {random_matrix<S>(size.rows, size.rank(), seed),
          random_matrix<S>(size.rank(), size.cols, seed + 1)};
}

template <class S>
matrix_x<S> oracle(factor_pair<S> const& factors, factor_pair<S> const& cotangent) {
  auto const& [q, r] = factors;
  matrix_x<S> const no_q = q * S(0), no_r = r * S(0);
  std::vector<factor_pair<S>> directions;
  for (auto const& unit : units<S>(q.rows(), q.cols())) directions.push_back({unit, no_r});
  for (auto const& unit : units<S>(r.rows(), r.cols())) {
    bool allowed = true;
    for (index_t j = 0; j < r.rows(); ++j) {
      allowed = allowed && std::imag(unit(j, j)) == 0;
      for (index_t i = j + 1; i < r.rows(); ++i) allowed = allowed && unit(i, j) == S(0);
    }
    if (allowed) directions.push_back({no_q, unit});
  }
  return solved_cotangent<S>(
      directions,
      [&](auto const& d) {
        return matrix_x<S>(loop_product(d.first, r) + loop_product(q, d.second));
      },
      [&](auto const& d) {
        matrix_x<S> const s = loop_product(loop_adjoint(q), d.first);
        return matrix_x<S>(s + loop_adjoint(s));
      },
      cotangent, q.rows(), r.cols());
}

enum class rule { qr, gram_schmidt };

template <class S>
struct gradient {
  matrix_x<S> da;
  int status;
};

template <class Case>
gradient<typename Case::scalar> reverse(rule which, factor_pair<typename Case::scalar> const& f,
                                        factor_pair<typename Case::scalar> const& cotangent) {
  place<Case> here;
  auto& ctx = here.ctx;
  auto const q = here.up(f.first), r = here.up(f.second);
  auto const dq = here.up(cotangent.first), dr = here.up(cotangent.second);
  auto da = here.up(matrix_x<typename Case::scalar>::Constant(f.first.rows(), f.second.cols(), 7));
  auto status = status_matrix<typename Case::backend>(ctx);
  if (which == rule::qr)
    stiefelx::qr_vjp(ctx, q, r, dq, dr, da, status);
  else
    stiefelx::gram_schmidt_vjp(ctx, q, r, dq, dr, da, status);
  return {here.down(da), status_value(ctx, status)};
}

template <class S>
matrix_x<S> sample(extent size, std::uint64_t seed) {
  matrix_x<S> a = random_matrix<S>(size.rows, size.cols, seed);
  for (index_t j = 0; j < size.rank(); ++j) a(j, j) += S(3);
  return a;
}

template <class S>
void falls(rule which) {
  using host_case = test_case<host_backend, S>;
  for (auto const size : extents) BOOST_TEST_CONTEXT(size.rows << "x" << size.cols) {
      // A real matrix of one row has q = 1 or -1, and r is linear: no error to fall.
      if (size.rows == 1 && std::is_floating_point_v<S>) continue;
      matrix_x<S> const a = sample<S>(size, 1),
                        direction = random_matrix<S>(size.rows, size.cols, 2);
      auto const cotangent = cotangents<S>(size, 3);
      auto const da = reverse<host_case>(which, plain_qr(a), cotangent).da;
      auto const loss = [&](double h) {
        auto const moved = plain_qr<S>(a + direction * S(h));
        matrix_x<S> upper = cotangent.second;
        for (index_t j = 0; j < upper.rows(); ++j)
          for (index_t i = j + 1; i < upper.rows(); ++i) upper(i, j) = S(0);
        return real_inner(cotangent.first, moved.first) + real_inner(upper, moved.second);
      };
      BOOST_TEST(falls_as_square(loss, real_inner(da, direction)));
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(qr_vjp)

BOOST_AUTO_TEST_CASE(central_differences_approach_the_derivative_as_the_square) {
  for (auto const which : {rule::qr, rule::gram_schmidt}) {
    falls<double>(which);
    falls<std::complex<double>>(which);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_entry_is_that_of_the_dense_system, Case, complex_cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  for (auto const size : extents)
    for (auto const which : {rule::qr, rule::gram_schmidt})
      BOOST_TEST_CONTEXT(size.rows << "x" << size.cols << ", rule " << static_cast<int>(which)) {
        auto const factors = plain_qr<wide>(loop_cast<wide>(sample<S>(size, 1)));
        auto const cotangent = cotangents<S>(size, 3);
        matrix_x<wide> const expected = oracle<wide>(
            factors, {loop_cast<wide>(cotangent.first), loop_cast<wide>(cotangent.second)});
        auto const found = reverse<Case>(
            which, {loop_cast<S>(factors.first), loop_cast<S>(factors.second)}, cotangent);
        BOOST_TEST(found.status == 0);
        BOOST_TEST(near(found.da, expected, tolerance<S>(size.rows, 10)));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(both_rules_agree_up_to_the_condition_number, Case, law_cases) {
  using S = typename Case::scalar;
  extent const size{60, 20};
  for (double const condition : {1.0, 1e2, 1e3}) BOOST_TEST_CONTEXT("condition " << condition) {
      auto const factors = plain_qr(conditioned_matrix<S>(size.rows, size.cols, condition, 5));
      auto const cotangent = cotangents<S>(size, 3);
      auto const first = reverse<Case>(rule::qr, factors, cotangent);
      auto const second = reverse<Case>(rule::gram_schmidt, factors, cotangent);
      BOOST_TEST(first.status == 0);
      BOOST_TEST(second.status == 0);
      BOOST_TEST(near(first.da, second.da, tolerance<S>(size.rows, condition)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_rule_is_linear_in_the_cotangent, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents)
    for (auto const which : {rule::qr, rule::gram_schmidt}) {
      auto const factors = plain_qr(sample<S>(size, 1));
      auto const a = cotangents<S>(size, 3), b = cotangents<S>(size, 5);
      matrix_x<S> const expected =
          reverse<Case>(which, factors, a).da * S(2) - reverse<Case>(which, factors, b).da;
      auto const found =
          reverse<Case>(which, factors, {a.first * S(2) - b.first, a.second * S(2) - b.second});
      BOOST_TEST(near(found.da, expected, tolerance<S>(size.rows, 10)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_cotangent_normal_to_the_frames_gives_zero, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents)
    for (auto const which : {rule::qr, rule::gram_schmidt}) {
      auto const factors = plain_qr(sample<S>(size, 1));
      matrix_x<S> const z = random_matrix<S>(size.rank(), size.rank(), 4);
      matrix_x<S> const normal = loop_product(factors.first, matrix_x<S>(z + loop_adjoint(z)));
      auto const found = reverse<Case>(which, factors, {normal, factors.second * S(0)});
      matrix_x<S> const zero = matrix_x<S>::Zero(size.rows, size.cols);
      BOOST_TEST(near(found.da, zero, tolerance<S>(size.rows, 10),
                      static_cast<double>(frobenius(table(normal)))));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_cotangent_of_the_frame_is_blind_to_triangular_factors, Case,
                              law_cases) {
  using S = typename Case::scalar;
  extent const size{7, 4};
  matrix_x<S> const a = sample<S>(size, 1);
  auto const factors = plain_qr(a);
  for (auto const which : {rule::qr, rule::gram_schmidt}) {
    auto const da =
        reverse<Case>(which, factors, {random_matrix<S>(7, 4, 3), factors.second * S(0)}).da;
    // q of a u is q of a for every upper triangular u with a positive diagonal.
    matrix_x<S> const along = loop_product(loop_adjoint(a), da);
    double const allowed =
        tolerance<S>(7, 10) * static_cast<double>(frobenius(table(a)) * frobenius(table(da)));
    for (index_t j = 0; j < 4; ++j) {
      BOOST_TEST(std::abs(std::real(along(j, j))) <= allowed);
      for (index_t i = 0; i < j; ++i) BOOST_TEST(std::abs(along(i, j)) <= allowed);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(dependent_columns_are_reported, Case, law_cases) {
  using S = typename Case::scalar;
  extent const size{8, 3};
  constexpr double eps = std::numeric_limits<typename Case::real>::epsilon();
  for (double const part : {0.0, 0.01 * eps, 1e3 * eps}) {
    matrix_x<S> a = orthonormal_frame<S>(8, 3, 1);
    factor_pair<S> factors{a, matrix_x<S>::Identity(3, 3)};
    factors.second(0, 2) = S(1);
    factors.second(2, 2) = S(static_cast<typename Case::real>(part));
    for (auto const which : {rule::qr, rule::gram_schmidt})
      BOOST_TEST_CONTEXT("part " << part << ", rule " << static_cast<int>(which)) {
        int const status = reverse<Case>(which, factors, cotangents<S>(size, 3)).status;
        BOOST_TEST(((status & rank_deficient) != 0) == (part < eps));
      }
  }
}

BOOST_AUTO_TEST_CASE(a_dropped_column_is_differentiated_as_if_it_stayed_dropped) {
  using S = std::complex<double>;
  extent const size{7, 4};
  matrix_x<S> a = sample<S>(size, 1);
  a.col(2) = a.col(0) * S(2, 1) - a.col(1);
  std::vector<index_t> const dropped{2};
  matrix_x<S> const direction = random_matrix<S>(7, 4, 2);
  auto cotangent = cotangents<S>(size, 3);
  auto const found =
      reverse<test_case<host_backend, S>>(rule::gram_schmidt, plain_qr(a, dropped), cotangent);
  BOOST_TEST(found.status == rank_deficient);
  for (index_t j = 0; j < 4; ++j) cotangent.second.col(j).tail(3 - j).setZero();
  auto const loss = [&](double h) {
    auto const moved = plain_qr<S>(a + direction * S(h), dropped);
    return real_inner(cotangent.first, moved.first) + real_inner(cotangent.second, moved.second);
  };
  BOOST_TEST(falls_as_square(loss, real_inner(found.da, direction)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stack_has_the_gradients_of_its_matrices, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : {extent{6, 3}, extent{3, 5}}) {
    index_t const count = 5, k = size.rank(), p = size.cols;
    place<Case> here;
    matrix_x<S> q(size.rows, k * count), r(k, p * count), dq = q, dr = r;
    for (index_t item = 0; item < count; ++item) {
      auto const seed = static_cast<std::uint64_t>(item);
      auto const factors = plain_qr(sample<S>(size, seed));
      auto const cotangent = cotangents<S>(size, 10 + seed);
      q.middleCols(item * k, k) = factors.first;
      r.middleCols(item * p, p) = factors.second;
      dq.middleCols(item * k, k) = cotangent.first;
      dr.middleCols(item * p, p) = cotangent.second;
    }
    r(0, 3 * p) = S(0);
    auto const q_up = here.up(q), r_up = here.up(r), dq_up = here.up(dq), dr_up = here.up(dr);
    auto da = here.up(matrix_x<S>::Constant(size.rows, p * count, 7));
    auto qr = here.up(here.down(da));
    auto status = here.up(matrix_x<int>::Zero(1, count));
    stiefelx::gram_schmidt_vjp(here.ctx, stack{count}, q_up, r_up, dq_up, dr_up, da, status);
    stiefelx::qr_vjp(here.ctx, stack{count}, q_up, r_up, dq_up, dr_up, qr);
    BOOST_TEST(same(here.down(da), here.down(qr)));
    for (index_t item = 0; item < count; ++item) {
      factor_pair<S> const own{q.middleCols(item * k, k), r.middleCols(item * p, p)};
      factor_pair<S> const slopes{dq.middleCols(item * k, k), dr.middleCols(item * p, p)};
      auto const expected = reverse<Case>(rule::gram_schmidt, own, slopes);
      BOOST_TEST(same(here.down(da).middleCols(item * p, p), expected.da));
      BOOST_TEST(here.down(status)(0, item) == expected.status);
      BOOST_TEST(expected.status == (item == 3 ? rank_deficient : 0));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_gradient_may_replace_the_cotangent, Case, law_cases) {
  using S = typename Case::scalar;
  auto const factors = plain_qr(sample<S>({6, 3}, 1));
  auto const cotangent = cotangents<S>({6, 3}, 3);
  place<Case> here;
  auto const q = here.up(factors.first), r = here.up(factors.second);
  auto const dr = here.up(cotangent.second);
  auto first = here.up(cotangent.first), second = here.up(cotangent.first);
  stiefelx::qr_vjp(here.ctx, q, r, first, dr, first);
  stiefelx::gram_schmidt_vjp(here.ctx, q, r, second, dr, second);
  BOOST_TEST(same(here.down(first), reverse<Case>(rule::qr, factors, cotangent).da));
  BOOST_TEST(same(here.down(second), reverse<Case>(rule::gram_schmidt, factors, cotangent).da));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(numbers_that_are_not_finite_are_reported, Case, law_cases) {
  using S = typename Case::scalar;
  S const bad(std::numeric_limits<typename Case::real>::quiet_NaN());
  for (auto const which : {rule::qr, rule::gram_schmidt})
    for (int place = 0; place < 4; ++place) {
      auto factors = plain_qr(sample<S>({5, 3}, 1));
      auto slopes = cotangents<S>({5, 3}, 3);
      auto& pair = place < 2 ? factors : slopes;
      (place % 2 == 0 ? pair.first : pair.second)(1, 1) = bad;
      BOOST_TEST((reverse<Case>(which, factors, slopes).status & not_finite) != 0);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  place<Case> here;
  auto& ctx = here.ctx;
  auto const q = here.up(random_matrix<double>(6, 3, 1)),
             r = here.up(random_matrix<double>(3, 3, 2));
  auto da = here.up(random_matrix<double>(6, 3, 3)), dr = here.up(random_matrix<double>(3, 3, 4));
  auto const cut = q.middleRows(0, 5);
  auto const says = [](auto const& f, char const* expected) {
    BOOST_TEST(message_of(f) == expected);
  };
  says([&] { stiefelx::qr_vjp(ctx, cut, r, q, r, da); }, "qr_vjp: q is 5x3, expected 6x3");
  says([&] { stiefelx::qr_vjp(ctx, q, q, q, r, da); }, "qr_vjp: r is 6x3, expected 3x3");
  says([&] { stiefelx::qr_vjp(ctx, q, r, cut, r, da); }, "qr_vjp: dq is 5x3, expected 6x3");
  says([&] { stiefelx::qr_vjp(ctx, q, r, q, q, da); }, "qr_vjp: dr is 6x3, expected 3x3");
  says([&] { stiefelx::qr_vjp(ctx, da, r, q, r, da); },
       "qr_vjp: da overlaps q, expected separate memory");
  says([&] { stiefelx::gram_schmidt_vjp(ctx, q, da.middleRows(0, 3), q, r, da); },
       "gram_schmidt_vjp: da overlaps r, expected separate memory");
  says([&] { stiefelx::gram_schmidt_vjp(ctx, q, r, q, da.middleRows(0, 3), da); },
       "gram_schmidt_vjp: da overlaps dr, expected separate memory");
  says([&] { stiefelx::gram_schmidt_vjp(ctx, stack{2}, q, r, q, r, da); },
       "gram_schmidt_vjp: da has 3 columns, expected a multiple of the 2 matrices of the stack");
  auto status = here.up(matrix_x<int>::Zero(1, 2));
  says([&] { stiefelx::qr_vjp(ctx, stack{1}, q, r, q, r, da, status); },
       "qr_vjp: status is 1x2, expected 1x1");
}

BOOST_AUTO_TEST_SUITE_END()
