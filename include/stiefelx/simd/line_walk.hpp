// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>

#include <stiefelx/simd/pack.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// \brief A walk over the cache lines of columns that are due next, beside other work.
/// \ingroup simd
///
/// Each step asks for a line or two, so that the lines of the next block of tokens arrive evenly while
/// this one is computed: asked for when they are needed, they would all come at once.
class line_walk {
 public:
  /// Nothing to fetch.
  line_walk() = default;
  /// \tparam T  scalar
  /// \param[in] first    first entry of the first column
  /// \param[in] rows     entries of a column
  /// \param[in] columns  number of columns
  /// \param[in] stride   distance of the columns
  /// \param[in] steps    how often step() is about to be called, roughly
  template <class T>
  line_walk(T const* first, std::ptrdiff_t rows, std::ptrdiff_t columns, std::ptrdiff_t stride,
            std::ptrdiff_t steps)
      : at_(reinterpret_cast<char const*>(first)),
        lines_((rows * std::ptrdiff_t{sizeof(T)} + line - 1) / line),
        columns_(lines_ > 0 ? columns : 0),
        skip_(stride * std::ptrdiff_t{sizeof(T)} - lines_ * line),
        left_(lines_),
        twice_(lines_ * columns > steps) {}

  /// Asks for what is due.
  [[gnu::always_inline]] void step() {
    if (columns_ == 0) return;
    fetch();
    if (twice_) fetch();
  }

 private:
  static constexpr std::ptrdiff_t line = 64;

  [[gnu::always_inline]] void fetch() {
    __builtin_prefetch(at_);
    at_ += line;
    if (--left_ > 0) return;
    at_ += skip_;
    left_ = lines_;
    columns_ -= columns_ > 0;
  }

  char const* at_ = nullptr;
  std::ptrdiff_t lines_ = 0, columns_ = 0, skip_ = 0, left_ = 0;
  bool twice_ = false;
};

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
