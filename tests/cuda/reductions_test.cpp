// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums over matrices, columns and rows on the device against loops in long double; their bits in
// every run and order of lanes.

#include <cmath>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace tables;
using support::tolerance;

// The shapes of all verbs, and some whose sums take two launches.
std::vector<extent> summed_extents() {
  if (!fake_cuda::keeps_lane_order) return {{33, 5}, {2200, 1}};
  auto all = extents();
  all.insert(all.end(), {{4099, 5}, {2, 4500}, {20011, 2}, {1, 9001}});
  return all;
}

// f(i, j) over the rows and columns, and the sum of the moduli that measures errors.
struct exact_sum {
  long double sum = 0, moduli = 0;

  template <class F>
  exact_sum(index_t rows, index_t cols, F const& f) {
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) {
        long double const term = f(i, j);
        sum += term;
        moduli += std::abs(term);
      }
  }
  bool is_near(double found, index_t size) const {
    return std::abs(found - sum) <= tolerance<double>(size) * moduli;
  }
};

long double product(double a, double b) { return static_cast<long double>(a) * b; }

}  // namespace

BOOST_AUTO_TEST_SUITE(reductions)

BOOST_AUTO_TEST_CASE(inner_products_and_norms_agree_with_loops_in_every_layout) {
  device::context ctx;
  for (auto const [m, n] : summed_extents()) {
    auto const a = random_table(m, n, 1), b = random_table(m, n, 2);
    exact_sum const inner_ab(m, n, [&](index_t i, index_t j) { return product(a(i, j), b(i, j)); });
    exact_sum const square(m, n, [&](index_t i, index_t j) { return product(a(i, j), a(i, j)); });
    auto const turned = on_device(ctx, transposed(b));
    auto s = number_on(ctx, -1.0);
    for (layout const& how : layouts()) {
      BOOST_TEST_INFO(how.name << ", " << m << " x " << n);
      placed<double> x(ctx, a, how), y(ctx, b, how);
      inner(ctx, x.view(), y.view(), s);
      BOOST_TEST(inner_ab.is_near(value(ctx, s), m * n));
      norm(ctx, x.view(), s);
      BOOST_TEST(std::abs(value(ctx, s) - std::sqrt(square.sum)) <=
                 tolerance<double>(m * n) * std::sqrt(square.moduli));
      norm(ctx, x.view().adjoint(), s);
      BOOST_TEST(std::abs(value(ctx, s) - std::sqrt(square.sum)) <=
                 tolerance<double>(m * n) * std::sqrt(square.moduli));
      inner(ctx, x.view(), turned.adjoint(), s);
      BOOST_TEST(inner_ab.is_near(value(ctx, s), m * n));
      inner(ctx, y.view().adjoint(), x.view().adjoint(), s);
      BOOST_TEST(inner_ab.is_near(value(ctx, s), m * n));
    }
  }
}

BOOST_AUTO_TEST_CASE(sums_along_lines_agree_with_loops_in_every_layout) {
  device::context ctx;
  for (auto const [m, n] : summed_extents()) {
    auto const a = random_table(m, n, 3), b = random_table(m, n, 4);
    auto const turned = on_device(ctx, transposed(b));
    for (layout const& how : layouts()) {
      BOOST_TEST_INFO(how.name << ", " << m << " x " << n);
      placed<double> x(ctx, a, how), y(ctx, b, how);
      placed<double> w(ctx, table<double>(1, n), how), u(ctx, table<double>(m, 1), how);
      column_inner(ctx, x.view(), y.view(), w.view());
      auto const columns = w.entries(ctx);
      column_inner(ctx, x.view(), turned.adjoint(), w.view());
      auto const same_columns = w.entries(ctx);
      sum_columns(ctx, x.view(), u.view());
      auto const rows = u.entries(ctx);
      bool near = true;
      for (index_t j = 0; j < n; ++j) {
        exact_sum const c(m, 1, [&](index_t i, index_t) { return product(a(i, j), b(i, j)); });
        near = near && c.is_near(columns(0, j), m) && c.is_near(same_columns(0, j), m);
      }
      for (index_t i = 0; i < m; ++i) {
        exact_sum const r(1, n, [&](index_t, index_t j) { return product(a(i, j), 1); });
        near = near && r.is_near(rows(i, 0), n);
      }
      BOOST_TEST(near);
    }
  }
}

