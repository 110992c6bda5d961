// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/adam.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/adam_ranges.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// Options of riemannian_adam.
/// \ingroup optim
struct riemannian_adam_options {
  double learning_rate = 1e-3;  ///< \f$ \eta > 0 \f$
  double beta1 = 0.9;           ///< decay of the first moment, in [0, 1)
  double beta2 = 0.999;         ///< decay of the second moment, in [0, 1)
  double epsilon = 1e-8;        ///< added to the root of the second moment, above 0
};

/// \brief Adam on a manifold, with one second moment for the whole matrix.
/// \ingroup optim
///
/// With the Riemannian gradient \f$ r \f$ at \f$ x \f$,
/// \f[ m \leftarrow \beta_1 m + (1-\beta_1)\,r, \quad v \leftarrow \beta_2 v + (1-\beta_2)
///     \langle r, r\rangle_x, \quad
///     y = R_x\!\left(\frac{-\eta\,\hat m}{\sqrt{\hat v} + \epsilon}\right), \quad
///     m \leftarrow \mathcal{T}_{x \to y}(m), \f]
/// where hats divide by \f$ 1 - \beta^t \f$. One number v a matrix keeps the step tangent; moments a
/// coordinate would leave the tangent space \cite becigneul2019.
///
/// A gradient that is not finite leaves point and state as they are and sets `not_finite`.
///
/// \tparam Manifold  project(), retract() and inner() are found by its namespace
/// \tparam Moment    owning matrix that lives where the points live
/// \tparam Number    owning 1 x 1 matrix of double, in the same memory
template <class Manifold, Matrix Moment, Matrix Number>
class riemannian_adam {
 public:
  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   step size and decays
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  riemannian_adam(Ctx& ctx, Manifold manifold, X const& x, riemannian_adam_options options = {})
      : manifold_(manifold),
        first_(zeros_like(ctx, x)),
        second_(zeros<double>(ctx, 1, 1)),
        power1_(zeros<double>(ctx, 1, 1)),
        power2_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    expect_adam_ranges("riemannian_adam", options);
    fill(ctx, 1, power1_);
    fill(ctx, 1, power2_);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Moment, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("riemannian_adam::step", "x", x, first_.rows(), first_.cols());
    expect_shape("riemannian_adam::step", "g", g, first_.rows(), first_.cols());
    expect_distinct(ctx, "riemannian_adam::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    transform(ctx, adam_powers_element{options_.beta1, options_.beta2}, outputs(power1_, power2_),
              inputs(finite));

    auto moment = clone(ctx, g);
    gradient_or_project(ctx, manifold_, x, moment, moment);
    auto squared = scratch<double>(ctx, 1, 1);
    inner(ctx, manifold_, x, moment, moment, squared);
    scale(ctx, 1 - options_.beta1, moment);
    axpy(ctx, options_.beta1, first_, moment);

    auto length = scratch<double>(ctx, 1, 1);
    transform(ctx,
              adam_step_length_element{options_.learning_rate, options_.beta2, options_.epsilon},
              outputs(length, second_), inputs(squared, power1_, power2_, finite));
    auto direction = clone(ctx, moment);
    scale(ctx, length, direction);
    auto next = clone(ctx, x);
    retract(ctx, manifold_, x, direction, next);
    transport_or_project(ctx, manifold_, x, next, moment, moment);
    copy_if(ctx, finite, moment, first_);
    copy_if(ctx, finite, next, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the first moment, tangent at the point that the last step left
  Moment const& first_moment() const { return first_; }
  /// \returns the second moment, 1 x 1
  Number const& second_moment() const { return second_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("first_moment", first_);
    visit("second_moment", second_);
    visit("power1", power1_);
    visit("power2", power2_);
  }

 private:
  Manifold manifold_;
  Moment first_;
  Number second_, power1_, power2_;
  riemannian_adam_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
riemannian_adam(Ctx&, Manifold, X const&, riemannian_adam_options = {})
    -> riemannian_adam<Manifold, owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
