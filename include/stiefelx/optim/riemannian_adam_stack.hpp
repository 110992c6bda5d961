// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel_stack.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/riemannian_adam_options.hpp>
#include <stiefelx/team/each_item.hpp>
#include <stiefelx/team/stiefel_adam_item.hpp>

/// \file
/// \brief One step of riemannian_adam for a stack of small points of the Stiefel manifold, in one
/// pass over memory.
/// \ingroup optim

namespace stiefelx {

/// Element text: what a point's step needs of its second moment and of the number of its steps.
/// \ingroup optim
struct stack_adam_factors_element {
  double learning_rate;  ///< \f$ \eta \f$
  double beta1;          ///< decay of the first moment
  double beta2;          ///< decay of the second moment

  /// \param[out] kept     corrected second moment if the gradient were zero
  /// \param[out] fresh    factor of the squared norm of the gradient in the corrected second moment
  /// \param[out] rate     corrected learning rate
  /// \param[out] floor    corrected largest second moment so far
  /// \param[in]  second   second moment
  /// \param[in]  largest  largest second moment so far, or 0
  /// \param[in]  power1   beta1^t before this step
  /// \param[in]  power2   beta2^t before this step
  template <class Real>
  STIEFELX_HD void operator()(Real& kept, Real& fresh, Real& rate, Real& floor,
                              double const& second, double const& largest, double const& power1,
                              double const& power2) const {
    double const missing1 = 1 - beta1 * power1, missing2 = 1 - beta2 * power2;
    // One division serves both.
    double const inverse = 1 / (missing1 * missing2);
    double const correct = missing1 * inverse;
    kept = static_cast<Real>(beta2 * second * correct);
    fresh = static_cast<Real>((1 - beta2) * correct);
    rate = static_cast<Real>(learning_rate * missing2 * inverse);
    floor = static_cast<Real>(largest * correct);
  }
};

/// Element text: a point's second moment and powers after a step, unless it was refused.
/// \ingroup optim
struct stack_adam_moments_element {
  double beta1;  ///< decay of the first moment
  double beta2;  ///< decay of the second moment

  /// \param[in,out] second   second moment
  /// \param[in,out] power1   beta1^t
  /// \param[in,out] power2   beta2^t
  /// \param[out]    bits     status
  /// \param[in]     squared  squared norm of the gradient, or -1 where it is not finite
  template <class Real>
  STIEFELX_HD void operator()(double& second, double& power1, double& power2, int& bits,
                              Real const& squared) const {
    bits = squared < 0 ? not_finite : 0;
    if (squared < 0) return;
    second = beta2 * second + (1 - beta2) * static_cast<double>(squared);
    power1 *= beta1;
    power2 *= beta2;
  }
};

/// Element text: y = max(y, x).
/// \ingroup optim
struct keep_largest_element {
  /// \param[in,out] y  the largest number so far
  /// \param[in]     x  another one
  STIEFELX_HD void operator()(double& y, double const& x) const {
    if (x > y) y = x;
  }
};

/// \brief Team text: a whole step of one point, with the numbers of its state.
/// \ingroup optim
///
/// The same arithmetic as the two elements above before and after Item.
template <class Item>
struct stack_adam_step_body {
  Item item_body;                      ///< the step of the point itself
  index_t count;                       ///< points
  stack_adam_factors_element factors;  ///< what it needs
  stack_adam_moments_element moments;  ///< what it changes
  bool amsgrad;                        ///< whether the largest second moment counts

  /// \returns doubles of scratch a team, enough for complex scalars
  index_t scratch_size() const { return numbers + 2 * item_body.scratch_entries(); }

  /// \tparam S  scalar of the points
  /// \returns doubles of scratch a team that are enough for it
  template <class S>
  index_t scratch_size_of() const {
    return numbers + each_item<Item>{item_body, count}.template scratch_size_of<S>();
  }

