// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/unroll.hpp>

// The header of all x86 extensions takes long to parse.
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// Bytes of one vector register of the instruction set this file is compiled for.
/// \ingroup simd
#if defined(__AVX512F__)
inline constexpr std::ptrdiff_t register_bytes = 64;
#elif defined(__AVX__)
inline constexpr std::ptrdiff_t register_bytes = 32;
#else
inline constexpr std::ptrdiff_t register_bytes = 16;
#endif

/// Number of vector registers; it bounds the tile that a kernel can hold.
/// \ingroup simd
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr std::ptrdiff_t register_count = 32;
#else
inline constexpr std::ptrdiff_t register_count = 16;
#endif

/// Values of type T in one vector register.
/// \ingroup simd
template <class T>
inline constexpr std::ptrdiff_t native_width = register_bytes / std::ptrdiff_t{sizeof(T)};

/// \brief A truth value in each of W lanes: the result of comparing packs.
/// \ingroup simd
///
/// There is no conversion to bool: text on packs decides by select(), any() and all().
/// \tparam T  scalar of the packs that were compared
/// \tparam W  number of lanes
template <class T, std::ptrdiff_t W>
struct mask {
  /// Integer as wide as a lane.
  using integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  /// All bits of a lane set, or none.
  typedef integer vector __attribute__((vector_size(W * sizeof(T))));

  vector lanes;  ///< -1 where true, 0 where false

  /// True where both are.
  [[gnu::always_inline]] friend mask operator&(mask a, mask b) { return {a.lanes & b.lanes}; }
  /// True where one is.
  [[gnu::always_inline]] friend mask operator|(mask a, mask b) { return {a.lanes | b.lanes}; }
  /// True where a is not.
  [[gnu::always_inline]] friend mask operator!(mask a) { return {~a.lanes}; }
};

/// \brief W values of one scalar type, operated on lane by lane.
/// \ingroup simd
///
/// \tparam T  float or double
/// \tparam W  number of lanes, a power of two; a register holds at most native_width
template <class T, std::ptrdiff_t W = native_width<T>>
struct pack {
  /// The compiler's own vector of W lanes.
  typedef T vector __attribute__((vector_size(W * sizeof(T))));
  /// The same vector seen through a pointer to scalars at a multiple of its size.
  typedef T aligned_vector __attribute__((vector_size(W * sizeof(T)), may_alias));
  /// The same vector seen through any pointer to scalars.
  typedef T unaligned_vector
      __attribute__((vector_size(W * sizeof(T)), aligned(alignof(T)), may_alias));

  using lane_scalar = T;  ///< scalar of a lane

  vector lanes;  ///< the values

  /// \param[in] c  a value
  /// \returns every lane equal to c
  [[gnu::always_inline]] static pack broadcast(T c) { return {c - vector{}}; }

  /// \param[in] p  W consecutive values, of any alignment
  /// \returns these values
  [[gnu::always_inline]] static pack load(T const* p) {
    return {*reinterpret_cast<unaligned_vector const*>(p)};
  }

  /// \param[in] p  W consecutive values, at a multiple of sizeof(pack)
  /// \returns these values
  [[gnu::always_inline]] static pack load_aligned(T const* p) {
    return {*reinterpret_cast<aligned_vector const*>(p)};
  }

  /// Writes the lanes.
  /// \param[out] p  W consecutive values, of any alignment
  [[gnu::always_inline]] void store(T* p) const { *reinterpret_cast<unaligned_vector*>(p) = lanes; }

  /// Writes the lanes.
  /// \param[out] p  W consecutive values, at a multiple of sizeof(pack)
  [[gnu::always_inline]] void store_aligned(T* p) const {
    *reinterpret_cast<aligned_vector*>(p) = lanes;
  }

  /// Sum, lane by lane.
  [[gnu::always_inline]] friend pack operator+(pack a, pack b) { return {a.lanes + b.lanes}; }
  /// Difference, lane by lane.
  [[gnu::always_inline]] friend pack operator-(pack a, pack b) { return {a.lanes - b.lanes}; }
  /// Product, lane by lane.
  [[gnu::always_inline]] friend pack operator*(pack a, pack b) { return {a.lanes * b.lanes}; }
  /// Quotient, lane by lane.
  [[gnu::always_inline]] friend pack operator/(pack a, pack b) { return {a.lanes / b.lanes}; }
  /// Opposite, lane by lane.
  [[gnu::always_inline]] friend pack operator-(pack a) { return {-a.lanes}; }

