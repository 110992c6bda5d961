// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <cstddef>
#include <tuple>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/product.hpp>

namespace stiefelx {

/// \brief A point of a product_of, or a tangent vector, for which the verbs of vectors are defined.
/// \ingroup manifolds
///
/// What works on points without looking at their entries, as minimize() does with all solvers but
/// limited_bfgs, takes it like a matrix. It is a std::tuple, so a problem reads its factors by
/// `get<0>(x)`.
///
/// ```
/// product_point x(a, b);  // copies; product_point<matrix&, matrix&> x(a, b) stands for a and b
/// minimize(ctx, problem, x, conjugate_gradient{});
/// ```
/// \tparam X  matrices or references to matrices, all of the same real type
template <class... X>
struct product_point : std::tuple<X...> {
  /// The scalar of the first.
  using Scalar = scalar_t<std::tuple_element_t<0, std::tuple<X...>>>;
  static_assert((std::same_as<real_t<X>, real_of_t<Scalar>> && ...),
                "product_point: the matrices need the same real type");

  using std::tuple<X...>::tuple;

  /// \returns the entries of all factors
  index_t rows() const {
    return std::apply([](auto const&... part) { return ((part.rows() * part.cols()) + ...); },
                      static_cast<std::tuple<X...> const&>(*this));
  }
  /// \returns 1
  index_t cols() const { return 1; }
  /// Only a name that the concept Matrix asks for: nothing multiplies by a tuple.
  void adjoint() const;
};

/// Holds copies of the matrices.
/// \ingroup manifolds
template <class... X>
product_point(X...) -> product_point<X...>;

namespace detail {

// f(matrix of x, matrix of y, ...) for each factor.
template <class F, class... A, class... X>
void for_each_part(F const& f, product_point<A...> const& first, X&... x) {
  auto const call = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
    using std::get;
    f(get<I>(first), get<I>(x)...);
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (call(std::integral_constant<std::size_t, I>{}), ...);
  }(std::index_sequence_for<A...>{});
}

}  // namespace detail

/// \brief A scratch copy.
/// \ingroup manifolds
/// \param[in] ctx  where it lives
/// \param[in] a    a point or tangent vector
/// \returns a product_point of scratch
template <class Ctx, class... A>
auto clone(Ctx& ctx, product_point<A...> const& a) {
  return std::apply(
      [&](auto const&... part) {
        return product_point<decltype(clone(ctx, part))...>(clone(ctx, part)...);
      },
      static_cast<std::tuple<A...> const&>(a));
}

/// \brief b = a, factor by factor.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  a    a point or tangent vector
/// \param[out] b    the copy
template <class Ctx, class... A, class... B>
  requires(sizeof...(A) == sizeof...(B))
void copy(Ctx& ctx, product_point<A...> const& a, product_point<B...>& b) {
  detail::for_each_part([&](auto const& from, auto& to) { copy(ctx, from, to); }, a, b);
}

/// \brief b = c everywhere.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  c    a number
/// \param[out] b    what is filled
template <class Ctx, class C, class... B>
void fill(Ctx& ctx, C const& c, product_point<B...>& b) {
  detail::for_each_part([&](auto const&, auto& part) { fill(ctx, c, part); }, b, b);
}

/// \brief b = c b.
/// \ingroup manifolds
/// \param[in]     ctx  where to run
/// \param[in]     c    a number, or a real 1 x 1 matrix
/// \param[in,out] b    what is scaled
template <class Ctx, class C, class... B>
void scale(Ctx& ctx, C const& c, product_point<B...>& b) {
  detail::for_each_part([&](auto const&, auto& part) { scale(ctx, c, part); }, b, b);
}

/// \brief b += c a.
/// \ingroup manifolds
/// \param[in]     ctx  where to run
/// \param[in]     c    a number, or a real 1 x 1 matrix
/// \param[in]     a    of the shapes of b
/// \param[in,out] b    what is added to
template <class Ctx, class C, class... A, class... B>
  requires(sizeof...(A) == sizeof...(B))
void axpy(Ctx& ctx, C const& c, product_point<A...> const& a, product_point<B...>& b) {
  detail::for_each_part([&](auto const& from, auto& to) { axpy(ctx, c, from, to); }, a, b);
}

/// \brief Frobenius norm of all entries.
/// \ingroup manifolds
/// \param[in]  ctx  where to run
/// \param[in]  a    a point or tangent vector
/// \param[out] s    1 x 1, real
template <class Ctx, class... A, class S>
  requires OutputMatrix<S>
void norm(Ctx& ctx, product_point<A...> const& a, S&& s) {
  auto parts = scratch<scalar_t<S>>(ctx, 1, static_cast<index_t>(sizeof...(A)));
  index_t k = 0;
  detail::for_each_part([&](auto const& part) { norm(ctx, part, parts.middleCols(k++, 1)); }, a);
  norm(ctx, parts, s);
}

}  // namespace stiefelx

/// \cond
template <class... X>
struct std::tuple_size<stiefelx::product_point<X...>> : std::tuple_size<std::tuple<X...>> {};
template <std::size_t I, class... X>
struct std::tuple_element<I, stiefelx::product_point<X...>>
    : std::tuple_element<I, std::tuple<X...>> {};
/// \endcond
