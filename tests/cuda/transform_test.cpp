// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Element text on the device: outputs and inputs of several scalars, broadcast, adjoints, overlap.

#include <boost/test/unit_test.hpp>

#include <cuda/placed.hpp>
#include <stiefelx/cuda/transform.hpp>

namespace {

using namespace tables;

// Reads and writes both outputs and reads inputs of three other scalars.
struct moment_element {
  double rate;

  STIEFELX_HD void operator()(float& x, double& m, float const& g, double const& length,
                              int const& kept, stiefelx::bfloat16 const& shift) const {
    m = rate * m + g;
    if (kept != 0) x = static_cast<float>(x - length * m + static_cast<float>(shift));
  }
};

struct sum_element {
  STIEFELX_HD void operator()(float& y, float const& a, float const& b) const { y += a * b; }
};

struct count_element {
  STIEFELX_HD void operator()(int& y) const { y = 2 * y + 1; }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(transform)

BOOST_AUTO_TEST_CASE(element_text_sees_each_place_once_in_every_layout) {
  device::context ctx;
  auto const length = number_on(ctx, 0.25);
  for (auto const [m, n] : extents()) {
    auto const x = random_table<float>(m, n, 1, 256), g = random_table<float>(m, n, 2, 256);
    auto const moment = random_table<double>(m, n, 3, 256);
    auto const shift = random_table<stiefelx::bfloat16>(m, n, 4, 16);
    table<int> kept(n, m);
    for (std::size_t k = 0; k < kept.entries.size(); ++k) kept.entries[k] = k % 3 != 0 ? 1 : 0;
    auto const turned = on_device(ctx, kept);
    auto expected_x = x;
    auto expected_moment = moment;
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i)
        moment_element{0.5}(expected_x(i, j), expected_moment(i, j), g(i, j), 0.25, kept(j, i),
                            shift(i, j));
    for (layout const& how : layouts())
      for (layout const& other : {layouts().front(), layouts().back()}) {
        BOOST_TEST_INFO(how.name << " and " << other.name << ", " << m << " x " << n);
        placed<float> a(ctx, x, how);
        placed<double> b(ctx, moment, how);
        placed<float> c(ctx, g, other);
        placed<stiefelx::bfloat16> d(ctx, shift, how);
        device::transform(ctx, moment_element{0.5}, stiefelx::outputs(a.view(), b.view()),
                          stiefelx::inputs(c.view(), length, turned.adjoint(), d.view()));
        bool const equal = a.entries(ctx) == expected_x && b.entries(ctx) == expected_moment;
        BOOST_TEST(equal);
      }
  }
}

BOOST_AUTO_TEST_CASE(an_input_may_be_the_output_itself_whatever_the_order_of_lanes) {
  device::context ctx;
  for (auto const [m, n] : extents()) {
    auto const start = random_table<float>(m, n, 5, 16);
    auto expected = start;
    for (float& y : expected.entries) y += y * y;
    for (layout const& how : layouts())
      in_each_lane_order([&] {
        placed<float> y(ctx, start, how);
        device::transform(ctx, sum_element{}, stiefelx::outputs(y.view()),
                          stiefelx::inputs(y.view(), y.view()));
        bool const equal = y.entries(ctx) == expected;
        BOOST_TEST(equal);
      });
  }
}

BOOST_AUTO_TEST_CASE(an_entry_is_visited_once_where_nothing_is_read) {
  device::context ctx;
  for (auto const [m, n] : extents()) {
    table<int> start(m, n), expected(m, n);
    std::fill(start.entries.begin(), start.entries.end(), 3);
    std::fill(expected.entries.begin(), expected.entries.end(), 7);
    for (layout const& how : layouts()) {
      placed<int> y(ctx, start, how);
      device::transform(ctx, count_element{}, stiefelx::outputs(y.view()), stiefelx::inputs());
      bool const equal = y.entries(ctx) == expected;
      BOOST_TEST(equal);
    }
  }
}

BOOST_AUTO_TEST_CASE(misuse_is_refused_before_anything_is_queued) {
  device::context ctx;
  auto const start = random_table<float>(4, 4, 6);
  auto y = on_device(ctx, start);
  auto const wide = on_device(ctx, random_table<float>(2, 4, 7));
  auto const run = [&](auto const& a) {
    return message_of([&] {
      device::transform(ctx, sum_element{}, stiefelx::outputs(y), stiefelx::inputs(a, y));
    });
  };
  BOOST_TEST(run(wide) == "transform: an input is 2x4, expected 4x4");
  BOOST_TEST(run(y.middleRows(1, 1).middleCols(2, 1)) ==
             "transform: an output overlaps an input, expected separate memory");
  BOOST_TEST(run(y.adjoint()) ==
             "transform: an output overlaps an input, expected the same matrix or separate memory");
  BOOST_TEST(message_of([&] {
               device::transform(ctx, sum_element{}, stiefelx::outputs(y.middleCols(0, 3)),
                                 stiefelx::inputs(y.middleCols(1, 3), y.middleCols(0, 3)));
             }) ==
             "transform: an output overlaps an input, expected the same matrix or separate memory");
  BOOST_TEST(message_of([&] {
               device::transform(ctx, moment_element{1},
                                 stiefelx::outputs(y, device::matrix_view<double>(nullptr, 0, 0)),
                                 stiefelx::inputs(y, number_on(ctx, 1.0), number_on(ctx, 1),
                                                  number_on(ctx, stiefelx::bfloat16(1.F))));
             }) == "transform: an output is 0x0, expected 4x4");
  bool const unchanged = on_host(ctx, y) == start;
  BOOST_TEST(unchanged);
}

BOOST_AUTO_TEST_SUITE_END()