  /// Which lanes are less; a comparison with NaN is false.
  [[gnu::always_inline]] friend mask<T, W> operator<(pack a, pack b) {
    return {(typename mask<T, W>::vector)(a.lanes < b.lanes)};
  }
  /// Which lanes are at most as large; false with NaN.
  [[gnu::always_inline]] friend mask<T, W> operator<=(pack a, pack b) {
    return {(typename mask<T, W>::vector)(a.lanes <= b.lanes)};
  }
  /// Which lanes are greater; false with NaN.
  [[gnu::always_inline]] friend mask<T, W> operator>(pack a, pack b) { return b < a; }
  /// Which lanes are at least as large; false with NaN.
  [[gnu::always_inline]] friend mask<T, W> operator>=(pack a, pack b) { return b <= a; }
  /// Which lanes are equal; false with NaN.
  [[gnu::always_inline]] friend mask<T, W> operator==(pack a, pack b) {
    return {(typename mask<T, W>::vector)(a.lanes == b.lanes)};
  }
  /// Which lanes differ; true with NaN.
  [[gnu::always_inline]] friend mask<T, W> operator!=(pack a, pack b) { return !(a == b); }
};

/// \brief a where the mask is true, b elsewhere.
/// \ingroup simd
/// \param[in] m  which
/// \param[in] a  values where m is true
/// \param[in] b  values where m is false
/// \returns a mixture, bit by bit one of the two
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> select(mask<T, W> m, pack<T, W> a, pack<T, W> b) {
  return {m.lanes ? a.lanes : b.lanes};
}

/// Whether a lane is true.
/// \ingroup simd
/// \param[in] m  a mask
/// \returns true if at least one lane is
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline bool any(mask<T, W> m) {
  typename mask<T, W>::integer found[std::size_t{W}], bits = 0;
  std::memcpy(found, &m.lanes, sizeof found);
  for (auto lane : found) bits |= lane;
  return bits != 0;
}

/// Whether every lane is true.
/// \ingroup simd
/// \param[in] m  a mask
/// \returns true if no lane is false
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline bool all(mask<T, W> m) {
  return !any(!m);
}

/// \brief The smaller value of each lane; b where one of the two is NaN.
/// \ingroup simd
/// \param[in] a  a value
/// \param[in] b  another
/// \returns a where a < b, else b
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> min(pack<T, W> a, pack<T, W> b) {
  return select(a < b, a, b);
}

/// \brief The larger value of each lane; b where one of the two is NaN.
/// \ingroup simd
/// \param[in] a  a value
/// \param[in] b  another
/// \returns a where a > b, else b
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> max(pack<T, W> a, pack<T, W> b) {
  return select(a > b, a, b);
}

/// \brief Square root, lane by lane, rounded as std::sqrt rounds it; NaN below zero.
/// \ingroup simd
/// \param[in] a  values
/// \returns their roots
template <class T, std::ptrdiff_t W>
inline pack<T, W> sqrt(pack<T, W> a);

/// \brief 1 / sqrt(a), lane by lane, to two units in the last place for normal numbers.
/// \ingroup simd
///
/// Zero and infinity may give NaN. With AVX-512, float takes the estimate of 14 bits and one Newton
/// step, in half the time of a root and a quotient one after the other.
/// \param[in] a  values
/// \returns the reciprocals of their roots
template <class T, std::ptrdiff_t W>
inline pack<T, W> reciprocal_sqrt(pack<T, W> a);

/// \brief A real number is its own conjugate.
/// \ingroup simd
/// \param[in] a  values
/// \returns a
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> conjugate(pack<T, W> a) {
  return a;
}

/// \brief Absolute value, lane by lane.
/// \ingroup simd
/// \param[in] a  values
/// \returns their moduli; NaN stays
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> modulus(pack<T, W> a) {
  return select(a < pack<T, W>::broadcast(0), -a, a);
}

/// \brief A real number is its own real part.
/// \ingroup simd
/// \param[in] a  values
/// \returns a
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> real_part(pack<T, W> a) {
  return a;
}

/// \brief a b + c, lane by lane; one rounding where the instruction set has a fused multiply-add.
/// \ingroup simd
///
/// One expression, because compilers contract within an expression by default.
/// \param[in] a  first factor
/// \param[in] b  second factor
/// \param[in] c  summand
/// \returns the sum
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> multiply_add(pack<T, W> a, pack<T, W> b, pack<T, W> c) {
  return {a.lanes * b.lanes + c.lanes};
}

/// \brief c - a b, lane by lane; one rounding where the instruction set has a fused multiply-add.
/// \ingroup simd
/// \param[in] a  first factor
/// \param[in] b  second factor
/// \param[in] c  minuend
/// \returns the difference
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> subtract_product(pack<T, W> a, pack<T, W> b,
                                                          pack<T, W> c) {
  return {c.lanes - a.lanes * b.lanes};
}

/// \brief Keeps a loaded value in a register; the value is unchanged.
/// \ingroup simd
///
/// GCC otherwise repeats the load as a memory operand of every use, and the load ports, not the
/// multipliers, then bound the kernel.
/// \param[in,out] a  a value, unchanged
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline void keep_in_register([[maybe_unused]] pack<T, W>& a) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
  if constexpr (W <= native_width<T>) asm("" : "+v"(a.lanes));
#endif
}

