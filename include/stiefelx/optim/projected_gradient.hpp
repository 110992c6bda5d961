// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/tangent_decay.hpp>

namespace stiefelx {

/// Options of projected_gradient.
/// \ingroup optim
struct projected_gradient_options {
  double learning_rate = 1e-2;  ///< \f$ \eta \ge 0 \f$
  double momentum = 0;          ///< \f$ \beta \in [0, 1) \f$
  double weight_decay = 0;      ///< \f$ \lambda \ge 0 \f$, decoupled
};

/// \brief Projected gradient descent: a step in the space around, and the nearest point.
/// \ingroup optim
///
/// \f[ u \leftarrow \beta u + g, \qquad
///     x \leftarrow \Pi\!\left(x - \eta\,(u + \lambda P_x(x))\right) \f]
/// with \f$ \Pi \f$ the manifold's nearest_point() and \f$ P_x \f$ its projection. The gradient
/// goes in as it is, with its part normal to the manifold: for a compact set that part holds long
/// steps back, and fixed points are the critical points. Weight decay acts along the tangent part
/// of x, which is x on `euclidean` and nothing on `stiefel` (tangent_decay.hpp).
///
/// A gradient that is not finite leaves the point and the velocity as they are and sets
/// `not_finite`; the other bits are those of nearest_point(), as where x - eta u has no full rank.
///
/// \tparam Manifold  nearest_point(ctx, m, z, x, status) is found by its namespace, status optional
/// \tparam Velocity  owning matrix that lives where the points live
template <class Manifold, Matrix Velocity>
class projected_gradient {
 public:
  /// What save() calls it.
  static constexpr char const* name = "projected_gradient";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   step size, momentum, decay
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  projected_gradient(Ctx& ctx, Manifold manifold, X const& x,
                     projected_gradient_options options = {})
      : manifold_(manifold), velocity_(zeros_like(ctx, x)), options_(options) {
    expect_option(options.learning_rate >= 0, "projected_gradient", "learning_rate",
                  options.learning_rate, "a number of at least 0");
    expect_option(options.momentum >= 0 && options.momentum < 1, "projected_gradient", "momentum",
                  options.momentum, "a number in [0, 1)");
    expect_option(options.weight_decay >= 0, "projected_gradient", "weight_decay",
                  options.weight_decay, "a number of at least 0");
  }

  /// Moves x one step. Never allocates after the first call; waits only where nearest_point() does.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, a point
  /// \param[in]     g       n x p, Euclidean gradient at x; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// That of nearest_point(), two n x p scratch matrices.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Velocity, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("projected_gradient::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("projected_gradient::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_distinct(ctx, "projected_gradient::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto u = clone(ctx, velocity_);
    scale(ctx, options_.momentum, u);
    axpy(ctx, 1, g, u);
    copy_if(ctx, finite, u, velocity_);

    add_tangent_decay(ctx, manifold_, options_.weight_decay, x, u);
    scale(ctx, -options_.learning_rate, u);
    axpy(ctx, 1, x, u);
    // The nearest point of x itself stands in for a step that is not taken.
    auto moved = clone(ctx, x);
    copy_if(ctx, finite, u, moved);
    if constexpr (requires { nearest_point(ctx, manifold_, moved, u, status); })
      nearest_point(ctx, manifold_, moved, u, status);
    else
      nearest_point(ctx, manifold_, moved, u);
    copy_if(ctx, finite, u, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the velocity u, a matrix of the space around
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
  projected_gradient_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
projected_gradient(Ctx&, Manifold, X const&, projected_gradient_options = {})
    -> projected_gradient<Manifold, owning_t<Ctx, X>>;

}  // namespace stiefelx
