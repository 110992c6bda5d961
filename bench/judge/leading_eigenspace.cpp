// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   bench_judge_leading_eigenspace FOLDER CONTESTANT DIGITS
//
// Looks at the final points of a contestant of the case leading_eigenspace, in long double and plain
// loops that no contestant uses: orthonormal columns, the gradient of at most 1 / DIGITS times the
// norm of the matrix, and the cost against the eigenvalues that LAPACK (Eigen, where there is none)
// finds. Prints nothing when all is
// right, else what is wrong, in one line. Exits 1 if it cannot judge.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#ifndef BENCH_OPENBLAS
#include <Eigen/Eigenvalues>
#endif

#include "bench/support/eigenspace.hpp"

#ifdef BENCH_OPENBLAS
extern "C" void dsyev_(char const* jobz, char const* uplo, int const* n, double* a, int const* lda,
                       double* w, double* work, int const* lwork, int* info, std::size_t,
                       std::size_t);
#endif

namespace {

using wide = long double;
using problem = bench::leading_eigenspace;
constexpr std::ptrdiff_t n = problem::n, p = problem::p;

std::size_t at(std::ptrdiff_t i, std::ptrdiff_t j, std::ptrdiff_t rows) {
  return static_cast<std::size_t>(i + j * rows);
}

// Ascending.
std::vector<double> eigenvalues(std::vector<double> a) {
  std::vector<double> values(n);
#ifdef BENCH_OPENBLAS
  int const size = n, room = 40 * n;
  std::vector<double> work(room);
  int info = 0;
  dsyev_("N", "L", &size, a.data(), &size, values.data(), work.data(), &room, &info, 1, 1);
  if (info != 0) throw std::runtime_error("dsyev fails with " + std::to_string(info));
#else
  Eigen::Map<Eigen::MatrixXd const> const matrix(a.data(), n, n);
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> const solver(matrix, Eigen::EigenvaluesOnly);
  std::copy(solver.eigenvalues().begin(), solver.eigenvalues().end(), values.begin());
#endif
  return values;
}

// c = a^T b for a with k columns and b with p columns of n entries.
std::vector<wide> products(double const* a, std::ptrdiff_t k, wide const* b) {
  std::vector<wide> c(static_cast<std::size_t>(k * p));
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < k; ++i) {
      wide sum = 0;
      for (std::ptrdiff_t l = 0; l < n; ++l) sum += a[at(l, i, n)] * b[at(l, j, n)];
      c[at(i, j, k)] = sum;
    }
  return c;
}

std::string text_of(wide number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2Le", number);
  return text;
}

// Empty, or what is wrong with a point.
std::string fault(std::vector<double> const& a, double const* x, wide norm, wide best,
                  wide accuracy) {
  wide const eps = std::numeric_limits<double>::epsilon();
  std::vector<wide> const point(x, x + n * p);
  for (wide const entry : point)
    if (!std::isfinite(entry)) return "it is not finite";
  wide square = 0;
  std::vector<wide> const gram = products(x, p, point.data());
  for (std::ptrdiff_t j = 0; j < p; ++j)
    for (std::ptrdiff_t i = 0; i < p; ++i) {
      wide const defect = gram[at(i, j, p)] - (i == j ? 1 : 0);
      square += defect * defect;
    }
  wide const orthonormality = std::sqrt(square), slack = 30 * static_cast<wide>(n) * eps;
  if (!(orthonormality <= slack))
    return "its columns are orthonormal to " + text_of(orthonormality) + " only, expected " +
           text_of(slack);

  // a is symmetric, so its columns serve for its rows.
  std::vector<wide> const ax = products(a.data(), n, point.data());
  std::vector<wide> const inner = products(x, p, ax.data());
  wide trace = 0, gradient = 0;
  for (std::ptrdiff_t j = 0; j < p; ++j) {
    trace += inner[at(j, j, p)];
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      wide entry = ax[at(i, j, n)];
      for (std::ptrdiff_t k = 0; k < p; ++k) entry -= point[at(i, k, n)] * inner[at(k, j, p)];
      gradient += entry * entry;
    }
  }
  gradient = std::sqrt(gradient) / norm;
  // A gradient that a contestant found at the bound is rounded there.
  wide const bound = accuracy * (1 + 1e-3L);
  if (!(gradient <= bound))
    return "its gradient is " + text_of(gradient) + " of the norm of A, expected " + text_of(bound);
  // Far below the gap between eigenvalues this tells the leading ones from others; the coarsest
  // accuracy is of the size of the gap, and leaves that open.
  wide const excess = (best - trace) / norm, allowed = p * bound;
  if (!(std::fabs(excess) <= allowed))
    return "its trace is " + text_of(excess) + " of the norm of A from the optimum, expected " +
           text_of(allowed);
  return "";
}

}  // namespace

int main(int count, char** arguments) try {
  if (count != 4 || !(std::atof(arguments[3]) > 0)) {
    std::cerr << "usage: bench_judge_leading_eigenspace FOLDER CONTESTANT DIGITS\n";
    return 2;
  }
  std::string const folder = std::string(arguments[1]) + "/";
  std::vector<double> const a = bench::read_doubles(folder + "matrix", n * n);
  std::vector<double> const points =
      bench::read_doubles(folder + arguments[2], n * p * problem::starts);
  std::vector<double> const values = eigenvalues(a);
  wide const norm = std::max(-values.front(), values.back());
  auto const value = [&](std::ptrdiff_t k) { return values[static_cast<std::size_t>(k)]; };
  wide const accuracy = 1 / std::atof(arguments[3]);
  wide best = 0;
  for (std::ptrdiff_t k = n - p; k < n; ++k) best += value(k);
  for (std::ptrdiff_t k = 0; k < problem::starts; ++k) {
    std::string const wrong = fault(a, points.data() + k * n * p, norm, best, accuracy);
    if (wrong.empty()) continue;
    std::cout << "of start " << k + 1 << " " << wrong << "\n";
    return 0;
  }
  return 0;
} catch (std::exception const& error) {
  std::cerr << "bench_judge_leading_eigenspace: " << error.what() << "\n";
  return 1;
}
