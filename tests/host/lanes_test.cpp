// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Team text in SIMD lanes: layouts, threads, memory, and the same text item by item.

#include <algorithm>
#include <complex>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/batch_lanes.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <stiefelx/team/each_item.hpp>
#include <stiefelx/team/lanes.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/guarded.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::each_item;
using stiefelx::fixed_stiefel;
using stiefelx::power;
using stiefelx::stiefel;
using stiefelx::host::context;

/// b = a sqrt(|a(0, 0)|), but 1 where an entry of a is below zero: every function of lane text.
struct scaling_item {
  stiefelx::index_t n, p;

  static constexpr bool has_fixed_shape = false;
  index_t scratch_entries() const { return n * p; }

  template <class Team, class S, class A, class B>
  void operator()(Team const& team, S* scratch, A a, B b) const {
    using std::sqrt;
    using stiefelx::constant;
    using stiefelx::select;
    read_item(team, n, p, a, scratch, n);
    S const zero = constant<S>(0);
    S const root = sqrt(select(scratch[0] < zero, -scratch[0], scratch[0]));
    for (index_t k = 0; k < n * p; ++k)
      scratch[k] = select(scratch[k] < zero, constant<S>(1), scratch[k] * root);
    write_item(team, n, p, scratch, n, b);
  }
};

using scalars = std::tuple<float, double>;

}  // namespace

BOOST_AUTO_TEST_SUITE(lanes)

BOOST_AUTO_TEST_CASE_TEMPLATE(lane_text_does_in_packs_what_it_does_item_by_item, S, scalars) {
  context ctx;
  for (index_t const count : {0, 1, 5, 16, 33})
    for (index_t const n : {1, 3, 17}) {
      BOOST_TEST_INFO_SCOPE(count << " items of " << n << "x2");
      matrix_x<S> const a = random_matrix<S>(n, 2 * count, 4);
      matrix_x<S> in_lanes(n, 2 * count), one_by_one(n, 2 * count);
      each_item<scaling_item> const body{{n, 2}, count};
      run_batch(ctx, count, body, a, in_lanes);
      std::vector<double> scratch(static_cast<std::size_t>(body.scratch_size()));
      for (index_t item = 0; item < count; ++item)
        body(stiefelx::serial_team{}, item, scratch.data(),
             stiefelx::matrix_ref<S const>{a.data(), n, 2 * count, n},
             stiefelx::matrix_ref<S>{one_by_one.data(), n, 2 * count, n});
      BOOST_TEST(same(in_lanes, one_by_one));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(results_do_not_depend_on_the_number_of_threads, S, scalars) {
  for (stiefel const one : {stiefel{8, 3}, stiefel{40, 20}}) {
    index_t const count = 300;
    power<stiefel> const m{one, count};
    context single, several({.threads = 3});
    stiefelx::random_stream stream{9, 0};
    matrix_x<S> x(one.n, one.p * count), v = random_matrix<S>(one.n, one.p * count, 1);
    random_point(single, m, stream, x);
    project(single, m, x, v, v);
    matrix_x<S> y = x, z = x;
    retract(single, m, x, v, y);
    retract(several, m, x, v, z);
    BOOST_TEST(same(z, y));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(strided_stacks_are_read_and_written_in_their_columns_only, S,
                              scalars) {
  using map = Eigen::Map<matrix_x<S>, Eigen::Unaligned, Eigen::OuterStride<>>;
  context ctx;
  for (index_t const n : {3, 8, 19}) {
    index_t const p = 3, count = 19;
    power<stiefel> const m{{n, p}, count};
    guarded<S> x(n, p * count, 2, 1), v(n, p * count, 0, 3), y(n, p * count, 1, 2);
    auto const view = [](guarded<S>& g) {
      return map(g.data(), g.rows, g.cols, Eigen::OuterStride<>(g.stride));
    };
    map from = view(x), step = view(v), to = view(y);
    for (index_t k = 0; k < count; ++k)
      from.middleCols(k * p, p) = orthonormal_frame<S>(n, p, static_cast<std::uint64_t>(k + 1));
    step = random_matrix<S>(n, p * count, 2);
    project(ctx, m, from, step, step);
    retract(ctx, m, from, step, to);
    matrix_x<S> const plain_x = from, plain_v = step;
    matrix_x<S> expected(n, p * count);
    retract(ctx, m, plain_x, plain_v, expected);
    BOOST_TEST(near(to, expected, tolerance<S>(n), expected.norm()));
    BOOST_TEST(x.is_intact());
    BOOST_TEST(v.is_intact());
    BOOST_TEST(y.is_intact());
    // Nothing of the output's old entries is read.
    BOOST_TEST(matrix_x<S>(to).allFinite());
  }
}

BOOST_AUTO_TEST_CASE(expressions_and_row_major_outputs_are_served) {
  context ctx;
  power<stiefel> const m{{6, 2}, 9};
  stiefelx::random_stream stream{2, 0};
  matrix_x<float> x(6, 18), v = random_matrix<float>(6, 18, 1), y(6, 18);
  random_point(ctx, m, stream, x);
  project(ctx, m, x, v, v);
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(6, 18);
  retract(ctx, m, x, 0.5F * v, rows);
  matrix_x<float> const half = 0.5F * v;
  retract(ctx, m, x, half, y);
  BOOST_TEST(same(rows, y));
}

BOOST_AUTO_TEST_CASE(fixed_sizes_take_no_memory_from_the_arena) {
  context ctx;
  power<fixed_stiefel<16, 8>> const m{{}, 100};
  matrix_x<float> x(16, 800), v = matrix_x<float>::Zero(16, 800), y(16, 800);
  for (index_t k = 0; k < 100; ++k) x.middleCols(8 * k, 8).setIdentity();
  retract(ctx, m, x, v, y);
  project(ctx, m, x, y, v);
  retract(ctx, m, x, v, y, stiefelx::polar_retraction{});
  BOOST_TEST(ctx.memory.capacity() == 0u);
  BOOST_TEST(same(y, x));
  retract(ctx, power<stiefel>{{16, 8}, 100}, x, v, y);
  std::size_t const held = ctx.memory.capacity();
  BOOST_TEST(held > 0u);
  retract(ctx, power<stiefel>{{16, 8}, 100}, x, v, y);
  BOOST_TEST(ctx.memory.capacity() == held);
}

BOOST_AUTO_TEST_SUITE_END()
