// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Matrices of the host for the tests of device memory and products: plain column-major tables and
// oracles in loops, with neither Eigen nor a kernel behind them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/cuda/transfer.hpp>

namespace tables {

namespace device = stiefelx::cuda;
using stiefelx::index_t;

/// Entries of a matrix, column by column.
template <class S>
struct table {
  index_t rows;
  index_t cols;
  std::vector<S> entries;

  table(index_t m, index_t n) : rows(m), cols(n), entries(static_cast<std::size_t>(m * n)) {}

  S& operator()(index_t i, index_t j) { return entries[static_cast<std::size_t>(i + j * rows)]; }
  S const& operator()(index_t i, index_t j) const {
    return entries[static_cast<std::size_t>(i + j * rows)];
  }
  bool operator==(table const&) const = default;
};

/// Entries between -1 and 1, the same on every machine; small ones have few bits, so that a
/// storage type of two bytes holds them too.
template <class S = double>
table<S> random_table(index_t rows, index_t cols, std::uint64_t seed, double steps = 0x1p30) {
  std::mt19937_64 engine(seed);
  table<S> a(rows, cols);
  for (S& x : a.entries) {
    double const unit = static_cast<double>(engine() >> 11) * 0x1p-53;
    x = device::converted<S>(std::floor((2 * unit - 1) * steps) / steps);
  }
  return a;
}

/// Entry (i, j) of a, or of its transpose.
template <class S>
table<S> transposed(table<S> const& a) {
  table<S> b(a.cols, a.rows);
  for (index_t j = 0; j < a.cols; ++j)
    for (index_t i = 0; i < a.rows; ++i) b(j, i) = a(i, j);
  return b;
}

template <class T, class S>
table<T> cast(table<S> const& a) {
  table<T> b(a.rows, a.cols);
  for (std::size_t k = 0; k < a.entries.size(); ++k)
    b.entries[k] = device::converted<T>(a.entries[k]);
  return b;
}

/// a b in double.
template <class S>
table<double> loop_product(table<S> const& a, table<S> const& b) {
  table<double> c(a.rows, b.cols);
  for (index_t j = 0; j < c.cols; ++j)
    for (index_t k = 0; k < a.cols; ++k)
      for (index_t i = 0; i < c.rows; ++i)
        c(i, j) += static_cast<double>(a(i, k)) * static_cast<double>(b(k, j));
  return c;
}

/// A rectangle of a.
template <class S>
table<S> part(table<S> const& a, index_t row, index_t rows, index_t col, index_t cols) {
  table<S> b(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) b(i, j) = a(row + i, col + j);
  return b;
}

/// Largest difference of two tables of one size, infinite where one is not finite.
template <class A, class B>
double distance(table<A> const& a, table<B> const& b) {
  BOOST_REQUIRE(a.rows == b.rows);
  BOOST_REQUIRE(a.cols == b.cols);
  double worst = 0;
  for (std::size_t k = 0; k < a.entries.size(); ++k) {
    double const gap =
        std::abs(static_cast<double>(a.entries[k]) - static_cast<double>(b.entries[k]));
    worst = std::isfinite(gap) ? std::max(worst, gap) : HUGE_VAL;
  }
  return worst;
}

/// An owning device matrix with these entries.
template <class S>
device::matrix<S> on_device(device::context& ctx, table<S> const& a) {
  auto made = zeros<S>(ctx, a.rows, a.cols);
  upload(ctx, a.entries.data(), made);
  return made;
}

/// The entries of a device matrix.
template <device::DeviceMatrix A>
table<stiefelx::scalar_t<A>> on_host(device::context& ctx, A const& a) {
  table<stiefelx::scalar_t<A>> made(a.rows(), a.cols());
  download(ctx, a, made.entries.data());
  return made;
}

/// \brief A device matrix inside a larger one, whose other entries are 77: a stride above the rows,
/// and a frame that shows what is written beside it.
template <class S>
class framed {
 public:
  framed(device::context& ctx, table<S> const& a)
      : rows_(a.rows), cols_(a.cols), whole_(zeros<S>(ctx, a.rows + 5, a.cols + 2)) {
    table<S> frame(a.rows + 5, a.cols + 2);
    std::fill(frame.entries.begin(), frame.entries.end(), device::converted<S>(77));
    for (index_t j = 0; j < a.cols; ++j)
      for (index_t i = 0; i < a.rows; ++i) frame(i + 2, j + 1) = a(i, j);
    upload(ctx, frame.entries.data(), whole_);
  }

  /// The matrix.
  device::matrix_view<S> view() { return whole_.middleRows(2, rows_).middleCols(1, cols_); }

  /// Whether every entry beside the matrix is what it was.
  bool is_frame_whole(device::context& ctx) const {
    table<S> const all = on_host(ctx, whole_);
    for (index_t j = 0; j < all.cols; ++j) {
      for (index_t i = 0; i < all.rows; ++i) {
        bool const inside = i >= 2 && i < 2 + rows_ && j >= 1 && j < 1 + cols_;
        if (!inside && static_cast<double>(all(i, j)) != 77) return false;
      }
    }
    return true;
  }

 private:
  index_t rows_;
  index_t cols_;
  device::matrix<S> whole_;
};

/// The text of the misuse or failure that f throws.
template <class F>
std::string message_of(F const& f) {
  try {
    f();
  } catch (std::exception const& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace tables