BOOST_AUTO_TEST_CASE(sums_of_float_run_in_double_and_sums_of_int_are_exact) {
  device::context ctx;
  // In float the large terms would swallow the ones between them.
  table<float> a(4000, 1), ones(4000, 1);
  for (std::size_t k = 0; k < a.entries.size(); ++k)
    a.entries[k] = k == 0 ? 0x1p30F : k == 3999 ? -0x1p30F : 1.F;
  std::fill(ones.entries.begin(), ones.entries.end(), 1.F);
  auto const x = on_device(ctx, a), y = on_device(ctx, ones), row = on_device(ctx, transposed(a));
  auto s = number_on(ctx, 0.F);
  inner(ctx, x, y, s);
  BOOST_TEST(value(ctx, s) == 3998);
  column_inner(ctx, x, y, s);
  BOOST_TEST(value(ctx, s) == 3998);
  sum_columns(ctx, row, s);
  BOOST_TEST(value(ctx, s) == 3998);
  norm(ctx, y, s);
  BOOST_TEST(value(ctx, s) == std::sqrt(4000.F));

  table<int> counts(3, 700);
  std::fill(counts.entries.begin(), counts.entries.end(), 100003);
  auto total = on_device(ctx, table<int>(3, 1));
  sum_columns(ctx, on_device(ctx, counts), total);
  BOOST_TEST(on_host(ctx, total)(2, 0) == 70002100);
}

BOOST_AUTO_TEST_CASE(one_entry_that_is_not_finite_is_found_wherever_it_is) {
  device::context ctx;
  auto finite = number_on(ctx, 7.F);
  float const bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  for (auto const [m, n] : fake_cuda::keeps_lane_order
                               ? std::vector<extent>{{1, 1}, {1, 33}, {31, 2}, {257, 3}, {5003, 1}}
                               : std::vector<extent>{{31, 2}})
    for (layout const& how : layouts()) {
      auto a = random_table<float>(m, n, 5);
      a(m / 2, n / 2) = std::numeric_limits<float>::max();
      auto const is_finite = [&] {
        placed<float> x(ctx, a, how);
        all_finite(ctx, x.view(), finite);
        float const direct = value(ctx, finite);
        all_finite(ctx, x.view().adjoint(), finite);
        BOOST_TEST(value(ctx, finite) == direct);
        return direct;
      };
      BOOST_TEST_INFO(how.name << ", " << m << " x " << n);
      BOOST_TEST(is_finite() == 1);
      // The first and last entries, those of a pack, around a warp, and in the last column's end.
      for (index_t const k : {index_t{0}, index_t{1}, index_t{3}, index_t{4}, index_t{31},
                              index_t{32}, index_t{130}, m * n - 2, m * n - 1}) {
        if (k < 0 || k >= m * n) continue;
        float const was = a(k % m, k / m);
        a(k % m, k / m) = bad[k % 3];
        BOOST_TEST(is_finite() == 0);
        a(k % m, k / m) = was;
      }
    }
  auto const empty = on_device(ctx, table<float>(0, 4));
  all_finite(ctx, empty, finite);
  BOOST_TEST(value(ctx, finite) == 1);
}

