// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/residual.hpp>
#include <stiefelx/orth/svd.hpp>
#include <stiefelx/team/small_polar.hpp>

namespace stiefelx {

/// How polar() finds the factor.
/// \ingroup orth
enum class polar_method {
  polar_express,   ///< a schedule of optimal quintic polynomials, products only \cite amsel2025
  newton_schulz,   ///< cubic polynomials, products only \cite higham2008
  singular_values  ///< u v^H of svd(): exact for every input of full rank
};

/// Options of polar().
/// \ingroup orth
struct polar_options {
  polar_method method = polar_method::polar_express;  ///< see polar_method
  /// Steps of an iteration; 0 takes what the bounds, or the scalar's range, need.
  int iterations = 0;
  /// Lower bound of the singular values, or 0 when none is known.
  double smallest = 0;
  /// Upper bound of the singular values. 0: none is known; each matrix is then divided by its
  /// Frobenius norm, and `smallest` is meant relative to that norm.
  double largest = 0;
};

/// \brief Team text: one exponent for a whole matrix, and the scaling by it.
/// \ingroup orth
struct equilibrate_whole_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes
  /// \param[in]  a       n x p
  /// \param[out] b       n x p, its largest column of size about one; may be a
  /// \param[out] status  1 x 1
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S const> a,
                              matrix_ref<S> b, matrix_ref<int> status) const {
    bool is_finite = true, found = false;
    int largest = 0;
    for (index_t j = 0; j < a.cols; ++j) {
      bool finite = true;
      int const exponent = column_exponent(team, a.column(j), a.rows, finite);
      is_finite = is_finite && finite;
      bool const zero = exponent == 0 && column_squared_norm(team, a.column(j), a.rows) == 0;
      if (zero) continue;
      if (!found || exponent > largest) largest = exponent;
      found = true;
    }
    for (index_t j = 0; j < a.cols; ++j)
      scale_by_power(team, a.column(j), a.rows, -largest, b.column(j));
    if (team.rank() == 0) status(0, 0) = is_finite ? 0 : not_finite;
  }
};

/// \brief Team text: equilibrate_whole_body for each matrix of a stack.
/// \ingroup orth
struct small_equilibrate_body {
  index_t columns;  ///< p, the columns of one matrix

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes
  /// \param[in]  item    which matrix of the stack
  /// \param[in]  a       n x (p count)
  /// \param[out] b       of a's shape; may be a
  /// \param[out] status  1 x count
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double*, matrix_ref<S const> a,
                              matrix_ref<S> b, matrix_ref<int> status) const {
    index_t const first = item * columns;
    equilibrate_whole_body{}(team, 0, nullptr, a.middle_columns(first, columns),
                             b.middle_columns(first, columns),
                             matrix_ref<int>{&status(0, item), 1, 1, 1});
  }
};

/// \brief Team text: raises `not_converged` unless a defect is small, and `not_finite` for a NaN.
/// \ingroup orth
struct convergence_body {
  double tolerance;  ///< largest defect that counts as converged

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     defect  1 x 1
  /// \param[in,out] status  1 x 1
  template <Team T, class Real>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<Real> defect,
                              matrix_ref<int> status) const {
    auto const found = static_cast<double>(defect(0, 0));
    if (team.rank() != 0 || found <= tolerance) return;
    status(0, 0) |= found != found ? not_converged | not_finite : not_converged;
  }
};

