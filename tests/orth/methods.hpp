// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/polar.hpp>
#include <support/backends.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>

/// The algorithms behind one function each, so that they are instantiated in one file.
namespace support {

/// Every way to factor a = q r.
enum class qr_method {
  gram_schmidt,
  modified_gram_schmidt,
  householder,
  cholesky_automatic,
  cholesky_one_pass,
  cholesky_two_passes,
  cholesky_shifted_three,
};

/// For BOOST_TEST_CONTEXT.
inline std::string name(qr_method method) {
  char const* const names[] = {
      "gram_schmidt",      "modified gram_schmidt", "householder",           "cholesky automatic",
      "cholesky one_pass", "cholesky two_passes",   "cholesky shifted_three"};
  return names[static_cast<int>(method)];
}

/// Those that take any matrix.
inline std::vector<qr_method> const general_methods{qr_method::gram_schmidt, qr_method::householder,
                                                    qr_method::cholesky_automatic};

/// All of them.
inline std::vector<qr_method> const all_methods{
    qr_method::gram_schmidt,          qr_method::modified_gram_schmidt,
    qr_method::householder,           qr_method::cholesky_automatic,
    qr_method::cholesky_one_pass,     qr_method::cholesky_two_passes,
    qr_method::cholesky_shifted_three};

/// Runs a method on matrices of a backend; `first` is the context, and a stack's count after it.
template <class A, class Q, class R, class Status, class... First>
void factor_with(qr_method method, A const& a, Q&& q, R&& r, Status&& status, First&... first) {
  using stiefelx::cholesky_qr_method;
  auto const by_cholesky = [&](cholesky_qr_method how) {
    stiefelx::cholesky_qr(first..., a, q, r, status, {.method = how});
  };
  switch (method) {
    case qr_method::gram_schmidt:
      return stiefelx::gram_schmidt(first..., a, q, r, status);
    case qr_method::modified_gram_schmidt:
      return stiefelx::gram_schmidt(first..., a, q, r, status,
                                    {.method = stiefelx::gram_schmidt_method::mgs});
    case qr_method::householder:
      return stiefelx::householder_qr(first..., a, q, r, status);
    case qr_method::cholesky_automatic:
      return by_cholesky(cholesky_qr_method::automatic);
    case qr_method::cholesky_one_pass:
      return by_cholesky(cholesky_qr_method::one_pass);
    case qr_method::cholesky_two_passes:
      return by_cholesky(cholesky_qr_method::two_passes);
    case qr_method::cholesky_shifted_three:
      return by_cholesky(cholesky_qr_method::shifted_three);
  }
}

/// Runs a method on one matrix of a backend.
template <class Ctx, class A, class Q, class R, class Status>
void factor_into(qr_method method, Ctx& ctx, A const& a, Q&& q, R&& r, Status&& status) {
  factor_with(method, a, q, r, status, ctx);
}

/// Factors and status.
template <class S>
struct qr_factors {
  matrix_x<S> q;
  matrix_x<S> r;
  int status;
};

/// Factors a on a fresh context of the case; with in_place, q starts as a and replaces it.
/// Instantiated in qr_laws_test.cpp for complex_cases.
template <class Case>
qr_factors<typename Case::scalar> factor(qr_method method, matrix_x<typename Case::scalar> const& a,
                                         bool in_place = false);

/// Every way to the polar factor.
inline std::vector<stiefelx::polar_method> const polar_methods{
    stiefelx::polar_method::polar_express, stiefelx::polar_method::newton_schulz,
    stiefelx::polar_method::singular_values};

/// For BOOST_TEST_CONTEXT.
inline std::string name(stiefelx::polar_method method) {
  char const* const names[] = {"Polar Express", "Newton-Schulz", "singular values"};
  return names[static_cast<int>(method)];
}

/// Polar factor, or inverse square root, and status.
template <class S>
struct one_factor {
  matrix_x<S> q;
  int status;
};

/// polar() on a fresh context. Instantiated in polar_factor_test.cpp for complex_cases.
template <class Case>
one_factor<typename Case::scalar> polar_of(matrix_x<typename Case::scalar> const& a,
                                           stiefelx::polar_options options = {},
                                           bool in_place = false);

/// inverse_sqrt() on a fresh context. Instantiated in polar_factor_test.cpp for complex_cases.
template <class Case>
one_factor<typename Case::scalar> inverse_root(matrix_x<typename Case::scalar> const& g,
                                               double smallest, int iterations);

/// Singular vectors and values, and status.
template <class S>
struct singular_triple {
  matrix_x<S> u;
  matrix_x<stiefelx::real_of_t<S>> w;
  matrix_x<S> v;
  int status;
};

/// svd() on a fresh context. Instantiated in svd_test.cpp for complex_cases.
template <class Case>
singular_triple<typename Case::scalar> svd_of(matrix_x<typename Case::scalar> const& a,
                                              bool in_place = false);

/// ||q^H q - I||_F in the wide scalar.
template <class S>
double orthonormality_defect(matrix_x<S> const& x) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const q = loop_cast<wide>(x);
  matrix_x<wide> defect = loop_product(loop_adjoint(q), q);
  for (index_t j = 0; j < defect.cols(); ++j) defect(j, j) -= wide(1);
  return static_cast<double>(frobenius(table(defect)));
}

}  // namespace support
