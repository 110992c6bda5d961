// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Kernels with a path by packs of 16 bytes: the same bits where packs are off alignment, where
// columns have gaps, and where they follow each other.

#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/line_sums.hpp>
#include <stiefelx/cuda/reductions.hpp>

namespace {

using namespace tables;

// Small whole numbers: their sums are exact in every order, so that an entry that is left out or
// added twice changes the result, and the order does not.
template <class S>
table<S> whole_numbers(index_t rows, index_t cols, std::uint64_t seed) {
  table<S> a = random_table<S>(rows, cols, seed, 8);
  for (S& x : a.entries) x = static_cast<S>(x * 8 + 1);
  return a;
}

using results = std::vector<std::pair<std::string, table<double>>>;

template <class S>
results entries_and_sums(device::context& ctx, extent const& size, layout const& how) {
  auto const [m, n] = size;
  auto const a = whole_numbers<S>(m, n, 1), b = whole_numbers<S>(m, n, 2);
  placed<S> x(ctx, a, how), y(ctx, b, how), added(ctx, b, how), scaled(ctx, a, how),
      identity(ctx, a, how), chosen(ctx, b, how), filled(ctx, a, how);
  auto const factors = on_device(ctx, whole_numbers<S>(1, n, 3));
  auto const one = number_on(ctx, S(1));
  auto wide = number_on(ctx, S(0)), length = number_on(ctx, S(0)), finite = number_on(ctx, S(0));
  auto columns = on_device(ctx, table<S>(1, n)), rows = on_device(ctx, table<S>(m, 1));
  axpy(ctx, 0.5, x.view(), added.view());
  scale_columns(ctx, factors, scaled.view());
  set_identity(ctx, identity.view());
  copy_if(ctx, one, x.view(), chosen.view());
  fill(ctx, 3, filled.view());
  inner(ctx, x.view(), y.view(), wide);
  norm(ctx, x.view(), length);
  all_finite(ctx, x.view(), finite);
  column_inner(ctx, x.view(), y.view(), columns);
  sum_columns(ctx, x.view(), rows);
  auto const read = [&](auto const& p) { return cast<double>(p.entries(ctx)); };
  auto const down = [&](auto const& p) { return cast<double>(on_host(ctx, p)); };
  return {{"axpy", read(added)},           {"scale_columns", read(scaled)},
          {"identity", read(identity)},    {"copy_if", read(chosen)},
          {"fill", read(filled)},          {"inner", down(wide)},
          {"norm", down(length)},          {"all_finite", down(finite)},
          {"column_inner", down(columns)}, {"sum_columns", down(rows)}};
}

template <class S>
void expect_same_bits_in_every_layout() {
  device::context ctx;
  for (extent const& size : extents()) {
    results expected;
    for (layout const& how : layouts()) {
      auto const found = entries_and_sums<S>(ctx, size, how);
      if (expected.empty()) expected = found;
      for (std::size_t k = 0; k < found.size(); ++k)
        BOOST_TEST(same_bits(found[k].second, expected[k].second),
                   found[k].first << ", " << how.name << ", " << size.rows << " x " << size.cols);
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(vectors)

BOOST_AUTO_TEST_CASE(packs_and_single_entries_give_the_same_bits_in_double) {
  expect_same_bits_in_every_layout<double>();
}

BOOST_AUTO_TEST_CASE(packs_and_single_entries_give_the_same_bits_in_float) {
  expect_same_bits_in_every_layout<float>();
}

BOOST_AUTO_TEST_CASE(the_layouts_of_the_tests_are_on_and_off_alignment) {
  device::context ctx;
  int aligned = 0, ragged = 0;
  for (layout const& how : layouts()) {
    placed<float> a(ctx, table<float>(33, 5), how);
    (device::has_aligned_columns(ref(a.view())) ? aligned : ragged) += 1;
  }
  // Of 33 rows, columns that follow each other are off alignment too.
  BOOST_TEST(aligned == (fake_cuda::keeps_lane_order ? 1 : 0));
  BOOST_TEST(ragged > 0);
  placed<float> even(ctx, table<float>(32, 5), layouts().front());
  BOOST_TEST(device::has_aligned_columns(ref(even.view())));
}

BOOST_AUTO_TEST_SUITE_END()
