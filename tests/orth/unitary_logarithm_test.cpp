// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/orth/skew_exponential.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "rotations.hpp"

namespace {

using namespace support;
using stiefelx::not_converged;

constexpr double pi = std::numbers::pi;

template <class S>
struct result {
  matrix_x<S> matrix;
  int status;
};

template <class Case>
result<typename Case::scalar> logarithm(matrix_x<typename Case::scalar> const& u,
                                        bool in_place = false) {
  using backend = typename Case::backend;
  place<Case> at;
  auto const input = at.up(u);
  auto a = at.up(u);
  auto status = status_matrix<backend>(at.ctx);
  if (in_place)
    stiefelx::unitary_logarithm(at.ctx, a, a, status);
  else
    stiefelx::unitary_logarithm(at.ctx, input, a, status);
  return {at.down(a), status_value(at.ctx, status)};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(unitary_logarithm)

BOOST_AUTO_TEST_CASE_TEMPLATE(finds_known_angles_nearly_up_to_pi, Case, rotation_cases) {
  using S = typename Case::scalar;
  for (index_t const n : {0, 1, 2, 5, 8})
    for (double const share : {0.0, 1e-9, 0.1, 0.5, 0.9, 0.99}) {
      rotation<S> const known(n, share * pi);
      auto const found = logarithm<Case>(known.unitary);
      // The condition where angles theta and -theta are neighbours.
      double const condition = 1 / std::cos(share * pi / 2);
      BOOST_TEST_CONTEXT("n " << n << ", angle " << share << " pi") {
        BOOST_TEST(near(found.matrix, known.skew, tolerance<S>(n, condition), 1 + std::sqrt(n)));
        BOOST_TEST(found.status == 0);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(is_skew_to_the_bit, Case, rotation_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const a = logarithm<Case>(rotation<S>(7, 2.5).unitary).matrix;
  matrix_x<S> const minus = -loop_adjoint(a);
  BOOST_TEST(same(a, minus));
  BOOST_TEST(a.norm() > 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_exponential_takes_it_back, Case, rotation_cases) {
  using S = typename Case::scalar;
  place<Case> at;
  for (std::uint64_t seed = 1; seed < 4; ++seed) {
    matrix_x<S> const u = rotation<S>(9, 3, seed).unitary;
    auto a = at.up(u);
    stiefelx::unitary_logarithm(at.ctx, a, a);
    stiefelx::skew_exponential(at.ctx, a, a);
    BOOST_TEST(near(at.down(a), u, tolerance<S>(9, 1 / std::cos(1.5))));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(says_when_an_angle_is_pi_or_the_matrix_is_not_unitary, Case,
                              rotation_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const one = matrix_x<S>::Identity(4, 4);
  matrix_x<S> reflection = one, stretched = one, broken = one;
  reflection(2, 2) = S(-1);
  stretched(1, 1) = S(1.25);
  broken(0, 3) = S(std::numeric_limits<double>::quiet_NaN());
  matrix_x<S> const frame = orthonormal_frame<S>(4, 4, 3);
  matrix_x<S> const turned = loop_product(loop_product(frame, reflection), loop_adjoint(frame));
  BOOST_TEST(logarithm<Case>(one).status == 0);
  BOOST_TEST(logarithm<Case>(reflection).status == not_converged);
  BOOST_TEST(logarithm<Case>(turned).status == not_converged);
  BOOST_TEST(logarithm<Case>(rotation<S>(4, pi).unitary).status == not_converged);
  BOOST_TEST(logarithm<Case>(stretched).status == not_converged);
  BOOST_TEST(logarithm<Case>(broken).status == (not_converged | stiefelx::not_finite));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(in_place_has_the_same_bits, Case, rotation_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const u = rotation<S>(6, 2).unitary;
  BOOST_TEST(same(logarithm<Case>(u, true).matrix, logarithm<Case>(u).matrix));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(refuses_wrong_arguments, Case, double_cases) {
  place<Case> at;
  auto u = at.up(matrix_x<double>::Identity(3, 3)), wide = at.up(matrix_x<double>::Zero(3, 4));
  BOOST_CHECK_THROW(stiefelx::unitary_logarithm(at.ctx, wide, u), stiefelx::shape_error);
  BOOST_CHECK_THROW(stiefelx::unitary_logarithm(at.ctx, u, wide), stiefelx::shape_error);
  BOOST_CHECK_THROW(
      stiefelx::unitary_logarithm(at.ctx, wide.middleCols(0, 3), wide.middleCols(1, 3)),
      stiefelx::alias_error);
}

BOOST_AUTO_TEST_SUITE_END()
