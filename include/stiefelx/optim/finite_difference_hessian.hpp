// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/host_device.hpp>
#include <stiefelx/optim/minimization.hpp>

namespace stiefelx {

/// \brief Element text: the step of a difference of gradients.
/// \ingroup optim
struct difference_step_element {
  double root;  ///< root of the rounding unit

  /// \param[out] step     \f$ \sqrt{\epsilon}\,(1 + \lVert x \rVert) / \lVert v \rVert \f$, or 0
  /// \param[out] inverse  one over it, or 0
  /// \param[in]  x        length of the point
  /// \param[in]  v        length of the direction
  STIEFELX_HD void operator()(double& step, double& inverse, double const& x,
                              double const& v) const {
    step = v > 0 ? root * (1 + x) / v : 0;
    inverse = step > 0 ? 1 / step : 0;
  }
};

/// \brief Products with the Hessian by differences of gradients, for problems without one.
/// \ingroup optim
///
/// \f$ \mathrm{Hess} f(x)[v] \approx \bigl(\mathcal{T}_{y \to x}\,\mathrm{grad} f(y) - \mathrm{grad}
/// f(x)\bigr) / h \f$ with \f$ y = R_x(hv) \f$ and \f$ h = \sqrt{\epsilon}\,(1 + \lVert x \rVert) /
/// \lVert v \rVert \f$, in Frobenius norms and the rounding unit of the points' scalar. The error is of
/// the order of h: about half the digits are right.
///
/// \tparam Run  the minimization
/// \see \cite boumal2015
template <class Run>
class finite_difference_hessian {
 public:
  /// \param[in] run  from minimize(); a point with its own cache is made
  explicit finite_difference_hessian(Run& run)
      : near_(run.make_point(run.current().x)),
        numbers_(scratch<double>(run.where(), 1, 4)),
        step_(clone(run.where(), run.current().x)) {}

  /// \brief w = about Hess f(x)[v] at the current point. Waits only where cost() does.
  /// \param[in,out] run  the same minimization; counts a cost, a gradient and a product
  /// \param[in]     v    tangent at the current point; zero gives zero
  /// \param[out]    w    tangent at the current point; must not overlap v
  /// \par Cost
  /// A cost, a gradient, a retraction and a transport.
  template <class V, class W>
  void operator()(Run& run, V const& v, W& w) {
    auto& ctx = run.where();
    auto& now = run.current();
    constexpr double unit = std::numeric_limits<real_t<V>>::epsilon();
    auto&& step = numbers_.middleCols(0, 1);
    auto&& inverse = numbers_.middleCols(1, 1);
    norm(ctx, now.x, numbers_.middleCols(2, 1));
    norm(ctx, v, numbers_.middleCols(3, 1));
    transform(ctx, difference_step_element{std::sqrt(unit)}, outputs(step, inverse),
              inputs(numbers_.middleCols(2, 1), numbers_.middleCols(3, 1)));
    copy(ctx, v, step_);
    scale(ctx, step, step_);
    retract_by(ctx, run.manifold(), now.x, step_, near_.x, run.retraction());
    run.evaluate_with_gradient(near_);
    run.count_hessian();
    transport_or_project(ctx, run.manifold(), near_.x, now.x, near_.gradient, w);
    axpy(ctx, -1, now.gradient, w);
    scale(ctx, inverse, w);
  }

 private:
  using context_type = std::remove_reference_t<decltype(std::declval<Run&>().where())>;
  using point_type = typename Run::point_type;

  point_type near_;
  decltype(scratch<double>(std::declval<context_type&>(), 1, 4)) numbers_;
  decltype(point_type::x) step_;
};

}  // namespace stiefelx
