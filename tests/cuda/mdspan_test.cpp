// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Device matrices as mdspans, and mdspans as device matrices.

#include <cstddef>
#include <type_traits>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/cuda/mdspan.hpp>

namespace {

namespace device = stiefelx::cuda;
namespace standard = ::cuda::std;
using stiefelx::index_t;

double* const first = reinterpret_cast<double*>(4096);

// Where a span puts entry (i, j), counted in entries.
template <class Span>
index_t place(Span const& span, index_t i, index_t j) {
  return static_cast<index_t>(span.mapping()(i, j));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(mdspan)

BOOST_AUTO_TEST_CASE(a_span_of_a_view_has_its_entries_where_the_view_has_them) {
  device::matrix_view<double> a(first, 4, 3, 7);
  auto const span = device::as_mdspan(a);
  static_assert(std::is_same_v<decltype(span)::element_type, double>);
  BOOST_TEST(span.data_handle() == first);
  BOOST_TEST(span.extent(0) == 4);
  BOOST_TEST(span.extent(1) == 3);
  for (index_t j = 0; j < 3; ++j)
    for (index_t i = 0; i < 4; ++i) BOOST_TEST(place(span, i, j) == i + 7 * j);
}

BOOST_AUTO_TEST_CASE(a_span_of_an_adjoint_is_row_major_and_only_read) {
  device::matrix_view<double> const a(first, 4, 3, 7);
  auto const span = device::as_mdspan(a.adjoint());
  static_assert(std::is_same_v<decltype(span)::element_type, double const>);
  BOOST_TEST(span.extent(0) == 3);
  BOOST_TEST(span.extent(1) == 4);
  BOOST_TEST(place(span, 2, 3) == 7 * 2 + 3);
  auto const back = device::as_adjoint(span);
  BOOST_TEST(back.rows() == 3);
  BOOST_TEST(back.cols() == 4);
  BOOST_TEST(back.data() == first);
  BOOST_TEST(back.stride() == 7);
  static_assert(std::is_same_v<decltype(device::as_mdspan(a))::element_type, double const>);
}

BOOST_AUTO_TEST_CASE(a_view_of_a_span_of_a_view_is_that_view) {
  device::matrix_view<double> a(first, 4, 3, 7);
  device::matrix_view<double> const b = device::as_view(device::as_mdspan(a));
  BOOST_TEST(b.data() == first);
  BOOST_TEST(b.rows() == 4);
  BOOST_TEST(b.cols() == 3);
  BOOST_TEST(b.stride() == 7);
}

BOOST_AUTO_TEST_CASE(a_column_major_span_of_fixed_size_is_a_view) {
  standard::mdspan<float, standard::extents<int, 5, 2>, standard::layout_left> const span(
      reinterpret_cast<float*>(4096));
  auto const a = device::as_view(span);
  BOOST_TEST(a.rows() == 5);
  BOOST_TEST(a.cols() == 2);
  BOOST_TEST(a.stride() == 5);
}

BOOST_AUTO_TEST_CASE(a_row_major_span_is_an_adjoint) {
  standard::mdspan<double, standard::dextents<std::size_t, 2>> const span(first, 5, 2);
  auto const a = device::as_adjoint(span);
  BOOST_TEST(a.rows() == 5);
  BOOST_TEST(a.cols() == 2);
  BOOST_TEST(a.adjoint().rows() == 2);
  BOOST_TEST(a.stride() == 2);
}

BOOST_AUTO_TEST_CASE(a_span_with_gaps_between_neighbours_is_refused) {
  using extents = standard::dextents<index_t, 2>;
  using steps = standard::array<index_t, 2>;
  using mapping = standard::layout_stride::mapping<extents>;
  auto const with = [](index_t rows, index_t cols, index_t down, index_t right) {
    return device::strided_mdspan<double>(first, mapping(extents(rows, cols), steps{down, right}));
  };
  BOOST_CHECK_THROW((void)device::as_view(with(4, 3, 2, 8)), stiefelx::shape_error);
  BOOST_CHECK_THROW((void)device::as_view(with(4, 3, 3, 1)), stiefelx::shape_error);
  BOOST_CHECK_THROW((void)device::as_adjoint(with(4, 3, 1, 4)), stiefelx::shape_error);
  BOOST_CHECK_THROW((void)device::as_adjoint(with(4, 3, 8, 2)), stiefelx::shape_error);
  BOOST_CHECK_NO_THROW((void)device::as_adjoint(with(4, 3, 3, 1)));
  // A single row or column has no neighbours that way.
  BOOST_TEST(device::as_view(with(1, 3, 9, 4)).stride() == 4);
  BOOST_TEST(device::as_view(with(4, 1, 1, 2)).stride() == 4);
  BOOST_TEST(device::as_adjoint(with(4, 1, 3, 9)).stride() == 3);
}

BOOST_AUTO_TEST_CASE(an_empty_matrix_is_an_empty_span) {
  device::matrix_view<double> a(nullptr, 0, 3);
  auto const span = device::as_mdspan(a);
  BOOST_TEST(span.extent(0) == 0);
  BOOST_TEST(span.extent(1) == 3);
  BOOST_TEST(span.stride(1) == 1);
  auto const b = device::as_view(span);
  BOOST_TEST(b.rows() == 0);
  BOOST_TEST(b.cols() == 3);
}

BOOST_AUTO_TEST_SUITE_END()
