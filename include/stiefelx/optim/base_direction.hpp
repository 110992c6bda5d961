// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/adam.hpp>

/// \file
/// \brief Directions of Euclidean methods, for optimizers that keep a constraint around them.
/// \ingroup optim
///
/// A base has `start(ctx, x)`, which checks its options and returns its state for a parameter like
/// x. The state has `direction(ctx, g, finite, u)`, which sets u to the direction of descent
/// (negated, as a gradient is) and leaves its arrays alone when the 1 x 1 matrix finite is 0, and
/// `for_each_array(visit)`. Users' own types with these functions serve as well.

namespace stiefelx {

/// State of plain_base: none.
/// \ingroup optim
struct plain_direction {
  /// \param[in]  ctx  where to run
  /// \param[in]  g    gradient
  /// \param[out] u    g
  template <class Ctx, class G, class Finite, class U>
  void direction(Ctx& ctx, G const& g, Finite const&, U& u) {
    copy(ctx, g, u);
  }
  /// No array.
  template <class Visit>
  void for_each_array(Visit&&) {}
};

/// \brief The gradient itself: \f$ u = g \f$.
/// \ingroup optim
struct plain_base {
  /// \returns the state
  template <class Ctx, class X>
  plain_direction start(Ctx&, X const&) const {
    return {};
  }
};

/// State of momentum_base.
/// \ingroup optim
/// \tparam Velocity  owning matrix that lives where the parameter lives
template <Matrix Velocity>
class momentum_direction {
 public:
  /// \param[in] velocity  zeros of the parameter's shape
  /// \param[in] momentum  \f$ \beta \f$
  momentum_direction(Velocity velocity, double momentum)
      : velocity_(std::move(velocity)), momentum_(momentum) {}

  /// \param[in]  ctx     where to run
  /// \param[in]  g       gradient
  /// \param[in]  finite  1 x 1: 0 leaves the velocity alone
  /// \param[out] u       the new velocity
  template <class Ctx, class G, class Finite, class U>
  void direction(Ctx& ctx, G const& g, Finite const& finite, U& u) {
    copy(ctx, velocity_, u);
    scale(ctx, momentum_, u);
    axpy(ctx, 1, g, u);
    copy_if(ctx, finite, u, velocity_);
  }

  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
  }

 private:
  Velocity velocity_;
  double momentum_;
};

/// \brief Heavy ball: \f$ u \leftarrow \beta u + g \f$.
/// \ingroup optim
struct momentum_base {
  double momentum = 0.9;  ///< \f$ \beta \in [0, 1) \f$

  /// \param[in] ctx  where the state lives
  /// \param[in] x    the parameter
  /// \returns the state
  /// \throws option_error  if the option is out of its range
  template <class Ctx, class X>
  auto start(Ctx& ctx, X const& x) const {
    expect_option(momentum >= 0 && momentum < 1, "momentum_base", "momentum", momentum,
                  "a number in [0, 1)");
    return momentum_direction<owning_t<Ctx, X>>(zeros_like(ctx, x), momentum);
  }
};

/// Options of vector_adam_base.
/// \ingroup optim
struct vector_adam_options {
  double beta1 = 0.9;     ///< decay of the first moment, in [0, 1)
  double beta2 = 0.999;   ///< decay of the second moment, in [0, 1)
  double epsilon = 1e-8;  ///< added to the root of the second moment, above 0
};

