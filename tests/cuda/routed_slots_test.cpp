// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tokens with more slots than a block lists at once: routed products are launched for some of them after
// some, with the shared memory that every device has.

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
using device::detail::most_slots;

constexpr index_t width = 5, experts = 3, rank = 2, tokens = 2;

// Numbers of a routing, and what the four products are by loops.
struct many_slots {
  table<int> ids;
  table<double> a, x, h, y;
  table<double> multiplied, added, combined, outer;

  explicit many_slots(index_t slots)
      : ids(slots, tokens),
        a(random_table(width, experts * rank, 1)),
        x(random_table(width, tokens, 2)),
        h(random_table(slots * rank, tokens, 3)),
        y(random_table(width, tokens, 4)),
        multiplied(slots * rank, tokens),
        added(y),
        combined(width, tokens),
        outer(a) {
    for (index_t t = 0; t < tokens; ++t)
      for (index_t i = 0; i < slots; ++i) ids(i, t) = static_cast<int>((i * i + 2 * t) % 5) - 1;
    for (index_t t = 0; t < tokens; ++t)
      for (index_t i = 0; i < slots; ++i) {
        int const e = ids(i, t);
        for (index_t b = 0; e >= 0 && e < experts && b < rank; ++b)
          for (index_t row = 0; row < width; ++row) {
            double const entry = a(row, e * rank + b), part = h(i * rank + b, t);
            multiplied(i * rank + b, t) += entry * x(row, t);
            added(row, t) += 2 * entry * part;
            combined(row, t) += 2 * entry * part;
            outer(row, e * rank + b) += 2 * x(row, t) * part;
          }
      }
  }
};

// Terms are below 2 and are summed in another order.
bool is_near(table<double> const& found, table<double> const& expected, index_t terms) {
  double const size = 2 * (std::sqrt(static_cast<double>(terms)) + 1);
  return distance(found, expected) <= support::tolerance<double>(terms) * size;
}

// The last launch may have one slot, or as many as all others.
std::vector<index_t> many() { return {most_slots, most_slots + 1, 2 * most_slots, 3200, 15000}; }

}  // namespace

BOOST_AUTO_TEST_SUITE(routed_slots)

BOOST_AUTO_TEST_CASE(products_take_any_number_of_slots) {
  device::context ctx;
  for (index_t slots : many()) BOOST_TEST_CONTEXT("k=" << slots) {
      many_slots const q(slots);
      auto const ids = on_device(ctx, q.ids);
      auto const a = on_device(ctx, q.a), x = on_device(ctx, q.x), h = on_device(ctx, q.h);
      auto found_h = on_device(ctx, q.h), y = on_device(ctx, q.y), z = on_device(ctx, q.y);
      auto down = on_device(ctx, q.a), up = on_device(ctx, transposed(q.a));
      routed_multiply(ctx, ids, a, x, found_h);
      routed_multiply_add(ctx, 2, ids, a, h, y);
      routed_combine(ctx, 2, ids, a, h, z);
      routed_outer_add(ctx, 2, ids, x, h, down);
      routed_adjoint_outer_add(ctx, 2, ids, h, x, up);
      BOOST_TEST(is_near(on_host(ctx, found_h), q.multiplied, width));
      BOOST_TEST(is_near(on_host(ctx, y), q.added, slots * rank));
      BOOST_TEST(is_near(on_host(ctx, z), q.combined, slots * rank));
      BOOST_TEST(is_near(on_host(ctx, down), q.outer, slots * tokens));
      BOOST_TEST(is_near(transposed(on_host(ctx, up)), q.outer, slots * tokens));
    }
}

