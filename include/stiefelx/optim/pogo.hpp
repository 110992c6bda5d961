// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/defect_quartic.hpp>
#include <stiefelx/manifold/stiefel_space.hpp>
#include <stiefelx/optim/base_direction.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/landing_field.hpp>

namespace stiefelx {

/// Options of pogo.
/// \ingroup optim
struct pogo_options {
  double learning_rate = 1e-2;  ///< \f$ \eta \ge 0 \f$
  /// Longest step along the manifold in the Frobenius norm, above 0. With at most 1 and a
  /// correction of 1/2, every singular value stays in \f$ [\sqrt{1/2}, 1] \f$ for any gradients.
  double largest_step = std::numeric_limits<double>::infinity();
  /// The best correction is used in every k-th step, 1/2 in the others; 0 never looks for it.
  index_t root_every = 0;
};

/// \brief The correction \f$ \lambda \f$ for which \f$ m + \lambda (m - m\,m^H m) \f$ is nearest to
/// orthonormal columns.
/// \ingroup optim
/// \param[in]  ctx     where to run; nothing waits
/// \param[in]  defect  p x p, \f$ m^H m - I \f$
/// \param[out] lambda  1 x 1, as defect_quartic_element says
/// \throws shape_error  if defect is not square or lambda not 1 x 1
/// \par Cost
/// 4 p^3 flops in double, three p x p scratch matrices.
template <class Ctx, Matrix D, class L>
  requires OutputMatrix<L>
void best_correction(Ctx& ctx, D const& defect, L&& lambda) {
  expect_shape("best_correction", "defect", defect, defect.cols(), defect.cols());
  expect_shape("best_correction", "lambda", lambda, 1, 1);
  auto const e = widen(ctx, defect);
  auto const e2 = product(ctx, e, e);
  auto const e3 = product(ctx, e, e2);
  auto s2 = scratch<double>(ctx, 1, 1);
  auto s3 = scratch<double>(ctx, 1, 1);
  auto s4 = scratch<double>(ctx, 1, 1);
  auto s5 = scratch<double>(ctx, 1, 1);
  auto s6 = scratch<double>(ctx, 1, 1);
  inner(ctx, e, e, s2);
  inner(ctx, e, e2, s3);
  inner(ctx, e2, e2, s4);
  inner(ctx, e2, e3, s5);
  inner(ctx, e3, e3, s6);
  transform(ctx, defect_quartic_element{}, outputs(lambda), inputs(s2, s3, s4, s5, s6));
}

/// Factor of pogo's step along the manifold.
/// \ingroup optim
struct pogo_length_element {
  double learning_rate;  ///< \f$ \eta \f$
  double largest;        ///< longest step

  /// \param[out] length   -eta, or what is shorter
  /// \param[in]  squared  squared norm of the relative gradient
  STIEFELX_HD void operator()(double& length, double const& squared) const {
    double const found = std::sqrt(squared);
    length = learning_rate * found > largest ? -largest / found : -learning_rate;
  }
};

/// Counts pogo's steps and chooses the correction.
/// \ingroup optim
struct pogo_correction_element {
  double every;  ///< steps from one use of the root to the next, or 0

  /// \param[in,out] correction  \f$ \lambda \f$
  /// \param[in,out] steps       steps done
  /// \param[in]     root        the best correction
  /// \param[in]     finite      0 leaves both as they are
  STIEFELX_HD void operator()(double& correction, double& steps, double const& root,
                              double const& finite) const {
    if (finite == 0) return;
    steps += 1;
    correction = every > 0 && std::fmod(steps, every) == 0 ? root : 0.5;
  }
};

/// \brief Descent on the Stiefel manifold by a step along it and one Newton-Schulz step back.
/// \ingroup optim
///
/// With a direction u of a base method (base_direction.hpp) one step is
/// \f[ m = x - \eta\,\tfrac12 (u\,x^H x - x\,u^H x), \qquad
///     x \leftarrow m + \lambda (m - m\,m^H m), \qquad \lambda = \tfrac12 . \f]
/// The first part leaves \f$ x^H x \f$ as it is but for \f$ \eta^2 \Psi^H \Psi \f$. From
/// orthonormal columns \f$ e = m^H m - I \f$ is therefore positive semidefinite, and the second
/// part leaves \f$ -\tfrac14 e^2 (3 - e) \f$: at most \f$ \tfrac34 \lVert e \rVert^2 \f$ for \f$ e
/// \le 3 \f$, which is of fourth order in the step, and nothing adds up. Beyond \f$ \eta \lVert
/// \Psi \rVert_2 = \sqrt 2 \f$ a singular vector changes its sign, and beyond 2 the second part
/// diverges; `largest_step` bounds the step.
///
/// `root_every` takes for \f$ \lambda \f$ the minimum of the defect, a root of a polynomial of the
/// traces of the powers of e (best_correction()), which pays for long steps. It is found where the
/// data live, in every step, as the count of steps is there as well.
///
/// Weight decay has no place here: x is normal to the manifold, and \f$ \Psi \f$ of u + x is that
/// of u. A gradient that is not finite leaves the point and the state as they are, a step that
/// overflows leaves the point; both set `not_finite`.
///
/// \tparam Direction  state of a base: plain_base, momentum_base, vector_adam_base, optimizer_base
/// \tparam Number     owning 1 x 1 matrix of double that lives where the points live
/// \see \cite javaloy2026
template <class Direction, Matrix Number>
class pogo {
 public:
  /// What save() calls it.
  static constexpr char const* name = "pogo";