/// State of vector_adam_base.
/// \ingroup optim
/// \tparam Moment  owning matrix that lives where the parameter lives
/// \tparam Number  owning 1 x 1 matrix of double, in the same memory
template <Matrix Moment, Matrix Number>
class vector_adam_direction {
 public:
  /// \param[in] ctx      where the state lives
  /// \param[in] x        the parameter
  /// \param[in] options  decays
  template <class Ctx, class X>
  vector_adam_direction(Ctx& ctx, X const& x, vector_adam_options options)
      : first_(zeros_like(ctx, x)),
        second_(zeros<double>(ctx, 1, 1)),
        power1_(zeros<double>(ctx, 1, 1)),
        power2_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    fill(ctx, 1, power1_);
    fill(ctx, 1, power2_);
  }

  /// \param[in]  ctx     where to run
  /// \param[in]  g       gradient
  /// \param[in]  finite  1 x 1: 0 leaves the moments alone
  /// \param[out] u       the first moment over the root of the second, both without bias
  template <class Ctx, class G, class Finite, class U>
  void direction(Ctx& ctx, G const& g, Finite const& finite, U& u) {
    auto squared = scratch<double>(ctx, 1, 1);
    auto length = scratch<double>(ctx, 1, 1);
    inner(ctx, g, g, squared);
    transform(ctx, adam_powers_element{options_.beta1, options_.beta2}, outputs(power1_, power2_),
              inputs(finite));
    transform(ctx, adam_step_length_element{-1, options_.beta2, options_.epsilon},
              outputs(length, second_), inputs(squared, power1_, power2_, finite));
    copy(ctx, g, u);
    scale(ctx, 1 - options_.beta1, u);
    axpy(ctx, options_.beta1, first_, u);
    copy_if(ctx, finite, u, first_);
    scale(ctx, length, u);
  }

  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("first_moment", first_);
    visit("second_moment", second_);
    visit("power1", power1_);
    visit("power2", power2_);
  }

 private:
  Moment first_;
  Number second_, power1_, power2_;
  vector_adam_options options_;
};

/// \brief Adam with one second moment for the whole matrix: \f$ u = \hat m / (\sqrt{\hat v} +
/// \epsilon) \f$ with \f$ v \leftarrow \beta_2 v + (1 - \beta_2) \lVert g \rVert_F^2 \f$.
/// \ingroup optim
///
/// The direction has a length near one, whatever the scale of the gradient.
struct vector_adam_base {
  vector_adam_options options{};  ///< decays

  /// \param[in] ctx  where the state lives
  /// \param[in] x    the parameter
  /// \returns the state
  /// \throws option_error  if an option is out of its range
  template <class Ctx, class X>
  auto start(Ctx& ctx, X const& x) const {
    char const* const who = "vector_adam_base";
    expect_option(options.beta1 >= 0 && options.beta1 < 1, who, "beta1", options.beta1,
                  "a number in [0, 1)");
    expect_option(options.beta2 >= 0 && options.beta2 < 1, who, "beta2", options.beta2,
                  "a number in [0, 1)");
    expect_option(options.epsilon > 0, who, "epsilon", options.epsilon, "a number above 0");
    return vector_adam_direction<owning_t<Ctx, X>, matrix_t<Ctx, double>>(ctx, x, options);
  }
};

/// State of optimizer_base.
/// \ingroup optim
/// \tparam Optimizer  a Euclidean optimizer
/// \tparam Point      owning matrix that lives where the parameter lives
template <class Optimizer, Matrix Point>
class optimizer_direction {
 public:
  /// \param[in] optimizer  its state
  /// \param[in] origin     zeros of the parameter's shape
  optimizer_direction(Optimizer optimizer, Point origin)
      : optimizer_(std::move(optimizer)), origin_(std::move(origin)) {}

  /// \param[in]  ctx  where to run
  /// \param[in]  g    gradient
  /// \param[out] u    where the optimizer's step from zero leads, negated
  template <class Ctx, class G, class Finite, class U>
  void direction(Ctx& ctx, G const& g, Finite const&, U& u) {
    fill(ctx, 0, origin_);
    optimizer_.step(ctx, origin_, g);
    copy(ctx, origin_, u);
    scale(ctx, -1, u);
  }

  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    optimizer_.for_each_array(visit);
  }

 private:
  Optimizer optimizer_;
  Point origin_;
};

/// \brief Any Euclidean optimizer as a base: u is its step from zero, negated.
/// \ingroup optim
///
/// Its learning rate should be 1, and a weight decay has no effect. One that leaves its state alone
/// for a gradient that is not finite is asked for, as all of this library do.
/// \tparam Make  callable(ctx, x) that returns an optimizer with step() and for_each_array()
template <class Make>
struct optimizer_base {
  Make make;  ///< makes the optimizer

  /// \param[in] ctx  where the state lives
  /// \param[in] x    the parameter
  /// \returns the state
  template <class Ctx, class X>
  auto start(Ctx& ctx, X const& x) const {
    using Optimizer = decltype(make(ctx, x));
    return optimizer_direction<Optimizer, owning_t<Ctx, X>>(make(ctx, x), zeros_like(ctx, x));
  }
};

/// From a callable.
/// \ingroup optim
template <class Make>
optimizer_base(Make) -> optimizer_base<Make>;

}  // namespace stiefelx
