// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <Eigen/Core>

#include <stiefelx/host/context.hpp>

/// A user's sphere: the minimum that a manifold has, in plain functions that fix the scalar.
namespace by_ref {

using in = Eigen::Ref<Eigen::MatrixXd const> const&;
using out = Eigen::Ref<Eigen::MatrixXd>;
using stiefelx::host::context;

struct sphere {};

inline void project(context&, sphere, in x, in z, out v) { v = z - x.cwiseProduct(z).sum() * x; }

inline void retract(context&, sphere, in x, in v, out y) {
  y = x + v;
  y /= y.norm();
}

inline void inner(context&, sphere, in, in u, in v, out s) { s(0, 0) = u.cwiseProduct(v).sum(); }

}  // namespace by_ref