  /// \param[in]     team     lanes
  /// \param[in]     k        the point
  /// \param[in]     scratch  scratch_size() doubles
  /// \param[in]     g        n x (p count), gradients
  /// \param[in,out] x        n x (p count), points
  /// \param[in,out] first    n x (p count), first moments
  /// \param[in,out] second   1 x count, second moments
  /// \param[in,out] largest  1 x count with amsgrad, largest second moments
  /// \param[in,out] power1   1 x count, beta1^t
  /// \param[in,out] power2   1 x count, beta2^t
  /// \param[out]    bits     1 x count, status
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t k, double* scratch, matrix_ref<S const> g,
                              matrix_ref<S> x, matrix_ref<S> first, matrix_ref<double> second,
                              matrix_ref<double> largest, matrix_ref<double> power1,
                              matrix_ref<double> power2, matrix_ref<int> bits) const {
    using Real = real_of_t<S>;
    auto const own = [&](auto a) {
      index_t const cols = a.cols / count;
      return a.middle_columns(k * cols, cols);
    };
    auto* const number = reinterpret_cast<Real*>(scratch);
    auto const one = [number](index_t i) { return matrix_ref<Real>{number + i, 1, 1, 1}; };
    if (team.rank() == 0)
      factors(number[0], number[1], number[2], number[3], second(0, k),
              amsgrad ? largest(0, k) : 0.0, power1(0, k), power2(0, k));
    team.barrier();
    matrix_ref<S const> const point = own(x), moment = own(first);
    // On the device the address of a member of this would bring all of a kernel's arguments into each
    // lane's own memory, and the registers that they leave are too few.
    Item const item = item_body;
    item(team, reinterpret_cast<S*>(scratch + numbers), point, own(g), moment, one(0), one(1),
         one(2), one(3), own(x), own(first), one(4));
    team.barrier();
    if (team.rank() != 0) return;
    moments(second(0, k), power1(0, k), power2(0, k), bits(0, k), number[4]);
    if (amsgrad) keep_largest_element{}(largest(0, k), second(0, k));
  }

 private:
  // Doubles that hold the numbers for the item.
  static constexpr index_t numbers = 6;
};

namespace detail {

template <class M>
inline constexpr bool is_stiefel_stack = false;
template <>
inline constexpr bool is_stiefel_stack<power<stiefel>> = true;
template <index_t N, index_t P>
inline constexpr bool is_stiefel_stack<power<fixed_stiefel<N, P>>> = true;

// Whether the step below is the one that the options ask for.
template <class Ctx>
bool steps_adam_in_lanes(stiefel one, index_t count, riemannian_adam_options const& o) {
  return o.second_moment == adam_moment::matrix && one.alpha == euclidean_metric &&
         is_for_lanes<Ctx>(one, count);
}

// What the step needs in numbers, for all points by transform().
template <class Ctx, class Item, class M, class X, class G, class First, class Number, class Bits>
void step_adam_by_packs(Ctx& ctx, power<M> const& m, riemannian_adam_options const& o,
                        Item const& item, X&& x, G const& g, First& first, Number& second,
                        Number& largest, Number& power1, Number& power2, Bits& bits) {
  using Real = real_t<X>;
  auto kept = scratch<Real>(ctx, 1, m.count), fresh = scratch<Real>(ctx, 1, m.count);
  auto rate = scratch<Real>(ctx, 1, m.count), floor = scratch<Real>(ctx, 1, m.count);
  auto const prepare = [&](auto const& least) {
    transform(ctx, stack_adam_factors_element{o.learning_rate, o.beta1, o.beta2},
              outputs(kept, fresh, rate, floor), inputs(second, least, power1, power2));
  };
  if (o.amsgrad) {
    prepare(largest);
  } else {
    auto zero = scratch<double>(ctx, 1, 1);
    fill(ctx, 0, zero);
    prepare(zero);
  }
  auto squared = scratch<Real>(ctx, 1, m.count);
  auto const& point = dense(ctx, x);
  auto const& moment = dense(ctx, first);
  run_batch(ctx, m.count, each_item<Item>{item, m.count}, point, g, moment, std::as_const(kept),
            std::as_const(fresh), std::as_const(rate), std::as_const(floor), x, first, squared);
  transform(ctx, stack_adam_moments_element{o.beta1, o.beta2},
            outputs(second, power1, power2, bits), inputs(squared));
  if (o.amsgrad) transform(ctx, keep_largest_element{}, outputs(largest), inputs(second));
}

// second, power1 and power2 are 1 x count, and so is largest where AMSGrad uses it. Points are normal
// to their tangent spaces, so there is nothing of weight decay to add.
template <class Ctx, class M, class X, class G, class First, class Number, class Status>
void step_adam_in_lanes(Ctx& ctx, power<M> const& m, riemannian_adam_options const& o, X&& x,
                        G const& g, First& first, Number& second, Number& largest, Number& power1,
                        Number& power2, Status&& status) {
  using Item = item_of<stiefel_adam_item, M>;
  expect_power("riemannian_adam::step", "x", m, x);
  Item const item{item_rows(m.manifold), item_cols(m.manifold), o.beta1, o.epsilon,
                  largest_squared_gradient<X>};
  auto bits = scratch<int>(ctx, 1, m.count);
  auto const& gradient = dense(ctx, g);
  if constexpr (has_team_an_item<Ctx>)
    run_batch(
        ctx, m.count,
        stack_adam_step_body<Item>{
            item, m.count, {o.learning_rate, o.beta1, o.beta2}, {o.beta1, o.beta2}, o.amsgrad},
        gradient, x, first, second, largest, power1, power2, bits);
  else
    step_adam_by_packs(ctx, m, o, item, x, gradient, first, second, largest, power1, power2, bits);
  raise(ctx, status, bits);
}

}  // namespace detail

}  // namespace stiefelx
