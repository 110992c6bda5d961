// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Team text of routers, slots and losses: each launch is compared with the same text run by one
// lane.
#include <utility>

#include <stiefelx/core/random.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/cross_entropy.hpp>
#include <stiefelx/nn/dora.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/nn/expert_choice.hpp>
#include <stiefelx/nn/expert_counts.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/expert_list.hpp>
#include <stiefelx/nn/expert_scaling.hpp>
#include <stiefelx/nn/gate_backward.hpp>
#include <stiefelx/nn/hydra_lora.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/localized_balance.hpp>
#include <stiefelx/nn/router_orthogonality.hpp>
#include <stiefelx/nn/router_scores.hpp>
#include <stiefelx/nn/routing_statistics.hpp>
#include <stiefelx/nn/score_gradient.hpp>
#include <stiefelx/nn/score_variance_loss.hpp>
#include <stiefelx/nn/selection_bias.hpp>
#include <stiefelx/nn/task_scores.hpp>
#include <stiefelx/nn/token_slots.hpp>
#include <stiefelx/nn/token_sums.hpp>
#include <stiefelx/nn/z_loss.hpp>

#include <ptx/serial_oracle.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using recording::constant;
using recording::values;
using std::as_const;
using stiefelx::index_t;

// Experts, two of them null ones in some cases; slots; rank; tokens, of which token 3 is padding.
constexpr index_t experts = 6, truly = 5, k = 3, rank = 4, tokens = 40;
constexpr stiefelx::token_range blocks{16};
constexpr index_t parts = 3;
using S = float;

// What most launches read.
struct routing {
  cuda::context& ctx;
  cuda::matrix<S> scores = values<S>(ctx, experts, tokens, 1);
  cuda::matrix<S> p = positive(ctx, experts, 2);
  cuda::matrix<S> weights = positive(ctx, k, 3);
  cuda::matrix<S> dweights = values<S>(ctx, k, tokens, 4);
  cuda::matrix<int> ids = lists(ctx);
  cuda::matrix<S> w = weight_of_tokens(ctx);
  cuda::matrix<double> total = constant<double>(ctx, 1, 1, 39);
  cuda::matrix<int> none = cuda::matrix<int>(1, 0);
  cuda::matrix<double> no_bias = cuda::matrix<double>(0, 1);

  static cuda::matrix<S> positive(cuda::context& ctx, index_t rows, unsigned seed) {
    auto a = recording::entries<S>(rows * tokens, seed);
    for (S& v : a) v = v * v / 4 + S(0.05);
    return recording::uploaded(ctx, a, rows);
  }
  static cuda::matrix<int> lists(cuda::context& ctx) {
    std::vector<int> a;
    for (int t = 0; t < tokens; ++t)
      for (int i = 0; i < k; ++i) a.push_back(t % 7 == i + 2 ? -1 : (2 * t + i) % int{truly});
    return recording::uploaded(ctx, a, k);
  }
  static cuda::matrix<S> weight_of_tokens(cuda::context& ctx) {
    std::vector<S> a(tokens, S(1));
    a[3] = 0;
    return recording::uploaded(ctx, a, 1);
  }
};

void choices(cuda::context& ctx, routing const& r) {
  recording::begin("choices");
  using stiefelx::expert_order;
  using stiefelx::score_kind;
  cuda::matrix<S> weights(k, tokens);
  cuda::matrix<int> ids(k, tokens);
  auto const bias = values<double>(ctx, experts, 1, 5);
  stiefelx::choice_rule const best{k, stiefelx::detail::any_mass, expert_order::by_score, truly};
  stiefelx::choice_rule const mass{k, 0.6, expert_order::by_index, truly};
  stiefelx::gate_rule const softmax{};
  stiefelx::gate_rule const sigmoid{score_kind::sigmoid, false, 2};
  cuda::matrix<S> p(experts, tokens);
  copy(ctx, r.scores, p);
  run_batch(ctx, tokens, stiefelx::token_choice_body{best, softmax, experts}, r.no_bias, r.w, p,
            weights, ids);
  copy(ctx, r.scores, p);
  run_batch(ctx, tokens, stiefelx::token_choice_body{mass, sigmoid, experts}, bias, r.w, p, weights,
            ids);
  copy(ctx, r.scores, p);
  run_batch(ctx, tokens, stiefelx::given_list_body{truly, softmax, experts, k}, r.ids, r.w, p,
            weights, ids);
  cuda::matrix<S> dscores(experts, tokens);
  run_batch(ctx, tokens, stiefelx::gate_backward_body{softmax}, as_const(p), as_const(weights),
            as_const(ids), r.dweights, dscores);

  cuda::matrix<double> level(2, tokens);
  cuda::matrix<int> taken(experts, tokens), all_ids(experts, tokens);
  cuda::matrix<S> all_weights(experts, tokens);
  run_batch(ctx, tokens, stiefelx::token_level_body{score_kind::softmax}, r.scores, level);
  // A capacity that splits equal scores, too.
  for (index_t capacity : {9, 17})
    run_batch(ctx, experts, stiefelx::take_tokens_body{capacity}, r.scores, as_const(level), r.w,
              taken);
  copy(ctx, r.scores, p);
  run_batch(ctx, tokens, stiefelx::taken_list_body{expert_order::by_score, softmax, experts},
            as_const(taken), r.w, p, all_weights, all_ids);
}

