// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/curve.hpp>

namespace stiefelx {

/// \brief Element text: the factor that gives a pair the product one, and the initial scaling.
/// \ingroup optim
struct secant_scale_element {
  /// \param[out]    factor   \f$ \langle s, y \rangle^{-1/2} \f$, and 0 where that is no number
  /// \param[in,out] initial  \f$ \langle s, y \rangle / \langle y, y \rangle \f$, else as before
  /// \param[in]     sy       \f$ \langle s, y \rangle \f$
  /// \param[in]     yy       \f$ \langle y, y \rangle \f$
  STIEFELX_HD void operator()(double& factor, double& initial, double const& sy,
                              double const& yy) const {
    bool const usable = sy > 0 && yy > 0 && sy / yy > 0 && sy - sy == 0 && yy - yy == 0;
    factor = usable ? 1 / std::sqrt(sy) : 0;
    if (usable) initial = sy / yy;
  }
};

/// \brief The last pairs of a step s and the change y that it made in the gradient: the inverse
/// Hessian of limited_bfgs.
/// \ingroup optim
///
/// A ring of tangent vectors at one point, where newer pairs displace the oldest. They stand for the
/// operator H of the recursion from old to new,
/// \f[ H \leftarrow (1 - \rho\, s\, y^{*})\, H\, (1 - \rho\, y\, s^{*}) + \rho\, s\, s^{*}, \quad
///     \rho = 1 / \langle s, y \rangle, \f]
/// with stars for products in the metric. H is self-adjoint and positive for any tangent s and y and
/// any \f$ \rho > 0 \f$, so a transport that is no isometry does not spoil it. Pairs are kept with
/// \f$ \rho = 1 \f$, by the factor \f$ \langle s, y \rangle^{-1/2} \f$ of both.
///
/// \tparam Pairs    scratch of many points side by side
/// \tparam Numbers  scratch of double
/// \see \cite nocedal1980, \cite huang2015
template <Matrix Pairs, Matrix Numbers>
class secant_pairs {
 public:
  /// \param[in] ctx       where they live
  /// \param[in] x         n x p, a point: its shape and scalar are the pairs'
  /// \param[in] capacity  most pairs kept, above 0
  template <class Ctx, Matrix X>
  secant_pairs(Ctx& ctx, X const& x, index_t capacity)
      : steps_(scratch<scalar_t<X>>(ctx, x.rows(), x.cols() * capacity)),
        changes_(scratch<scalar_t<X>>(ctx, x.rows(), x.cols() * capacity)),
        along_(scratch<double>(ctx, 1, capacity)),
        numbers_(scratch<double>(ctx, 1, 4)),
        capacity_(capacity),
        cols_(x.cols()) {
    clear(ctx);
  }

  /// \returns how many pairs there are
  index_t size() const { return size_; }
  /// \returns most pairs kept
  index_t capacity() const { return capacity_; }

  /// Forgets all pairs: H is the identity.
  /// \param[in] ctx  where they live
  template <class Ctx>
  void clear(Ctx& ctx) {
    size_ = 0;
    fill(ctx, 1, initial());
  }

  /// \brief Adds a pair; the oldest goes when there is no room.
  ///
  /// Where the product of s and y is not positive, the pair has no effect.
  /// \param[in] ctx  where they live; nothing waits
  /// \param[in] m    the manifold
  /// \param[in] x    n x p, the point
  /// \param[in] s    n x p, tangent at x: the step
  /// \param[in] y    n x p, tangent at x: the change of the gradient
  template <class Ctx, class M, Matrix X, Matrix S, Matrix Y>
  void add(Ctx& ctx, M const& m, X const& x, S const& s, Y const& y) {
    newest_ = size_ == 0 ? 0 : (newest_ + 1) % capacity_;
    if (size_ < capacity_) ++size_;
    inner_as_double(ctx, m, x, s, y, numbers_.middleCols(0, 1));
    inner_as_double(ctx, m, x, y, y, numbers_.middleCols(1, 1));
    transform(ctx, secant_scale_element{}, outputs(numbers_.middleCols(2, 1), initial()),
              inputs(numbers_.middleCols(0, 1), numbers_.middleCols(1, 1)));
    copy(ctx, s, step(newest_));
    copy(ctx, y, change(newest_));
    scale(ctx, numbers_.middleCols(2, 1), step(newest_));
    scale(ctx, numbers_.middleCols(2, 1), change(newest_));
  }

