// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

/// \file
/// \brief The case leading_eigenspace: its sizes, and the files by which contestants of several
/// languages and the judge share it.
///
/// A folder holds `matrix` (n x n, symmetric), `starts` (the starts, n x p each, one after the
/// other), `norm` (the spectral norm of the matrix) and one file a contestant with its final points
/// in the order of the starts. All are doubles in the machine's order, column by column.

namespace bench {

/// Sizes of the case, and its accuracy.
struct leading_eigenspace {
  static constexpr char const* shape = "n=1000,p=10";
  static constexpr std::ptrdiff_t n = 1000, p = 10, starts = 5;

  char const* name;  ///< of the case
  double accuracy;   ///< length of the gradient that ends it, relative to the norm of the matrix
};

/// The accuracies: what second-order and conjugate methods reach, what peers' line searches reach,
/// and what peers' methods with fixed steps reach.
inline constexpr leading_eigenspace leading_eigenspaces[] = {{"leading_eigenspace", 1e-8},
                                                             {"leading_eigenspace_1e-6", 1e-6},
                                                             {"leading_eigenspace_1e-3", 1e-3}};

/// \brief Reads a file of doubles.
/// \param[in] path   the file
/// \param[in] count  how many it must hold
/// \throws std::runtime_error  if it holds fewer or more
inline std::vector<double> read_doubles(std::string const& path, std::ptrdiff_t count) {
  std::vector<double> all(static_cast<std::size_t>(count));
  std::ifstream file(path, std::ios::binary);
  auto const bytes = static_cast<std::streamsize>(all.size() * sizeof(double));
  file.read(reinterpret_cast<char*>(all.data()), bytes);
  if (!file || file.peek() != std::ifstream::traits_type::eof())
    throw std::runtime_error(path + " does not hold " + std::to_string(count) + " doubles");
  return all;
}

/// \brief Writes a file of doubles.
/// \param[in] path   the file
/// \param[in] data   the first
/// \param[in] count  how many
/// \throws std::runtime_error  if it cannot be written
inline void write_doubles(std::string const& path, double const* data, std::ptrdiff_t count) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<char const*>(data),
             static_cast<std::streamsize>(count) * static_cast<std::streamsize>(sizeof(double)));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace bench
