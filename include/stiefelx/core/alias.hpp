// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief Two arguments share memory where the function's page does not allow it.
/// \ingroup core
struct alias_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// \brief The bytes that a view covers: `runs` runs of `length` bytes, `stride` bytes apart.
/// \ingroup core
///
/// A column-major matrix has one run a column, a row-major one a run a row. An expression that
/// has no memory of its own has no runs.
struct memory_region {
  std::uintptr_t first = 0;  ///< address of the first byte
  index_t runs = 0;          ///< number of runs
  index_t length = 0;        ///< bytes of a run, from its first to its last entry
  index_t stride = 0;        ///< bytes from one run to the next
  bool by_rows = false;      ///< whether a run is a row
};

/// \brief Whether two regions share a byte.
/// \ingroup core
///
/// Exact for views of the same matrix (equal strides), so disjoint blocks of rows or columns are
/// told apart; for other views whose address ranges meet, the answer is yes.
/// \param[in] a  a region
/// \param[in] b  another
/// \returns true when they overlap
inline bool overlap(memory_region a, memory_region b) {
  if (a.runs <= 0 || b.runs <= 0 || a.length <= 0 || b.length <= 0) return false;
  if (b.first < a.first) std::swap(a, b);
  auto const distance = static_cast<index_t>(b.first - a.first);
  if (a.runs == 1 || a.stride <= 0) return distance < a.length;
  if (distance >= (a.runs - 1) * a.stride + a.length) return false;
  if (b.runs > 1 && b.stride != a.stride) return true;
  index_t const run = distance / a.stride;
  index_t const offset = distance % a.stride;
  bool const same_run = run < a.runs && offset < a.length;
  bool const next_run = run + 1 < a.runs && offset + b.length > a.stride;
  return same_run || next_run;
}

/// Whether two regions are the same bytes in the same order.
/// \ingroup core
/// \param[in] a  a region
/// \param[in] b  another
/// \returns true when every field agrees
inline bool same_region(memory_region a, memory_region b) {
  return a.first == b.first && a.runs == b.runs && a.length == b.length &&
         (a.runs <= 1 || (a.stride == b.stride && a.by_rows == b.by_rows));
}

namespace detail {

[[noreturn]] STIEFELX_COLD inline void throw_alias(char const* function, char const* output,
                                                   char const* input, char const* expected) {
  throw alias_error(std::string(function) + ": " + output + " overlaps " + input + ", expected " +
                    expected);
}

}  // namespace detail

/// \brief Throws when an output shares memory with an input.
/// \ingroup core
/// \param[in] ctx       where the matrices live; `memory(ctx, a)` reads no entry and never waits
/// \param[in] function  name of the public function, for the text
/// \param[in] output    name of the output
/// \param[in] y         the output
/// \param[in] input     name of the input
/// \param[in] x         the input; an expression without memory never overlaps
/// \throws alias_error  naming both
template <class Ctx, Matrix Y, Matrix X>
void expect_distinct(Ctx& ctx, char const* function, char const* output, Y const& y,
                     char const* input, X const& x) {
  if (overlap(memory(ctx, y), memory(ctx, x)))
    detail::throw_alias(function, output, input, "separate memory");
}

/// \brief Throws when an output overlaps an input without being the same matrix.
/// \ingroup core
/// \param[in] ctx       where the matrices live
/// \param[in] function  name of the public function, for the text
/// \param[in] output    name of the output
/// \param[in] y         the output
/// \param[in] input     name of the input
/// \param[in] x         the input
/// \throws alias_error  naming both
template <class Ctx, Matrix Y, Matrix X>
void expect_same_or_distinct(Ctx& ctx, char const* function, char const* output, Y const& y,
                             char const* input, X const& x) {
  memory_region const a = memory(ctx, y);
  memory_region const b = memory(ctx, x);
  if (overlap(a, b) && !same_region(a, b))
    detail::throw_alias(function, output, input, "the same matrix or separate memory");
}

}  // namespace stiefelx
