// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <stiefelx/optim/group.hpp>

namespace stiefelx {

/// \brief Optimizers of one kind for any number of parameters, stepping in one call.
/// \ingroup optim
///
/// The run-time sibling of optimizer_group, with the same options and the same joint treatment of
/// the gradients. Parameters and gradients come as pointers in any indexed container.
///
/// ```
/// std::vector<decltype(adamw(ctx, x1))> each;
/// for (auto& x : parameters) each.push_back(adamw(ctx, x));
/// optimizer_list list(std::move(each), {.largest_norm = 1});
/// list.step(ctx, std::vector{&x1, &x2}, std::vector{&g1, &g2}, status);
/// ```
///
/// \tparam Opt  the optimizer, for matrices of any shape
template <class Opt>
class optimizer_list {
  static constexpr auto name_ = detail::joined_name<Opt>("optimizer_list");

 public:
  /// What save() calls it: with the name of its optimizers.
  static constexpr char const* name = name_.data();

  /// \param[in] optimizers  each made for its parameter
  /// \param[in] options     clipping, and what one bad gradient does
  /// \throws option_error  if an option is out of its range
  explicit optimizer_list(std::vector<Opt> optimizers, group_options options = {})
      : optimizers_(std::move(optimizers)), options_(options) {
    detail::expect_group_options("optimizer_list", options);
  }

  /// Moves every parameter one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in]     x       pointers to the parameters, one an optimizer, none of them null
  /// \param[in]     g       pointers to their Euclidean gradients; none may overlap a parameter
  /// \param[in,out] status  1 x 1 int, or no_status{}: the bits of all together
  /// \throws shape_error  if x or g has another length than the list or a gradient has another shape
  ///                      than its parameter, and then nothing moves; or if a parameter has another
  ///                      shape than its optimizer's state
  /// \throws alias_error  if a gradient overlaps its parameter
  template <class Ctx, class X, class G, class Status = no_status>
    requires requires(X const& x, G const& g) {
      *x[x.size()];
      *g[g.size()];
    }
  void step(Ctx& ctx, X const& x, G const& g, Status&& status = {}) {
    expect_length("x", x.size());
    expect_length("g", g.size());
    for (std::size_t i = 0; i < size(); ++i)
      detail::expect_parameter(ctx, "optimizer_list::step", *x[i], *g[i]);
    if (!detail::joins(options_)) {
      for (std::size_t i = 0; i < size(); ++i) optimizers_[i].step(ctx, *x[i], *g[i], status);
      return;
    }
    joint_gradients<Ctx> joint(ctx, options_);
    for (std::size_t i = 0; i < size(); ++i) joint.add(ctx, *g[i]);
    joint.finish(ctx);
    for (std::size_t i = 0; i < size(); ++i)
      optimizers_[i].step(ctx, *x[i], joint.scaled(ctx, *g[i]), status);
  }

  /// Sets the step size of the following steps, the same for every parameter.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) {
    for (Opt& opt : optimizers_) opt.set_learning_rate(learning_rate);
  }

  /// \returns the number of parameters
  std::size_t size() const { return optimizers_.size(); }
  /// \param[in] i  place in the list
  /// \returns the optimizer
  Opt& operator[](std::size_t i) { return optimizers_[i]; }
  /// \param[in] i  place in the list
  /// \returns the optimizer
  Opt const& operator[](std::size_t i) const { return optimizers_[i]; }

  /// \brief Offers every array of every optimizer to a visitor, for saving and loading.
  /// \param[in] visit  called as visit("0.first_moment", matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    for (std::size_t i = 0; i < size(); ++i) detail::for_each_array_of(optimizers_[i], i, visit);
  }

 private:
  void expect_length(char const* argument, std::size_t length) const {
    if (length == size()) return;
    throw shape_error(std::string("optimizer_list::step: ") + argument + " has " +
                      std::to_string(length) + " matrices, expected " + std::to_string(size()));
  }

  std::vector<Opt> optimizers_;
  group_options options_;
};

}  // namespace stiefelx
