// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <utility>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief How the entries of \f$ R^T R - I \f$ are measured.
/// \ingroup nn
enum class orthogonality_form {
  frobenius,  ///< sum of squares
  entrywise,  ///< sum of absolute values; its gradient takes sign 0 at 0
};

/// How router_orthogonality_loss() measures.
/// \ingroup nn
struct router_orthogonality_options {
  orthogonality_form form = orthogonality_form::frobenius;  ///< squares or absolute values
  bool normalize = false;  ///< whether columns are divided by their lengths first
};

namespace detail {

// One entry's part of the loss and its derivative.
STIEFELX_HD inline double entry_value(orthogonality_form form, double d) {
  return form == orthogonality_form::frobenius ? d * d : std::abs(d);
}
STIEFELX_HD inline double entry_slope(orthogonality_form form, double d) {
  if (form == orthogonality_form::frobenius) return 2 * d;
  return d > 0 ? 1 : (d < 0 ? -1 : 0);
}

}  // namespace detail

/// \brief Team text: one column's part of the loss, and of C with \f$ \bar R = R C \f$.
/// \ingroup nn
struct router_orthogonality_body {
  router_orthogonality_options options;  ///< the measure
  double coefficient;                    ///< factor of the loss

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the rows
  /// \param[in]  j        the column
  /// \param[in]  g        E x E, \f$ R^T R \f$
  /// \param[out] losses   1 x E
  /// \param[out] factors  E x E, C
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t j, double*, matrix_ref<double const> g,
                              matrix_ref<double> losses, matrix_ref<S> factors) const {
    double sum = 0, along = 0;
    double const own = inverse_length(g, j);
    for (index_t i = team.rank(); i < g.rows; i += team.size()) {
      double const other = inverse_length(g, i), d = defect(g, i, j, other * own);
      sum += detail::entry_value(options.form, d);
      double const slope = 2 * coefficient * detail::entry_slope(options.form, d);
      along += slope * g(i, j) * other * own;
      factors(i, j) = static_cast<S>(slope * other * own);
    }
    sum = team.sum(sum);
    along = team.sum(along);
    // Moving along a column does not change its direction.
    if (options.normalize && j % team.size() == team.rank())
      factors(j, j) = static_cast<S>(static_cast<double>(factors(j, j)) - along * own * own);
    if (team.rank() == 0) losses(0, j) = coefficient * sum;
  }

 private:
  STIEFELX_HD double inverse_length(matrix_ref<double const> g, index_t i) const {
    if (!options.normalize) return 1;
    return g(i, i) > 0 ? 1 / std::sqrt(g(i, i)) : 0;
  }

  // Columns of length one have no defect on the diagonal, not even from rounding.
  STIEFELX_HD double defect(matrix_ref<double const> g, index_t i, index_t j, double s) const {
    if (i != j) return g(i, j) * s;
    return options.normalize ? 0 : g(j, j) - 1;
  }
};

/// \brief Penalty on routers whose columns are not orthonormal.
/// \ingroup nn
///
/// With \f$ \Delta = R^T R - I \f$, R the d x E router:
/// \f[ L = c \lVert \Delta \rVert_F^2, \quad \bar R \mathrel{+}= 4 c R \Delta \qquad \text{or} \qquad
///     L = c \sum_{ij} |\Delta_{ij}|, \quad \bar R \mathrel{+}= 2 c R\,\mathrm{sign}(\Delta), \f]
/// the second that of \cite omi2025simbal. With `normalize` R is first divided by its columns'
/// lengths, so only the angles between columns count; a column of zeros counts nothing. An
/// orthogonal router keeps tokens as far apart in its scores as they are, and so balances without
/// looking at counts. E > d cannot reach 0.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  c
/// \param[in]     router       d x E
/// \param[out]    loss         1 x 1 of double
/// \param[in,out] drouter      d x E, accumulates; must not overlap router
/// \param[in]     options      the measure
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if drouter overlaps router
/// \par Cost
/// 3 d E^2 flops; scratch d E + 2 E^2 entries, a copy of the router in double among them.
template <class Ctx, RealMatrix Router, class L, class DR>
  requires OutputMatrix<L> && OutputMatrix<DR> && SameScalar<Router, DR>
