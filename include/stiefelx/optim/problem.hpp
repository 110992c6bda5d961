// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>

/// \file
/// \brief What minimize() is told about a cost on a manifold.
/// \ingroup optim
///
/// A problem is a small object with a public member `manifold` and these functions, the last two
/// where it has them. x is a point, v is tangent at x; outputs come last.
///
/// | function | meaning |
/// | --- | --- |
/// | `double cost(ctx, x)` | \f$ f(x) \f$; may wait |
/// | `gradient(ctx, x, g)` | g of x's shape: the Euclidean gradient \f$ \nabla f(x) \f$ |
/// | `hessian(ctx, x, v, h)` | h of x's shape: \f$ \mathrm{D}\nabla f(x)[v] \f$, Euclidean |
/// | `precondition(ctx, x, v, w)` | w tangent at x: about \f$ (\mathrm{Hess}\,f)^{-1} v \f$ |
///
/// The preconditioner is linear, self-adjoint and positive on the tangent space at x.
///
/// **Nothing is computed twice.** A problem whose functions share work has also
/// `make_cache(ctx, x)`, which returns any object, and takes that object after x in every function:
/// `cost(ctx, x, cache)`, `gradient(ctx, x, cache, g)`, and so on. There is one cache a point that
/// a solver keeps, made once. cost() is the first call at every new point and fills the cache;
/// gradient(), then hessian() and precondition() at that point find what it left. A solver calls
/// cost() and gradient() at most once a point.

namespace stiefelx {

/// Stands for a function that a problem_of does not have, and for the cache of a problem with none.
/// \ingroup optim
struct absent {};

/// \brief A problem made of callables, for costs that fit a lambda.
/// \ingroup optim
///
/// ```
/// problem_of leading{stiefel{n, p},
///                    [&](auto& ctx, auto const& x) { return ...; },
///                    [&](auto& ctx, auto const& x, auto&& g) { g.noalias() = ...; }};
/// ```
template <class M, class Cost, class Gradient, class Hessian = absent, class Precondition = absent>
struct problem_of {
  M manifold;                   ///< where the points live
  Cost cost;                    ///< callable as `cost(ctx, x)`
  Gradient gradient;            ///< callable as `gradient(ctx, x, g)`
  Hessian hessian{};            ///< callable as `hessian(ctx, x, v, h)`, or absent
  Precondition precondition{};  ///< callable as `precondition(ctx, x, v, w)`, or absent
};

/// \brief Makes the cache of a problem for one point.
/// \ingroup optim
/// \param[in] ctx      where to run
/// \param[in] problem  the problem
/// \param[in] x        any point
/// \returns what the problem's make_cache() returns, or absent{}
template <class Ctx, class P, class X>
auto problem_cache(Ctx& ctx, P& problem, X const& x) {
  if constexpr (requires { problem.make_cache(ctx, x); })
    return problem.make_cache(ctx, x);
  else
    return absent{};
}

namespace detail {

template <class Ctx, class P, class X, class Cache>
double problem_cost(Ctx& ctx, P& problem, X const& x, Cache& cache) {
  if constexpr (requires { problem.cost(ctx, x, cache); })
    return problem.cost(ctx, x, cache);
  else
    return problem.cost(ctx, x);
}

template <class Ctx, class P, class X, class Cache, class G>
void problem_gradient(Ctx& ctx, P& problem, X const& x, Cache& cache, G& g) {
  if constexpr (requires { problem.gradient(ctx, x, cache, g); })
    problem.gradient(ctx, x, cache, g);
  else
    problem.gradient(ctx, x, g);
}

template <class Ctx, class P, class X, class Cache>
inline constexpr bool has_hessian = requires(Ctx& ctx, P& problem, X& x, Cache& cache) {
  problem.hessian(ctx, std::as_const(x), cache, std::as_const(x), x);
} || requires(Ctx& ctx, P& problem, X& x) {
  problem.hessian(ctx, std::as_const(x), std::as_const(x), x);
};

template <class Ctx, class P, class X, class Cache, class V, class H>
void problem_hessian(Ctx& ctx, P& problem, X const& x, Cache& cache, V const& v, H& h) {
  if constexpr (requires { problem.hessian(ctx, x, cache, v, h); })
    problem.hessian(ctx, x, cache, v, h);
  else
    problem.hessian(ctx, x, v, h);
}

template <class Ctx, class P, class X, class Cache>
inline constexpr bool has_precondition = requires(Ctx& ctx, P& problem, X& x, Cache& cache) {
  problem.precondition(ctx, std::as_const(x), cache, std::as_const(x), x);
} || requires(Ctx& ctx, P& problem, X& x) {
  problem.precondition(ctx, std::as_const(x), std::as_const(x), x);
};

template <class Ctx, class P, class X, class Cache, class V, class W>
void problem_precondition(Ctx& ctx, P& problem, X const& x, Cache& cache, V const& v, W& w) {
  if constexpr (requires { problem.precondition(ctx, x, cache, v, w); })
    problem.precondition(ctx, x, cache, v, w);
  else
    problem.precondition(ctx, x, v, w);
}

}  // namespace detail

/// \brief What minimize() asks of a problem for points of type X.
/// \ingroup optim
template <class P, class Ctx, class X>
concept ProblemOn = requires(Ctx& ctx, P& problem, X& x) {
  problem.manifold;
  requires ManifoldOn<std::remove_cvref_t<decltype(problem.manifold)>, Ctx, X>;
} && (requires(Ctx& ctx, P& problem, X& x) {
  { problem.cost(ctx, std::as_const(x)) } -> std::convertible_to<double>;
} || requires(Ctx& ctx, P& problem, X& x) { problem.make_cache(ctx, std::as_const(x)); });

}  // namespace stiefelx
