// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <type_traits>

#include <Eigen/Core>

#include <stiefelx/host/context.hpp>
#include <stiefelx/host/operand.hpp>
#include <stiefelx/host/scratch.hpp>
#include <stiefelx/simd/narrow_product.hpp>
#include <stiefelx/simd/shallow_product.hpp>
#include <stiefelx/simd/tall_adjoint_product.hpp>
#include <stiefelx/simd/tall_product.hpp>

/// \file
/// \brief Which products kernels of simd/ compute, and how threads share them.
/// \ingroup host

namespace stiefelx::host {

namespace detail {

// Below this many multiply-adds the kernel's packing costs more than it saves.
inline constexpr index_t small_product = 24 * 24 * 24;

// What a build with a BLAS leaves to the kernels of simd/: measured crossovers with OpenBLAS, which
// picks its kernels by the machine. Narrower registers than the machine's lose to it, so the kernels
// have to be compiled for the widest there are. Against its AVX-512 kernels they win where an operand
// or the result is thin, since it packs all of both: from 1.1 times for 64 columns to 4 times for 8.
// OpenBLAS wins below a million multiply-adds, where it packs nothing, and for a result of a^T b that is
// not small, where packing pays.
inline namespace STIEFELX_HOST_BUILD {
#if defined(STIEFELX_USE_BLAS)
inline constexpr bool has_blas = true;
inline constexpr bool beats_blas = simd::register_bytes >= 64;
#else
inline constexpr bool has_blas = false;
inline constexpr bool beats_blas = true;
#endif
}  // namespace STIEFELX_HOST_BUILD
inline constexpr index_t blas_small_product = index_t{1} << 20;
inline constexpr index_t blas_large_result = index_t{1} << 16;

// Whether a b is for narrow_product(): measured crossovers. With fewer products an entry its sums are
// written too often, and a few rows do not fill its tiles.
template <class S>
bool is_narrow_product(index_t rows, index_t depth, index_t cols) {
  return rows >= 8 * simd::native_width<S> && depth >= 64 && cols > 0 &&
         cols <= simd::narrow_product_columns;
}

// Whether a b is for tall_product(): measured crossovers. A wide result of few products an entry is
// bound by its own memory, and a right factor that fills the second-level cache needs blocks.
template <class S>
bool is_tall_product(index_t rows, index_t depth, index_t cols) {
  return rows >= 2 * simd::native_width<S> && cols >= 4 &&
         (depth >= 16 || (depth >= 8 && cols <= 32)) && depth <= (cols <= 32 ? 4096 : 512) &&
         depth * cols * index_t{sizeof(S)} <= (index_t{1} << 19);
}

// Whether a b is for shallow_product(): measured crossovers. tall_product() wins for a few columns, and
// from 16 products an entry on; a is read again and again, so the second-level cache has to hold it.
template <class S>
bool is_shallow_product(index_t rows, index_t depth, index_t cols) {
  return rows >= 8 * simd::native_width<S> && depth > 0 && depth < 16 && cols > 32 &&
         rows * depth * index_t{sizeof(S)} <= (index_t{1} << 19);
}

// Whether a^T b is for tall_adjoint_product(): measured crossovers.
template <class S>
bool is_tall_adjoint_product(index_t rows, index_t depth, index_t cols) {
  bool const is_small = rows * cols * index_t{sizeof(S)} <= (index_t{1} << 17);
  return depth >= 16 * simd::native_width<S> &&
         (std::max(rows, cols) <= 512 || (is_small && std::max(rows, cols) <= 4096)) &&
         (std::min(rows, cols) >= 4 || rows * cols * depth > small_product);
}

// Smallest multiple of `step` that cuts `count` into at most as many parts as there are threads.
inline index_t even_part(context const& ctx, index_t count, index_t step) {
  index_t const threads = ctx.workers.size();
  return ((count + threads - 1) / threads + step - 1) / step * step;
}

// c = alpha a b or c += alpha a b by tall_product(). The bits of an entry do not depend on how the
// rows are cut.
template <class S, int right>
void tall_product(context& ctx, S alpha, operand<S, Eigen::ColMajor, false> a,
                  operand<S, right, false> b, plain_view<S> c, bool add) {
  index_t const rows = c.rows(), cols = c.cols(), depth = a.cols;
  constexpr bool by_columns = right == Eigen::ColMajor;
  auto factor = scratch<S>(ctx, simd::right_factor_size<S>(depth, cols), 1);
  simd::copy_right_factor(depth, cols, b.data, by_columns ? 1 : b.stride, by_columns ? b.stride : 1,
                          factor.data());
  index_t const task = even_part(ctx, rows, simd::tall_product_rows<S>);
  index_t const tasks = (rows + task - 1) / task;
  index_t const room = simd::tall_product_workspace<S>(depth);
  auto memory = scratch<S>(ctx, room, tasks);
  ctx.workers.for_each_index(tasks, [&](index_t i, int worker) {
    index_t const first = i * task;
    simd::tall_product(std::min(task, rows - first), depth, cols, alpha, a.data + first, a.stride,
                       factor.data(), add, c.data() + first, c.outerStride(),
                       memory.data() + worker * room);
  });
}

// The same by narrow_product(), with the same bits.
template <class S, int right>
void narrow_product(context& ctx, S alpha, operand<S, Eigen::ColMajor, false> a,
                    operand<S, right, false> b, plain_view<S> c, bool add) {
  index_t const rows = c.rows(), cols = c.cols(), depth = a.cols;
  constexpr bool by_columns = right == Eigen::ColMajor;
  auto factor = scratch<S>(ctx, simd::narrow_factor_size(depth, cols), 1);
  simd::copy_narrow_factor(depth, cols, b.data, by_columns ? 1 : b.stride,
                           by_columns ? b.stride : 1, factor.data());
  index_t const task = even_part(ctx, rows, simd::narrow_product_rows<S>);
  index_t const tasks = (rows + task - 1) / task;
  index_t const room = simd::narrow_product_workspace<S>(std::min(task, rows), depth, cols);
  auto memory = scratch<S>(ctx, room, tasks);
  ctx.workers.for_each_index(tasks, [&](index_t i, int worker) {
    index_t const first = i * task;
    simd::narrow_product(std::min(task, rows - first), depth, cols, alpha, a.data + first, a.stride,
                         factor.data(), add, c.data() + first, c.outerStride(),
                         memory.data() + worker * room);
  });
}

// The same by shallow_product(), with the same bits however the columns are cut.
template <class S, int right>
void shallow_product(context& ctx, S alpha, operand<S, Eigen::ColMajor, false> a,
                     operand<S, right, false> b, plain_view<S> c, bool add) {
  index_t const rows = c.rows(), cols = c.cols(), depth = a.cols;
  constexpr bool by_columns = right == Eigen::ColMajor;
  auto factor = scratch<S>(ctx, simd::shallow_factor_size<S>(rows, depth), 1);
  simd::copy_shallow_factor(rows, depth, a.data, a.stride, factor.data());
  index_t const task = even_part(ctx, cols, simd::shallow_product_columns);
  index_t const tasks = (cols + task - 1) / task;
  ctx.workers.for_each_index(tasks, [&](index_t i, int) {
    index_t const first = i * task;
    simd::shallow_product(rows, depth, std::min(task, cols - first), alpha, factor.data(),
                          b.data + first * (by_columns ? b.stride : 1), by_columns ? 1 : b.stride,
                          by_columns ? b.stride : 1, add, c.data() + first * c.outerStride(),
                          c.outerStride());
  });
}

// The same for a^T b by tall_adjoint_product(). The bits of an entry do not depend on how the columns
// are cut.
template <class S>
void tall_adjoint_product(context& ctx, S alpha, operand<S, Eigen::RowMajor, false> a,
                          operand<S, Eigen::ColMajor, false> b, plain_view<S> c, bool add) {
  index_t const rows = c.rows(), cols = c.cols(), depth = a.cols;
  index_t const task = even_part(ctx, cols, 4);
  index_t const tasks = (cols + task - 1) / task;
  index_t const room = simd::tall_adjoint_product_workspace<S>(depth, rows, task);
  auto memory = scratch<S>(ctx, room, tasks);
  ctx.workers.for_each_index(tasks, [&](index_t i, int worker) {
    index_t const first = i * task;
    auto const part = b.columns(first, std::min(task, cols - first));
    simd::tall_adjoint_product(depth, rows, part.cols, alpha, a.data, a.stride, part.data,
                               part.stride, add, c.data() + first * c.outerStride(),
                               c.outerStride(), memory.data() + worker * room);
  });
}

// c = alpha a b or c += alpha a b by a kernel of simd/, if one is meant for it; returns whether.
template <class S, int left, bool conjugate_left, int right, bool conjugate_right>
bool multiply_thin([[maybe_unused]] context& ctx, [[maybe_unused]] S alpha,
                   [[maybe_unused]] operand<S, left, conjugate_left> a,
                   [[maybe_unused]] operand<S, right, conjugate_right> b,
                   [[maybe_unused]] plain_view<S> c, [[maybe_unused]] bool add) {
  if constexpr (beats_blas && std::is_floating_point_v<S>) {
    index_t const rows = c.rows(), cols = c.cols(), depth = a.cols;
    bool const is_large = !has_blas || rows * cols * depth >= blas_small_product;
    if (!is_large) return false;
    if constexpr (left == Eigen::ColMajor) {
      bool const is_high = !has_blas || rows >= 8 * simd::native_width<S>;
      if (is_narrow_product<S>(rows, depth, cols)) {
        narrow_product(ctx, alpha, a, b, c, add);
        return true;
      }
      if (is_high && is_tall_product<S>(rows, depth, cols)) {
        tall_product(ctx, alpha, a, b, c, add);
        return true;
      }
      if (is_shallow_product<S>(rows, depth, cols)) {
        shallow_product(ctx, alpha, a, b, c, add);
        return true;
      }
    } else if constexpr (right == Eigen::ColMajor) {
      bool const is_thin = !has_blas || rows * cols < blas_large_result;
      if (is_thin && is_tall_adjoint_product<S>(rows, depth, cols)) {
        tall_adjoint_product(ctx, alpha, a, b, c, add);
        return true;
      }
    }
  }
  return false;
}

}  // namespace detail

}  // namespace stiefelx::host
