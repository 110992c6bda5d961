// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Types of device matrices: what they own, what their views show, what they refuse.

#include <complex>
#include <type_traits>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <cuda/table.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/core/context.hpp>

namespace {

namespace device = stiefelx::cuda;
using stiefelx::index_t;
using tables::message_of;

template <class S>
using view = device::matrix_view<S>;
using owner = device::matrix<double>;
using scratch_owner = device::scratch_matrix<double>;
using flipped = device::adjoint_view<double>;

static_assert(stiefelx::Matrix<owner> && stiefelx::Matrix<scratch_owner>);
static_assert(stiefelx::Matrix<view<double>> && stiefelx::Matrix<flipped>);
static_assert(stiefelx::OutputMatrix<owner&> && !stiefelx::OutputMatrix<owner>);
static_assert(stiefelx::OutputMatrix<view<double>>);
static_assert(stiefelx::Context<device::context>);

static_assert(device::DeviceOutput<owner&> && device::DeviceOutput<scratch_owner&>);
static_assert(device::DeviceOutput<view<double>> && device::DeviceOutput<view<double>&>);
static_assert(!device::DeviceOutput<owner> && !device::DeviceOutput<owner const&>);
static_assert(!device::DeviceOutput<view<double const>> && !device::DeviceOutput<flipped>);
static_assert(!device::DeviceOutput<view<double> const&>);
static_assert(device::DeviceMatrix<flipped> && !device::DevicePlain<flipped>);
static_assert(!device::DeviceMatrix<double*> && !device::DeviceMatrix<double>);
static_assert(device::DeviceCoefficient<int> && device::DeviceCoefficient<flipped>);
static_assert(!device::DeviceCoefficient<device::matrix<int>>);
static_assert(!device::DeviceScalar<std::complex<double>> && !device::DeviceScalar<long>);

static_assert(!std::is_copy_constructible_v<owner> && std::is_nothrow_move_assignable_v<owner>);
static_assert(!std::is_copy_constructible_v<scratch_owner>);
static_assert(!std::is_move_assignable_v<scratch_owner>);
static_assert(std::is_copy_constructible_v<view<double>>);
static_assert(!std::is_copy_assignable_v<view<double>>);
static_assert(!std::is_copy_assignable_v<flipped>);

template <class A>
using entry_t = std::remove_pointer_t<decltype(device::ref(std::declval<A>()).data)>;
static_assert(std::is_same_v<entry_t<owner&>, double>);
static_assert(std::is_same_v<entry_t<owner const&>, double const>);
static_assert(std::is_same_v<entry_t<view<double>>, double>);
static_assert(std::is_same_v<entry_t<view<double> const&>, double const>);
static_assert(std::is_same_v<entry_t<view<double const>&>, double const>);

}  // namespace

BOOST_AUTO_TEST_SUITE(matrix)

BOOST_AUTO_TEST_CASE(a_view_is_the_part_that_it_names) {
  double* const first = reinterpret_cast<double*>(4096);
  view<double> a(first, 7, 5, 9);
  auto const b = a.middleRows(2, 4).middleCols(1, 3);
  BOOST_TEST(b.data() == first + 2 + 9);
  BOOST_TEST(b.rows() == 4);
  BOOST_TEST(b.cols() == 3);
  BOOST_TEST(b.stride() == 9);
  auto const c = b.adjoint().middleCols(1, 2).middleRows(0, 3);
  BOOST_TEST(c.data() == first + 3 + 9);
  BOOST_TEST(c.rows() == 3);
  BOOST_TEST(c.cols() == 2);
  BOOST_TEST(c.stride() == 9);
  BOOST_TEST(c.adjoint().rows() == 2);
  view<double> const packed(first, 7, 5);
  BOOST_TEST(packed.stride() == 7);
  stiefelx::matrix_ref<double> const r = device::ref(a);
  BOOST_TEST(r.data == first);
  BOOST_TEST(r.rows == 7);
  BOOST_TEST(r.cols == 5);
  BOOST_TEST(r.stride == 9);
}

