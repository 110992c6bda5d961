// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Tiled products and factors of small matrices against plain loops, for one lane and for several.

#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/simd/pack.hpp>
#include <stiefelx/team/lane_products.hpp>
#include <stiefelx/team/lane_symmetric_product.hpp>
#include <stiefelx/testing/thread_team.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::serial_team;
using stiefelx::wide_t;

using scalars = std::tuple<float, double, std::complex<double>>;
/// Those that several lanes add up.
using shared = std::tuple<float, double>;

/// Orders that end a tile of four early, on time and late.
std::vector<index_t> const orders{0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 33};

template <class Text>
void run(index_t lanes, Text const& text) {
  if (lanes == 1)
    text(serial_team{});
  else
    stiefelx::run_thread_team(lanes, text);
}

/// A Gram matrix as retractions have them: its eigenvalues are at least one.
template <class S>
matrix_x<S> gram_of(index_t p, std::uint64_t seed) {
  matrix_x<S> const a = random_matrix<S>(p + 3, p, seed);
  matrix_x<S> g = a.adjoint() * a / stiefelx::real_of_t<S>(p + 3);
  g.diagonal().array() += S(1);
  return g;
}

/// The upper factor by the textbook's loops, with the reciprocals of its diagonal.
template <class S>
matrix_x<S> factor_by_loops(matrix_x<S> g) {
  index_t const p = g.cols();
  for (index_t j = 0; j < p; ++j)
    for (index_t i = 0; i <= j; ++i) {
      S sum = g(i, j);
      for (index_t k = 0; k < i; ++k) sum -= stiefelx::conjugate(g(k, i)) * g(k, j);
      g(i, j) = i == j ? S(1 / std::sqrt(stiefelx::real_part(sum))) : sum * g(i, i);
    }
  return g;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(lane_products)

BOOST_AUTO_TEST_CASE_TEMPLATE(factor_upper_is_the_cholesky_factor_of_plain_loops, S, scalars) {
  for (index_t const lanes : {1, 3})
    for (index_t const p : orders) {
      BOOST_TEST_INFO_SCOPE(p << " columns, " << lanes << " lanes");
      matrix_x<S> const given = gram_of<S>(p, 7);
      matrix_x<S> g = given;
      run(lanes, [&](auto const& team) { stiefelx::factor_upper(team, p, g.data()); });
      matrix_x<wide_t<S>> const expected =
          factor_by_loops<wide_t<S>>(given.template cast<wide_t<S>>());
      for (index_t j = 0; j < p; ++j) {
        for (index_t i = 0; i <= j; ++i)
          BOOST_TEST(std::abs(wide_t<S>(g(i, j)) - expected(i, j)) <= tolerance<S>(p, 4));
        // Below the diagonal the matrix is as it was.
        for (index_t i = j + 1; i < p; ++i) BOOST_TEST((g(i, j) == given(i, j)));
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(adjoint_product_forms_the_upper_triangle_and_nothing_else, S,
                              scalars) {
  for (index_t const lanes : {1, 3})
    for (index_t const p : orders)
      for (index_t const n : {index_t{1}, index_t{15}, index_t{16}, index_t{17}, index_t{70}}) {
        BOOST_TEST_INFO_SCOPE(n << "x" << p << ", " << lanes << " lanes");
        matrix_x<S> const a = random_matrix<S>(n, p, 1), b = random_matrix<S>(n, p, 2);
        matrix_x<S> const untouched = random_matrix<S>(p, p, 3), expected = a.adjoint() * b;
        matrix_x<S> upper = untouched, whole = untouched;
        run(lanes, [&](auto const& team) {
          stiefelx::adjoint_product<true>(team, n, p, a.data(), n, b.data(), n, upper.data());
          stiefelx::adjoint_product<false>(team, n, p, a.data(), n, b.data(), n, whole.data());
        });
        double const size = a.norm() * b.norm();
        BOOST_TEST(near(whole, expected, tolerance<S>(n), size));
        for (index_t j = 0; j < p; ++j)
          for (index_t i = 0; i < p; ++i)
            BOOST_TEST((upper(i, j) == (i <= j ? whole(i, j) : untouched(i, j))));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(symmetric_product_is_the_hermitian_part_to_the_bit, S, scalars) {
  for (index_t const lanes : {1, 3})
    for (index_t const p : orders)
      for (index_t const n : {index_t{1}, index_t{16}, index_t{17}, index_t{150}}) {
        BOOST_TEST_INFO_SCOPE(n << "x" << p << ", " << lanes << " lanes");
        matrix_x<S> const a = random_matrix<S>(n, p, 1), b = random_matrix<S>(n, p, 2);
        matrix_x<S> const product = a.adjoint() * b, expected = (product + product.adjoint()) / 2;
        matrix_x<S> c = random_matrix<S>(p, p, 3);
        run(lanes, [&](auto const& team) {
          stiefelx::symmetric_product(team, n, p, a.data(), n, b.data(), n, c.data());
        });
        BOOST_TEST(near(c, expected, tolerance<S>(n), a.norm() * b.norm()));
        for (index_t j = 0; j < p; ++j)
          for (index_t i = 0; i < j; ++i) BOOST_TEST((c(j, i) == stiefelx::conjugate(c(i, j))));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(lanes_that_share_rows_form_the_same_products, S, shared) {
  // Few columns of many rows: tiles that end early on one side, on the other, on both and on none.
  constexpr index_t lanes = 7, n = 160;
  for (index_t const p : {1, 3, 4, 5, 7}) {
    BOOST_TEST_INFO_SCOPE(n << "x" << p);
    matrix_x<S> const a = random_matrix<S>(n, p, 1), b = random_matrix<S>(n, p, 2);
    matrix_x<S> const product = a.adjoint() * b, untouched = random_matrix<S>(p, p, 3);
    matrix_x<S> upper = untouched, whole = untouched, mean = untouched;
    run(lanes, [&](auto const& team) {
      index_t const across = (p + 3) / 4;
      if (team.rank() == 0) BOOST_TEST(stiefelx::detail::lanes_take_rows(team, n, across * across));
      stiefelx::adjoint_product<true>(team, n, p, a.data(), n, b.data(), n, upper.data());
      stiefelx::adjoint_product<false>(team, n, p, a.data(), n, b.data(), n, whole.data());
      stiefelx::symmetric_product(team, n, p, a.data(), n, b.data(), n, mean.data());
    });
    double const size = a.norm() * b.norm();
    BOOST_TEST(near(whole, product, tolerance<S>(n), size));
    BOOST_TEST(near(mean, (product + product.adjoint()) / 2, tolerance<S>(n), size));
    for (index_t j = 0; j < p; ++j)
      for (index_t i = 0; i < p; ++i)
        BOOST_TEST((upper(i, j) == (i <= j ? whole(i, j) : untouched(i, j))));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(multiply_right_hands_on_every_entry_once, S, scalars) {
  for (index_t const lanes : {1, 3})
    for (index_t const p : {1, 4, 7, 9})
      for (index_t const n : {1, 16, 18}) {
        BOOST_TEST_INFO_SCOPE(n << "x" << p << ", " << lanes << " lanes");
        matrix_x<S> const a = random_matrix<S>(n, p, 1), b = random_matrix<S>(p, p, 2);
        matrix_x<S> const c = random_matrix<S>(n, p, 3), expected = c - a * b;
        matrix_x<S> in_place = c, sums = matrix_x<S>::Zero(n, p);
        run(lanes, [&](auto const& team) {
          stiefelx::multiply_right<true>(team, n, p, a.data(), n, b.data(), in_place.data(), n);
          stiefelx::multiply_right<true>(team, n, p, a.data(), n, b.data(), c.data(), n,
                                         [&](auto tall, auto wide, index_t at, S const* tile) {
                                           for (index_t j = 0; j < wide; ++j)
                                             for (index_t i = 0; i < tall; ++i)
                                               sums.data()[at + j * n + i] += tile[j * tall + i];
                                         });
        });
        BOOST_TEST(near(in_place, expected, tolerance<S>(p), a.norm() * b.norm() + c.norm()));
        BOOST_TEST(same(sums, in_place));
      }
}

BOOST_AUTO_TEST_CASE(not_a_number_stays_in_its_own_lane) {
  using pack = stiefelx::simd::pack<double>;
  constexpr index_t w = stiefelx::simd::native_width<double>;
  for (index_t const p : orders) {
    if (p == 0) continue;
    BOOST_TEST_INFO_SCOPE(p << " columns");
    std::vector<pack> clean(static_cast<std::size_t>(p * p));
    for (index_t k = 0; k < w; ++k) {
      matrix_x<double> const g = gram_of<double>(p, static_cast<std::uint64_t>(k + 1));
      for (index_t e = 0; e < p * p; ++e) clean[std::size_t(e)].lanes[k] = g.data()[e];
    }
    std::vector<pack> spoiled = clean;
    // The last column meets every tile of rows.
    spoiled[std::size_t((p - 1) * p)].lanes[w - 1] = std::numeric_limits<double>::quiet_NaN();
    stiefelx::factor_upper(serial_team{}, p, clean.data());
    stiefelx::factor_upper(serial_team{}, p, spoiled.data());
    for (index_t e = 0; e < p * p; ++e)
      for (index_t k = 0; k + 1 < w; ++k)
        BOOST_TEST(double(spoiled[std::size_t(e)].lanes[k]) ==
                   double(clean[std::size_t(e)].lanes[k]));
    BOOST_TEST(std::isnan(double(spoiled[std::size_t(p * p - 1)].lanes[w - 1])));
  }
}

BOOST_AUTO_TEST_SUITE_END()
