// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/host/context.hpp>
#include <stiefelx/simd/thin_gram_schmidt.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Gram-Schmidt of stacks of long real columns on the host, by the kernel of simd/.
/// \ingroup host

namespace stiefelx::host::detail {

// Results of at least this many bytes are written past the caches: they would leave them before
// anyone reads them.
inline constexpr index_t streaming_bytes = index_t{1} << 23;

// What run_batch() does for gram_schmidt_body with real scalars. The kernel takes a matrix in two
// reads of memory; what it declines, and what it is not made for, runs as team text.
template <std::floating_point T>
void run_items(context&, gram_schmidt_body const& body, index_t first, index_t end, double* scratch,
               matrix_ref<T const> const& a, matrix_ref<T> const& q, matrix_ref<T> const& r,
               matrix_ref<int> const& status) {
  index_t const p = body.columns;
  bool const suited = body.method == gram_schmidt_method::cgs2 && p >= 1 && p <= simd::thin_columns;
  bool const streams = q.rows * q.cols * index_t{sizeof(T)} >= streaming_bytes;
  auto const how = streams ? simd::writing::streaming : simd::writing::cached;
  for (index_t item = first; item < end; ++item) {
    T const* const own = a.column(item * p);
    T const* const next = (item + 1) * p < a.cols ? a.column((item + 1) * p) : own;
    if (suited && simd::thin_gram_schmidt(a.rows, p, own, a.stride, q.column(item * p), q.stride,
                                          r.column(item * p), r.stride, how, next))
      status(0, item) = 0;
    else
      body(serial_team{}, item, scratch, a, q, r, status);
  }
  if (streams) simd::finish_streaming();
}

}  // namespace stiefelx::host::detail
