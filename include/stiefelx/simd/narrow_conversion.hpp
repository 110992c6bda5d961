// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>

#include <stiefelx/core/narrow.hpp>
#include <stiefelx/simd/pack.hpp>

/// \file
/// \brief Runs of stored numbers to float and back: the values of core/narrow.hpp, a register at a
/// time.
/// \ingroup simd

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

namespace detail {

inline constexpr std::ptrdiff_t conversion_width = native_width<float>;

typedef std::int32_t words __attribute__((vector_size(4 * conversion_width)));
typedef std::int32_t loose_words
    __attribute__((vector_size(4 * conversion_width), aligned(4), may_alias));
typedef std::uint16_t halves __attribute__((vector_size(2 * conversion_width)));
typedef std::uint16_t loose_halves
    __attribute__((vector_size(2 * conversion_width), aligned(2), may_alias));

// Whole registers of `count` entries by `vector`, the rest by `single`; both get the first index.
template <class Vector, class Single>
[[gnu::always_inline]] inline void each_register(std::ptrdiff_t count, Vector const& vector,
                                                 Single const& single) {
  std::ptrdiff_t const whole = count - count % conversion_width;
  for (std::ptrdiff_t i = 0; i < whole; i += conversion_width) vector(i);
  for (std::ptrdiff_t i = whole; i < count; ++i) single(i);
}

}  // namespace detail

/// \brief Widens adjacent numbers, exactly.
/// \ingroup simd
/// \param[in]  count  how many
/// \param[in]  from   count numbers
/// \param[out] to     count numbers; must not overlap from
inline void widen_run(std::ptrdiff_t count, bfloat16 const* from, float* to) {
  using namespace detail;
  each_register(
      count,
      [&](std::ptrdiff_t i) {
        halves const h = *reinterpret_cast<loose_halves const*>(from + i);
        words const u = __builtin_convertvector(h, words) << 16;
        // Signaling numbers become quiet ones, as in one number's conversion.
        words const quiet = ((u & 0x7FFFFFFF) > 0x7F800000) & 0x400000;
        *reinterpret_cast<loose_words*>(to + i) = u | quiet;
      },
      [&](std::ptrdiff_t i) { to[i] = from[i]; });
}

/// \brief Rounds adjacent numbers, to nearest with ties to even.
/// \ingroup simd
/// \param[in]  count  how many
/// \param[in]  from   count numbers
/// \param[out] to     count numbers; must not overlap from
inline void narrow_run(std::ptrdiff_t count, float const* from, bfloat16* to) {
  using namespace detail;
  each_register(
      count,
      [&](std::ptrdiff_t i) {
        words const u = *reinterpret_cast<loose_words const*>(from + i);
        words const nan = (u & 0x7FFFFFFF) > 0x7F800000;
        // Half a step is added to numbers only, so the sum stays below 2^31 in magnitude.
        words const step = (0x7FFF + ((u >> 16) & 1)) & ~nan;
        words const rounded =
            ((u & 0x7FFFFFFF) + step) | (u & (-0x7FFFFFFF - 1)) | (nan & 0x400000);
        *reinterpret_cast<loose_halves*>(to + i) =
            __builtin_convertvector((rounded >> 16) & 0xFFFF, halves);
      },
      [&](std::ptrdiff_t i) { to[i] = bfloat16(from[i]); });
}

/// \brief Widens adjacent numbers, exactly; by F16C where it is compiled in.
/// \ingroup simd
/// \param[in]  count  how many
/// \param[in]  from   count numbers
/// \param[out] to     count numbers; must not overlap from
inline void widen_run(std::ptrdiff_t count, float16 const* from, float* to) {
  std::ptrdiff_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(to + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<__m128i const*>(from + i))));
#endif
  for (; i < count; ++i) to[i] = from[i];
}

/// \brief Rounds adjacent numbers, to nearest with ties to even; by F16C where it is compiled in.
/// \ingroup simd
/// \param[in]  count  how many
/// \param[in]  from   count numbers
/// \param[out] to     count numbers; must not overlap from
inline void narrow_run(std::ptrdiff_t count, float const* from, float16* to) {
  std::ptrdiff_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(to + i),
        _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
  for (; i < count; ++i) to[i] = float16(from[i]);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
