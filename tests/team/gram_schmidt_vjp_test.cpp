// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The team text of the reverse rules with two to four lanes against one lane.

#include <complex>
#include <cstddef>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/qr_vjp.hpp>
#include <stiefelx/team/gram_schmidt_vjp.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::matrix_ref;
using stiefelx::rank_deficient;

template <class S>
matrix_ref<S> ref(matrix_x<S>& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}
template <class S>
matrix_ref<S const> read(matrix_x<S> const& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}

template <class S>
struct outcome {
  matrix_x<S> da;
  matrix_x<int> status;
};

/// Two matrices of n x 4 with three columns of q: the second one has a dropped column.
template <class S>
outcome<S> reverse(index_t lanes, index_t n) {
  index_t const p = 4, k = 3;
  matrix_x<S> q(n, 2 * k), r = random_matrix<S>(k, 2 * p, 3), slope = random_matrix<S>(k, 2 * p, 4);
  q << orthonormal_frame<S>(n, k, 1), orthonormal_frame<S>(n, k, 2);
  for (index_t item = 0; item < 2; ++item)
    for (index_t j = 0; j < k; ++j) r(j, item * p + j) = S(2);
  r(1, p + 1) = S(0);
  q.col(k + 1).setZero();
  matrix_x<S> left = random_matrix<S>(n, 2 * k, 5), column(n, 2), da(n, 2 * p);
  outcome<S> found{da, matrix_x<int>::Zero(1, 2)};
  for (index_t item = 0; item < 2; ++item) {
    stiefelx::gram_schmidt_vjp_body const body{p, k};
    std::vector<double> scratch(static_cast<std::size_t>(body.scratch_size()));
    auto const text = [&](auto const& team) {
      body(team, item, scratch.data(), read(q), read(r), read(slope), ref(left), ref(column),
           ref(found.da), ref(found.status));
    };
    if (lanes == 1)
      text(stiefelx::serial_team{});
    else
      stiefelx::run_thread_team(lanes, text);
  }
  return found;
}

using scalars = std::tuple<float, double, std::complex<double>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(gram_schmidt_vjp)

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_find_what_one_lane_finds, S, scalars) {
  for (index_t const n : {3, 40, 133}) {
    auto const expected = reverse<S>(1, n);
    BOOST_TEST(expected.status(0, 0) == 0);
    BOOST_TEST(expected.status(0, 1) == rank_deficient);
    for (index_t const lanes : {2, 3, 4}) BOOST_TEST_CONTEXT(lanes << " lanes, " << n << " rows") {
        auto const found = reverse<S>(lanes, n);
        BOOST_TEST(near(found.da, expected.da, tolerance<S>(n, 10)));
        BOOST_TEST(same(found.status, expected.status));
      }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_mirror_a_triangle, S, scalars) {
  matrix_x<S> const start = random_matrix<S>(7, 7, 1);
  matrix_x<S> expected = start;
  for (index_t j = 0; j < 7; ++j) {
    expected(j, j) = S(std::real(start(j, j)));
    for (index_t i = 0; i < j; ++i) expected(i, j) = Eigen::numext::conj(start(j, i));
  }
  for (index_t const lanes : {2, 3, 9}) {
    matrix_x<S> found = start;
    stiefelx::run_thread_team(lanes, [&](auto const& team) {
      for (index_t j = 0; j < 7; ++j) stiefelx::mirror_lower_body{}(team, j, nullptr, ref(found));
    });
    BOOST_TEST(same(found, expected));
  }
}

BOOST_AUTO_TEST_SUITE_END()
