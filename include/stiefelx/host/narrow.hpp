// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <Eigen/Core>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/narrow.hpp>

/// \file
/// \brief Eigen matrices of two bytes an entry.
/// \ingroup host
///
/// They hold numbers: matrices, maps, references and blocks of them are inputs of copy(), dense(),
/// memory(), download() and of products, and outputs of copy(), fill() and upload(). Eigen's own
/// arithmetic on them is not provided, since every operation would have to say where it rounds.

namespace stiefelx::host::detail {

// What Eigen asks of an entry.
template <class S>
struct narrow_traits : Eigen::GenericNumTraits<S> {
  enum {
    IsInteger = 0,
    IsSigned = 1,
    IsComplex = 0,
    RequireInitialization = 0,
    ReadCost = 1,
    AddCost = 4,
    MulCost = 4
  };
};

}  // namespace stiefelx::host::detail

/// \cond
template <>
struct Eigen::NumTraits<stiefelx::bfloat16>
    : stiefelx::host::detail::narrow_traits<stiefelx::bfloat16> {};
template <>
struct Eigen::NumTraits<stiefelx::float16>
    : stiefelx::host::detail::narrow_traits<stiefelx::float16> {};
/// \endcond
