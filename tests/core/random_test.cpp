// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/random.hpp>
#include <support/backends.hpp>
#include <support/near.hpp>

namespace {

using namespace support;
using stiefelx::fill_normal;
using stiefelx::fill_uniform;
using stiefelx::philox;
using stiefelx::random_stream;
using words = std::array<std::uint32_t, 4>;

template <class Case>
matrix_x<typename Case::scalar> normal(index_t rows, index_t cols, random_stream stream) {
  typename Case::context ctx;
  auto a = zeros<typename Case::scalar>(ctx, rows, cols);
  fill_normal(ctx, stream, 1, a);
  return Case::backend::download(ctx, a);
}

/// Mean of f over the entries.
template <class S, class F>
double mean(matrix_x<S> const& a, F const& f) {
  double sum = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) sum += f(a(i, j));
  return sum / static_cast<double>(a.size());
}

}  // namespace

// Within a namespace, since the C library has a function random().
namespace tests {

BOOST_AUTO_TEST_SUITE(random)

// The three known answers that the authors publish for philox4x32-10 (Random123, kat_vectors):
// counter and key of zeros, of ones, and of the digits of pi.
BOOST_AUTO_TEST_CASE(philox_gives_the_published_words) {
  BOOST_TEST((philox(0, 0, 0) == words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  BOOST_TEST((philox(ones, ones, ones) == words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  BOOST_TEST((philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
              words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

BOOST_AUTO_TEST_CASE(uniform_open_is_open) {
  constexpr std::uint32_t ones = ~std::uint32_t{0};
  BOOST_TEST(stiefelx::uniform_open(0, 0) > 0);
  BOOST_TEST(stiefelx::uniform_open(ones, ones) < 1);
  BOOST_TEST(stiefelx::uniform_open(0x80000000, 0) > 0.5);
  BOOST_TEST(stiefelx::uniform_open(0x7fffffff, ones) < 0.5);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stream_is_a_function_of_seed_and_offset, Case, complex_cases) {
  random_stream const start{7, 3};
  auto const a = normal<Case>(5, 4, start);
  BOOST_TEST(same(a, normal<Case>(5, 4, start)));
  BOOST_TEST(!same(a, normal<Case>(5, 4, {7, 4})));
  BOOST_TEST(!same(a, normal<Case>(5, 4, {8, 3})));

  typename Case::context ctx;
  auto b = zeros<typename Case::scalar>(ctx, 5, 4);
  random_stream stream{7, 2};
  fill_normal(ctx, stream, 1, b);
  BOOST_TEST(stream.offset == 3U);
  fill_normal(ctx, stream, 1, b);
  BOOST_TEST(stream.offset == 4U);
  BOOST_TEST(same(Case::backend::download(ctx, b), a));
}

BOOST_AUTO_TEST_CASE(both_backends_draw_the_same_numbers) {
  auto const a = normal<test_case<host_backend, double>>(33, 6, {1, 0});
  BOOST_TEST(same(a, normal<test_case<archetype_backend, double>>(33, 6, {1, 0})));
  auto const f = normal<test_case<archetype_backend, float>>(33, 6, {1, 0});
  BOOST_TEST(same(f, a.cast<float>()));
}

BOOST_AUTO_TEST_CASE(any_number_of_threads_draws_the_same_numbers) {
  stiefelx::host::context ctx({.threads = 3});
  matrix_x<double> a(40, 300);
  random_stream stream{5, 0};
  fill_normal(ctx, stream, 1, a);
  BOOST_TEST(same(a, normal<test_case<host_backend, double>>(40, 300, {5, 0})));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_strip_is_filled_and_nothing_else, Case, real_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  matrix_x<S> const before = matrix_x<S>::Constant(6, 5, S(9));
  auto a = Case::backend::upload(ctx, before);
  random_stream stream{1, 0};
  fill_normal(ctx, stream, 1, a.middleRows(2, 3).middleCols(1, 3));
  matrix_x<S> after = Case::backend::download(ctx, a);
  BOOST_TEST(same(after.block(2, 1, 3, 3), normal<Case>(3, 3, {1, 0})));
  after.block(2, 1, 3, 3).setConstant(S(9));
  BOOST_TEST(same(after, before));
}

// With N numbers the k-th sample moment of a normal variable has a standard deviation of
// sqrt((2k - 1)!! - m_k^2) / sqrt(N); six of them are exceeded once in 500 million trials.
BOOST_AUTO_TEST_CASE_TEMPLATE(normal_numbers_have_normal_moments, Case, real_cases) {
  auto const a = normal<Case>(500, 80, {11, 0});
  double const deviation = 6 / std::sqrt(static_cast<double>(a.size()));
  auto const power = [](int k) { return [k](auto x) { return std::pow(double(x), k); }; };
  BOOST_TEST(std::abs(mean(a, power(1))) < deviation);
  BOOST_TEST(std::abs(mean(a, power(2)) - 1) < deviation * std::sqrt(2));
  BOOST_TEST(std::abs(mean(a, power(3))) < deviation * std::sqrt(15));
  BOOST_TEST(std::abs(mean(a, power(4)) - 3) < deviation * std::sqrt(96));

  // Neighbours in a column and in a row are independent.
  double column = 0;
  double row = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) {
      column += double(a(i, j)) * double(a((i + 1) % a.rows(), j));
      row += double(a(i, j)) * double(a(i, (j + 1) % a.cols()));
    }
  BOOST_TEST(std::abs(column / static_cast<double>(a.size())) < deviation);
  BOOST_TEST(std::abs(row / static_cast<double>(a.size())) < deviation);
}

BOOST_AUTO_TEST_CASE(complex_numbers_have_independent_parts) {
  auto const a = normal<test_case<host_backend, std::complex<double>>>(500, 80, {12, 0});
  double const deviation = 6 / std::sqrt(static_cast<double>(a.size()));
  BOOST_TEST(std::abs(mean(a, [](auto z) { return z.real() * z.imag(); })) < deviation);
  BOOST_TEST(std::abs(mean(a, [](auto z) { return z.real() * z.real(); }) - 1) <
             deviation * std::sqrt(2));
  BOOST_TEST(std::abs(mean(a, [](auto z) { return z.imag() * z.imag(); }) - 1) <
             deviation * std::sqrt(2));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(uniform_numbers_fill_their_interval_evenly, Case, real_cases) {
  using S = typename Case::scalar;
  typename Case::context ctx;
  auto a = zeros<S>(ctx, 500, 40);
  random_stream stream{13, 0};
  fill_uniform(ctx, stream, -2, 3, a);
  BOOST_TEST(stream.offset == 1U);
  matrix_x<S> const u = Case::backend::download(ctx, a);
  BOOST_TEST(u.minCoeff() >= S(-2));
  BOOST_TEST(u.maxCoeff() <= S(3));
  constexpr int bins = 10;
  std::array<double, bins> counts{};
  for (index_t j = 0; j < u.cols(); ++j)
    for (index_t i = 0; i < u.rows(); ++i)
      counts[static_cast<std::size_t>(std::fmin(bins - 1, (double(u(i, j)) + 2) * 2))] += 1;
  double const expected = static_cast<double>(u.size()) / bins;
  double statistic = 0;
  for (double count : counts) statistic += (count - expected) * (count - expected) / expected;
  // Chi squared with 9 degrees of freedom is above 50 once in ten million trials.
  BOOST_TEST(statistic < 50);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tests
