// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/optim/riemannian_adam_step.hpp>
#include <stiefelx/team/column.hpp>

/// \file
/// \brief One step of riemannian_adam at a point of the Stiefel manifold, in skew and normal
/// coordinates.
/// \ingroup optim

namespace stiefelx {

/// Element text: one coordinate's moments, and its part of the direction.
/// \ingroup optim
struct adam_coordinate_element {
  double beta1;    ///< decay of the first moment
  double beta2;    ///< decay of the second moment
  double epsilon;  ///< added to the root of the second moment

  /// \param[in,out] r        the gradient; becomes the direction
  /// \param[in,out] first    first moment
  /// \param[in,out] second   second moment
  /// \param[in]     length   factor of the first moment
  /// \param[in]     correct  factor of the second moment
  /// \param[in]     finite   0 leaves the moments as they are
  template <class S>
  STIEFELX_HD void operator()(S& r, S& first, double& second, double const& length,
                              double const& correct, double const& finite) const {
    if (finite == 0) return;
    update(r, first, second);
    r = divided(first, length, correct * second);
  }

  /// The same with the largest second moment so far in place of the last one.
  /// \param[in,out] r        the gradient; becomes the direction
  /// \param[in,out] first    first moment
  /// \param[in,out] second   second moment
  /// \param[in,out] largest  largest second moment so far
  /// \param[in]     length   factor of the first moment
  /// \param[in]     correct  factor of the second moment
  /// \param[in]     finite   0 leaves the moments as they are
  template <class S>
  STIEFELX_HD void operator()(S& r, S& first, double& second, double& largest, double const& length,
                              double const& correct, double const& finite) const {
    if (finite == 0) return;
    update(r, first, second);
    if (second > largest) largest = second;
    r = divided(first, length, correct * largest);
  }

 private:
  template <class S>
  STIEFELX_HD void update(S const& r, S& first, double& second) const {
    using Real = real_of_t<S>;
    first = static_cast<Real>(beta1) * first + static_cast<Real>(1 - beta1) * r;
    double const size = static_cast<double>(modulus(r));
    second = beta2 * second + (1 - beta2) * size * size;
  }

  template <class S>
  STIEFELX_HD S divided(S const& first, double length, double second) const {
    return static_cast<real_of_t<S>>(length / (std::sqrt(second) + epsilon)) * first;
  }
};

namespace detail {

// What riemannian_adam keeps of a point in these coordinates: x skew is the part along x, and normal
// is the rest, with x^H normal = 0. The largest ones are used by AMSGrad alone.
template <class Skew, class Normal, class SkewSecond, class NormalSecond, class SkewLargest,
          class NormalLargest>
struct adam_coordinates {
  Skew&& skew;                     // p x p
  Normal&& normal;                 // n x p
  SkewSecond&& skew_second;        // p x p
  NormalSecond&& normal_second;    // n x p
  SkewLargest&& skew_largest;      // p x p
  NormalLargest&& normal_largest;  // n x p
};

template <class... A>
adam_coordinates<A...> make_adam_coordinates(A&&... a) {
  return {static_cast<A&&>(a)...};
}

// v = v - x x^H v.
template <class Ctx, class X, class V>
void project_to_normal(Ctx& ctx, X const& x, V&& v) {
  auto const s = product(ctx, x.adjoint(), v);
  multiply_add(ctx, -1, x, s, v);
}

template <class Ctx, class X, class G, class State, class Power, class Status>
void step_adam_split(Ctx& ctx, stiefel m, riemannian_adam_options const& o, X&& x, G const& g,
                     State const& state, Power&& power1, Power&& power2, Status&& status) {
  auto const finite = count_adam_step(ctx, o, g, power1, power2, status);
  auto length = scratch<double>(ctx, 1, 1);
  auto correct = scratch<double>(ctx, 1, 1);
  transform(ctx, adam_corrections_element{o.learning_rate}, outputs(length, correct),
            inputs(power1, power2, finite));
  auto direction = clone(ctx, g);
  riemannian_gradient(ctx, m, x, direction, direction);
  auto const& point = dense(ctx, x);
  auto skew = product(ctx, point.adjoint(), direction);
  {
    // To the bit, so that the moments stay skew.
    auto const mirrored = clone(ctx, skew.adjoint());
    axpy(ctx, -1, mirrored, skew);
    scale(ctx, 0.5, skew);
  }
  multiply_add(ctx, -1, point, skew, direction);
  adam_coordinate_element const element{o.beta1, o.beta2, o.epsilon};
  if (o.amsgrad) {
    transform(ctx, element, outputs(skew, state.skew, state.skew_second, state.skew_largest),
              inputs(length, correct, finite));
    transform(ctx, element,
              outputs(direction, state.normal, state.normal_second, state.normal_largest),
              inputs(length, correct, finite));
  } else {
    transform(ctx, element, outputs(skew, state.skew, state.skew_second),
              inputs(length, correct, finite));
    transform(ctx, element, outputs(direction, state.normal, state.normal_second),
              inputs(length, correct, finite));
  }
  // Division by entries leaves the normal space.
  project_to_normal(ctx, point, direction);
  multiply_add(ctx, 1, point, skew, direction);
  move_adam_point(ctx, m, o, refusal(ctx, finite), x, direction, [&](auto const&) {
    auto moved = clone(ctx, state.normal);
    project_to_normal(ctx, dense(ctx, x), moved);
    copy_if(ctx, finite, moved, state.normal);
  });
}

}  // namespace detail

}  // namespace stiefelx
