// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Team text with two to four lanes against one lane. A thread sanitizer finds in this program every
// barrier that the text lacks.

#include <complex>
#include <cstddef>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/random.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/expert_gram_schmidt.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/householder_qr.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::matrix_ref;
using stiefelx::mixing;
using stiefelx::real_of_t;
using stiefelx::serial_team;

static_assert(stiefelx::Team<stiefelx::thread_team>);
static_assert(stiefelx::Team<serial_team>);

using scalars = std::tuple<float, double, std::complex<double>>;
std::vector<index_t> const lane_counts{2, 3, 4};

template <class S>
matrix_ref<S> ref(matrix_x<S>& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}
template <class S>
matrix_ref<S const> ref(matrix_x<S> const& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}

matrix_ref<int> ref(Eigen::MatrixXi& a) { return {a.data(), a.rows(), a.cols(), a.outerStride()}; }

/// Runs team text on the lanes; 1 is the serial team.
template <class Text>
void run(index_t lanes, Text const& text) {
  if (lanes == 1) {
    text(serial_team{});
  } else {
    stiefelx::run_thread_team(lanes, text);
  }
}

/// Calls a body for its one item, with scratch of its own.
template <class Body, class... A>
void run_body(index_t lanes, index_t item, Body const& body, A... a) {
  std::vector<double> scratch(static_cast<std::size_t>(body.scratch_size()) + 1);
  run(lanes, [&](auto const& team) { body(team, item, scratch.data(), a...); });
}

template <class S>
struct outcome {
  matrix_x<S> q, r;
  Eigen::MatrixXi status;
};

template <class S>
outcome<S> by_gram_schmidt(index_t lanes, matrix_x<S> const& a) {
  index_t const p = a.cols() / 2;
  outcome<S> out{matrix_x<S>::Zero(a.rows(), 2 * p), matrix_x<S>::Zero(p, 2 * p),
                 Eigen::MatrixXi::Zero(1, 2)};
  for (index_t item = 0; item < 2; ++item)
    run_body(lanes, item, stiefelx::gram_schmidt_body{p}, ref(a), ref(out.q), ref(out.r),
             ref(out.status));
  return out;
}

/// One panel by reflections: v in q's place and a's triangle in r's.
template <class S>
outcome<S> by_householder(index_t lanes, matrix_x<S> const& a) {
  index_t const n = a.rows(), p = a.cols();
  matrix_x<S> panel = a, v = matrix_x<S>::Zero(n, p), t = matrix_x<S>::Zero(p, p);
  Eigen::MatrixXi exponents = Eigen::MatrixXi::Zero(1, p), finite = exponents;
  outcome<S> out{v, t, Eigen::MatrixXi::Zero(1, 1)};
  run(lanes, [&](auto const& team) {
    stiefelx::equilibrate_body const equilibrate;
    for (index_t j = 0; j < p; ++j)
      equilibrate(team, j, nullptr, ref(a), ref(panel), ref(exponents), ref(finite));
    team.barrier();
    stiefelx::householder_panel_body{}(team, 0, nullptr, ref(panel), ref(v), ref(t));
    team.barrier();
    // q = (I - v t v^H) I, by one lane; the rest of the text works on q and r.
    if (team.rank() == 0) {
      out.q = matrix_x<S>::Identity(n, p) - v * (t * v.topRows(p).adjoint());
      out.r = panel.topRows(p);
    }
    team.barrier();
    stiefelx::positive_diagonal_body{}(team, 0, nullptr, ref(out.q), ref(out.r), ref(out.status));
    team.barrier();
    stiefelx::rescale_triangle_body const rescale;
    for (index_t j = 0; j < p; ++j) rescale(team, j, nullptr, ref(out.r), ref(exponents));
  });
  return out;
}

