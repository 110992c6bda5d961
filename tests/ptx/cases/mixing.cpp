// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Team text of orthogonal mixtures, in rank space and of whole outputs: each launch is compared
// with the same text run by one lane.
#include <utility>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/gram_losses.hpp>
#include <stiefelx/nn/mixture_statistics.hpp>
#include <stiefelx/nn/moe_lora_body.hpp>
#include <stiefelx/nn/moe_lora_cross.hpp>
#include <stiefelx/nn/token_grams.hpp>
#include <stiefelx/team/expert_gram_schmidt.hpp>

#include <ptx/serial_oracle.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using recording::constant;
using recording::values;
using std::as_const;
using stiefelx::index_t;
using stiefelx::mixing;
using stiefelx::mixing_algebra;

constexpr index_t experts = 4, k = 3, tokens = 6;

cuda::matrix<int> lists(cuda::context& ctx, bool filled) {
  std::vector<int> ids;
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < k; ++i)
      ids.push_back(!filled && t == 2 && i > 0 ? -1 : (t + i) % int{experts});
  return recording::uploaded(ctx, ids, k);
}

// The layer's mixture and its gradients, by slot and by expert.
template <class S>
void rank_space(mixing kind, index_t rank) {
  using stiefelx::rank_layout;
  cuda::context ctx(recording::small());
  recording::begin("mixture" + recording::type_name<S>());
  mixing_algebra const algebra{.kind = kind, .guard = 1e-6};
  auto const ids = lists(ctx, false);
  auto const weights = values<S>(ctx, k, tokens, 1);
  auto const moments = recording::definite<double>(ctx, experts * rank, 1, 2);
  auto h = values<S>(ctx, k * rank, tokens, 3);
  auto gram = constant<double>(ctx, k * k, tokens, 0);
  cuda::matrix<double> coefficients(k, tokens);
  cuda::matrix<S> mixed(k * rank, tokens), dweights(k, tokens);
  cuda::matrix<int> status(1, tokens);
  run_batch(ctx, tokens, stiefelx::mix_forward_body{algebra, k, rank}, h, ids, weights, moments,
            gram, coefficients, mixed, status);
  auto all = values<S>(ctx, experts * rank, tokens, 4);
  cuda::matrix<S> slots = constant<S>(ctx, k * rank, tokens, S(0));
  run_batch(ctx, tokens, stiefelx::mix_forward_body{algebra, k, rank, rank_layout::by_expert},
            slots, ids, weights, moments, gram, coefficients, all, status);
  auto dh = values<S>(ctx, k * rank, tokens, 5);
  auto again = clone(ctx, gram);
  run_batch(ctx, tokens, stiefelx::mix_backward_body{algebra, k, rank, 2.0}, as_const(slots), ids,
            weights, moments, gram, dh, mixed, dweights);
  auto dall = values<S>(ctx, experts * rank, tokens, 6);
  run_batch(ctx, tokens, stiefelx::mix_backward_body{algebra, k, rank, 2.0, rank_layout::by_expert},
            as_const(slots), ids, weights, moments, again, dall, all, dweights);

  // K of the layer's second factor: two parts of the tokens, then their sums.
  index_t const columns = experts * rank, part = 4, parts = 2;
  auto partial = constant<double>(ctx, columns, columns * parts, 0);
  auto cross = constant<S>(ctx, columns, columns, S(0));
  cuda::matrix<double> none(0, 0);
  cuda::matrix<S> apart(0, 0);
  run_batch(ctx, experts * parts, stiefelx::cross_moments_body{rank, experts, part}, as_const(h),
            ids, as_const(gram), partial, apart);
  run_batch(ctx, columns, stiefelx::cross_sums_body{rank, parts, columns}, as_const(partial),
            cross);
  // All tokens in one part, which writes K itself.
  run_batch(ctx, experts, stiefelx::cross_moments_body{rank, experts, tokens}, as_const(h), ids,
            as_const(gram), none, cross);
  run_batch(ctx, tokens, stiefelx::gram_gradient_body{k, rank}, as_const(h), ids, moments,
            as_const(gram), dh);
  run_batch(ctx, tokens, stiefelx::slot_grams_body{k, rank}, as_const(h), ids, moments, gram);
  run_batch(ctx, tokens, stiefelx::token_gram_body{rank, rank_layout::by_slot}, as_const(h), ids,
            moments, gram);
}

// Outputs of k experts, d entries each.
template <class S>
void outputs(mixing kind, index_t chosen, index_t d, index_t count) {
  cuda::context ctx(recording::small());
  recording::begin("expert_gram_schmidt" + recording::type_name<S>());
  mixing_algebra const algebra{.kind = kind, .guard = 1e-6};
  auto const e = values<S>(ctx, d, chosen * count, 7);
  auto const weights = values<S>(ctx, chosen, count, 8);
  auto const dy = values<S>(ctx, d, count, 9);
  cuda::matrix<double> gram(chosen * chosen, count), coefficients(chosen, count);
  cuda::matrix<S> y(d, count), de(d, chosen * count), dweights(chosen, count);
  cuda::matrix<int> status(1, count);
  run_batch(ctx, count, stiefelx::expert_gram_schmidt_body{algebra, chosen}, e, weights, gram,
            coefficients, y, status);
  run_batch(ctx, count, stiefelx::expert_gram_schmidt_backward_body{algebra, chosen}, e, weights,
            as_const(gram), dy, de, dweights);
}

void overlaps() {
  cuda::context ctx(recording::small());
  recording::begin("overlaps");
  stiefelx::expert_overlap const overlap{1e-6};
  auto const ids = lists(ctx, false);
  auto const w = constant<float>(ctx, 1, 1, 1);
  auto const total = constant<double>(ctx, 1, 1, double{tokens});
  auto const e = values<float>(ctx, 43, k * tokens, 10);
  auto de = values<float>(ctx, 43, k * tokens, 11);
  cuda::matrix<double> losses(1, tokens), one(1, 2);
  run_batch(ctx, tokens, stiefelx::output_overlap_body{overlap, 0.5, k}, e, ids, w, total, losses,
            de);
  auto const grams = recording::definite<double>(ctx, k, tokens, 12);
  cuda::matrix<double> flat(k * k, tokens), change = values<double>(ctx, k * k, tokens, 13);
  copy(ctx, cuda::matrix_view<double const>(grams.data(), k * k, tokens, k * k), flat);
  run_batch(ctx, 2, stiefelx::gram_overlap_body{overlap, 0.5, {4}}, as_const(flat), ids, w, total,
            one, change);
  using statistics = stiefelx::mixture_sums_body;
  for (auto const kind : {mixing::none, mixing::orthonormal}) {
    cuda::matrix<double> sums(statistics::rows, tokens);
    run_batch(ctx, tokens, statistics{{.kind = kind, .guard = 1e-6}, k}, as_const(flat), ids, w,
              sums);
  }
}

}  // namespace

void run_cases() {
  rank_space<float>(mixing::orthonormal, 4);
  rank_space<double>(mixing::symmetric, 3);
  rank_space<double>(mixing::none, 3);
  outputs<float>(mixing::orthogonal, 3, 37, 2);
  outputs<double>(mixing::none, 2, 20, 2);
  // Sixteen experts of long outputs.
  outputs<float>(mixing::orthonormal, 16, 8192, 1);
  overlaps();
}
