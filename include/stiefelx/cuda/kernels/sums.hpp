// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <cstddef>
#include <utility>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/kernels/block_sums.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>
#include <stiefelx/cuda/kernels/numbered.hpp>

/// \file
/// \brief Kernels that add up terms of all entries of one or two matrices.
/// \ingroup cuda
///
/// Terms are of the type in which they are added. Every sum has the order that follows from the
/// sizes and the alignment alone: lanes walk their packs, then a tree over the lanes, then over the
/// blocks.

namespace stiefelx::cuda {

/// The term of an inner product.
/// \ingroup cuda
template <class Sum>
struct product_term {
  /// \param[in] a  entry of one matrix
  /// \param[in] b  entry of the other
  /// \returns their product
  template <class T>
  STIEFELX_HD Sum operator()(T a, T b) const {
    return static_cast<Sum>(a) * static_cast<Sum>(b);
  }
};

/// The term of a sum of squares.
/// \ingroup cuda
template <class Sum>
struct square_term {
  /// \param[in] a  entry
  /// \returns its square
  template <class T>
  STIEFELX_HD Sum operator()(T a) const {
    return static_cast<Sum>(a) * static_cast<Sum>(a);
  }
};

/// The entry itself.
/// \ingroup cuda
template <class Sum>
struct entry_term {
  /// \param[in] a  entry
  /// \returns a
  template <class T>
  STIEFELX_HD Sum operator()(T a) const {
    return static_cast<Sum>(a);
  }
};

/// 0 for a number and NaN for what is none, so that a sum of them tells.
/// \ingroup cuda
struct defect_term {
  /// \param[in] a  entry
  /// \returns a - a
  template <class T>
  STIEFELX_HD T operator()(T a) const {
    return a - a;
  }
};

/// The total is the result.
/// \ingroup cuda
struct keep_total {
  /// \param[in] total  sum of the terms
  /// \returns the total
  template <class Sum>
  STIEFELX_HD Sum operator()(Sum total) const {
    return total;
  }
};

/// The root of the total is the result.
/// \ingroup cuda
struct root_of_total {
  /// \param[in] total  sum of squares
  /// \returns its root
  template <class Sum>
  STIEFELX_HD Sum operator()(Sum total) const {
    return std::sqrt(total);
  }
};

/// 1 for a total of zero, else 0.
/// \ingroup cuda
struct is_zero_total {
  /// \param[in] total  sum of the terms
  /// \returns 1 or 0
  template <class Sum>
  STIEFELX_HD Sum operator()(Sum total) const {
    return total == Sum(0) ? Sum(1) : Sum(0);
  }
};

/// \brief Terms of the entries of matrices that are at one place.
/// \ingroup cuda
template <class Term, class Inputs>
struct term_body;

/// \brief The case of operands X...
/// \ingroup cuda
template <class Term, std::size_t... J, class... X>
struct term_body<Term, numbered_list<std::index_sequence<J...>, entry_operand<X const>...>> {
  Term term;                                                                   ///< of one place
  numbered_list<std::index_sequence<J...>, entry_operand<X const>...> inputs;  ///< what it reads

  /// \brief Adds the terms of V places, in the order of the column.
  /// \tparam V          entries of a pack
  /// \param[in,out] sum  grows
  /// \param[in]     i    row of the first place
  /// \param[in]     j    column
  template <int V, class Sum>
  STIEFELX_HD void add(Sum& sum, index_t i, index_t j) const {
    numbered_list<std::index_sequence<J...>, entry_pack<X, V>...> const x{
        {static_cast<numbered<J, entry_operand<X const>> const&>(inputs).value.template load<V>(
            i, j)}...};
    for (int v = 0; v < V; ++v)
      sum += term(static_cast<numbered<J, entry_pack<X, V>> const&>(x).value.entry[v]...);
  }
};

/// \brief Kernel: the sum of the terms of all places; of each block's share if there are several.
/// \ingroup cuda
template <int V, class Sum, class Terms, class Finish, class T>
struct sum_entries {
  Terms terms;      ///< what is added
  Finish finish;    ///< from a block's total to what it writes
  T* results;       ///< one a block
  entry_walk walk;  ///< which packs a lane has

  /// What a lane does.
  STIEFELX_HD void operator()() const {
    Sum mine(0);
    walk.template each<V>([&](index_t i, index_t j, auto size) {
      terms.template add<decltype(size)::value>(mine, i, j);
    });
    Sum const total = block_total(mine, plus{});
    if (thread_rank() == 0)
      results[block_y() * index_t{grid_x()} + block_x()] = static_cast<T>(finish(total));
  }
};

}  // namespace stiefelx::cuda
