// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of tokens with their experts against naive sums, on both backends.

#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/context.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

struct extent {
  index_t width, experts, rank, slots, tokens;
};

// No token, no slot, one of everything, ranks that fill no register and some that do, more slots
// than experts.
std::vector<extent> const extents{{5, 3, 2, 2, 0},    {5, 3, 2, 0, 4},    {1, 1, 1, 1, 1},
                                  {37, 4, 8, 2, 19},  {70, 3, 5, 2, 31},  {16, 5, 16, 1, 40},
                                  {130, 2, 11, 3, 9}, {203, 6, 17, 2, 50}};

// Slots that are empty, experts without a token, an expert twice in one token.
matrix_x<int> random_ids(extent const& e, int seed) {
  matrix_x<int> ids(e.slots, e.tokens);
  for (index_t t = 0; t < e.tokens; ++t)
    for (index_t i = 0; i < e.slots; ++i) {
      index_t const draw = (t * t + 3 * i * i + i * t + seed) % (e.experts + 2);
      ids(i, t) = draw >= e.experts ? (draw == e.experts ? -1 : 0) : static_cast<int>(draw);
    }
  if (e.experts > 2)
    ids = (ids.array() == 1).select(matrix_x<int>::Constant(e.slots, e.tokens, 2), ids);
  return ids;
}

// f(row of h, column of a, token) for each entry of a slot that is not empty.
template <class F>
void for_each_entry(extent const& e, matrix_x<int> const& ids, F const& f) {
  for (index_t t = 0; t < e.tokens; ++t)
    for (index_t i = 0; i < e.slots; ++i)
      for (index_t b = 0; ids(i, t) >= 0 && b < e.rank; ++b)
        f(i * e.rank + b, ids(i, t) * e.rank + b, t);
}

template <class S>
struct problem {
  extent e;
  matrix_x<int> ids = random_ids(e, 1);
  matrix_x<S> a = random_matrix<S>(e.width, e.experts* e.rank, 1);
  matrix_x<S> x = random_matrix<S>(e.width, e.tokens, 2);
  matrix_x<S> h = random_matrix<S>(e.slots * e.rank, e.tokens, 3);

  explicit problem(extent const& sizes) : e(sizes) {}

  matrix_x<S> multiply() const {
    matrix_x<long double> out = matrix_x<long double>::Zero(h.rows(), h.cols());
    for_each_entry(e, ids, [&](index_t row, index_t col, index_t t) {
      for (index_t i = 0; i < e.width; ++i)
        out(row, t) += static_cast<long double>(a(i, col)) * x(i, t);
    });
    return out.template cast<S>();
  }
  matrix_x<S> multiply_add(long double s, matrix_x<S> const& y) const {
    matrix_x<long double> out = y.template cast<long double>();
    for_each_entry(e, ids, [&](index_t row, index_t col, index_t t) {
      for (index_t i = 0; i < e.width; ++i) out(i, t) += s * a(i, col) * h(row, t);
    });
    return out.template cast<S>();
  }
  matrix_x<S> outer_add(long double s, matrix_x<S> const& start) const {
    matrix_x<long double> out = start.template cast<long double>();
    for_each_entry(e, ids, [&](index_t row, index_t col, index_t t) {
      for (index_t i = 0; i < e.width; ++i) out(i, col) += s * x(i, t) * h(row, t);
    });
    return out.template cast<S>();
  }
};

