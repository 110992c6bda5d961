// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/stack.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/residual.hpp>

/// \file
/// \brief The drift contract: how points stay orthonormal over many steps of rounding.
/// \ingroup stiefel
///
/// A retraction corrects drift when it orthonormalizes what it is given, so that each step starts
/// anew. One that only turns the frame keeps the errors of all steps before. corrects_drift() says
/// which is which, drift() measures, and a drift_policy cleans the points of the second kind.
///
/// Largest \f$ \lVert x^H x - I \rVert_F \f$ in float over 10,000 steps of norm 0.1, n = 256, p = 32;
/// the example drift.cpp measures it:
///
/// | retraction | corrects | alone | default policy |
/// | --- | --- | --- | --- |
/// | qr_retraction | yes | 7e-7 | 7e-7 |
/// | polar_retraction | yes | 6e-7 | 6e-7 |
/// | polar_light_retraction | yes | 7e-7 | 7e-7 |
/// | cayley_iteration_retraction, with Newton-Schulz | yes | 5e-7 | 5e-7 |
/// | cayley_iteration_retraction, without | no | 2e-5 | 7e-7 |
/// | cayley_retraction, pade_retraction | no | 2e-5 | 7e-7 |
/// | quasi_geodesic_retraction | no | 3e-5 | 3e-6 |
/// | exponential_retraction | no | 1e-4 | 2e-6 |

namespace stiefelx {

struct pade_retraction;
struct exponential_retraction;
struct polar_light_retraction;

/// How restabilize() brings a point back to orthonormal columns.
/// \ingroup stiefel
enum class drift_repair {
  newton_schulz,  ///< one step towards the nearest point; errors below 1/2 are squared
  qr,             ///< the Q factor, by Cholesky; for errors up to one, and it turns the frame
};

/// \brief When and how points are brought back to orthonormal columns.
/// \ingroup stiefel
///
/// The default keeps \f$ \lVert x^H x - I \rVert_F \f$ below 5e-6 in float for n = 256, p = 32,
/// with every retraction here and steps of norm 0.1, and costs less than a tenth of a step.
struct drift_policy {
  int every = 8;     ///< steps from one look to the next; 0 never looks
  double above = 0;  ///< at a look, restabilize only when drift() is above it; 0 always does
  drift_repair repair = drift_repair::newton_schulz;  ///< see drift_repair
};

/// \brief Whether a retraction leaves a point whose error does not depend on that of the point
/// before.
/// \ingroup stiefel
///
/// The overloads below speak for the retractions here. A user's retraction that has none counts as
/// one that does not: declare `constexpr bool corrects_drift(my_retraction const&)` beside it.
/// \returns false
template <class How>
constexpr bool corrects_drift(How const&) {
  return false;
}
/// Yes: the Gram matrix that it inverts is that of x + v itself.
/// \ingroup stiefel
/// \returns true
constexpr bool corrects_drift(qr_retraction const&) { return true; }
/// Yes: the Gram matrix that it inverts is that of x + v itself.
/// \ingroup stiefel
/// \returns true
constexpr bool corrects_drift(polar_retraction const&) { return true; }
/// Yes: it ends with a polar factor of what was computed.
/// \ingroup stiefel
/// \returns true
constexpr bool corrects_drift(polar_light_retraction const&) { return true; }
/// With a Newton-Schulz step, yes; the bare iteration, no.
/// \ingroup stiefel
/// \param[in] how  the number of steps
/// \returns whether there is a Newton-Schulz step
constexpr bool corrects_drift(cayley_iteration_retraction const& how) {
  return how.newton_schulz_steps > 0;
}
/// No: it turns the frame, errors and all.
/// \ingroup stiefel
/// \returns false
constexpr bool corrects_drift(cayley_retraction const&) { return false; }
/// No: it turns the frame, errors and all.
/// \ingroup stiefel
/// \returns false
constexpr bool corrects_drift(pade_retraction const&) { return false; }
/// No: it turns the frame, errors and all.
/// \ingroup stiefel
/// \returns false
constexpr bool corrects_drift(exponential_retraction const&) { return false; }

/// \brief Measures drift: \f$ s = \lVert x^H x - I \rVert_F \f$.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits: s lives where the data live
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point up to drift
/// \param[out] s    1 x 1, real
/// \throws shape_error  if x is not n x p or s is not 1 x 1
/// \par Cost
/// That of orthonormality_error().
template <class Ctx, Matrix X, class S>
  requires OutputMatrix<S>
void drift(Ctx& ctx, stiefel m, X const& x, S&& s) {
  detail::expect_stiefel("drift", "x", m, x);
  expect_shape("drift", "s", s, 1, 1);
  orthonormality_error(ctx, x, s);
}

/// \brief Element text: 1 where an error is above a limit, else 0.
/// \ingroup stiefel
struct above_element {
  double limit;  ///< the limit

