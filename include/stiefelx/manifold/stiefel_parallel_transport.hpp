// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

/// Selects parallel transport along the geodesic of the manifold's metric.
/// \ingroup stiefel
struct parallel_transport {};

/// Element text: 1 for a singular value that counts, else 0.
/// \ingroup stiefel
struct counts_element {
  double tolerance;  ///< relative to the whole

  /// \param[out] kept   1 or 0
  /// \param[in]  s      a singular value
  /// \param[in]  whole  norm of the matrix that rounding is relative to
  template <class Real>
  STIEFELX_HD void operator()(Real& kept, Real const& s, Real const& whole) const {
    kept = static_cast<double>(s) > tolerance * static_cast<double>(whole) ? Real(1) : Real(0);
  }
};

namespace detail {

// q r = k with the columns of q orthonormal, orthogonal to x, and zero where k has no more
// directions. Rounding in k is relative to `whole`.
template <class Ctx, class X, class K, class R, class Size>
void normal_directions(Ctx& ctx, X const& x, K&& k, R& r, Size const& whole) {
  using S = scalar_t<X>;
  using Real = real_of_t<S>;
  index_t const p = k.cols();
  auto w = scratch<Real>(ctx, 1, p), kept = scratch<Real>(ctx, 1, p);
  auto v = scratch<S>(ctx, p, p), triangle = scratch<S>(ctx, p, p);
  svd(ctx, k, k, w, v);
  double const rounding = static_cast<double>(std::numeric_limits<Real>::epsilon()) *
                          static_cast<double>(k.rows() + 10);
  transform(ctx, counts_element{rounding}, outputs(kept), inputs(w, whole));
  scale_columns(ctx, kept, k);
  // A direction of a small singular value carries as much of x as rounding is larger than it.
  auto const along = product(ctx, x.adjoint(), k);
  multiply_add(ctx, -1, x, along, k);
  gram_schmidt(ctx, k, k, triangle);
  scale_columns(ctx, w, v);
  multiply(ctx, triangle, v.adjoint(), r);
}

// The flow of (u, b) that parallel transport is in the moving frame: exp(-ad / 2), where
// ad(u, b) = ((1 - alpha) / (1 + alpha) [a, u] - (r^H b - b^H r), (r u - b a) / (alpha + 1)).
// A Taylor series, in as many steps as its norm asks for.
template <class Ctx, class A, class U>
void transport_flow(Ctx& ctx, stiefel m, A const& a, A const& r, U& u, U& b) {
  using W = scalar_t<A>;
  index_t const p = m.p;
  double const c = 1 / (m.alpha + 1), bend = (1 - m.alpha) * c;
  auto size = scratch<real_of_t<W>>(ctx, 1, 1);
  norm(ctx, a, size);
  auto const size_a = static_cast<double>(value(ctx, size));
  norm(ctx, r, size);
  auto const size_r = static_cast<double>(value(ctx, size));
  double const bound = ((2 * std::abs(bend) + c) * size_a + (2 + c) * size_r) / 2;
  constexpr double most = 1000;
  int const steps = bound < most ? static_cast<int>(bound) + 1 : bound == bound ? 1000 : 1;
  // The norm is at most one in a step, and 1 / 20! is below rounding.
  constexpr int terms = 20;
  auto term_u = scratch<W>(ctx, p, p), term_b = scratch<W>(ctx, p, p);
  auto next_u = scratch<W>(ctx, p, p), next_b = scratch<W>(ctx, p, p);
  for (int k = 0; k < steps; ++k) {
    copy(ctx, u, term_u);
    copy(ctx, b, term_b);
    for (int j = 1; j <= terms; ++j) {
      multiply(ctx, a, term_u, next_u);
      multiply_add(ctx, -1, term_u, a, next_u);
      scale(ctx, bend, next_u);
      multiply_add(ctx, -1, r.adjoint(), term_b, next_u);
      multiply_add(ctx, 1, term_b.adjoint(), r, next_u);
      multiply(ctx, r, term_u, next_b);
      multiply_add(ctx, -1, term_b, a, next_b);
      double const factor = -0.5 / (steps * j);
      scale(ctx, factor, next_u);
      scale(ctx, factor * c, next_b);
      copy(ctx, next_u, term_u);
      copy(ctx, next_b, term_b);
      axpy(ctx, 1, term_u, u);
      axpy(ctx, 1, term_b, b);
    }
  }
}

// For n = p: w = x exp(a / 2) x^H v exp(a / 2) with a = x^H d, the same for every metric.
template <class Ctx, class X, class D, class V, class W>
void square_parallel_transport(Ctx& ctx, X const& x, D const& d, V const& v, W&& w) {
  auto const& point = dense(ctx, x);
  auto half = product(ctx, point.adjoint(), dense(ctx, d));
  scale(ctx, 0.5, half);
  skew_exponential(ctx, half, half);
  auto const u = product(ctx, point.adjoint(), dense(ctx, v));
  auto const right = product(ctx, u, half);
  auto const both = product(ctx, half, right);
  multiply(ctx, point, both, w);
}

}  // namespace detail

