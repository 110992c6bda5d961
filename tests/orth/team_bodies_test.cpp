// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The team text of stacks and singular values with two to four lanes against one. A thread
// sanitizer finds in this program every barrier that the text lacks.

#include <complex>
#include <cstddef>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/team/cholesky_qr.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/jacobi_svd.hpp>
#include <stiefelx/team/small_inverse_sqrt.hpp>
#include <stiefelx/team/small_polar.hpp>
#include <stiefelx/team/small_qr.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::cholesky_qr_method;
using stiefelx::matrix_ref;

using scalars = std::tuple<double, std::complex<double>>;
constexpr index_t lane_counts[] = {2, 3, 4};
constexpr index_t rows = 21, cols = 5;

template <class S>
matrix_ref<S> ref(matrix_x<S>& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}
template <class S>
matrix_ref<S const> read(matrix_x<S> const& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}

/// Calls a body for items 0 and 1, with scratch of its own; one lane is the serial team.
template <class Body, class... A>
void run_both(index_t lanes, Body const& body, A... a) {
  std::vector<double> scratch(static_cast<std::size_t>(body.scratch_size()) + 1);
  for (index_t item = 0; item < 2; ++item) {
    auto const text = [&](auto const& team) { body(team, item, scratch.data(), a...); };
    if (lanes == 1) {
      text(stiefelx::serial_team{});
    } else {
      stiefelx::run_thread_team(lanes, text);
    }
  }
}

template <class S>
struct outcome {
  matrix_x<S> q, r;
  matrix_x<int> status;
};

template <class S>
outcome<S> nothing() {
  return {matrix_x<S>::Zero(rows, 2 * cols), matrix_x<S>::Zero(cols, 2 * cols),
          matrix_x<int>::Zero(1, 2)};
}

template <class S, class Body>
outcome<S> factored(index_t lanes, Body const& body, matrix_x<S> const& a) {
  auto out = nothing<S>();
  run_both(lanes, body, read(a), ref(out.q), ref(out.r), ref(out.status));
  return out;
}

template <class S>
void expect_same(outcome<S> const& found, outcome<S> const& one, double condition) {
  BOOST_TEST(same(found.status, one.status));
  BOOST_TEST(near(found.q, one.q, tolerance<S>(rows, condition)));
  BOOST_TEST(near(found.r, one.r, tolerance<S>(rows, condition)));
}

/// An easy matrix and a hard one, side by side.
template <class S>
matrix_x<S> pair(double condition) {
  matrix_x<S> both(rows, 2 * cols);
  both << random_matrix<S>(rows, cols, 1), conditioned_matrix<S>(rows, cols, condition, 2);
  return both;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(team_bodies)

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_factor_what_one_lane_factors, S, scalars) {
  matrix_x<S> const a = pair<S>(50);
  for (index_t const lanes : lane_counts) BOOST_TEST_CONTEXT("lanes " << lanes) {
      auto const compare = [&](auto const& body) {
        expect_same(factored(lanes, body, a), factored(1, body, a), 2500);
      };
      compare(stiefelx::gram_schmidt_body{cols, stiefelx::gram_schmidt_method::mgs});
      compare(stiefelx::small_householder_body{cols});
      for (auto const method : {cholesky_qr_method::automatic, cholesky_qr_method::two_passes,
                                cholesky_qr_method::shifted_three})
        compare(stiefelx::small_cholesky_qr_body{cols, method});
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_choose_as_one_lane_chooses, S, scalars) {
  matrix_x<S> a = pair<S>(1e12);
  a.col(2) = a.col(0);
  for (auto const method : {cholesky_qr_method::automatic, cholesky_qr_method::one_pass}) {
    stiefelx::small_cholesky_qr_body const body{cols, method};
    auto const one = factored(1, body, a);
    BOOST_TEST((one.status(0, 0) & stiefelx::rank_deficient) != 0);
    for (index_t const lanes : lane_counts)
      BOOST_TEST(same(factored(lanes, body, a).status, one.status));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_decompose_what_one_lane_decomposes, S, scalars) {
  auto const decomposed = [](index_t lanes, matrix_x<S> x) {
    auto out = nothing<S>();
    matrix_x<int> exponents = matrix_x<int>::Constant(1, 2 * cols, 3);
    matrix_x<double> w(1, 2 * cols);
    stiefelx::jacobi_svd_body const body{cols, 1e-15};
    run_both(lanes, body, ref(x), ref(exponents), ref(w), ref(out.r), ref(out.status));
    BOOST_TEST(near(x.leftCols(cols).adjoint() * x.leftCols(cols),
                    matrix_x<S>::Identity(cols, cols), tolerance<S>(rows)));
    return w;
  };
  matrix_x<S> a = pair<S>(1e6);
  a.col(1).setZero();
  matrix_x<double> const one = decomposed(1, a);
  BOOST_TEST(one(0, cols - 1) == 0);
  for (index_t const lanes : lane_counts)
    BOOST_TEST(near(decomposed(lanes, a), one, tolerance<S>(rows)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_iterate_as_one_lane_iterates, S, scalars) {
  using stiefelx::make_polar_schedule;
  matrix_x<S> g(cols, 2 * cols);
  g << positive_matrix<S>(cols, 5, 1), positive_matrix<S>(cols, 20, 2);
  auto const iterated = [&](index_t lanes) {
    auto out = nothing<S>();
    auto const schedule = make_polar_schedule(stiefelx::polar_degree::quintic, 1e-3, 0, 1e-15);
    out.r = g;
    run_both(lanes, stiefelx::small_polar_body{cols, schedule, 0}, ref(out.r));
    run_both(lanes, stiefelx::small_defect_body{cols, tolerance<S>(cols)}, ref(out.r),
             ref(out.status));
    matrix_x<S> z(cols, 2 * cols), product(cols, 2 * cols);
    matrix_x<int> rest = out.status;
    run_both(lanes, stiefelx::small_inverse_sqrt_body{cols, 0, 30}, read(g), ref(z), ref(rest));
    run_both(lanes, stiefelx::small_product_body{cols, true}, ref(z), ref(out.r), ref(product));
    BOOST_TEST(rest.isZero());
    out.q = product;
    return out;
  };
  auto const one = iterated(1);
  BOOST_TEST(one.status.isZero());
  // The polar factor of a positive matrix is the identity, and its product with z is z.
  BOOST_TEST(near(one.r.leftCols(cols), matrix_x<S>::Identity(cols, cols), tolerance<S>(cols, 20)));
  for (index_t const lanes : lane_counts) expect_same(iterated(lanes), one, 20);
}

BOOST_AUTO_TEST_SUITE_END()
