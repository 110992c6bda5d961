// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products of tokens with their experts on the device against loops in long double.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda/routed.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace tables;
using support::tolerance;

struct sizes {
  index_t width, experts, rank, slots, tokens;
};

// No token, no slot, no row; ranks below, at and above a tile; tokens for one block and for
// several; an expert for each slot.
// Fewer tokens where a thread for each lane makes kernels slow.
index_t few(index_t tokens) {
  return fake_cuda::keeps_lane_order ? tokens : std::min<index_t>(tokens, 3);
}

std::vector<sizes> cases() {
  if (!fake_cuda::keeps_lane_order) return {{130, 3, 11, 2, 5}};
  return {{5, 3, 2, 2, 0},
          {5, 3, 2, 0, 4},
          {0, 3, 2, 2, 4},
          {1, 1, 1, 1, 1},
          {31, 3, 8, 1, 33},
          {257, 4, 5, 2, 33},
          {64, 5, 16, 3, 9},
          {130, 2, 11, 4, 1},
          {12, 6, 3, 4, 1100},
          // Two tiles of columns for a block, the last one empty; four parts of the tokens.
          {300, 4, 20, 2, 200},
          // One expert's slots fill a whole stretch of a block, and the last stretch is shorter.
          {130, 3, 1, 1, 1100}};
}

// Empty slots, ids of no expert, an expert that no token takes, an expert twice in one token.
table<int> some_ids(sizes const& z) {
  table<int> ids(z.slots, z.tokens);
  for (index_t t = 0; t < z.tokens; ++t)
    for (index_t i = 0; i < z.slots; ++i) {
      index_t const draw = (t * t + 3 * i * i + i * t + 1) % (z.experts + 3);
      int id = draw < z.experts ? static_cast<int>(draw) : draw == z.experts ? -1 : 0;
      if (draw == z.experts + 1) id = static_cast<int>(z.experts);
      ids(i, t) = z.experts > 2 && id == 1 ? 2 : id;
    }
  return ids;
}

template <class S>
struct problem {
  sizes z;
  table<int> ids;
  table<S> a, x, h, y;

  explicit problem(sizes const& s)
      : z(s),
        ids(some_ids(s)),
        a(random_table<S>(s.width, s.experts * s.rank, 1)),
        x(random_table<S>(s.width, s.tokens, 2)),
        h(random_table<S>(s.slots * s.rank, s.tokens, 3)),
        y(random_table<S>(s.width, s.tokens, 4)) {}

  // f(row of h, column of a, token) for each entry of a slot that is not empty.
  template <class F>
  void each(F const& f) const {
    for (index_t t = 0; t < z.tokens; ++t)
      for (index_t i = 0; i < z.slots; ++i)
        for (index_t b = 0; ids(i, t) >= 0 && ids(i, t) < z.experts && b < z.rank; ++b)
          f(i * z.rank + b, ids(i, t) * z.rank + b, t);
  }
  table<long double> multiplied() const {
    table<long double> out(h.rows, h.cols);
    each([&](index_t row, index_t col, index_t t) {
      for (index_t i = 0; i < z.width; ++i)
        out(row, t) += static_cast<long double>(a(i, col)) * x(i, t);
    });
    return out;
  }
  table<long double> added(long double s) const {
    table<long double> out(y.rows, y.cols);
    for (std::size_t k = 0; k < out.entries.size(); ++k) out.entries[k] = y.entries[k];
    each([&](index_t row, index_t col, index_t t) {
      for (index_t i = 0; i < z.width; ++i) out(i, t) += s * a(i, col) * h(row, t);
    });
    return out;
  }
  table<long double> outer(long double s) const {
    table<long double> out(a.rows, a.cols);
    for (std::size_t k = 0; k < out.entries.size(); ++k) out.entries[k] = a.entries[k];
    each([&](index_t row, index_t col, index_t t) {
      for (index_t i = 0; i < z.width; ++i) out(i, col) += s * x(i, t) * h(row, t);
    });
    return out;
  }
};

// Entries are below 1: a sum of so many terms is off by no more than a sum of ones may be.
template <class S>
bool is_near(table<S> const& found, table<long double> const& expected, index_t terms) {
  double const size = std::sqrt(static_cast<double>(terms)) + 1;
  return distance(found, expected) <= tolerance<S>(terms) * size;
}

