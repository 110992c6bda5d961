// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/cuda/transfer.hpp>
#include <support/backends.hpp>

/// Matrices of the tests to the device and back, for tests that name the device themselves.
namespace support {

/// An owning matrix on the device with a's entries.
template <class S>
stiefelx::cuda::matrix<S> on_device(stiefelx::cuda::context& ctx, matrix_x<S> const& a) {
  auto made = zeros<S>(ctx, a.rows(), a.cols());
  upload(ctx, a.data(), made);
  return made;
}

/// The entries of a matrix, view or adjoint of the device; waits.
template <class A>
matrix_x<stiefelx::scalar_t<A>> on_host(stiefelx::cuda::context& ctx, A const& a) {
  matrix_x<stiefelx::scalar_t<A>> found(a.rows(), a.cols());
  download(ctx, a, found.data());
  return found;
}

}  // namespace support
