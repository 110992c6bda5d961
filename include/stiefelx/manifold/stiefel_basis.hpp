// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_space.hpp>
#include <stiefelx/team/column.hpp>

namespace stiefelx {

/// \brief Team text: phases that keep the top block of an orthonormal matrix far from singular.
/// \ingroup stiefel
///
/// Elimination without exchanges on k - s, where the phase \f$ s_j \f$ is the negative of that of
/// the pivot it meets, so that every pivot has a modulus of at least one \cite ballard2015. The
/// matrix that is left after a step is the top of one with orthonormal columns, so nothing grows.
struct complement_phases_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes
  /// \param[in,out] k     p x p, the top block; overwritten
  /// \param[out]    s     p x p, diagonal, entries of modulus one
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> k,
                              matrix_ref<S> s) const {
    using Real = real_of_t<S>;
    index_t const p = k.cols;
    for (index_t j = 0; j < p; ++j) {
      Real const size = modulus(k(j, j));
      S const phase = size > 0 ? S(-k(j, j) / size) : S(-1);
      S const inverse = S(1) / (k(j, j) - phase);
      for (index_t i = team.rank(); i < p; i += team.size()) s(i, j) = i == j ? phase : S(0);
      for (index_t c = j + 1; c < p; ++c)
        column_axpy(team, S(-k(j, c) * inverse), k.column(j) + j + 1, p - j - 1,
                    k.column(c) + j + 1);
      team.barrier();
    }
  }
};

/// \brief Team text: coordinates of a skew-Hermitian matrix and a block below it, one column an
/// item.
/// \ingroup stiefel
///
/// A column of the skew part gives the imaginary part of its diagonal entry (complex only), then
/// the entries below; real and imaginary parts follow each other. The columns of the block come
/// after all of them.
struct pack_coordinates_body {
  double weight;  ///< how often the skew part counts in the metric

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes
  /// \param[in]  j     the column
  /// \param[in]  a     p x p, whose skew part counts
  /// \param[in]  b     (n - p) x p
  /// \param[out] c     coordinates x 1
  template <Team T, class S, class Real>
  STIEFELX_HD void operator()(T const& team, index_t j, double*, matrix_ref<S const> a,
                              matrix_ref<S const> b, matrix_ref<Real> c) const {
    constexpr bool is_real = std::is_floating_point_v<S>;
    constexpr index_t parts = is_real ? 1 : 2;
    index_t const p = a.cols;
    auto const put = [&c](index_t place, double factor, S v) {
      c(place, 0) = static_cast<Real>(factor) * real_part(v);
      if constexpr (!is_real) c(place + 1, 0) = static_cast<Real>(factor) * v.imag();
    };
    index_t first = is_real ? j * p - j * (j + 1) / 2 : 2 * p * j - j * j;
    if constexpr (!is_real) {
      if (team.rank() == 0) c(first, 0) = static_cast<Real>(std::sqrt(weight)) * a(j, j).imag();
      ++first;
    }
    double const factor = std::sqrt(2 * weight);
    for (index_t i = j + 1 + team.rank(); i < p; i += team.size())
      put(first + parts * (i - j - 1), factor, (a(i, j) - conjugate(a(j, i))) * Real(0.5));
    first = (is_real ? p * (p - 1) / 2 : p * p) + parts * j * b.rows;
    for (index_t i = team.rank(); i < b.rows; i += team.size()) put(first + parts * i, 1, b(i, j));
  }
};

/// \brief Team text: the inverse of pack_coordinates_body.
/// \ingroup stiefel
struct unpack_coordinates_body {
  double weight;  ///< how often the skew part counts in the metric

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team  lanes
  /// \param[in]  j     the column
  /// \param[in]  c     coordinates x 1
  /// \param[out] a     p x p, skew-Hermitian
  /// \param[out] b     (n - p) x p
  template <Team T, class S, class Real>
  STIEFELX_HD void operator()(T const& team, index_t j, double*, matrix_ref<Real const> c,
                              matrix_ref<S> a, matrix_ref<S> b) const {
    constexpr bool is_real = std::is_floating_point_v<S>;
    constexpr index_t parts = is_real ? 1 : 2;
    index_t const p = a.cols;
    auto const get = [&c](index_t place, double factor) {
      Real const re = static_cast<Real>(factor) * c(place, 0);
      if constexpr (is_real)
        return re;
      else
        return S(re, static_cast<Real>(factor) * c(place + 1, 0));
    };
    index_t first = is_real ? j * p - j * (j + 1) / 2 : 2 * p * j - j * j;
    if constexpr (is_real) {
      if (team.rank() == 0) a(j, j) = S(0);
    } else {
      if (team.rank() == 0)
        a(j, j) = S(Real(0), static_cast<Real>(1 / std::sqrt(weight)) * c(first, 0));
      ++first;
    }
    double const factor = 1 / std::sqrt(2 * weight);
    for (index_t i = j + 1 + team.rank(); i < p; i += team.size()) {
      S const v = get(first + parts * (i - j - 1), factor);
      a(i, j) = v;
      a(j, i) = S(-conjugate(v));
    }
    first = (is_real ? p * (p - 1) / 2 : p * p) + parts * j * b.rows;
    for (index_t i = team.rank(); i < b.rows; i += team.size()) b(i, j) = get(first + parts * i, 1);
  }
};

namespace detail {

// k = x_1 - s for the top block x_1 of x and a diagonal s of phases, far from singular.
template <class Ctx, class X, class K, class S>
void complement_pivot(Ctx& ctx, X const& x, K&& k, S&& s) {
  auto const top = x.middleRows(0, x.cols());
  copy(ctx, top, k);
  run_batch(ctx, 1, complement_phases_body{}, k, s);
  copy(ctx, top, k);
  axpy(ctx, -1, s, k);
}

template <class S>
constexpr index_t coordinate_count(stiefel m) {
  return std::is_floating_point_v<S> ? dimension(m) : complex_dimension(m);
}

}  // namespace detail

