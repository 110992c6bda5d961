// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>

/// \file
/// \brief Checks of shapes and overlap that the functions of every matrix manifold start with, and
/// the repair that some end with.
/// \ingroup manifolds
///
/// `expect_point(function, argument, m, x)` is found beside each manifold.

namespace stiefelx::detail {

// A map from the space around, or from a tangent space, to the tangent space at x.
template <class Ctx, class M, class X, class Z, class V>
void expect_tangent_map(Ctx& ctx, char const* function, M const& m, X const& x, char const* input,
                        Z const& z, char const* output, V const& v) {
  expect_point(function, "x", m, x);
  expect_shape(function, input, z, x.rows(), x.cols());
  expect_shape(function, output, v, x.rows(), x.cols());
  expect_distinct(ctx, function, output, v, "x", x);
  expect_same_or_distinct(ctx, function, output, v, input, z);
}

// A tangent vector w at x from the Euclidean derivatives g and h along v.
template <class Ctx, class M, class X, class G, class H, class V, class W>
void expect_hessian(Ctx& ctx, M const& m, X const& x, G const& g, H const& h, V const& v,
                    W const& w) {
  expect_tangent_map(ctx, "riemannian_hessian", m, x, "h", h, "w", w);
  expect_shape("riemannian_hessian", "g", g, x.rows(), x.cols());
  expect_shape("riemannian_hessian", "v", v, x.rows(), x.cols());
  expect_distinct(ctx, "riemannian_hessian", "w", w, "g", g);
  expect_distinct(ctx, "riemannian_hessian", "w", w, "v", v);
}

// A step from x along v to y.
template <class Ctx, class M, class X, class V, class Y>
void expect_step(Ctx& ctx, char const* function, M const& m, X const& x, V const& v, Y const& y) {
  expect_point(function, "x", m, x);
  expect_shape(function, "v", v, x.rows(), x.cols());
  expect_shape(function, "y", y, x.rows(), x.cols());
  expect_same_or_distinct(ctx, function, "y", y, "x", x);
  expect_distinct(ctx, function, "y", y, "v", v);
}

// The tangent vector v that leads from x to y.
template <class Ctx, class M, class X, class Y, class V>
void expect_inverse_step(Ctx& ctx, char const* function, M const& m, X const& x, Y const& y,
                         V const& v) {
  expect_point(function, "x", m, x);
  expect_shape(function, "y", y, x.rows(), x.cols());
  expect_shape(function, "v", v, x.rows(), x.cols());
  expect_distinct(ctx, function, "v", v, "x", x);
  expect_distinct(ctx, function, "v", v, "y", y);
}

// A tangent vector v at x carried to w at y.
template <class Ctx, class M, class X, class Y, class V, class W>
void expect_transport(Ctx& ctx, M const& m, X const& x, Y const& y, V const& v, W const& w) {
  expect_point("transport", "x", m, x);
  expect_shape("transport", "y", y, x.rows(), x.cols());
  expect_shape("transport", "v", v, x.rows(), x.cols());
  expect_shape("transport", "w", w, x.rows(), x.cols());
  expect_distinct(ctx, "transport", "w", w, "y", y);
  expect_same_or_distinct(ctx, "transport", "w", w, "v", v);
}

// The same along the step d.
template <class Ctx, class M, class X, class D, class Y, class V, class W>
void expect_transport_along(Ctx& ctx, M const& m, X const& x, D const& d, Y const& y, V const& v,
                            W const& w) {
  expect_tangent_map(ctx, "transport_along", m, x, "v", v, "w", w);
  expect_shape("transport_along", "d", d, x.rows(), x.cols());
  expect_shape("transport_along", "y", y, x.rows(), x.cols());
  expect_distinct(ctx, "transport_along", "w", w, "d", d);
}

// A number s of two tangent vectors at x.
template <class M, class X, class U, class V, class S>
void expect_pairing(char const* function, M const& m, X const& x, U const& u, V const& v,
                    S const& s) {
  expect_point(function, "x", m, x);
  expect_shape(function, "u", u, x.rows(), x.cols());
  expect_shape(function, "v", v, x.rows(), x.cols());
  expect_shape(function, "s", s, 1, 1);
}

// A number s of one matrix v at x.
template <class M, class X, class V, class S>
void expect_number(char const* function, M const& m, X const& x, char const* argument, V const& v,
                   S const& s) {
  expect_point(function, "x", m, x);
  expect_shape(function, argument, v, x.rows(), x.cols());
  expect_shape(function, "s", s, 1, 1);
}

// The point x nearest to z.
template <class Ctx, class M, class Z, class X>
void expect_nearest(Ctx& ctx, M const& m, Z const& z, X const& x) {
  expect_point("nearest_point", "z", m, z);
  expect_shape("nearest_point", "x", x, z.rows(), z.cols());
  expect_same_or_distinct(ctx, "nearest_point", "x", x, "z", z);
}

// A random tangent vector v at x.
template <class Ctx, class M, class X, class V>
void expect_random_tangent(Ctx& ctx, M const& m, X const& x, V const& v) {
  expect_point("random_tangent", "x", m, x);
  expect_shape("random_tangent", "v", v, x.rows(), x.cols());
  expect_distinct(ctx, "random_tangent", "v", v, "x", x);
}

// y = t (3 I - t^H t) / 2: the orthonormal matrix next to t, but for the square of its distance.
template <class Ctx, class T, class Y>
void newton_schulz_repair(Ctx& ctx, T const& t, Y&& y) {
  auto const g = gram(ctx, t);
  auto s = clone(ctx, g);
  set_identity(ctx, s);
  scale(ctx, 1.5, s);
  axpy(ctx, -0.5, g, s);
  multiply(ctx, t, s, y);
}

}  // namespace stiefelx::detail
