// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/optim/adam_ranges.hpp>
#include <stiefelx/optim/riemannian_adam_split.hpp>
#include <stiefelx/optim/riemannian_adam_stack.hpp>
#include <stiefelx/optim/riemannian_adam_step.hpp>

namespace stiefelx {

namespace detail {

// A manifold as a stack of points of one manifold.
template <class M>
struct adam_points {
  static constexpr bool is_stack = false;
  using point = M;
  static M const& one(M const& m) { return m; }
  static index_t count(M const&) { return 1; }
};
template <class M>
struct adam_points<power<M>> {
  static constexpr bool is_stack = true;
  using point = M;
  static M const& one(power<M> const& m) { return m.manifold; }
  static index_t count(power<M> const& m) { return m.count; }
};

}  // namespace detail

/// \brief Adam on a manifold, with one second moment for the whole matrix, and its variants.
/// \ingroup optim
///
/// With the Riemannian gradient \f$ r \f$ at \f$ x \f$,
/// \f[ m \leftarrow \beta_1 m + (1-\beta_1)\,r, \quad v \leftarrow \beta_2 v + (1-\beta_2)
///     \langle r, r\rangle_x, \quad
///     y = R_x\!\left(\frac{-\eta\,\hat m}{\sqrt{\hat v} + \epsilon} - \eta\lambda P_x(x)\right), \quad
///     m \leftarrow \mathcal{T}_{x \to y}(m), \f]
/// where hats divide by \f$ 1 - \beta^t \f$. One number v a matrix keeps the step tangent; moments a
/// coordinate would leave the tangent space \cite becigneul2019. With `amsgrad`, \f$ \hat v \f$ is made
/// of the largest v so far \cite reddi2018 .
///
/// With `second_moment = adam_moment::rows_and_columns` there is a moment a row, l, and one a column,
/// c: decaying means of the squared entries of r. The direction is
/// \f$ P_x(\hat L^{-1/4}\,\hat m\,\hat C^{-1/4}) \f$ with \f$ \epsilon^2 \f$ added to each moment, as in
/// rasa, where L and C are diagonal \cite kasai2019 .
///
/// With `adam_moment::split`, on Stiefel manifolds, \f$ r = x a + z \f$ with \f$ a \f$ skew-Hermitian and
/// \f$ x^H z = 0 \f$. Both coordinates have first moments and a second moment an entry; skew ones need no
/// transport, normal ones are projected, before use and at the new point \cite kong2023 . The step is
/// of the same size in every coordinate, so useful rates are those of adamw.
///
/// On a `power` every point has its own moments and its own count of steps, so a step is that of
/// an optimizer for each point. Stacks of small points of the Stiefel manifold with the Euclidean
/// metric, by default second moments, take it in one pass over memory, in SIMD lanes.
///
/// Weight decay \f$ \lambda \f$ is decoupled, along the tangent part of x: all of it on `euclidean`,
/// none on a sphere or a Stiefel manifold, where x is normal.
///
/// A gradient that is not finite leaves point and state as they are and sets `not_finite`. On a
/// `power` that is decided point by point.
///
/// \tparam Manifold  project(), retract() and inner() are found by its namespace
/// \tparam Moment    owning matrix that lives where the points live
/// \tparam Number    owning matrix of double, in the same memory
/// \tparam Square    owning matrix of the points' scalar and any shape, in the same memory
template <class Manifold, Matrix Moment, Matrix Number, Matrix Square = Moment>
class riemannian_adam {
  using points = detail::adam_points<Manifold>;
  static constexpr bool has_split = std::is_convertible_v<typename points::point, stiefel>;

 public:
  /// What save() calls it.
  static constexpr char const* name = "riemannian_adam";