/// \brief Sums the lanes of each of W packs: lane i of the result is the sum of v[i].
/// \ingroup simd
///
/// The tree of additions is fixed: the upper half onto the lower half, down to one lane. For all W
/// packs together it takes 2 W - 2 shuffles and W - 1 additions.
/// \param[in] v  W packs
/// \returns W sums
template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> sum_each(pack<T, W> const* v);

using stiefelx::unroll;

/// \brief First address at or after p where an aligned pack of T may be stored.
/// \ingroup simd
/// \param[in] p  start of a workspace
/// \returns an address in it
/// \par Cost
/// At most native_width - 1 elements of the workspace that p starts
template <class T>
inline T* align_to_register(T* p) {
  auto const past = reinterpret_cast<std::uintptr_t>(p) % std::uintptr_t{register_bytes};
  return past == 0 ? p : p + (std::uintptr_t{register_bytes} - past) / sizeof(T);
}

namespace detail {

// Cuts the 2 W lanes of a and b into segments of length S and adds the upper half of each segment
// to its lower half: the result holds the 2 W / S half segments in the order of the segments.
template <std::ptrdiff_t S, class T, std::ptrdiff_t W, int... L>
[[gnu::always_inline]] inline pack<T, W> fold_segments(pack<T, W> a, pack<T, W> b,
                                                       std::integer_sequence<int, L...>) {
  constexpr int segment = static_cast<int>(S);
  constexpr int half = segment / 2;
  return {__builtin_shufflevector(a.lanes, b.lanes, (L / half * segment + L % half)...) +
          __builtin_shufflevector(a.lanes, b.lanes, (L / half * segment + L % half + half)...)};
}

// Folds Count packs into one that holds W / Count partial sums of each.
template <std::ptrdiff_t Count, class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> sum_partly(pack<T, W> const* v) {
  constexpr std::make_integer_sequence<int, static_cast<int>(W)> lanes{};
  if constexpr (Count == 2) {
    return fold_segments<W>(v[0], v[1], lanes);
  } else {
    return fold_segments<2 * W / Count>(sum_partly<Count / 2>(v),
                                        sum_partly<Count / 2>(v + Count / 2), lanes);
  }
}

}  // namespace detail

template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> sqrt(pack<T, W> a) {
  // Loops over std::sqrt stay scalar, because they set errno.
  constexpr std::size_t bytes = std::size_t{W} * sizeof(T);
  constexpr bool is_float = sizeof(T) == 4;
  if constexpr (bytes > std::size_t{register_bytes}) {
    pack<T, W / 2> half[2];
    std::memcpy(half, &a, sizeof a);
    half[0] = sqrt(half[0]);
    half[1] = sqrt(half[1]);
    std::memcpy(&a, half, sizeof a);
    return a;
  }
#if defined(__AVX512F__)
  if constexpr (bytes == 64 && is_float)
    return {(typename pack<T, W>::vector)_mm512_maskz_sqrt_ps(0xffff, (__m512)a.lanes)};
  else if constexpr (bytes == 64)
    return {(typename pack<T, W>::vector)_mm512_maskz_sqrt_pd(0xff, (__m512d)a.lanes)};
#endif
#if defined(__AVX__)
  if constexpr (bytes == 32 && is_float)
    return {(typename pack<T, W>::vector)_mm256_sqrt_ps((__m256)a.lanes)};
  else if constexpr (bytes == 32)
    return {(typename pack<T, W>::vector)_mm256_sqrt_pd((__m256d)a.lanes)};
#endif
#if defined(__SSE2__)
  if constexpr (bytes == 16 && is_float)
    return {(typename pack<T, W>::vector)_mm_sqrt_ps((__m128)a.lanes)};
  else if constexpr (bytes == 16)
    return {(typename pack<T, W>::vector)_mm_sqrt_pd((__m128d)a.lanes)};
#elif defined(__aarch64__)
  if constexpr (bytes == 16 && is_float)
    return {(typename pack<T, W>::vector)vsqrtq_f32((float32x4_t)a.lanes)};
  else if constexpr (bytes == 16)
    return {(typename pack<T, W>::vector)vsqrtq_f64((float64x2_t)a.lanes)};
#endif
  for (std::ptrdiff_t i = 0; i < W; ++i) a.lanes[i] = std::sqrt(a.lanes[i]);
  return a;
}

template <class T, std::ptrdiff_t W>
[[gnu::always_inline]] inline pack<T, W> reciprocal_sqrt(pack<T, W> a) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4 && W == 16) {
    pack<T, W> const r = {
        (typename pack<T, W>::vector)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)a.lanes)};
    pack<T, W> const half = pack<T, W>::broadcast(T(0.5)) * r;
    pack<T, W> const error = subtract_product(a * r, r, pack<T, W>::broadcast(1));
    return multiply_add(half, error, r);
  }
#endif
  return pack<T, W>::broadcast(1) / sqrt(a);
}

template <class T, std::ptrdiff_t W>
inline pack<T, W> sum_each(pack<T, W> const* v) {
  return detail::sum_partly<W>(v);
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
