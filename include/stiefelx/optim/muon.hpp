// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/team/polar_schedule.hpp>

namespace stiefelx {

/// Which polynomials orthogonalize a direction.
/// \ingroup optim
enum class muon_method {
  published,     ///< one quintic, repeated: quick from below, and never converges \cite jordan2024
  polar_express  ///< the best quintic for each step: converges to the polar factor \cite amsel2025
};

/// How long the steps of muon are, by the shape n x p of the parameter.
/// \ingroup optim
enum class muon_scaling {
  rows_over_columns,  ///< \f$ \sqrt{\max(1, n/p)} \f$, for weights stored out x in \cite jordan2024
  columns_over_rows,  ///< \f$ \sqrt{\max(1, p/n)} \f$: the same for weights stored in x out
  larger_side,        ///< \f$ 0.2 \sqrt{\max(n, p)} \f$: entries as large as AdamW's \cite liu2025
  unscaled            ///< 1
};

/// Options of muon.
/// \ingroup optim
struct muon_options {
  double learning_rate = 2e-2;  ///< \f$ \eta > 0 \f$
  double momentum = 0.95;       ///< \f$ \beta \in [0, 1) \f$
  bool nesterov = true;         ///< whether the direction looks ahead along the momentum
  double weight_decay = 0;      ///< \f$ \lambda \f$, decoupled, at least 0
  muon_method method = muon_method::published;  ///< see muon_method
  /// Polynomial steps, at least 1; 0 is for `polar_express` and takes what full accuracy needs.
  int iterations = 5;
  /// Smallest singular value that `polar_express` brings to one, relative to the Frobenius norm,
  /// in (0, 1).
  double smallest = 1e-3;
  double epsilon = 1e-7;  ///< added to the Frobenius norm that the direction is divided by, above 0
  muon_scaling scaling = muon_scaling::rows_over_columns;  ///< see muon_scaling
};

/// \brief The polynomials that orthogonalize() applies.
/// \ingroup optim
/// \param[in] method      published or optimal
/// \param[in] iterations  steps; 0, for `polar_express`, takes what the accuracy needs
/// \param[in] smallest    for `polar_express`: lower end of the interval that is brought to one
/// \param[in] accuracy    how near, for iterations = 0
/// \returns the polynomials
inline polar_schedule make_muon_schedule(muon_method method, int iterations, double smallest,
                                         double accuracy) {
  if (method == muon_method::polar_express)
    return make_polar_schedule(polar_degree::quintic, smallest, iterations, accuracy);
  polar_schedule schedule;
  schedule.count = iterations;
  for (auto& step : schedule.steps) step = {3.4445, -4.7750, 2.0315};
  return schedule;
}

/// \brief An upper bound of the singular values that orthogonalize() leaves.
/// \ingroup optim
///
/// The largest value of each polynomial on what the one before leaves of [0, 1]: at the upper end
/// or where the polynomial turns.
/// \param[in] schedule  polynomials of degree five, positive between 0 and the bound
/// \returns the bound
inline double largest_value(polar_schedule const& schedule) {
  double upper = 1;
  for (int k = 0; k < schedule.count; ++k) {
    odd_polynomial const& p = schedule[k];
    double const root = std::sqrt(std::max(0.0, 9 * p.b * p.b - 20 * p.a * p.c));
    double const turn = std::sqrt(std::max(0.0, (-3 * p.b - root) / (10 * p.c)));
    upper = std::max(p(upper), turn < upper ? p(turn) : 0);
  }
  return upper;
}

/// \brief 1 / (x + shift), which a norm of zero does not make infinite.
/// \ingroup optim
struct shifted_reciprocal_element {
  double shift;  ///< above 0

