// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// Options of stella.
/// \ingroup optim
struct stella_options {
  /// Width d of the network: a step of an n-row point is multiplied by \f$ \sqrt{d/n} \f$. 0 leaves
  /// it as it is.
  double hidden = 0;
};

namespace detail {

// The gradient of the canonical metric: g - x g^H x, in place.
template <class Ctx, class X, class G>
void stella_gradient(Ctx& ctx, stiefel m, X const& x, G& g) {
  riemannian_gradient(ctx, stiefel{m.n, m.p, canonical_metric}, x, g, g);
}

template <class Ctx, class M, class X, class G>
void stella_gradient(Ctx& ctx, M const& m, X const& x, G& g) {
  gradient_or_project(ctx, m, x, g, g);
}

// By the default, where a manifold has no polar retraction, by its own.
template <class Ctx, class M, class X, class V, class Y, class How>
void stella_retract(Ctx& ctx, M const& m, X const& x, V const& v, Y& y, How const& how) {
  constexpr bool known = requires { retract(ctx, m, x, v, y, how); };
  if constexpr (std::is_same_v<How, polar_retraction> && !known)
    retract(ctx, m, x, v, y);
  else
    retract(ctx, m, x, v, y, how);
}

template <class Base, class Ctx, class X, class G, class Status>
void stella_base_step(Base& base, Ctx& ctx, X& x, G const& g, Status&& status) {
  if constexpr (requires { base.step(ctx, x, g, status); })
    base.step(ctx, x, g, status);
  else
    base.step(ctx, x, g);
}

}  // namespace detail

/// \brief Any Euclidean optimizer, made to move on a manifold: StelLA's three steps around it.
/// \ingroup optim
///
/// With the base optimizer's step B, which has a state of its own \cite li2025 ,
/// \f[ r = g - x\,g^H x, \qquad z = \sqrt{d/n}\;\bigl( B(x, r) - x \bigr), \qquad
///     x \leftarrow R_x(P_x(z)) \f]
/// on `stiefel`: r is the gradient of the canonical metric, whichever metric the manifold has. On
/// another manifold r is its Riemannian gradient, and without a polar retraction the default is its
/// own. The moments of the base optimizer stay in the space around and are not transported. Its
/// decoupled weight decay moves along x, and the projection takes out what of that is normal: on
/// `stiefel` all of it.
///
/// The base is moved in. It needs `step(ctx, x, g, status)` or `step(ctx, x, g)`, may have
/// `set_learning_rate(rate)` and `for_each_array(visit)`, and is made for the shape of x. A
/// gradient that is not finite leaves the point as it is and sets `not_finite`; the optimizers of
/// this library then leave their state as well.
///
/// \tparam Manifold  project() and retract() are found by its namespace
/// \tparam Base      a Euclidean optimizer
/// \tparam How       options of a retraction
/// \see polar_retraction, exponential_retraction
template <class Manifold, class Base, class How = polar_retraction>
class stella {
 public:
  /// What save() calls it.
  static constexpr char const* name = "stella";

  /// \param[in] manifold    where the points live
  /// \param[in] x           a point: its shape becomes the state's
  /// \param[in] base        the Euclidean optimizer, made for x's shape and memory
  /// \param[in] options     scaling
  /// \param[in] retraction  how a step returns to the manifold
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  stella(Ctx&, Manifold manifold, X const& x, Base base, stella_options options = {},
         How retraction = {})
      : manifold_(manifold),
        base_(std::move(base)),
        retraction_(retraction),
        rows_(x.rows()),
        cols_(x.cols()) {
    expect_option(options.hidden >= 0, "stella", "hidden", options.hidden,
                  "a number of at least 0");
    if (options.hidden > 0 && rows_ > 0)
      factor_ = std::sqrt(options.hidden / static_cast<double>(rows_));
  }

  /// Moves x one step. Never allocates after the first call and never waits, where the base and the
  /// retraction do not.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// \f$ 8np^2 \f$ flops, those of the base and the retraction; three n x p scratch matrices.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("stella::step", "x", x, rows_, cols_);
    expect_shape("stella::step", "g", g, rows_, cols_);
    expect_distinct(ctx, "stella::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto gradient = clone(ctx, g);
    detail::stella_gradient(ctx, manifold_, x, gradient);
    auto moved = clone(ctx, x);
    detail::stella_base_step(base_, ctx, moved, gradient, status);
    axpy(ctx, -1, x, moved);
    scale(ctx, factor_, moved);
    project(ctx, manifold_, x, moved, moved);
    detail::stella_retract(ctx, manifold_, x, moved, gradient, retraction_);
    copy_if(ctx, finite, gradient, x);
  }

  /// Sets the step size of the base optimizer.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { base_.set_learning_rate(learning_rate); }

  /// \returns the base optimizer
  Base const& base() const { return base_; }

  /// \brief Offers every array of the base optimizer's state to a visitor, as `base.` and its name.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    auto const prefixed = [&](char const* array, auto& a) {
      visit((std::string("base.") + array).c_str(), a);
    };
    if constexpr (requires { base_.for_each_array(prefixed); }) base_.for_each_array(prefixed);
  }

 private:
  Manifold manifold_;
  Base base_;
  How retraction_;
  index_t rows_, cols_;
  double factor_ = 1;
};

}  // namespace stiefelx