  /// \param[in] ctx       where the state lives
  /// \param[in] manifold  where the points live
  /// \param[in] x         a point: its shape, scalar and memory become the state's
  /// \param[in] options   step size, decays, kind of second moment
  /// \throws option_error  if an option is out of its range, or the manifold has no split coordinates
  /// \throws shape_error   if x's columns are not a multiple of the points of a power
  template <class Ctx, Matrix X>
  riemannian_adam(Ctx& ctx, Manifold manifold, X const& x, riemannian_adam_options options = {})
      : manifold_(manifold),
        options_(checked(manifold, x, options)),
        first_(zeros_like(ctx, x)),
        skew_(zeros<scalar_t<X>>(ctx, is(adam_moment::split) ? each(x) : 0, x.cols())),
        second_(numbers(ctx, x, true)),
        largest_(numbers(ctx, x, options.amsgrad)),
        skew_second_(zeros<double>(ctx, skew_.rows(), x.cols())),
        skew_largest_(zeros<double>(ctx, options.amsgrad ? skew_.rows() : 0, x.cols())),
        rows_(zeros<double>(ctx, is(adam_moment::rows_and_columns) ? x.rows() : 0, 2 * count())),
        columns_(zeros<double>(ctx, is(adam_moment::rows_and_columns) ? 2 : 0, x.cols())),
        power1_(zeros<double>(ctx, 1, count())),
        power2_(zeros<double>(ctx, 1, count())) {
    fill(ctx, 1, power1_);
    fill(ctx, 1, power2_);
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the point
  /// \param[in]     g       n x p, Euclidean gradient at x; need not be tangent; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// Two projections and a retraction; one projection more for rows and columns; for split
  /// coordinates 12 n p^2 flops and a retraction. A stack in one pass reads x, g and the moment
  /// once and writes x and the moment once.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Moment, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("riemannian_adam::step", "x", x, first_.rows(), first_.cols());
    expect_shape("riemannian_adam::step", "g", g, first_.rows(), first_.cols());
    expect_distinct(ctx, "riemannian_adam::step", "x", x, "g", g);
    if constexpr (detail::is_stiefel_stack<Manifold>) {
      if (detail::steps_adam_in_lanes<Ctx>(manifold_.manifold, manifold_.count, options_))
        return detail::step_adam_in_lanes(ctx, manifold_, options_, x, g, first_, second_, largest_,
                                          power1_, power2_, status);
    }
    for (index_t k = 0; k < count(); ++k) step_point(ctx, k, x, g, status);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the first moment, tangent at the point that the last step left; the normal part of it
  ///          in split coordinates
  Moment const& first_moment() const { return first_; }
  /// \returns the skew part of the first moment in split coordinates, p x p a point
  Square const& skew_first_moment() const { return skew_; }
  /// \returns the second moment: one number a point, or n x p for the normal part of split coordinates
  Number const& second_moment() const { return second_; }
  /// \returns the second moment of the skew part of split coordinates, p x p a point
  Number const& skew_second_moment() const { return skew_second_; }
  /// \returns n x 2 a point: the moments of the rows, and the largest so far
  Number const& row_moments() const { return rows_; }
  /// \returns 2 x p a point: the moments of the columns, and the largest so far
  Number const& column_moments() const { return columns_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("first_moment", first_);
    if (is(adam_moment::split)) visit("skew_first_moment", skew_);
    if (is(adam_moment::rows_and_columns)) {
      visit("row_moments", rows_);
      visit("column_moments", columns_);
    } else {
      visit("second_moment", second_);
      if (options_.amsgrad) visit("largest_second_moment", largest_);
    }
    if (is(adam_moment::split)) {
      visit("skew_second_moment", skew_second_);
      if (options_.amsgrad) visit("largest_skew_second_moment", skew_largest_);
    }
    visit("power1", power1_);
    visit("power2", power2_);
  }

 private:
  template <class X>
  static riemannian_adam_options checked(Manifold const& manifold, X const& x,
                                         riemannian_adam_options const& options) {
    expect_adam_ranges("riemannian_adam", options);
    expect_option(options.weight_decay >= 0, "riemannian_adam", "weight_decay",
                  options.weight_decay, "a number of at least 0");
    if (options.second_moment == adam_moment::split && !has_split)
      detail::throw_option("riemannian_adam", "second_moment", "split",
                           "matrix or rows_and_columns: the manifold has no skew and normal parts");
    columns_of_each("riemannian_adam", "x", stack{points::count(manifold)}, x);
    return options;
  }

  bool is(adam_moment kind) const { return options_.second_moment == kind; }
  index_t count() const { return points::count(manifold_); }
  template <class A>
  index_t each(A const& a) const {
    return count() == 0 ? 0 : a.cols() / count();
  }

  // A number a point, or one an entry, or nothing.
  template <class Ctx, class X>
  Number numbers(Ctx& ctx, X const& x, bool used) const {
    if (is(adam_moment::rows_and_columns)) used = false;
    bool const entries = is(adam_moment::split);
    return zeros<double>(ctx, used ? (entries ? x.rows() : 1) : 0, entries ? x.cols() : count());
  }

  // The columns of point k.
  template <class A>
  decltype(auto) part(A& a, index_t k) const {
    if constexpr (points::is_stack)
      return a.middleCols(k * each(a), each(a));
    else
      return (a);
  }

  template <class Ctx, class X, class G, class Status>
  void step_point(Ctx& ctx, index_t k, X& x, G const& g, Status&& status) {
    auto const& one = points::one(manifold_);
    if (is(adam_moment::rows_and_columns))
      return detail::step_adam_rows_and_columns(ctx, one, options_, part(x, k), part(g, k),
                                                part(first_, k), part(rows_, k), part(columns_, k),
                                                part(power1_, k), part(power2_, k), status);
    if constexpr (has_split) {
      if (is(adam_moment::split))
        return detail::step_adam_split(
            ctx, one, options_, part(x, k), part(g, k),
            detail::make_adam_coordinates(part(skew_, k), part(first_, k), part(skew_second_, k),
                                          part(second_, k), part(skew_largest_, k),
                                          part(largest_, k)),
            part(power1_, k), part(power2_, k), status);
    }
    detail::step_adam_matrix(ctx, one, options_, part(x, k), part(g, k), part(first_, k),
                             part(second_, k), part(largest_, k), part(power1_, k),
                             part(power2_, k), status);
  }

  Manifold manifold_;
  riemannian_adam_options options_;
  Moment first_;
  Square skew_;
  Number second_, largest_, skew_second_, skew_largest_, rows_, columns_;
  Number power1_, power2_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Manifold, Matrix X>
riemannian_adam(Ctx&, Manifold, X const&, riemannian_adam_options = {})
    -> riemannian_adam<Manifold, owning_t<Ctx, X>, matrix_t<Ctx, double>,
                       matrix_t<Ctx, scalar_t<X>>>;

}  // namespace stiefelx