void slots(cuda::context& ctx, routing const& r) {
  recording::begin("slots");
  auto const x = values<S>(ctx, rank, tokens, 6);
  cuda::matrix<S> apart(rank, k * tokens), stacked(k * rank, tokens), sum(rank, tokens);
  run_batch(ctx, tokens, stiefelx::spread_slots_body{k}, x, apart);
  run_batch(ctx, tokens, stiefelx::sum_slots_body{k}, as_const(apart), sum);
  run_batch(ctx, tokens, stiefelx::stack_slots_body{k}, as_const(apart), stacked);
  run_batch(ctx, tokens, stiefelx::unstack_slots_body{k}, as_const(stacked), apart);
  run_batch(ctx, tokens, stiefelx::share_slots_body{}, x, stacked);
  run_batch(ctx, tokens, stiefelx::sum_shared_slots_body{}, as_const(stacked), sum);
  auto const scaling = values<double>(ctx, 1, truly, 7);
  run_batch(ctx, tokens, stiefelx::scale_slots_body{rank}, scaling, r.ids, stacked);
  auto const gain = values<S>(ctx, experts, 1, 8);
  auto weights = clone(ctx, r.weights);
  auto dgain = constant<S>(ctx, experts, 1, 1);
  run_batch(ctx, tokens, stiefelx::gain_body{}, gain, r.ids, weights);
  run_batch(ctx, experts, stiefelx::gain_backward_body{}, r.weights, r.ids, r.dweights, dgain);
  auto scores = clone(ctx, r.scores);
  auto const column = values<S>(ctx, experts, 1, 9), of_task = values<S>(ctx, experts, 3, 10);
  run_batch(ctx, tokens, stiefelx::detail::add_column_body{}, column, scores);
  std::vector<int> named;
  for (int t = 0; t < tokens; ++t) named.push_back(t % 4 - 1);
  auto const tasks = recording::uploaded(ctx, named, 1);
  run_batch(ctx, tokens, stiefelx::spread_scores_body{}, of_task, tasks, scores);
  cuda::matrix<S> sums(experts, 3);
  run_batch(ctx, 3, stiefelx::gather_scores_body{}, r.scores, tasks, sums);

  stiefelx::dropout_mask const mask{0.3, 17, 2, 5};
  cuda::matrix<S> dropped(experts, tokens);
  run_batch(ctx, tokens, stiefelx::dropout_body{mask}, r.scores, dropped);
  run_batch(ctx, tokens, stiefelx::dropout_body{mask}, r.ids.middleRows(0, 1), r.scores, dropped);

  stiefelx::random_stream const stream{11, 3};
  cuda::matrix<S> drawn(experts, tokens);
  run_batch(ctx, tokens, stiefelx::detail::fill_normal_body{stream, 0.5}, drawn);
  run_batch(ctx, tokens, stiefelx::detail::fill_uniform_body{stream, -1, 2}, drawn);

  auto const norms = constant<double>(ctx, 1, experts, 1.5);
  run_batch(ctx, tokens, stiefelx::magnitude_body{}, gain.middleRows(0, 1), norms.middleCols(0, 1),
            r.scores.middleRows(0, 1), dropped.middleRows(0, 1));
  auto const z = values<S>(ctx, 20, tokens, 11), dy = values<S>(ctx, 20, tokens, 12);
  auto const lengths = constant<double>(ctx, 1, 20, 2);
  auto dmagnitude = constant<S>(ctx, 1, 20, 1);
  run_batch(ctx, 2, stiefelx::magnitude_backward_body{}, lengths, z, dy, dmagnitude);
}