template <class S>
void expect_products(device::context& ctx, sizes const& z, layout const& how) {
  BOOST_TEST_INFO(how.name << ": d=" << z.width << ", E=" << z.experts << ", r=" << z.rank
                           << ", k=" << z.slots << ", T=" << z.tokens);
  problem<S> const q(z);
  placed<int> ids(ctx, q.ids, how);
  placed<S> a(ctx, q.a, how), up(ctx, transposed(q.a), how), x(ctx, q.x, how), h(ctx, q.h, how);
  auto const expected_h = q.multiplied();
  auto const expected_y = q.added(-0.75L), expected_a = q.outer(-0.75L);
  index_t const back = z.rank * z.slots + 1;
  auto const s = number_on(ctx, S(-0.75));

  table<S> stale(q.h.rows, q.h.cols);
  std::fill(stale.entries.begin(), stale.entries.end(), S(5));
  auto const check = [&](auto const& experts) {
    placed<S> found_h(ctx, stale, how), found_y(ctx, q.y, how);
    routed_multiply(ctx, ids.view(), experts, x.view(), found_h.view());
    BOOST_TEST(is_near(found_h.entries(ctx), expected_h, z.width));
    routed_multiply_add(ctx, -0.75, ids.view(), experts, h.view(), found_y.view());
    BOOST_TEST(is_near(found_y.entries(ctx), expected_y, back));
  };
  check(a.view());
  check(up.view().adjoint());

  placed<S> found_a(ctx, q.a, how), found_b(ctx, transposed(q.a), how);
  routed_outer_add(ctx, s, ids.view(), x.view(), h.view(), found_a.view());
  BOOST_TEST(is_near(found_a.entries(ctx), expected_a, z.tokens));
  routed_adjoint_outer_add(ctx, -0.75, ids.view(), h.view(), x.view(), found_b.view());
  BOOST_TEST(is_near(transposed(found_b.entries(ctx)), expected_a, z.tokens));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(routed)

BOOST_AUTO_TEST_CASE(routed_products_agree_with_loops_in_every_layout) {
  device::context ctx;
  for (sizes const& z : cases())
    for (layout const& how : layouts()) expect_products<double>(ctx, z, how);
}

BOOST_AUTO_TEST_CASE(routed_products_of_float_take_packs_of_four) {
  device::context ctx;
  for (layout const& how : layouts()) {
    expect_products<float>(ctx, {257, 4, 5, 2, few(5)}, how);
    expect_products<float>(ctx, {64, 3, 16, 2, few(20)}, how);
  }
}

BOOST_AUTO_TEST_CASE(results_have_the_same_bits_in_every_layout) {
  device::context ctx;
  // Ranks of whole packs along a row, and of none.
  for (index_t rank : {16, 5}) {
    problem<float> const q({70, 3, rank, 2, few(70)});
    std::vector<table<float>> expected;
    for (layout const& how : layouts()) {
      placed<int> ids(ctx, q.ids, how);
      placed<float> a(ctx, q.a, how), up(ctx, transposed(q.a), how), x(ctx, q.x, how),
          h(ctx, q.h, how);
      placed<float> h1(ctx, q.h, how), h2(ctx, q.h, how), y1(ctx, q.y, how), y2(ctx, q.y, how),
          da(ctx, q.a, how), db(ctx, transposed(q.a), how);
      routed_multiply(ctx, ids.view(), a.view(), x.view(), h1.view());
      routed_multiply(ctx, ids.view(), up.view().adjoint(), x.view(), h2.view());
      routed_multiply_add(ctx, 0.3, ids.view(), a.view(), h.view(), y1.view());
      routed_multiply_add(ctx, 0.3, ids.view(), up.view().adjoint(), h.view(), y2.view());
      routed_outer_add(ctx, 0.3, ids.view(), x.view(), h.view(), da.view());
      routed_adjoint_outer_add(ctx, 0.3, ids.view(), h.view(), x.view(), db.view());
      std::vector<table<float>> found;
      for (auto* each : {&h1, &h2, &y1, &y2, &da, &db}) found.push_back(each->entries(ctx));
      if (expected.empty()) expected = found;
      for (std::size_t k = 0; k < found.size(); ++k)
        BOOST_TEST(same_bits(found[k], expected[k]),
                   how.name << ", rank " << rank << ", result " << k);
      BOOST_TEST(same_bits(found[0], found[1]));
      BOOST_TEST(same_bits(found[2], found[3]));
      BOOST_TEST(same_bits(found[4], transposed(found[5])));
    }
  }
}

BOOST_AUTO_TEST_CASE(an_adjoint_input_is_as_good) {
  device::context ctx;
  problem<double> const q({21, 3, 4, 2, few(13)});
  auto const ids = on_device(ctx, transposed(q.ids));
  auto const a = on_device(ctx, q.a), x = on_device(ctx, transposed(q.x)),
             h = on_device(ctx, transposed(q.h));
  auto found_h = on_device(ctx, q.h), found_y = on_device(ctx, q.y), found_a = on_device(ctx, q.a);
  routed_multiply(ctx, ids.adjoint(), a, x.adjoint(), found_h);
  routed_multiply_add(ctx, 2, ids.adjoint(), a, h.adjoint(), found_y);
  routed_outer_add(ctx, 2, ids.adjoint(), x.adjoint(), h.adjoint(), found_a);
  BOOST_TEST(is_near(on_host(ctx, found_h), q.multiplied(), 21));
  BOOST_TEST(is_near(on_host(ctx, found_y), q.added(2), 9));
  BOOST_TEST(is_near(on_host(ctx, found_a), q.outer(2), 26));
}

BOOST_AUTO_TEST_CASE(routed_products_have_the_same_bits_in_every_run_and_order_of_lanes) {
  device::context ctx;
  problem<float> const q({130, 4, 11, 2, few(70)});
  auto const ids = on_device(ctx, q.ids);
  auto const a = on_device(ctx, q.a), x = on_device(ctx, q.x), h = on_device(ctx, q.h);
  std::vector<table<float>> found;
  auto const run = [&] {
    auto found_h = on_device(ctx, q.h), found_y = on_device(ctx, q.y),
         found_a = on_device(ctx, q.a), found_b = on_device(ctx, transposed(q.a));
    routed_multiply(ctx, ids, a, x, found_h);
    routed_multiply_add(ctx, 0.3, ids, a, h, found_y);
    routed_outer_add(ctx, 0.3, ids, x, h, found_a);
    routed_adjoint_outer_add(ctx, 0.3, ids, h, x, found_b);
    for (auto const* each : {&found_h, &found_y, &found_a, &found_b})
      found.push_back(on_host(ctx, *each));
    BOOST_TEST(same_bits(transposed(found.back()), found[found.size() - 2]));
  };
  run();
  in_each_lane_order(run);
  for (std::size_t k = 4; k < found.size(); ++k) BOOST_TEST(same_bits(found[k], found[k % 4]));
}

BOOST_AUTO_TEST_CASE(the_tokens_of_an_expert_are_added_in_their_order) {
  device::context ctx;
  // In float 1 vanishes beside 2^30: the sum tells when it was added.
  table<int> ids(1, 6);
  ids.entries = {0, 1, 0, 1, 0, 0};
  table<float> h(1, 6), x(1, 6);
  h.entries = {0x1p30F, 5, 1, 7, -0x1p30F, 1};
  std::fill(x.entries.begin(), x.entries.end(), 1.F);
  auto a = on_device(ctx, table<float>(1, 2));
  routed_outer_add(ctx, 1, on_device(ctx, ids), on_device(ctx, x), on_device(ctx, h), a);
  BOOST_TEST(on_host(ctx, a)(0, 0) == 1);
  BOOST_TEST(on_host(ctx, a)(0, 1) == 12);
}

BOOST_AUTO_TEST_CASE(the_parts_of_the_tokens_are_added_from_the_first_to_the_last) {
  device::context ctx;
  // Three parts of 44 tokens; expert 1 has slots in the second alone, expert 2 in none.
  index_t const tokens = 130;
  table<int> ids(1, tokens);
  table<float> h(1, tokens), x(1, tokens), start(1, 3);
  std::fill(x.entries.begin(), x.entries.end(), 1.F);
  for (index_t t = 50; t < 60; ++t) {
    ids(0, t) = 1;
    h(0, t) = static_cast<float>(t);
  }
  // From the last part to the first the result would be 1.
  h(0, 0) = 1;
  h(0, 44) = 0x1p30F;
  h(0, 88) = -0x1p30F;
  start.entries = {8, 2, -0.0F};
  auto const where = on_device(ctx, ids);
  auto const slots = on_device(ctx, h), tokens_of = on_device(ctx, x);
  auto a = on_device(ctx, start), b = on_device(ctx, transposed(start));
  routed_outer_add(ctx, 1, where, tokens_of, slots, a);
  routed_adjoint_outer_add(ctx, 1, where, slots, tokens_of, b);
  table<float> expected(1, 3);
  expected.entries = {8, 2 + 545, -0.0F};
  BOOST_TEST(same_bits(on_host(ctx, a), expected));
  BOOST_TEST(same_bits(on_host(ctx, b), transposed(expected)));
  // A factor of NaN shows an expert that is touched without a slot.
  auto const factor = number_on(ctx, std::numeric_limits<float>::quiet_NaN());
  routed_outer_add(ctx, factor, where, tokens_of, slots, a);
  BOOST_TEST(std::isnan(on_host(ctx, a)(0, 1)));
  BOOST_TEST(same_bits(part(on_host(ctx, a), 0, 1, 2, 1), part(expected, 0, 1, 2, 1)));
}

BOOST_AUTO_TEST_CASE(sums_of_parts_take_bounded_scratch_and_nothing_where_there_is_one) {
  // What blocks of 512 rows and 16 columns of float, or of half the rows of double, need.
  for (index_t blocks : {1, 3, 16, 64, 65, 128, 129, 4000})
    for (index_t tokens : {1, 63, 64, 65, 2048, 1000000}) {
      index_t const most = device::detail::most_token_parts(blocks);
      index_t const share = device::detail::tokens_of_part(tokens, most);
      index_t const parts = (tokens + share - 1) / share;
      BOOST_TEST((most == 1 || parts * blocks * 512 * 16 * 4 <= index_t{4} << 20));
      BOOST_TEST((parts == 1 || share >= 32));
      BOOST_TEST((blocks > 64 || tokens < 128 || parts > 1));
    }
  // Of 64 experts even the only part of a few tokens has sums: launches do not depend on tokens.
  for (index_t experts : {64, 65})
    for (index_t tokens : {0, 1, 64, 65}) {
      if (tokens > few(tokens)) break;
      device::context ctx;
      problem<float> const q({16, experts, 4, 1, tokens});
      auto const ids = on_device(ctx, q.ids);
      auto const x = on_device(ctx, q.x), h = on_device(ctx, q.h);
      auto a = on_device(ctx, q.a);
      std::size_t const held = fake_cuda::live_bytes();
      long const before = fake_cuda::calls("launch");
      routed_outer_add(ctx, 1, ids, x, h, a);
      int const launches = tokens == 0 ? 0 : experts == 64 ? 2 : 1;
      BOOST_TEST(fake_cuda::calls("launch") - before == launches);
      BOOST_TEST((fake_cuda::live_bytes() > held) == (launches == 2));
      BOOST_TEST(is_near(on_host(ctx, a), q.outer(1), tokens));
    }
}

BOOST_AUTO_TEST_CASE(sums_of_the_only_part_have_the_bits_of_what_is_added_at_once) {
  device::context ctx;
  // 65 experts have one part, the first three of them may have several.
  problem<float> const all({16, 65, 4, 2, few(64)}), some({16, 3, 4, 2, few(64)});
  auto const ids = on_device(ctx, some.ids);
  auto const x = on_device(ctx, some.x), h = on_device(ctx, some.h);
  auto a = on_device(ctx, all.a), b = on_device(ctx, part(all.a, 0, 16, 0, 12));
  routed_outer_add(ctx, -0.3, ids, x, h, a);
  routed_outer_add(ctx, -0.3, ids, x, h, b);
  BOOST_TEST(same_bits(on_host(ctx, b), part(on_host(ctx, a), 0, 16, 0, 12)));
}

BOOST_AUTO_TEST_CASE(what_no_slot_refers_to_is_neither_read_nor_changed) {
  device::context ctx;
  problem<double> q({40, 3, 4, 2, 6});
  double const none = std::numeric_limits<double>::quiet_NaN();
  // Token 2 and the second slot of token 3 are empty, expert 1 is taken by nobody.
  q.ids.entries = {0, 2, 2, 0, -1, -1, 0, -5, 2, 2, 0, 0};
  table<double> h = q.h, a = q.a, x = q.x;
  for (index_t b = 0; b < 8; ++b) h(b, 2) = none;
  for (index_t b = 4; b < 8; ++b) h(b, 3) = none;
  for (index_t i = 0; i < 40; ++i) {
    for (index_t b = 4; b < 8; ++b) a(i, b) = none;
    x(i, 2) = none;
  }
  auto const ids = on_device(ctx, q.ids);
  auto const down = on_device(ctx, a), slots = on_device(ctx, h), tokens = on_device(ctx, x);
  auto found_h = on_device(ctx, h), found_y = on_device(ctx, q.y), found_a = on_device(ctx, q.a);
  // With a factor of NaN a product with zero would show too.
  auto const factor = number_on(ctx, none);
  routed_multiply(ctx, ids, down, tokens, found_h);
  BOOST_TEST(is_near(on_host(ctx, found_h), q.multiplied(), 40));
  routed_multiply_add(ctx, 2, ids, down, slots, found_y);
  BOOST_TEST(is_near(on_host(ctx, found_y), q.added(2), 9));
  routed_outer_add(ctx, 2, ids, tokens, slots, found_a);
  BOOST_TEST(is_near(on_host(ctx, found_a), q.outer(2), 12));

  found_y = on_device(ctx, q.y);
  found_a = on_device(ctx, q.a);
  routed_multiply_add(ctx, factor, ids, down, slots, found_y);
  routed_outer_add(ctx, factor, ids, tokens, slots, found_a);
  auto const y = on_host(ctx, found_y), outer = on_host(ctx, found_a);
  BOOST_TEST(same_bits(part(y, 0, 40, 2, 1), part(q.y, 0, 40, 2, 1)));
  BOOST_TEST(std::isnan(y(39, 3)));
  BOOST_TEST(same_bits(part(outer, 0, 40, 4, 4), part(q.a, 0, 40, 4, 4)));
  BOOST_TEST(std::isnan(outer(39, 3)));
}

BOOST_AUTO_TEST_CASE(a_factor_may_be_an_entry_of_the_output) {
  device::context ctx;
  problem<double> const q({300, 3, 4, 2, few(20)});
  auto const ids = on_device(ctx, q.ids);
  auto const a = on_device(ctx, q.a), h = on_device(ctx, q.h);
  in_each_lane_order([&] {
    auto y = on_device(ctx, q.y);
    routed_multiply_add(ctx, y.middleRows(7, 1).middleCols(1, 1), ids, a, h, y);
    BOOST_TEST(is_near(on_host(ctx, y), q.added(q.y(7, 1)), 9));
  });
}

BOOST_AUTO_TEST_CASE(misuse_names_the_argument_and_leaves_the_output_alone) {
  device::context ctx;
  problem<double> const q({6, 3, 2, 2, 5});
  auto const ids = on_device(ctx, q.ids);
  auto const a = on_device(ctx, q.a), x = on_device(ctx, q.x);
  auto h = on_device(ctx, q.h), y = on_device(ctx, q.y);
  auto const cut = x.middleRows(0, 5), few = x.middleCols(0, 4);
  auto const all = q.a.cols;
  BOOST_TEST(message_of([&] { routed_multiply(ctx, ids, a, cut, h); }) ==
             "routed_multiply: x is 5x5, expected 6x5");
  BOOST_TEST(message_of([&] { routed_multiply(ctx, ids, a, x, h.middleRows(0, 3)); }) ==
             "routed_multiply: h is 3x5, expected a multiple of 2 rows and 5 columns");
  BOOST_TEST(message_of([&] { routed_multiply(ctx, ids, a.middleCols(0, all - 1), x, h); }) ==
             "routed_multiply: a is 6x5, expected a multiple of 2 columns");
  BOOST_TEST(message_of([&] { routed_multiply_add(ctx, 1, ids, a, h, y.middleCols(0, 4)); }) ==
             "routed_multiply_add: y is 6x4, expected 6x5");
  BOOST_TEST(message_of([&] { routed_multiply_add(ctx, x, ids, a, h, y); }) ==
             "routed_multiply_add: s is 6x5, expected 1x1");
  BOOST_TEST(message_of([&] { routed_outer_add(ctx, 1, ids, few, h, y); }) ==
             "routed_outer_add: x is 6x4, expected 6x5");
  BOOST_TEST(message_of([&] { routed_adjoint_outer_add(ctx, 1, ids, h, x, y.middleRows(0, 5)); }) ==
             "routed_adjoint_outer_add: x is 6x5, expected 5x5");
  BOOST_TEST(message_of([&] { routed_multiply_add(ctx, 1, ids, a, h, h); }) ==
             "routed_multiply_add: y is 4x5, expected 6x5");
  BOOST_TEST(message_of([&] { routed_outer_add(ctx, 1, ids, y, h, y.middleCols(1, 4)); }) ==
             "routed_outer_add: a overlaps x, expected separate memory");
  BOOST_TEST(same_bits(on_host(ctx, y), q.y));
  BOOST_TEST(same_bits(on_host(ctx, h), q.h));
}

BOOST_AUTO_TEST_SUITE_END()
