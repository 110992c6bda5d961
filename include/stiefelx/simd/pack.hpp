// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <stiefelx/core/host_device.hpp>

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
};

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

/// \brief Calls f(0), ..., f(N - 1) with the indices as constants of the type.
/// \ingroup simd
///
/// An array that is indexed only by such constants stays in registers. One that a loop indexes does
/// so only if the optimizer happens to unroll that loop early. Give f the attribute always_inline:
/// a call that is not inlined puts the array back into memory.
/// \tparam N  number of calls
/// \param[in] f  callable with std::integral_constant of std::ptrdiff_t
template <std::ptrdiff_t N, class Function>
[[gnu::always_inline]] inline void unroll(Function f);

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

template <class Function, std::ptrdiff_t... I>
[[gnu::always_inline]] inline void call_each(Function& f,
                                             std::integer_sequence<std::ptrdiff_t, I...>) {
  (f(std::integral_constant<std::ptrdiff_t, I>{}), ...);
}

}  // namespace detail

template <class T, std::ptrdiff_t W>
inline pack<T, W> sum_each(pack<T, W> const* v) {
  return detail::sum_partly<W>(v);
}

template <std::ptrdiff_t N, class Function>
inline void unroll(Function f) {
  detail::call_each(f, std::make_integer_sequence<std::ptrdiff_t, N>{});
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
