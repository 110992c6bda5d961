// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/optim/curve.hpp>
#include <stiefelx/optim/problem.hpp>
#include <stiefelx/optim/stopping.hpp>

namespace stiefelx {

/// \brief A point of a minimization and what is known there.
/// \ingroup optim
/// \tparam X      scratch of the points' scalar and static shape
/// \tparam Cache  what the problem keeps for a point
/// \tparam Z      X, or absent where the problem has no preconditioner
template <class X, class Cache, class Z>
struct evaluated_point {
  X x;                   ///< the point
  X euclidean_gradient;  ///< as the problem gives it
  X gradient;            ///< the Riemannian gradient
  Z preconditioned;      ///< the gradient after the problem's preconditioner
  Cache cache;           ///< the problem's own
  double cost = 0;       ///< \f$ f(x) \f$
  double squared = 0;    ///< \f$ \langle g, g \rangle \f$ of the gradient, in the metric
  double weighted = 0;   ///< \f$ \langle g, z \rangle \f$ with the preconditioned gradient z
  double preconditioned_squared = 0;  ///< \f$ \langle z, z \rangle \f$
};

/// \brief Inner products at a trial point, in its metric.
/// \ingroup optim
///
/// g is the gradient there and z = P g what the preconditioner makes of it, or g; Td and Tg are the
/// direction and the gradient of the current point, transported.
struct trial_products {
  double slope = 0;                     ///< \f$ \langle g, \mathcal{T}d \rangle \f$
  double squared = 0;                   ///< \f$ \langle g, g \rangle \f$
  double weighted = 0;                  ///< \f$ \langle g, z \rangle \f$
  double previous_weighted = 0;         ///< \f$ \langle \mathcal{T}g, z \rangle \f$
  double gradient_previous = 0;         ///< \f$ \langle g, \mathcal{T}g \rangle \f$
  double previous_squared = 0;          ///< \f$ \langle \mathcal{T}g, \mathcal{T}g \rangle \f$
  double direction_previous = 0;        ///< \f$ \langle \mathcal{T}d, \mathcal{T}g \rangle \f$
  double direction_squared = 0;         ///< \f$ \langle \mathcal{T}d, \mathcal{T}d \rangle \f$
  double preconditioned_squared = 0;    ///< \f$ \langle z, z \rangle \f$
  double direction_preconditioned = 0;  ///< \f$ \langle \mathcal{T}d, z \rangle \f$
  double previous_both = 0;             ///< \f$ \langle \mathcal{T}g, P\,\mathcal{T}g \rangle \f$
};

/// \brief What a solver works on: the current point, a trial point, and the counts.
/// \ingroup optim
///
/// minimize() makes one and hands it to `solver.solve(run)`; a user's solver may do the same. Each
/// point is evaluated once: cost when it is tried, gradient when it is measured. All inner products
/// of a trial are read together, so that a solver waits once an evaluation.
///
/// \tparam Ctx       context
/// \tparam P         the problem
/// \tparam X         scratch of the points' type
/// \tparam How       options of the retraction, or default_retraction
/// \tparam Stop      the criterion
/// \tparam Observer  the observer, or absent
template <class Ctx, class P, class X, class How, class Stop, class Observer>
class minimization {
 public:
  /// The problem's cache for a point.
  using cache_type =
      decltype(problem_cache(std::declval<Ctx&>(), std::declval<P&>(), std::declval<X const&>()));

  /// Whether the problem gives products with the Hessian.
  static constexpr bool has_hessian = detail::has_hessian<Ctx, P, X, cache_type>;
  /// Whether the problem has a preconditioner.
  static constexpr bool has_precondition = detail::has_precondition<Ctx, P, X, cache_type>;
  /// Relative rounding of the points' scalar: what costs are taken to be known to.
  static constexpr double epsilon = std::numeric_limits<real_t<X>>::epsilon();

