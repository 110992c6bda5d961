// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/fetching_team.hpp>
#include <stiefelx/simd/interleave.hpp>
#include <stiefelx/team/each_item.hpp>

/// \file
/// \brief Team text over stacks of small matrices, one matrix a SIMD lane.
/// \ingroup host

namespace stiefelx::host {

namespace detail {

// All scalars are float, or all are double: what packs hold.
template <class First, class... Others>
inline constexpr bool has_lanes =
    std::is_floating_point_v<scalar_t<First>> && SameScalar<First, Others...>;

// Scratch entries of a body that needs no object to know them.
template <class Body>
constexpr index_t fixed_entries() {
  if constexpr (requires { std::integral_constant<index_t, Body{}.scratch_entries()>{}; } &&
                Body::has_fixed_shape)
    return Body{}.scratch_entries();
  else
    return -1;
}

// Scratch of at most this many bytes lies on the stack when its size is known at compile time.
inline constexpr index_t stack_scratch = 256 * 1024;

// Items first, ..., first + items - 1 of a stack of `count` matrices.
template <index_t W, class T>
simd::item_group<T, W> group_of(matrix_ref<T> a, index_t count, index_t first, index_t items) {
  index_t const step = a.cols / count * a.stride;
  return {a.data + first * step, a.stride, step, items};
}

}  // namespace detail

/// \brief Runs team text for every item of some stacks, native_width items side by side in packs.
/// \ingroup host
///
/// The entries of a group of items are brought into lane order, the text runs once with packs for
/// scalars, and the result is brought back. The last group may be short: its empty lanes repeat an
/// item. So every item goes through the same operations in the same order, and its result depends
/// neither on its place in the stack nor on the number of threads. Complex and mixed scalars run
/// item by item.
/// \param[in]     ctx       threads and arena
/// \param[in]     count     number of items
/// \param[in]     body      text for one item
/// \param[in,out] matrices  stacks
template <class Body, class... M>
  requires(EigenMatrix<M> && ...)
void run_batch(context& ctx, index_t count, each_item<Body> const& body, M&&... matrices) {
  if constexpr (!detail::has_lanes<M...>) {
    run_batch<each_item<Body>, M...>(ctx, count, body, std::forward<M>(matrices)...);
  } else {
    using Real = std::tuple_element_t<0, std::tuple<scalar_t<M>...>>;
    constexpr index_t w = simd::native_width<Real>;
    using Pack = simd::pack<Real, w>;
    constexpr index_t fixed = detail::fixed_entries<Body>();
    constexpr index_t doubles_a_pack = index_t{sizeof(Pack)} / index_t{sizeof(double)};

    std::tuple<detail::batch_argument<std::remove_reference_t<M>>...> arguments(
        detail::batch_argument<std::remove_reference_t<M>>(ctx, matrices)...);
    index_t const groups = (count + w - 1) / w;
    // Enough groups a task that taking one costs little beside its work.
    index_t const per_task = std::max<index_t>(1, std::min<index_t>(64, groups / 16));
    index_t const tasks = (groups + per_task - 1) / per_task;
    using Team = detail::fetching_team<sizeof...(M)>;
    auto const run_group = [&](Team& team, Pack* own, auto... group) {
      team.expect({detail::range_behind(group)...});
      body.item_body(std::as_const(team), own, group...);
    };
    auto const run_tasks = [&](auto const& scratch_of) {
      std::apply(
          [&](auto&... argument) {
            ctx.workers.for_each_index(tasks, [&](index_t task, int worker) {
              scratch_of(worker, [&](Pack* own) {
                index_t const end = std::min(count, (task + 1) * per_task * w);
                Team team;
                for (index_t first = task * per_task * w; first < end; first += w)
                  run_group(team, own,
                            detail::group_of<w>(argument.ref(), count, first,
                                                std::min(w, count - first))...);
              });
            });
            (argument.put_back(), ...);
          },
          arguments);
    };
    if constexpr (fixed >= 0 && fixed * index_t{sizeof(Pack)} <= detail::stack_scratch) {
      run_tasks([](int, auto const& run) {
        Pack own[std::size_t{fixed > 0 ? fixed : 1}];
        run(own);
      });
    } else {
      // A line between the workers' scratch keeps threads from sharing one.
      index_t const room = body.item_body.scratch_entries() * doubles_a_pack + 8;
      auto memory = scratch<double>(ctx, room, std::min<index_t>(ctx.workers.size(), tasks));
      run_tasks([&](int worker, auto const& run) {
        run(reinterpret_cast<Pack*>(memory.data() + worker * room));
      });
    }
  }
}

}  // namespace stiefelx::host
