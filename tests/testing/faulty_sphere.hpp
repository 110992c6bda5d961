// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <sstream>
#include <string>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>

/// The unit sphere as a user would write it, each of its functions right or wrong by choice.
namespace faulty {

/// The sphere of n x p matrices of norm one, and what is wrong with it.
struct sphere {
  stiefelx::index_t n, p;
  double projection = 0;  ///< relative error of the removed component
  double shrink = 0;      ///< project() returns (1 - shrink) P z
  double metric = 0;      ///< inner() adds this times the product of two entries, not symmetric
  double weight = 0;      ///< inner() is (1 + weight) times the one that project() belongs to
  double order = 0;       ///< part of a tangential error of second order in retract()
  double inverse = 0;     ///< relative error of inverse_retract()
  double curvature = 0;   ///< relative error of the curvature term in riemannian_hessian()
  bool skewed = false;    ///< riemannian_hessian() is not symmetric
  bool clobbers = false;  ///< project() and retract() write their output before they read
  double bend = 0;        ///< project() adds this times |z|^2 to its result, not linear
};

template <class Ctx, class Y>
void normalize(Ctx& ctx, Y& y) {
  using Real = stiefelx::real_t<Y>;
  auto length = zeros<Real>(ctx, 1, 1);
  auto inverse = zeros<Real>(ctx, 1, 1);
  norm(ctx, y, length);
  transform(ctx, stiefelx::reciprocal_element{}, stiefelx::outputs(inverse),
            stiefelx::inputs(length));
  scale(ctx, inverse, y);
}

template <class Ctx, class X, class Z, class V>
void project(Ctx& ctx, sphere m, X const& x, Z const& z, V&& v) {
  if (m.clobbers) fill(ctx, 0, v);
  auto along = zeros<stiefelx::real_t<X>>(ctx, 1, 1);
  auto squared = zeros<stiefelx::real_t<X>>(ctx, 1, 1);
  inner(ctx, x, z, along);
  inner(ctx, z, z, squared);
  scale(ctx, -(1 - m.projection), along);
  copy(ctx, z, v);
  axpy(ctx, along, x, v);
  scale(ctx, 1 - m.shrink, v);
  if (m.bend == 0) return;
  scale(ctx, m.bend, squared);
  auto const linear = clone(ctx, v);
  axpy(ctx, squared, linear, v);
}

template <class Ctx, class X, class V, class Y>
void retract(Ctx& ctx, sphere m, X const& x, V const& v, Y&& y) {
  if (m.clobbers) fill(ctx, 0, y);
  auto moved = clone(ctx, x);
  axpy(ctx, 1, v, moved);
  if (m.order != 0) {
    // |v|^2 times a fixed tangent direction: the derivative stays right, the acceleration does not.
    auto squared = zeros<stiefelx::real_t<X>>(ctx, 1, 1);
    inner(ctx, v, v, squared);
    scale(ctx, m.order, squared);
    auto aside = clone(ctx, x);
    fill(ctx, 1, aside);
    project(ctx, sphere{m.n, m.p}, x, aside, aside);
    axpy(ctx, squared, aside, moved);
  }
  normalize(ctx, moved);
  copy(ctx, moved, y);
}

template <class Ctx, class X, class U, class V, class S>
void inner(Ctx& ctx, sphere m, X const&, U const& u, V const& v, S&& s) {
  inner(ctx, u, v, s);
  scale(ctx, 1 + m.weight, s);
  if (m.metric != 0) {
    auto other = zeros<stiefelx::real_t<X>>(ctx, 1, 1);
    inner(ctx, u.middleRows(0, 1).middleCols(0, 1), v.middleRows(1, 1).middleCols(0, 1), other);
    axpy(ctx, m.metric, other, s);
  }
}

// v = y / <x, y> - x, the inverse of retract().
template <class Ctx, class X, class Y, class V>
void inverse_retract(Ctx& ctx, sphere m, X const& x, Y const& y, V&& v) {
  using Real = stiefelx::real_t<X>;
  auto along = zeros<Real>(ctx, 1, 1);
  auto inverse = zeros<Real>(ctx, 1, 1);
  inner(ctx, x, y, along);
  transform(ctx, stiefelx::reciprocal_element{}, stiefelx::outputs(inverse),
            stiefelx::inputs(along));
  copy(ctx, y, v);
  scale(ctx, inverse, v);
  axpy(ctx, -1, x, v);
  scale(ctx, 1 + m.inverse, v);
}

// P (h - <x, g> v).
template <class Ctx, class X, class G, class H, class V, class W>
void riemannian_hessian(Ctx& ctx, sphere m, X const& x, G const& g, H const& h, V const& v, W&& w) {
  auto normal = zeros<stiefelx::real_t<X>>(ctx, 1, 1);
  inner(ctx, x, g, normal);
  scale(ctx, -(1 + m.curvature), normal);
  auto sum = clone(ctx, h);
  axpy(ctx, normal, v, sum);
  if (m.skewed) axpy(ctx, 1, v.middleRows(0, 1), sum.middleRows(1, 1));
  project(ctx, sphere{m.n, m.p}, x, sum, w);
}

template <class Report>
std::string text(Report const& found) {
  std::ostringstream out;
  out << found;
  return out.str();
}

inline bool has(std::string const& all, char const* part) {
  return all.find(part) != std::string::npos;
}

}  // namespace faulty
