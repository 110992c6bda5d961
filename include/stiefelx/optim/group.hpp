// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <stiefelx/manifold/product.hpp>
#include <stiefelx/optim/joint_gradients.hpp>

namespace stiefelx {

namespace detail {

// prefix(first, second, ...) as an array of characters that ends with 0.
template <class... Opt, std::size_t N>
constexpr auto joined_name(char const (&prefix)[N]) {
  constexpr std::size_t commas = 2 * (sizeof...(Opt) - 1);
  std::array<char, N + 2 + commas + (std::string_view(Opt::name).size() + ...)> text{};
  std::size_t at = 0;
  auto const put = [&](std::string_view s) {
    for (char c : s) text[at++] = c;
  };
  put(prefix);
  char const* before = "(";
  ((put(before), put(Opt::name), before = ", "), ...);
  put(")");
  return text;
}

// Offers the arrays of one optimizer of a group as "place.array".
template <class Opt, class Visit>
void for_each_array_of(Opt& opt, std::size_t place, Visit&& visit) {
  std::string const prefix = std::to_string(place) + ".";
  opt.for_each_array([&](char const* name, auto& array) { visit((prefix + name).c_str(), array); });
}

}  // namespace detail

/// \brief Optimizers of different kinds, manifolds and shapes that step in one call.
/// \ingroup optim
///
/// ```
/// optimizer_group group{group_options{.largest_norm = 1},
///                       riemannian_adam(ctx, stiefel{n, p}, x1), adamw(ctx, x2)};
/// group.step(ctx, std::tie(x1, x2), std::tie(g1, g2), status);
/// ```
///
/// Before anything moves, the joint norm \f$ n = \sqrt{\sum_i \lVert g_i \rVert_F^2} \f$ of the
/// Euclidean gradients is found where they live. With a `largest_norm` b each is scaled by
/// \f$ \min(1, b/n) \f$, on a scratch copy: the caller's gradients stay as they are. A gradient that
/// is not finite holds back the whole group, or its own parameter alone (group_options); then it
/// does not count in n. Either way `not_finite` is set.
///
/// With a schedule, call `group.set_learning_rate(schedule(t))` before step t.
///
/// A group is an optimizer to save() and load(): its arrays are called `0.first_moment` and so on.
///
/// \tparam Opt  optimizers, held by value
/// \par Cost
/// Beside the steps one pass over the gradients and one copy of each, in scratch of the largest one;
/// nothing when neither option asks for it.
template <class... Opt>
  requires(sizeof...(Opt) > 0 && (!std::is_same_v<Opt, group_options> && ...))
class optimizer_group {
  static constexpr auto name_ = detail::joined_name<Opt...>("optimizer_group");

 public:
  /// Number of optimizers.
  static constexpr std::size_t size = sizeof...(Opt);
  /// What save() calls it: with the names of its optimizers.
  static constexpr char const* name = name_.data();

  /// \param[in] opt  the optimizers, each made for its parameter
  explicit optimizer_group(Opt... opt) : optimizer_group(group_options{}, std::move(opt)...) {}

  /// \param[in] options  clipping, and what one bad gradient does
  /// \param[in] opt      the optimizers, each made for its parameter
  /// \throws option_error  if an option is out of its range
  explicit optimizer_group(group_options options, Opt... opt)
      : optimizers_(std::move(opt)...), options_(options) {
    detail::expect_group_options("optimizer_group", options);
    relative_rates_.fill(1);
  }

  /// Moves every parameter one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       the parameters, one an optimizer in their order: `std::tie(x1, x2)`
  /// \param[in]     g       their Euclidean gradients; none may overlap a parameter
  /// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all together
  /// \throws shape_error  if a gradient has another shape than its parameter, and then nothing moves;
  ///                      or if a parameter has another shape than its optimizer's state
  /// \throws alias_error  if a gradient overlaps a parameter
  template <class Ctx, TupleFor<Opt...> X, TupleFor<Opt...> G, class Status = no_status>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    using std::get;
    for_each_place([&](auto i) {
      detail::expect_parameter(ctx, "optimizer_group::step", get<i>(x), get<i>(g));
      for_each_place([&](auto j) {
        expect_distinct(ctx, "optimizer_group::step", "x", get<j>(x), "g", get<i>(g));
      });
    });
    if (!detail::joins(options_)) {
      for_each_place([&](auto i) { get<i>(optimizers_).step(ctx, get<i>(x), get<i>(g), status); });
      return;
    }
    joint_gradients<Ctx> joint(ctx, options_);
    for_each_place([&](auto i) { joint.add(ctx, get<i>(g)); });
    joint.finish(ctx);
    for_each_place([&](auto i) {
      get<i>(optimizers_).step(ctx, get<i>(x), joint.scaled(ctx, get<i>(g)), status);
    });
  }

  /// \brief Sets the step size of the following steps: each optimizer gets the rate times its
  /// relative rate.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) {
    for_each_place([&](auto i) {
      std::get<i>(optimizers_).set_learning_rate(learning_rate * relative_rates_[i]);
    });
  }

  /// \brief Sets what set_learning_rate() multiplies each optimizer's rate by; 1 until then.
  ///
  /// With the optimizers' own rates here, the rate of a group is a common factor of all of them, and
  /// a schedule for it has a peak of 1.
  /// \param[in] rates  one an optimizer, at least 0
  /// \throws option_error  if one is negative or NaN
  void set_relative_rates(std::array<double, size> const& rates) {
    for (double rate : rates)
      expect_option(rate >= 0, "optimizer_group", "relative rate", rate, "a number of at least 0");
    relative_rates_ = rates;
  }

  /// \tparam I  place in the group
  /// \returns the optimizer
  template <std::size_t I>
  auto& optimizer() {
    return std::get<I>(optimizers_);
  }
  /// \tparam I  place in the group
  /// \returns the optimizer
  template <std::size_t I>
  auto const& optimizer() const {
    return std::get<I>(optimizers_);
  }

  /// \brief Offers every array of every optimizer to a visitor, for saving and loading.
  /// \param[in] visit  called as visit("0.first_moment", matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    for_each_place([&](auto i) { detail::for_each_array_of(std::get<i>(optimizers_), i, visit); });
  }

 private:
  template <class F>
  static void for_each_place(F const& f) {
    [&]<std::size_t... I>(std::index_sequence<I...>) {
      (f(std::integral_constant<std::size_t, I>{}), ...);
    }(std::index_sequence_for<Opt...>{});
  }

  std::tuple<Opt...> optimizers_;
  group_options options_;
  std::array<double, size> relative_rates_;
};

}  // namespace stiefelx
