// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/block_team.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/lane.hpp>
#include <stiefelx/cuda/matrix.hpp>
#include <stiefelx/team/each_item.hpp>

/// \file
/// \brief Team text on the device: one block a team.
/// \ingroup cuda

namespace stiefelx {

/// A block is a team.
/// \ingroup cuda
template <>
inline constexpr bool has_team_an_item<cuda::context> = true;

}  // namespace stiefelx

namespace stiefelx::cuda {

namespace detail {

// The references that a body gets, in a kernel's arguments; std::tuple is not trivially copyable.
template <class... Ref>
struct reference_list {
  template <class F, class... Before>
  STIEFELX_HD void apply(F const& f, Before const&... before) const {
    f(before...);
  }
};

template <class First, class... Rest>
struct reference_list<First, Rest...> {
  First first;
  reference_list<Rest...> rest;

  template <class F, class... Before>
  STIEFELX_HD void apply(F const& f, Before const&... before) const {
    rest.apply(f, before..., first);
  }
};

inline reference_list<> list_of() { return {}; }

template <class First, class... Rest>
auto list_of(First const& first, Rest const&... rest) {
  return reference_list<First, Rest...>{first, list_of(rest...)};
}

// Calls a body for an item; a functor, since a kernel needs no lambda.
template <class Body>
struct item_call {
  Body const& body;
  block_team const& team;
  index_t item;
  double* work;

  template <class... Ref>
  STIEFELX_HD void operator()(Ref const&... refs) const {
    body(team, item, work, refs...);
  }
};

template <class Body, class... Ref>
struct batch_kernel {
  Body body;
  index_t count;
  double* pool;  // work memory of each block, or null: then it is shared memory
  index_t work_size;
  reference_list<Ref...> references;

  STIEFELX_HD void operator()() const {
    auto* const shared = static_cast<unsigned char*>(shared_memory());
    block_team const team(shared);
    double* const work =
        pool != nullptr
            ? pool + static_cast<index_t>(block_x()) * work_size
            : reinterpret_cast<double*>(shared + block_team::shared_bytes(block_threads()));
    for (index_t item = static_cast<index_t>(block_x()); item < count;
         item += static_cast<index_t>(grid_x())) {
      references.apply(item_call<Body>{body, team, item, work});
      // The next item writes the work memory that slower lanes may still read.
      team.barrier();
    }
  }
};

// Work memory of a team up to this size is shared memory: five blocks of it fit a multiprocessor.
inline constexpr std::size_t most_shared_work = 40 * 1024;
// Work memory of all teams together, unless one team a multiprocessor needs more.
inline constexpr std::size_t most_pool_bytes = std::size_t{64} * 1024 * 1024;
// Lanes that a multiprocessor runs at once, on every device from sm_75 to sm_120 at least half.
inline constexpr unsigned resident_lanes = 2048;
inline constexpr unsigned most_resident_blocks = 32;

// Lanes of a team whose item has so many entries: about sixteen entries a lane.
constexpr unsigned team_lanes(index_t entries) {
  if (entries <= 512) return 32;
  if (entries <= 2048) return 64;
  return entries <= 8192 ? 128 : 256;
}

// Entries that an item has of a matrix, or 0 where there are fewer columns than items.
constexpr index_t entries_of_item(index_t rows, index_t cols, index_t count) {
  return cols >= count ? rows * cols / count : 0;
}

// Entries of an item in the largest matrix that items have columns of. One with fewer columns is read
// by all, whatever its size; where there are no others, items share it.
template <class Body, class... M>
index_t item_entries(Body const& body, index_t count, M const&... matrices) {
  if constexpr (requires { body.item_entries(); }) {
    return static_cast<index_t>(body.item_entries());
  } else {
    index_t own = 0, whole = 0;
    ((own = std::max(own, entries_of_item(matrices.rows(), matrices.cols(), count)),
      whole = std::max(whole, matrices.rows() * matrices.cols())),
     ...);
    return own > 0 ? own : whole / count;
  }
}

// Doubles of work memory a team; less where a body says what it needs for one scalar.
template <class Body>
index_t work_of(Body const& body) {
  return static_cast<index_t>(body.scratch_size());
}

template <class Body, class First, class... Rest>
index_t work_of(Body const& body, First const&, Rest const&...) {
  using S = std::remove_const_t<std::remove_pointer_t<decltype(First::data)>>;
  if constexpr (requires { body.template scratch_size_of<S>(); })
    return static_cast<index_t>(body.template scratch_size_of<S>());
  else
    return static_cast<index_t>(body.scratch_size());
}

// Blocks that are in flight together; each takes every so-many-th item.
inline unsigned resident_blocks(context const& ctx, index_t count, unsigned lanes,
                                std::size_t pool_bytes_a_block) {
  auto const processors = static_cast<index_t>(ctx.multiprocessors);
  index_t blocks = processors * std::min(resident_lanes / lanes, most_resident_blocks);
  if (pool_bytes_a_block > 0)
    blocks = std::min(
        blocks, std::max(processors, static_cast<index_t>(most_pool_bytes / pool_bytes_a_block)));
  return static_cast<unsigned>(std::min(count, blocks));
}

// Runs a body with a given number of lanes.
template <class Body, class... Ref>
void run_teams(context& ctx, index_t count, unsigned lanes, Body const& body, Ref const&... refs) {
  if (count <= 0) return;
  index_t const work_size = work_of(body, refs...);
  std::size_t const work_bytes = static_cast<std::size_t>(work_size) * sizeof(double);
  std::size_t const exchange = block_team::shared_bytes(lanes);
  using Kernel = batch_kernel<Body, Ref...>;
  Kernel const kernel{body, count, nullptr, work_size, list_of(refs...)};
  if (work_bytes <= most_shared_work) {
    unsigned const blocks = resident_blocks(ctx, count, lanes, 0);
    launch(ctx.queue, {blocks, 1, lanes, exchange + work_bytes}, kernel);
    return;
  }
  unsigned const blocks = resident_blocks(ctx, count, lanes, work_bytes);
  arena_block<double> const pool(ctx.memory, blocks * static_cast<std::size_t>(work_size));
  Kernel pooled = kernel;
  pooled.pool = pool.data();
  launch(ctx.queue, {blocks, 1, lanes, exchange}, pooled);
}

}  // namespace detail

/// \brief Runs a team body once an item, one block a team.
/// \ingroup cuda
///
/// `body(team, item, work, a, b, ...)` gets a `matrix_ref` of each matrix and `body.scratch_size()`
/// doubles of its own, which hold nothing of another item. Items run in any order and at once, so
/// each writes only what belongs to it. The number of lanes follows from the entries that an item
/// has: `body.item_entries()` where the body says so, else those of the largest matrix that has a
/// column for each item. So the same shapes give the same bits. A body that has
/// `scratch_size_of<S>()` gets so many doubles for matrices of S.
/// \param[in]     ctx       where to run; work is queued, nothing waits
/// \param[in]     count     number of items
/// \param[in]     body      team text, trivially copyable
/// \param[in,out] matrices  what it reads and writes; const ones arrive as `matrix_ref<T const>`
/// \par Cost
/// One launch. Work memory up to 40 KiB a team is shared memory, more comes from the context's.
template <class Body, DevicePlain... M>
void run_batch(context& ctx, index_t count, Body const& body, M&&... matrices) {
  if (count <= 0) return;
  detail::run_teams(ctx, count, detail::team_lanes(detail::item_entries(body, count, matrices...)),
                    body, ref(matrices)...);
}

}  // namespace stiefelx::cuda
