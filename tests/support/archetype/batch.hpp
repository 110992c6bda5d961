// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <type_traits>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/team/team.hpp>

#include "arguments.hpp"
#include "elementwise.hpp"
#include "matrix.hpp"

namespace archetype {

namespace detail {

template <class A>
[[nodiscard]] auto reference(A& a) {
  using S = scalar_t<A>;
  using Entry = std::conditional_t<is_output<A&>, S, S const>;
  auto const& area = access::area(a);
  return stiefelx::matrix_ref<Entry>{area.memory->address(area.row, area.col), area.rows, area.cols,
                                     area.memory->stride()};
}

}  // namespace detail

/// What run_batch() passes to a body: any matrix but an adjoint.
template <class A>
concept Batched = Input<A> && !detail::is_adjoint<std::remove_cvref_t<A>>;

/// \brief body(team, item, work, a, ...) for every item, from the last to the first.
///
/// No order of items is promised, and nothing of the work memory lives from one to the next: it
/// holds NaN when an item starts. A body that leaves its work memory or its matrices writes into
/// a gap, which ends the program.
template <class Body, Batched... A>
void run_batch(context& ctx, index_t count, Body const& body, A&&... a) {
  auto work = scratch<double>(ctx, static_cast<index_t>(body.scratch_size()), 1);
  double* const first = access::area(work).memory->address(0, 0);
  for (index_t item = count; item-- > 0;) {
    std::fill_n(first, work.rows(), unwritten<double>());
    body(stiefelx::serial_team{}, item, first, detail::reference(a)...);
    ctx.check();
  }
}

}  // namespace archetype