void router_orthogonality_loss(Ctx& ctx, double coefficient, Router const& router, L&& loss,
                               DR&& drouter, router_orthogonality_options options = {}) {
  char const* const name = "router_orthogonality_loss";
  index_t const experts = router.cols();
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "drouter", drouter, router.rows(), experts);
  expect_distinct(ctx, name, "drouter", drouter, "router", router);
  auto const wide = widen(ctx, router);
  auto const moments = gram(ctx, wide);
  auto factors = scratch<scalar_t<Router>>(ctx, experts, experts);
  auto losses = scratch<double>(ctx, 1, experts);
  run_batch(ctx, experts, router_orthogonality_body{options, coefficient}, moments, losses,
            factors);
  sum_columns(ctx, losses, loss);
  multiply_add(ctx, 1, router, factors, drouter);
}

/// \brief Team text: one column's part of a loss on \f$ A^T B \f$ and its slopes.
/// \ingroup nn
struct cross_orthogonality_body {
  orthogonality_form form;  ///< squares or absolute values
  double coefficient;       ///< factor of the loss

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team    lanes share the rows
  /// \param[in]  j       the column
  /// \param[in]  c       m x n
  /// \param[out] losses  1 x n
  /// \param[out] slopes  m x n
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t j, double*, matrix_ref<double const> c,
                              matrix_ref<double> losses, matrix_ref<S> slopes) const {
    double sum = 0;
    for (index_t i = team.rank(); i < c.rows; i += team.size()) {
      sum += coefficient * detail::entry_value(form, c(i, j));
      slopes(i, j) = static_cast<S>(coefficient * detail::entry_slope(form, c(i, j)));
    }
    sum = team.sum(sum);
    if (team.rank() == 0) losses(0, j) = sum;
  }
};

/// \brief Penalty on new factors that are not orthogonal to frozen ones, as in O-LoRA.
/// \ingroup nn
///
/// \f$ L = c \sum_{ij} |(A^T B)_{ij}| \f$ with \f$ \bar B \mathrel{+}= c A\,\mathrm{sign}(A^T B) \f$
/// \cite wang2023olora , or the sum of squares with \f$ 2 c A A^T B \f$. A holds the `down` factors of
/// earlier tasks side by side, B the one in training.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     coefficient  c
/// \param[in]     frozen       d x m, A
/// \param[in]     factor       d x n, B
/// \param[out]    loss         1 x 1 of double
/// \param[in,out] dfactor      d x n, accumulates; must not overlap frozen or factor
/// \param[in]     form         absolute values or squares
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if dfactor overlaps frozen or factor
/// \par Cost
/// 4 d m n flops; scratch d (m + n) + 2 m n entries.
template <class Ctx, RealMatrix A, RealMatrix B, class L, class DB>
  requires OutputMatrix<L> && OutputMatrix<DB> && SameScalar<A, B, DB>
void cross_orthogonality_loss(Ctx& ctx, double coefficient, A const& frozen, B const& factor,
                              L&& loss, DB&& dfactor,
                              orthogonality_form form = orthogonality_form::entrywise) {
  char const* const name = "cross_orthogonality_loss";
  expect_shape(name, "factor", factor, frozen.rows(), factor.cols());
  expect_shape(name, "loss", loss, 1, 1);
  expect_shape(name, "dfactor", dfactor, factor.rows(), factor.cols());
  expect_distinct(ctx, name, "dfactor", dfactor, "frozen", frozen);
  expect_distinct(ctx, name, "dfactor", dfactor, "factor", factor);
  auto const wide = widen(ctx, frozen);
  auto const inner_products = product(ctx, wide.adjoint(), widen(ctx, factor));
  auto slopes = scratch<scalar_t<B>>(ctx, frozen.cols(), factor.cols());
  auto losses = scratch<double>(ctx, 1, factor.cols());
  run_batch(ctx, factor.cols(), cross_orthogonality_body{form, coefficient}, inner_products, losses,
            slopes);
  sum_columns(ctx, losses, loss);
  multiply_add(ctx, 1, frozen, slopes, dfactor);
}

}  // namespace stiefelx
