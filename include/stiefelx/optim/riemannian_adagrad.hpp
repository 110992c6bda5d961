// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/riemannian_rmsprop.hpp>
#include <stiefelx/optim/tangent_decay.hpp>

namespace stiefelx {

/// Options of riemannian_adagrad.
/// \ingroup optim
struct adagrad_options {
  double learning_rate = 1e-1;  ///< \f$ \eta > 0 \f$
  double start = 0;             ///< the sum of squares before the first step, at least 0
  double epsilon = 1e-10;       ///< added to the root, above 0
  double weight_decay = 0;      ///< \f$ \lambda \f$, decoupled, at least 0
};

/// \brief Adagrad on a manifold, with one sum of squares for the whole matrix.
/// \ingroup optim
///
/// With the Riemannian gradient \f$ r \f$ at x,
/// \f[ v \leftarrow v + \langle r, r \rangle_x, \qquad x \leftarrow R_x\!\left( -\eta \left(
///     \frac{r}{\sqrt v + \epsilon} + \lambda P_x(x) \right) \right). \f]
/// Steps shrink like \f$ 1/\sqrt t \f$ under gradients of one size: no schedule is needed. A gradient that
/// is not finite leaves everything as it is and sets `not_finite`.
///
/// \tparam Manifold  project(), retract() and inner() are found by its namespace
/// \tparam Point     owning matrix of the points' shape; gives the scalar
/// \tparam Number    owning matrix of double, where the points live
/// \see \cite becigneul2019
template <class Manifold, Matrix Point, Matrix Number>
class riemannian_adagrad {
 public:
  /// What save() calls it.
  static constexpr char const* name = "riemannian_adagrad";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape and scalar become the state's
  /// \param[in] options   step size and start
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  riemannian_adagrad(Ctx& ctx, Manifold manifold, X const& x, adagrad_options options = {})
      : manifold_(manifold),
        rows_(x.rows()),
        cols_(x.cols()),
        sum_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    expect_option(options.learning_rate >= 0, "riemannian_adagrad", "learning_rate",
                  options.learning_rate, "a number of at least 0");
    expect_option(options.start >= 0, "riemannian_adagrad", "start", options.start,
                  "a number of at least 0");
    expect_option(options.epsilon > 0, "riemannian_adagrad", "epsilon", options.epsilon,
                  "a number above 0");
    expect_option(options.weight_decay >= 0, "riemannian_adagrad", "weight_decay",
                  options.weight_decay, "a number of at least 0");
    fill(ctx, options.start, sum_);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Point, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("riemannian_adagrad::step", "x", x, rows_, cols_);
    expect_shape("riemannian_adagrad::step", "g", g, rows_, cols_);
    expect_distinct(ctx, "riemannian_adagrad::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto direction = clone(ctx, g);
    gradient_or_project(ctx, manifold_, x, direction, direction);
    auto squared = scratch<double>(ctx, 1, 1);
    auto factor = scratch<double>(ctx, 1, 1);
    inner(ctx, manifold_, x, direction, direction, squared);
    transform(ctx, rmsprop_element{1, 1, options_.epsilon}, outputs(factor, sum_),
              inputs(squared, finite));
    scale(ctx, factor, direction);
    add_tangent_decay(ctx, manifold_, options_.weight_decay, x, direction);
    scale(ctx, -options_.learning_rate, direction);
    auto next = clone(ctx, x);
    retract(ctx, manifold_, x, direction, next);
    copy_if(ctx, finite, next, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the sum of squares, 1 x 1
  Number const& sum_of_squares() const { return sum_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("sum_of_squares", sum_);
  }

 private:
  Manifold manifold_;
  index_t rows_, cols_;
  Number sum_;
  adagrad_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
riemannian_adagrad(Ctx&, Manifold, X const&, adagrad_options = {})
    -> riemannian_adagrad<Manifold, owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
