// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The arena and the scratch that is taken from it.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/context.hpp>
#include <stiefelx/host/scratch.hpp>

namespace {

using stiefelx::host::context;
using stiefelx::host::scratch;

struct block {
  unsigned char* first;
  std::size_t size;
  unsigned char mark;
};

block take(stiefelx::host::arena& a, std::size_t size, unsigned char mark) {
  auto* first = static_cast<unsigned char*>(a.allocate(size));
  std::fill_n(first, size, mark);
  return {first, size, mark};
}

bool is_intact(block const& b) {
  return std::all_of(b.first, b.first + b.size, [&](unsigned char c) { return c == b.mark; });
}

}  // namespace

BOOST_AUTO_TEST_SUITE(arena)

BOOST_AUTO_TEST_CASE(blocks_are_aligned_and_apart) {
  stiefelx::host::arena a;
  std::vector<block> blocks;
  unsigned char mark = 0;
  for (std::size_t size : {0U, 1U, 63U, 64U, 65U, 1000U, 70000U, 5U, 300000U, 0U})
    blocks.push_back(take(a, size, ++mark));
  for (block const& b : blocks) {
    BOOST_TEST(reinterpret_cast<std::uintptr_t>(b.first) % 64 == 0);
    BOOST_TEST(is_intact(b));
  }
  BOOST_TEST(a.live() == blocks.size());
  for (block const& b : blocks) a.release(b.first);
  BOOST_TEST(a.live() == 0);
}

BOOST_AUTO_TEST_CASE(live_blocks_never_move) {
  stiefelx::host::arena a;
  block const first = take(a, 100, 1);
  block const second = take(a, std::size_t{1} << 20, 2);
  BOOST_TEST(is_intact(first));
  a.release(second.first);
  block const third = take(a, std::size_t{1} << 22, 3);
  BOOST_TEST(is_intact(first));
  BOOST_TEST(is_intact(third));
}

BOOST_AUTO_TEST_CASE(an_empty_last_chunk_is_used_from_its_start) {
  stiefelx::host::arena a;
  block const kept = take(a, 1000, 1), top = take(a, 1000, 2);
  block const large = take(a, 100000, 3);
  std::size_t const capacity = a.capacity();
  a.release(large.first);
  a.release(top.first);
  block const next = take(a, 100000, 4);
  BOOST_TEST(next.first == large.first);
  BOOST_TEST(a.capacity() == capacity);
  BOOST_TEST(is_intact(kept));
}

BOOST_AUTO_TEST_CASE(every_order_of_release_gives_all_memory_back) {
  // The third block opens a second chunk.
  std::array<std::size_t, 5> const sizes{1000, 30000, 60000, 100, 50000};
  std::array<std::size_t, 5> order{0, 1, 2, 3, 4};
  do {
    stiefelx::host::arena a;
    std::vector<block> blocks;
    for (std::size_t size : sizes)
      blocks.push_back(take(a, size, static_cast<unsigned char>(blocks.size())));
    std::size_t const capacity = a.capacity();
    for (std::size_t i : order) {
      BOOST_TEST(is_intact(blocks[i]));
      a.release(blocks[i].first);
    }
    BOOST_TEST(a.live() == 0);
    // All of it in one piece: the chunks have merged.
    BOOST_TEST(a.capacity() == capacity);
    void* const whole = a.allocate(capacity);
    BOOST_TEST(a.capacity() == capacity);
    a.release(whole);
  } while (std::next_permutation(order.begin(), order.end()));
}

BOOST_AUTO_TEST_CASE(a_long_mixed_use_keeps_every_block_intact) {
  stiefelx::host::arena a;
  std::mt19937_64 draw(7);
  std::vector<block> blocks;
  bool intact = true;
  for (int step = 0; step < 3000; ++step) {
    if (blocks.empty() || (draw() % 2 == 0 && blocks.size() < 40)) {
      blocks.push_back(take(a, draw() % 3000, static_cast<unsigned char>(step)));
    } else {
      auto const chosen = static_cast<std::ptrdiff_t>(draw() % blocks.size());
      intact = intact && is_intact(blocks[static_cast<std::size_t>(chosen)]);
      a.release(blocks[static_cast<std::size_t>(chosen)].first);
      blocks.erase(blocks.begin() + chosen);
    }
    intact = intact && a.live() == blocks.size();
  }
  BOOST_TEST(intact);
  for (block const& b : blocks) a.release(b.first);
  BOOST_TEST(a.live() == 0);
}

