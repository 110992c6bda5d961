// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <complex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>
#include <support/backends.hpp>

namespace {

using namespace support;
using stiefelx::expect_option;
using stiefelx::expect_shape;
using stiefelx::expect_tall;
using stiefelx::option_error;
using stiefelx::shape_error;

auto says(std::string text) {
  return [text](std::exception const& error) { return error.what() == text; };
}

// --- which types are matrices --------------------------------------------------------------------

using eigen = matrix_x<double>;
using owner = archetype::matrix<double>;
using temporary = archetype::scratch_matrix<float>;
using window = archetype::view<double>;

static_assert(stiefelx::Matrix<eigen> && stiefelx::Matrix<eigen const&>);
static_assert(stiefelx::Matrix<owner> && stiefelx::Matrix<temporary&>);
static_assert(stiefelx::Matrix<archetype::view<double const>>);
static_assert(stiefelx::Matrix<archetype::adjoint_view<double>>);
static_assert(!stiefelx::Matrix<double> && !stiefelx::Matrix<std::string>);

static_assert(stiefelx::OutputMatrix<eigen&> && !stiefelx::OutputMatrix<eigen const&>);
static_assert(!stiefelx::OutputMatrix<eigen>, "the result would be lost");
static_assert(stiefelx::OutputMatrix<Eigen::Block<eigen>> && stiefelx::OutputMatrix<window>);

static_assert(stiefelx::SameScalar<eigen&, owner const&, window>);
static_assert(!stiefelx::SameScalar<eigen, temporary>);
static_assert(stiefelx::RealMatrix<owner> && !stiefelx::RealMatrix<archetype::matrix<int>>);
static_assert(!stiefelx::RealMatrix<matrix_x<std::complex<double>>>);

static_assert(std::is_same_v<stiefelx::real_of_t<std::complex<float>>, float>);
static_assert(std::is_same_v<stiefelx::wide_t<float>, double>);
static_assert(std::is_same_v<stiefelx::wide_t<double>, double>);
static_assert(std::is_same_v<stiefelx::wide_t<std::complex<float>>, std::complex<double>>);
static_assert(std::is_same_v<stiefelx::real_t<matrix_x<std::complex<double>> const&>, double>);

// --- the archetype has nothing of Eigen's --------------------------------------------------------

template <class A>
concept HasEntries = requires(A const& a) { a(0, 0); };
template <class A>
concept Adds = requires(A const& a) { a + a; };

static_assert(!HasEntries<owner> && !HasEntries<window> && !HasEntries<temporary>);
static_assert(!Adds<owner> && !Adds<window>);
static_assert(!std::is_default_constructible_v<owner> && !std::is_default_constructible_v<window>);
static_assert(!std::is_copy_constructible_v<owner> && !std::is_copy_assignable_v<window>);
static_assert(std::is_move_assignable_v<owner> && !std::is_move_assignable_v<temporary>);
static_assert(!std::is_convertible_v<owner&, window> && !std::is_convertible_v<window, owner>);
static_assert(!std::is_convertible_v<window, archetype::view<double const>>);
static_assert(!std::is_constructible_v<owner, eigen> && !std::is_convertible_v<owner, eigen>);

template <class Ctx, class A, class B>
concept Copies = requires(Ctx& ctx, A const& a, B b) { copy(ctx, a, static_cast<B&&>(b)); };

static_assert(Copies<archetype::context, owner, owner&> &&
              Copies<archetype::context, owner, window>);
static_assert(!Copies<archetype::context, owner, owner>, "a temporary owner is no output");
static_assert(!Copies<archetype::context, owner, archetype::view<double const>>);
static_assert(!Copies<archetype::context, owner, archetype::adjoint_view<double>>);
static_assert(!Copies<archetype::context, eigen, owner&> &&
              !Copies<archetype::context, owner, eigen&>);
static_assert(!Copies<stiefelx::host::context, owner, eigen&>);
static_assert(!Copies<stiefelx::host::context, eigen, owner&>);
static_assert(!Copies<stiefelx::host::context, owner, owner&>);

}  // namespace

BOOST_AUTO_TEST_SUITE(shape)

