// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <vector>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// \brief An identity that holds up to rounding, and how far it is from holding.
/// \ingroup testing
struct law {
  char const* text;  ///< what should hold
  double error;      ///< distance of both sides
  double allowed;    ///< largest distance that counts as rounding

  /// \returns true if the error is allowed; a NaN never is
  bool passed() const { return error <= allowed; }
};

/// \brief Prints a law, whether it holds, and by how much.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  a law
/// \returns out
inline std::ostream& operator<<(std::ostream& out, law const& found) {
  auto const precision = out.precision(4);
  out << found.text << ": " << (found.passed() ? "passed" : "FAILED") << ": " << found.error
      << ", allowed " << found.allowed << "\n";
  out.precision(precision);
  return out;
}

/// \brief Whether every law of a list holds.
/// \ingroup testing
/// \param[in] laws  a list
/// \returns true if all passed
inline bool all_passed(std::vector<law> const& laws) {
  return std::all_of(laws.begin(), laws.end(), [](law const& each) { return each.passed(); });
}

/// \brief Numbers that a check reads from matrices, and the rounding that it allows.
/// \ingroup testing
///
/// \tparam Ctx   where the matrices live
/// \tparam Real  float or double
template <class Ctx, class Real>
class measure {
 public:
  /// \param[in] ctx   where to run
  /// \param[in] size  number of entries of the matrices
  measure(Ctx& ctx, index_t size)
      : ctx_(ctx), number_(zeros<Real>(ctx, 1, 1)), root_(std::sqrt(double(size + 1))) {}

  /// \param[in] a  a matrix
  /// \returns its Frobenius norm; waits
  template <class A>
  double length(A const& a) {
    norm(ctx_, a, number_);
    return read();
  }

  /// \param[in] a  a matrix
  /// \param[in] b  a matrix of the same shape
  /// \returns the Frobenius norm of their difference; waits
  template <class A, class B>
  double distance(A const& a, B const& b) {
    auto difference = clone(ctx_, a);
    axpy(ctx_, -1, b, difference);
    return length(difference);
  }

  /// \param[in] a  a matrix
  /// \param[in] b  a matrix of the same shape
  /// \returns Re tr(a^H b); waits
  template <class A, class B>
  double dot(A const& a, B const& b) {
    inner(ctx_, a, b, number_);
    return read();
  }

  /// \param[in] m  a manifold
  /// \param[in] x  a point
  /// \param[in] u  tangent at x
  /// \param[in] v  tangent at x
  /// \returns the manifold's metric; waits
  template <class M, class X, class U, class V>
  double metric(M const& m, X const& x, U const& u, V const& v) {
    inner(ctx_, m, x, u, v, number_);
    return read();
  }

  /// \param[in] magnitude  size of the numbers that are compared
  /// \returns what a few operations of inner products of all entries may lose
  double rounding(double magnitude) const {
    // An inner product of n terms has an error of a few eps sqrt(n).
    return 64 * static_cast<double>(std::numeric_limits<Real>::epsilon()) * root_ * magnitude;
  }

 private:
  double read() { return static_cast<double>(value(ctx_, number_)); }

  Ctx& ctx_;
  matrix_t<Ctx, Real> number_;
  double root_;
};

}  // namespace stiefelx
