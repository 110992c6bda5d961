// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <ostream>
#include <vector>

#include <Eigen/Core>
#include <boost/test/tools/assertion_result.hpp>

namespace support {

/// Entries of a matrix as the comparisons see them: one type, whatever the scalar.
struct table {
  using index = std::ptrdiff_t;

  template <class A>
  explicit table(Eigen::DenseBase<A> const& a) : rows(a.rows()), cols(a.cols()) {
    auto const plain = a.derived().eval();
    entries.reserve(static_cast<std::size_t>(rows * cols));
    for (index j = 0; j < cols; ++j)
      for (index i = 0; i < rows; ++i) entries.emplace_back(plain(i, j));
  }

  std::complex<double> operator()(index i, index j) const {
    return entries[static_cast<std::size_t>(i + j * rows)];
  }

  index rows;
  index cols;
  std::vector<std::complex<double>> entries;
};

/// Frobenius norm in long double, which no square of a double overflows.
inline long double frobenius(table const& a) {
  long double sum = 0;
  for (auto const& z : a.entries) sum += std::norm(std::complex<long double>(z));
  return std::sqrt(sum);
}

/// Prints a number, without an imaginary part of zero.
inline void print(std::ostream& out, std::complex<double> z) {
  if (z.imag() == 0) {
    out << z.real();
  } else {
    out << z;
  }
}

/// Prints matrices of at most 8 x 8 in full.
inline void print_if_small(std::ostream& out, char const* name, table const& a) {
  constexpr table::index small = 8;
  if (a.rows > small || a.cols > small) return;
  out << "\n" << name << " =";
  for (table::index i = 0; i < a.rows; ++i) {
    out << "\n ";
    for (table::index j = 0; j < a.cols; ++j) {
      out << ' ';
      print(out, a(i, j));
    }
  }
}

/// \brief Whether found is within tolerance * reference of expected, in the Frobenius norm.
///
/// A NaN or an infinity in either matrix is a failure. On failure the message has the sizes, both
/// norms, the worst entry, and matrices of at most 8 x 8 in full.
inline boost::test_tools::assertion_result near_tables(table const& found, table const& expected,
                                                       double tolerance, double reference) {
  boost::test_tools::assertion_result result(false);
  auto& message = result.message().stream();
  message.precision(17);
  if (found.rows != expected.rows || found.cols != expected.cols) {
    message << "found is " << found.rows << "x" << found.cols << ", expected " << expected.rows
            << "x" << expected.cols;
    return result;
  }

  long double sum = 0;
  long double worst = -1;
  std::size_t place = 0;
  for (std::size_t k = 0; k < found.entries.size(); ++k) {
    using exact = std::complex<long double>;
    long double const square = std::norm(exact(found.entries[k]) - exact(expected.entries[k]));
    sum += square;
    long double const rank = std::isfinite(square) ? square : HUGE_VALL;
    if (rank > worst) {
      worst = rank;
      place = k;
    }
  }
  long double const difference = std::sqrt(sum);
  if (difference <= static_cast<long double>(tolerance) * static_cast<long double>(reference))
    return boost::test_tools::assertion_result(true);

  message << found.rows << "x" << found.cols << ": the difference has norm " << difference
          << ", allowed is " << tolerance << " * " << reference << "; found has norm "
          << frobenius(found) << ", expected " << frobenius(expected);
  if (found.entries.empty()) return result;
  auto const rows = static_cast<std::size_t>(found.rows);
  message << "; the worst entry is (" << place % rows << ", " << place / rows << "): found ";
  print(message, found.entries[place]);
  message << ", expected ";
  print(message, expected.entries[place]);
  print_if_small(message, "found", found);
  print_if_small(message, "expected", expected);
  return result;
}

/// \brief Whether found is within tolerance * reference of expected, in the Frobenius norm.
/// \param found      any Eigen matrix or expression
/// \param expected   of the same size
/// \param tolerance  relative to reference
/// \param reference  the size that errors are measured by
template <class A, class B>
boost::test_tools::assertion_result near(Eigen::DenseBase<A> const& found,
                                         Eigen::DenseBase<B> const& expected, double tolerance,
                                         double reference) {
  return near_tables(table(found), table(expected), tolerance, reference);
}

/// Whether found is within tolerance of expected, relative to the norm of expected. Where zero is
/// expected, nothing but zero passes: give a reference.
template <class A, class B>
boost::test_tools::assertion_result near(Eigen::DenseBase<A> const& found,
                                         Eigen::DenseBase<B> const& expected, double tolerance) {
  table const b(expected);
  return near_tables(table(found), b, tolerance, static_cast<double>(frobenius(b)));
}

/// Whether every entry of found is the same number as in expected, where zeros of both signs are
/// one number and every NaN is.
template <class A, class B>
boost::test_tools::assertion_result same(Eigen::DenseBase<A> const& found,
                                         Eigen::DenseBase<B> const& expected) {
  table const a(found);
  table const b(expected);
  auto const equal = [](double x, double y) { return x == y || (x != x && y != y); };
  bool all = a.rows == b.rows && a.cols == b.cols;
  for (std::size_t k = 0; all && k < a.entries.size(); ++k)
    all = equal(a.entries[k].real(), b.entries[k].real()) &&
          equal(a.entries[k].imag(), b.entries[k].imag());
  return all ? boost::test_tools::assertion_result(true) : near_tables(a, b, -1, 1);
}

/// same(), of what one text computed from matrices of two layouts. On a GPU cuBLAS promises equal bits
/// for equal calls, not for another transposition or stride, so there it is near().
/// \param bound  largest accepted norm of the difference there, relative to that of expected
template <class A, class B>
boost::test_tools::assertion_result same_in_another_layout(Eigen::DenseBase<A> const& found,
                                                           Eigen::DenseBase<B> const& expected,
                                                           [[maybe_unused]] double bound) {
#if defined(__CUDACC__)
  return near(found, expected, bound);
#else
  return same(found, expected);
#endif
}

}  // namespace support
