// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/tangent_decay.hpp>

namespace stiefelx {

/// Options of riemannian_rmsprop.
/// \ingroup optim
struct rmsprop_options {
  double learning_rate = 1e-2;  ///< \f$ \eta > 0 \f$
  double decay = 0.99;          ///< \f$ \beta \f$ of the mean square, in [0, 1)
  double epsilon = 1e-8;        ///< added to the root, above 0
  double momentum = 0;          ///< \f$ \mu \f$ of the scaled gradients, in [0, 1)
  double weight_decay = 0;      ///< \f$ \lambda \f$, decoupled, at least 0
};

/// Mean square after one more gradient, and the factor of the gradient.
/// \ingroup optim
struct rmsprop_element {
  double decay;    ///< of the mean square
  double fresh;    ///< weight of the new square: 1 - decay, or 1 for a sum
  double epsilon;  ///< added to the root

  /// \param[out]    factor   1 / (root + epsilon); 0 when the gradient is not finite
  /// \param[in,out] mean     mean or sum of squares
  /// \param[in]     squared  squared length of the gradient
  /// \param[in]     finite   0 leaves the mean as it is
  STIEFELX_HD void operator()(double& factor, double& mean, double const& squared,
                              double const& finite) const {
    factor = 0;
    if (finite == 0) return;
    mean = decay * mean + fresh * squared;
    factor = 1 / (std::sqrt(mean) + epsilon);
  }
};

/// \brief RMSprop on a manifold, with one mean square for the whole matrix.
/// \ingroup optim
///
/// With the Riemannian gradient \f$ r \f$ at x,
/// \f[ v \leftarrow \beta v + (1-\beta) \langle r, r \rangle_x, \qquad
///     u \leftarrow \mu\,\mathcal{T}(u) + \frac{r}{\sqrt v + \epsilon}, \qquad
///     x \leftarrow R_x(-\eta\,(u + \lambda P_x(x))). \f]
/// One number v a matrix keeps the step tangent. Without momentum there is no state but v. The velocity
/// is stored as it was at the previous point; projecting it at the new one is the transport. A gradient
/// that is not finite leaves everything as it is and sets `not_finite`.
///
/// \tparam Manifold  project(), retract() and inner() are found by its namespace
/// \tparam Velocity  owning matrix that lives where the points live
/// \tparam Number    owning matrix of double, in the same memory
/// \see \cite becigneul2019
template <class Manifold, Matrix Velocity, Matrix Number>
class riemannian_rmsprop {
 public:
  /// What save() calls it.
  static constexpr char const* name = "riemannian_rmsprop";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   step size and decays
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  riemannian_rmsprop(Ctx& ctx, Manifold manifold, X const& x, rmsprop_options options = {})
      : manifold_(manifold),
        velocity_(zeros_like(ctx, x)),
        mean_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    expect_option(options.learning_rate >= 0, "riemannian_rmsprop", "learning_rate",
                  options.learning_rate, "a number of at least 0");
    expect_option(options.decay >= 0 && options.decay < 1, "riemannian_rmsprop", "decay",
                  options.decay, "a number in [0, 1)");
    expect_option(options.epsilon > 0, "riemannian_rmsprop", "epsilon", options.epsilon,
                  "a number above 0");
    expect_option(options.momentum >= 0 && options.momentum < 1, "riemannian_rmsprop", "momentum",
                  options.momentum, "a number in [0, 1)");
    expect_option(options.weight_decay >= 0, "riemannian_rmsprop", "weight_decay",
                  options.weight_decay, "a number of at least 0");
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Velocity, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("riemannian_rmsprop::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("riemannian_rmsprop::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_distinct(ctx, "riemannian_rmsprop::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto direction = clone(ctx, g);
    gradient_or_project(ctx, manifold_, x, direction, direction);
    auto squared = scratch<double>(ctx, 1, 1);
    auto factor = scratch<double>(ctx, 1, 1);
    inner(ctx, manifold_, x, direction, direction, squared);
    transform(ctx, rmsprop_element{options_.decay, 1 - options_.decay, options_.epsilon},
              outputs(factor, mean_), inputs(squared, finite));
    scale(ctx, factor, direction);
    auto next = clone(ctx, x);
    if (options_.momentum > 0) {
      copy(ctx, velocity_, next);
      project(ctx, manifold_, x, next, next);
      axpy(ctx, options_.momentum, next, direction);
      copy_if(ctx, finite, direction, velocity_);
    }
    add_tangent_decay(ctx, manifold_, options_.weight_decay, x, direction);
    scale(ctx, -options_.learning_rate, direction);
    retract(ctx, manifold_, x, direction, next);
    copy_if(ctx, finite, next, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the mean square, 1 x 1
  Number const& mean_square() const { return mean_; }
  /// \returns the velocity that the last step moved along; zero without momentum
  Velocity const& velocity() const { return velocity_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
    visit("mean_square", mean_);
  }

 private:
  Manifold manifold_;
  Velocity velocity_;
  Number mean_;
  rmsprop_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
riemannian_rmsprop(Ctx&, Manifold, X const&, rmsprop_options = {})
    -> riemannian_rmsprop<Manifold, owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
