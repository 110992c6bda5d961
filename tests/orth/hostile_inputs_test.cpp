// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every method on every hostile input: a defined result or a status, never a silent wrong frame.

#include <cmath>
#include <complex>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace {

using namespace support;
using stiefelx::not_converged;
using stiefelx::not_finite;
using stiefelx::rank_deficient;
using stiefelx::real_of_t;

constexpr index_t rows = 14, cols = 5;

/// What is known of an input: its columns may be called dependent, must be, or must not be.
template <class S>
struct hostile {
  std::string name;
  matrix_x<S> matrix;
  rank columns;
  double condition;  ///< of the matrix with its columns brought to one size
};

template <class S>
std::vector<hostile<S>> finite_inputs() {
  using real = real_of_t<S>;
  using limits = std::numeric_limits<real>;
  matrix_x<S> const random = random_matrix<S>(rows, cols, 21);
  constexpr double easy = 10, any = 0;
  std::vector<hostile<S>> all{
      {"zero", matrix_x<S>::Zero(rows, cols), rank::deficient, any},
      {"tiny", random * (limits::min() * real(64)), rank::full, easy},
      {"denormal", random * (limits::denorm_min() * real(8)), rank::borderline, any},
      {"huge", random * (limits::max() / real(1024)), rank::full, easy},
      {"graded columns",
       graded_matrix<S>(rows, cols, 1 / static_cast<double>(limits::epsilon()), 22), rank::full,
       easy},
      {"nearly dependent",
       conditioned_matrix<S>(rows, cols, 0.01 / static_cast<double>(limits::epsilon()), 23),
       rank::borderline, any},
      {"constant", matrix_x<S>::Constant(rows, cols, S(real(-2))), rank::deficient, any}};
  hostile<S> zero_column{"zero column", random, rank::deficient, any};
  zero_column.matrix.col(2).setZero();
  all.push_back(zero_column);
  hostile<S> zero_first{"zero first column", random, rank::deficient, any};
  zero_first.matrix.col(0).setZero();
  all.push_back(zero_first);
  hostile<S> repeated{"repeated column", random, rank::deficient, any};
  repeated.matrix.col(4) = repeated.matrix.col(1);
  all.push_back(repeated);
  hostile<S> mixed{"huge and tiny columns", random, rank::full, easy};
  for (index_t j = 0; j < cols; ++j)
    mixed.matrix.col(j) *= j % 2 == 0 ? limits::max() / real(1024) : limits::min() * real(64);
  all.push_back(mixed);
  return all;
}

/// A method under one signature. `scales` says whether columns of very different size are within
/// its range; `drops` whether a dependent column may be zero.
template <class Case>
struct method_row {
  std::string name;
  std::function<one_factor<typename Case::scalar>(matrix_x<typename Case::scalar> const&)> run;
  bool scales = true;
  bool drops = false;
};

template <class Case>
std::vector<method_row<Case>> method_table() {
  using S = typename Case::scalar;
  std::vector<method_row<Case>> table;
  // Singular values below 2^-480 of the largest count as zero; no float is so small beside another.
  constexpr bool scaled_svd = std::is_same_v<typename Case::real, float>;
  for (auto const method : all_methods)
    table.push_back(
        {name(method),
         [=](matrix_x<S> const& a) -> one_factor<S> {
           auto found = factor<Case>(method, a);
           return {found.q, found.status};
         },
         true, method == qr_method::gram_schmidt || method == qr_method::modified_gram_schmidt});
  for (auto const method : polar_methods)
    table.push_back({name(method),
                     [=](matrix_x<S> const& a) { return polar_of<Case>(a, {.method = method}); },
                     scaled_svd && method == stiefelx::polar_method::singular_values});
  table.push_back({"svd",
                   [](matrix_x<S> const& a) -> one_factor<S> {
                     auto found = svd_of<Case>(a);
                     return {found.u, found.status};
                   },
                   scaled_svd});
  return table;
}

/// The defect of the columns that are not zero.
template <class S>
double defect_of_kept(matrix_x<S> const& q) {
  index_t kept = 0;
  for (index_t j = 0; j < q.cols(); ++j) kept += q.col(j).isZero(0) ? 0 : 1;
  matrix_x<S> frame(q.rows(), kept);
  index_t next = 0;
  for (index_t j = 0; j < q.cols(); ++j)
    if (!q.col(j).isZero(0)) frame.col(next++) = q.col(j);
  return orthonormality_defect(frame);
}

