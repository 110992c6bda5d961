// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Cholesky factors and LU solves on the device against Eigen, in one block and in several.
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::no_status;
namespace device = stiefelx::cuda;

template <class S>
struct factored {
  matrix_x<S> r;
  int status;
};

template <class S>
factored<S> cholesky_of(matrix_x<S> const& g) {
  device::context ctx;
  auto r = on_device(ctx, g);
  auto status = zeros<int>(ctx, 1, 1);
  cholesky(ctx, r, status);
  return {on_host(ctx, r), value(ctx, status)};
}

template <class S>
factored<S> solution_of(matrix_x<S> const& a, matrix_x<S> const& b) {
  device::context ctx;
  auto lu = on_device(ctx, a), x = on_device(ctx, b);
  auto status = zeros<int>(ctx, 1, 1);
  solve(ctx, lu, x, status);
  return {on_host(ctx, x), value(ctx, status)};
}

template <class F>
std::string text_of(F const& f) {
  try {
    f();
  } catch (std::exception const& e) {
    return e.what();
  }
  return "";
}

using scalars = std::tuple<double, float>;

// A warp and a block, both sides of their ends, and blocks more.
template <class S>
std::vector<index_t> orders() {
  if constexpr (std::is_same_v<S, float>) return {33, 64};
  return {1, 2, 31, 32, 33, 63, 64, 65, 100, 130};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(factor)

BOOST_AUTO_TEST_CASE_TEMPLATE(cholesky_reproduces_the_matrix, S, scalars) {
  for (index_t const n : orders<S>()) BOOST_TEST_CONTEXT("order " << n) {
      matrix_x<S> const g = positive_matrix<S>(n, 20, 1);
      auto const found = cholesky_of(g);
      BOOST_TEST(found.status == 0);
      BOOST_TEST(near(found.r.transpose() * found.r, g, tolerance<S>(n)));
      matrix_x<S> const upper = found.r.template triangularView<Eigen::Upper>();
      BOOST_TEST(same(found.r, upper));
      BOOST_TEST((found.r.diagonal().array() > 0).all());
      matrix_x<S> const oracle = g.llt().matrixU();
      BOOST_TEST(near(found.r, oracle, tolerance<S>(n, 20)));
    }
}

BOOST_AUTO_TEST_CASE(cholesky_reads_the_upper_triangle_alone) {
  for (index_t const n : {5, 66}) {
    matrix_x<double> const g = positive_matrix<double>(n, 5, 2);
    matrix_x<double> spoilt = g;
    spoilt.triangularView<Eigen::StrictlyLower>().setConstant(
        std::numeric_limits<double>::quiet_NaN());
    auto const found = cholesky_of(spoilt);
    BOOST_TEST(found.status == 0);
    BOOST_TEST(same(found.r, cholesky_of(g).r));
  }
}

BOOST_AUTO_TEST_CASE(cholesky_says_what_is_wrong_with_the_matrix) {
  for (index_t const n : {3, 66})
    for (index_t const place : {index_t(0), n - 1}) {
      if (n > 3 && place == 0) continue;
      matrix_x<double> g = positive_matrix<double>(n, 5, 3);
      g(place, place) = -1;
      BOOST_TEST(cholesky_of(g).status == stiefelx::rank_deficient);
      g(place, place) = std::numeric_limits<double>::quiet_NaN();
      BOOST_TEST((cholesky_of(g).status & stiefelx::not_finite) != 0);
    }
}

BOOST_AUTO_TEST_CASE(a_status_keeps_the_bits_that_it_has) {
  device::context ctx;
  matrix_x<double> g = positive_matrix<double>(3, 5, 3);
  g(2, 2) = -1;
  auto r = on_device(ctx, g);
  auto status = on_device(ctx, matrix_x<int>(matrix_x<int>::Constant(1, 1, 4)));
  cholesky(ctx, r, status);
  BOOST_TEST(value(ctx, status) == (4 | stiefelx::rank_deficient));
  auto b = on_device(ctx, g);
  auto singular = zeros<double>(ctx, 3, 3);
  auto bits = on_device(ctx, matrix_x<int>(matrix_x<int>::Constant(1, 1, 8)));
  solve(ctx, singular, b, bits);
  BOOST_TEST(value(ctx, bits) == (8 | stiefelx::rank_deficient));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(solve_finds_what_solves_the_system, S, scalars) {
  for (index_t const n : orders<S>())
    for (index_t const m : {1, 40}) BOOST_TEST_CONTEXT("order " << n << ", columns " << m) {
        if (n > 64 && m == 1) continue;
        matrix_x<S> const a = conditioned_matrix<S>(n, n, 10, 4);
        matrix_x<S> const x = random_matrix<S>(n, m, 5);
        auto const found = solution_of<S>(a, a * x);
        BOOST_TEST(found.status == 0);
        BOOST_TEST(near(found.r, x, tolerance<S>(n, 100)));
      }
}

BOOST_AUTO_TEST_CASE(solve_exchanges_rows) {
  // Without pivots the first step divides by zero, and later ones by numbers near rounding.
  for (index_t const n : {2, 9, 66}) {
    matrix_x<double> a = random_matrix<double>(n, n, 6);
    for (index_t k = 0; k < n; ++k) a(k, k) = k == 0 ? 0 : 1e-15;
    matrix_x<double> const b = random_matrix<double>(n, 3, 7);
    auto const found = solution_of(a, b);
    BOOST_TEST(found.status == 0);
    BOOST_TEST(near(a * found.r, b, tolerance<double>(n, a.norm() * found.r.norm() / b.norm())));
  }
}

BOOST_AUTO_TEST_CASE(solve_reports_a_singular_matrix) {
  for (index_t const n : {4, 66}) {
    matrix_x<double> a = random_matrix<double>(n, n, 8);
    a.col(n - 1).setZero();
    auto const found = solution_of(a, matrix_x<double>(matrix_x<double>::Ones(n, 2)));
    BOOST_TEST(found.status == stiefelx::rank_deficient);
    BOOST_TEST(!found.r.allFinite());
  }
}

BOOST_AUTO_TEST_CASE(views_are_factored_where_they_lie) {
  for (index_t const n : {6, 66}) {
    device::context ctx;
    matrix_x<double> whole = random_matrix<double>(n + 5, 2 * n + 4, 9);
    matrix_x<double> const g = positive_matrix<double>(n, 5, 10);
    matrix_x<double> const a = conditioned_matrix<double>(n, n, 5, 11);
    whole.block(2, 1, n, n) = g;
    whole.block(1, n + 3, n, n) = a;
    auto device = on_device(ctx, whole);
    auto b = on_device(ctx, whole);
    cholesky(ctx, device.middleRows(2, n).middleCols(1, n), no_status{});
    solve(ctx, device.middleRows(1, n).middleCols(n + 3, n),
          b.middleRows(3, n).middleCols(0, n + 2), no_status{});
    matrix_x<double> const left = on_host(ctx, device), right = on_host(ctx, b);
    // One block is the same team's work wherever it lies; between several are cuBLAS's products.
    double const bound = n <= 64 ? 0 : tolerance<double>(n, 5);
    matrix_x<double> const solution =
        solution_of(a, matrix_x<double>(whole.block(3, 0, n, n + 2))).r;
    BOOST_TEST(same_in_another_layout(left.block(2, 1, n, n), cholesky_of(g).r, bound));
    BOOST_TEST(same_in_another_layout(right.block(3, 0, n, n + 2), solution, bound));
    matrix_x<double> expected = whole;
    expected.block(2, 1, n, n) = left.block(2, 1, n, n);
    expected.block(1, n + 3, n, n) = left.block(1, n + 3, n, n);
    BOOST_TEST(same(left, expected));
    expected = whole;
    expected.block(3, 0, n, n + 2) = right.block(3, 0, n, n + 2);
    BOOST_TEST(same(right, expected));
  }
}

BOOST_AUTO_TEST_CASE(nothing_is_allocated_after_the_first_step) {
  device::context ctx;
  auto const step = [&] {
    auto g = on_device(ctx, positive_matrix<double>(66, 5, 1));
    auto b = on_device(ctx, positive_matrix<double>(66, 5, 2));
    cholesky(ctx, g, no_status{});
    solve(ctx, g, b, no_status{});
  };
  step();
  std::size_t const before = ctx.memory.capacity();
  step();
  BOOST_TEST(ctx.memory.capacity() == before);
  BOOST_TEST(ctx.memory.live() == 0u);
}

BOOST_AUTO_TEST_CASE(misuse_is_named_before_anything_is_queued) {
  device::context ctx;
  auto g = zeros<double>(ctx, 3, 4), a = zeros<double>(ctx, 4, 4), b = zeros<double>(ctx, 5, 2);
  auto wide = zeros<int>(ctx, 1, 2);
  BOOST_TEST(text_of([&] { cholesky(ctx, g, no_status{}); }) == "cholesky: g is 3x4, expected 4x4");
  BOOST_TEST(text_of([&] { cholesky(ctx, a, wide); }) == "cholesky: status is 1x2, expected 1x1");
  BOOST_TEST(text_of([&] { solve(ctx, g, b, no_status{}); }) == "solve: a is 3x4, expected 4x4");
  BOOST_TEST(text_of([&] { solve(ctx, a, b, no_status{}); }) == "solve: b is 5x2, expected 4x2");
  BOOST_TEST(text_of([&] { solve(ctx, a, a.middleCols(1, 2), no_status{}); }) ==
             "solve: b overlaps a, expected separate memory");
}

BOOST_AUTO_TEST_CASE(an_empty_system_is_solved) {
  device::context ctx;
  auto a = zeros<double>(ctx, 0, 0), b = zeros<double>(ctx, 0, 3), c = zeros<double>(ctx, 4, 0);
  auto d = on_device(ctx, positive_matrix<double>(4, 5, 1));
  cholesky(ctx, a, no_status{});
  solve(ctx, a, b, no_status{});
  solve(ctx, d, c, no_status{});
  BOOST_TEST(ctx.memory.live() == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
