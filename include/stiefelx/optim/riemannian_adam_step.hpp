// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/adam.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/riemannian_adam_options.hpp>
#include <stiefelx/optim/tangent_decay.hpp>
#include <stiefelx/team/row_column_moments.hpp>

/// \file
/// \brief One step of riemannian_adam at one point, with moments a matrix or a row and a column.
/// \ingroup optim

namespace stiefelx {

/// Element text: 1 where x is 0, else 0.
/// \ingroup optim
struct adam_refused_element {
  /// \param[out] y  1 or 0
  /// \param[in]  x  a number
  STIEFELX_HD void operator()(double& y, double const& x) const { y = x == 0 ? 1 : 0; }
};

namespace detail {

// Scratch of a's kind, static where a's clone is; it holds anything.
template <class Ctx, class A>
auto room_like(Ctx& ctx, A const& a) {
  using Plain = decltype(scratch<scalar_t<A>>(ctx, a.rows(), a.cols()));
  if constexpr (std::is_same_v<decltype(clone(ctx, a)), Plain>)
    return scratch<scalar_t<A>>(ctx, a.rows(), a.cols());
  else
    return clone(ctx, a);
}

// Whether the gradient is finite; one more step is counted if it is.
template <class Ctx, class G, class Power, class Status>
auto count_adam_step(Ctx& ctx, riemannian_adam_options const& o, G const& g, Power&& power1,
                     Power&& power2, Status&& status) {
  auto finite = finite_gradient(ctx, g, status);
  transform(ctx, adam_powers_element{o.beta1, o.beta2}, outputs(power1, power2), inputs(finite));
  return finite;
}

// Moves x along the direction; update(before) then brings the state to the new x. A refused gradient
// leaves x as it is.
template <class Ctx, class M, class F, class X, class D, class Update>
void move_adam_point(Ctx& ctx, M const& m, riemannian_adam_options const& o, F const& finite, X&& x,
                     D&& direction, Update const& update) {
  add_tangent_decay(ctx, m, -o.learning_rate * o.weight_decay, x, direction);
  auto const before = clone(ctx, x);
  auto refused = scratch<double>(ctx, 1, 1);
  transform(ctx, adam_refused_element{}, outputs(refused), inputs(finite));
  retract(ctx, m, x, direction, x);
  update(before);
  copy_if(ctx, refused, before, x);
}

// The same with a first moment that the manifold transports.
template <class Ctx, class M, class F, class X, class D, class Moment, class First>
void move_adam_point(Ctx& ctx, M const& m, riemannian_adam_options const& o, F const& finite, X&& x,
                     D&& direction, Moment&& moment, First&& first) {
  move_adam_point(ctx, m, o, finite, x, direction, [&](auto const& before) {
    transport_or_project(ctx, m, before, x, moment, moment);
    copy_if(ctx, finite, moment, first);
  });
}

// second and largest are 1 x 1; largest is used by AMSGrad alone.
template <class Ctx, class M, class X, class G, class First, class Second, class Largest,
          class Power, class Status>
void step_adam_matrix(Ctx& ctx, M const& m, riemannian_adam_options const& o, X&& x, G const& g,
                      First&& first, Second&& second, Largest&& largest, Power&& power1,
                      Power&& power2, Status&& status) {
  auto const finite = count_adam_step(ctx, o, g, power1, power2, status);
  auto moment = clone(ctx, g);
  gradient_or_project(ctx, m, x, moment, moment);
  auto squared = scratch<double>(ctx, 1, 1);
  inner(ctx, m, x, moment, moment, squared);
  auto length = scratch<double>(ctx, 1, 1);
  if (o.amsgrad)
    transform(ctx, amsgrad_step_length_element{o.learning_rate, o.beta2, o.epsilon},
              outputs(length, second, largest), inputs(squared, power1, power2, finite));
  else
    transform(ctx, adam_step_length_element{o.learning_rate, o.beta2, o.epsilon},
              outputs(length, second), inputs(squared, power1, power2, finite));
  auto direction = room_like(ctx, moment);
  transform(ctx, adam_direction_element{o.beta1}, outputs(moment, direction),
            inputs(first, length));
  move_adam_point(ctx, m, o, finite, x, direction, moment, first);
}

// rows are n x 2 and columns 2 x p, as row_column_moments_body has them.
template <class Ctx, class M, class X, class G, class First, class Rows, class Power, class Status>
void step_adam_rows_and_columns(Ctx& ctx, M const& m, riemannian_adam_options const& o, X&& x,
                                G const& g, First&& first, Rows&& rows, Rows&& columns,
                                Power&& power1, Power&& power2, Status&& status) {
  auto const finite = count_adam_step(ctx, o, g, power1, power2, status);
  auto moment = clone(ctx, g);
  gradient_or_project(ctx, m, x, moment, moment);
  run_batch(ctx, 1, row_column_moments_body{o.beta2}, dense(ctx, moment), finite, rows, columns);
  auto length = scratch<double>(ctx, 1, 1);
  auto correction = scratch<double>(ctx, 1, 1);
  transform(ctx, adam_corrections_element{o.learning_rate}, outputs(length, correction),
            inputs(power1, power2, finite));
  auto direction = room_like(ctx, moment);
  transform(ctx, adam_direction_element{o.beta1}, outputs(moment, direction),
            inputs(first, length));
  // The root of the product of a row's and a column's moment is at least epsilon.
  row_column_scaling_body const scaling{0.25, 0.25, o.epsilon * o.epsilon, o.amsgrad ? 1 : 0};
  run_batch(ctx, 1, scaling, dense(ctx, direction), dense(ctx, rows), dense(ctx, columns),
            std::as_const(correction), direction);
  project(ctx, m, x, direction, direction);
  move_adam_point(ctx, m, o, finite, x, direction, moment, first);
}

}  // namespace detail

}  // namespace stiefelx
