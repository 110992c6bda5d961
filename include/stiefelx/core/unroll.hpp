// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <stiefelx/core/host_device.hpp>

namespace stiefelx {

namespace detail {

template <class Function, std::ptrdiff_t... I>
[[gnu::always_inline]] STIEFELX_HD inline void call_each(
    Function& f, std::integer_sequence<std::ptrdiff_t, I...>) {
  (f(std::integral_constant<std::ptrdiff_t, I>{}), ...);
}

}  // namespace detail

/// \brief Calls f(0), ..., f(N - 1) with indices that are constants.
/// \ingroup core
///
/// An array that is indexed only by such constants stays in registers. One that a loop indexes does
/// so only if the optimizer happens to unroll that loop early. Give f the attribute always_inline:
/// a call that is not inlined puts the array back into memory.
///
/// An f that takes `std::ptrdiff_t` is instantiated once and gets its constants as it is inlined. One
/// that takes `auto` is instantiated N times, and so is what it calls: a choice for an index that has
/// to be a constant of the type.
/// \tparam N  number of calls
/// \param[in] f  callable with std::integral_constant of std::ptrdiff_t
template <std::ptrdiff_t N, class Function>
[[gnu::always_inline]] STIEFELX_HD inline void unroll(Function f) {
  detail::call_each(f, std::make_integer_sequence<std::ptrdiff_t, N>{});
}

}  // namespace stiefelx
