// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Device matrices in every layout that a kernel tells apart: packed, off alignment, with gaps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include <cuda/table.hpp>
#include <fake_cuda/executor.hpp>

namespace tables {

/// How a matrix lies in memory.
struct layout {
  char const* name;
  index_t offset;    ///< entries before its first, of which it is aligned to 16 bytes without any
  index_t multiple;  ///< its stride is the next multiple of so many entries,
  index_t gap;       ///< and so many more
};

/// Every layout, or two of them where a thread for each lane makes kernels slow.
inline std::vector<layout> layouts() {
  if (!fake_cuda::keeps_lane_order) return {{"packed", 0, 1, 0}, {"ragged", 1, 1, 3}};
  return {{"packed", 0, 1, 0}, {"shifted", 1, 1, 0}, {"padded", 0, 8, 8}, {"ragged", 1, 1, 3}};
}

/// A device matrix among entries that nobody may write.
template <class S>
class placed {
 public:
  placed(device::context& ctx, table<S> const& a, layout how)
      : rows_(a.rows),
        cols_(a.cols),
        offset_(how.offset),
        stride_((a.rows + how.multiple - 1) / how.multiple * how.multiple + how.gap),
        frame_(offset_ + stride_ * cols_ + 3, 1),
        whole_(zeros<S>(ctx, frame_.rows, 1)) {
    std::fill(frame_.entries.begin(), frame_.entries.end(), device::converted<S>(77));
    table<S> all = frame_;
    for (index_t j = 0; j < cols_; ++j)
      for (index_t i = 0; i < rows_; ++i) all(place(i, j), 0) = a(i, j);
    upload(ctx, all.entries.data(), whole_);
  }

  /// The matrix.
  device::matrix_view<S> view() { return {whole_.data() + offset_, rows_, cols_, stride_}; }

  /// Its entries, once every other entry is what it was.
  table<S> entries(device::context& ctx) const {
    table<S> all = on_host(ctx, whole_);
    table<S> inside(rows_, cols_);
    for (index_t j = 0; j < cols_; ++j)
      for (index_t i = 0; i < rows_; ++i)
        inside(i, j) = std::exchange(all(place(i, j), 0), device::converted<S>(77));
    BOOST_TEST((all == frame_), "nothing beside the matrix is written");
    return inside;
  }

 private:
  index_t place(index_t i, index_t j) const { return offset_ + i + j * stride_; }

  index_t rows_, cols_, offset_, stride_;
  table<S> frame_;
  device::matrix<S> whole_;
};

/// Whether two tables have the same bits.
template <class S>
bool same_bits(table<S> const& a, table<S> const& b) {
  return a.rows == b.rows && a.cols == b.cols &&
         (a.entries.empty() ||
          std::memcmp(a.entries.data(), b.entries.data(), a.entries.size() * sizeof(S)) == 0);
}

/// A 1 x 1 matrix on the device.
template <class S>
device::matrix<S> number_on(device::context& ctx, S value) {
  table<S> one(1, 1);
  one(0, 0) = value;
  return on_device(ctx, one);
}

/// Calls f with the lanes of kernels in each order that the executor can run them in.
template <class F>
void in_each_lane_order(F const& f) {
  if (!fake_cuda::keeps_lane_order) return f();
  auto const before = fake_cuda::schedule();
  using order = fake_cuda::lane_order;
  for (auto const& now :
       {fake_cuda::lane_schedule{order::forward, 0}, fake_cuda::lane_schedule{order::backward, 0},
        fake_cuda::lane_schedule{order::random, 7}}) {
    fake_cuda::schedule() = now;
    f();
  }
  fake_cuda::schedule() = before;
}

struct extent {
  index_t rows, cols;
};

/// Nothing, one entry, a warp and its neighbours, tall, wide, and more than a block; two of them
/// where a thread for each lane makes kernels slow.
inline std::vector<extent> extents() {
  if (!fake_cuda::keeps_lane_order) return {{33, 5}};
  return {{0, 3},   {3, 0},  {1, 1},   {3, 3},   {1, 33},  {31, 2},
          {32, 32}, {33, 5}, {257, 3}, {3, 257}, {1031, 2}};
}

}  // namespace tables
