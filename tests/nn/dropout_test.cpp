// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Dropout: the law of its masks, their independence of threads and batches, and adapters behind it.

#include <cmath>
#include <cstdint>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/lora_dropout.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::dropout_mask;

/// The mask of a d x T matrix: what dropout() makes of ones.
template <class Case>
matrix_x<typename Case::scalar> factors(dropout_mask const& mask, index_t d, index_t tokens) {
  using S = typename Case::scalar;
  place<Case> p;
  auto y = p.up(matrix_x<S>::Ones(d, tokens));
  stiefelx::dropout(p.ctx, mask, y, y);
  return p.down(y);
}

using host_double = test_case<host_backend, double>;

}  // namespace

BOOST_AUTO_TEST_SUITE(dropout)

BOOST_AUTO_TEST_CASE_TEMPLATE(entries_are_zero_or_divided_by_the_rate_kept, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  dropout_mask const mask{0.25, 7, 3, 0};
  matrix_x<S> const x = random_matrix<S>(11, 9, 1);
  auto y = p.up(matrix_x<S>::Zero(11, 9));
  stiefelx::dropout(p.ctx, mask, p.up(x), y);
  matrix_x<S> const found = p.down(y), m = factors<Case>(mask, 11, 9);
  S const factor = static_cast<S>(1 / 0.75);
  index_t dropped = 0;
  for (index_t t = 0; t < 9; ++t)
    for (index_t i = 0; i < 11; ++i) {
      BOOST_TEST((m(i, t) == S(0) || m(i, t) == factor));
      BOOST_TEST(found(i, t) == m(i, t) * x(i, t));
      dropped += m(i, t) == S(0) ? 1 : 0;
    }
  BOOST_TEST(dropped > 0);
  BOOST_TEST(dropped < 99);
}

BOOST_AUTO_TEST_CASE(backends_and_scalars_share_their_masks) {
  dropout_mask const mask{0.4, 11, 5, 2};
  matrix_x<double> const m = factors<host_double>(mask, 13, 8);
  BOOST_TEST((factors<test_case<archetype_backend, double>>(mask, 13, 8) == m));
  BOOST_TEST(((factors<test_case<host_backend, float>>(mask, 13, 8).array() > 0) == (m.array() > 0))
                 .all());
}

// A count of n independent events of probability p is within five deviations, but for one run in
// two millions; seeds are fixed.
BOOST_AUTO_TEST_CASE(rates_are_met_in_every_row_and_column_and_between_neighbours) {
  index_t const d = 400, tokens = 400;
  for (double rate : {0.05, 0.5, 0.9}) {
    BOOST_TEST_CONTEXT("rate " << rate) {
      matrix_x<double> const zero =
          (factors<host_double>({rate, 1, 0, 0}, d, tokens).array() == 0).cast<double>();
      auto const expect = [&](double count, double n, double probability) {
        double const deviation = std::sqrt(n * probability * (1 - probability));
        BOOST_TEST(std::abs(count - n * probability) <= 5 * deviation);
      };
      expect(zero.sum(), static_cast<double>(d * tokens), rate);
      for (index_t j = 0; j < 400; ++j) {
        expect(zero.col(j).sum(), static_cast<double>(d), rate);
        expect(zero.row(j).sum(), static_cast<double>(tokens), rate);
      }
      double const both = rate * rate;
      expect(zero.topRows(d - 1).cwiseProduct(zero.bottomRows(d - 1)).sum(),
             static_cast<double>((d - 1) * tokens), both);
      expect(zero.leftCols(tokens - 1).cwiseProduct(zero.rightCols(tokens - 1)).sum(),
             static_cast<double>(d * (tokens - 1)), both);
    }
  }
}

BOOST_AUTO_TEST_CASE(other_offsets_seeds_and_experts_have_other_masks) {
  auto const zero = [](dropout_mask const& mask) {
    return matrix_x<double>((factors<host_double>(mask, 200, 200).array() == 0).cast<double>());
  };
  place<host_double> p;
  auto const of_expert = [&](int e) {
    matrix_x<double> y = matrix_x<double>::Ones(200, 200);
    matrix_x<int> const ids = matrix_x<int>::Constant(1, 200, e);
    stiefelx::expert_dropout(p.ctx, {0.5, 1, 0, 0}, ids, y, y);
    return matrix_x<double>((y.array() == 0).cast<double>());
  };
  matrix_x<double> const masks[] = {zero({0.5, 1, 0, 0}), zero({0.5, 1, 1, 0}),
                                    zero({0.5, 2, 0, 0}), of_expert(0), of_expert(1)};
  // Two independent masks of n entries both drop n / 4 of them, with deviation sqrt(3 n) / 4.
  double const n = 40000;
  for (int a = 0; a < 5; ++a)
    for (int b = 0; b < a; ++b)
      BOOST_TEST(std::abs(masks[a].cwiseProduct(masks[b]).sum() - n / 4) <=
                 5 * std::sqrt(3 * n) / 4);
}