  /// \param[out] y  result
  /// \param[in]  x  at least 0
  template <class Real>
  STIEFELX_HD void operator()(Real& y, Real const& x) const {
    y = Real(1) / (x + static_cast<Real>(shift));
  }
};

/// \brief Brings the singular values of a matrix near to one, and keeps the singular vectors.
/// \ingroup optim
///
/// For \f$ a = u\,\mathrm{diag}(\sigma)\,v^H \f$ the result is \f$ u\,\mathrm{diag}(f(\sigma /
/// (\lVert a \rVert_F + \epsilon)))\,v^H \f$, where f applies the polynomials of the schedule one
/// after the other. Products only; the Gram matrix is that of the shorter side. Zero stays zero,
/// and a singular value below the schedule's interval stays below one: unlike polar() it needs no
/// full rank.
///
/// \param[in]  ctx       where to run; nothing waits
/// \param[in]  a         n x p, tall or wide; any matrix or expression, real or complex
/// \param[out] q         n x p; may be a
/// \param[in]  schedule  polynomials for values in [0, 1]
/// \param[in]  epsilon   added to the norm, above 0
/// \throws shape_error   if q has another shape
/// \throws option_error  if epsilon is not above 0
/// \throws alias_error   if q overlaps a without being a
/// \par Cost
/// With k the shorter and l the longer side \f$ 3 l k^2 + 2 k^3 \f$ flops a step; two n x p and two
/// k x k scratch matrices.
template <class Ctx, Matrix A, class Q>
  requires OutputMatrix<Q> && SameScalar<A, Q>
void orthogonalize(Ctx& ctx, A const& a, Q&& q, polar_schedule const& schedule,
                   double epsilon = 1e-7) {
  expect_shape("orthogonalize", "q", q, a.rows(), a.cols());
  expect_option(epsilon > 0, "orthogonalize", "epsilon", epsilon, "a number above 0");
  expect_same_or_distinct(ctx, "orthogonalize", "q", q, "a", a);
  auto x = clone(ctx, a);
  auto next = clone(ctx, x);
  {
    auto length = scratch<real_t<A>>(ctx, 1, 1);
    auto inverse = scratch<real_t<A>>(ctx, 1, 1);
    norm(ctx, x, length);
    transform(ctx, shifted_reciprocal_element{epsilon}, outputs(inverse), inputs(length));
    scale(ctx, inverse, x);
  }
  bool const wide = a.rows() < a.cols();
  index_t const k = std::min<index_t>(a.rows(), a.cols());
  auto t = scratch<scalar_t<A>>(ctx, k, k);
  auto const evaluate = [&](odd_polynomial const& p, auto const& g) {
    set_identity(ctx, t);
    scale(ctx, p.a, t);
    axpy(ctx, p.b, g, t);
    multiply_add(ctx, p.c, g, g, t);
  };
  for (int step = 0; step < schedule.count; ++step) {
    if (wide) {
      evaluate(schedule[step], gram(ctx, x.adjoint()));
      multiply(ctx, t, x, next);
    } else {
      evaluate(schedule[step], gram(ctx, x));
      multiply(ctx, x, t, next);
    }
    copy(ctx, next, x);
  }
  copy(ctx, x, q);
}

/// One entry's momentum of muon, and what it orthogonalizes.
/// \ingroup optim
struct muon_momentum_element {
  double momentum;  ///< \f$ \beta \f$
  bool nesterov;    ///< whether the direction looks ahead

  /// \param[out] m    momentum after this step
  /// \param[out] d    direction
  /// \param[in]  old  momentum before
  /// \param[in]  g    gradient
  template <class S>
  STIEFELX_HD void operator()(S& m, S& d, S const& old, S const& g) const {
    using Real = real_of_t<S>;
    auto const keep = static_cast<Real>(momentum), take = static_cast<Real>(1 - momentum);
    m = keep * old + take * g;
    d = nesterov ? keep * m + take * g : m;
  }
};

/// One entry's step of muon.
/// \ingroup optim
struct muon_step_element {
  double length;  ///< step size times scaling
  double decay;   ///< \f$ \eta \lambda \f$