namespace detail {

template <class S>
inline constexpr auto unit_of = static_cast<double>(std::numeric_limits<real_of_t<S>>::epsilon());

inline void expect_polar_options(polar_options const& options) {
  expect_option(options.iterations >= 0, "polar", "iterations", options.iterations,
                "a number of at least 0");
  expect_option(options.largest >= 0 && options.largest <= std::numeric_limits<double>::max(),
                "polar", "largest", options.largest, "a finite number of at least 0");
  expect_option(
      options.smallest >= 0 && options.smallest <= (options.largest > 0 ? options.largest : 1.0),
      "polar", "smallest", options.smallest, "a number from 0 to the largest singular value");
}

// The polynomials for singular values of at most one, for entries of scalar S.
template <class S>
polar_schedule polar_steps(polar_options const& options) {
  double const top = options.largest > 0 ? options.largest : 1;
  bool const known = options.smallest > 0;
  if (options.method == polar_method::newton_schulz && !known) {
    bool const is_float = std::numeric_limits<real_of_t<S>>::digits <= 24;
    polar_schedule plain;
    plain.count = options.iterations > 0 ? options.iterations : is_float ? 30 : 56;
    for (auto& step : plain.steps) step = {1.5, -0.5, 0};
    return plain;
  }
  auto const degree =
      options.method == polar_method::newton_schulz ? polar_degree::cubic : polar_degree::quintic;
  double const accuracy = unit_of<S> / 64;
  // Full rank to working accuracy, with room for the Frobenius norm in place of the largest value.
  if (!known && options.iterations == 0) {
    // Fitted once: for small matrices the fits would cost more than the steps.
    static polar_schedule const whole =
        make_polar_schedule(polar_degree::quintic, unit_of<S> / 64, 0, accuracy);
    return whole;
  }
  double const lower = known ? options.smallest / top : unit_of<S> / 64;
  return make_polar_schedule(degree, lower, options.iterations, accuracy);
}

// x becomes its own polar factor, up to what the schedule leaves.
template <class Ctx, class X>
void polar_iteration(Ctx& ctx, X& x, double largest, polar_schedule const& schedule) {
  if (largest > 0) {
    scale(ctx, 1 / largest, x);
  } else {
    auto length = scratch<real_t<X>>(ctx, 1, 1);
    auto inverse = scratch<real_t<X>>(ctx, 1, 1);
    norm(ctx, x, length);
    transform(ctx, reciprocal_element{}, outputs(inverse), inputs(length));
    scale(ctx, inverse, x);
  }
  index_t const p = x.cols();
  auto t = scratch<scalar_t<X>>(ctx, p, p);
  auto next = clone(ctx, x);
  // Iterates take turns in two places, so none is copied.
  auto const advance = [&](odd_polynomial const& step, auto const& from, auto& to) {
    auto const g = gram(ctx, from);
    set_identity(ctx, t);
    scale(ctx, step.a, t);
    axpy(ctx, step.b, g, t);
    if (step.c != 0) multiply_add(ctx, step.c, g, g, t);
    multiply(ctx, from, t, to);
  };
  for (int k = 0; k < schedule.count; ++k)
    if (k % 2 == 0)
      advance(schedule[k], x, next);
    else
      advance(schedule[k], next, x);
  if (schedule.count % 2 == 1) copy(ctx, next, x);
}

// What an orthonormal q may be off by.
template <class S>
double polar_tolerance(index_t rows, index_t cols) {
  return unit_of<S> * static_cast<double>(rows + 10 * cols);
}

// q = u v^H.
template <class Ctx, class A, class Q, class Bits>
void polar_by_svd(Ctx& ctx, A const& a, Q&& q, Bits& bits) {
  using S = scalar_t<A>;
  auto u = clone(ctx, q);
  auto w = scratch<real_of_t<S>>(ctx, 1, a.cols());
  auto v = scratch<S>(ctx, a.cols(), a.cols());
  svd(ctx, a, u, w, v, bits);
  multiply(ctx, u, v.adjoint(), q);
}

}  // namespace detail

/// \brief Orthogonal polar factor of a tall matrix.
/// \ingroup orth
///
/// \f$ q = a\,(a^H a)^{-1/2} \f$, the nearest matrix with orthonormal columns. No Gram matrix of a
/// is inverted, so no condition number is squared: q is the factor of a matrix within rounding of
/// a, and an error \f$ O(\kappa\,\epsilon) \f$ of q is the problem's own. The loss of orthogonality
/// \f$ \lVert q^H q - I \rVert \f$ is \f$ O(\epsilon) \f$ for every \f$ \kappa \f$ in a method's
/// range.
///
/// | method | range of \f$ \kappa \f$ in float, double | without bounds |
/// | --- | --- | --- |
/// | `polar_express` | 1e6, 1e14 | 17 and 32 steps of 6 p^3 flops |
/// | `newton_schulz` | 1e3, 1e7 | 30 and 56 steps of 4 p^3 flops |
/// | `singular_values` | every | that of svd() |
///
/// The iterations run, without bounds, in the wide scalar on the triangle that Householder
/// reflections leave. Each step is a polynomial that brings the singular values nearer to one; it
/// is the best for the interval that they can still be in, but for `newton_schulz` without bounds,
/// which repeats \f$ x\,(3 I - x^H x)/2 \f$. With a bound `smallest` above 0 the steps run on a
/// itself in its own scalar, with no factorization, and are as few as the bounds allow: 3 for
/// values in [0.7, 1], 8 for [1e-3, 1]. Wrong bounds cost convergence, and are reported by it.
///
/// For a column that depends on the others, without bounds or by `singular_values`,
/// `rank_deficient` is set: the nearest matrix is then not unique, and `singular_values` gives one
/// of the nearest, with orthonormal columns. The iterations set `not_converged` when q is not
/// orthonormal. A NaN or an infinity gives NaN, `not_finite`, and after an iteration
/// `not_converged` also.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     a        n x p, n >= p; any matrix or expression, real or complex
/// \param[out]    q        n x p, orthonormal columns; may be a
/// \param[in,out] status   1 x 1 int, or no_status{}
/// \param[in]     options  method, steps and bounds
/// \throws shape_error   if a is wide or q has another shape
/// \throws option_error  if iterations or a bound is negative, or the bounds are not ordered
/// \throws alias_error   if q overlaps a without being a
/// \par Cost
/// Without bounds 6 n p^2 flops and the steps; two n x p and some p x p scratch matrices. With a
/// bound 3 n p^2 + 2 p^3 flops a step and one n x p scratch matrix.
/// \see \cite higham2008, chapter 8
template <class Ctx, Matrix A, class Q, class Status = no_status>
  requires OutputMatrix<Q> && SameScalar<A, Q>
