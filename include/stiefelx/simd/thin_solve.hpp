// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <stiefelx/simd/pack.hpp>
#include <stiefelx/simd/thin_gram.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief How a kernel writes a result that it does not read again.
/// \ingroup simd
enum class writing {
  cached,     ///< through the caches
  streaming,  ///< past the caches: for results larger than they are, at aligned addresses
};

/// \brief Writes a pack past the caches where the instruction set can.
/// \ingroup simd
/// \param[in]  a  the values
/// \param[out] p  a register's worth of values, at a multiple of register_bytes
[[gnu::always_inline]] inline void store_streaming(pack<float> a, float* p) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, reinterpret_cast<__m512>(a.lanes));
#elif defined(__AVX__)
  _mm256_stream_ps(p, reinterpret_cast<__m256>(a.lanes));
#elif defined(__SSE2__)
  _mm_stream_ps(p, reinterpret_cast<__m128>(a.lanes));
#else
  a.store_aligned(p);
#endif
}

/// \copydoc store_streaming(pack<float>, float*)
/// \ingroup simd
[[gnu::always_inline]] inline void store_streaming(pack<double> a, double* p) {
#if defined(__AVX512F__)
  _mm512_stream_pd(p, reinterpret_cast<__m512d>(a.lanes));
#elif defined(__AVX__)
  _mm256_stream_pd(p, reinterpret_cast<__m256d>(a.lanes));
#elif defined(__SSE2__)
  _mm_stream_pd(p, reinterpret_cast<__m128d>(a.lanes));
#else
  a.store_aligned(p);
#endif
}

/// \brief Orders streaming stores before every later store of this thread.
/// \ingroup simd
inline void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// \brief Computes \f$ q = a\,t^{-1}\,\mathrm{diag}(c) \f$ for K columns, t unit upper triangular.
/// \ingroup simd
///
/// Substitution row by row: \f$ u_j = a_j - \sum_{i<j} t_{ij} u_i,\ q_j = c_j u_j \f$. So every row
/// of q solves \f$ q\,(r + \Delta) = a,\ |\Delta| \le (K + 2) \epsilon\,|r| \f$ with \f$ r =
/// \mathrm{diag}(c)^{-1} t \f$, whatever the condition of r; a product with an inverse would not.
///
/// \tparam K     columns, 1 to 8
/// \tparam Late  packs fetched for each pack of rows, 0 to K
/// \tparam W     streaming needs every column of q at a multiple of register_bytes
/// \param[in]  n         rows, any number from zero on
/// \param[in]  a         n x K, column-major, of any alignment
/// \param[in]  a_stride  distance of the columns, at least n
/// \param[in]  t         \f$ t_{ji} \f$ at packed_index(i, j), j < i; c on the diagonal
/// \param[out] q         n x K; may be a
/// \param[in]  q_stride  distance of the columns, at least n
/// \param[in]  next      Late n entries that are fetched into the second-level cache; not read
/// \par Cost
/// n K^2 flops; reads a and writes q once
template <std::ptrdiff_t K, writing W, std::ptrdiff_t Late, class T>
void thin_solve(std::ptrdiff_t n, T const* a, std::ptrdiff_t a_stride, T const* t, T* q,
                std::ptrdiff_t q_stride, T const* next);

namespace detail {

// `Packs` packs of rows of thin_solve().
template <std::ptrdiff_t K, std::ptrdiff_t Packs, writing W, class T>
[[gnu::always_inline]] inline void solve_thin_rows(T const* a, std::ptrdiff_t a_stride, T const* t,
                                                   T* q, std::ptrdiff_t q_stride) {
  constexpr std::ptrdiff_t w = native_width<T>;
  pack<T> u[std::size_t{K}][std::size_t{Packs}];
  unroll<K>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<Packs>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      u[j][s] = pack<T>::load(a + j * a_stride + s * w);
    });
  });
  unroll<K>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
    unroll<K>([&](std::ptrdiff_t i) __attribute__((always_inline)) {
      if (i <= j) return;
      pack<T> const factor = pack<T>::broadcast(t[packed_index(i, j)]);
      unroll<Packs>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
        u[i][s] = subtract_product(u[j][s], factor, u[i][s]);
      });
    });
    pack<T> const factor = pack<T>::broadcast(t[packed_index(j, j)]);
    unroll<Packs>([&](std::ptrdiff_t s) __attribute__((always_inline)) {
      pack<T> const result = u[j][s] * factor;
      T* const to = q + j * q_stride + s * w;
      if constexpr (W == writing::streaming)
        store_streaming(result, to);
      else
        result.store(to);
    });
  });
}

}  // namespace detail

template <std::ptrdiff_t K, writing W, std::ptrdiff_t Late, class T>
void thin_solve(std::ptrdiff_t n, T const* a, std::ptrdiff_t a_stride, T const* t, T* q,
                std::ptrdiff_t q_stride, T const* next) {
  constexpr std::ptrdiff_t w = native_width<T>;
  std::ptrdiff_t i = 0;
  for (; i + 2 * w <= n; i += 2 * w) {
    unroll<2 * Late>([&](std::ptrdiff_t j) __attribute__((always_inline)) {
      __builtin_prefetch(next + i * Late + j * w, 0, 2);
    });
    detail::solve_thin_rows<K, 2, W>(a + i, a_stride, t, q + i, q_stride);
  }
  for (; i + w <= n; i += w) detail::solve_thin_rows<K, 1, W>(a + i, a_stride, t, q + i, q_stride);
  if (i == n) return;
  alignas(register_bytes) T rest[std::size_t{K * w}] = {};
  for (std::ptrdiff_t j = 0; j < K; ++j)
    std::copy(a + j * a_stride + i, a + j * a_stride + n, rest + j * w);
  detail::solve_thin_rows<K, 1, writing::cached>(rest, w, t, rest, w);
  for (std::ptrdiff_t j = 0; j < K; ++j)
    std::copy(rest + j * w, rest + j * w + (n - i), q + j * q_stride + i);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