BOOST_AUTO_TEST_CASE(launches_follow_the_slots_and_ask_for_no_shared_memory) {
  device::context ctx;
  for (index_t slots : many()) BOOST_TEST_CONTEXT("k=" << slots) {
      many_slots const q(slots);
      auto const ids = on_device(ctx, q.ids);
      auto const a = on_device(ctx, q.a), x = on_device(ctx, q.x), h = on_device(ctx, q.h);
      auto y = on_device(ctx, q.y), found_h = on_device(ctx, q.h), down = on_device(ctx, q.a);
      long const times = (slots + most_slots - 1) / most_slots;
      auto const launches = [&](auto const& call) {
        long const before = fake_cuda::calls("launch");
        call();
        return fake_cuda::calls("launch") - before;
      };
      long const asked = fake_cuda::calls("cudaFuncSetAttribute");
      BOOST_TEST(launches([&] { routed_multiply(ctx, ids, a, x, found_h); }) == times);
      BOOST_TEST(launches([&] { routed_combine(ctx, 2, ids, a, h, y); }) == times);
      BOOST_TEST(launches([&] { routed_outer_add(ctx, 2, ids, x, h, down); }) == 2 * times);
      BOOST_TEST(fake_cuda::calls("cudaFuncSetAttribute") == asked);
    }
}

BOOST_AUTO_TEST_CASE(launches_hold_what_every_device_has) {
  // The largest blocks of tokens, of rows and of columns that there are, of the wider scalar.
  using sums = device::routed_sums<true, false, double, double, double>;
  using outer = device::routed_outer<true, false, double, double>;
  for (index_t slots : {1, 2, 8, 64, 255, 256, 257, 1024}) {
    index_t const t = device::detail::tokens_of_block({1, 1, 1, slots, 1 << 20}, 16, 64);
    std::size_t const of_tokens =
        std::size_t(t) * 128 * sizeof(sums::pack) + device::sorted_slots::shared_bytes(t * slots);
    index_t const stretch = std::max<index_t>(1024 / slots, 1);
    BOOST_TEST(of_tokens <= 48U * 1024);
    BOOST_TEST(outer::shared_bytes(stretch * slots, outer::most_threads) <= 48U * 1024);
  }
}

BOOST_AUTO_TEST_CASE(a_token_whose_slots_are_empty_keeps_its_bits_or_becomes_zero) {
  device::context ctx;
  index_t const slots = 2 * most_slots + 3;
  many_slots q(slots);
  // Token 0 has a single slot, in the second launch; token 1 has none.
  std::fill(q.ids.entries.begin(), q.ids.entries.end(), -1);
  q.ids(most_slots + 5, 0) = 1;
  double const none = std::numeric_limits<double>::quiet_NaN();
  auto const ids = on_device(ctx, q.ids);
  auto const a = on_device(ctx, q.a), h = on_device(ctx, q.h), s = number_on(ctx, none);
  auto y = on_device(ctx, q.y), z = on_device(ctx, q.y);
  routed_multiply_add(ctx, s, ids, a, h, y);
  routed_combine(ctx, 2, ids, a, h, z);
  auto const kept = on_host(ctx, y), fresh = on_host(ctx, z);
  for (index_t row = 0; row < width; ++row) {
    BOOST_TEST(std::isnan(kept(row, 0)));
    BOOST_TEST(kept(row, 1) == q.y(row, 1));
    double expected = 0;
    for (index_t b = 0; b < rank; ++b)
      expected += 2 * q.a(row, rank + b) * q.h((most_slots + 5) * rank + b, 0);
    BOOST_TEST(std::abs(fresh(row, 0) - expected) < 1e-14);
    BOOST_TEST(fresh(row, 1) == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_factor_in_the_output_is_read_before_the_first_launch) {
  device::context ctx;
  many_slots const q(most_slots + 1);
  auto const ids = on_device(ctx, q.ids);
  auto const a = on_device(ctx, q.a), h = on_device(ctx, q.h);
  auto y = on_device(ctx, q.y), expected = on_device(ctx, q.y);
  auto const s = number_on(ctx, q.y(3, 1));
  routed_multiply_add(ctx, s, ids, a, h, expected);
  routed_multiply_add(ctx, y.middleRows(3, 1).middleCols(1, 1), ids, a, h, y);
  BOOST_TEST(same_bits(on_host(ctx, y), on_host(ctx, expected)));
}

BOOST_AUTO_TEST_SUITE_END()
