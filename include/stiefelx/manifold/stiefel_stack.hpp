// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/fixed_stiefel.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_random.hpp>
#include <stiefelx/team/each_item.hpp>
#include <stiefelx/team/stiefel_item.hpp>

/// \file
/// \brief Projections, gradients and random points of many small Stiefel manifolds at once.
/// \ingroup stiefel
///
/// A point of `power<stiefel>{{n, p}, count}` is n x (p count): count points side by side. Small
/// ones are team text, which a host context runs with one point a SIMD lane and a device with one
/// team a point; large ones take the functions of a single point, one after the other. Each point's
/// result depends on that point alone, so a NaN stays where it is.

namespace stiefelx {

namespace detail {

// Up to here W points in lanes are faster than one after the other: they still fit a second-level
// cache of 1 MiB, and a single point has too few entries to fill the registers.
//
// A team of many lanes takes larger ones: as long as all points of the stack together take a team less
// time than the launches that one large point after the other would need, and within memory.
template <class Ctx>
constexpr bool is_for_lanes(stiefel m, index_t count) {
  if constexpr (has_team_an_item<Ctx>)
    return m.p <= 64 && m.n * m.p <= (index_t{1} << 17) &&
           m.n * m.p * m.p <= (index_t{1} << 20) * count;
  else
    return m.p <= 64 && m.n * m.p <= 4096;
}

// n and p as a body takes them: constants of the type where they are known.
constexpr index_t item_rows(stiefel m) { return m.n; }
constexpr index_t item_cols(stiefel m) { return m.p; }
template <index_t N, index_t P>
constexpr fixed_size<N> item_rows(fixed_stiefel<N, P>) {
  return {};
}
template <index_t N, index_t P>
constexpr fixed_size<P> item_cols(fixed_stiefel<N, P>) {
  return {};
}

template <template <class, class> class Item, class M>
using item_of =
    Item<decltype(item_rows(std::declval<M>())), decltype(item_cols(std::declval<M>()))>;

template <class M, class X>
void expect_power(char const* function, char const* argument, power<M> const& m, X const& x) {
  expect_stiefel(function, m.manifold);
  expect_option(m.count >= 0, function, "power::count", m.count, "a number of at least 0");
  expect_shape(function, argument, x, m.manifold.n, m.manifold.p * m.count);
}

// The functions of a gradient's name check alike.
template <class Ctx, class M, class X, class Z, class V>
void expect_stack_gradient(Ctx& ctx, char const* function, char const* argument, power<M> const& m,
                           X const& x, Z const& z, V const& v) {
  index_t const n = m.manifold.n, cols = m.manifold.p * m.count;
  expect_power(function, "x", m, x);
  expect_shape(function, argument, z, n, cols);
  expect_shape(function, "v", v, n, cols);
  expect_distinct(ctx, function, "v", v, "x", x);
  expect_same_or_distinct(ctx, function, "v", v, argument, z);
}

// Runs team text with a point a lane.
template <class Ctx, class Item, class M, class A, class B, class Y>
void run_in_lanes(Ctx& ctx, Item const& item, power<M> const& m, A const& a, B const& b, Y&& y) {
  auto const& first = dense(ctx, a);
  auto const& second = dense(ctx, b);
  run_batch(ctx, m.count, each_item<Item>{item, m.count}, first, second, y);
}

// Runs f(ak, bk, yk) for the points of a stack, one after the other.
template <class M, class A, class B, class Y, class F>
void run_one_by_one(power<M> const& m, A const& a, B const& b, Y&& y, F const& f) {
  index_t const p = m.manifold.p;
  for (index_t k = 0; k < m.count; ++k)
    f(a.middleCols(k * p, p), b.middleCols(k * p, p), y.middleCols(k * p, p));
}

template <class Ctx, class M, class X, class Z, class V>
void project_stack(Ctx& ctx, power<M> const& m, X const& x, Z const& z, V&& v) {
  expect_stack_gradient(ctx, "project", "z", m, x, z, v);
  stiefel const one = m.manifold;
  if (is_for_lanes<Ctx>(one, m.count))
    run_in_lanes(
        ctx, item_of<stiefel_gradient_item, M>{item_rows(m.manifold), item_cols(m.manifold), 0.5},
        m, x, z, v);
  else
    run_one_by_one(m, x, z, v, [&](auto const& xk, auto const& zk, auto&& vk) {
      project(ctx, one, xk, zk, vk);
    });
}

template <class Ctx, class M, class X, class G, class V>
void gradient_stack(Ctx& ctx, power<M> const& m, X const& x, G const& g, V&& v) {
  expect_stack_gradient(ctx, "riemannian_gradient", "g", m, x, g, v);
  stiefel const one = m.manifold;
  if (is_for_lanes<Ctx>(one, m.count))
    run_in_lanes(ctx,
                 item_of<stiefel_gradient_item, M>{item_rows(m.manifold), item_cols(m.manifold),
                                                   one.alpha + 1},
                 m, x, g, v);
  else
    run_one_by_one(m, x, g, v, [&](auto const& xk, auto const& gk, auto&& vk) {
      riemannian_gradient(ctx, one, xk, gk, vk);
    });
}

template <class Ctx, class M, class X>
void random_point_stack(Ctx& ctx, power<M> const& m, random_stream& stream, X&& x) {
  expect_power("random_point", "x", m, x);
  fill_normal(ctx, stream, 1, x);
  auto r = scratch<scalar_t<X>>(ctx, m.manifold.p, m.manifold.p * m.count);
  householder_qr(ctx, stack{m.count}, x, x, r);
}

}  // namespace detail

/// \brief Projects each matrix of a stack onto the tangent space at its point.
/// \ingroup stiefel
///
/// As project() for one point, for all points of a stack at once.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p)^B \f$
/// \param[in]  x    n x (p B), B points side by side
/// \param[in]  z    n x (p B), any matrix or expression
/// \param[out] v    n x (p B), tangent at x; may be z, must not overlap x
/// \throws shape_error   if x, z or v has another shape
/// \throws alias_error   if v overlaps x, or z without being z
/// \throws option_error  if m.count is negative or alpha is not above -1
/// \par Cost
/// 4 B n p^2 flops; 2 n p + p^2 packs of scratch a thread for n p up to 4096, else that of project().
/// \see \cite absil2008, example 3.6.2
template <class Ctx, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, power<stiefel> m, X const& x, Z const& z, V&& v) {
  detail::project_stack(ctx, m, x, z, v);
}

