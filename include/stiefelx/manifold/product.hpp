// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include <stiefelx/manifold/frame_checks.hpp>
#include <stiefelx/manifold/manifold.hpp>

namespace stiefelx {

/// \brief The product of different manifolds: a point of each.
/// \ingroup manifolds
///
/// A point is a tuple of matrices, one a factor, of any shapes and scalars; so is a tangent vector.
/// `std::tuple` owns them, `std::tie(x1, x2)` makes a point of matrices that stand apart, and a
/// `std::pair` or `std::array` will do. The metric is the sum. Factors may be manifolds of users.
///
/// ```
/// product_of m{stiefel{8, 2}, sphere{5, 1}};
/// retract(ctx, m, std::tie(a, b), std::tie(va, vb), std::tie(a, b));
/// ```
///
/// Steps of momentum and of gradient descent are the same whether the factors move together or each
/// by an optimizer of its own, so an optimizer is one a factor; what the product adds is one
/// length, distance and random direction for all of them.
template <class... M>
struct product_of {
  std::tuple<M...> factors;  ///< the manifolds

  /// \param[in] m  the manifolds
  constexpr explicit product_of(M... m) : factors(std::move(m)...) {}
};

/// \brief A tuple of matrices, as many as a product has factors.
/// \ingroup manifolds
template <class X, class... M>
concept TupleFor = requires { std::tuple_size<std::remove_cvref_t<X>>::value; } &&
                   std::tuple_size<std::remove_cvref_t<X>>::value == sizeof...(M);

namespace detail {

// f(factor, matrix of x, matrix of y, ...) for each factor.
template <class... M, class F, class... X>
void for_each_factor(product_of<M...> const& m, F const& f, X&&... x) {
  auto const call = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
    using std::get;
    f(get<I>(m.factors), get<I>(x)...);
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (call(std::integral_constant<std::size_t, I>{}), ...);
  }(std::index_sequence_for<M...>{});
}

}  // namespace detail

/// \brief Dimension of a product of real manifolds.
/// \ingroup manifolds
/// \param[in] m  the product
/// \returns the sum over the factors
template <class... M>
constexpr index_t dimension(product_of<M...> const& m) {
  return std::apply([](auto const&... factor) { return (dimension(factor) + ... + index_t(0)); },
                    m.factors);
}

/// \brief Projects a tuple of matrices onto the tangent spaces at a point.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product
/// \param[in]  x    a point
/// \param[in]  z    tuple of matrices of its shapes
/// \param[out] v    tangent at x; may be z, must not overlap x
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> Z, TupleFor<M...> V>
void project(Ctx& ctx, product_of<M...> const& m, X const& x, Z const& z, V&& v) {
  detail::for_each_factor(
      m, [&](auto const& f, auto& xf, auto& zf, auto& vf) { project(ctx, f, xf, zf, vf); }, x, z,
      v);
}

/// \brief Riemannian gradient of each factor, by gradient_or_project().
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product
/// \param[in]  x    a point
/// \param[in]  g    tuple of Euclidean gradients
/// \param[out] v    tangent at x; may be g, must not overlap x
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> G, TupleFor<M...> V>
void riemannian_gradient(Ctx& ctx, product_of<M...> const& m, X const& x, G const& g, V&& v) {
  detail::for_each_factor(
      m,
      [&](auto const& f, auto& xf, auto& gf, auto& vf) { gradient_or_project(ctx, f, xf, gf, vf); },
      x, g, v);
}

/// \brief The metric: the sum over the factors.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product
/// \param[in]  x    a point
/// \param[in]  u    tangent at x
/// \param[in]  v    tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> U, TupleFor<M...> V, class S>
  requires OutputMatrix<S>
void inner(Ctx& ctx, product_of<M...> const& m, X const& x, U const& u, V const& v, S&& s) {
  expect_shape("inner", "s", s, 1, 1);
  fill(ctx, 0, s);
  detail::for_each_factor(
      m,
      [&](auto const& f, auto& xf, auto& uf, auto& vf) {
        auto part = scratch<scalar_t<S>>(ctx, 1, 1);
        inner(ctx, f, xf, uf, vf, part);
        axpy(ctx, 1, part, s);
      },
      x, u, v);
}

/// \brief Length of a tangent vector: the root of its inner product with itself.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product
/// \param[in]  x    a point
/// \param[in]  v    tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if a shape is wrong
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> V, class S>
  requires OutputMatrix<S>
void norm(Ctx& ctx, product_of<M...> const& m, X const& x, V const& v, S&& s) {
  inner(ctx, m, x, v, v, s);
  transform(ctx, square_root_element{}, outputs(s), inputs(s));
}

/// \brief Retracts each factor.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product
/// \param[in]  x    a point
/// \param[in]  v    tangent at x
/// \param[out] y    the new point; may be x, must not overlap v
/// \param[in]  how  options of the retractions, one a factor in their order, or nothing
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> V, TupleFor<M...> Y, class... How>
  requires(sizeof...(How) == 0 || sizeof...(How) == sizeof...(M))