  /// \param[in,out] x       parameter
  /// \param[in,out] m       momentum
  /// \param[in]     d       orthogonalized direction
  /// \param[in]     next    momentum after this step
  /// \param[in]     finite  0 leaves everything as it is
  template <class S>
  STIEFELX_HD void operator()(S& x, S& m, S const& d, S const& next, double const& finite) const {
    using Real = real_of_t<S>;
    if (finite == 0) return;
    m = next;
    x -= static_cast<Real>(length) * d + static_cast<Real>(decay) * x;
  }
};

namespace detail {

// Ranges that the optimizers with an orthogonalized direction share.
template <class Options>
void expect_muon_ranges(char const* name, Options const& o) {
  expect_option(o.learning_rate >= 0, name, "learning_rate", o.learning_rate,
                "a number of at least 0");
  expect_option(o.momentum >= 0 && o.momentum < 1, name, "momentum", o.momentum,
                "a number in [0, 1)");
  if (o.method == muon_method::published)
    expect_option(o.iterations >= 1, name, "iterations", o.iterations, "a number of at least 1");
  expect_option(o.iterations >= 0, name, "iterations", o.iterations, "a number of at least 0");
  expect_option(o.smallest > 0 && o.smallest < 1, name, "smallest", o.smallest,
                "a number in (0, 1)");
  expect_option(o.epsilon > 0, name, "epsilon", o.epsilon, "a number above 0");
}

template <class X, class Options>
polar_schedule muon_schedule(Options const& o) {
  return make_muon_schedule(o.method, o.iterations, o.smallest,
                            static_cast<double>(std::numeric_limits<real_t<X>>::epsilon()));
}

inline double muon_factor(muon_scaling scaling, index_t rows, index_t cols) {
  auto const n = static_cast<double>(rows), p = static_cast<double>(cols);
  switch (scaling) {
    case muon_scaling::rows_over_columns:
      return n > p && p > 0 ? std::sqrt(n / p) : 1;
    case muon_scaling::columns_over_rows:
      return p > n && n > 0 ? std::sqrt(p / n) : 1;
    case muon_scaling::larger_side:
      return 0.2 * std::sqrt(std::max(n, p));
    case muon_scaling::unscaled:
      return 1;
  }
  return 1;
}

}  // namespace detail

/// \brief Muon: momentum, orthogonalized, for a weight matrix with no constraint.
/// \ingroup optim
///
/// \f[ m \leftarrow \beta m + (1-\beta)\,g, \qquad d = \beta m + (1-\beta)\,g, \qquad
///     x \leftarrow x - \eta\,(s\,O(d) + \lambda x) \f]
/// with d = m where Nesterov's momentum is off, orthogonalize() as O and s by the shape
/// \cite jordan2024 . A step has nearly one length along all singular vectors of the direction:
/// steepest descent in the spectral norm. It does not shorten near a minimum; let \f$ \eta \f$
/// fall.
///
/// The published polynomial takes singular values of at least 2e-3 times the Frobenius norm to
/// between 0.68 and 1.21 in 5 steps, and moves them about in there with more steps. A gradient that
/// is not finite leaves the parameter and the state as they are and sets `not_finite`. For hidden
/// layers; vectors, embeddings and the last layer are left to adamw.
///
/// \tparam Moment  owning matrix that lives where the parameter lives
template <Matrix Moment>
class muon {
 public:
  /// What save() calls it.
  static constexpr char const* name = "muon";

  /// \param[in] ctx      where the state lives
  /// \param[in] x        the parameter: its shape, scalar and memory become the state's
  /// \param[in] options  step size, momentum, decay, orthogonalization
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  muon(Ctx& ctx, X const& x, muon_options options = {})
      : momentum_(zeros_like(ctx, x)), options_(options) {
    detail::expect_muon_ranges("muon", options);
    expect_option(options.weight_decay >= 0, "muon", "weight_decay", options.weight_decay,
                  "a number of at least 0");
    schedule_ = detail::muon_schedule<X>(options);
    factor_ = detail::muon_factor(options.scaling, x.rows(), x.cols());
  }

  /// Moves x one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       n x p, the parameter, tall or wide
  /// \param[in]     g       n x p, gradient; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  /// \par Cost
  /// That of orthogonalize(), and two n x p scratch matrices.
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<Moment, X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_shape("muon::step", "x", x, momentum_.rows(), momentum_.cols());
    expect_shape("muon::step", "g", g, momentum_.rows(), momentum_.cols());
    expect_distinct(ctx, "muon::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    auto next = clone(ctx, momentum_);
    auto direction = clone(ctx, momentum_);
    transform(ctx, muon_momentum_element{options_.momentum, options_.nesterov},
              outputs(next, direction), inputs(momentum_, g));
    orthogonalize(ctx, direction, direction, schedule_, options_.epsilon);
    double const rate = options_.learning_rate;
    transform(ctx, muon_step_element{rate * factor_, rate * options_.weight_decay},
              outputs(x, momentum_), inputs(direction, next, finite));
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) { options_.learning_rate = learning_rate; }

  /// \returns the momentum, of the parameter's shape
  Moment const& momentum() const { return momentum_; }
  /// \returns the polynomials that orthogonalize the direction
  polar_schedule const& schedule() const { return schedule_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("momentum", momentum_);
  }

 private:
  Moment momentum_;
  muon_options options_;
  polar_schedule schedule_;
  double factor_ = 1;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
muon(Ctx&, X const&, muon_options = {}) -> muon<owning_t<Ctx, X>>;

}  // namespace stiefelx