  /// \param[out] flag   1 or 0
  /// \param[in]  error  a number; NaN gives 0
  template <class Real>
  STIEFELX_HD void operator()(Real& flag, Real const& error) const {
    flag = static_cast<double>(error) > limit ? Real(1) : Real(0);
  }
};

namespace detail {

inline void expect_drift_policy(char const* function, drift_policy const& policy) {
  expect_option(policy.every >= 0, function, "drift_policy::every", policy.every,
                "a number of at least 0");
  expect_option(policy.above >= 0, function, "drift_policy::above", policy.above,
                "a number of at least 0");
}

}  // namespace detail

/// \brief Brings a point that has drifted back to orthonormal columns, now.
/// \ingroup stiefel
///
/// By Newton-Schulz, \f$ x \leftarrow x + x\,(I - x^H x)/2 \f$: a step towards the nearest point
/// \cite higham2008, section 8.3, that takes an error \f$ \delta \f$ to \f$ \tfrac34 \delta^2 \f$,
/// so to rounding for every drift that a policy lets happen. By QR, \f$ x \leftarrow x\,r^{-1} \f$
/// with \f$ x^H x = r^H r \f$. With policy.above the repair is computed and taken only where
/// drift() is above; nobody waits to find out. A point with a NaN keeps it.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       \f$ \mathrm{St}(n, p) \f$
/// \param[in,out] x       n x p, a point up to drift
/// \param[in]     policy  its `above` and `repair`; `every` plays no part
/// \throws shape_error   if x is not n x p
/// \throws option_error  if policy.every or policy.above is negative
/// \par Cost
/// 3 n p^2 flops; one n x p and two p x p scratch matrices.
template <class Ctx, class X>
  requires OutputMatrix<X>
void restabilize(Ctx& ctx, stiefel m, X&& x, drift_policy const& policy = {}) {
  using Real = real_t<X>;
  detail::expect_stiefel("restabilize", "x", m, x);
  detail::expect_drift_policy("restabilize", policy);
  auto better = clone(ctx, x);
  auto g = gram(ctx, x);
  auto defect = clone(ctx, g);
  set_identity(ctx, defect);
  axpy(ctx, -1, g, defect);
  if (policy.repair == drift_repair::newton_schulz) {
    multiply_add(ctx, 0.5, x, defect, better);
  } else {
    cholesky(ctx, g, no_status{});
    solve_right(ctx, g, better);
  }
  auto flag = scratch<Real>(ctx, 1, 1);
  if (policy.above > 0) {
    auto error = scratch<Real>(ctx, 1, 1);
    norm(ctx, defect, error);
    transform(ctx, above_element{policy.above}, outputs(flag), inputs(error));
    copy_if(ctx, flag, better, x);
  } else {
    copy(ctx, better, x);
  }
}

/// \brief Brings every point of a stack back to orthonormal columns, each as its own error says.
/// \ingroup stiefel
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     m       the manifold of the stack
/// \param[in,out] x       n x (p count), points up to drift
/// \param[in]     policy  its `above` and `repair`
/// \throws shape_error   if x is not n x (p count)
/// \throws option_error  if policy.every or policy.above is negative
/// \par Cost
/// That of one point, count times, one after the other.
template <class Ctx, class X>
  requires OutputMatrix<X>
void restabilize(Ctx& ctx, power<stiefel> m, X&& x, drift_policy const& policy = {}) {
  index_t const p = m.manifold.p;
  detail::expect_stiefel("restabilize", m.manifold);
  expect_shape("restabilize", "x", x, m.manifold.n, p * m.count);
  for (index_t k = 0; k < m.count; ++k)
    restabilize(ctx, m.manifold, x.middleCols(k * p, p), policy);
}

/// \brief Counts the steps of a point and restabilizes it when its policy says so.
/// \ingroup stiefel
///
/// Call step() after each retraction. For a retraction that corrects its own drift it does nothing.
/// One restabilizer serves one point, or points that step together.
class restabilizer {
 public:
  /// \param[in] policy  when and how
  /// \throws option_error  if policy.every or policy.above is negative
  explicit restabilizer(drift_policy const& policy = {}) : policy_(policy) {
    detail::expect_drift_policy("restabilizer", policy);
  }