  /// A point and what is known there.
  using point_type =
      evaluated_point<X, cache_type, std::conditional_t<has_precondition, X, absent>>;

  /// \param[in] ctx       where to run
  /// \param[in] problem   what to minimize; outlives this
  /// \param[in] start     a point
  /// \param[in] how       the retraction
  /// \param[in] stop      the criterion
  /// \param[in] observer  called every iteration
  template <class Start>
  minimization(Ctx& ctx, P& problem, Start const& start, How how, Stop const& stop,
               Observer& observer)
      : ctx_(ctx),
        problem_(problem),
        how_(how),
        stop_(stop),
        observer_(observer),
        points_{make_point(start), make_point(start), make_point(start)},
        step_(clone(ctx, start)),
        moved_(clone(ctx, start)),
        previous_(clone(ctx, start)),
        numbers_(scratch<double>(ctx, 1, product_count)),
        started_(std::chrono::steady_clock::now()) {}
  minimization(minimization const&) = delete;
  minimization& operator=(minimization const&) = delete;

  /// \returns where to run
  Ctx& where() { return ctx_; }
  /// \returns where the points live
  auto const& manifold() const { return problem_.manifold; }
  /// \returns the retraction
  How const& retraction() const { return how_; }
  /// \returns the current point
  point_type& current() { return *now_; }
  /// \returns the trial point
  point_type& trial() { return *next_; }
  /// \returns the transported direction, tangent at the trial point, after measure()
  X& moved() { return moved_; }
  /// \returns the current point's gradient, transported to the trial point, after measure()
  X& previous_gradient() { return previous_; }
  /// \returns the products of the last measure()
  trial_products const& products() const { return products_; }
  /// \returns the gradient after the preconditioner, or the gradient
  /// \param[in] at  a point whose gradient is known
  X& preconditioned(point_type& at) {
    if constexpr (has_precondition)
      return at.preconditioned;
    else
      return at.gradient;
  }

  /// \brief Lets every measure() from now on find the products with the current gradient, also in a
  /// line search, which does not know what its solver needs.
  /// \param[in] through_preconditioner  whether `previous_both` is wanted too, at the price of one
  ///                                    precondition() a measure
  void follow_gradient(bool through_preconditioner = false) {
    follow_ = true;
    follow_both_ = through_preconditioner;
  }

  /// Evaluates cost and gradient at the start.
  /// \returns whether both are finite
  /// \throws shape_error  if the start does not fit the manifold
  bool begin() {
    // A point of the wrong shape is the manifold's to refuse, before the problem sees it.
    project(ctx_, manifold(), now_->x, now_->x, step_);
    evaluate(*now_);
    record_.cost = record_.previous_cost = now_->cost;
    record_.gradient_norm = std::numeric_limits<double>::quiet_NaN();
    if (!std::isfinite(now_->cost)) return false;
    differentiate(*now_);
    read(*now_, false, false);
    return std::isfinite(now_->squared);
  }

  /// Tries a step: the trial point and its cost.
  /// \param[in] direction  tangent at the current point
  /// \param[in] t          length along it
  /// \returns the cost there; infinity where it is not a number
  template <class D>
  double try_step(D const& direction, double t) {
    set_step(direction, t);
    retract_by(ctx_, manifold(), now_->x, step_, next_->x, how_);
    evaluate(*next_);
    return std::isnan(next_->cost) ? std::numeric_limits<double>::infinity() : next_->cost;
  }

  /// Gradient and inner products at the trial point of the last try_step(). Reads once.
  /// \param[in] direction       as in try_step()
  /// \param[in] with_previous   whether the products with the current gradient are wanted
  /// \returns the products; those not asked for are zero
  template <class D>
  trial_products measure(D const& direction, bool with_previous) {
    differentiate(*next_);
    bring_along(direction, with_previous || follow_);
    return read(*next_, true, with_previous || follow_);
  }

