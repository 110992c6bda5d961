// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <utility>

namespace stiefelx::cuda {

/// \brief A value with a number, so that several of one type may be bases of one class.
/// \ingroup cuda
template <std::size_t K, class T>
struct numbered {
  T value;  ///< the value
};

/// \brief Values of several types, trivially copyable unlike a std::tuple.
/// \ingroup cuda
template <class Numbers, class... T>
struct numbered_list;

template <std::size_t... K, class... T>
struct numbered_list<std::index_sequence<K...>, T...> : numbered<K, T>... {};

}  // namespace stiefelx::cuda