BOOST_AUTO_TEST_CASE(the_same_work_again_needs_no_more_memory) {
  stiefelx::host::arena a;
  void* const kept = a.allocate(10);
  auto const work = [&] {
    std::vector<void*> blocks;
    for (std::size_t size : {50000U, 90000U, 400000U, 10U}) blocks.push_back(a.allocate(size));
    a.release(blocks[2]);
    blocks[2] = a.allocate(200000);
    for (void* b : blocks) a.release(b);
  };
  // With a block kept alive the chunks cannot merge; the last one is large enough for a second run.
  work();
  work();
  std::size_t const capacity = a.capacity();
  for (int i = 0; i < 10; ++i) work();
  BOOST_TEST(a.capacity() == capacity);
  a.release(kept);
  for (int i = 0; i < 10; ++i) work();
  BOOST_TEST(a.capacity() == capacity);
}

BOOST_AUTO_TEST_CASE(scratch_goes_back_when_it_dies) {
  context ctx;
  {
    auto a = scratch<double>(ctx, 3, 4);
    auto const empty = scratch<float>(ctx, 0, 5);
    BOOST_TEST(ctx.memory.live() == 2U);
    BOOST_TEST(empty.cols() == 5);
  }
  BOOST_TEST(ctx.memory.live() == 0U);
}

BOOST_AUTO_TEST_CASE(moved_scratch_has_one_owner) {
  context ctx;
  {
    auto a = scratch<double>(ctx, 3, 4);
    a.setConstant(2);
    double const* const first = a.data();
    auto b = std::move(a);
    BOOST_TEST(b.data() == first);
    BOOST_TEST(ctx.memory.live() == 1U);
    {
      auto const c = std::move(b);
      BOOST_TEST((c.array() == 2).all());
      BOOST_TEST(ctx.memory.live() == 1U);
    }
    BOOST_TEST(ctx.memory.live() == 0U);
    auto other = scratch<double>(ctx, 1, 1);
    BOOST_TEST(ctx.memory.live() == 1U);
  }
  BOOST_TEST(ctx.memory.live() == 0U);
}

BOOST_AUTO_TEST_CASE(assigned_scratch_copies_entries) {
  context ctx;
  auto a = scratch<double>(ctx, 3, 4);
  auto b = scratch<double>(ctx, 3, 4);
  a.setConstant(2);
  b.setZero();
  b = a;
  a.setZero();
  BOOST_TEST((b.array() == 2).all());
  b = 0.5 * b;
  BOOST_TEST((b.array() == 1).all());
}

BOOST_AUTO_TEST_CASE(fixed_sizes_use_no_arena) {
  context ctx;
  Eigen::Matrix<double, 3, 4> const a = Eigen::Matrix<double, 3, 4>::Ones();
  auto const b = clone(ctx, a);
  auto const c = widen(ctx, a);
  BOOST_TEST((b.array() == 1).all());
  BOOST_TEST((c.array() == 1).all());
  BOOST_TEST(ctx.memory.live() == 0U);
  BOOST_TEST(ctx.memory.capacity() == 0U);
}

BOOST_AUTO_TEST_CASE(a_context_needs_a_thread) {
  for (int threads : {0, -3}) {
    std::string text = "nothing was thrown";
    try {
      context const ctx({.threads = threads});
    } catch (stiefelx::option_error const& error) {
      text = error.what();
    }
    BOOST_TEST(text == "host::context: threads is " + std::to_string(threads) +
                           ", expected a number of at least 1");
  }
}

BOOST_AUTO_TEST_SUITE_END()
