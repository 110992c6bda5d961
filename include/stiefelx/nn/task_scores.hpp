// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <stiefelx/core/context.hpp>
#include <stiefelx/nn/stored_weights.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: one token gets the scores of its task.
/// \ingroup nn
struct spread_scores_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the experts
  /// \param[in]  t        the token
  /// \param[in]  of_task  E x tasks
  /// \param[in]  tasks    1 x T, or nothing where there is one task
  /// \param[out] scores   E x T; zero for a task that is none
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> of_task,
                              matrix_ref<int const> tasks, matrix_ref<S> scores) const {
    index_t const task = tasks.cols > 0 ? tasks(0, t) : 0;
    bool const known = task >= 0 && task < of_task.cols;
    for (index_t e = team.rank(); e < scores.rows; e += team.size())
      scores(e, t) = known ? of_task(e, task) : S(0);
  }
};

/// \brief Team text: sums the gradients of the tokens of one task, in their order.
/// \ingroup nn
struct gather_scores_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team      lanes share the experts
  /// \param[in]  task      the task
  /// \param[in]  dscores   E x T
  /// \param[in]  tasks     1 x T, or nothing where there is one task
  /// \param[out] dof_task  E x tasks
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t task, double*, matrix_ref<S const> dscores,
                              matrix_ref<int const> tasks, matrix_ref<S> dof_task) const {
    for (index_t e = team.rank(); e < dscores.rows; e += team.size()) {
      double sum = 0;
      for (index_t t = 0; t < dscores.cols; ++t)
        if (tasks.cols == 0 || tasks(0, t) == static_cast<int>(task))
          sum += static_cast<double>(dscores(e, t));
      dof_task(e, task) = static_cast<S>(sum);
    }
  }
};

namespace detail {

template <class Ctx, class Router, class Embeddings, class Tasks>
auto scores_of_tasks(Ctx& ctx, Router const& router, Embeddings const& embeddings,
                     Tasks const& tasks, index_t tokens) {
  // First the scratch that is returned: what is taken before it could not be given back.
  auto scores = scratch<arithmetic_t<scalar_t<Router>>>(ctx, router.cols(), tokens);
  auto const of_task =
      product(ctx, widened_weight(ctx, router).adjoint(), widened_weight(ctx, embeddings));
  run_batch(ctx, tokens, spread_scores_body{}, of_task, tasks, scores);
  return scores;
}

// A gradient accumulates, so it overlaps neither parameter; both are read after one is written.
template <class Ctx, class Router, class Embeddings, class DR, class DE>
void expect_task_gradients(Ctx& ctx, char const* function, Router const& router,
                           Embeddings const& embeddings, char const* router_name, DR const& drouter,
                           char const* embeddings_name, DE const& dembeddings) {
  expect_distinct(ctx, function, router_name, drouter, embeddings_name, dembeddings);
  expect_distinct(ctx, function, router_name, drouter, "router", router);
  expect_distinct(ctx, function, router_name, drouter, "embeddings", embeddings);
  expect_distinct(ctx, function, embeddings_name, dembeddings, "embeddings", embeddings);
  expect_distinct(ctx, function, embeddings_name, dembeddings, "router", router);
}

template <class Ctx, class Router, class Embeddings, class Tasks, class DS, class DR, class DE>
void scores_of_tasks_backward(Ctx& ctx, Router const& router, Embeddings const& embeddings,
                              Tasks const& tasks, DS const& dscores, DR&& drouter,
                              DE&& dembeddings) {
  char const* const name = "task_scores_backward";
  expect_shape(name, "router", router, embeddings.rows(), router.cols());
  expect_shape(name, "dscores", dscores, router.cols(), dscores.cols());
  expect_shape(name, "drouter", drouter, router.rows(), router.cols());
  expect_shape(name, "dembeddings", dembeddings, embeddings.rows(), embeddings.cols());
  expect_task_gradients(ctx, name, router, embeddings, "drouter", drouter, "dembeddings",
                        dembeddings);
  expect_distinct(ctx, name, "drouter", drouter, "dscores", dscores);
  expect_distinct(ctx, name, "dembeddings", dembeddings, "dscores", dscores);
  auto sums = scratch<scalar_t<DS>>(ctx, router.cols(), embeddings.cols());
  auto const& incoming = dense(ctx, dscores);
  run_batch(ctx, embeddings.cols(), gather_scores_body{}, incoming, tasks, sums);
  multiply_add(ctx, 1, widened_weight(ctx, embeddings), sums.adjoint(), drouter);
  multiply_add(ctx, 1, widened_weight(ctx, router), sums, dembeddings);
}

}  // namespace detail