  /// \param[in] ctx      where the state lives
  /// \param[in] m        \f$ \mathrm{St}(n, p) \f$; its metric plays no part
  /// \param[in] x        a point: its shape, scalar and memory become the state's
  /// \param[in] options  step size and correction
  /// \param[in] base     what makes a direction of gradients
  /// \throws shape_error   if x is not n x p
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X, class Base = plain_base>
  pogo(Ctx& ctx, stiefel m, X const& x, pogo_options options = {}, Base const& base = {})
      : manifold_(m),
        direction_(base.start(ctx, x)),
        correction_(zeros<double>(ctx, 1, 1)),
        steps_(zeros<double>(ctx, 1, 1)),
        options_(options) {
    detail::expect_stiefel("pogo", "x", m, x);
    expect_option(options.learning_rate >= 0, "pogo", "learning_rate", options.learning_rate,
                  "a number of at least 0");
    expect_option(options.largest_step > 0, "pogo", "largest_step", options.largest_step,
                  "a number above 0");
    expect_option(options.root_every >= 0, "pogo", "root_every", options.root_every,
                  "a number of at least 0");
    fill(ctx, 0.5, correction_);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, a point
  /// \param[in]     g       n x p, Euclidean gradient at x; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// 10 n p^2 flops (two Grams, three products that are not), and 4 p^3 for a root; three n x p
  /// scratch matrices.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("pogo::step", "x", x, manifold_.n, manifold_.p);
    expect_shape("pogo::step", "g", g, manifold_.n, manifold_.p);
    expect_distinct(ctx, "pogo::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto moved = clone(ctx, x);
    auto u = clone(ctx, x);
    direction_.direction(ctx, g, finite, u);
    relative_gradient(ctx, x, u, moved);
    shorten(ctx, moved);
    axpy(ctx, 1, x, moved);

    auto const g_moved = gram(ctx, moved);
    auto const defect = detail::minus_identity(ctx, g_moved);
    auto lambda = scratch<double>(ctx, 1, 1);
    if (options_.root_every > 0)
      best_correction(ctx, defect, lambda);
    else
      fill(ctx, 0.5, lambda);
    transform(ctx, pogo_correction_element{static_cast<double>(options_.root_every)},
              outputs(correction_, steps_), inputs(lambda, finite));
    copy(ctx, correction_, lambda);
    scale(ctx, -1, lambda);
    copy(ctx, moved, u);
    multiply_add(ctx, lambda, moved, defect, u);
    auto taken = finite_gradient(ctx, u, status);
    scale(ctx, finite, taken);
    copy_if(ctx, taken, u, x);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns 1 x 1: \f$ \lambda \f$ of the last step
  Number const& correction() const { return correction_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    direction_.for_each_array(visit);
    visit("correction", correction_);
    visit("steps", steps_);
  }

 private:
  template <class Ctx, class Psi>
  void shorten(Ctx& ctx, Psi& psi) const {
    if (options_.largest_step == std::numeric_limits<double>::infinity()) {
      scale(ctx, -options_.learning_rate, psi);
      return;
    }
    auto squared = scratch<double>(ctx, 1, 1);
    auto length = scratch<double>(ctx, 1, 1);
    inner(ctx, psi, psi, squared);
    transform(ctx, pogo_length_element{options_.learning_rate, options_.largest_step},
              outputs(length), inputs(squared));
    scale(ctx, length, psi);
  }

  stiefel manifold_;
  Direction direction_;
  Number correction_, steps_;
  pogo_options options_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X, class Base = plain_base>
pogo(Ctx&, stiefel, X const&, pogo_options = {}, Base const& = {})
    -> pogo<decltype(std::declval<Base const&>().start(std::declval<Ctx&>(),
                                                       std::declval<X const&>())),
            matrix_t<Ctx, double>>;

}  // namespace stiefelx
