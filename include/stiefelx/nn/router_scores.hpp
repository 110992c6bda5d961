// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/beta.hpp>
#include <stiefelx/nn/stored_weights.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

namespace detail {

struct add_column_body {
  index_t scratch_size() const { return 0; }

  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> b,
                              matrix_ref<S> y) const {
    for (index_t i = team.rank(); i < y.rows; i += team.size()) y(i, t) += b(i, 0);
  }
};

}  // namespace detail

/// \brief Scores of a linear router: \f$ \ell = w^T x \f$.
/// \ingroup nn
/// \param[in] ctx     where to run; nothing waits
/// \param[in] router  d x E
/// \param[in] x       d x T, a token is a column
/// \returns E x T, in scratch
/// \throws shape_error  if the router's rows are not x's
/// \par Cost
/// 2 d E T flops, E T scratch entries.
template <class Ctx, RealWeight Router, RealMatrix X>
  requires StoredAs<scalar_t<X>, Router>
auto router_scores(Ctx& ctx, Router const& router, X const& x) {
  expect_shape("router_scores", "router", router, x.rows(), router.cols());
  // First the scratch that is returned: what is taken before it could not be given back.
  auto scores = scratch<scalar_t<X>>(ctx, router.cols(), x.cols());
  multiply(ctx, widened_weight(ctx, router).adjoint(), x, scores);
  return scores;
}

/// \brief Scores of a linear router with a bias: \f$ \ell = w^T x + b \f$.
/// \ingroup nn
/// \param[in] ctx     where to run; nothing waits
/// \param[in] router  d x E
/// \param[in] bias    E x 1
/// \param[in] x       d x T, a token is a column
/// \returns E x T, in scratch
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// 2 d E T flops, E T scratch entries.
template <class Ctx, RealWeight Router, RealMatrix Bias, RealMatrix X>
  requires SameScalar<Bias, X> && StoredAs<scalar_t<X>, Router>
auto router_scores(Ctx& ctx, Router const& router, Bias const& bias, X const& x) {
  expect_shape("router_scores", "router", router, x.rows(), router.cols());
  expect_shape("router_scores", "bias", bias, router.cols(), 1);
  auto scores = scratch<scalar_t<X>>(ctx, router.cols(), x.cols());
  multiply(ctx, widened_weight(ctx, router).adjoint(), x, scores);
  auto const& column = dense(ctx, bias);
  run_batch(ctx, x.cols(), detail::add_column_body{}, column, scores);
  return scores;
}

/// \brief Gradients of the router's weights and of its input from those of the scores.
/// \ingroup nn
///
/// \f$ \bar w \mathrel{+}= x\,\bar\ell^T \f$ and \f$ \bar x = \beta \bar x + w\,\bar\ell \f$: the
/// parameter gradient accumulates, the activation gradient takes beta.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     router   d x E
/// \param[in]     x        d x T, of the forward call
/// \param[in]     dscores  E x T
/// \param[in,out] drouter  d x E, accumulates; must not overlap router, x or dscores
/// \param[in]     beta     factor of what dx holds; with 0 it is not read
/// \param[in,out] dx       d x T; must not overlap router, dscores or drouter; may be x
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if drouter or dx overlaps what it must not
template <class Ctx, RealWeight Router, RealMatrix X, Matrix DS, class DR, class DX>
  requires OutputMatrix<DR> && OutputMatrix<DX> && SameScalar<X, DS, DR, DX> &&
           StoredAs<scalar_t<X>, Router>
void router_backward(Ctx& ctx, Router const& router, X const& x, DS const& dscores, DR&& drouter,
                     double beta, DX&& dx) {
  expect_shape("router_backward", "router", router, x.rows(), router.cols());
  expect_shape("router_backward", "dscores", dscores, router.cols(), x.cols());
  expect_shape("router_backward", "drouter", drouter, router.rows(), router.cols());
  expect_shape("router_backward", "dx", dx, x.rows(), x.cols());
  expect_distinct(ctx, "router_backward", "dx", dx, "router", router);
  expect_distinct(ctx, "router_backward", "dx", dx, "dscores", dscores);
  expect_distinct(ctx, "router_backward", "drouter", drouter, "router", router);
  expect_distinct(ctx, "router_backward", "drouter", drouter, "x", x);
  expect_distinct(ctx, "router_backward", "drouter", drouter, "dscores", dscores);
  expect_distinct(ctx, "router_backward", "drouter", drouter, "dx", dx);
  multiply_add(ctx, 1, x, dscores.adjoint(), drouter);
  multiply_with_beta(ctx, 1, widened_weight(ctx, router), dscores, beta, dx);
}

/// \brief Gradient of a router's bias: \f$ \bar b \mathrel{+}= \sum_t \bar\ell_t \f$.
/// \ingroup nn
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     dscores  E x T
/// \param[in,out] dbias    E x 1, accumulates; must not overlap dscores
/// \throws shape_error  if dbias is not E x 1
/// \throws alias_error  if dbias overlaps dscores
template <class Ctx, RealMatrix DS, class DB>
  requires OutputMatrix<DB> && SameScalar<DS, DB>
void router_bias_backward(Ctx& ctx, DS const& dscores, DB&& dbias) {
  expect_shape("router_bias_backward", "dbias", dbias, dscores.rows(), 1);
  expect_distinct(ctx, "router_bias_backward", "dbias", dbias, "dscores", dscores);
  auto sum = scratch<scalar_t<DS>>(ctx, dscores.rows(), 1);
  sum_columns(ctx, dscores, sum);
  axpy(ctx, 1, sum, dbias);
}

}  // namespace stiefelx
