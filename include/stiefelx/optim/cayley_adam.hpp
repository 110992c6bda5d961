// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/adam.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/optim/adam_ranges.hpp>
#include <stiefelx/optim/cayley_momentum.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// Options of cayley_adam.
/// \ingroup optim
struct cayley_adam_options {
  double learning_rate = 0.4;   ///< \f$ l > 0 \f$, the longest step
  double beta1 = 0.9;           ///< decay of the first moment, in [0, 1)
  double beta2 = 0.99;          ///< decay of the second moment, in [0, 1)
  double contraction = 0.5;     ///< q in (0, 1): bound of \f$ \alpha \lVert W \rVert_F / 2 \f$
  double epsilon = 1e-8;        ///< added to the second moment and to the norm of W, above 0
  int iterations = 2;           ///< fixed-point steps, at least 0
  int newton_schulz_steps = 1;  ///< clean-up of a step, at least 0; see cayley_momentum
};

/// The step of cayley_adam from its scalar second moment: - min(l, 2 q / (|W| / r + epsilon)) / r.
/// \ingroup optim
struct cayley_adam_length_element {
  double learning_rate;  ///< l
  double beta2;          ///< decay of the second moment
  double contraction;    ///< q
  double epsilon;        ///< added to the second moment and to the norm

  /// \param[out]    length    the factor of the first moment, negative
  /// \param[in,out] v         second moment
  /// \param[in]     gradient  squared length of the gradient
  /// \param[in]     rotation  squared norm of W for the first moment
  /// \param[in]     power1    beta1^t after this step
  /// \param[in]     power2    beta2^t after this step
  /// \param[in]     finite    0 leaves v as it is and gives length 0
  STIEFELX_HD void operator()(double& length, double& v, double const& gradient,
                              double const& rotation, double const& power1, double const& power2,
                              double const& finite) const {
    length = 0;
    if (finite == 0) return;
    v = beta2 * v + (1 - beta2) * gradient;
    double const r = (1 - power1) * std::sqrt(v / (1 - power2) + epsilon);
    double const turn = std::sqrt(rotation > 0 ? rotation : 0) / r;
    double const longest = 2 * contraction / (turn + epsilon);
    length = -(learning_rate < longest ? learning_rate : longest) / r;
  }
};

/// \brief Adam on the Stiefel manifold, by an iterated Cayley transform.
/// \ingroup optim
///
/// With one second moment for the whole matrix and Euclidean gradient g \cite li2020 ,
/// \f[ m \leftarrow P_x\bigl(\beta_1 m + (1-\beta_1)\,g\bigr), \quad
///     v \leftarrow \beta_2 v + (1-\beta_2)\,\lVert g \rVert_F^2, \quad
///     r = (1 - \beta_1^t) \sqrt{v / (1 - \beta_2^t) + \epsilon}, \f]
/// then a step of cayley_momentum along \f$ m / r \f$, with the same cap, iteration and clean-up.
/// The projection is the tangent part through W, and the vector transport of the old moment. v
/// counts the normal part of the gradient too, as published; riemannian_adam takes the Riemannian
/// gradient.
///
/// A gradient that is not finite leaves point and state as they are and sets `not_finite`. There is
/// no weight decay: it is normal to the manifold.
///
/// \tparam Moment  owning matrix that lives where the points live
/// \tparam Number  owning 1 x 1 matrix of double, in the same memory
template <Matrix Moment, Matrix Number>
class cayley_adam {
 public:
  /// What save() calls it.
  static constexpr char const* name = "cayley_adam";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   longest step, decays, iteration
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  cayley_adam(Ctx& ctx, stiefel manifold, X const& x, cayley_adam_options options = {})
      : manifold_(manifold),
        first_(zeros_like(ctx, x)),
        second_(zeros<double>(ctx, 1, 1)),
        power1_(zeros<double>(ctx, 1, 1)),
        power2_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    expect_adam_ranges("cayley_adam", options);
    detail::expect_cayley_ranges("cayley_adam", options);
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
  /// \par Cost
  /// That of cayley_momentum.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Moment, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("cayley_adam::step", "x", x, first_.rows(), first_.cols());
    expect_shape("cayley_adam::step", "g", g, first_.rows(), first_.cols());
    expect_distinct(ctx, "cayley_adam::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    transform(ctx, adam_powers_element{options_.beta1, options_.beta2}, outputs(power1_, power2_),
              inputs(finite));
    auto gradient = scratch<double>(ctx, 1, 1);
    auto rotation = scratch<double>(ctx, 1, 1);
    auto length = scratch<double>(ctx, 1, 1);
    auto moment = clone(ctx, g);
    inner(ctx, moment, moment, gradient);
    scale(ctx, 1 - options_.beta1, moment);
    axpy(ctx, options_.beta1, first_, moment);
    project(ctx, manifold_, x, moment, moment);

    rotation_squared_norm(ctx, x, moment, rotation);
    transform(ctx,
              cayley_adam_length_element{options_.learning_rate, options_.beta2,
                                         options_.contraction, options_.epsilon},
              outputs(length, second_), inputs(gradient, rotation, power1_, power2_, finite));
    auto direction = clone(ctx, moment);
    scale(ctx, length, direction);
    copy_if(ctx, finite, moment, first_);
    retract(ctx, manifold_, x, direction, moment,
            cayley_iteration_retraction{options_.iterations, options_.newton_schulz_steps});
    copy_if(ctx, finite, moment, x);
  }

  /// Sets the longest step of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the first moment, tangent at the point that the last step started from
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
  stiefel manifold_;
  Moment first_;
  Number second_, power1_, power2_;
  cayley_adam_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
cayley_adam(Ctx&, stiefel, X const&, cayley_adam_options = {})
    -> cayley_adam<owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
