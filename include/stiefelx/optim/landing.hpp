// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/landing.hpp>
#include <stiefelx/manifold/stiefel_space.hpp>
#include <stiefelx/optim/landing_field.hpp>

namespace stiefelx {

/// What landing and generalized_landing do with a point outside their region.
/// \ingroup optim
enum class landing_outside {
  approach,  ///< steps to the manifold alone, without the gradient, until the point is inside
  safe_step  ///< the same step as inside, no longer than what keeps the distance from growing
};

/// Options of landing.
/// \ingroup optim
struct landing_options {
  double learning_rate = 1e-2;  ///< \f$ \eta \ge 0 \f$, the longest step
  double momentum = 0;          ///< \f$ \beta \in [0, 1) \f$
  double attraction = 1;        ///< \f$ \lambda > 0 \f$, weight of the part towards the manifold
  double region = 0.5;  ///< \f$ \epsilon \in (0, 1) \f$, largest \f$ \lVert x^H x - I \rVert_F \f$
  landing_outside outside = landing_outside::approach;  ///< see landing_outside
};

/// \brief Checks the options that landing methods share.
/// \ingroup optim
/// \param[in] name     the optimizer, for the text
/// \param[in] options  with learning_rate, momentum, attraction and region
/// \throws option_error  unless learning_rate >= 0, momentum is in [0, 1), attraction > 0 and
///                       region is in (0, 1)
template <class Options>
void expect_landing_ranges(char const* name, Options const& options) {
  expect_option(options.learning_rate >= 0, name, "learning_rate", options.learning_rate,
                "a number of at least 0");
  expect_option(options.momentum >= 0 && options.momentum < 1, name, "momentum", options.momentum,
                "a number in [0, 1)");
  expect_option(options.attraction > 0, name, "attraction", options.attraction, "a number above 0");
  expect_option(options.region > 0 && options.region < 1, name, "region", options.region,
                "a number in (0, 1)");
}

/// \brief Landing method: descent on the Stiefel manifold without retractions.
/// \ingroup optim
///
/// One step at \f$ x \f$ with Euclidean gradient \f$ g \f$ is
/// \f[ u \leftarrow \beta u + g, \qquad f = \tfrac12 (u\,x^H x - x\,u^H x) + \lambda\,x\,\Delta,
///     \quad \Delta = x^H x - I, \qquad x \leftarrow x - \min(\eta, \eta^*)\,f . \f]
/// Points are near the manifold and converge to it with the cost: f vanishes only at its critical
/// points. The velocity u is a matrix of the space around; the field is linear in it and takes at
/// each point the part along the manifold, so nothing is transported.
///
/// **Safe step.** As \f$ x^H (u x^H - x u^H) x \f$ is skew-Hermitian, a step of length s gives
/// \f$ \Delta_+ = \Delta - 2 s \lambda (\Delta + \Delta^2) + s^2 f^H f \f$. With \f$ d = \lVert
/// \Delta \rVert_F \f$, \f$ \gamma = \lVert f \rVert_F \f$, \f$ b = \lambda d (1 - d) \f$ and \f$ 2
/// s \lambda \le 1 \f$ its norm is at most \f$ d - 2 s b + s^2 \gamma^2 \f$, hence
/// \f[ d \le \epsilon \;\Rightarrow\; d_+ \le \epsilon \quad\text{for}\quad
///     s \le \eta^* = \min\left( \frac{b + \sqrt{b^2 + \gamma^2 \max(0, \epsilon - d)}}{\gamma^2},
///     \frac1{2\lambda} \right), \f]
/// for every gradient and learning rate, to rounding. It is found where the data live.
///
/// **A start outside**, \f$ d > \epsilon \f$ by more than the rounding of d, sets `not_converged`
/// in every such step. `approach` then leaves the gradient out and takes \f$ x \leftarrow x - x
/// \Delta / (2 (1 + d)) \f$: each singular value moves towards one and not past it, from any x of
/// full rank, and near the manifold that is a Newton-Schulz step. `safe_step` keeps to the formula,
/// for which d does not grow if \f$ d < 1 \f$, and stays where it is otherwise. Where the start is
/// known to be far, nearest_point() brings it in at once.
///
/// Weight decay has no place here: x is normal to the manifold, and the field of g + x is that of
/// g. A gradient that is not finite, or so large that the squared norm of its field is not, leaves
/// the point and the state as they are and sets `not_finite`.
///
/// \tparam Velocity  owning matrix that lives where the points live
/// \tparam Number    owning 1 x 1 matrix of double, in the same memory
/// \see \cite ablin2022, \cite ablin2023
template <Matrix Velocity, Matrix Number>
class landing {
 public:
  /// What save() calls it.
  static constexpr char const* name = "landing";