/// \brief Transports a tangent vector along a geodesic so that its covariant derivative is zero.
/// \ingroup stiefel
///
/// For the Levi-Civita connection of the metric of m, along \f$ \exp_x(td) \f$: an isometry of that
/// metric, linear, whose inverse is the transport back, and which takes d to the velocity at the
/// end. With \f$ a = x^H d \f$, \f$ q\,r = d - x\,a \f$, \f$ c = 1/(\alpha + 1) \f$,
/// \f$ u = x^H v \f$, \f$ b = q^H v \f$ and \f$ z = v - x\,u - q\,b \f$,
/// \f[ \mathcal{T}(v) = [x\ \ q]\,\exp\begin{pmatrix} c\,a & -r^H \\ r & 0 \end{pmatrix}
///     \begin{pmatrix} u_1 \\ b_1 \end{pmatrix} e^{\alpha c\,a} +
///     z\,e^{(1 + 2\alpha) c\,a / 2} , \f]
/// where \f$ (u_1, b_1) \f$ is \f$ \exp(-\tfrac12 \mathrm{ad}) \f$ of (u, b), with
/// \f[ \mathrm{ad}(u, b) = \Bigl( \tfrac{1 - \alpha}{1 + \alpha} [a, u] - r^H b + b^H r,
///     \ c\,(r u - b a) \Bigr) : \f]
/// the manifold is a naturally reductive quotient. The small matrices are those of the wide scalar.
///
/// \param[in]  ctx  where to run; waits, to see how long d is
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  d    n x p, tangent at x: the geodesic's velocity; it turns by at most 80 radians
/// \param[in]  y    n x p, \f$ \exp_x(d) \f$, by exp()
/// \param[in]  v    n x p, tangent at x
/// \param[out] w    n x p, tangent at y; may be v, must not overlap x, d or y
/// \param[in]  how  no options
/// \throws shape_error   if a matrix is not n x p
/// \throws alias_error   if w overlaps x, d or y, or v without being v
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 22np^2 + 250p^3 \f$ flops and \f$ 200p^3 \f$ a unit of length; one n x 2p, two n x p and
/// some 2p x 2p scratch matrices.
/// \see \cite nguyen2024
template <class Ctx, Matrix X, Matrix D, Matrix Y, Matrix V, class W>
  requires OutputMatrix<W> && SameScalar<X, D, Y, V, W>
void transport_along(Ctx& ctx, stiefel m, X const& x, D const& d, Y const& y, V const& v, W&& w,
                     [[maybe_unused]] parallel_transport how) {
  using S = scalar_t<X>;
  using Wide = wide_t<S>;
  detail::expect_transport(ctx, m, x, d, y, v, w);
  index_t const p = m.p;
  double const c = 1 / (m.alpha + 1);
  if (m.n == p) return detail::square_parallel_transport(ctx, x, d, v, w);
  auto frame = scratch<S>(ctx, m.n, 2 * p);
  auto point = frame.middleCols(0, p), normal = frame.middleCols(p, p);
  copy(ctx, x, point);
  copy(ctx, d, normal);
  auto whole = scratch<real_of_t<S>>(ctx, 1, 1);
  norm(ctx, normal, whole);
  auto const narrow_a = product(ctx, point.adjoint(), normal);
  multiply_add(ctx, -1, point, narrow_a, normal);
  auto narrow_r = scratch<S>(ctx, p, p);
  detail::normal_directions(ctx, point, normal, narrow_r, whole);
  auto rest = clone(ctx, v);
  auto const parts = product(ctx, frame.adjoint(), rest);
  multiply_add(ctx, -1, frame, parts, rest);

  auto a = widen(ctx, narrow_a);
  detail::make_skew(ctx, a);
  auto const r = widen(ctx, narrow_r);
  auto u = scratch<Wide>(ctx, p, p), b = scratch<Wide>(ctx, p, p);
  copy(ctx, parts.middleRows(0, p), u);
  copy(ctx, parts.middleRows(p, p), b);
  detail::transport_flow(ctx, m, a, r, u, b);
  auto g = scratch<Wide>(ctx, 2 * p, 2 * p);
  detail::geodesic_generator(ctx, m, a, r, g);
  skew_exponential(ctx, g, g);
  auto columns = product(ctx, g.middleCols(0, p), u);
  multiply_add(ctx, 1, g.middleCols(p, p), b, columns);
  detail::turn_columns(ctx, m.alpha * c, a, columns);
  auto coefficients = scratch<S>(ctx, 2 * p, p);
  copy(ctx, columns, coefficients);
  multiply(ctx, frame, coefficients, w);

  set_identity(ctx, u);
  detail::turn_columns(ctx, (1 + 2 * m.alpha) * c / 2, a, u);
  auto turn = scratch<S>(ctx, p, p);
  copy(ctx, u, turn);
  multiply_add(ctx, 1, rest, turn, w);
}

}  // namespace stiefelx