  /// \brief Counts a step, and restabilizes the point when that is due.
  /// \param[in]     ctx  where to run; nothing waits
  /// \param[in]     m    a manifold with restabilize()
  /// \param[in,out] x    the point that the retraction went to
  /// \param[in]     how  the retraction
  /// \returns whether restabilize() ran
  template <class Ctx, class M, class X, class How>
    requires OutputMatrix<X>
  bool step(Ctx& ctx, M const& m, X&& x, How const& how) {
    if (corrects_drift(how) || policy_.every == 0) return false;
    if (++steps_ < policy_.every) return false;
    steps_ = 0;
    restabilize(ctx, m, x, policy_);
    return true;
  }

  /// \returns steps since the last look, or since the start
  int steps() const { return steps_; }
  /// \returns when and how
  drift_policy const& policy() const { return policy_; }

 private:
  drift_policy policy_;
  int steps_ = 0;
};

/// \brief Selects a retraction followed by restabilize(), at every step: for callers that have no
/// place for a restabilizer, such as the optimizers.
/// \ingroup stiefel
/// \tparam How  the retraction
template <class How>
struct restabilized {
  How how;                                            ///< the retraction
  drift_repair repair = drift_repair::newton_schulz;  ///< what follows it
};

/// Deduces the retraction.
/// \ingroup stiefel
template <class How>
restabilized(How) -> restabilized<How>;

/// Yes: every step ends with restabilize().
/// \ingroup stiefel
/// \returns true
template <class How>
constexpr bool corrects_drift(restabilized<How> const&) {
  return true;
}

/// \brief Retracts a tangent vector by a given retraction, then restabilizes the point.
/// \ingroup stiefel
/// \param[in]  ctx  where to run; nothing waits
/// \param[in]  m    \f$ \mathrm{St}(n, p) \f$
/// \param[in]  x    n x p, a point
/// \param[in]  v    n x p, tangent at x
/// \param[out] y    n x p, the new point; as the retraction allows
/// \param[in]  how  the retraction and the repair
/// \throws shape_error  as the retraction does
/// \throws alias_error  as the retraction does
/// \par Cost
/// That of the retraction and of restabilize().
template <class Ctx, Matrix X, Matrix V, class Y, class How>
  requires OutputMatrix<Y> && SameScalar<X, V, Y>
void retract(Ctx& ctx, stiefel m, X const& x, V const& v, Y&& y, restabilized<How> const& how) {
  retract(ctx, m, x, v, y, how.how);
  restabilize(ctx, m, y, {.repair = how.repair});
}

}  // namespace stiefelx
