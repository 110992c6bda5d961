// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <stiefelx/core/context.hpp>

#include "examples/support/checkpoint.hpp"

namespace example {

/// \brief The entries of a matrix in the host's memory; waits.
/// \param[in] ctx  where the matrix lives
/// \param[in] m    any matrix
/// \returns its columns, one after the other
template <class Ctx, class M>
std::vector<stiefelx::scalar_t<M>> entries(Ctx& ctx, M const& m) {
  std::vector<stiefelx::scalar_t<M>> all(static_cast<std::size_t>(m.rows() * m.cols()));
  download(ctx, m, all.data());
  return all;
}

/// Puts a matrix into a checkpoint; waits.
/// \param[in]     ctx   where the matrix lives
/// \param[in]     m     any matrix
/// \param[in]     name  of the array
/// \param[in,out] out   the checkpoint
template <class Ctx, class M>
void save(Ctx& ctx, M const& m, std::string const& name, checkpoint_writer& out) {
  out.add(name, entries(ctx, m));
}

/// Takes a matrix from a checkpoint.
/// \param[in]  ctx   where the matrix lives
/// \param[in]  in    the checkpoint
/// \param[in]  name  of the array
/// \param[out] m     of the size that was saved
template <class Ctx, class M>
void load(Ctx& ctx, checkpoint_reader const& in, std::string const& name, M& m) {
  std::vector<stiefelx::scalar_t<M>> all(static_cast<std::size_t>(m.rows() * m.cols()));
  in.get(name, all);
  upload(ctx, all.data(), m);
}

}  // namespace example