/// \brief The same with sizes known at compile time.
/// \ingroup stiefel
/// \param[in] ctx  where to run
/// \param[in] m  the manifold, its sizes constants of the type
/// \param[in] x  B points side by side
/// \param[in] z  any matrix or expression
/// \param[out] v  tangent at x; may be z, must not overlap x
template <class Ctx, index_t N, index_t P, Matrix X, Matrix Z, class V>
  requires OutputMatrix<V> && SameScalar<X, Z, V>
void project(Ctx& ctx, power<fixed_stiefel<N, P>> m, X const& x, Z const& z, V&& v) {
  detail::project_stack(ctx, m, x, z, v);
}

/// \brief Turns a Euclidean gradient on a stack of points into the Riemannian one.
/// \ingroup stiefel
///
/// As riemannian_gradient() for one point, for all points of a stack at once.
///
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p)^B \f$ and its metric
/// \param[in]  x    n x (p B), B points side by side
/// \param[in]  g    n x (p B), Euclidean gradient at x
/// \param[out] v    n x (p B), tangent at x; may be g, must not overlap x
/// \throws shape_error   if x, g or v has another shape
/// \throws alias_error   if v overlaps x, or g without being g
/// \throws option_error  if m.count is negative or alpha is not above -1
/// \par Cost
/// That of project().
/// \see \cite absil2008, section 3.6, \cite zimmermann2022
template <class Ctx, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, power<stiefel> m, X const& x, G const& g, V&& v) {
  detail::gradient_stack(ctx, m, x, g, v);
}

/// \brief The same with sizes known at compile time.
/// \ingroup stiefel
/// \param[in] ctx  where to run
/// \param[in] m  the manifold, its sizes constants of the type
/// \param[in] x  B points side by side
/// \param[in] g  Euclidean gradient at x
/// \param[out] v  tangent at x; may be g, must not overlap x
template <class Ctx, index_t N, index_t P, Matrix X, Matrix G, class V>
  requires OutputMatrix<V> && SameScalar<X, G, V>
void riemannian_gradient(Ctx& ctx, power<fixed_stiefel<N, P>> m, X const& x, G const& g, V&& v) {
  detail::gradient_stack(ctx, m, x, g, v);
}

/// \brief Draws a stack of independent points from the Haar measure.
/// \ingroup stiefel
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p)^B \f$
/// \param[in,out] stream  advanced by one draw
/// \param[out]    x       n x (p B), B points side by side
/// \throws shape_error   if x has another shape
/// \throws option_error  if m.count is negative or alpha is not above -1
/// \par Cost
/// B times that of householder_qr().
template <class Ctx, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, power<stiefel> m, random_stream& stream, X&& x) {
  detail::random_point_stack(ctx, m, stream, x);
}

/// \brief The same with sizes known at compile time.
/// \ingroup stiefel
/// \param[in] ctx  where to run
/// \param[in] m  the manifold, its sizes constants of the type
/// \param[in,out] stream  advanced by one draw
/// \param[out] x  B points side by side
template <class Ctx, index_t N, index_t P, class X>
  requires OutputMatrix<X>
void random_point(Ctx& ctx, power<fixed_stiefel<N, P>> m, random_stream& stream, X&& x) {
  detail::random_point_stack(ctx, m, stream, x);
}

}  // namespace stiefelx