  /// Moves all pairs to another point by transport_or_project().
  /// \param[in] ctx  where they live; nothing waits
  /// \param[in] m    the manifold
  /// \param[in] x    n x p, the point that they are tangent at
  /// \param[in] y    n x p, the other point
  /// \par Cost
  /// Two transports a pair.
  template <class Ctx, class M, Matrix X, Matrix Y>
  void move(Ctx& ctx, M const& m, X const& x, Y const& y) {
    for (index_t k = 0; k < size_; ++k) {
      transport_or_project(ctx, m, x, y, step(k), step(k));
      transport_or_project(ctx, m, x, y, change(k), change(k));
    }
  }

  /// \brief v = H v with \f$ H_0 = \langle s, y \rangle / \langle y, y \rangle \f$ of the newest pair.
  /// \param[in]     ctx  where they live; nothing waits
  /// \param[in]     m    the manifold
  /// \param[in]     x    n x p, the point
  /// \param[in,out] v    n x p, tangent at x
  /// \par Cost
  /// Two products and two sums of points a pair.
  template <class Ctx, class M, Matrix X, class V>
  void apply(Ctx& ctx, M const& m, X const& x, V& v) {
    apply(ctx, m, x, v, [&](V& w) { scale(ctx, initial(), w); });
  }

  /// \brief v = H v with an operator for \f$ H_0 \f$.
  /// \param[in]     ctx    where they live
  /// \param[in]     m      the manifold
  /// \param[in]     x      n x p, the point
  /// \param[in,out] v      n x p, tangent at x
  /// \param[in]     first  callable as first(v) that applies \f$ H_0 \f$ to v in place
  /// \par Cost
  /// Two products and two sums of points a pair, and first().
  template <class Ctx, class M, Matrix X, class V, class First>
  void apply(Ctx& ctx, M const& m, X const& x, V& v, First const& first) {
    // The minus in `along` saves a negation: v -= <s, v> y, later v += (<s, v> - <y, v>) s.
    for (index_t age = 0; age < size_; ++age) {
      index_t const k = (newest_ - age + capacity_) % capacity_;
      auto&& along = along_.middleCols(k, 1);
      inner_as_double(ctx, m, x, step(k), v, along);
      scale(ctx, -1, along);
      axpy(ctx, along, change(k), v);
    }
    first(v);
    for (index_t age = size_; age-- > 0;) {
      index_t const k = (newest_ - age + capacity_) % capacity_;
      auto&& correction = numbers_.middleCols(0, 1);
      inner_as_double(ctx, m, x, change(k), v, correction);
      axpy(ctx, 1, along_.middleCols(k, 1), correction);
      scale(ctx, -1, correction);
      axpy(ctx, correction, step(k), v);
    }
  }

 private:
  auto step(index_t k) { return steps_.middleCols(k * cols_, cols_); }
  auto change(index_t k) { return changes_.middleCols(k * cols_, cols_); }
  auto initial() { return numbers_.middleCols(3, 1); }

  Pairs steps_, changes_;
  Numbers along_, numbers_;
  index_t capacity_, cols_;
  index_t size_ = 0, newest_ = 0;
};

/// The pairs live where the context's scratch lives.
/// \ingroup optim
template <class Ctx, Matrix X>
secant_pairs(Ctx&, X const&, index_t)
    -> secant_pairs<decltype(scratch<scalar_t<X>>(std::declval<Ctx&>(), index_t(), index_t())),
                    decltype(scratch<double>(std::declval<Ctx&>(), index_t(), index_t()))>;

}  // namespace stiefelx
