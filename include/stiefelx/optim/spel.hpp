// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/scaled_stiefel.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/muon.hpp>
#include <stiefelx/orth/scheduled_inverse_sqrt.hpp>

namespace stiefelx {

/// Options of spel.
/// \ingroup optim
struct spel_options {
  double learning_rate = 2e-2;  ///< \f$ \eta > 0 \f$: the spectral norm of a step, about
  double momentum = 0.9;        ///< \f$ \beta \in [0, 1) \f$
  muon_method method = muon_method::polar_express;  ///< see muon_method
  /// Polynomial steps, at least 1; 0 is for `polar_express` and takes what full accuracy needs.
  int iterations = 0;
  /// Smallest singular value that `polar_express` brings to one, relative to the Frobenius norm,
  /// in (0, 1).
  double smallest = 1e-3;
  double epsilon = 1e-7;  ///< added to the Frobenius norm that the direction is divided by, above 0
};

/// Status bits that count: none where the gradient was not finite.
/// \ingroup optim
struct masked_bits_element {
  /// \param[in,out] bits    status
  /// \param[in]     finite  0 clears it
  STIEFELX_HD void operator()(int& bits, double const& finite) const {
    if (finite == 0) bits = 0;
  }
};

namespace detail {

// Steps up to this relative length keep the Gram matrix of x - step well conditioned.
inline constexpr double largest_reach = 0.5;

// Schedule for the Gram matrix of a p-column y whose singular values are 1 +- largest_reach.
template <class S>
polar_schedule reach_schedule(index_t columns) {
  constexpr bool corrected = !std::is_same_v<S, wide_t<S>>;
  constexpr auto unit = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());
  // inverse_sqrt() divides by the largest sum of a column, at most sqrt(p) eigenvalues.
  double const ratio = (1 - largest_reach) / (1 + largest_reach);
  double const lower = 0.9 * ratio / std::pow(static_cast<double>(columns > 0 ? columns : 1), 0.25);
  return make_polar_schedule(polar_degree::quintic, lower, 0, corrected ? 1e-4 : unit / 64);
}

// The nearest point, for singular values of y within reach of one.
template <class Ctx, class M, class Y, class Next, class Bits>
void nearest_within(Ctx& ctx, M const& m, Y const& y, double, polar_schedule const&, Next& next,
                    Bits& bits) {
  nearest_point(ctx, m, y, next, bits);
}

template <class Ctx, class Y, class Next, class Bits>
void nearest_within(Ctx& ctx, stiefel m, Y const& y, double reach, polar_schedule const& schedule,
                    Next& next, Bits& bits) {
  if (!(reach <= largest_reach)) {
    nearest_point(ctx, m, y, next, bits);
    return;
  }
  auto const g = gram(ctx, y);
  auto root = clone(ctx, g);
  inverse_sqrt(ctx, g, schedule, root);
  multiply(ctx, y, root, next);
}

template <class Ctx, class Y, class Next, class Bits>
void nearest_within(Ctx& ctx, scaled_stiefel m, Y const& y, double reach,
                    polar_schedule const& schedule, Next& next, Bits& bits) {
  nearest_within(ctx, unit_frames(m), y, reach / m.radius, schedule, next, bits);
  scale(ctx, m.radius, next);
}

}  // namespace detail

/// \brief Muon on the Stiefel manifold: a step in the spectral norm, then the nearest point.
/// \ingroup optim
///
/// \f[ m \leftarrow \beta m + (1-\beta)\,g, \qquad
///     x \leftarrow O\bigl(x - \eta\,O(P_x(m))\bigr) \f]
/// where O is the polar factor \cite yang2026 . The momentum m stays in the space around, and is
/// projected to the tangent space anew at each point: without that projection a step would follow
/// the normal part of the gradient, which no point of the manifold can. The inner O is
/// orthogonalize(), which leaves directions of no gradient alone; its result is not tangent, so
/// that the outer one is not a retraction but the nearest point.
///
/// Works on every manifold with project() and nearest_point(): on `euclidean` it is muon without
/// scaling, on `scaled_stiefel` points and projection have the radius and the step does not. Decay
/// that respects the manifold is zero on both kinds of frames. The step does not shorten near a
/// minimum; let \f$ \eta \f$ fall.
///
/// A gradient that is not finite leaves point and state as they are and sets `not_finite`. For
/// steps of \f$ \eta > 1/2 \f$ a point may have no nearest one, and the bits of nearest_point() say
/// so.
///
/// \tparam Manifold  project() and nearest_point() are found by its namespace
/// \tparam Moment    owning matrix that lives where the points live
template <class Manifold, Matrix Moment>
class spel {
 public:
  /// What save() calls it.
  static constexpr char const* name = "spel";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   step size, momentum, orthogonalization
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  spel(Ctx& ctx, Manifold manifold, X const& x, spel_options options = {})
      : manifold_(manifold), momentum_(zeros_like(ctx, x)), options_(options) {
    detail::expect_muon_ranges("spel", options);
    inner_schedule_ = detail::muon_schedule<X>(options);
    outer_schedule_ = detail::reach_schedule<scalar_t<X>>(x.cols());
    largest_ = largest_value(inner_schedule_);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// On `stiefel` \f$ 7np^2 \f$ flops, those of orthogonalize() and \f$ O(p^3) \f$ for \f$ \eta \le
  /// 0.4 \f$; four n x p scratch matrices.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Moment, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("spel::step", "x", x, momentum_.rows(), momentum_.cols());
    expect_shape("spel::step", "g", g, momentum_.rows(), momentum_.cols());
    expect_distinct(ctx, "spel::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto momentum = clone(ctx, momentum_);
    auto direction = clone(ctx, momentum_);
    transform(ctx, muon_momentum_element{options_.momentum, false}, outputs(momentum, direction),
              inputs(momentum_, g));
    project(ctx, manifold_, x, direction, direction);
    orthogonalize(ctx, direction, direction, inner_schedule_, options_.epsilon);
    copy_if(ctx, finite, momentum, momentum_);

    copy(ctx, x, momentum);
    axpy(ctx, -options_.learning_rate, direction, momentum);
    auto bits = clear_status(ctx, 1);
    detail::nearest_within(ctx, manifold_, momentum, options_.learning_rate * largest_,
                           outer_schedule_, direction, bits);
    transform(ctx, masked_bits_element{}, outputs(bits), inputs(finite));
    raise(ctx, status, bits);
    copy_if(ctx, finite, direction, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the momentum, of the point's shape, not tangent
  Moment const& momentum() const { return momentum_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("momentum", momentum_);
  }

 private:
  Manifold manifold_;
  Moment momentum_;
  spel_options options_;
  polar_schedule inner_schedule_, outer_schedule_;
  double largest_ = 1;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
spel(Ctx&, Manifold, X const&, spel_options = {}) -> spel<Manifold, owning_t<Ctx, X>>;

}  // namespace stiefelx
