// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Team text over many items: one block a team, work memory of two kinds.
#include <algorithm>
#include <cstddef>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::matrix_ref;
using stiefelx::Team;
namespace device = stiefelx::cuda;

// b(:, item) = a(:, item) reversed, on the way through work memory, which starts over every item.
struct reverse_body {
  stiefelx::index_t work;
  stiefelx::index_t scratch_size() const { return work; }
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t item, double* room,
                              matrix_ref<S const> a, matrix_ref<S> b) const {
    stiefelx::index_t const n = a.rows, far = work - n;
    for (stiefelx::index_t i = team.rank(); i < n; i += team.size())
      room[far + i] = static_cast<double>(a(i, item));
    team.barrier();
    for (stiefelx::index_t i = team.rank(); i < n; i += team.size())
      b(i, item) = static_cast<S>(room[far + n - 1 - i]);
  }
};

struct count_lanes_body {
  stiefelx::index_t scratch_size() const { return 0; }
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t item, double*, matrix_ref<S>,
                              matrix_ref<int> lanes) const {
    if (team.rank() == 0) lanes(0, item) += static_cast<int>(team.size());
  }
};

struct busy_body : count_lanes_body {
  stiefelx::index_t item_entries() const { return 10000; }
};

// b = a, by way of the last places of its scratch.
struct copy_item {
  stiefelx::index_t entries;
  stiefelx::index_t scratch_entries() const { return entries; }
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, S* scratch, matrix_ref<S const> a,
                              matrix_ref<S> b) const {
    S* const room = scratch + entries - a.rows;
    for (stiefelx::index_t i = team.rank(); i < a.rows; i += team.size()) room[i] = a(i, 0);
    team.barrier();
    for (stiefelx::index_t i = team.rank(); i < a.rows; i += team.size()) b(i, 0) = room[i];
  }
};

struct touch_nothing_body {
  stiefelx::index_t scratch_size() const { return 3; }
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const&, stiefelx::index_t, double*) const {}
};

// What a body is told by the types it gets.
struct types_body {
  stiefelx::index_t scratch_size() const { return 0; }
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const&, stiefelx::index_t, double*, matrix_ref<double const>,
                              matrix_ref<double>, matrix_ref<int const>) const {}
};

template <class Ctx, class... A>
concept CanRun = requires(Ctx& ctx, A&&... a) { run_batch(ctx, 1, types_body{}, a...); };

}  // namespace

BOOST_AUTO_TEST_SUITE(batch)

BOOST_AUTO_TEST_CASE(every_item_runs_once_with_work_memory_of_its_own) {
  // The second and third amounts lie on both sides of what shared memory is used for.
  for (index_t const work : {70, 5120, 5121, 20000})
    for (index_t const count : {1, 5, 130}) {
      if (work > 5121 && count > 5) continue;
      device::context ctx;
      matrix_x<float> const a = random_matrix<float>(70, count, 1);
      auto const source = on_device(ctx, a);
      auto found = zeros<float>(ctx, 70, count);
      run_batch(ctx, count, reverse_body{work}, source, found);
      BOOST_TEST(same(on_host(ctx, found), matrix_x<float>(a.colwise().reverse())));
    }
}

BOOST_AUTO_TEST_CASE(no_item_launches_nothing) {
  device::context ctx;
  auto a = zeros<float>(ctx, 3, 0), b = zeros<float>(ctx, 3, 0);
  long const before = fake_cuda::calls("launch");
  run_batch(ctx, 0, reverse_body{3}, std::as_const(a), b);
  BOOST_TEST(fake_cuda::calls("launch") == before);
  run_batch(ctx, 2, touch_nothing_body{});
  BOOST_TEST(fake_cuda::calls("launch") == before + 1);
}

BOOST_AUTO_TEST_CASE(the_entries_of_an_item_decide_the_lanes) {
  auto const lanes_for = [](index_t rows, index_t cols, index_t count) {
    device::context ctx;
    auto a = zeros<float>(ctx, rows, cols);
    auto lanes = zeros<int>(ctx, 1, count);
    run_batch(ctx, count, count_lanes_body{}, a, lanes);
    matrix_x<int> const found = on_host(ctx, lanes);
    BOOST_TEST(same(found, matrix_x<int>(matrix_x<int>::Constant(1, count, found(0, 0)))));
    return found(0, 0);
  };
  BOOST_TEST(lanes_for(4, 4, 1) == 32);
  BOOST_TEST(lanes_for(512, 7, 7) == 32);
  BOOST_TEST(lanes_for(513, 7, 7) == 64);
  BOOST_TEST(lanes_for(2049, 3, 3) == 128);
  BOOST_TEST(lanes_for(4096, 6, 2) == 256);
}

BOOST_AUTO_TEST_CASE(what_all_items_read_decides_no_lanes) {
  device::context ctx;
  auto lanes = zeros<int>(ctx, 1, 3);
  // 8000 entries in two columns, which three items can only share.
  auto const shared = zeros<float>(ctx, 4000, 2), own = zeros<float>(ctx, 600, 3);
  run_batch(ctx, 3, count_lanes_body{}, shared, lanes);
  BOOST_TEST(on_host(ctx, lanes)(0, 0) == 32);
  run_batch(ctx, 3, count_lanes_body{}, own, lanes);
  BOOST_TEST(on_host(ctx, lanes)(0, 0) == 32 + 64);
  // A body that knows its items better.
  run_batch(ctx, 3, busy_body{}, own, lanes);
  BOOST_TEST(on_host(ctx, lanes)(0, 0) == 32 + 64 + 256);
}

