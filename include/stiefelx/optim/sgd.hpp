// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// Options of sgd.
/// \ingroup optim
struct sgd_options {
  double learning_rate = 1e-2;  ///< \f$ \eta > 0 \f$
  double momentum = 0;          ///< \f$ \beta \in [0, 1) \f$
  bool nesterov = false;        ///< whether the step looks ahead along the velocity
  double weight_decay = 0;      ///< \f$ \lambda \f$, decoupled, at least 0
};

/// One entry's update of sgd.
/// \ingroup optim
struct sgd_element {
  double learning_rate;  ///< \f$ \eta \f$
  double momentum;       ///< \f$ \beta \f$
  double weight_decay;   ///< \f$ \lambda \f$
  bool nesterov;         ///< whether the step looks ahead

  /// \param[in,out] x       parameter
  /// \param[in,out] u       velocity
  /// \param[in]     g       gradient
  /// \param[in]     finite  0 leaves everything as it is
  template <class S>
  STIEFELX_HD void operator()(S& x, S& u, S const& g, double const& finite) const {
    using Real = real_of_t<S>;
    if (finite == 0) return;
    u = static_cast<Real>(momentum) * u + g;
    S const d = nesterov ? g + static_cast<Real>(momentum) * u : u;
    x -= static_cast<Real>(learning_rate) * (d + static_cast<Real>(weight_decay) * x);
  }
};

/// \brief Gradient descent with momentum for a parameter with no constraint, in one pass.
/// \ingroup optim
///
/// \f[ u \leftarrow \beta u + g, \qquad x \leftarrow x - \eta\,(d + \lambda x) \f]
/// with \f$ d = u \f$, or \f$ d = g + \beta u \f$ with Nesterov's momentum \cite sutskever2013 . The decay is
/// decoupled \cite loshchilov2019 : it does not enter the velocity. A gradient that is not finite
/// leaves the parameter and the state as they are and sets `not_finite`.
///
/// \tparam Velocity  owning matrix that lives where the parameter lives
template <Matrix Velocity>
class sgd {
 public:
  /// What save() calls it.
  static constexpr char const* name = "sgd";

  /// \param[in] ctx      where the state lives
  /// \param[in] x        the parameter: its shape, scalar and memory become the state's
  /// \param[in] options  step size, momentum, decay
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  sgd(Ctx& ctx, X const& x, sgd_options options = {})
      : velocity_(zeros_like(ctx, x)), options_(options) {
    expect_option(options.learning_rate >= 0, "sgd", "learning_rate", options.learning_rate,
                  "a number of at least 0");
    expect_option(options.momentum >= 0 && options.momentum < 1, "sgd", "momentum",
                  options.momentum, "a number in [0, 1)");
    expect_option(options.weight_decay >= 0, "sgd", "weight_decay", options.weight_decay,
                  "a number of at least 0");
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       the parameter, of the state's shape
  /// \param[in]     g       gradient of x's shape; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Velocity, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("sgd::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("sgd::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_distinct(ctx, "sgd::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    transform(ctx,
              sgd_element{options_.learning_rate, options_.momentum, options_.weight_decay,
                          options_.nesterov},
              outputs(x, velocity_), inputs(g, finite));
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the velocity, of the parameter's shape
  Velocity const& velocity() const { return velocity_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
  }

 private:
  Velocity velocity_;
  sgd_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
sgd(Ctx&, X const&, sgd_options = {}) -> sgd<owning_t<Ctx, X>>;

}  // namespace stiefelx
