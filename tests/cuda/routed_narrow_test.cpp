// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Experts and factors of two bytes an entry on the device: the bits of their widened twins.

#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/routed.hpp>

namespace {

using namespace tables;
using stiefelx::bfloat16;
using stiefelx::float16;

using stored = std::tuple<bfloat16, float16>;

struct sizes {
  index_t width, experts, rank, slots, tokens;
};

// Ranks whose rows are packs of either scalar, of one of them, and of none; rows that fill no pack.
std::vector<sizes> cases() {
  if (!fake_cuda::keeps_lane_order) return {{37, 3, 8, 2, 5}};
  return {{64, 3, 16, 2, 9}, {37, 3, 8, 2, 13}, {130, 2, 12, 3, 5}, {21, 4, 5, 1, 18}};
}

table<int> some_ids(sizes const& z) {
  table<int> ids(z.slots, z.tokens);
  for (index_t t = 0; t < z.tokens; ++t)
    for (index_t i = 0; i < z.slots; ++i)
      // One more than there are experts, and an empty slot.
      ids(i, t) = static_cast<int>((t * t + 2 * i + t) % (z.experts + 2)) - 1;
  return ids;
}

template <class S>
void expect_bits_of_widened(device::context& ctx, sizes const& z, layout const& how) {
  BOOST_TEST_INFO(how.name << ": d=" << z.width << ", r=" << z.rank);
  auto const narrow = random_table<S>(z.width, z.experts * z.rank, 1);
  auto const wide = cast<float>(narrow);
  auto const x = random_table<float>(z.width, z.tokens, 2);
  auto const h = random_table<float>(z.slots * z.rank, z.tokens, 3);
  placed<int> ids(ctx, some_ids(z), how);
  placed<float> tokens(ctx, x, how), parts(ctx, h, how);
  auto const run = [&](auto const& experts) {
    placed<float> found_h(ctx, h, how), found_y(ctx, x, how);
    routed_multiply(ctx, ids.view(), experts, tokens.view(), found_h.view());
    routed_multiply_add(ctx, -0.75, ids.view(), experts, parts.view(), found_y.view());
    return std::tuple(found_h.entries(ctx), found_y.entries(ctx));
  };
  auto const compare = [&](auto const& found, auto const& expected) {
    BOOST_TEST(same_bits(std::get<0>(found), std::get<0>(expected)));
    BOOST_TEST(same_bits(std::get<1>(found), std::get<1>(expected)));
    BOOST_TEST(!same_bits(std::get<0>(found), h));
    BOOST_TEST(!same_bits(std::get<1>(found), x));
  };
  placed<S> a(ctx, narrow, how), up(ctx, transposed(narrow), how);
  placed<float> wide_a(ctx, wide, how), wide_up(ctx, transposed(wide), how);
  auto const by_columns = run(wide_a.view()), by_rows = run(wide_up.view().adjoint());
  compare(run(a.view()), by_columns);
  compare(run(up.view().adjoint()), by_rows);
  // Lanes have the same rows either way.
  compare(by_rows, by_columns);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(routed_narrow)

BOOST_AUTO_TEST_CASE_TEMPLATE(stored_experts_give_the_bits_of_widened_ones_in_every_layout, S,
                              stored) {
  device::context ctx;
  for (sizes const& z : cases())
    for (layout const& how : layouts()) expect_bits_of_widened<S>(ctx, z, how);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_pattern_of_two_bytes_is_read_as_its_number, S, stored) {
  device::context ctx;
  // One row and rank 1: h is the entry times 1. NaN and infinities are among them.
  index_t const count = fake_cuda::keeps_lane_order ? 4096 : 64, step = 65536 / count;
  table<S> a(1, count);
  table<int> ids(1, count);
  table<float> x(1, count), h(1, count);
  for (index_t e = 0; e < count; ++e) {
    a(0, e).bits = static_cast<std::uint16_t>(e * step + e % step);
    ids(0, e) = static_cast<int>(e);
    x(0, e) = 1;
  }
  auto found = on_device(ctx, h);
  routed_multiply(ctx, on_device(ctx, ids), on_device(ctx, a), on_device(ctx, x), found);
  table<float> expected = cast<float>(a);
  // The product of a number with 1, added to 0, has no sign of zero.
  for (float& value : expected.entries) value += 0.0F;
  table<float> got = on_host(ctx, found);
  // A GPU has one NaN for all of them.
  for (std::size_t i = 0; i < got.entries.size(); ++i)
    if (std::isnan(expected.entries[i]) && std::isnan(got.entries[i]))
      got.entries[i] = expected.entries[i];
  BOOST_TEST(same_bits(got, expected));
}

BOOST_AUTO_TEST_CASE(stored_experts_are_read_where_they_lie) {
  device::context ctx;
  sizes const z{64, 4, 16, 2, fake_cuda::keeps_lane_order ? 20 : 3};
  auto const ids = on_device(ctx, some_ids(z));
  auto const a = on_device(ctx, random_table<bfloat16>(z.width, z.experts * z.rank, 1));
  auto const up = on_device(ctx, random_table<bfloat16>(z.experts * z.rank, z.width, 1));
  auto y = on_device(ctx, random_table<float>(z.width, z.tokens, 2));
  auto h = on_device(ctx, random_table<float>(z.slots * z.rank, z.tokens, 3));
  std::size_t const held = fake_cuda::live_bytes();
  routed_multiply(ctx, ids, a, y, h);
  routed_multiply(ctx, ids, up.adjoint(), y, h);
  routed_multiply_add(ctx, 1, ids, a, h, y);
  routed_multiply_add(ctx, 1, ids, up.adjoint(), h, y);
  BOOST_TEST(fake_cuda::live_bytes() == held, "no scratch is taken");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(products_with_one_stored_factor_have_the_bits_of_the_widened_one, S,
                              stored) {
  device::context ctx;
  for (layout const& how : layouts()) {
    BOOST_TEST_INFO(how.name);
    auto const narrow = random_table<S>(13, 9, 1);
    auto const right = random_table<float>(9, 6, 2), left = random_table<float>(5, 13, 3);
    auto const start = random_table<float>(13, 6, 4), begin = random_table<float>(5, 9, 5);
    placed<S> a(ctx, narrow, how), turned(ctx, transposed(narrow), how);
    // As scratch lies: cuBLAS may add up in another order for another stride, address or operation.
    auto const wide = on_device(ctx, cast<float>(narrow));
    auto const wide_turned = on_device(ctx, cast<float>(transposed(narrow)));
    placed<float> b(ctx, right, how), c(ctx, left, how);
    auto const run = [&](auto const& factor) {
      placed<float> first(ctx, start, how), second(ctx, begin, how);
      multiply(ctx, factor, b.view(), first.view());
      multiply_add(ctx, -0.5, factor, b.view(), first.view());
      multiply_add(ctx, 2, c.view(), factor, second.view());
      return std::tuple(first.entries(ctx), second.entries(ctx));
    };
    auto const expected = run(wide), by_rows = run(wide_turned.adjoint());
    auto const compare = [](auto const& found, auto const& bits) {
      BOOST_TEST(same_bits(std::get<0>(found), std::get<0>(bits)));
      BOOST_TEST(same_bits(std::get<1>(found), std::get<1>(bits)));
    };
    compare(run(a.view()), expected);
    compare(run(turned.view().adjoint()), by_rows);
    // Sums of 9 and of 13 products of numbers up to 1.
    BOOST_TEST(distance(std::get<0>(by_rows), std::get<0>(expected)) <= 0x1p-18);
    BOOST_TEST(distance(std::get<1>(by_rows), std::get<1>(expected)) <= 0x1p-17);
    BOOST_TEST(!same_bits(std::get<0>(expected), start));
  }
}

BOOST_AUTO_TEST_SUITE_END()
