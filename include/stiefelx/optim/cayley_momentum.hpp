// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// Options of cayley_momentum.
/// \ingroup optim
struct cayley_momentum_options {
  double learning_rate = 0.2;   ///< \f$ l > 0 \f$, the longest step
  double momentum = 0.9;        ///< \f$ \beta \in [0, 1) \f$
  double contraction = 0.5;     ///< q in (0, 1): bound of \f$ \alpha \lVert W \rVert_F / 2 \f$
  double epsilon = 1e-8;        ///< added to the norm of W, above 0
  int iterations = 2;           ///< fixed-point steps, at least 0
  int newton_schulz_steps = 1;  ///< clean-up of a step, at least 0; see the class
};

/// \brief Squared Frobenius norm of the skew matrix that turns x along v.
/// \ingroup optim
///
/// For W of rotation_factors(), without forming it: it has the block \f$ a = x^H v \f$ and, twice,
/// what of v is outside the span of x, so that
/// \f[ \lVert W \rVert_F^2 = 2 \lVert v \rVert_F^2 - \lVert x^H v \rVert_F^2 . \f]
/// The spectral norm of W is at most the root of that, and at most \f$ 1/\sqrt 2 \f$ times it for real
/// matrices, whose singular values come in pairs.
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  x    n x p, orthonormal columns
/// \param[in]  v    n x p, tangent at x
/// \param[out] s    1 x 1, real
/// \throws shape_error  if v has another shape than x, or s is not 1 x 1
/// \par Cost
/// 2 n p^2 flops, one p x p scratch matrix.
template <class Ctx, Matrix X, Matrix V, class S>
  requires OutputMatrix<S> && SameScalar<X, V>
void rotation_squared_norm(Ctx& ctx, X const& x, V const& v, S&& s) {
  expect_shape("rotation_squared_norm", "v", v, x.rows(), x.cols());
  expect_shape("rotation_squared_norm", "s", s, 1, 1);
  auto inside = scratch<scalar_t<S>>(ctx, 1, 1);
  {
    auto const a = product(ctx, x.adjoint(), v);
    inner(ctx, a, a, inside);
  }
  inner(ctx, v, v, s);
  scale(ctx, 2, s);
  axpy(ctx, -1, inside, s);
}

/// The step of cayley_momentum: - min(l, 2 q / (|W| + epsilon)).
/// \ingroup optim
struct cayley_length_element {
  double learning_rate;  ///< l
  double contraction;    ///< q
  double epsilon;        ///< added to the norm

  /// \param[out] length   factor of the momentum, negative
  /// \param[in]  squared  squared norm of W
  STIEFELX_HD void operator()(double& length, double const& squared) const {
    double const longest = 2 * contraction / (std::sqrt(squared > 0 ? squared : 0) + epsilon);
    length = learning_rate < longest ? -learning_rate : -longest;
  }
};

namespace detail {

template <class Options>
void expect_cayley_ranges(char const* name, Options const& o) {
  expect_option(o.learning_rate >= 0, name, "learning_rate", o.learning_rate,
                "a number of at least 0");
  expect_option(o.contraction > 0 && o.contraction < 1, name, "contraction", o.contraction,
                "a number in (0, 1)");
  expect_option(o.epsilon > 0, name, "epsilon", o.epsilon, "a number above 0");
  expect_option(o.iterations >= 0, name, "iterations", o.iterations, "a number of at least 0");
  expect_option(o.newton_schulz_steps >= 0, name, "newton_schulz_steps", o.newton_schulz_steps,
                "a number of at least 0");
}

}  // namespace detail

/// \brief Gradient descent with momentum on the Stiefel manifold, by an iterated Cayley transform.
/// \ingroup optim
///
/// With momentum u and Euclidean gradient g \cite li2020 ,
/// \f[ u \leftarrow W x, \qquad W = \hat W - \hat W^H, \quad
///     \hat W = (I - \tfrac12 x x^H)\,(\beta u + g)\,x^H, \f]
/// \f[ \alpha = \min\bigl(l,\ 2q / (\lVert W \rVert_F + \epsilon)\bigr), \qquad
///     y \leftarrow x - \tfrac{\alpha}{2} W (x + y) \f]
/// from \f$ y = x - \alpha u \f$ on. For orthonormal x, \f$ W x \f$ is project() of \f$ \beta u + g
/// \f$, the vector transport of the old momentum and the gradient in one, and W is that of
/// rotation_factors() for it, so that nothing n x n is ever formed and all steps run on 2p x p
/// coefficients: cayley_iteration_retraction. The cap makes the iteration a contraction with factor
/// \f$ \alpha \lVert W \rVert_2 / 2 \le q \f$.
///
/// The bare iteration leaves the manifold by \f$ \lVert y^H y - I \rVert_2 \le 4 (\alpha \lVert W
/// \rVert_2 / 2)^{2j} \f$, 2j the even one of k + 2 and k + 3 for k iterations, at each step, and
/// keeps what earlier steps left. The method as published has `newton_schulz_steps` = 0; then clean
/// up with restabilize(). With one step, the default, the error is about \f$ \tfrac34 \f$ of the
/// square of that bound and does not accumulate: corrects_drift() of manifold/drift.hpp says which
/// is which.
///
/// A gradient that is not finite leaves point and state as they are and sets `not_finite`. There is
/// no weight decay: it is normal to the manifold.
///
/// \tparam Velocity  owning matrix that lives where the points live
template <Matrix Velocity>
class cayley_momentum {
 public:
  /// What save() calls it.
  static constexpr char const* name = "cayley_momentum";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   longest step, momentum, iteration
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  cayley_momentum(Ctx& ctx, stiefel manifold, X const& x, cayley_momentum_options options = {})
      : manifold_(manifold), velocity_(zeros_like(ctx, x)), options_(options) {
    detail::expect_cayley_ranges("cayley_momentum", options);
    expect_option(options.momentum >= 0 && options.momentum < 1, "cayley_momentum", "momentum",
                  options.momentum, "a number in [0, 1)");
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// \f$ 6np^2 \f$ flops and those of the retraction; two n x p scratch matrices beside its own.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Velocity, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("cayley_momentum::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("cayley_momentum::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_distinct(ctx, "cayley_momentum::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto velocity = clone(ctx, g);
    axpy(ctx, options_.momentum, velocity_, velocity);
    project(ctx, manifold_, x, velocity, velocity);

    auto squared = scratch<double>(ctx, 1, 1);
    auto length = scratch<double>(ctx, 1, 1);
    rotation_squared_norm(ctx, x, velocity, squared);
    transform(ctx,
              cayley_length_element{options_.learning_rate, options_.contraction, options_.epsilon},
              outputs(length), inputs(squared));
    auto direction = clone(ctx, velocity);
    scale(ctx, length, direction);
    copy_if(ctx, finite, velocity, velocity_);
    retract(ctx, manifold_, x, direction, velocity,
            cayley_iteration_retraction{options_.iterations, options_.newton_schulz_steps});
    copy_if(ctx, finite, velocity, x);
  }

  /// Sets the longest step of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the momentum that the last step moved along, tangent at the point it started from
  Velocity const& velocity() const { return velocity_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
  }

 private:
  stiefel manifold_;
  Velocity velocity_;
  cayley_momentum_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
cayley_momentum(Ctx&, stiefel, X const&, cayley_momentum_options = {})
    -> cayley_momentum<owning_t<Ctx, X>>;

}  // namespace stiefelx
