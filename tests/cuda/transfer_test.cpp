// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Transfer and copies on the device, against tables of the host.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include <cuda_runtime_api.h>
#include <boost/test/unit_test.hpp>

#include <cuda/table.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/graph.hpp>
#include <stiefelx/cuda/transfer.hpp>

namespace {

namespace device = stiefelx::cuda;
using stiefelx::bfloat16;
using stiefelx::float16;
using stiefelx::index_t;
using tables::cast;
using tables::framed;
using tables::message_of;
using tables::on_device;
using tables::on_host;
using tables::random_table;
using tables::table;
using tables::transposed;

constexpr std::array<index_t, 6> sizes{0, 1, 3, 31, 33, 70};

template <class F>
void for_each_shape(F const& f) {
  for (index_t const rows : sizes) {
    for (index_t const cols : sizes) {
      BOOST_TEST_INFO_SCOPE("shape " << rows << "x" << cols);
      f(rows, cols);
    }
  }
}

// From's entries of a table arrive in To as the host converts them, plain and transposed.
template <class From, class To>
void expect_conversion(device::context& ctx, table<From> const& a) {
  auto from = framed<From>(ctx, a);
  auto to = framed<To>(ctx, table<To>(a.rows, a.cols));
  copy(ctx, from.view(), to.view());
  BOOST_TEST((on_host(ctx, to.view()) == cast<To>(a)));
  BOOST_TEST(to.is_frame_whole(ctx));
  auto flipped = framed<To>(ctx, table<To>(a.cols, a.rows));
  copy(ctx, from.view().adjoint(), flipped.view());
  BOOST_TEST((on_host(ctx, flipped.view()) == transposed(cast<To>(a))));
  BOOST_TEST(flipped.is_frame_whole(ctx));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(transfer)

BOOST_AUTO_TEST_CASE(what_is_uploaded_comes_back_plain_strided_and_transposed) {
  device::context ctx;
  for_each_shape([&](index_t rows, index_t cols) {
    auto const a = random_table(rows, cols, 1);
    auto const plain = on_device(ctx, a);
    BOOST_TEST((on_host(ctx, plain) == a));
    BOOST_TEST((on_host(ctx, plain.adjoint()) == transposed(a)));
    framed<double> part(ctx, table<double>(rows, cols));
    upload(ctx, a.entries.data(), part.view());
    BOOST_TEST((on_host(ctx, part.view()) == a));
    BOOST_TEST((on_host(ctx, part.view().adjoint()) == transposed(a)));
    BOOST_TEST(part.is_frame_whole(ctx));
  });
}

BOOST_AUTO_TEST_CASE(a_copy_of_one_scalar_is_the_matrix_for_every_layout) {
  device::context ctx;
  for_each_shape([&](index_t rows, index_t cols) {
    auto const a = random_table<float>(rows, cols, 2);
    framed<float> from(ctx, a);
    framed<float> to(ctx, table<float>(rows, cols));
    copy(ctx, from.view(), to.view());
    BOOST_TEST((on_host(ctx, to.view()) == a));
    BOOST_TEST(to.is_frame_whole(ctx));
    framed<float> flipped(ctx, table<float>(cols, rows));
    copy(ctx, from.view().adjoint(), flipped.view());
    BOOST_TEST((on_host(ctx, flipped.view()) == transposed(a)));
    BOOST_TEST(flipped.is_frame_whole(ctx));
    BOOST_TEST((on_host(ctx, clone(ctx, from.view())) == a));
    BOOST_TEST((on_host(ctx, clone(ctx, from.view().adjoint())) == transposed(a)));
    BOOST_TEST((on_host(ctx, widen(ctx, from.view())) == cast<double>(a)));
  });
}

BOOST_AUTO_TEST_CASE(a_copy_converts_between_the_scalars_of_the_device) {
  device::context ctx;
  auto const a = random_table(33, 5, 3);
  expect_conversion<double, float>(ctx, a);
  expect_conversion<double, bfloat16>(ctx, a);
  expect_conversion<float, float16>(ctx, cast<float>(a));
  expect_conversion<bfloat16, float>(ctx, cast<bfloat16>(a));
  expect_conversion<float16, double>(ctx, cast<float16>(a));
  auto const whole = random_table(33, 5, 4, 1);
  expect_conversion<int, float>(ctx, cast<int>(whole));
  expect_conversion<int, bfloat16>(ctx, cast<int>(whole));
  expect_conversion<double, int>(ctx, whole);
}

BOOST_AUTO_TEST_CASE(a_conversion_rounds_once) {
  // Half a step above 1 and a little more: rounding to float first would give a tie, and then 1.
  table<double> a(1, 1);
  a(0, 0) = 1 + 0x1p-8 + 0x1p-40;
  device::context ctx;
  auto to = scratch<bfloat16>(ctx, 1, 1);
  copy(ctx, on_device(ctx, a), to);
  BOOST_TEST(static_cast<float>(value(ctx, to)) == 1.0F + 0x1p-7F);
}

BOOST_AUTO_TEST_CASE(long_rows_and_more_columns_than_blocks_are_converted_whole) {
  device::context ctx;
  auto const a = random_table(3, 66000, 5);
  auto const from = on_device(ctx, a);
  auto to = scratch<float>(ctx, 4, 66000);
  copy(ctx, from, to.middleRows(1, 3));
  BOOST_TEST((on_host(ctx, to.middleRows(1, 3)) == cast<float>(a)));
}

BOOST_AUTO_TEST_CASE(zeros_are_zero_and_own_their_memory) {
  device::context ctx;
  auto const a = zeros<double>(ctx, 5, 3);
  BOOST_TEST((on_host(ctx, a) == table<double>(5, 3)));
  device::matrix<double> const b = zeros_like(ctx, a.adjoint());
  BOOST_TEST(b.rows() == 3);
  BOOST_TEST((on_host(ctx, b) == table<double>(3, 5)));
  BOOST_TEST(value(ctx, zeros<int>(ctx, 1, 1)) == 0);
  BOOST_TEST((zeros<float>(ctx, 0, 4).data() == nullptr));
}

#if !defined(__CUDACC__)

// The memory of a GPU holds whatever it held.
BOOST_AUTO_TEST_CASE(fresh_scratch_holds_nothing_of_use) {
  device::context ctx;
  BOOST_TEST(std::isnan(value(ctx, scratch<double>(ctx, 1, 1))));
}

#endif

BOOST_AUTO_TEST_CASE(dense_is_the_memory_itself_or_a_copy_of_an_adjoint) {
  device::context ctx;
  auto const a = random_table(4, 3, 6);
  framed<double> part(ctx, a);
  auto const view = part.view();
  auto const plain = dense(ctx, view);
  BOOST_TEST(plain.data() == view.data());
  BOOST_TEST(plain.stride() == view.stride());
  auto const flipped = dense(ctx, view.adjoint());
  BOOST_TEST((on_host(ctx, flipped) == transposed(a)));
}

BOOST_AUTO_TEST_CASE(a_copy_onto_itself_writes_nothing_and_onto_a_part_is_refused) {
  device::context ctx;
  auto a = on_device(ctx, random_table(6, 6, 7));
  long const calls = fake_cuda::calls("");
  copy(ctx, a, a);
  copy(ctx, a.middleRows(0, 3), a.middleRows(0, 3));
  BOOST_CHECK_THROW(copy(ctx, a.middleRows(0, 3), a.middleRows(2, 3)), stiefelx::alias_error);
  BOOST_CHECK_THROW(copy(ctx, a.adjoint(), a), stiefelx::alias_error);
  BOOST_TEST(fake_cuda::calls("") == calls);
  copy(ctx, a.middleRows(0, 3), a.middleRows(3, 3));
  BOOST_TEST((on_host(ctx, a.middleRows(0, 3)) == on_host(ctx, a.middleRows(3, 3))));
}

BOOST_AUTO_TEST_CASE(a_region_is_the_bytes_of_its_matrix) {
  device::context ctx;
  auto a = scratch<float>(ctx, 6, 4);
  auto const all = memory(ctx, a);
  BOOST_TEST(all.runs == 4);
  BOOST_TEST(all.length == 24);
  BOOST_TEST(all.stride == 24);
  BOOST_TEST(overlap(all, memory(ctx, a.middleRows(5, 1))));
  BOOST_TEST(!overlap(memory(ctx, a.middleRows(0, 3)), memory(ctx, a.middleRows(3, 3))));
  BOOST_TEST(!overlap(memory(ctx, a.middleRows(0, 3)), memory(ctx, a.middleRows(3, 3).adjoint())));
  auto const square = a.middleRows(1, 4);
  BOOST_TEST(!same_region(memory(ctx, square), memory(ctx, square.adjoint())));
  BOOST_TEST(memory(ctx, a.middleRows(2, 0)).runs == 0);
}

BOOST_AUTO_TEST_CASE(only_reading_waits) {
  device::context ctx;
  auto const a = random_table(40, 7, 8);
  auto const b = on_device(ctx, a);
  long const waits = fake_cuda::calls("cudaStreamSynchronize");
  auto c = clone(ctx, b.adjoint());
  auto const w = widen(ctx, b.middleRows(3, 2));
  auto narrow = scratch<float>(ctx, 40, 9);
  copy(ctx, b, narrow.middleCols(1, 7));
  upload(ctx, a.entries.data(), c);
  BOOST_TEST(fake_cuda::calls("cudaStreamSynchronize") == waits);
  BOOST_TEST(value(ctx, c.middleRows(0, 1).middleCols(0, 1)) == a(0, 0));
  BOOST_TEST(fake_cuda::calls("cudaStreamSynchronize") == waits + 1);
}

BOOST_AUTO_TEST_CASE(what_was_uploaded_may_change_at_once_also_where_it_is_read_in_place) {
  device::context ctx;
  auto b = scratch<double>(ctx, 8, 3);
  for (bool const in_place : {false, true}) {
    fake_cuda::pretend const other({.reads_in_place = in_place});
    auto a = random_table(8, 3, 9);
    auto const kept = a;
    long const waits = fake_cuda::calls("cudaStreamSynchronize");
    upload(ctx, a.entries.data(), b);
    BOOST_TEST(fake_cuda::calls("cudaStreamSynchronize") == waits + (in_place ? 1 : 0));
    for (double& entry : a.entries) entry = 0;
    BOOST_TEST((on_host(ctx, b) == kept));
  }
}

BOOST_AUTO_TEST_CASE(an_upload_of_page_locked_memory_never_waits_nor_does_one_that_is_captured) {
  device::context ctx;
  auto b = scratch<double>(ctx, 2, 2);
  void* memory = nullptr;
  BOOST_REQUIRE(cudaHostAlloc(&memory, 4 * sizeof(double), cudaHostAllocDefault) == cudaSuccess);
  auto* const locked = static_cast<double*>(memory);
  std::array<double, 4> ordinary{1, 2, 3, 4};
  std::ranges::copy(ordinary, locked);
  {
    fake_cuda::pretend const other({.reads_in_place = true});
    long const waits = fake_cuda::calls("cudaStreamSynchronize");
    upload(ctx, locked, b);
    auto const graph = device::capture(ctx, [&] { upload(ctx, ordinary.data(), b); });
    BOOST_TEST(fake_cuda::calls("cudaStreamSynchronize") == waits);
    replay(ctx, graph);
    BOOST_TEST(value(ctx, b.middleRows(1, 1).middleCols(1, 1)) == 4);
  }
  BOOST_TEST(cudaFreeHost(memory) == cudaSuccess);
}

BOOST_AUTO_TEST_CASE(misuse_names_verb_argument_and_both_shapes_before_any_call) {
  device::context ctx;
  auto a = scratch<double>(ctx, 4, 3);
  auto b = scratch<float>(ctx, 4, 2);
  long const calls = fake_cuda::calls("");
  BOOST_TEST(message_of([&] { copy(ctx, a, b); }) == "copy: b is 4x2, expected 4x3");
  BOOST_TEST(message_of([&] { copy(ctx, a.adjoint(), b); }) == "copy: b is 4x2, expected 3x4");
  BOOST_TEST(message_of([&] { (void)value(ctx, b); }) == "value: s is 4x2, expected 1x1");
  BOOST_TEST(message_of([&] { (void)scratch<float>(ctx, 2, -1); }) ==
             "cuda::matrix: the matrix is 2x-1, expected no negative size");
  BOOST_TEST(fake_cuda::calls("") == calls);
}

BOOST_AUTO_TEST_SUITE_END()