/// \brief Scores that depend on a token's task alone: \f$ \ell_t = w^T e_{task(t)} \f$.
/// \ingroup nn
///
/// With route_scores() and `soft` they are the gates of MOELoRA \cite liu2024moelora, the same for
/// every token of a task: the mixture of a task is one linear map. Router and embeddings may have two
/// bytes an entry (nn/stored_weights.hpp); scores and gradients are float then.
///
/// \param[in] ctx         where to run; nothing waits
/// \param[in] router      d x E
/// \param[in] embeddings  d x tasks, a column for each task
/// \param[in] tasks       1 x T of int, the task of a token; one that is no task has scores of zero
/// \returns E x T, in scratch
/// \throws shape_error  if a shape is wrong
/// \par Cost
/// 2 d E tasks flops, E (T + tasks) scratch entries.
template <class Ctx, RealWeight Router, RealWeight Embeddings, Matrix Tasks>
  requires StoredAs<arithmetic_t<scalar_t<Router>>, Embeddings>
auto task_scores(Ctx& ctx, Router const& router, Embeddings const& embeddings, Tasks const& tasks) {
  expect_shape("task_scores", "router", router, embeddings.rows(), router.cols());
  expect_shape("task_scores", "tasks", tasks, 1, tasks.cols());
  return detail::scores_of_tasks(ctx, router, embeddings, tasks, tasks.cols());
}

/// \brief Scores of one task for all tokens.
/// \ingroup nn
/// \param[in] ctx        where to run; nothing waits
/// \param[in] router     d x E
/// \param[in] embedding  d x 1, of the task
/// \param[in] tokens     T
/// \returns E x T, in scratch
/// \throws shape_error   if a shape is wrong
/// \throws option_error  if tokens is negative
template <class Ctx, RealWeight Router, RealWeight Embedding>
  requires StoredAs<arithmetic_t<scalar_t<Router>>, Embedding>
auto task_scores(Ctx& ctx, Router const& router, Embedding const& embedding, index_t tokens) {
  expect_shape("task_scores", "router", router, embedding.rows(), router.cols());
  expect_shape("task_scores", "embedding", embedding, embedding.rows(), 1);
  expect_option(tokens >= 0, "task_scores", "tokens", tokens, "a number of at least 0");
  auto const none = scratch<int>(ctx, 1, 0);
  return detail::scores_of_tasks(ctx, router, embedding, none, tokens);
}

/// \brief Gradients of task_scores().
/// \ingroup nn
///
/// \f$ \bar w \mathrel{+}= e\,\bar s^T \f$ and \f$ \bar e \mathrel{+}= w\,\bar s \f$ with
/// \f$ \bar s \f$ the sum of the scores' gradients over the tokens of each task, in their order.
/// Both accumulate: both are parameters.
///
/// \param[in]     ctx          where to run; nothing waits
/// \param[in]     router       d x E
/// \param[in]     embeddings   d x tasks
/// \param[in]     tasks        1 x T of int, of the forward call
/// \param[in]     dscores      E x T
/// \param[in,out] drouter      d x E, accumulates
/// \param[in,out] dembeddings  d x tasks, accumulates; must not overlap drouter
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if a gradient overlaps the other one, router, embeddings or dscores
template <class Ctx, RealWeight Router, RealWeight Embeddings, Matrix Tasks, RealMatrix DS,
          class DR, class DE>
  requires OutputMatrix<DR> && OutputMatrix<DE> && SameScalar<DS, DR, DE> &&
           StoredAs<scalar_t<DS>, Router, Embeddings>
void task_scores_backward(Ctx& ctx, Router const& router, Embeddings const& embeddings,
                          Tasks const& tasks, DS const& dscores, DR&& drouter, DE&& dembeddings) {
  expect_shape("task_scores_backward", "tasks", tasks, 1, dscores.cols());
  detail::scores_of_tasks_backward(ctx, router, embeddings, tasks, dscores, drouter, dembeddings);
}

/// \brief Gradients of task_scores() with one task for all tokens.
/// \ingroup nn
/// \param[in]     ctx         where to run; nothing waits
/// \param[in]     router      d x E
/// \param[in]     embedding   d x 1
/// \param[in]     dscores     E x T
/// \param[in,out] drouter     d x E, accumulates
/// \param[in,out] dembedding  d x 1, accumulates; must not overlap drouter
/// \throws shape_error  if a shape is wrong
/// \throws alias_error  if a gradient overlaps the other one, router, embedding or dscores
template <class Ctx, RealWeight Router, RealWeight Embedding, RealMatrix DS, class DR, class DE>
  requires OutputMatrix<DR> && OutputMatrix<DE> && SameScalar<DS, DR, DE> &&
           StoredAs<scalar_t<DS>, Router, Embedding>
void task_scores_backward(Ctx& ctx, Router const& router, Embedding const& embedding,
                          DS const& dscores, DR&& drouter, DE&& dembedding) {
  expect_shape("task_scores_backward", "embedding", embedding, embedding.rows(), 1);
  auto const none = scratch<int>(ctx, 1, 0);
  detail::scores_of_tasks_backward(ctx, router, embedding, none, dscores, drouter, dembedding);
}

}  // namespace stiefelx