/// \brief Coordinates of a tangent vector in a basis that is orthonormal in the metric.
/// \ingroup stiefel
///
/// With \f$ v = x A + x_\perp B \f$, the entries of the skew A below its diagonal (and the diagonal
/// of a complex one), weighted by the metric, and those of B, so that \f$ c_u^T c_v = \langle u, v
/// \rangle_\alpha \f$. The basis \f$ x_\perp \f$ of the orthogonal complement is a function of x
/// alone and is never formed: with \f$ x = [x_1; x_2] \f$, a diagonal s of phases,
/// \f$ z = x - [s; 0] \f$ and \f$ k = x_1 - s \f$, the first columns of the unitary
/// \f$ I + z\,(k^H s)^{-1} z^H \f$ are \f$ x\,s^H \f$, and \f$ x_\perp \f$ are the others: the
/// compact block reflector of Householder's QR of x. Every x has phases for which k is far from
/// singular \cite ballard2015. They, and with them the basis, jump where x passes from one choice
/// to another, as every choice of a basis must.
///
/// A part of v that is not tangent is left out: the coordinates are those of \f$ P_x(v) \f$.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] c    dimension(m) x 1, complex_dimension(m) x 1 for complex points; real
/// \throws shape_error   if x or v is not n x p, or c has another size
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 4 n p^2 + O(p^3) \f$ flops; one (n - p) x p and five p x p scratch matrices.
/// \see tangent_vector()
template <class Ctx, Matrix X, Matrix V, class C>
  requires OutputMatrix<C> && SameScalar<X, V> && std::is_same_v<scalar_t<C>, real_t<X>>
void tangent_coordinates(Ctx& ctx, stiefel m, X const& x, V const& v, C&& c) {
  using S = scalar_t<X>;
  detail::expect_stiefel("tangent_coordinates", "x", m, x);
  expect_shape("tangent_coordinates", "v", v, m.n, m.p);
  expect_shape("tangent_coordinates", "c", c, detail::coordinate_count<S>(m), 1);
  index_t const p = m.p, rest = m.n - m.p;
  auto const& point = dense(ctx, x);
  auto const& vector = dense(ctx, v);
  auto const a = product(ctx, point.adjoint(), vector);
  auto b = clone(ctx, vector.middleRows(p, rest));
  {
    auto k = scratch<S>(ctx, p, p), s = scratch<S>(ctx, p, p);
    detail::complement_pivot(ctx, point, k, s);
    auto t = product(ctx, s, a);
    axpy(ctx, -1, vector.middleRows(0, p), t);
    solve(ctx, k, t, no_status{});
    multiply_add(ctx, 1, point.middleRows(p, rest), t, b);
  }
  auto const& block = b;
  run_batch(ctx, p, pack_coordinates_body{detail::metric_weight(m)}, a, block, c);
}

/// \brief The tangent vector of given coordinates: the inverse of tangent_coordinates().
/// \ingroup stiefel
///
/// Column i of an orthonormal basis of the tangent space is the vector of the i-th unit
/// coordinates.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$ and its metric
/// \param[in]  x    n x p, a point
/// \param[in]  c    dimension(m) x 1, complex_dimension(m) x 1 for complex points; real
/// \param[out] v    n x p, tangent at x; must not overlap x
/// \throws shape_error   if x or v is not n x p, or c has another size
/// \throws alias_error   if v overlaps x
/// \throws option_error  if m.alpha is not above -1
/// \par Cost
/// \f$ 4 n p^2 + O(p^3) \f$ flops; one (n - p) x p and five p x p scratch matrices.
/// \see tangent_coordinates()
template <class Ctx, Matrix X, Matrix C, class V>
  requires OutputMatrix<V> && SameScalar<X, V> && std::is_same_v<scalar_t<C>, real_t<X>>
void tangent_vector(Ctx& ctx, stiefel m, X const& x, C const& c, V&& v) {
  using S = scalar_t<X>;
  detail::expect_stiefel("tangent_vector", "x", m, x);
  expect_shape("tangent_vector", "c", c, detail::coordinate_count<S>(m), 1);
  expect_shape("tangent_vector", "v", v, m.n, m.p);
  expect_distinct(ctx, "tangent_vector", "v", v, "x", x);
  index_t const p = m.p, rest = m.n - m.p;
  auto const& point = dense(ctx, x);
  auto const& coordinates = dense(ctx, c);
  auto a = scratch<S>(ctx, p, p), b = scratch<S>(ctx, rest, p);
  run_batch(ctx, p, unpack_coordinates_body{detail::metric_weight(m)}, coordinates, a, b);
  // v = x a + [0; b] + (x - [s; 0]) t with t = s^H k^-H x_2^H b.
  auto k = scratch<S>(ctx, p, p), s = scratch<S>(ctx, p, p);
  detail::complement_pivot(ctx, point, k, s);
  auto t = product(ctx, point.middleRows(p, rest).adjoint(), b);
  {
    auto ks = clone(ctx, k.adjoint());
    solve(ctx, ks, t, no_status{});
  }
  // The top takes -s s^H k^-H x_2^H b, in which the phases cancel.
  fill(ctx, 0, v);
  axpy(ctx, -1, t, v.middleRows(0, p));
  copy(ctx, b, v.middleRows(p, rest));
  multiply_add(ctx, 1, s.adjoint(), t, a);
  multiply_add(ctx, 1, point, a, v);
}

}  // namespace stiefelx