  /// \param[in] ctx      where the state lives
  /// \param[in] m        \f$ \mathrm{St}(n, p) \f$; its metric plays no part
  /// \param[in] x        a point: its shape, scalar and memory become the state's
  /// \param[in] options  step size, momentum, weights
  /// \throws shape_error   if x is not n x p
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  landing(Ctx& ctx, stiefel m, X const& x, landing_options options = {})
      : velocity_(zeros_like(ctx, x)), step_length_(zeros<double>(ctx, 1, 1)), options_(options) {
    detail::expect_stiefel("landing", "x", m, x);
    expect_landing_ranges("landing", options);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, near the manifold
  /// \param[in]     g       n x p, Euclidean gradient at x; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// 7 n p^2 flops (two Grams, two products), two n x p scratch matrices.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Velocity, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("landing::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("landing::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_distinct(ctx, "landing::step", "x", x, "g", g);
    auto finite = scratch<double>(ctx, 1, 1);
    all_finite(ctx, g, finite);
    auto u = clone(ctx, velocity_);
    scale(ctx, options_.momentum, u);
    axpy(ctx, 1, g, u);

    auto const k = gram(ctx, x);
    auto const defect = detail::minus_identity(ctx, k);
    auto squared = scratch<double>(ctx, 1, 1);
    auto along = scratch<double>(ctx, 1, 1);
    auto outward = scratch<double>(ctx, 1, 1);
    inner(ctx, defect, defect, squared);
    landing_region const region{options_.region,
                                detail::rounding_of_distance<real_t<X>>(x.rows(), x.cols()),
                                options_.outside == landing_outside::approach};
    transform(ctx, landing_weights_element{options_.attraction, region}, outputs(along, outward),
              inputs(squared));
    auto f = clone(ctx, u);
    detail::combine_field(ctx, x, u, k, defect, along, outward, f);

    auto field_squared = scratch<double>(ctx, 1, 1);
    auto length = scratch<double>(ctx, 1, 1);
    auto bits = clear_status(ctx, 1);
    inner(ctx, f, f, field_squared);
    transform(ctx, landing_step_element{options_.learning_rate, options_.attraction, region},
              outputs(length, finite), inputs(squared, field_squared));
    transform(ctx, landing_status_element{region}, outputs(bits), inputs(squared, finite));
    raise(ctx, status, bits);
    copy_if(ctx, finite, length, step_length_);
    copy_if(ctx, finite, u, velocity_);
    scale(ctx, -1, length);
    scale(ctx, length, f);
    axpy(ctx, 1, x, f);
    copy_if(ctx, finite, f, x);
  }

  /// Sets the longest step of the following ones.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the velocity u, a matrix of the space around
  Velocity const& velocity() const { return velocity_; }
  /// \returns 1 x 1: the factor of the field in the last step, the learning rate or what was safe
  Number const& step_length() const { return step_length_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
    visit("step_length", step_length_);
  }

 private:
  Velocity velocity_;
  Number step_length_;
  landing_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
landing(Ctx&, stiefel, X const&, landing_options = {})
    -> landing<owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
