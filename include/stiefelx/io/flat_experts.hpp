// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/shape.hpp>

namespace stiefelx {

/// \brief Order of the columns of a fused B, [d_out, E r].
/// \ingroup io
///
/// The rows of a fused A, [E r, d_in], are expert by expert in every known program: row e r + q. B is
/// not: files of both orders exist, have the same shapes, and nothing in them says which it is. Read
/// in the wrong order they give other experts without an error, so the order is always asked for.
enum class flat_layout {
  rank_major,    ///< column q E + e belongs to rank q of expert e: PEFT's own fused parameters
  expert_major,  ///< column e r + q belongs to rank q of expert e: some other trainers
};

/// \brief The name of a layout, as files say it.
/// \ingroup io
/// \param[in] layout  the layout
/// \returns rank_major or expert_major
inline std::string_view name_of(flat_layout layout) {
  return layout == flat_layout::rank_major ? "rank_major" : "expert_major";
}

/// \brief The entry of a safetensors file's metadata that says the layout of a module.
///
/// Files of this library have it; PEFT neither writes nor reads it.
/// \ingroup io
/// \param[in] module  the module's name
/// \returns `flat_layout:` and the name
inline std::string flat_layout_entry(std::string_view module) {
  return "flat_layout:" + std::string(module);
}

/// \brief Brings the rows of B^T from a file's order to a bank's, or back.
/// \ingroup io
///
/// Row q E + e becomes row e r + q, or the other way round.
/// \param[in]     count    E, divides the rows
/// \param[in]     to_bank  true from `rank_major` to the order of a bank, false for the way back
/// \param[in,out] up       (E r) x d_out
/// \throws shape_error  if E does not divide the rows
template <class T>
void reorder_flat_experts(index_t count, bool to_bank, matrix_ref<T> up) {
  if (count < 1 || up.rows % count != 0)
    detail::throw_shape("reorder_flat_experts", "up", up.rows, up.cols,
                        "rows that are a multiple of " + std::to_string(count));
  if (up.cols == 0) return;
  index_t const rank = up.rows / count;
  std::vector<T> column(static_cast<std::size_t>(up.rows));
  for (index_t j = 0; j < up.cols; ++j) {
    for (index_t e = 0; e < count; ++e)
      for (index_t q = 0; q < rank; ++q) {
        index_t const flat = q * count + e, bank = e * rank + q;
        column[static_cast<std::size_t>(to_bank ? bank : flat)] = up(to_bank ? flat : bank, j);
      }
    for (index_t i = 0; i < up.rows; ++i) up(i, j) = column[static_cast<std::size_t>(i)];
  }
}

}  // namespace stiefelx