void retract(Ctx& ctx, product_of<M...> const& m, X const& x, V const& v, Y&& y,
             How const&... how) {
  if constexpr (sizeof...(How) == 0)
    detail::for_each_factor(
        m, [&](auto const& f, auto& xf, auto& vf, auto& yf) { retract(ctx, f, xf, vf, yf); }, x, v,
        y);
  else
    detail::for_each_factor(
        m,
        [&](auto const& f, auto& xf, auto& vf, auto& yf, auto& options) {
          retract(ctx, f, xf, vf, yf, options);
        },
        x, v, y, std::tie(how...));
}

/// \brief Follows the geodesic of each factor for unit time.
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product, of factors that have exp()
/// \param[in]  x    a point
/// \param[in]  v    tangent at x
/// \param[out] y    the new point; may be x, must not overlap v
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> V, TupleFor<M...> Y>
void exp(Ctx& ctx, product_of<M...> const& m, X const& x, V const& v, Y&& y) {
  detail::for_each_factor(
      m, [&](auto const& f, auto& xf, auto& vf, auto& yf) { exp(ctx, f, xf, vf, yf); }, x, v, y);
}

/// \brief The shortest tangent vector whose exp() is y.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if a factor's function does
/// \param[in]     m       the product, of factors that have log()
/// \param[in]     x       a point
/// \param[in]     y       another
/// \param[out]    v       tangent at x; must not overlap x or y
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all factors together
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> Y, TupleFor<M...> V,
          class Status = no_status>
void log(Ctx& ctx, product_of<M...> const& m, X const& x, Y const& y, V&& v, Status&& status = {}) {
  detail::for_each_factor(
      m, [&](auto const& f, auto& xf, auto& yf, auto& vf) { log(ctx, f, xf, yf, vf, status); }, x,
      y, v);
}

/// \brief Length of the shortest geodesic: the norm of the distances of the factors, each by
/// distance_or_chord().
/// \ingroup manifolds
/// \param[in]     ctx     where to run; waits if a factor's function does
/// \param[in]     m       the product
/// \param[in]     x       a point
/// \param[in]     y       another
/// \param[out]    s       1 x 1, real
/// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all factors together
/// \throws shape_error  if a shape is wrong
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> Y, class S,
          class Status = no_status>
  requires OutputMatrix<S>
void distance(Ctx& ctx, product_of<M...> const& m, X const& x, Y const& y, S&& s,
              Status&& status = {}) {
  expect_shape("distance", "s", s, 1, 1);
  auto parts = scratch<scalar_t<S>>(ctx, 1, static_cast<index_t>(sizeof...(M)));
  index_t k = 0;
  detail::for_each_factor(
      m,
      [&](auto const& f, auto& xf, auto& yf) {
        distance_or_chord(ctx, f, xf, yf, parts.middleCols(k++, 1), status);
      },
      x, y);
  norm(ctx, parts, s);
}

/// \brief Transports a tangent vector factor by factor, by transport_or_project().
/// \ingroup manifolds
/// \param[in]  ctx  where to run; nothing waits unless a factor's function does
/// \param[in]  m    the product
/// \param[in]  x    the point that v is tangent at
/// \param[in]  y    the point that w is tangent at
/// \param[in]  v    tangent at x
/// \param[out] w    tangent at y; may be v, must not overlap y
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> Y, TupleFor<M...> V,
          TupleFor<M...> W>
void transport(Ctx& ctx, product_of<M...> const& m, X const& x, Y const& y, V const& v, W&& w) {
  detail::for_each_factor(
      m,
      [&](auto const& f, auto& xf, auto& yf, auto& vf, auto& wf) {
        transport_or_project(ctx, f, xf, yf, vf, wf);
      },
      x, y, v, w);
}

/// \brief Draws independent points of the factors.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits unless a factor's function does
/// \param[in]     m       the product
/// \param[in,out] stream  advanced by one draw a factor
/// \param[out]    x       a point
/// \throws shape_error  if a factor finds a wrong shape
template <class Ctx, class... M, TupleFor<M...> X>
void random_point(Ctx& ctx, product_of<M...> const& m, random_stream& stream, X&& x) {
  detail::for_each_factor(m, [&](auto const& f, auto& xf) { random_point(ctx, f, stream, xf); }, x);
}

/// \brief Draws a tangent vector of length one over all factors, with no preferred direction.
/// \ingroup manifolds
/// \param[in]     ctx     where to run; nothing waits unless a factor's function does
/// \param[in]     m       the product
/// \param[in,out] stream  advanced by one draw a factor
/// \param[in]     x       a point
/// \param[out]    v       tangent at x; must not overlap x
/// \throws shape_error  if a factor finds a wrong shape
/// \throws alias_error  if a factor finds an overlap
template <class Ctx, class... M, TupleFor<M...> X, TupleFor<M...> V>
void random_tangent(Ctx& ctx, product_of<M...> const& m, random_stream& stream, X const& x, V&& v) {
  detail::for_each_factor(
      m,
      [&](auto const& f, auto& xf, auto& vf) {
        fill_normal(ctx, stream, 1, vf);
        project(ctx, f, xf, vf, vf);
      },
      x, v);
  auto length = scratch<double>(ctx, 1, 1), inverse = scratch<double>(ctx, 1, 1);
  norm(ctx, m, x, v, length);
  transform(ctx, reciprocal_element{}, outputs(inverse), inputs(length));
  detail::for_each_factor(m, [&](auto const&, auto& vf) { scale(ctx, inverse, vf); }, v);
}

}  // namespace stiefelx
