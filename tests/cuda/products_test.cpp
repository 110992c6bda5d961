// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Products and triangular solves on the device, against loops in double.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <cublas_v2.h>
#include <boost/test/unit_test.hpp>

#include <cuda/table.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/products.hpp>
#include <support/tolerance.hpp>

namespace {

namespace device = stiefelx::cuda;
using stiefelx::bfloat16;
using stiefelx::float16;
using stiefelx::index_t;
using tables::cast;
using tables::distance;
using tables::framed;
using tables::loop_product;
using tables::message_of;
using tables::on_device;
using tables::on_host;
using tables::random_table;
using tables::table;
using tables::transposed;

constexpr std::array<index_t, 5> sizes{0, 1, 3, 31, 33};

// f(m, k, n) for every triple of sizes, and a tall and a deep one.
template <class F>
void for_each_triple(F const& f) {
  auto const visit = [&](index_t m, index_t k, index_t n) {
    BOOST_TEST_INFO_SCOPE("(" << m << "x" << k << ") (" << k << "x" << n << ")");
    f(m, k, n);
  };
  for (index_t const m : sizes)
    for (index_t const k : sizes)
      for (index_t const n : sizes) visit(m, k, n);
  visit(300, 5, 4);
  visit(4, 300, 5);
}

// Entries are below 1, so this bounds a sum of `length` products in every entry.
template <class S>
double bound(index_t length) {
  return support::tolerance<S>(length) * static_cast<double>(length + 1);
}

template <class S>
table<S> filled(index_t rows, index_t cols, double c) {
  table<S> a(rows, cols);
  for (S& x : a.entries) x = device::converted<S>(c);
  return a;
}

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// Whether c = a b holds for plain and adjoint factors inside larger matrices, starting from NaN.
template <class S>
void expect_products(device::context& ctx, index_t m, index_t k, index_t n) {
  auto const left = random_table<S>(m, k, 1);
  auto const right = random_table<S>(k, n, 2);
  auto const expected = loop_product(left, right);
  framed<S> a(ctx, left), b(ctx, right), at(ctx, transposed(left)), bt(ctx, transposed(right));
  auto const expect = [&](auto const& x, auto const& y) {
    framed<S> c(ctx, filled<S>(m, n, not_a_number));
    multiply(ctx, x, y, c.view());
    BOOST_TEST(distance(on_host(ctx, c.view()), expected) <= bound<S>(k));
    BOOST_TEST(c.is_frame_whole(ctx));
  };
  expect(a.view(), b.view());
  expect(at.view().adjoint(), b.view());
  expect(a.view(), bt.view().adjoint());
  expect(at.view().adjoint(), bt.view().adjoint());
}

// r with NaN below its diagonal, and a diagonal that keeps its condition small.
template <class S>
table<S> upper_factor(index_t p) {
  table<S> r = random_table<S>(p, p, 5);
  for (index_t j = 0; j < p; ++j) {
    r(j, j) = static_cast<S>(j % 2 == 0 ? 2 + p : -1 - p);
    for (index_t i = j + 1; i < p; ++i) r(i, j) = static_cast<S>(not_a_number);
  }
  return r;
}

template <class S>
void expect_solution(device::context& ctx, index_t n, index_t p) {
  BOOST_TEST_INFO_SCOPE("y is " << n << "x" << p);
  auto const y = random_table<S>(n, p, 6);
  auto const r = upper_factor<S>(p);
  auto clean = r;
  for (index_t j = 0; j < p; ++j)
    for (index_t i = j + 1; i < p; ++i) clean(i, j) = 0;
  framed<S> factor(ctx, r), flipped(ctx, transposed(r));
  auto const expect = [&](auto const& given) {
    framed<S> x(ctx, y);
    solve_right(ctx, given, x.view());
    auto const back = loop_product(on_host(ctx, x.view()), clean);
    BOOST_TEST(distance(back, y) <= support::tolerance<S>(p, 4));
    BOOST_TEST(x.is_frame_whole(ctx));
  };
  expect(factor.view());
  expect(flipped.view().adjoint());
}

template <class S>
void expect_gram(device::context& ctx, index_t n, index_t p) {
  BOOST_TEST_INFO_SCOPE("y is " << n << "x" << p);
  auto const y = random_table<S>(n, p, 7);
  auto const expected = loop_product(transposed(y), y);
  framed<S> plain(ctx, y), flipped(ctx, transposed(y));
  auto const expect = [&](auto const& given) {
    auto const g = on_host(ctx, gram(ctx, given));
    BOOST_TEST(distance(g, expected) <= bound<S>(n));
    BOOST_TEST((g == transposed(g)));
  };
  expect(plain.view());
  expect(flipped.view().adjoint());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(products)

BOOST_AUTO_TEST_CASE(products_agree_with_loops_for_every_shape_and_both_forms_of_a_factor) {
  device::context ctx;
  for_each_triple([&](index_t m, index_t k, index_t n) { expect_products<double>(ctx, m, k, n); });
  expect_products<float>(ctx, 33, 31, 3);
}

BOOST_AUTO_TEST_CASE(a_scratch_product_is_the_product) {
  device::context ctx;
  auto const a = random_table(33, 31, 1);
  auto const b = random_table(31, 3, 2);
  auto const c = product(ctx, on_device(ctx, a), on_device(ctx, b));
  BOOST_TEST(distance(on_host(ctx, c), loop_product(a, b)) <= bound<double>(31));
  auto const empty = product(ctx, zeros<double>(ctx, 3, 0), zeros<double>(ctx, 0, 2));
  BOOST_TEST((on_host(ctx, empty) == table<double>(3, 2)));
}

BOOST_AUTO_TEST_CASE(a_product_is_added_with_a_factor_of_the_host_or_of_the_device) {
  device::context ctx;
  for_each_triple([&](index_t m, index_t k, index_t n) {
    auto const left = random_table(m, k, 1);
    auto const right = random_table(k, n, 2);
    auto const start = random_table(m, n, 3);
    auto expected = loop_product(left, right);
    for (std::size_t e = 0; e < expected.entries.size(); ++e)
      expected.entries[e] = start.entries[e] - 1.5 * expected.entries[e];
    framed<double> a(ctx, left);
    framed<double> b(ctx, transposed(right));
    auto const number = on_device(ctx, filled<double>(1, 1, -1.5));
    auto const single = on_device(ctx, filled<float>(1, 1, -1.5));
    auto const expect = [&](auto const& s) {
      framed<double> c(ctx, start);
      multiply_add(ctx, s, a.view(), b.view().adjoint(), c.view());
      BOOST_TEST(distance(on_host(ctx, c.view()), expected) <= bound<double>(k));
      BOOST_TEST(c.is_frame_whole(ctx));
    };
    expect(-1.5);
    expect(number);
    expect(single);
  });
}

BOOST_AUTO_TEST_CASE(the_side_of_a_factor_is_set_anew_for_every_call) {
  device::context ctx;
  auto const a = on_device(ctx, random_table<float>(3, 3, 1));
  auto const s = on_device(ctx, filled<float>(1, 1, 2));
  auto c = zeros<float>(ctx, 3, 3);
  multiply_add(ctx, s, a, a, c);
  multiply_add(ctx, -1, a, a, c);
  multiply_add(ctx, s.adjoint(), a, a, c);
  auto d = product(ctx, a, a);
  multiply_add(ctx, -3, a, a, c);
  BOOST_TEST(distance(on_host(ctx, c), table<double>(3, 3)) <= 8 * bound<float>(3));
  (void)gram(ctx, d);
}

BOOST_AUTO_TEST_CASE(factors_of_two_bytes_are_summed_in_float) {
  device::context ctx;
  // Integers up to 15 as entries: every sum is exact in float and none fits two bytes.
  auto const left = random_table(33, 40, 1, 1);
  auto const right = random_table(40, 5, 2, 1);
  auto a = cast<bfloat16>(left);
  for (std::size_t e = 0; e < a.entries.size(); ++e)
    a.entries[e] = bfloat16(static_cast<float>(left.entries[e]) * 15 + 1);
  auto const b = cast<bfloat16>(right);
  auto const expected = loop_product(a, b);
  auto const made = product(ctx, on_device(ctx, a), on_device(ctx, transposed(b)).adjoint());
  static_assert(std::is_same_v<stiefelx::scalar_t<decltype(made)>, float>);
  BOOST_TEST(distance(on_host(ctx, made), expected) == 0);
  BOOST_TEST(fake_cuda::last_product().compute_type == int{CUBLAS_COMPUTE_32F});
  auto const half =
      product(ctx, on_device(ctx, cast<float16>(a)), on_device(ctx, cast<float16>(b)));
  BOOST_TEST(distance(on_host(ctx, half), expected) == 0);
  auto twice = on_device(ctx, cast<float>(expected));
  auto const one = on_device(ctx, filled<double>(1, 1, 1));
  multiply_add(ctx, one, on_device(ctx, a), on_device(ctx, b), twice);
  multiply_add(ctx, -2, on_device(ctx, a), on_device(ctx, b), twice);
  BOOST_TEST((on_host(ctx, twice) == table<float>(33, 5)));
}

BOOST_AUTO_TEST_CASE(a_factor_of_two_bytes_meets_one_of_another_type_without_a_loss) {
  device::context ctx;
  auto const left = cast<bfloat16>(random_table(33, 40, 1, 4));
  auto const right = cast<float>(random_table(40, 5, 2));
  auto const expected = loop_product(cast<float>(left), right);
  auto const a = on_device(ctx, left);
  auto const at = on_device(ctx, transposed(left));
  auto const b = on_device(ctx, right);
  double const allowed = bound<float>(40);
  BOOST_TEST(distance(on_host(ctx, product(ctx, a, b)), expected) <= allowed);
  BOOST_TEST(distance(on_host(ctx, product(ctx, at.adjoint(), b)), expected) <= allowed);
  BOOST_TEST(distance(on_host(ctx, product(ctx, b.adjoint(), at)), transposed(expected)) <=
             allowed);
  auto sum = on_device(ctx, cast<float>(expected));
  multiply_add(ctx, on_device(ctx, filled<double>(1, 1, -1)), a, b, sum);
  BOOST_TEST(distance(on_host(ctx, sum), table<float>(33, 5)) <= allowed);
  auto const other = product(ctx, on_device(ctx, cast<float16>(left)), a.adjoint());
  BOOST_TEST(distance(on_host(ctx, other), loop_product(left, transposed(left))) <= allowed);
  for (index_t const part : {1, 7, 40, 100}) {
    framed<float> c(ctx, filled<float>(33, 5, not_a_number));
    auto out = c.view();
    device::detail::multiply_in_parts(ctx, "multiply", {}, a, b, out, false, part);
    BOOST_TEST(distance(on_host(ctx, out), expected) <= allowed);
    device::detail::multiply_in_parts(ctx, "multiply", {-1.0F}, at.adjoint(), b, out, true, part);
    BOOST_TEST(distance(on_host(ctx, out), table<float>(33, 5)) <= 2 * allowed);
    BOOST_TEST(c.is_frame_whole(ctx));
  }
}

BOOST_AUTO_TEST_CASE(float_products_run_in_float_unless_tf32_is_asked_for) {
  constexpr int sums = CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  auto const mode_of = [](device::context_options const& options) {
    device::context ctx(options);
    auto const a = zeros<float>(ctx, 3, 3);
    (void)product(ctx, a, a);
    return fake_cuda::last_product();
  };
  auto const plain = mode_of({});
  BOOST_TEST(plain.math_mode == (CUBLAS_DEFAULT_MATH | sums));
  BOOST_TEST(plain.workspace == std::size_t{32} << 20);
  auto const fast = mode_of({.tf32 = true, .blas_workspace = 1 << 20});
  BOOST_TEST(fast.math_mode == (CUBLAS_TF32_TENSOR_OP_MATH | sums));
  BOOST_TEST(fast.workspace == std::size_t{1} << 20);
}

BOOST_AUTO_TEST_CASE(a_gram_matrix_agrees_with_loops_and_is_symmetric_to_the_bit) {
  device::context ctx;
  for (index_t const n : sizes)
    for (index_t const p : sizes) expect_gram<double>(ctx, n, p);
  expect_gram<double>(ctx, 5, 70);
  expect_gram<float>(ctx, 300, 33);
}

BOOST_AUTO_TEST_CASE(a_right_solve_undoes_a_product_and_reads_one_triangle) {
  device::context ctx;
  for (index_t const n : sizes)
    for (index_t const p : sizes) expect_solution<double>(ctx, n, p);
  expect_solution<double>(ctx, 300, 5);
  expect_solution<float>(ctx, 40, 33);
}

BOOST_AUTO_TEST_CASE(after_the_first_step_nothing_is_allocated_and_nothing_waits) {
  device::context ctx;
  auto const a = on_device(ctx, random_table<float>(50, 7, 1));
  auto const r = on_device(ctx, cast<float>(upper_factor<double>(7)));
  auto const s = on_device(ctx, filled<double>(1, 1, 0.5));
  auto c = zeros<float>(ctx, 50, 7);
  auto const step = [&] {
    auto const g = gram(ctx, a);
    auto const p = product(ctx, a, g);
    multiply(ctx, a, g.adjoint(), c);
    multiply_add(ctx, s, p, g, c);
    solve_right(ctx, r, c);
  };
  step();
  step();
  long const allocations = fake_cuda::calls("cudaMalloc");
  long const waits = fake_cuda::calls("cudaStreamSynchronize");
  for (int k = 0; k < 3; ++k) step();
  BOOST_TEST(fake_cuda::calls("cudaMalloc") == allocations);
  BOOST_TEST(fake_cuda::calls("cudaStreamSynchronize") == waits);
}

BOOST_AUTO_TEST_CASE(misuse_names_verb_argument_and_both_shapes_before_any_call) {
  device::context ctx;
  auto a = scratch<double>(ctx, 8, 4);
  auto b = scratch<double>(ctx, 3, 5);
  auto c = scratch<double>(ctx, 8, 5);
  auto const s = scratch<double>(ctx, 1, 2);
  long const calls = fake_cuda::calls("");
  BOOST_TEST(message_of([&] { multiply(ctx, a, b, c); }) == "multiply: b is 3x5, expected 4x5");
  BOOST_TEST(message_of([&] { multiply(ctx, a, c.adjoint(), c); }) ==
             "multiply: b is 5x8, expected 4x8");
  BOOST_TEST(message_of([&] { multiply(ctx, a.adjoint(), c, b); }) ==
             "multiply: c is 3x5, expected 4x5");
  BOOST_TEST(message_of([&] { (void)product(ctx, a, b); }) == "product: b is 3x5, expected 4x5");
  BOOST_TEST(message_of([&] { multiply_add(ctx, s, b, c.adjoint(), b); }) ==
             "multiply_add: c is 3x5, expected 3x8");
  BOOST_TEST(message_of([&] { multiply_add(ctx, s, a.adjoint(), c, b); }) ==
             "multiply_add: c is 3x5, expected 4x5");
  BOOST_TEST(message_of([&] { multiply_add(ctx, s, b.adjoint(), b, c.middleRows(0, 5)); }) ==
             "multiply_add: s is 1x2, expected 1x1");
  BOOST_TEST(message_of([&] { solve_right(ctx, b, c); }) == "solve_right: r is 3x5, expected 5x5");
  BOOST_TEST(fake_cuda::calls("") == calls);
}

BOOST_AUTO_TEST_CASE(an_output_that_overlaps_an_input_is_refused) {
  device::context ctx;
  auto a = scratch<double>(ctx, 6, 6);
  auto const b = scratch<double>(ctx, 6, 6);
  long const calls = fake_cuda::calls("");
  BOOST_CHECK_THROW(multiply(ctx, a, b, a), stiefelx::alias_error);
  BOOST_CHECK_THROW(multiply(ctx, b, a.adjoint(), a), stiefelx::alias_error);
  BOOST_CHECK_THROW(multiply_add(ctx, a.middleRows(0, 1).middleCols(0, 1), b, b, a),
                    stiefelx::alias_error);
  BOOST_CHECK_THROW(solve_right(ctx, a, a), stiefelx::alias_error);
  BOOST_TEST(fake_cuda::calls("") == calls);
  multiply(ctx, a.middleCols(0, 3), b.middleRows(0, 3).middleCols(0, 3), a.middleCols(3, 3));
}

BOOST_AUTO_TEST_CASE(a_size_beyond_int_is_refused) {
  device::context ctx;
  constexpr index_t rows = index_t{3} << 30;
  auto const at = [](std::uintptr_t address) { return reinterpret_cast<float*>(address); };
  device::matrix_view<float> a(at(std::uintptr_t{1} << 44), rows, 1);
  device::matrix_view<float> b(at(std::uintptr_t{2} << 44), 1, 1);
  device::matrix_view<float> c(at(std::uintptr_t{3} << 44), rows, 1);
  long const calls = fake_cuda::calls("");
  BOOST_TEST(message_of([&] { multiply(ctx, a, b, c); }) ==
             "multiply: a is 3221225472x1, expected sizes and a stride of at most 2147483647 for "
             "cuBLAS");
  device::matrix_view<float> const apart(at(std::uintptr_t{1} << 44), 1, 1, rows);
  device::matrix_view<float> one(at(std::uintptr_t{3} << 44), 1, 1);
  BOOST_CHECK_THROW(multiply(ctx, apart, b, one), stiefelx::shape_error);
  BOOST_CHECK_THROW(solve_right(ctx, b, c), stiefelx::shape_error);
  BOOST_TEST(fake_cuda::calls("") == calls);
  BOOST_CHECK_THROW((void)gram(ctx, a), stiefelx::shape_error);
}

BOOST_AUTO_TEST_CASE(a_failure_of_cublas_gives_the_calls_name) {
  device::context ctx;
  auto const a = zeros<double>(ctx, 3, 3);
  auto y = zeros<double>(ctx, 3, 3);
  auto const expect = [](char const* symbol, char const* name, auto const& f) {
    fake_cuda::failure const once(symbol, 1, CUBLAS_STATUS_EXECUTION_FAILED);
    std::string const text = message_of(f);
    BOOST_TEST(text.starts_with(std::string(name) + ": "), text);
    BOOST_TEST(text.find("(status 13)") != std::string::npos, text);
  };
  expect("cublasDgemm_v2", "cublasDgemm", [&] { (void)product(ctx, a, a); });
  expect("cublasDsyrk_v2", "cublasDsyrk", [&] { (void)gram(ctx, a); });
  expect("cublasDtrsm_v2", "cublasDtrsm", [&] { solve_right(ctx, a, y); });
  BOOST_TEST(ctx.memory.live() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()
