// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <utility>
#include <variant>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/orthogonal_experts.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>

namespace example {

/// \brief A trained matrix with its gradient, its optimizer and its own peak learning rate.
///
/// The optimizer is AdamW, Riemannian Adam once the matrix has been moved to a Stiefel manifold, or
/// AdamW inside the orthogonal optimizer of experts. All of it lives where the context's matrices do.
template <class Ctx, class S>
struct parameter {
  using matrix = stiefelx::matrix_t<Ctx, S>;
  using adamw = decltype(stiefelx::adamw(std::declval<Ctx&>(), std::declval<matrix const&>()));
  using on_stiefel = decltype(stiefelx::riemannian_adam(
      std::declval<Ctx&>(), stiefelx::stiefel{1, 1}, std::declval<matrix const&>()));
  using of_experts = decltype(stiefelx::orthogonal_experts(
      std::declval<Ctx&>(), std::declval<adamw>(), std::declval<matrix const&>(),
      stiefelx::expert_bank{1}));

  /// A parameter with AdamW.
  parameter(Ctx& ctx, std::string given, matrix start, double peak_rate, double decay = 0)
      : name(std::move(given)),
        value(std::move(start)),
        gradient(zeros_like(ctx, value)),
        rate(peak_rate),
        optimizer(adamw(ctx, value, {.weight_decay = decay})) {}

  /// Keeps the matrix, whose columns are orthonormal, on its Stiefel manifold from now on.
  void move_to_stiefel(Ctx& ctx) {
    optimizer.template emplace<on_stiefel>(ctx, stiefelx::stiefel{value.rows(), value.cols()},
                                           value);
  }

  /// Keeps each expert's steps out of what the other experts' inputs span from now on.
  void keep_experts_apart(Ctx& ctx, stiefelx::expert_bank bank,
                          stiefelx::orthogonal_experts_options options) {
    adamw base = std::move(std::get<adamw>(optimizer));
    optimizer.template emplace<of_experts>(ctx, std::move(base), value, bank, options);
  }

  /// Tells the orthogonal optimizer, if it is the one, the tokens and their shares of the experts.
  template <class Tokens, class Shares>
  void observe(Ctx& ctx, Tokens const& tokens, Shares const& shares) {
    if (auto* o = std::get_if<of_experts>(&optimizer)) o->observe(ctx, tokens, shares);
  }

  /// Moves the matrix one step at `schedule` times its peak rate.
  void step(Ctx& ctx, double schedule) {
    std::visit(
        [&](auto& o) {
          o.set_learning_rate(rate * schedule);
          o.step(ctx, value, gradient);
        },
        optimizer);
  }

  /// Visits the value and every array of the optimizer, as visit(name, matrix&).
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit(name, value);
    std::visit(
        [&](auto& o) {
          o.for_each_array([&](char const* part, auto& m) { visit(name + "/" + part, m); });
        },
        optimizer);
  }

  std::string name;                                       ///< for checkpoints
  matrix value;                                           ///< the parameter
  matrix gradient;                                        ///< of value's shape
  double rate;                                            ///< peak learning rate
  std::variant<adamw, on_stiefel, of_experts> optimizer;  ///< state
};

}  // namespace example
