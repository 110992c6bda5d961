// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rows of a weight-decomposed adapter that are no numbers: they stay so, and the others are whole.

#include <limits>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

constexpr double scaling = 1.5;
constexpr index_t d_in = 5, r = 2, d_out = 4, tokens = 3, row = 2;

template <class A>
bool is_nan_in_row_alone(A const& a) {
  A others = a;
  others.row(row).setZero();
  return a.row(row).array().isNaN().all() && others.allFinite();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(dora_edges)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_row_that_is_no_number_does_not_become_zero, Case, real_cases) {
  using S = typename Case::scalar;
  using matrix = matrix_x<S>;
  S const huge = std::numeric_limits<S>::max() / S(16);
  for (S const bad :
       {std::numeric_limits<S>::quiet_NaN(), std::numeric_limits<S>::infinity(), huge}) {
    BOOST_TEST_CONTEXT(bad) {
      place<Case> p;
      matrix w = random_matrix<S>(d_out, d_in, 1);
      matrix b = random_matrix<S>(r, d_out, 2);
      // A row whose squares overflow is one of the frozen weight, and finite.
      (bad == huge ? w(row, 1) : b(0, row)) = bad;
      auto frozen = p.up(w);
      auto const down = p.up(random_matrix<S>(d_in, r, 3)), up = p.up(b);
      auto const magnitude = p.up(matrix::Ones(1, d_out)),
                 x = p.up(random_matrix<S>(d_in, tokens, 4));
      auto norms = p.up(matrix_x<double>::Zero(1, d_out));
      stiefelx::dora_norms(p.ctx, frozen, down, up, scaling, norms);
      BOOST_TEST(is_nan_in_row_alone(matrix_x<double>(p.down(norms).transpose())));

      auto z = p.up(matrix(w * p.down(x))), y = p.up(matrix::Zero(d_out, tokens));
      auto h = p.up(matrix::Zero(r, tokens));
      stiefelx::dora_forward(p.ctx, magnitude, norms, down, up, scaling, x, z, y, h);
      BOOST_TEST(is_nan_in_row_alone(p.down(y)));

      auto dmagnitude = p.up(matrix::Zero(1, d_out)), ddown = p.up(matrix::Zero(d_in, r));
      auto dup = p.up(matrix::Zero(r, d_out)), dz = p.up(matrix::Zero(d_out, tokens));
      auto dx = p.up(matrix::Zero(d_in, tokens));
      stiefelx::dora_backward(p.ctx, magnitude, norms, down, up, scaling, x, z, h,
                              p.up(matrix::Ones(d_out, tokens)), dmagnitude, ddown, dup, dz, 0, dx);
      BOOST_TEST(is_nan_in_row_alone(matrix(p.down(dmagnitude).transpose())));
      BOOST_TEST(is_nan_in_row_alone(p.down(dz)));

      stiefelx::merge_dora(p.ctx, magnitude, down, up, scaling, frozen);
      BOOST_TEST(is_nan_in_row_alone(p.down(frozen)));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
