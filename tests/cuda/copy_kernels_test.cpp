// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The kernels that move entries: few launches, so that a thread for every lane is affordable.

#include <utility>

#include <boost/test/unit_test.hpp>

#include <cuda/table.hpp>
#include <stiefelx/cuda/copy_kernels.hpp>

namespace {

namespace device = stiefelx::cuda;
using stiefelx::index_t;
using tables::cast;
using tables::on_device;
using tables::on_host;
using tables::random_table;
using tables::table;
using tables::transposed;

}  // namespace

BOOST_AUTO_TEST_SUITE(copy_kernels)

BOOST_AUTO_TEST_CASE(tiles_at_every_edge_are_transposed) {
  device::context ctx;
  auto const a = random_table(40, 35, 1);
  auto const from = on_device(ctx, a);
  auto to = zeros<float>(ctx, 35, 40);
  device::queue_transpose<double, float>(ctx.queue, ref(from), ref(to));
  BOOST_TEST((on_host(ctx, to) == cast<float>(transposed(a))));
}

BOOST_AUTO_TEST_CASE(what_lies_above_the_diagonal_is_copied_below_it_in_place) {
  device::context ctx;
  auto expected = random_table(35, 35, 2);
  auto a = on_device(ctx, expected);
  for (index_t j = 0; j < 35; ++j)
    for (index_t i = j + 1; i < 35; ++i) expected(i, j) = expected(j, i);
  device::queue_transpose<double, double>(ctx.queue, ref(std::as_const(a)), ref(a), true);
  BOOST_TEST((on_host(ctx, a) == expected));
}

BOOST_AUTO_TEST_CASE(every_row_and_column_is_converted_once) {
  device::context ctx;
  auto const a = random_table(300, 3, 3);
  auto const from = on_device(ctx, a);
  auto to = zeros<float>(ctx, 301, 3);
  device::queue_conversion<double, float>(ctx.queue, ref(from), ref(to.middleRows(1, 300)));
  BOOST_TEST((on_host(ctx, to.middleRows(1, 300)) == cast<float>(a)));
  BOOST_TEST((on_host(ctx, to.middleRows(0, 1)) == table<float>(1, 3)));
}

BOOST_AUTO_TEST_CASE(nothing_is_launched_for_an_empty_matrix) {
  device::context ctx;
  auto const from = zeros<double>(ctx, 0, 3);
  auto to = zeros<float>(ctx, 3, 0);
  auto same = zeros<float>(ctx, 0, 3);
  BOOST_CHECK_NO_THROW((device::queue_transpose<double, float>(ctx.queue, ref(from), ref(to))));
  BOOST_CHECK_NO_THROW((device::queue_conversion<double, float>(ctx.queue, ref(from), ref(same))));
}

BOOST_AUTO_TEST_SUITE_END()