/// The library's backend and the archetype, real and complex.
using cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
               test_case<host_backend, std::complex<double>>, test_case<archetype_backend, double>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(hostile_inputs)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_frame_without_a_status_is_orthonormal, Case, cases) {
  using S = typename Case::scalar;
  for (auto const& method : method_table<Case>())
    for (auto const& input : finite_inputs<S>())
      BOOST_TEST_CONTEXT(method.name << ", " << input.name) {
        auto const found = method.run(input.matrix);
        int const trouble = found.status & (rank_deficient | not_converged);
        // A Cholesky factor that cannot be formed may be NaN, and is reported as what it is.
        if (trouble == 0) {
          BOOST_TEST((found.status & not_finite) == 0);
          BOOST_TEST(found.q.allFinite());
          // Modified Gram-Schmidt and one Cholesky pass promise the condition number's share.
          bool const lossy =
              method.name == "modified gram_schmidt" || method.name == "cholesky one_pass";
          double const allowed =
              lossy && input.condition == 0 ? 0.5 : tolerance<S>(rows, lossy ? 100 : 1);
          BOOST_TEST(orthonormality_defect(found.q) < allowed);
        }
        if (input.columns == rank::deficient) BOOST_TEST((found.status & rank_deficient) != 0);
        if (input.columns == rank::full && method.scales) BOOST_TEST(trouble == 0);
        if (method.drops && (found.status & rank_deficient) != 0 &&
            input.name != "nearly dependent")
          BOOST_TEST(defect_of_kept(found.q) < tolerance<S>(rows, 100));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(methods_for_any_rank_give_a_frame_whatever_the_input, Case, cases) {
  using S = typename Case::scalar;
  for (auto const& input : finite_inputs<S>()) BOOST_TEST_CONTEXT(input.name) {
      for (auto const method : {qr_method::householder, qr_method::cholesky_automatic})
        BOOST_TEST(orthonormality_defect(factor<Case>(method, input.matrix).q) <
                   tolerance<S>(rows));
      BOOST_TEST(orthonormality_defect(svd_of<Case>(input.matrix).u) < tolerance<S>(rows));
      auto const nearest =
          polar_of<Case>(input.matrix, {.method = stiefelx::polar_method::singular_values});
      BOOST_TEST(orthonormality_defect(nearest.q) < tolerance<S>(rows));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_is_not_finite_is_reported_and_spreads, Case, cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  using limits = std::numeric_limits<real>;
  for (auto const& method : method_table<Case>())
    for (real const bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity()})
      for (index_t const column : {index_t(0), index_t(3), cols - 1})
        BOOST_TEST_CONTEXT(method.name << ", " << bad << " in column " << column) {
          matrix_x<S> a = random_matrix<S>(rows, cols, 24);
          a(6, column) = S(bad);
          auto const found = method.run(a);
          BOOST_TEST((found.status & not_finite) != 0);
          for (index_t j = column; j < cols; ++j) BOOST_TEST(!found.q.col(j).allFinite());
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_inverse_root_of_a_hostile_matrix_is_right_or_reported, Case,
                              cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  using limits = std::numeric_limits<real>;
  auto const defect = [](matrix_x<S> const& g, matrix_x<S> const& z) {
    matrix_x<S> unit = loop_product(loop_product(z, g), z);
    for (index_t j = 0; j < unit.cols(); ++j) unit(j, j) -= S(1);
    return static_cast<double>(frobenius(table(unit)));
  };
  matrix_x<S> const good = positive_matrix<S>(6, 10, 25);
  real const large = std::is_same_v<real, float> ? real(1e12F) : real(1e100);
  std::vector<std::pair<std::string, matrix_x<S>>> const inputs{
      {"good", good},
      {"zero", matrix_x<S>::Zero(6, 6)},
      {"large", good * large},
      {"small", good / large},
      {"denormal", good * (limits::min() / real(16))},
      {"singular", matrix_x<S>::Ones(6, 6)},
      {"indefinite", good - matrix_x<S>::Identity(6, 6) * real(0.5)},
      {"ill conditioned", positive_matrix<S>(6, 1 / static_cast<double>(limits::epsilon()), 26)},
      {"NaN", good * limits::quiet_NaN()},
      {"infinite", good * limits::infinity()}};
  for (auto const& [label, g] : inputs) BOOST_TEST_CONTEXT(label) {
      auto const found = inverse_root<Case>(g, 0, 40);
      if (label == "good" || label == "large" || label == "small") BOOST_TEST(found.status == 0);
      if (found.status == 0) BOOST_TEST(defect(g, found.q) < tolerance<S>(6, 100));
      if (label == "NaN" || label == "infinite") BOOST_TEST((found.status & not_finite) != 0);
    }
}

BOOST_AUTO_TEST_SUITE_END()