template <class S>
double norm_of(matrix_x<S> const& a) {
  return static_cast<double>(a.norm());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(routed)

BOOST_AUTO_TEST_CASE_TEMPLATE(routed_products_agree_with_sums, Case, real_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for (extent const& e : extents)
    BOOST_TEST_CONTEXT("d=" << e.width << ", E=" << e.experts << ", r=" << e.rank
                            << ", k=" << e.slots << ", T=" << e.tokens) {
      problem<S> const q(e);
      auto const ids = p.up(q.ids);
      auto const a = p.up(q.a), up = p.up(loop_adjoint(q.a)), x = p.up(q.x), h = p.up(q.h);
      matrix_x<S> const y = random_matrix<S>(e.width, e.tokens, 4);
      double const down = norm_of(q.a) * norm_of(q.x), back = norm_of(q.a) * norm_of(q.h);

      matrix_x<S> const expected_h = q.multiply();
      matrix_x<S> const expected_y = q.multiply_add(-0.75L, y);
      matrix_x<S> const expected_sums =
          q.multiply_add(-0.75L, matrix_x<S>::Zero(e.width, e.tokens));
      S const not_a_number = std::numeric_limits<S>::quiet_NaN();
      auto const check = [&](auto const& experts) {
        auto found_h = p.up(matrix_x<S>::Constant(q.h.rows(), q.h.cols(), S(7)));
        routed_multiply(p.ctx, ids, experts, x, found_h);
        BOOST_TEST(near(p.down(found_h), expected_h, tolerance<S>(e.width), down));
        auto found_y = p.up(y);
        routed_multiply_add(p.ctx, -0.75, ids, experts, h, found_y);
        BOOST_TEST(
            near(p.down(found_y), expected_y, tolerance<S>(e.rank * e.slots), back + norm_of(y)));
        auto alone = p.up(matrix_x<S>::Constant(e.width, e.tokens, not_a_number));
        routed_combine(p.ctx, -0.75, ids, experts, h, alone);
        BOOST_TEST(near(p.down(alone), expected_sums, tolerance<S>(e.rank * e.slots), back));
      };
      check(a);
      check(up.adjoint());

      matrix_x<S> const start = random_matrix<S>(e.width, e.experts * e.rank, 5);
      matrix_x<S> const expected_a = q.outer_add(-0.75L, start);
      double const outer = norm_of(q.x) * norm_of(q.h) + norm_of(start);
      auto const s = p.number(S(-0.75));
      auto found_a = p.up(start), found_b = p.up(loop_adjoint(start));
      routed_outer_add(p.ctx, s, ids, x, h, found_a);
      BOOST_TEST(near(p.down(found_a), expected_a, tolerance<S>(e.tokens), outer));
      routed_adjoint_outer_add(p.ctx, s, ids, h, x, found_b);
      BOOST_TEST(near(loop_adjoint(p.down(found_b)), expected_a, tolerance<S>(e.tokens), outer));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(routed_products_read_and_write_strips, Case, double_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  extent const e{21, 3, 4, 2, 13};
  problem<S> const q(e);
  matrix_x<S> const large = random_matrix<S>(60, 90, 7);
  auto source = large;
  source.block(3, 2, 21, 12) = q.a;
  source.block(25, 2, 21, 13) = q.x;
  source.block(48, 20, 8, 13) = q.h;
  auto const in = p.up(source);
  auto const ids = p.up(q.ids);
  auto const a = in.middleRows(3, 21).middleCols(2, 12);
  auto const x = in.middleRows(25, 21).middleCols(2, 13);
  auto const h = in.middleRows(48, 8).middleCols(20, 13);
  matrix_x<S> expected = large;
  auto out = p.up(large);
  routed_multiply(p.ctx, ids, a, x, out.middleRows(1, 8).middleCols(1, 13));
  expected.block(1, 1, 8, 13) = q.multiply();
  routed_multiply_add(p.ctx, 2, ids, a, h, out.middleRows(10, 21).middleCols(3, 13));
  expected.block(10, 3, 21, 13) = q.multiply_add(2, large.block(10, 3, 21, 13));
  routed_combine(p.ctx, 2, ids, a, h, out.middleRows(10, 21).middleCols(60, 13));
  expected.block(10, 60, 21, 13) = q.multiply_add(2, matrix_x<S>::Zero(21, 13));
  routed_outer_add(p.ctx, 2, ids, x, h, out.middleRows(35, 21).middleCols(30, 12));
  expected.block(35, 30, 21, 12) = q.outer_add(2, large.block(35, 30, 21, 12));
  routed_adjoint_outer_add(p.ctx, 2, ids, h, x, out.middleRows(35, 12).middleCols(50, 21));
  expected.block(35, 50, 12, 21) =
      q.outer_add(2, large.block(35, 50, 12, 21).transpose()).transpose();
  BOOST_TEST(near(p.down(out), expected, tolerance<S>(21)));
}

BOOST_AUTO_TEST_SUITE_END()
