// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <ostream>
#include <vector>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/testing/check_retraction.hpp>
#include <stiefelx/testing/check_transport.hpp>
#include <stiefelx/testing/law.hpp>

namespace stiefelx {

/// \brief What check_manifold() found; `out << report` prints it.
/// \ingroup testing
struct manifold_report {
  std::vector<law> laws;         ///< of project(), inner() and the gradient
  retraction_report retraction;  ///< of retract(), along a random tangent vector
  transport_report transport;    ///< of transport(), or of the projection that stands in for it
  bool passed = false;           ///< all of them passed
};

/// \brief Prints the laws of a manifold, each with what was found.
/// \ingroup testing
/// \param[in,out] out    stream
/// \param[in]     found  from check_manifold()
/// \returns out
inline std::ostream& operator<<(std::ostream& out, manifold_report const& found) {
  for (law const& each : found.laws) out << each;
  return out << found.retraction << found.transport;
}

/// \brief Checks the minimum interface of a manifold, and what is deduced from it, at one point.
/// \ingroup testing
///
/// The projection is idempotent and linear. The metric is symmetric, bilinear and positive. The
/// Riemannian gradient v of a linear cost with Euclidean gradient g has \f$ \langle v, u \rangle_x =
/// \mathrm{Re\,tr}(g^H u) \f$ for every tangent u, which ties the metric to the projection: where
/// the manifold has no riemannian_gradient(), an orthogonal projection and the metric of the space
/// around pass. Projection and retraction give the same result in place. The retraction passes
/// check_retraction(), the transport check_transport().
///
/// \param[in]     ctx     where to run; waits
/// \param[in]     m       a manifold; project(), retract() and inner() are found by its namespace
/// \param[in]     x       a point
/// \param[in,out] stream  advanced by three draws
/// \returns what was found
/// \par Cost
/// About 200 retractions in double, 100 in float.
template <class Ctx, class M, Matrix X>
manifold_report check_manifold(Ctx& ctx, M const& m, X const& x, random_stream& stream) {
  using Real = real_t<X>;
  measure<Ctx, Real> read(ctx, x.rows() * x.cols());
  auto point = zeros_like(ctx, x);
  copy(ctx, x, point);
  auto ambient = zeros_like(ctx, x), u = zeros_like(ctx, x), v = zeros_like(ctx, x),
       d = zeros_like(ctx, x), w = zeros_like(ctx, x);
  fill_normal(ctx, stream, 1, ambient);
  project(ctx, m, point, ambient, u);
  fill_normal(ctx, stream, 1, w);
  project(ctx, m, point, w, d);
  double const size = read.length(ambient) + read.length(w);

  manifold_report found;
  auto const holds = [&](char const* text, double error, double magnitude) {
    found.laws.push_back({text, error, read.rounding(magnitude)});
  };
  project(ctx, m, point, u, v);
  holds("P P z = P z", read.distance(u, v), size);
  scale(ctx, 2, w);
  axpy(ctx, -3, ambient, w);
  project(ctx, m, point, w, v);
  project(ctx, m, point, w, w);
  holds("project in place", read.distance(v, w), size);
  auto expected = clone(ctx, d);
  scale(ctx, 2, expected);
  axpy(ctx, -3, u, expected);
  holds("P (2 y - 3 z) = 2 P y - 3 P z", read.distance(v, expected), 5 * size);

  fill_normal(ctx, stream, 1, w);
  gradient_or_project(ctx, m, point, w, v);
  holds("<grad f, u> = Re tr(g^H u)", std::abs(read.metric(m, point, v, u) - read.dot(w, u)),
        4 * read.length(w) * size);
  double const uu = read.metric(m, point, u, u), dd = read.metric(m, point, d, d),
               ud = read.metric(m, point, u, d);
  holds("<u, d> = <d, u>", std::abs(ud - read.metric(m, point, d, u)), size * size);
  holds("<2 d - 3 u, d> = 2 <d, d> - 3 <u, d>",
        std::abs(read.metric(m, point, expected, d) - (2 * dd - 3 * ud)), 10 * size * size);
  holds("<u, u> >= 0", std::max(0.0, -uu), size * size);
  holds("<u, d>^2 <= <u, u> <d, d>", std::max(0.0, ud * ud - uu * dd), uu * dd + 1e-300);

  // A space of dimension 0 has no direction to step along.
  double const length = read.length(d);
  if (length > read.rounding(size)) {
    scale(ctx, 1 / length, d);
    retract(ctx, m, point, d, v);
    copy(ctx, point, w);
    retract(ctx, m, w, d, w);
    holds("retract in place", read.distance(v, w), read.length(v));
    found.retraction = check_retraction(ctx, m, point, d);
    fill_normal(ctx, stream, 1, w);
    project(ctx, m, point, w, v);
    found.transport = check_transport(ctx, m, point, d, u, v);
  } else {
    found.retraction.passed = found.transport.passed = true;
  }
  found.passed = all_passed(found.laws) && found.retraction.passed && found.transport.passed;
  return found;
}

}  // namespace stiefelx
