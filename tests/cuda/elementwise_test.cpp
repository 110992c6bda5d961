// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elementwise verbs of the device against loops, in every layout. Entries have few bits, so that
// results are exact and may be compared as such.

#include <cmath>
#include <limits>

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda/elementwise.hpp>

namespace {

using namespace tables;

table<float> numbers(index_t rows, index_t cols, std::uint64_t seed) {
  return random_table<float>(rows, cols, seed, 256);
}

// f(context, matrix) must turn `before` into g(i, j) in every layout.
template <class F, class G>
void expect_entries(device::context& ctx, table<float> const& before, F const& f, G const& g) {
  table<float> expected(before.rows, before.cols);
  for (index_t j = 0; j < before.cols; ++j)
    for (index_t i = 0; i < before.rows; ++i) expected(i, j) = g(i, j);
  for (layout const& how : layouts()) {
    BOOST_TEST_INFO("layout " << how.name << ", " << before.rows << " x " << before.cols);
    placed<float> b(ctx, before, how);
    f(b.view());
    bool const equal = b.entries(ctx) == expected;
    BOOST_TEST(equal);
  }
}

constexpr float none = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

}  // namespace

BOOST_AUTO_TEST_SUITE(elementwise)

BOOST_AUTO_TEST_CASE(verbs_of_one_matrix_write_its_entries_and_nothing_else) {
  device::context ctx;
  auto const factor = number_on(ctx, -0.75);
  for (auto const [m, n] : extents()) {
    auto const b = numbers(m, n, 1);
    expect_entries(
        ctx, b, [&](auto y) { fill(ctx, 2.5, y); }, [](index_t, index_t) { return 2.5F; });
    expect_entries(
        ctx, b, [&](auto y) { set_identity(ctx, y); },
        [](index_t i, index_t j) { return i == j ? 1.F : 0.F; });
    auto const scaled = [&](index_t i, index_t j) { return -0.75F * b(i, j); };
    expect_entries(ctx, b, [&](auto y) { scale(ctx, -0.75, y); }, scaled);
    expect_entries(ctx, b, [&](auto y) { scale(ctx, factor, y); }, scaled);
  }
}

BOOST_AUTO_TEST_CASE(verbs_of_two_matrices_take_each_layout_and_adjoints) {
  device::context ctx;
  auto const factor = number_on(ctx, 0.5F);
  auto const yes = number_on(ctx, 1.0), no = number_on(ctx, 0.0),
             unclear = number_on<double>(ctx, none);
  for (auto const [m, n] : extents()) {
    auto const b = numbers(m, n, 1), a = numbers(m, n, 2), w = numbers(1, n, 3);
    auto const turned = on_device(ctx, transposed(a));
    auto const added = [&](index_t i, index_t j) { return b(i, j) + 0.5F * a(i, j); };
    for (layout const& how : layouts()) {
      placed<float> x(ctx, a, how);
      expect_entries(ctx, b, [&](auto y) { axpy(ctx, 0.5, x.view(), y); }, added);
      expect_entries(ctx, b, [&](auto y) { axpy(ctx, factor, x.view(), y); }, added);
      placed<float> u(ctx, w, how);
      expect_entries(
          ctx, b, [&](auto y) { scale_columns(ctx, u.view(), y); },
          [&](index_t i, index_t j) { return b(i, j) * w(0, j); });
    }
    auto const x = on_device(ctx, a);
    auto const was = [&](index_t i, index_t j) { return b(i, j); };
    auto const taken = [&](index_t i, index_t j) { return a(i, j); };
    expect_entries(ctx, b, [&](auto y) { axpy(ctx, 0.5, turned.adjoint(), y); }, added);
    expect_entries(ctx, b, [&](auto y) { copy_if(ctx, yes, turned.adjoint(), y); }, taken);
    expect_entries(ctx, b, [&](auto y) { copy_if(ctx, unclear, x, y); }, taken);
    expect_entries(ctx, b, [&](auto y) { copy_if(ctx, no, x, y); }, was);
    expect_entries(
        ctx, b, [&](auto y) { axpy(ctx, 1, y, y); },
        [&](index_t i, index_t j) { return 2 * b(i, j); });
  }
}

BOOST_AUTO_TEST_CASE(a_symmetrized_matrix_is_symmetric_to_the_bit_whatever_the_order_of_lanes) {
  device::context ctx;
  for (index_t const n : {0, 1, 3, 31, 32, 33, 70}) {
    if (n != 3 && n != 33 && !fake_cuda::keeps_lane_order) continue;
    auto const s = random_table<float>(n, n, 5);
    in_each_lane_order([&] {
      expect_entries(
          ctx, s, [&](auto y) { symmetrize(ctx, y); },
          [&](index_t i, index_t j) { return 0.5F * (s(i, j) + s(j, i)); });
    });
  }
}

