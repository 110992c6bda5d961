// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

#include <support/backends.hpp>

namespace support {

/// \brief Matrices of a file of tests/oracles, by name; make.py there says how they were made.
class oracle {
 public:
  /// \param topic  name of the file, without its ending
  explicit oracle(std::string const& topic) : topic_(topic) {
    auto const path =
        std::filesystem::path(__FILE__).parent_path().parent_path() / "oracles" / (topic + ".txt");
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path.string());
    for (std::string line; std::getline(file, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream head(line);
      std::string name, kind;
      entry e;
      head >> name >> e.rows >> e.cols >> kind;
      e.is_complex = kind == "complex";
      index_t const count = e.rows * e.cols * (e.is_complex ? 2 : 1);
      e.numbers.resize(count);
      for (index_t k = 0; k < count; ++k) file >> e.numbers(k);
      if (!head || !file) throw std::runtime_error(path.string() + " is cut off at " + name);
      matrices_.emplace(name, e);
    }
  }

  /// The matrix of a name, real or complex as asked for; a real one may be asked for as complex.
  template <class S>
  matrix_x<S> get(std::string const& name) const {
    auto const found = matrices_.find(name);
    if (found == matrices_.end()) throw std::runtime_error(topic_ + " has no matrix " + name);
    entry const& e = found->second;
    matrix_x<S> a(e.rows, e.cols);
    for (index_t i = 0; i < e.rows; ++i)
      for (index_t j = 0; j < e.cols; ++j) {
        index_t const k = i * e.cols + j;
        if constexpr (std::is_floating_point_v<S>) {
          if (e.is_complex) throw std::runtime_error(name + " of " + topic_ + " is complex");
          a(i, j) = e.numbers(k);
        } else {
          a(i, j) = e.is_complex ? S(e.numbers(2 * k), e.numbers(2 * k + 1)) : S(e.numbers(k));
        }
      }
    return a;
  }

 private:
  struct entry {
    index_t rows = 0, cols = 0;
    bool is_complex = false;
    Eigen::VectorXd numbers;
  };

  std::string topic_;
  std::map<std::string, entry> matrices_;
};

}  // namespace support
