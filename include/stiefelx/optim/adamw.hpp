// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/adam.hpp>
#include <stiefelx/optim/adam_ranges.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// Options of adamw.
/// \ingroup optim
struct adamw_options {
  double learning_rate = 1e-3;  ///< \f$ \eta > 0 \f$
  double beta1 = 0.9;           ///< decay of the first moment, in [0, 1)
  double beta2 = 0.999;         ///< decay of the second moment, in [0, 1)
  double epsilon = 1e-8;        ///< added to the root of the second moment, above 0
  double weight_decay = 0;      ///< decoupled decay, at least 0
};

/// \brief Adam with decoupled weight decay, for a parameter with no constraint.
/// \ingroup optim
///
/// For every entry,
/// \f[ m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
///     x \leftarrow x - \eta \left( \frac{\hat m}{\sqrt{\hat v} + \epsilon} + \lambda x \right),
/// \f]
/// where hats divide by \f$ 1 - \beta^t \f$ \cite loshchilov2019. A gradient that is not finite
/// leaves the parameter and the state as they are and sets `not_finite`.
///
/// \tparam Moment  owning real matrix that lives where the parameter lives
/// \tparam Number  owning 1 x 1 matrix of double, in the same memory
template <RealMatrix Moment, Matrix Number>
class adamw {
 public:
  /// What save() calls it.
  static constexpr char const* name = "adamw";

  /// \param[in] ctx      where the state lives
  /// \param[in] x        the parameter: its shape, scalar and memory become the state's
  /// \param[in] options  step size, decays
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  adamw(Ctx& ctx, X const& x, adamw_options options = {})
      : first_(zeros_like(ctx, x)),
        second_(zeros_like(ctx, x)),
        power1_(zeros<double>(ctx, 1, 1)),
        power2_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    expect_adam_ranges("adamw", options);
    expect_option(options.weight_decay >= 0, "adamw", "weight_decay", options.weight_decay,
                  "a number of at least 0");
    fill(ctx, 1, power1_);
    fill(ctx, 1, power2_);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       the parameter, of the state's shape
  /// \param[in]     g       gradient of x's shape; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Moment, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("adamw::step", "x", x, first_.rows(), first_.cols());
    expect_shape("adamw::step", "g", g, first_.rows(), first_.cols());
    expect_distinct(ctx, "adamw::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    transform(ctx, adam_powers_element{options_.beta1, options_.beta2}, outputs(power1_, power2_),
              inputs(finite));
    transform(ctx,
              adamw_element{options_.learning_rate, options_.beta1, options_.beta2,
                            options_.epsilon, options_.weight_decay},
              outputs(x, first_, second_), inputs(g, power1_, power2_, finite));
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the first moment, of the parameter's shape
  Moment const& first_moment() const { return first_; }
  /// \returns the second moment, of the parameter's shape
  Moment const& second_moment() const { return second_; }

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
  Moment first_, second_;
  Number power1_, power2_;
  adamw_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
adamw(Ctx&, X const&, adamw_options = {}) -> adamw<owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