BOOST_AUTO_TEST_CASE(a_status_keeps_its_bits_and_gets_those_of_a_matrix) {
  device::context ctx;
  for (auto const [m, n] : extents()) {
    table<int> bits(m, n);
    int all = 8;
    for (std::size_t k = 0; k < bits.entries.size(); ++k)
      all |= bits.entries[k] = k + 1 == bits.entries.size() ? 4 : k == 7 ? 32 : 0;
    for (layout const& how : layouts()) {
      auto status = number_on(ctx, 8);
      placed<int> x(ctx, bits, how);
      raise(ctx, status, x.view());
      BOOST_TEST(value(ctx, status) == all);
      raise(ctx, status, 3);
      raise(ctx, status, x.view().adjoint());
      BOOST_TEST(value(ctx, status) == (all | 3));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_coefficient_may_be_an_entry_of_the_output) {
  device::context ctx;
  auto const a = numbers(300, 3, 9);
  in_each_lane_order([&] {
    auto b = on_device(ctx, a);
    scale(ctx, b.middleRows(1, 1).middleCols(1, 1), b);
    auto const found = on_host(ctx, b);
    bool equal = true;
    for (index_t j = 0; j < 3; ++j)
      for (index_t i = 0; i < 300; ++i) equal = equal && found(i, j) == a(1, 1) * a(i, j);
    BOOST_TEST(equal);
    auto s = number_on(ctx, 3.0);
    axpy(ctx, s, s, s);
    BOOST_TEST(value(ctx, s) == 12);
  });
}

BOOST_AUTO_TEST_CASE(what_is_not_a_number_stays_so) {
  device::context ctx;
  table<float> a(5, 1);
  a.entries = {1, none, infinity, -2, 0};
  auto b = on_device(ctx, a);
  scale(ctx, 0, b);
  auto found = on_host(ctx, b);
  BOOST_TEST(found(0, 0) == 0);
  BOOST_TEST(std::isnan(found(1, 0)));
  BOOST_TEST(std::isnan(found(2, 0)));
  auto c = on_device(ctx, table<float>(5, 1));
  axpy(ctx, 0, on_device(ctx, a), c);
  found = on_host(ctx, c);
  BOOST_TEST(std::isnan(found(1, 0)));
  BOOST_TEST(std::isnan(found(2, 0)));
  BOOST_TEST(found(3, 0) == 0);
  fill(ctx, 0, b);
  bool const cleared = on_host(ctx, b) == table<float>(5, 1);
  BOOST_TEST(cleared);
}

BOOST_AUTO_TEST_CASE(misuse_names_the_argument_and_leaves_the_output_alone) {
  device::context ctx;
  auto const start = numbers(4, 3, 1);
  auto b = on_device(ctx, start);
  auto const wide = on_device(ctx, numbers(3, 4, 2));
  auto const pair = on_device(ctx, numbers(1, 2, 2));
  auto status = number_on(ctx, 0);
  BOOST_TEST(message_of([&] { axpy(ctx, 1, wide, b); }) == "axpy: a is 3x4, expected 4x3");
  BOOST_TEST(message_of([&] { scale(ctx, pair, b); }) == "scale: c is 1x2, expected 1x1");
  BOOST_TEST(message_of([&] { copy_if(ctx, pair, b, b); }) == "copy_if: s is 1x2, expected 1x1");
  BOOST_TEST(message_of([&] { scale_columns(ctx, pair, b); }) ==
             "scale_columns: w is 1x2, expected 1x3");
  BOOST_TEST(message_of([&] { symmetrize(ctx, b); }) == "symmetrize: s is 4x3, expected 4x4");
  BOOST_TEST(message_of([&] { raise(ctx, device::matrix_view<int>(status.data(), 1, 0), 1); }) ==
             "raise: status is 1x0, expected 1x1");
  BOOST_TEST(message_of([&] { axpy(ctx, 1, b.middleCols(0, 2), b.middleCols(1, 2)); }) ==
             "axpy: b overlaps a, expected the same matrix or separate memory");
  BOOST_TEST(message_of([&] { scale_columns(ctx, b.middleRows(0, 1), b); }) ==
             "scale_columns: h overlaps w, expected separate memory");
  BOOST_TEST(message_of([&] { copy_if(ctx, b.middleRows(0, 1).middleCols(0, 1), b, b); }) ==
             "copy_if: b overlaps s, expected separate memory");
  bool const unchanged = on_host(ctx, b) == start;
  BOOST_TEST(unchanged);
}

BOOST_AUTO_TEST_SUITE_END()
