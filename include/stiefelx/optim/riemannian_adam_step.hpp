// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/adam.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/optim/curve.hpp>
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

/// Element text: one entry of the first moment, and of the direction that it gives.
/// \ingroup optim
struct adam_moved_moment_element {
  double beta1;  ///< decay of the first moment

  /// \param[in,out] first   the first moment
  /// \param[in,out] r       the gradient; becomes the direction
  /// \param[in]     length  length of the direction over that of the moment
  template <class S>
  STIEFELX_HD void operator()(S& first, S& r, double const& length) const {
    using Real = real_of_t<S>;
    S const next = static_cast<Real>(beta1) * first + static_cast<Real>(1 - beta1) * r;
    first = next;
    r = static_cast<Real>(length) * next;
  }
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

// 1 if the step is refused, else 0.
template <class Ctx, class F>
auto refusal(Ctx& ctx, F const& finite) {
  auto refused = scratch<double>(ctx, 1, 1);
  transform(ctx, adam_refused_element{}, outputs(refused), inputs(finite));
  return refused;
}

// Room for a, which holds a only if the step is refused: other steps neither read nor write it.
template <class Ctx, class R, class A>
auto kept_if(Ctx& ctx, R const& refused, A const& a) {
  auto kept = room_like(ctx, a);
  copy_if(ctx, refused, a, kept);
  return kept;
}

// Whether moments need the new point alone to get there.
template <class M>
inline constexpr bool transports_by_projection = std::is_convertible_v<M, stiefel>;

// Moves x along the direction; update(before) then brings the state to the new x, where `before` is
// the old x unless moments need the new one alone. A refused gradient leaves x as it is.
template <class Ctx, class M, class R, class X, class D, class Update>
void move_adam_point(Ctx& ctx, M const& m, riemannian_adam_options const& o, R const& refused,
                     X&& x, D&& direction, Update const& update) {
  add_tangent_decay(ctx, m, -o.learning_rate * o.weight_decay, x, direction);
  auto const move = [&](auto const& before) {
    retract(ctx, m, x, direction, x);
    update(before);
    copy_if(ctx, refused, before, x);
  };
  if constexpr (transports_by_projection<M>)
    move(kept_if(ctx, refused, x));
  else
    move(clone(ctx, x));
}

// The same with a first moment that the manifold transports, and that a refused gradient leaves as it
// was kept.
template <class Ctx, class M, class R, class X, class D, class Kept, class First>
void move_adam_point(Ctx& ctx, M const& m, riemannian_adam_options const& o, R const& refused,
                     X&& x, D&& direction, Kept const& kept, First&& first) {
  move_adam_point(ctx, m, o, refused, x, direction, [&](auto const& before) {
    if constexpr (transports_by_projection<M>)
      project(ctx, m, x, first, first);
    else
      transport_or_project(ctx, m, before, x, first, first);
  });
  copy_if(ctx, refused, kept, first);
}

// second and largest are 1 x 1; largest is used by AMSGrad alone.
template <class Ctx, class M, class X, class G, class First, class Second, class Largest,
          class Power, class Status>
void step_adam_matrix(Ctx& ctx, M const& m, riemannian_adam_options const& o, X&& x, G const& g,
                      First&& first, Second&& second, Largest&& largest, Power&& power1,
                      Power&& power2, Status&& status) {
  auto const finite = count_adam_step(ctx, o, g, power1, power2, status);
  auto const refused = refusal(ctx, finite);
  auto const kept = kept_if(ctx, refused, first);
  auto direction = clone(ctx, g);
  gradient_or_project(ctx, m, x, direction, direction);
  auto squared = scratch<double>(ctx, 1, 1);
  inner_as_double(ctx, m, x, direction, direction, squared);
  auto length = scratch<double>(ctx, 1, 1);
  if (o.amsgrad)
    transform(ctx, amsgrad_step_length_element{o.learning_rate, o.beta2, o.epsilon},
              outputs(length, second, largest), inputs(squared, power1, power2, finite));
  else
    transform(ctx, adam_step_length_element{o.learning_rate, o.beta2, o.epsilon},
              outputs(length, second), inputs(squared, power1, power2, finite));
  transform(ctx, adam_moved_moment_element{o.beta1}, outputs(first, direction), inputs(length));
  move_adam_point(ctx, m, o, refused, x, direction, kept, first);
}

// rows are n x 2 and columns 2 x p, as row_column_moments_body has them.
template <class Ctx, class M, class X, class G, class First, class Rows, class Power, class Status>
void step_adam_rows_and_columns(Ctx& ctx, M const& m, riemannian_adam_options const& o, X&& x,
                                G const& g, First&& first, Rows&& rows, Rows&& columns,
                                Power&& power1, Power&& power2, Status&& status) {
  auto const finite = count_adam_step(ctx, o, g, power1, power2, status);
  auto const refused = refusal(ctx, finite);
  auto const kept = kept_if(ctx, refused, first);
  auto direction = clone(ctx, g);
  gradient_or_project(ctx, m, x, direction, direction);
  run_batch(ctx, 1, row_column_moments_body{o.beta2}, dense(ctx, direction), finite, rows, columns);
  auto length = scratch<double>(ctx, 1, 1);
  auto correction = scratch<double>(ctx, 1, 1);
  transform(ctx, adam_corrections_element{o.learning_rate}, outputs(length, correction),
            inputs(power1, power2, finite));
  transform(ctx, adam_moved_moment_element{o.beta1}, outputs(first, direction), inputs(length));
  // The root of the product of a row's and a column's moment is at least epsilon.
  row_column_scaling_body const scaling{0.25, 0.25, o.epsilon * o.epsilon, o.amsgrad ? 1 : 0};
  run_batch(ctx, 1, scaling, dense(ctx, direction), dense(ctx, rows), dense(ctx, columns),
            std::as_const(correction), direction);
  project(ctx, m, x, direction, direction);
  move_adam_point(ctx, m, o, refused, x, direction, kept, first);
}

}  // namespace detail

}  // namespace stiefelx
