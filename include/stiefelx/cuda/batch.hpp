// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/cuda/block_team.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/lane.hpp>
#include <stiefelx/cuda/matrix.hpp>

/// \file
/// \brief Team text on the device: one block a team.
/// \ingroup cuda

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
  auto const work_size = static_cast<index_t>(body.scratch_size());
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
/// each writes only what belongs to it. The number of lanes follows from the entries an item has in
/// the largest matrix, so the same shapes give the same bits.
/// \param[in]     ctx       where to run; work is queued, nothing waits
/// \param[in]     count     number of items
/// \param[in]     body      team text, trivially copyable
/// \param[in,out] matrices  what it reads and writes; const ones arrive as `matrix_ref<T const>`
/// \par Cost
/// One launch. Work memory up to 40 KiB a team is shared memory, more comes from the context's.
template <class Body, DevicePlain... M>
void run_batch(context& ctx, index_t count, Body const& body, M&&... matrices) {
  if (count <= 0) return;
  index_t entries = 0;
  ((entries = std::max(entries, matrices.rows() * matrices.cols())), ...);
  detail::run_teams(ctx, count, detail::team_lanes(entries / count), body, ref(matrices)...);
}

}  // namespace stiefelx::cuda
