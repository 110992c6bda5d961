// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <Eigen/Core>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/routed.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>

namespace support {

/// The device, for tests that are typed on a backend.
struct device_backend {
  using context = stiefelx::cuda::context;
  template <class S>
  using matrix = stiefelx::cuda::matrix<S>;

  /// An owning matrix on the device with a's entries.
  template <class A>
  static matrix<typename A::Scalar> upload(context& ctx, Eigen::MatrixBase<A> const& a) {
    using S = typename A::Scalar;
    Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic> const source = a;
    auto made = zeros<S>(ctx, source.rows(), source.cols());
    stiefelx::cuda::upload(ctx, source.data(), made);
    return made;
  }

  /// The entries of a matrix, view or adjoint of the device.
  template <class A>
  static Eigen::Matrix<stiefelx::scalar_t<A>, Eigen::Dynamic, Eigen::Dynamic> download(context& ctx,
                                                                                       A const& a) {
    Eigen::Matrix<stiefelx::scalar_t<A>, Eigen::Dynamic, Eigen::Dynamic> target(a.rows(), a.cols());
    stiefelx::cuda::download(ctx, a, target.data());
    return target;
  }
};

}  // namespace support
