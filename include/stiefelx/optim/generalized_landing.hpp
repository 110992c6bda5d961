// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/landing.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/optim/landing.hpp>
#include <stiefelx/optim/landing_field.hpp>

namespace stiefelx {

/// Options of generalized_landing.
/// \ingroup optim
struct generalized_landing_options {
  double learning_rate = 1e-2;  ///< \f$ \eta \ge 0 \f$, the longest step
  double momentum = 0;          ///< \f$ \beta \in [0, 1) \f$
  double attraction = 1;        ///< \f$ \lambda > 0 \f$, weight of the part towards the manifold
  double region =
      0.5;  ///< \f$ \epsilon \in (0, 1) \f$, largest \f$ \lVert x^H B x - I \rVert_F \f$
  landing_outside outside = landing_outside::approach;  ///< see landing_outside
  bool safe_step = true;  ///< whether steps are bounded; without, each has the learning rate
};

/// \brief Two independent estimates of B, for generalized_landing without a safe step.
/// \ingroup optim
///
/// The field has B twice. With y = B_1 x and z = B_2 x its estimate \f$ \tfrac12 (u\,y^H z - y\,u^H
/// z) + \lambda\,z\,(x^H y - I) \f$ has the field of the mean as its mean, while one estimate in
/// both places leaves a bias of the size of its variance. It refers to its arguments.
/// \see \cite vary2024
template <class First, class Second>
struct two_estimates {
  First const& first;    ///< matrix or callable
  Second const& second;  ///< matrix or callable, from other data
};

/// Refers to both.
/// \ingroup optim
template <class First, class Second>
two_estimates(First const&, Second const&) -> two_estimates<First, Second>;

/// \brief Landing method for \f$ x^H B x = I \f$, with products by B and no solve.
/// \ingroup optim
///
/// B is Hermitian and positive definite, and is given to each step, as a matrix or as a callable
/// `b(ctx, x, bx)` that sets bx = B x: it may be an estimate from a batch of data, another one each
/// time. With y = B x one step is
/// \f[ u \leftarrow \beta u + g, \qquad f = \tfrac12 (u\,y^H y - y\,u^H y) + \lambda\,y\,\Delta,
///     \quad \Delta = x^H y - I, \qquad x \leftarrow x - \min(\eta, \eta^*)\,f . \f]
/// The first part is tangent at any x, and f vanishes only at the critical points of the cost.
///
/// **Safe step.** With \f$ K = y^H y \f$ and \f$ T = (\Delta K + K \Delta)/2 \f$, a step of length
/// s gives \f$ \Delta_+ = \Delta - 2 s \lambda T + s^2 f^H B f \f$. The norm of the first two terms
/// is convex in s and least at \f$ s_0 = \langle \Delta, T \rangle / (2 \lambda \lVert T \rVert^2)
/// \f$, so up to there it lies under its chord: with \f$ d = \lVert \Delta \rVert \f$, \f$ q =
/// \lVert f^H B f \rVert \f$ and \f$ b \f$ the fall of the chord,
/// \f[ d_+ \le d - s b + s^2 q \le \max(d, \epsilon) \quad\text{for}\quad
///     s \le \eta^* = \min\!\left( \frac{b + \sqrt{b^2 + 4 q \max(0, \epsilon - d)}}{2 q},
///     s_0 \right), \quad b = \frac{2 \lambda \langle \Delta, T \rangle}
///              {d + \sqrt{d^2 - \langle \Delta, T \rangle^2 / \lVert T \rVert^2}} . \f]
/// It holds for every gradient, learning rate and B, also far from the manifold. With a B that
/// changes from step to step it holds for the one of the step. It costs one more product with B; an
/// option turns it off, as two_estimates asks for.
///
/// **A start outside** the region sets `not_converged`. `approach` leaves the gradient out there
/// and takes the s that makes the bound of \f$ d_+ \f$ least, below d for every x of full rank;
/// `safe_step` keeps to the formula. With no safe step the region plays no part.
///
/// A gradient that is not finite, or so large that the numbers above are not, leaves the point and
/// the state as they are and sets `not_finite`. There is no weight decay: the field of g + B x is
/// that of g.
///
/// \tparam Velocity  owning matrix that lives where the points live
/// \tparam Number    owning 1 x 1 matrix of double, in the same memory
/// \see \cite vary2024
template <Matrix Velocity, Matrix Number>
class generalized_landing {
 public:
  /// What save() calls it.
  static constexpr char const* name = "generalized_landing";