  /// The same without the direction, which is not transported. Reads once.
  /// \returns the products with the gradients; those with the direction are zero
  trial_products measure_gradients() {
    differentiate(*next_);
    transport_or_project(ctx_, manifold(), now_->x, next_->x, now_->gradient, previous_);
    return read(*next_, false, true);
  }

  /// Gradient and its own products at the trial point of the last try_step(). Reads once.
  /// \returns the products; those with the direction and the current gradient are zero
  trial_products measure() {
    differentiate(*next_);
    return read(*next_, false, false);
  }

  /// Puts the measured trial point aside, in place of the one that was aside.
  void keep_trial() {
    std::swap(next_, kept_);
    kept_products_ = products_;
  }

  /// Makes the point that was put aside the trial point again. Nothing is evaluated.
  /// \param[in] direction  as in try_step()
  /// \param[in] t          as in its try_step()
  template <class D>
  void restore_trial(D const& direction, double t) {
    std::swap(next_, kept_);
    products_ = kept_products_;
    set_step(direction, t);
    bring_along(direction, follow_);
  }

  /// Makes the trial point the current one; its gradient has been measured.
  /// \param[in] step_length  length of the step in the tangent space
  void accept(double step_length) {
    std::swap(now_, next_);
    ++record_.number;
    record_.previous_cost = next_->cost;
    record_.step_length = step_length;
  }

  /// Shows the current point to the observer and asks the criterion.
  /// \returns why to stop, or `none`
  stop_reason check() {
    record_.cost = now_->cost;
    record_.gradient_norm = std::sqrt(now_->squared < 0 ? 0 : now_->squared);
    std::chrono::duration<double> const passed = std::chrono::steady_clock::now() - started_;
    record_.seconds = passed.count();
    auto const& seen = std::as_const(record_);
    auto const& x = std::as_const(now_->x);
    if constexpr (requires {
                    { observer_(seen, x) } -> std::same_as<bool>;
                  }) {
      if (observer_(seen, x)) return stop_reason::observer;
    } else if constexpr (!std::is_same_v<std::remove_const_t<Observer>, absent>) {
      observer_(seen, x);
    }
    return stop_(seen);
  }

  /// \returns what is known of the last iteration that check() saw
  iteration const& last() const { return record_; }

  /// w = Hess f(x)[v] at the current point.
  ///
  /// Where the manifold has no riemannian_hessian(), the problem's `hessian` gives the Riemannian
  /// Hessian itself.
  /// \param[in]  v  tangent at the current point
  /// \param[out] w  tangent at the current point; must not overlap v
  template <class V, class W>
    requires has_hessian
  void apply_hessian(V const& v, W& w) {
    ++record_.hessian_evaluations;
    detail::problem_hessian(ctx_, problem_, std::as_const(now_->x), now_->cache, v, step_);
    auto const& g = now_->euclidean_gradient;
    if constexpr (requires { riemannian_hessian(ctx_, manifold(), now_->x, g, step_, v, w); })
      riemannian_hessian(ctx_, manifold(), now_->x, g, step_, v, w);
    else
      copy(ctx_, step_, w);
  }

  /// w = what the preconditioner makes of v at the current point.
  /// \param[in]  v  tangent at the current point
  /// \param[out] w  tangent at the current point; must not overlap v
  template <class V, class W>
  void apply_precondition(V const& v, W& w) {
    if constexpr (has_precondition)
      detail::problem_precondition(ctx_, problem_, std::as_const(now_->x), now_->cache, v, w);
    else
      copy(ctx_, v, w);
  }

  /// Evaluates cost and Riemannian gradient at any point, for differences of gradients.
  /// \param[in,out] at  its x is set
  void evaluate_with_gradient(point_type& at) {
    evaluate(at);
    differentiate(at);
  }

