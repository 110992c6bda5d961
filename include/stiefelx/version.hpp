// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
/// \file
/// \brief The version of the library.
#pragma once

namespace stiefelx {

/// \addtogroup core
/// @{

/// Grows when a program that compiled may no longer compile or may mean something else.
inline constexpr int version_major = 0;

/// Grows when something is added; while version_major is 0, also on a break.
inline constexpr int version_minor = 1;

/// Grows when behaviour is corrected.
inline constexpr int version_patch = 0;

/// @}

}  // namespace stiefelx