BOOST_AUTO_TEST_CASE(a_sum_has_the_same_bits_in_every_run_and_order_of_lanes) {
  device::context ctx;
  for (auto const [m, n] : std::vector<extent>{{257, 3}, {4099, 5}, {3, 4500}}) {
    if (!fake_cuda::keeps_lane_order && m * n > 1000) continue;
    auto const a = random_table(m, n, 6), b = random_table(m, n, 7);
    auto const x = on_device(ctx, a), y = on_device(ctx, b);
    std::vector<table<double>> found;
    auto const run = [&] {
      auto s = number_on(ctx, 0.0);
      auto w = on_device(ctx, table<double>(1, n)), u = on_device(ctx, table<double>(m, 1));
      inner(ctx, x, y, s);
      column_inner(ctx, x, y, w);
      sum_columns(ctx, x, u);
      found.insert(found.end(), {on_host(ctx, s), on_host(ctx, w), on_host(ctx, u)});
    };
    run();
    in_each_lane_order(run);
    for (std::size_t k = 3; k < found.size(); ++k) BOOST_TEST(same_bits(found[k], found[k % 3]));
  }
}

BOOST_AUTO_TEST_CASE(what_is_not_a_number_shows_in_the_sums_it_belongs_to_alone) {
  device::context ctx;
  auto a = random_table(40, 3, 8);
  a(39, 1) = std::numeric_limits<double>::quiet_NaN();
  auto const x = on_device(ctx, a);
  auto s = number_on(ctx, 0.0);
  auto w = on_device(ctx, table<double>(1, 3)), u = on_device(ctx, table<double>(40, 1));
  norm(ctx, x, s);
  BOOST_TEST(std::isnan(value(ctx, s)));
  inner(ctx, x, x, s);
  BOOST_TEST(std::isnan(value(ctx, s)));
  column_inner(ctx, x, x, w);
  sum_columns(ctx, x, u);
  auto const columns = on_host(ctx, w), rows = on_host(ctx, u);
  for (index_t j = 0; j < 3; ++j) BOOST_TEST(std::isnan(columns(0, j)) == (j == 1));
  for (index_t i = 0; i < 40; ++i) BOOST_TEST(std::isnan(rows(i, 0)) == (i == 39));
}

BOOST_AUTO_TEST_CASE(misuse_names_the_argument_and_leaves_the_output_alone) {
  device::context ctx;
  auto const a = on_device(ctx, random_table(4, 3, 1)), b = on_device(ctx, random_table(3, 4, 1));
  auto w = on_device(ctx, random_table(1, 4, 2)), s = number_on(ctx, 5.0);
  auto const before = on_host(ctx, w);
  BOOST_TEST(message_of([&] { inner(ctx, a, b, s); }) == "inner: b is 3x4, expected 4x3");
  BOOST_TEST(message_of([&] { inner(ctx, a, a, w); }) == "inner: s is 1x4, expected 1x1");
  BOOST_TEST(message_of([&] { norm(ctx, a, w); }) == "norm: s is 1x4, expected 1x1");
  BOOST_TEST(message_of([&] { all_finite(ctx, a, w); }) == "all_finite: s is 1x4, expected 1x1");
  BOOST_TEST(message_of([&] { column_inner(ctx, a, b, w); }) ==
             "column_inner: b is 3x4, expected 4x3");
  BOOST_TEST(message_of([&] { column_inner(ctx, a, a, w); }) ==
             "column_inner: w is 1x4, expected 1x3");
  BOOST_TEST(message_of([&] { sum_columns(ctx, b, w); }) == "sum_columns: w is 1x4, expected 3x1");
  BOOST_TEST(message_of([&] { norm(ctx, w, w.middleCols(2, 1)); }) ==
             "norm: s overlaps a, expected separate memory");
  BOOST_TEST(message_of([&] { column_inner(ctx, w, w, w); }) ==
             "column_inner: w overlaps a, expected separate memory");
  BOOST_TEST(message_of([&] { sum_columns(ctx, w, w.middleCols(0, 1)); }) ==
             "sum_columns: w overlaps a, expected separate memory");
  BOOST_TEST(value(ctx, s) == 5);
  BOOST_TEST(same_bits(on_host(ctx, w), before));
}

BOOST_AUTO_TEST_SUITE_END()
