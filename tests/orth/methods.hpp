// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <vector>

#include <stiefelx/orth/cholesky_qr.hpp>
#include <support/backends.hpp>

/// The QR factorizations behind one function, so that they are instantiated in one file.
namespace support {

/// Every way to factor a = q r.
enum class qr_method {
  gram_schmidt,
  householder,
  cholesky_automatic,
  cholesky_one_pass,
  cholesky_two_passes,
  cholesky_shifted_three,
};

/// For BOOST_TEST_CONTEXT.
inline std::string name(qr_method method) {
  char const* const names[] = {"gram_schmidt",        "householder",
                               "cholesky automatic",  "cholesky one_pass",
                               "cholesky two_passes", "cholesky shifted_three"};
  return names[static_cast<int>(method)];
}

/// Those that take any matrix.
inline std::vector<qr_method> const general_methods{qr_method::gram_schmidt, qr_method::householder,
                                                    qr_method::cholesky_automatic};

/// All of them.
inline std::vector<qr_method> const all_methods{
    qr_method::gram_schmidt,        qr_method::householder,
    qr_method::cholesky_automatic,  qr_method::cholesky_one_pass,
    qr_method::cholesky_two_passes, qr_method::cholesky_shifted_three};

/// Runs a method on matrices of a backend.
template <class Ctx, class A, class Q, class R, class Status>
void factor_into(qr_method method, Ctx& ctx, A const& a, Q&& q, R&& r, Status&& status) {
  using stiefelx::cholesky_qr_method;
  auto const by_cholesky = [&](cholesky_qr_method how) {
    stiefelx::cholesky_qr(ctx, a, q, r, status, {.method = how});
  };
  switch (method) {
    case qr_method::gram_schmidt:
      return stiefelx::gram_schmidt(ctx, a, q, r, status);
    case qr_method::householder:
      return stiefelx::householder_qr(ctx, a, q, r, status);
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

}  // namespace support