BOOST_AUTO_TEST_CASE(pieces_of_a_batch_and_threads_keep_the_mask) {
  dropout_mask mask{0.3, 5, 9, 0};
  matrix_x<double> const whole = factors<host_double>(mask, 21, 40);
  mask.first_token = 15;
  BOOST_TEST((factors<host_double>(mask, 21, 25) == whole.rightCols(25)));
  mask.first_token = 0;
  for (int threads : {2, 3}) {
    stiefelx::host::context ctx({.threads = threads});
    matrix_x<double> y = matrix_x<double>::Ones(21, 40);
    stiefelx::dropout(ctx, mask, y, y);
    BOOST_TEST((y == whole));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_column_takes_its_experts_mask_and_empty_slots_are_zero, Case,
                              double_cases) {
  place<Case> p;
  dropout_mask const mask{0.5, 3, 0, 0};
  matrix_x<int> ids(1, 6);
  ids << 2, 0, -1, 2, 1, 0;
  auto const masks_of = [&](auto const& listed) {
    auto y = p.up(matrix_x<double>::Ones(17, 6));
    stiefelx::expert_dropout(p.ctx, mask, p.up(listed), y, y);
    return p.down(y);
  };
  matrix_x<double> const found = masks_of(ids);
  for (int e = 0; e < 3; ++e) {
    matrix_x<double> const own = masks_of(matrix_x<int>::Constant(1, 6, e));
    for (index_t t = 0; t < 6; ++t) BOOST_TEST((found.col(t) == own.col(t)) == (ids(0, t) == e));
  }
  BOOST_TEST(found.col(2).isZero(0));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_rate_of_zero_is_the_identity, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const x = random_matrix<S>(6, 5, 2);
  auto y = p.up(matrix_x<S>::Zero(6, 5));
  stiefelx::dropout(p.ctx, {}, p.up(x), y);
  BOOST_TEST((p.down(y) == x));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_behind_dropout_agree_with_differences, Case, double_cases) {
  dropout_mask const mask{0.3, 1, 0, 0};
  struct values {
    matrix_x<double> down, up, x;
  };
  values const at{random_matrix<double>(9, 3, 1), random_matrix<double>(3, 7, 2),
                  random_matrix<double>(9, 6, 3)};
  place<Case> p;
  auto h = p.up(matrix_x<double>(3, 6));
  auto const output = [&](values const& v) {
    auto y = p.up(matrix_x<double>::Zero(7, 6));
    stiefelx::lora_forward(p.ctx, p.up(v.down), p.up(v.up), 1.5, mask, p.up(v.x), y, h);
    return p.down(y);
  };
  matrix_x<double> const c = random_matrix<double>(7, 6, 5), y = output(at);
  matrix_x<double> const m = factors<host_double>(mask, 9, 6);
  matrix_x<double> const direct =
      1.5 * at.up.transpose() * (at.down.transpose() * at.x.cwiseProduct(m));
  BOOST_TEST(near(y, direct, tolerance<double>(9)));

  auto ddown = p.up(matrix_x<double>::Zero(9, 3)), dup = p.up(matrix_x<double>::Zero(3, 7));
  auto dx = p.up(matrix_x<double>::Ones(9, 6));
  stiefelx::lora_backward(p.ctx, p.up(at.down), p.up(at.up), 1.5, mask, p.up(at.x), h,
                          p.up(wave_gradient(c, y)), ddown, dup, 2, dx);
  auto const check = [&](char const* name, auto member, matrix_x<double> const& gradient) {
    auto const loss = [&](matrix_x<double> const& moved) {
      values other = at;
      other.*member = moved;
      return wave_loss(c, output(other));
    };
    BOOST_TEST_CONTEXT(name) BOOST_TEST(is_gradient(loss, at.*member, gradient, 6, 8));
  };
  check("down", &values::down, p.down(ddown));
  check("up", &values::up, p.down(dup));
  check("x", &values::x, p.down(dx) - matrix_x<double>::Constant(9, 6, 2));
}

BOOST_AUTO_TEST_CASE(streams_advance_and_misuse_is_named) {
  stiefelx::random_stream stream{4, 9};
  auto const first = stiefelx::next_dropout_mask(stream, 0.1);
  auto const second = stiefelx::next_dropout_mask(stream, 0.1);
  BOOST_TEST(first.offset == 9U);
  BOOST_TEST(second.offset == 10U);
  BOOST_TEST(stream.offset == 11U);
  BOOST_TEST(message_of([&] { stiefelx::next_dropout_mask(stream, 1); }) ==
             "next_dropout_mask: rate is 1.000000, expected a number in [0, 1)");
  BOOST_TEST(stream.offset == 11U);

  stiefelx::host::context ctx;
  matrix_x<double> a = matrix_x<double>::Ones(4, 6), small(2, 2);
  matrix_x<int> const ids = matrix_x<int>::Zero(1, 2);
  BOOST_TEST(message_of([&] { stiefelx::dropout(ctx, {0.5, 0, 0, 0}, a, small); }) ==
             "dropout: y is 2x2, expected 4x6");
  BOOST_TEST(message_of([&] {
               stiefelx::dropout(ctx, {0.5, 0, 0, 0}, a.leftCols(4), a.rightCols(4));
             }) == "dropout: y overlaps x, expected the same matrix or separate memory");
  BOOST_TEST(message_of([&] { stiefelx::expert_dropout(ctx, {-1, 0, 0, 0}, ids, a, a); }) ==
             "expert_dropout: rate is -1.000000, expected a number in [0, 1)");
  BOOST_TEST(message_of([&] { stiefelx::expert_dropout(ctx, {0.5, 0, 0, 0}, ids, a, a); }) ==
             "expert_dropout: ids is 1x2, expected 1x6");
  BOOST_TEST(a.isOnes(0));
}

BOOST_AUTO_TEST_SUITE_END()
