// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/curve.hpp>
#include <stiefelx/optim/problem.hpp>

namespace stiefelx {

/// Why truncated_cg ended.
/// \ingroup optim
enum class truncation {
  residual,    ///< the residual is short enough
  sufficient,  ///< a residual that is short enough to do was found before, and no shorter one
  boundary,    ///< the next step would leave the ball
  negative_curvature,  ///< the model falls without end along a direction
  product_limit,       ///< so many products were allowed
  not_finite           ///< a product with the Hessian is not finite
};

/// Where truncated_cg starts and what ends it.
/// \ingroup optim
struct truncated_cg_start {
  double weighted = 0;    ///< \f$ \langle g, z \rangle \f$ of gradient and preconditioned gradient
  double radius = 1;      ///< of the ball
  double residual = 0;    ///< ends when \f$ \langle r, P r \rangle^{1/2} \f$ is at most so much
  double sufficient = 0;  ///< a residual that will do where none so short can be had, or 0
  index_t products = 1;   ///< most products with the Hessian, above 0
};

/// What truncated_cg found.
/// \ingroup optim
struct truncated_cg_result {
  truncation reason = truncation::residual;  ///< why it ended
  double model = 0;      ///< \f$ \langle g, v \rangle + \langle v, Hv \rangle / 2 \f$, at most 0
  double length = 0;     ///< of the step, in the norm of the ball
  index_t products = 0;  ///< products with the Hessian
};

/// \brief Minimizes a quadratic model in a ball of a tangent space, about, by conjugate gradients.
/// \ingroup optim
///
/// The model is \f$ \langle g, v \rangle + \tfrac12 \langle v, Hv \rangle \f$ over
/// \f$ \lVert v \rVert \le \Delta \f$. The iterates of the conjugate gradient method grow from zero;
/// the first that would leave the ball, or a direction of no positive curvature, is followed to its
/// boundary. With a preconditioner P, the norm of the ball is \f$ \langle v, P^{-1}v \rangle^{1/2} \f$.
/// The model is never above that of the best multiple of the preconditioned gradient.
///
/// Where the cost does not change along some directions, as along the rotations of an eigenspace, the
/// Hessian has curvatures of both signs as small as the gradient, and a step to the boundary along
/// them is of no use. So once a residual is sufficient, the step with the shortest residual is kept
/// and is the result if the search meets the boundary, negative curvature, or a residual that is not
/// sufficient.
///
/// The products \f$ \langle d, Hd \rangle, \langle Pr, Hd \rangle, \langle Hd, PHd \rangle \f$ and
/// \f$ \langle r, Pr \rangle \f$ are read together, and tell the length of the next residual before it
/// is formed: one wait a product with H, and none is made in vain.
///
/// \tparam X               scratch of the points' type
/// \tparam Numbers         scratch of double
/// \tparam Preconditioned  whether there is a P
/// \see \cite steihaug1983, \cite absil2007
template <class X, class Numbers, bool Preconditioned>
class truncated_cg {
 public:
  /// \param[in] ctx  where to run
  /// \param[in] x    a point: its shape and scalar are the vectors'
  template <class Ctx, class Point>
  truncated_cg(Ctx& ctx, Point const& x)
      : step_(clone(ctx, x)),
        residual_(clone(ctx, x)),
        direction_(clone(ctx, x)),
        product_(clone(ctx, x)),
        kept_(clone(ctx, x)),
        smooth_{make_smooth(ctx, x), make_smooth(ctx, x)},
        numbers_(scratch<double>(ctx, 1, 4)) {}

  /// \returns the step that find() found
  X const& step() const { return keeps_ ? kept_ : step_; }

