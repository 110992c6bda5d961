// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/tangent_decay.hpp>

namespace stiefelx {

/// Step size and decay of riemannian_momentum.
/// \ingroup optim
struct momentum_options {
  double learning_rate = 1e-2;  ///< \f$ \eta > 0 \f$
  double momentum = 0.9;        ///< \f$ \beta \in [0, 1) \f$; 0 is plain gradient descent
  bool nesterov = false;        ///< whether the step looks ahead along the velocity
  double weight_decay = 0;      ///< \f$ \lambda \f$, decoupled, at least 0
};

/// \brief Gradient descent with momentum on a manifold.
/// \ingroup optim
///
/// One step at \f$ x \f$ with Euclidean gradient \f$ g \f$ is
/// \f[ r = \mathrm{grad}(g), \qquad u \leftarrow \beta\,\mathcal{T}(u) + r, \qquad
///     x \leftarrow R_x(-\eta\,(d + \lambda P_x(x))) \f]
/// with \f$ d = u \f$, or \f$ d = r + \beta u \f$ with Nesterov's momentum \cite sutskever2013 . The
/// decay \f$ \lambda \f$ is along the tangent part of x: all of it on `euclidean`, none on a sphere or
/// a Stiefel manifold, where x is normal. The velocity \f$ u \f$ is stored as it was at the previous point; projecting it at the new one
/// is the vector transport. A zero gradient and a zero velocity leave x unchanged up to the
/// rounding of the retraction.
///
/// A gradient that is not finite leaves the point and the velocity as they are and sets
/// `not_finite`.
///
/// \tparam Manifold  project() and retract() are found by its namespace
/// \tparam Velocity  owning matrix that lives where the points live
/// \see \cite absil2008, chapter 4
template <class Manifold, Matrix Velocity>
class riemannian_momentum {
 public:
  /// What save() calls it.
  static constexpr char const* name = "riemannian_momentum";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   step size and decay
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  riemannian_momentum(Ctx& ctx, Manifold manifold, X const& x, momentum_options options = {})
      : manifold_(manifold), velocity_(zeros_like(ctx, x)), options_(options) {
    expect_option(options.learning_rate >= 0, "riemannian_momentum", "learning_rate",
                  options.learning_rate, "a number of at least 0");
    expect_option(options.momentum >= 0 && options.momentum < 1, "riemannian_momentum", "momentum",
                  options.momentum, "a number in [0, 1)");
    expect_option(options.weight_decay >= 0, "riemannian_momentum", "weight_decay",
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
    expect_shape("riemannian_momentum::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("riemannian_momentum::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_distinct(ctx, "riemannian_momentum::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto velocity = clone(ctx, g);
    gradient_or_project(ctx, manifold_, x, velocity, velocity);
    auto direction = clone(ctx, velocity_);
    project(ctx, manifold_, x, direction, direction);
    axpy(ctx, options_.momentum, direction, velocity);
    if (options_.nesterov) {
      // r + beta u with r = u - beta T(u).
      scale(ctx, -options_.momentum, direction);
      axpy(ctx, 1 + options_.momentum, velocity, direction);
    } else {
      copy(ctx, velocity, direction);
    }
    add_tangent_decay(ctx, manifold_, options_.weight_decay, x, direction);
    scale(ctx, -options_.learning_rate, direction);
    copy_if(ctx, finite, velocity, velocity_);
    retract(ctx, manifold_, x, direction, velocity);
    copy_if(ctx, finite, velocity, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the velocity that the last step moved along, tangent at the point it started from
  Velocity const& velocity() const { return velocity_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
  }

 private:
  Manifold manifold_;
  Velocity velocity_;
  momentum_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
riemannian_momentum(Ctx&, Manifold, X const&, momentum_options = {})
    -> riemannian_momentum<Manifold, owning_t<Ctx, X>>;

}  // namespace stiefelx