BOOST_AUTO_TEST_CASE(a_view_outside_its_matrix_is_refused) {
  double entries[12];
  view<double> a(entries, 4, 3, 4);
  for (auto const& [from, count] : {std::pair<index_t, index_t>{-1, 1}, {0, -1}, {2, 3}, {5, 0}}) {
    index_t const first = from, width = count;
    BOOST_CHECK_THROW((void)a.middleCols(first, width), stiefelx::shape_error);
    BOOST_CHECK_THROW((void)a.middleRows(first, width), stiefelx::shape_error);
    BOOST_CHECK_THROW((void)a.adjoint().middleRows(first, width), stiefelx::shape_error);
  }
  BOOST_CHECK_THROW((void)a.middleRows(1, 4), stiefelx::shape_error);
  BOOST_CHECK_NO_THROW((void)a.middleCols(3, 0));
  BOOST_TEST(message_of([&] { (void)a.middleCols(2, 3); }) ==
             "middleCols: the matrix is 4x3, expected columns 2 to 5");
}

BOOST_AUTO_TEST_CASE(a_wrapped_pointer_needs_a_stride_that_holds_its_rows) {
  BOOST_CHECK_THROW(view<float>(nullptr, 4, 3, 3), stiefelx::shape_error);
  BOOST_CHECK_THROW(view<float>(nullptr, -1, 3), stiefelx::shape_error);
  BOOST_CHECK_THROW(view<float>(nullptr, 1, -3), stiefelx::shape_error);
  BOOST_CHECK_THROW(owner(-1, 3), stiefelx::shape_error);
  BOOST_CHECK_NO_THROW(view<float>(nullptr, 0, 3));
}

BOOST_AUTO_TEST_CASE(an_owner_moves_and_leaves_an_empty_matrix) {
  device::context ctx;
  long const before = fake_cuda::live_allocations();
  {
    owner a(3, 2);
    double const* const first = std::as_const(a).data();
    owner b(std::move(a));
    BOOST_TEST(a.rows() == 0);
    BOOST_TEST(a.cols() == 0);
    BOOST_TEST(b.data() == first);
    owner c(5, 5);
    c = std::move(b);
    BOOST_TEST(c.rows() == 3);
    BOOST_TEST(c.cols() == 2);
    BOOST_TEST(c.data() == first);
    BOOST_TEST(fake_cuda::live_allocations() == before + 1);
  }
  BOOST_TEST(fake_cuda::live_allocations() == before);
}

BOOST_AUTO_TEST_CASE(an_owner_that_is_moved_to_itself_keeps_its_entries) {
  device::context ctx;
  auto a = zeros<double>(ctx, 3, 2);
  double const* const before = a.data();
  auto& same = a;
  a = std::move(same);
  BOOST_TEST((a.rows() == 3 && a.cols() == 2));
  BOOST_TEST(a.data() == before);
}

BOOST_AUTO_TEST_CASE(an_owner_may_outlive_its_context) {
  auto const kept = [] {
    device::context ctx;
    return zeros<double>(ctx, 3, 2);
  }();
  device::context ctx;
  BOOST_TEST(tables::distance(tables::on_host(ctx, kept), tables::table<double>(3, 2)) == 0);
}

BOOST_AUTO_TEST_CASE(scratch_goes_back_in_any_order) {
  device::context ctx;
  {
    auto a = scratch<double>(ctx, 3, 2);
    {
      scratch_owner const b(std::move(a));
      auto const c = scratch<float>(ctx, 100, 100);
      BOOST_TEST(ctx.memory.live() == 2U);
    }
    BOOST_TEST(ctx.memory.live() == 0U);
    BOOST_TEST(a.rows() == 0);
  }
  BOOST_TEST(ctx.memory.live() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