  /// A further point of this problem, with its own cache.
  /// \param[in] x  its place
  /// \returns scratch; nothing is evaluated
  template <class Start>
  point_type make_point(Start const& x) {
    if constexpr (has_precondition)
      return {clone(ctx_, x), clone(ctx_, x), clone(ctx_, x), clone(ctx_, x),
              problem_cache(ctx_, problem_, x)};
    else
      return {clone(ctx_, x), clone(ctx_, x), clone(ctx_, x), absent{},
              problem_cache(ctx_, problem_, x)};
  }

  /// Counts a product with the Hessian that was found by differences.
  void count_hessian() { ++record_.hessian_evaluations; }

 private:
  static constexpr index_t product_count = 11;

  void evaluate(point_type& at) {
    ++record_.cost_evaluations;
    at.cost = detail::problem_cost(ctx_, problem_, std::as_const(at.x), at.cache);
  }

  void differentiate(point_type& at) {
    ++record_.gradient_evaluations;
    detail::problem_gradient(ctx_, problem_, std::as_const(at.x), at.cache, at.euclidean_gradient);
    gradient_or_project(ctx_, manifold(), at.x, at.euclidean_gradient, at.gradient);
    if constexpr (has_precondition)
      detail::problem_precondition(ctx_, problem_, std::as_const(at.x), at.cache,
                                   std::as_const(at.gradient), at.preconditioned);
  }

  template <class D>
  void set_step(D const& direction, double t) {
    copy(ctx_, direction, step_);
    scale(ctx_, t, step_);
  }

  template <class D>
  void bring_along(D const& direction, bool with_previous) {
    move_along_curve(ctx_, manifold(), now_->x, step_, next_->x, direction, moved_, how_);
    if (with_previous)
      transport_or_project(ctx_, manifold(), now_->x, next_->x, now_->gradient, previous_);
  }

  // All products at once: one read for all of them.
  trial_products read(point_type& at, bool with_direction, bool with_previous) {
    X const& z = preconditioned(at);
    fill(ctx_, 0, numbers_);
    auto const put = [&](index_t k, X const& a, X const& b) {
      inner_as_double(ctx_, manifold(), at.x, a, b, numbers_.middleCols(k, 1));
    };
    put(1, at.gradient, at.gradient);
    if constexpr (has_precondition) {
      put(2, at.gradient, z);
      put(8, z, z);
    }
    if (with_direction) {
      put(0, at.gradient, moved_);
      put(7, moved_, moved_);
      if constexpr (has_precondition) put(9, moved_, z);
    }
    if (with_previous) {
      put(4, at.gradient, previous_);
      put(5, previous_, previous_);
      if (with_direction) put(6, moved_, previous_);
      if constexpr (has_precondition) {
        put(3, previous_, z);
        if (follow_both_) {
          // The step has done its work; its memory serves for P Tg.
          detail::problem_precondition(ctx_, problem_, std::as_const(at.x), at.cache,
                                       std::as_const(previous_), step_);
          put(10, previous_, step_);
        }
      }
    }
    std::array<double, product_count> s{};
    download(ctx_, numbers_, s.data());
    if constexpr (!has_precondition) {
      s[2] = s[8] = s[1];
      s[3] = s[4];
      s[9] = s[0];
      s[10] = s[5];
    }
    at.squared = s[1];
    at.weighted = s[2];
    at.preconditioned_squared = s[8];
    products_ = {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10]};
    return products_;
  }

  Ctx& ctx_;
  P& problem_;
  How how_;
  Stop const& stop_;
  Observer& observer_;
  std::array<point_type, 3> points_;
  point_type* now_ = &points_[0];
  point_type* next_ = &points_[1];
  point_type* kept_ = &points_[2];
  X step_, moved_, previous_;
  decltype(scratch<double>(std::declval<Ctx&>(), 1, product_count)) numbers_;
  trial_products products_, kept_products_;
  bool follow_ = false, follow_both_ = false;
  iteration record_;
  std::chrono::steady_clock::time_point started_;
};

}  // namespace stiefelx