BOOST_AUTO_TEST_CASE_TEMPLATE(expected_shapes_pass_and_others_are_named, Case, double_cases) {
  typename Case::context ctx;
  auto const v = zeros<double>(ctx, 8, 4);
  BOOST_CHECK_NO_THROW(expect_shape("retract", "v", v, 8, 4));
  BOOST_CHECK_NO_THROW(expect_shape("retract", "v", v.adjoint(), 4, 8));
  BOOST_CHECK_EXCEPTION(expect_shape("retract", "v", v, 8, 3), shape_error,
                        says("retract: v is 8x4, expected 8x3"));
  BOOST_CHECK_EXCEPTION(expect_shape("retract", "v", v, 9, 4), shape_error,
                        says("retract: v is 8x4, expected 9x4"));
  BOOST_CHECK_THROW(expect_shape("retract", "v", v.adjoint(), 8, 4), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wide_matrices_are_refused_where_tall_ones_are_needed, Case,
                              double_cases) {
  typename Case::context ctx;
  auto const a = zeros<double>(ctx, 3, 4);
  BOOST_CHECK_NO_THROW(expect_tall("polar", "a", a.adjoint()));
  BOOST_CHECK_NO_THROW(expect_tall("polar", "a", a.middleCols(0, 3)));
  BOOST_CHECK_NO_THROW(expect_tall("polar", "a", zeros<double>(ctx, 0, 0)));
  BOOST_CHECK_EXCEPTION(expect_tall("polar", "a", a), shape_error,
                        says("polar: a is 3x4, expected at least as many rows as columns"));
}

BOOST_AUTO_TEST_CASE(options_out_of_range_are_named) {
  BOOST_CHECK_NO_THROW(expect_option(true, "adamw", "steps", 0, "a number above 0"));
  BOOST_CHECK_EXCEPTION(expect_option(false, "adamw", "steps", -2, "a number above 0"),
                        option_error, says("adamw: steps is -2, expected a number above 0"));
  BOOST_CHECK_EXCEPTION(stiefelx::host::context({.threads = 0}), option_error,
                        says("host::context: threads is 0, expected a number of at least 1"));
}

// --- what the archetype refuses ------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(archetype_refuses_wrong_sizes_and_bounds) {
  archetype::context ctx;
  auto a = zeros<double>(ctx, 4, 3);
  auto b = zeros<double>(ctx, 3, 4);
  BOOST_CHECK_THROW(copy(ctx, a, b), std::logic_error);
  BOOST_CHECK_THROW(axpy(ctx, 1, a, b), std::logic_error);
  BOOST_CHECK_THROW(multiply(ctx, a, a, b), std::logic_error);
  BOOST_CHECK_THROW((void)product(ctx, a, a), std::logic_error);
  BOOST_CHECK_THROW((void)value(ctx, a), std::logic_error);
  BOOST_CHECK_THROW((void)a.middleCols(2, 2), std::logic_error);
  BOOST_CHECK_THROW((void)a.middleRows(-1, 2), std::logic_error);
  BOOST_CHECK_THROW((void)a.adjoint().middleRows(2, 2), std::logic_error);
  BOOST_CHECK_NO_THROW((void)a.adjoint().middleCols(2, 2));
}

BOOST_AUTO_TEST_CASE(archetype_refuses_a_view_of_a_matrix_that_is_gone) {
  archetype::context ctx;
  auto target = zeros<double>(ctx, 2, 2);
  auto const stale = [&] {
    auto s = scratch<double>(ctx, 4, 3);
    return s.middleRows(0, 2).middleCols(0, 2);
  }();
  BOOST_CHECK_THROW(copy(ctx, stale, target), std::logic_error);
  auto moved = std::move(target);
  BOOST_CHECK_THROW(fill(ctx, 1, target), std::logic_error);  // NOLINT(bugprone-use-after-move)
  BOOST_CHECK_NO_THROW(fill(ctx, 1, moved));
}

BOOST_AUTO_TEST_CASE(archetype_scratch_holds_nan_and_is_counted) {
  archetype::context ctx;
  {
    auto const s = scratch<double>(ctx, 2, 3);
    auto const t = scratch<int>(ctx, 1, 1);
    auto finite = zeros<double>(ctx, 1, 1);
    all_finite(ctx, s, finite);
    BOOST_TEST(value(ctx, finite) == 0);
    BOOST_TEST(value(ctx, t) < -1000000);
    BOOST_TEST(ctx.counts().live_scratch == 2);
    BOOST_TEST(ctx.counts().live_owners == 1);
  }
  BOOST_TEST(ctx.counts().live_scratch == 0);
  BOOST_TEST(ctx.counts().live_owners == 0);
  BOOST_TEST(ctx.counts().scratch_allocations == 2);
  BOOST_TEST(ctx.counts().owner_allocations == 1);
}

BOOST_AUTO_TEST_SUITE_END()