void polar(Ctx& ctx, A const& a, Q&& q, Status&& status = {}, polar_options options = {}) {
  using S = scalar_t<A>;
  expect_tall("polar", "a", a);
  expect_shape("polar", "q", q, a.rows(), a.cols());
  detail::expect_polar_options(options);
  expect_same_or_distinct(ctx, "polar", "q", q, "a", a);
  auto const& input = dense(ctx, a);
  auto bits = clear_status(ctx, 1);
  if (options.method == polar_method::singular_values) {
    detail::polar_by_svd(ctx, input, q, bits);
    raise(ctx, status, bits);
    return;
  }
  auto const schedule = detail::polar_steps<S>(options);
  auto x = clone(ctx, q);
  if (options.largest > 0) {
    copy(ctx, input, x);
  } else {
    run_batch(ctx, 1, equilibrate_whole_body{}, input, x, bits);
  }
  if (options.smallest > 0) {
    detail::polar_iteration(ctx, x, options.largest, schedule);
    copy(ctx, x, q);
  } else {
    auto r = scratch<S>(ctx, a.cols(), a.cols());
    householder_qr(ctx, x, x, r, bits);
    {
      auto wide = widen(ctx, r);
      detail::polar_iteration(ctx, wide, options.largest, schedule);
      copy(ctx, wide, r);
    }
    multiply(ctx, x, r, q);
  }
  auto defect = scratch<real_of_t<S>>(ctx, 1, 1);
  orthonormality_error(ctx, q, defect);
  convergence_body const test{detail::polar_tolerance<S>(a.rows(), a.cols())};
  run_batch(ctx, 1, test, defect, bits);
  raise(ctx, status, bits);
}

/// \brief Orthogonal polar factor of every matrix of a stack.
/// \ingroup orth
///
/// Matrix k of the stack is columns k p, ..., k p + p - 1; each is factored, and gets its status,
/// as by the function of one matrix. Bounds hold for all; they shorten the iteration, which runs on
/// the triangle of Householder reflections also when they are given.
///
/// \param[in]     ctx      where to run, one team a matrix; nothing waits
/// \param[in]     s        how many matrices
/// \param[in]     a        n x (p count), n >= p; any matrix or expression, real or complex
/// \param[out]    q        n x (p count), orthonormal columns in each matrix; may be a
/// \param[in,out] status   1 x count int, or no_status{}
/// \param[in]     options  method, steps and bounds
/// \throws shape_error   if a's columns are no multiple of the count, its matrices are wide, or q
///                       or status has another shape
/// \throws option_error  if iterations or a bound is negative, or the bounds are not ordered
/// \throws alias_error   if q overlaps a without being a
/// \par Cost
/// 6 n p^2 flops and the steps, count times; a scratch copy of a, of the triangles in the wide
/// scalar, and 6 p^2 doubles a team.
template <class Ctx, Matrix A, class Q, class Status = no_status>
  requires OutputMatrix<Q> && SameScalar<A, Q>
void polar(Ctx& ctx, stack s, A const& a, Q&& q, Status&& status = {}, polar_options options = {}) {
  using S = scalar_t<A>;
  index_t const p = detail::expect_tall_stack("polar", "a", s, a), all = a.cols();
  expect_shape("polar", "q", q, a.rows(), all);
  detail::expect_statuses("polar", s, status);
  detail::expect_polar_options(options);
  expect_same_or_distinct(ctx, "polar", "q", q, "a", a);
  auto bits = clear_status(ctx, s.count);
  auto x = clone(ctx, a);
  if (options.method == polar_method::singular_values) {
    auto w = scratch<real_of_t<S>>(ctx, 1, all);
    auto v = scratch<S>(ctx, p, all);
    svd(ctx, s, x, x, w, v, bits);
    run_batch(ctx, s.count, small_product_body{p, true}, x, v, q);
  } else {
    auto r = scratch<S>(ctx, p, all);
    {
      auto const input = dense(ctx, x);
      if (!(options.largest > 0))
        run_batch(ctx, s.count, small_equilibrate_body{p}, input, x, bits);
      run_batch(ctx, s.count, small_householder_body{p}, input, x, r, bits);
    }
    auto wide = widen(ctx, r);
    small_polar_body const body{p, detail::polar_steps<S>(options), options.largest};
    run_batch(ctx, s.count, body, wide);
    run_batch(ctx, s.count, small_product_body{p}, x, wide, q);
    small_defect_body const test{p, detail::polar_tolerance<S>(a.rows(), p)};
    run_batch(ctx, s.count, test, q, bits);
  }
  detail::raise_each(ctx, s, status, bits);
}

}  // namespace stiefelx