void sums(cuda::context& ctx, routing const& r) {
  recording::begin("sums");
  auto const inverse = constant<double>(ctx, 1, tokens, 0.9);
  cuda::matrix<double> total(1, parts), entropies(1, parts), counts(truly + 2, parts);
  cuda::matrix<double> sums(experts + 1, parts), gates(truly, parts), inverses(1, tokens);
  run_batch(ctx, parts, stiefelx::token_weight_body{tokens, blocks}, r.w, total);
  run_batch(ctx, parts, stiefelx::token_entropy_body{blocks}, r.p, r.w, inverse, entropies);
  for (bool const first : {false, true})
    run_batch(ctx, parts, stiefelx::expert_counts_body{blocks, truly, k, first}, r.p, r.ids, r.w,
              r.none, counts);
  run_batch(ctx, parts, stiefelx::probability_sums_body{blocks}, r.p, r.w, inverse, r.none, sums);
  run_batch(ctx, parts, stiefelx::gate_sums_body{blocks, truly}, r.weights, r.ids, r.w, gates);
  run_batch(ctx, tokens, stiefelx::inverse_sum_body{}, r.p, inverses);
  auto dgates = clone(ctx, r.dweights);
  run_batch(ctx, parts, stiefelx::gate_sums_body{blocks, truly}, r.ids, r.w,
            as_const(gates).middleCols(0, 1), dgates);
  cuda::matrix<double> dsums(experts, parts), losses(1, parts);
  run_batch(ctx, parts, stiefelx::balance_value_body{{}, 0.5, truly}, as_const(sums),
            as_const(counts), dsums, losses);
  auto dscores = values<S>(ctx, experts, tokens, 13);
  for (bool const sigmoid : {false, true})
    run_batch(ctx, parts, stiefelx::probability_gradient_body{blocks, sigmoid, !sigmoid}, r.p, r.w,
              inverse, r.none, as_const(dsums).middleCols(0, 1), dscores);
  auto one = [](auto& a) { return a.middleCols(0, 1); };
  cuda::matrix<double> load(1, truly), share(1, experts), scalars(1, 7);
  auto entropy = one(entropies);
  auto cell = [&scalars](index_t j) { return scalars.middleCols(j, 1); };
  run_batch(ctx, 1, stiefelx::routing_statistics_body{0.5}, as_const(sums).middleCols(0, 1),
            as_const(counts).middleCols(0, 1), entropy, load, share, cell(0), cell(1), cell(2),
            cell(3), cell(4));
  auto bias = constant<double>(ctx, truly, 1, 0.1);
  run_batch(ctx, 1, stiefelx::selection_bias_body{0.01},
            as_const(counts).middleCols(0, 1).middleRows(0, truly), bias);
}

void losses(cuda::context& ctx, routing const& r) {
  recording::begin("losses");
  cuda::matrix<double> losses(1, parts), each(1, tokens), loss(1, 1), da(experts, 1);
  auto dscores = values<S>(ctx, experts, tokens, 14);
  // The weight of the tokens, then the sums.
  auto entries = recording::entries<double>(experts + 1, 15);
  entries[0] = 39;
  auto const sums = recording::uploaded(ctx, entries, experts + 1);
  run_batch(ctx, parts, stiefelx::z_loss_body{0.5, blocks}, r.scores, r.w, r.total, losses,
            dscores);
  run_batch(ctx, parts, stiefelx::score_variance_body{0.5, truly, false, blocks}, r.p, r.w, sums,
            losses, dscores);
  std::vector<int> classes;
  for (int t = 0; t < tokens; ++t) classes.push_back(t % int{experts});
  auto const labels = recording::uploaded(ctx, classes, 1);
  run_batch(ctx, tokens, stiefelx::cross_entropy_body{}, r.scores, labels, r.total, each, dscores);
  run_batch(ctx, 1, stiefelx::variation_body{0.5, 0.1}, sums.middleRows(1, experts), loss, da);
  auto const g = recording::definite<double>(ctx, experts, 1, 16);
  cuda::matrix<double> columns(1, experts);
  cuda::matrix<S> factors(experts, experts);
  for (bool const normalize : {false, true})
    run_batch(ctx, experts,
              stiefelx::router_orthogonality_body{
                  {stiefelx::orthogonality_form::frobenius, normalize}, 0.5},
              g, columns, factors);
  run_batch(ctx, experts,
            stiefelx::cross_orthogonality_body{stiefelx::orthogonality_form::entrywise, 0.5}, g,
            columns, factors);
  auto const types = recording::uploaded<int>(ctx, {0, 1, 0, 1, 2}, 5);
  auto const sample = recording::uploaded<int>(ctx, {0, 1, 2, 3}, 1);
  auto a = values<double>(ctx, experts, 4, 17);
  run_batch(ctx, 4, stiefelx::type_factor_body{0.25}, types, sample, a);
}

}  // namespace

void run_cases() {
  cuda::context ctx(recording::small());
  routing const r{ctx};
  choices(ctx, r);
  slots(ctx, r);
  sums(ctx, r);
  losses(ctx, r);
}
