// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/tangent_decay.hpp>
#include <stiefelx/team/row_column_moments.hpp>

namespace stiefelx {

/// Which moments rasa scales a gradient by.
/// \ingroup optim
enum class rasa_side {
  both,    ///< \f$ L^{-1/4} r\,C^{-1/4} \f$
  rows,    ///< \f$ L^{-1/2} r \f$
  columns  ///< \f$ r\,C^{-1/2} \f$
};

/// Options of rasa.
/// \ingroup optim
struct rasa_options {
  double learning_rate = 1e-2;       ///< \f$ \eta > 0 \f$
  double decay = 0.99;               ///< \f$ \beta \f$ of the moments, in [0, 1)
  double epsilon = 1e-8;             ///< added to each moment, above 0
  rasa_side side = rasa_side::both;  ///< which moments are used
  double weight_decay = 0;           ///< \f$ \lambda \f$, decoupled, at least 0
};

/// \brief Adaptive gradient descent on a manifold of matrices, with a moment a row and a column.
/// \ingroup optim
///
/// With the Riemannian gradient \f$ r \f$ at x, n x p, and diagonal matrices L and C,
/// \f[ L \leftarrow \beta L + \tfrac{1-\beta}{p} \mathrm{diag}(r\,r^H), \qquad
///     C \leftarrow \beta C + \tfrac{1-\beta}{n} \mathrm{diag}(r^H r), \f]
/// \f[ x \leftarrow R_x\!\left( -\eta\,\left( P_x\!\left( \hat L^{-1/4}\,r\,\hat C^{-1/4} \right) + \lambda
///     P_x(x) \right) \right), \f]
/// where hats are the largest moments so far, so that step lengths never grow by themselves, as the proof of
/// convergence wants. Scaling rows and columns leaves the tangent space; the projection brings it back.
/// The paper's rate falls like \f$ 1/\sqrt t \f$: set_learning_rate() before each step gives it. A gradient
/// that is not finite leaves everything as it is and sets `not_finite`.
///
/// \tparam Manifold  project() and retract() are found by its namespace
/// \tparam Point     owning matrix of the points' shape; gives the scalar
/// \tparam Number    owning matrix of double, where the points live
/// \see \cite kasai2019
template <class Manifold, Matrix Point, Matrix Number>
class rasa {
 public:
  /// What save() calls it.
  static constexpr char const* name = "rasa";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point, n x p: its shape and scalar become the state's
  /// \param[in] options   step size, decay, side
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  rasa(Ctx& ctx, Manifold manifold, X const& x, rasa_options options = {})
      : manifold_(manifold),
        rows_(zeros<double>(ctx, x.rows(), 2)),
        columns_(zeros<double>(ctx, 2, x.cols())),
        options_(options) {
    expect_option(options.learning_rate >= 0, "rasa", "learning_rate", options.learning_rate,
                  "a number of at least 0");
    expect_option(options.decay >= 0 && options.decay < 1, "rasa", "decay", options.decay,
                  "a number in [0, 1)");
    expect_option(options.epsilon > 0, "rasa", "epsilon", options.epsilon, "a number above 0");
    expect_option(options.weight_decay >= 0, "rasa", "weight_decay", options.weight_decay,
                  "a number of at least 0");
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
    expect_shape("rasa::step", "x", x, rows_.rows(), columns_.cols());
    expect_shape("rasa::step", "g", g, rows_.rows(), columns_.cols());
    expect_distinct(ctx, "rasa::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto direction = clone(ctx, g);
    gradient_or_project(ctx, manifold_, x, direction, direction);
    run_batch(ctx, 1, row_column_moments_body{options_.decay}, dense(ctx, direction), finite, rows_,
              columns_);
    auto one = scratch<double>(ctx, 1, 1);
    fill(ctx, 1, one);
    auto const side = options_.side;
    double const left = side == rasa_side::both ? 0.25 : side == rasa_side::rows ? 0.5 : 0;
    double const right = side == rasa_side::both ? 0.25 : side == rasa_side::columns ? 0.5 : 0;
    run_batch(ctx, 1, row_column_scaling_body{left, right, options_.epsilon}, dense(ctx, direction),
              dense(ctx, rows_), dense(ctx, columns_), dense(ctx, one), direction);
    project(ctx, manifold_, x, direction, direction);
    add_tangent_decay(ctx, manifold_, options_.weight_decay, x, direction);
    scale(ctx, -options_.learning_rate, direction);
    auto next = clone(ctx, x);
    retract(ctx, manifold_, x, direction, next);
    copy_if(ctx, finite, next, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns n x 2: the moments of the rows, and the largest so far
  Number const& row_moments() const { return rows_; }
  /// \returns 2 x p: the moments of the columns, and the largest so far
  Number const& column_moments() const { return columns_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("row_moments", rows_);
    visit("column_moments", columns_);
  }

 private:
  Manifold manifold_;
  Number rows_, columns_;
  rasa_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
rasa(Ctx&, Manifold, X const&, rasa_options = {})
    -> rasa<Manifold, owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