BOOST_AUTO_TEST_CASE(more_items_than_an_int_counts_run_in_few_blocks) {
  device::context ctx;
  unsigned const blocks = device::detail::resident_blocks(ctx, index_t{1} << 40, 32, 0);
  BOOST_TEST(blocks >= 1u);
  BOOST_TEST(blocks <= static_cast<unsigned>(ctx.multiprocessors) * 32);
}

BOOST_AUTO_TEST_CASE(work_memory_is_measured_in_the_scalar_of_the_matrices) {
  // Of complex scalars there would be 46 KB, which a block does not have: so pool memory would show.
  device::context ctx;
  matrix_x<float> const given = random_matrix<float>(900, 4, 6);
  auto const a = on_device(ctx, given);
  auto b = zeros<float>(ctx, 900, 4);
  stiefelx::each_item<copy_item> const body{{2900}, 4};
  std::size_t const before = ctx.memory.capacity();
  run_batch(ctx, 4, body, a, b);
  BOOST_TEST(ctx.memory.capacity() == before);
  BOOST_TEST(same(on_host(ctx, b), given));
  BOOST_TEST(body.template scratch_size_of<float>() == 1450);
  BOOST_TEST(body.scratch_size() == 5800);
}

BOOST_AUTO_TEST_CASE(views_keep_their_stride) {
  device::context ctx;
  matrix_x<double> const a = random_matrix<double>(12, 9, 1);
  auto source = on_device(ctx, a), target = on_device(ctx, a);
  auto const inside = source.middleRows(2, 5).middleCols(1, 4);
  run_batch(ctx, 4, reverse_body{5}, inside, target.middleRows(7, 5).middleCols(3, 4));
  matrix_x<double> expected = a;
  expected.block(7, 3, 5, 4) = a.block(2, 1, 5, 4).colwise().reverse();
  BOOST_TEST(same(on_host(ctx, target), expected));
}

BOOST_AUTO_TEST_CASE(const_matrices_arrive_as_const) {
  using device::matrix;
  using device::matrix_view;
  static_assert(
      CanRun<device::context, matrix<double> const&, matrix<double>&, matrix<int> const&>);
  static_assert(CanRun<device::context, matrix_view<double const>, matrix_view<double>,
                       matrix_view<int const>>);
  static_assert(CanRun<device::context, matrix<double>&, matrix<double>&, matrix<int>&>);
  static_assert(
      !CanRun<device::context, device::adjoint_view<double>, matrix<double>&, matrix<int>&>);
  static_assert(!CanRun<device::context, matrix_x<double>&, matrix<double>&, matrix<int>&>);
  device::context ctx;
  auto a = zeros<double>(ctx, 2, 2), b = zeros<double>(ctx, 2, 2);
  auto const c = zeros<int>(ctx, 1, 2);
  run_batch(ctx, 2, types_body{}, std::as_const(a), b, c);
}

BOOST_AUTO_TEST_CASE(the_second_run_takes_no_more_device_memory) {
  device::context ctx;
  auto const a = on_device(ctx, random_matrix<float>(70, 40, 1));
  auto b = zeros<float>(ctx, 70, 40);
  run_batch(ctx, 40, reverse_body{9000}, a, b);
  std::size_t const before = ctx.memory.capacity();
  for (int k = 0; k < 2; ++k) run_batch(ctx, 40, reverse_body{9000}, a, b);
  BOOST_TEST(ctx.memory.capacity() == before);
  BOOST_TEST(ctx.memory.live() == 0u);
}

BOOST_AUTO_TEST_CASE(work_memory_of_all_teams_together_stays_bounded) {
  device::context ctx;
  auto const a = zeros<float>(ctx, 4, 200);
  auto b = zeros<float>(ctx, 4, 200);
  // A megabyte a team: at most 64 teams at once, or one a multiprocessor, although 200 items wait.
  run_batch(ctx, 200, reverse_body{std::ptrdiff_t{1} << 17}, a, b);
  std::size_t const teams = static_cast<std::size_t>(std::max(64, ctx.multiprocessors));
  BOOST_TEST(ctx.memory.capacity() <= (teams + 1) << 20);
}

BOOST_AUTO_TEST_CASE(gram_schmidt_of_a_stack_has_the_same_bits_as_of_each_matrix) {
  device::context ctx;
  constexpr index_t rows = 33, cols = 3, count = 4;
  matrix_x<double> const a = random_matrix<double>(rows, cols * count, 5);
  auto const all = on_device(ctx, a);
  auto q = zeros<double>(ctx, rows, cols * count), r = zeros<double>(ctx, cols, cols * count);
  auto status = zeros<int>(ctx, 1, count);
  run_batch(ctx, count, stiefelx::gram_schmidt_body{cols}, all, q, r, status);
  matrix_x<double> const together = on_host(ctx, q);
  for (index_t item = 0; item < count; ++item) {
    run_batch(ctx, 1, stiefelx::gram_schmidt_body{cols}, all.middleCols(item * cols, cols),
              q.middleCols(0, cols), r.middleCols(0, cols), status.middleCols(0, 1));
    matrix_x<double> const alone = on_host(ctx, q).leftCols(cols);
    BOOST_TEST(same(alone, matrix_x<double>(together.middleCols(item * cols, cols))));
    BOOST_TEST(near(alone.transpose() * alone, matrix_x<double>::Identity(cols, cols),
                    tolerance<double>(rows)));
  }
}

BOOST_AUTO_TEST_SUITE_END()