  /// \param[in] ctx      where the state lives
  /// \param[in] x        n x p, n at least p, of full rank: gives shape, scalar and memory
  /// \param[in] options  step size, momentum, weights
  /// \throws shape_error   if x is wide
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  generalized_landing(Ctx& ctx, X const& x, generalized_landing_options options = {})
      : velocity_(zeros_like(ctx, x)), step_length_(zeros<double>(ctx, 1, 1)), options_(options) {
    expect_tall("generalized_landing", "x", x);
    expect_landing_ranges("generalized_landing", options);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p of full rank
  /// \param[in]     g       n x p, Euclidean gradient at x; must not overlap x
  /// \param[in]     b       n x n, Hermitian, positive definite; or a callable (ctx, x, bx) that
  ///                        sets the n x p matrix bx = B x; or two_estimates of such
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state, or b is not n x n
  /// \throws alias_error  if g overlaps x
  /// \throws option_error  for two estimates and a safe step
  /// \par Cost
  /// Two products with B and 12 n p^2 flops; without the safe step one product and 9 n p^2 flops.
  /// Three n x p scratch matrices.
  template <class Ctx, class X, Matrix G, class B, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Velocity, X, G>
  void step(Ctx& ctx, X&& x, G const& g, B const& b, Status&& status = {}) {
    expect_shape("generalized_landing::step", "x", x, velocity_.rows(), velocity_.cols());
    expect_shape("generalized_landing::step", "g", g, velocity_.rows(), velocity_.cols());
    expect_estimate(b);
    expect_distinct(ctx, "generalized_landing::step", "x", x, "g", g);
    auto finite = scratch<double>(ctx, 1, 1);
    all_finite(ctx, g, finite);
    auto u = clone(ctx, velocity_);
    scale(ctx, options_.momentum, u);
    axpy(ctx, 1, g, u);

    auto f = clone(ctx, u);
    auto length = scratch<double>(ctx, 1, 1);
    auto bits = clear_status(ctx, 1);
    find_step(ctx, b, x, u, f, length, finite, bits);
    raise(ctx, status, bits);
    copy_if(ctx, finite, length, step_length_);
    copy_if(ctx, finite, u, velocity_);
    scale(ctx, -1, length);
    scale(ctx, length, f);
    axpy(ctx, 1, x, f);
    copy_if(ctx, finite, f, x);
  }

  /// Sets the longest step of the following ones.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the velocity u, a matrix of the space around
  Velocity const& velocity() const { return velocity_; }
  /// \returns 1 x 1: the factor of the field in the last step, the learning rate or what was safe
  Number const& step_length() const { return step_length_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("velocity", velocity_);
    visit("step_length", step_length_);
  }

 private:
  template <class B>
  void expect_estimate(B const& b) const {
    if constexpr (Matrix<B>)
      expect_shape("generalized_landing::step", "b", b, velocity_.rows(), velocity_.rows());
  }
  template <class First, class Second>
  void expect_estimate(two_estimates<First, Second> const& b) const {
    expect_option(!options_.safe_step, "generalized_landing::step", "safe_step", 1,
                  "0 with two estimates of B");
    expect_estimate(b.first);
    expect_estimate(b.second);
  }

  template <class Ctx, class B, class X, class Bx>
  static void apply(Ctx& ctx, B const& b, X const& x, Bx& bx) {
    if constexpr (Matrix<B>)
      multiply(ctx, b, x, bx);
    else
      b(ctx, x, bx);
  }

  // x^H bx - I.
  template <class Ctx, class X, class Bx>
  static auto defect_of(Ctx& ctx, X const& x, Bx const& bx) {
    auto b_gram = product(ctx, x.adjoint(), bx);
    symmetrize(ctx, b_gram);
    return detail::minus_identity(ctx, b_gram);
  }

  // The field f for a direction u and the length of the step along it.
  template <class Ctx, class B, class X, class U, class S, class Bits>
  void find_step(Ctx& ctx, B const& b, X const& x, U const& u, U& f, S& length, S& finite,
                 Bits& bits) const {
    auto bx = clone(ctx, u);
    apply(ctx, b, x, bx);
    auto const k = gram(ctx, bx);
    auto const defect = defect_of(ctx, x, bx);
    auto squared = scratch<double>(ctx, 1, 1);
    auto along = scratch<double>(ctx, 1, 1);
    auto outward = scratch<double>(ctx, 1, 1);
    inner(ctx, defect, defect, squared);
    landing_region const region{
        options_.safe_step ? options_.region : std::numeric_limits<double>::infinity(),
        detail::rounding_of_distance<real_t<X>>(x.rows(), x.cols()),
        options_.outside == landing_outside::approach};
    transform(ctx, landing_weights_element{options_.attraction, region}, outputs(along, outward),
              inputs(squared));
    detail::combine_field(ctx, bx, u, k, defect, along, outward, f);
    if (options_.safe_step)
      find_length(ctx, b, f, k, defect, squared, region, bx, length, finite);
    else
      keep_length(ctx, f, length, finite);
    transform(ctx, landing_status_element{region}, outputs(bits), inputs(squared, finite));
  }

  template <class Ctx, class First, class Second, class X, class U, class S, class Bits>
  void find_step(Ctx& ctx, two_estimates<First, Second> const& b, X const& x, U const& u, U& f,
                 S& length, S& finite, Bits& bits) const {
    auto y = clone(ctx, u);
    auto z = clone(ctx, u);
    apply(ctx, b.first, x, y);
    apply(ctx, b.second, x, z);
    auto small = product(ctx, y.adjoint(), z);
    multiply(ctx, u, small, f);
    multiply(ctx, u.adjoint(), z, small);
    multiply_add(ctx, -1, y, small, f);
    scale(ctx, 0.5, f);
    multiply_add(ctx, options_.attraction, z, defect_of(ctx, x, y), f);
    keep_length(ctx, f, length, finite);
    transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
  }

  // bf is memory of f's shape for B f.
  template <class Ctx, class B, class F, class K, class Delta, class S>
  void find_length(Ctx& ctx, B const& b, F const& f, K const& k, Delta const& defect,
                   S const& squared, landing_region region, F& bf, S& length, S& finite) const {
    auto t = product(ctx, defect, k);
    symmetrize(ctx, t);
    auto slope = scratch<double>(ctx, 1, 1);
    auto curvature = scratch<double>(ctx, 1, 1);
    auto quadratic = scratch<double>(ctx, 1, 1);
    inner(ctx, defect, t, slope);
    inner(ctx, t, t, curvature);
    apply(ctx, b, f, bf);
    multiply(ctx, f.adjoint(), bf, t);
    norm(ctx, t, quadratic);
    double const rounding = 32 * static_cast<double>(std::numeric_limits<real_t<F>>::epsilon());
    transform(ctx,
              generalized_landing_step_element{options_.learning_rate, options_.attraction, region,
                                               rounding},
              outputs(length, finite), inputs(squared, slope, curvature, quadratic));
  }

  template <class Ctx, class F, class S>
  void keep_length(Ctx& ctx, F const& f, S& length, S& finite) const {
    auto squared = scratch<double>(ctx, 1, 1);
    inner(ctx, f, f, squared);
    fill(ctx, options_.learning_rate, length);
    transform(ctx, landing_finite_element{}, outputs(finite), inputs(squared));
  }

  Velocity velocity_;
  Number step_length_;
  generalized_landing_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
generalized_landing(Ctx&, X const&, generalized_landing_options = {})
    -> generalized_landing<owning_t<Ctx, X>, matrix_t<Ctx, double>>;

}  // namespace stiefelx