  /// \brief Finds the step.
  /// \param[in] ctx      where to run; waits once a product
  /// \param[in] m        the manifold
  /// \param[in] x        a point
  /// \param[in] g        tangent at x: the gradient
  /// \param[in] z        P g, or g
  /// \param[in] hessian  callable as hessian(v, w): w = Hv
  /// \param[in] smooth   callable as smooth(v, w): w = Pv; not called without a preconditioner
  /// \param[in] start    radius and criterion
  /// \returns the model's value and the reason
  /// \par Cost
  /// A product, five passes over vectors and as many inner products an iteration.
  template <class Ctx, class M, class Point, class G, class Z, class Hessian, class Smooth>
  truncated_cg_result find(Ctx& ctx, M const& m, Point const& x, G const& g, Z const& z,
                           Hessian const& hessian, Smooth const& smooth,
                           truncated_cg_start const& start) {
    fill(ctx, 0, step_);
    copy(ctx, g, residual_);
    if constexpr (Preconditioned) copy(ctx, z, smooth_[0]);
    copy(ctx, z, direction_);
    scale(ctx, -1, direction_);
    truncated_cg_result found, kept;
    double const enough = start.sufficient * start.sufficient;
    double shortest = std::numeric_limits<double>::infinity();
    auto const keep = [&] {
      kept.reason = truncation::sufficient;
      kept.products = found.products;
      return kept;
    };
    keeps_ = false;
    double weighted = start.weighted;
    // Squares of the step and the direction in the norm of the ball, and their product.
    double ss = 0, sd = 0, dd = weighted;
    for (;;) {
      hessian(direction_, product_);
      ++found.products;
      if constexpr (Preconditioned) smooth(product_, smooth_[1]);
      auto const at = read(ctx, m, x);
      if (found.products > 1 && at.weighted > 0) weighted = at.weighted;
      bool const finite = std::isfinite(at.curvature) && std::isfinite(at.squared);
      double const length = weighted / at.curvature;
      double const next = ss + length * (2 * sd + length * dd);
      if (!(finite && at.curvature > 0 && next < start.radius * start.radius)) {
        if (keeps_) return keep();
        found.reason = !finite            ? truncation::not_finite
                       : at.curvature > 0 ? truncation::boundary
                                          : truncation::negative_curvature;
        if (finite || found.products == 1) {
          // The positive root of |s + t d| = radius, without cancellation.
          double const room = start.radius * start.radius - ss;
          double const t = room / (sd + std::sqrt(sd * sd + dd * room));
          axpy(ctx, t, direction_, step_);
          found.model += t * (-weighted + t / 2 * (finite ? at.curvature : 0));
          found.length = start.radius;
        } else {
          found.length = std::sqrt(ss);
        }
        return found;
      }
      axpy(ctx, length, direction_, step_);
      found.model -= length * weighted / 2;
      found.length = std::sqrt(next);
      double const left = weighted + length * (2 * at.along + length * at.squared);
      if (!(left > start.residual * start.residual)) {
        keeps_ = false;
        return found;
      }
      if (left <= enough && left < shortest) {
        shortest = left;
        keeps_ = true;
        kept = found;
        copy(ctx, step_, kept_);
      } else if (keeps_ && (left > enough || found.products >= start.products)) {
        return keep();
      }
      if (found.products >= start.products) {
        found.reason = truncation::product_limit;
        return found;
      }
      axpy(ctx, length, product_, residual_);
      if constexpr (Preconditioned) axpy(ctx, length, smooth_[1], smooth_[0]);
      double const share = left / weighted;
      scale(ctx, share, direction_);
      axpy(ctx, -1, smoothed(), direction_);
      ss = next;
      sd = share * (sd + length * dd);
      dd = left + share * share * dd;
      weighted = left;
    }
  }

 private:
  struct numbers_read {
    double curvature, along, squared, weighted;
  };

  template <class Ctx, class Point>
  static auto make_smooth(Ctx& ctx, Point const& x) {
    if constexpr (Preconditioned)
      return clone(ctx, x);
    else
      return absent{};
  }

  X const& smoothed() const {
    if constexpr (Preconditioned)
      return smooth_[0];
    else
      return residual_;
  }

  template <class Ctx, class M, class Point>
  numbers_read read(Ctx& ctx, M const& m, Point const& x) {
    inner_as_double(ctx, m, x, direction_, product_, numbers_.middleCols(0, 1));
    inner_as_double(ctx, m, x, smoothed(), product_, numbers_.middleCols(1, 1));
    if constexpr (Preconditioned)
      inner_as_double(ctx, m, x, product_, smooth_[1], numbers_.middleCols(2, 1));
    else
      inner_as_double(ctx, m, x, product_, product_, numbers_.middleCols(2, 1));
    inner_as_double(ctx, m, x, residual_, smoothed(), numbers_.middleCols(3, 1));
    std::array<double, 4> s{};
    download(ctx, numbers_, s.data());
    return {s[0], s[1], s[2], s[3]};
  }

  X step_, residual_, direction_, product_, kept_;
  bool keeps_ = false;
  std::array<std::conditional_t<Preconditioned, X, absent>, 2> smooth_;
  Numbers numbers_;
};

}  // namespace stiefelx
