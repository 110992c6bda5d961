// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace support {

/// The bits of a signaling NaN. Arithmetic makes it quiet, so even adding zero to it shows.
template <class T>
using bits_t = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
inline constexpr bits_t<T> guard =
    (~bits_t<T>{0} >> 1) ^ (bits_t<T>{1} << (std::numeric_limits<T>::digits - 2));

/// An n x p matrix at an offset from aligned memory, with columns `stride` apart, and guard values
/// before it, after it and between its columns.
template <class T>
struct guarded {
  std::ptrdiff_t rows, cols, stride, offset;
  std::vector<T> memory;

  guarded(std::ptrdiff_t n, std::ptrdiff_t p, std::ptrdiff_t gap, std::ptrdiff_t shift)
      : rows(n),
        cols(p),
        stride(n + gap),
        offset(shift),
        memory(std::size_t(shift + p * (n + gap) + 40)) {
    for (T& value : memory) std::memcpy(&value, &guard<T>, sizeof(T));
  }

  T* data() { return memory.data() + offset; }
  T& operator()(std::ptrdiff_t i, std::ptrdiff_t j) {
    return memory[std::size_t(offset + j * stride + i)];
  }

  bool is_intact() const {
    for (std::ptrdiff_t k = 0; k < std::ptrdiff_t(memory.size()); ++k) {
      std::ptrdiff_t const at = k - offset;
      bool const inside = rows > 0 && at >= 0 && at / stride < cols && at % stride < rows;
      T const& value = memory[std::size_t(k)];
      if (!inside && std::memcmp(&value, &guard<T>, sizeof(T)) != 0) return false;
    }
    return true;
  }
};

/// Uniform entries, the same at every call.
template <class T>
void fill_random(guarded<T>& y) {
  std::mt19937 generator(20240607);
  std::uniform_real_distribution<T> uniform(-1, 1);
  for (std::ptrdiff_t j = 0; j < y.cols; ++j)
    for (std::ptrdiff_t i = 0; i < y.rows; ++i) y(i, j) = uniform(generator);
}

}  // namespace support