template <class S>
double size_of(matrix_x<S> const& a) {
  return static_cast<double>(frobenius(table(a)));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(thread_team)

BOOST_AUTO_TEST_CASE(lanes_have_ranks_and_sums_that_all_agree_on) {
  for (index_t const lanes : {index_t(1), index_t(2), index_t(3), index_t(4)}) {
    std::vector<double> sums(static_cast<std::size_t>(lanes));
    std::vector<int> seen(static_cast<std::size_t>(lanes));
    run(lanes, [&](auto const& team) {
      auto const own = static_cast<std::size_t>(team.rank());
      for (int round = 0; round < 20; ++round) {
        if (team.size() == lanes) ++seen[own];
        sums[own] += team.sum(static_cast<double>(team.rank() + 1));
      }
    });
    double const expected = 20 * static_cast<double>(lanes * (lanes + 1)) / 2;
    for (std::size_t k = 0; k < sums.size(); ++k) {
      BOOST_TEST(sums[k] == expected);
      BOOST_TEST(seen[k] == 20);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_written_before_a_barrier_is_seen_after_it) {
  constexpr index_t lanes = 4;
  std::vector<int> board(lanes, 0);
  std::vector<int> wrong(lanes, 0);
  run(lanes, [&](auto const& team) {
    auto const own = static_cast<std::size_t>(team.rank());
    for (int round = 1; round <= 50; ++round) {
      board[own] = round;
      team.barrier();
      for (int const each : board) wrong[own] += each != round;
      team.barrier();
    }
  });
  for (int const each : wrong) BOOST_TEST(each == 0);
}

BOOST_AUTO_TEST_CASE(wide_products_of_columns_lose_no_digit_of_a_double) {
  constexpr index_t most = 150;
  matrix_x<float> const a = random_matrix<float>(most, 1, 7), b = random_matrix<float>(most, 1, 8);
  matrix_x<long double> sums = matrix_x<long double>::Zero(most + 1, 1);
  for (index_t i = 0; i < most; ++i)
    sums(i + 1) = sums(i) + static_cast<long double>(a(i)) * static_cast<long double>(b(i));
  matrix_x<double> const expected = sums.cast<double>();
  for (index_t const lanes : {index_t(1), index_t(2), index_t(4)}) {
    matrix_x<double> found = matrix_x<double>::Zero(most + 1, 2);
    run(lanes, [&](auto const& team) {
      for (index_t rows = 0; rows <= most; ++rows) {
        double const few = stiefelx::wide_dot<8>(team, a.data(), b.data(), rows);
        double const many = stiefelx::wide_dot<32>(team, a.data(), b.data(), rows);
        if (team.rank() == 0) found.row(rows) << few, many;
      }
    });
    BOOST_TEST_CONTEXT(lanes << " lanes")
    for (index_t ways : {0, 1})
      BOOST_TEST(near(found.col(ways), expected, tolerance<double>(most)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gram_schmidt_does_not_depend_on_the_lanes, S, scalars) {
  matrix_x<S> a = random_matrix<S>(37, 10, 1);
  a.col(3).setZero();
  a.col(9) = a.col(6);
  auto const alone = by_gram_schmidt(1, a);
  BOOST_TEST(alone.status(0, 0) == stiefelx::rank_deficient);
  for (index_t const lanes : lane_counts) {
    auto const shared = by_gram_schmidt(lanes, a);
    BOOST_TEST_CONTEXT(lanes << " lanes") {
      BOOST_TEST(near(shared.q, alone.q, tolerance<S>(37)));
      BOOST_TEST(near(shared.r, alone.r, tolerance<S>(37)));
      BOOST_TEST(same(shared.status, alone.status));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(householder_does_not_depend_on_the_lanes, S, scalars) {
  matrix_x<S> a = random_matrix<S>(37, 6, 2);
  a.col(4) = a.col(1);
  auto const alone = by_householder(1, a);
  BOOST_TEST(alone.status(0, 0) == stiefelx::rank_deficient);
  BOOST_TEST(near(alone.q * alone.r, a, tolerance<S>(37)));
  for (index_t const lanes : lane_counts) {
    auto const shared = by_householder(lanes, a);
    // The last column that does not depend on others is arbitrary, so products are compared.
    BOOST_TEST_CONTEXT(lanes << " lanes") {
      BOOST_TEST(near(shared.q * shared.r, a, tolerance<S>(37)));
      BOOST_TEST(near(shared.q.leftCols(4), alone.q.leftCols(4), tolerance<S>(37)));
      BOOST_TEST(
          near(shared.q.adjoint() * shared.q, matrix_x<S>::Identity(6, 6), tolerance<S>(37)));
      BOOST_TEST(same(shared.status, alone.status));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(small_bodies_do_not_depend_on_the_lanes, S, scalars) {
  using real = real_of_t<S>;
  matrix_x<S> const g = positive_matrix<S>(9, 10, 3);
  matrix_x<S> const r = loop_adjoint(loop_adjoint(g));
  auto const numbers_of = [&](index_t lanes) {
    matrix_x<double> out = matrix_x<double>::Zero(1, 6);
    matrix_x<S> shifted = g, upper = r, scaled = matrix_x<S>::Zero(9, 9);
    Eigen::MatrixXi status = Eigen::MatrixXi::Zero(1, 1);
    run_body(lanes, 0, stiefelx::independence_body{false}, ref(upper), ref(shifted),
             matrix_ref<double>{out.data(), 1, 1, 1});
    run_body(lanes, 0, stiefelx::newton_schulz_scaling_body{0.5}, ref(upper),
             matrix_ref<double>{out.data() + 1, 1, 2, 1});
    run_body(lanes, 0, stiefelx::gram_shift_body{40}, ref(shifted));
    run_body(lanes, 0, stiefelx::equilibrate_whole_body{}, ref(g), ref(scaled), ref(status));
    out(0, 3) = static_cast<double>(std::real(shifted.trace()));
    out(0, 4) = size_of(scaled);
    out(0, 5) = status(0, 0);
    return out;
  };
  auto const alone = numbers_of(1);
  for (index_t const lanes : lane_counts) BOOST_TEST_CONTEXT(lanes << " lanes")
  BOOST_TEST(near(numbers_of(lanes), alone, tolerance<real>(81)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(random_numbers_do_not_depend_on_the_lanes, S, scalars) {
  auto const draw = [](index_t lanes) {
    matrix_x<S> a = matrix_x<S>::Zero(23, 3);
    stiefelx::detail::fill_normal_body const body{{5, 6}, 1.0};
    for (index_t j = 0; j < 3; ++j) run_body(lanes, j, body, ref(a));
    return a;
  };
  auto const alone = draw(1);
  for (index_t const lanes : lane_counts) BOOST_TEST(same(draw(lanes), alone));
}

BOOST_AUTO_TEST_CASE(expert_gram_schmidt_does_not_depend_on_the_lanes) {
  constexpr index_t d = 41, k = 4;
  matrix_x<double> outputs = random_matrix<double>(d, k, 4);
  outputs.col(2) = outputs.col(0);
  matrix_x<double> const e = outputs;
  matrix_x<double> const weights = random_matrix<double>(k, 1, 5).cwiseAbs();
  matrix_x<double> const dy = random_matrix<double>(d, 1, 6);
  for (mixing const kind :
       {mixing::none, mixing::orthogonal, mixing::orthonormal, mixing::symmetric}) {
    auto const both = [&](index_t lanes) {
      matrix_x<double> grams = matrix_x<double>::Zero(k * k, 1),
                       coefficients = matrix_x<double>::Zero(k, 1),
                       y = matrix_x<double>::Zero(d, 1), de = matrix_x<double>::Zero(d, k),
                       dweights = matrix_x<double>::Zero(k, 1);
      Eigen::MatrixXi status = Eigen::MatrixXi::Zero(1, 1);
      stiefelx::mixing_algebra const algebra{kind, 1e-3};
      run_body(lanes, 0, stiefelx::expert_gram_schmidt_body{algebra, k}, ref(e), ref(weights),
               ref(grams), ref(coefficients), ref(y), ref(status));
      run_body(lanes, 0, stiefelx::expert_gram_schmidt_backward_body{algebra, k}, ref(e),
               ref(weights), ref(std::as_const(grams)), ref(dy), ref(de), ref(dweights));
      BOOST_TEST(status(0, 0) == (kind == mixing::none ? 0 : stiefelx::rank_deficient));
      // The residual of the repeated expert is rounding and has no direction to compare.
      matrix_x<double> all(2 * d + k, k);
      all.setZero();
      all.topRows(d) = de;
      all.block(d, 0, d, 1) = y;
      all.block(2 * d, 0, k, 1) = dweights;
      return all;
    };
    auto const alone = both(1);
    BOOST_TEST(alone.norm() > 1);
    for (index_t const lanes : lane_counts)
      BOOST_TEST_CONTEXT(lanes << " lanes, kind " << static_cast<int>(kind)) {
        double const guard = kind == mixing::none || kind == mixing::orthogonal ? 1 : 1e6;
        BOOST_TEST(near(both(lanes), alone, tolerance<double>(d, guard)));
      }
  }
}

BOOST_AUTO_TEST_SUITE_END()
