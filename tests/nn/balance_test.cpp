// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The balance loss against its formula in every way of counting, and the experts' gain with its
// gradients.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <nn/scored_routing.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::balance_options;
using stiefelx::balance_share;
using stiefelx::router_options;

router_options const choices[] = {{.top_k = 0},
                                  {.top_k = 2},
                                  {.top_k = 1, .renormalize = false},
                                  {.top_k = 4, .renormalize = false}};

balance_share const shares[] = {balance_share::of_choices, balance_share::of_tokens,
                                balance_share::of_first_choices};

/// Choices of every expert, of the null experts together, and the weight of the tokens.
matrix_x<double> counts_by_loops(scored_routing const& r, matrix_x<double> const& w,
                                 bool first_only) {
  auto const p = r.probabilities();
  matrix_x<double> counts = matrix_x<double>::Zero(r.experts + 2, 1);
  for (index_t t = 0; t < p.cols(); ++t) {
    std::vector<int> taken;
    for (index_t i = 0; i < r.ids.rows(); ++i)
      if (r.ids(i, t) >= 0) taken.push_back(r.ids(i, t));
    bool const null_taken =
        p.rows() > r.experts && static_cast<index_t>(taken.size()) < r.choices();
    counts(r.experts + 1, 0) += w(0, t);
    if (!first_only) {
      for (int e : taken) counts(e, 0) += w(0, t);
      if (null_taken)
        counts(r.experts, 0) +=
            w(0, t) * static_cast<double>(r.choices() - static_cast<index_t>(taken.size()));
      continue;
    }
    if (null_taken)
      for (index_t e = r.experts; e < p.rows(); ++e) taken.push_back(static_cast<int>(e));
    if (taken.empty()) continue;
    auto const best = *std::max_element(taken.begin(), taken.end(),
                                        [&](int a, int b) { return p(a, t) < p(b, t); });
    counts(std::min<index_t>(best, r.experts), 0) += w(0, t);
  }
  return counts;
}

/// The loss by its formula, for given counts.
double balance_by_loops(scored_routing const& r, matrix_x<double> const& w,
                        matrix_x<double> const& counts, balance_options options) {
  auto const p = r.probabilities();
  index_t const all = p.rows();
  long double weight = 0, divisor = 0, sum = 0;
  for (index_t t = 0; t < p.cols(); ++t) weight += w(0, t);
  for (index_t e = 0; e <= r.experts; ++e) divisor += counts(e, 0);
  if (options.share == balance_share::of_tokens) divisor = counts(r.experts + 1, 0);
  if (options.sum_of_parts) weight = counts(r.experts + 1, 0);
  for (index_t e = 0; e < all; ++e) {
    long double mean = 0;
    for (index_t t = 0; t < p.cols(); ++t) {
      long double z = 0;
      for (index_t j = 0; j < all; ++j) z += p(j, t);
      mean += w(0, t) * p(e, t) / (options.normalize ? z : 1) / weight;
    }
    long double const share =
        e < r.experts ? counts(e, 0) / divisor
                      : counts(r.experts, 0) / divisor / static_cast<long double>(all - r.experts);
    sum += static_cast<long double>(all) * share * mean;
  }
  return static_cast<double>(sum);
}

template <class Case>
loss_and_gradient balance_of(scored_routing const& r, matrix_x<double> const& w,
                             balance_options options, double coefficient = 1) {
  place<Case> p;
  return run_loss(p, r.scores.rows(), r.scores.cols(), [&](auto& ctx, auto& loss, auto& dscores) {
    stiefelx::balance_loss(ctx, coefficient, routing_on(p, r), p.up(w), loss, dscores, options);
  });
}

template <class Case>
loss_and_gradient balance_of_counts(scored_routing const& r, matrix_x<double> const& w,
                                    matrix_x<double> const& counts, balance_options options) {
  place<Case> p;
  return run_loss(p, r.scores.rows(), r.scores.cols(), [&](auto& ctx, auto& loss, auto& dscores) {
    stiefelx::balance_loss_of_counts(ctx, 1, routing_on(p, r), p.up(w), p.up(counts), loss, dscores,
                                     options);
  });
}

/// Routings of one expert to many, few tokens and more than a block, with and without null experts.
std::vector<scored_routing> routings() {
  std::vector<scored_routing> all{random_scores(5, 0, 9, 2, 1), random_scores(4, 3, 9, 3, 2),
                                  random_scores(1, 0, 6, 1, 3), random_scores(6, 2, 600, 4, 4),
                                  random_scores(2, 4, 9, 4, 5)};
  all.push_back(all[0]);
  all.back().kind = score_kind::sigmoid;
  all.push_back(all[1]);
  all.back().kind = score_kind::sigmoid;
  all.push_back(all[0]);
  all.back().ids(1, 2) = -1;  // with no null expert an empty slot is no choice
  all.back().ids.col(5).setConstant(-1);
  all.push_back(all[1]);  // lists that do not follow the scores, as of a soft or a replayed routing
  for (index_t t = 0; t < 9; ++t)
    for (int i = 0; i < 3; ++i) all.back().ids(i, t) = (i + static_cast<int>(t)) % 4;
  all.push_back(all.back());
  all.back().ids.row(0).setConstant(-1);
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(balance)

// --- balance loss --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(balance_loss_is_its_formula_and_accumulates, Case, real_cases) {
  using S = typename Case::scalar;
  for (router_options options : choices) {
    place<Case> p;
    auto const routes = stiefelx::route(p.ctx, p.up(random_matrix<S>(5, 4, 1)),
                                        p.up(random_matrix<S>(5, 7, 2)), options);
    matrix_x<S> const probabilities = p.down(routes.probabilities);
    matrix_x<int> const ids = p.down(routes.ids);
    long double expected = 0;
    for (int e = 0; e < 4; ++e) {
      long double count = 0, mean = 0;
      for (index_t t = 0; t < 7; ++t) {
        mean += static_cast<long double>(probabilities(e, t)) / 7;
        for (index_t i = 0; i < ids.rows(); ++i) count += ids(i, t) == e ? 1 : 0;
      }
      expected += 4 * 0.3L * count / static_cast<long double>(7 * ids.rows()) * mean;
    }
    auto loss = p.up(matrix_x<double>::Constant(1, 1, std::nan("")));
    auto fresh = p.up(matrix_x<S>::Zero(4, 7));
    auto dscores = p.up(matrix_x<S>::Constant(4, 7, S(2)));
    stiefelx::balance_loss(p.ctx, 0.3, routes, loss, fresh);
    stiefelx::balance_loss(p.ctx, 0.3, routes, loss, dscores);
    BOOST_TEST(std::abs(p.down(loss)(0, 0) - static_cast<double>(expected)) <=
               tolerance<double>(28) * static_cast<double>(expected));
    matrix_x<S> const sum = p.down(fresh) + matrix_x<S>::Constant(4, 7, S(2));
    BOOST_TEST(near(p.down(dscores), sum, tolerance<S>(1)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_uniform_router_has_the_coefficient_as_loss, Case, double_cases) {
  place<Case> p;
  auto const routes = stiefelx::route(p.ctx, p.up(matrix_x<double>::Zero(5, 4)),
                                      p.up(random_matrix<double>(5, 7, 2)), {.top_k = 2});
  auto loss = p.up(matrix_x<double>::Zero(1, 1));
  auto dscores = p.up(matrix_x<double>::Zero(4, 7));
  stiefelx::balance_loss(p.ctx, 0.25, routes, loss, dscores);
  BOOST_TEST(std::abs(p.down(loss)(0, 0) - 0.25) <= tolerance<double>(7));
  auto const empty =
      stiefelx::route(p.ctx, p.up(matrix_x<double>::Zero(5, 4)), p.up(matrix_x<double>(5, 0)), {});
  auto no_scores = p.up(matrix_x<double>(4, 0));
  stiefelx::balance_loss(p.ctx, 0.25, empty, loss, no_scores);
  BOOST_TEST(p.down(loss)(0, 0) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_way_of_counting_has_its_formula, Case, double_cases) {
  for (auto const& r : routings())
    for (balance_share share : shares)
      for (bool normalize : {false, true}) {
        index_t const tokens = r.scores.cols();
        auto const w = random_weights(tokens, 7);
        balance_options const options{.share = share, .normalize = normalize};
        auto const counts = counts_by_loops(r, w, share == balance_share::of_first_choices);
        double const expected = balance_by_loops(r, w, counts, options);
        auto const found = balance_of<Case>(r, w, options);
        BOOST_TEST(std::abs(found.loss - expected) <= tolerance<double>(tokens) * expected);
        auto const given = balance_of_counts<Case>(r, w, counts, options);
        BOOST_TEST(near(given.gradient, found.gradient, tolerance<double>(tokens), 1));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  for (auto const& r : routings())
    for (bool normalize : {false, true}) {
      if (r.scores.cols() > 100 || r.scores.rows() == 1) continue;
      auto const w = random_weights(r.scores.cols(), 8);
      auto const counts = counts_by_loops(r, w, false);
      balance_options const options{.normalize = normalize};
      auto const loss = [&](matrix_x<double> const& scores) {
        scored_routing moved = r;
        moved.scores = scores;
        return balance_of_counts<Case>(moved, w, counts, options).loss;
      };
      BOOST_TEST(is_gradient(loss, r.scores, balance_of<Case>(r, w, options).gradient, 3));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(uniform_values_tell_normalizers_apart, Case, double_cases) {
  // Eight tokens share eight experts, two a token, evenly.
  scored_routing r{8, matrix_x<double>::Zero(8, 8), matrix_x<int>(2, 8)};
  for (index_t t = 0; t < 8; ++t)
    r.ids.col(t) << static_cast<int>(t), static_cast<int>((t + 3) % 8);
  matrix_x<double> const w = matrix_x<double>::Ones(1, 8);
  double const alpha = 0.25, values[] = {alpha, 2 * alpha, alpha};
  for (int i = 0; i < 3; ++i) {
    auto const found = balance_of<Case>(r, w, {.share = shares[i]}, alpha);
    BOOST_TEST(std::abs(found.loss - values[i]) <= tolerance<double>(8));
    BOOST_TEST(near(found.gradient, matrix_x<double>::Zero(8, 8), tolerance<double>(8), alpha));
  }
  // All on one expert, surely: E times the uniform value.
  r.scores.row(3).setConstant(50);
  r.ids = matrix_x<int>::Constant(1, 8, 3);
  BOOST_TEST(std::abs(balance_of<Case>(r, w, {}, alpha).loss - 8 * alpha) <= tolerance<double>(8));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(null_experts_count_as_one_averaged_group, Case, double_cases) {
  // Uniform probabilities, and every choice a null expert's: the mean share of three is 1/3 each.
  scored_routing r{4, matrix_x<double>::Zero(7, 5), matrix_x<int>::Constant(2, 5, -1)};
  matrix_x<double> const w = matrix_x<double>::Ones(1, 5);
  auto const found = balance_of<Case>(r, w, {});
  BOOST_TEST(std::abs(found.loss - 1) <= tolerance<double>(5));
  // Each null expert is pushed down alike, each true one up alike.
  matrix_x<double> expected(7, 5);
  expected.topRows(4).setConstant(-1.0 / 35);
  expected.bottomRows(3).setConstant(4.0 / 105);
  BOOST_TEST(near(found.gradient, expected, tolerance<double>(7)));
  // What one null expert gains of another changes nothing.
  r = random_scores(4, 3, 40, 3, 5);
  auto swapped = r;
  swapped.scores.row(4).swap(swapped.scores.row(6));
  auto const before = balance_of<Case>(r, matrix_x<double>::Ones(1, 40), {});
  auto const after = balance_of<Case>(swapped, matrix_x<double>::Ones(1, 40), {});
  BOOST_TEST(std::abs(before.loss - after.loss) <= tolerance<double>(40) * before.loss);
  BOOST_TEST(near(before.gradient.row(4), after.gradient.row(6), tolerance<double>(40)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(orders_do_not_matter_and_padding_does_not_count, Case, double_cases) {
  for (auto const& r : routings())
    for (balance_share share : shares) {
      index_t const tokens = r.scores.cols();
      auto const w = random_weights(tokens, 9);
      auto const found = balance_of<Case>(r, w, {.share = share});
      std::vector<index_t> list(static_cast<std::size_t>(tokens));
      std::iota(list.rbegin(), list.rend(), 0);
      auto const turned = balance_of<Case>(r.tokens(list), w.rowwise().reverse(), {.share = share});
      BOOST_TEST(std::abs(turned.loss - found.loss) <= tolerance<double>(tokens) * found.loss);
      BOOST_TEST(
          near(turned.gradient.rowwise().reverse(), found.gradient, tolerance<double>(tokens), 1));

      list.assign(static_cast<std::size_t>(tokens), 0);
      std::iota(list.begin(), list.end(), 0);
      list.insert(list.begin() + 3, 1);  // a token of padding, whose numbers are not numbers
      auto padded = r.tokens(list);
      padded.scores.col(3).setConstant(std::nan(""));
      matrix_x<double> more(1, tokens + 1);
      more << w.leftCols(3), 0.0, w.rightCols(tokens - 3);
      auto const same_loss = balance_of<Case>(padded, more, {.share = share});
      BOOST_TEST(std::abs(same_loss.loss - found.loss) <= tolerance<double>(tokens) * found.loss);
      BOOST_TEST(same(same_loss.gradient.col(3), matrix_x<double>::Zero(r.scores.rows(), 1)));
      BOOST_TEST(near(same_loss.gradient.leftCols(3), found.gradient.leftCols(3),
                      tolerance<double>(tokens), 1));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(parts_with_shared_counts_make_up_the_whole, Case, double_cases) {
  auto const r = random_scores(5, 2, 30, 3, 6);
  auto const w = random_weights(30, 10);
  for (balance_share share : shares) {
    bool const first_only = share == balance_share::of_first_choices;
    balance_options const options{.share = share, .sum_of_parts = true};
    auto const whole = balance_of<Case>(r, w, {.share = share});
    auto const a = r.range(0, 11), b = r.range(11, 30);
    place<Case> p;
    auto counts = p.up(matrix_x<double>::Zero(7, 1));
    stiefelx::expert_counts(p.ctx, routing_on(p, a), p.up(w.leftCols(11)), counts, first_only);
    matrix_x<double> sum = p.down(counts);
    stiefelx::expert_counts(p.ctx, routing_on(p, b), p.up(w.rightCols(19)), counts, first_only);
    sum += p.down(counts);
    BOOST_TEST(near(sum, counts_by_loops(r, w, first_only), tolerance<double>(30)));
    auto const left = balance_of_counts<Case>(a, w.leftCols(11), sum, options);
    auto const right = balance_of_counts<Case>(b, w.rightCols(19), sum, options);
    BOOST_TEST(std::abs(left.loss + right.loss - whole.loss) <= tolerance<double>(30));
    BOOST_TEST(near(left.gradient, whole.gradient.leftCols(11), tolerance<double>(30), 1));
    BOOST_TEST(near(right.gradient, whole.gradient.rightCols(19), tolerance<double>(30), 1));
    // Means instead of sums: T_v of the part in place of T_v of the whole.
    double const ratio = w.sum() / w.leftCols(11).sum();
    auto const mean = balance_of_counts<Case>(a, w.leftCols(11), sum, {.share = share});
    BOOST_TEST(std::abs(mean.loss - ratio * left.loss) <= tolerance<double>(30) * mean.loss);
    BOOST_TEST(near(mean.gradient, ratio * left.gradient, tolerance<double>(30), 1));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(sequences_have_the_mean_of_their_losses, Case, double_cases) {
  auto const r = random_scores(5, 2, 30, 3, 7);
  auto const w = random_weights(30, 11);
  matrix_x<int> offsets(1, 5);
  offsets << 0, 4, 4, 17, 30;  // one sequence is empty
  for (balance_share share : shares) {
    place<Case> p;
    auto const found = run_loss(p, 7, 30, [&](auto& ctx, auto& loss, auto& dscores) {
      stiefelx::sequence_balance_loss(ctx, 1, routing_on(p, r), p.up(w), p.up(offsets), loss,
                                      dscores, {.share = share});
    });
    double sum = 0;
    for (index_t g = 0; g < 4; ++g) {
      index_t const first = offsets(0, g), count = offsets(0, g + 1) - first;
      auto const part = balance_of<Case>(r.range(first, first + count), w.middleCols(first, count),
                                         {.share = share}, 0.25);
      sum += part.loss;
      BOOST_TEST(
          near(found.gradient.middleCols(first, count), part.gradient, tolerance<double>(30), 1));
    }
    BOOST_TEST(std::abs(found.loss - sum) <= tolerance<double>(30) * sum);
  }
}

// --- gain ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(gains_multiply_weights_and_have_their_gradients, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const gain = random_matrix<S>(4, 1, 1), w = random_matrix<S>(2, 5, 2);
  matrix_x<S> const dc = random_matrix<S>(2, 5, 3);
  matrix_x<int> ids(2, 5);
  ids << 0, 3, 3, 0, 1, 1, 0, 1, 3, 0;  // expert 2 has no token
  matrix_x<S> c = w, dw = dc, dgain = matrix_x<S>::Constant(4, 1, S(0.5));
  for (index_t t = 0; t < 5; ++t)
    for (index_t i = 0; i < 2; ++i) {
      c(i, t) *= gain(ids(i, t), 0);
      dw(i, t) *= gain(ids(i, t), 0);
      dgain(ids(i, t), 0) += w(i, t) * dc(i, t);
    }
  auto const gains = p.up(gain);
  auto const experts = p.up(ids);
  auto weights = p.up(w);
  auto dweights = p.up(dc);
  auto sum = p.up(matrix_x<S>::Constant(4, 1, S(0.5)));
  stiefelx::apply_gain(p.ctx, gains, experts, weights);
  BOOST_TEST(same(p.down(weights), c));
  stiefelx::apply_gain_backward(p.ctx, gains, experts, p.up(w), dweights, sum);
  BOOST_TEST(same(p.down(dweights), dw));
  BOOST_TEST(near(p.down(sum), dgain, tolerance<S>(10)));
  BOOST_TEST(p.down(sum)(2, 0) == S(0.5));
}

// --- errors --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_shapes_are_named, Case, double_cases) {
  place<Case> p;
  auto const routes = stiefelx::route(p.ctx, p.up(random_matrix<double>(5, 4, 1)),
                                      p.up(random_matrix<double>(5, 6, 2)), {.top_k = 2});
  auto wrong = p.up(matrix_x<double>::Zero(3, 3));
  auto dscores = p.up(matrix_x<double>::Zero(4, 6)), dweights = p.up(matrix_x<double>::Zero(2, 6));
  BOOST_TEST(message_of([&] { stiefelx::balance_loss(p.ctx, 1, routes, wrong, dscores); }) ==
             "balance_loss: loss is 3x3, expected 1x1");
  auto loss = p.up(matrix_x<double>::Zero(1, 1));
  BOOST_TEST(message_of([&] { stiefelx::balance_loss(p.ctx, 1, routes, loss, wrong); }) ==
             "balance_loss: dscores is 3x3, expected 4x6");
  BOOST_TEST(message_of([&] { stiefelx::apply_gain(p.ctx, wrong, routes.ids, dweights); }) ==
             "apply_gain: gain is 3x3, expected 3x1");
  auto counts = p.up(matrix_x<double>::Zero(6, 1));
  auto offsets = p.up(matrix_x<int>::Zero(2, 2));
  stiefelx::every_token const all;
  BOOST_TEST(message_of([&] { stiefelx::balance_loss(p.ctx, 1, routes, wrong, loss, dscores); }) ==
             "balance_loss: w is 3x3, expected 1x6");
  BOOST_TEST(message_of([&] { stiefelx::expert_counts(p.ctx, routes, all, wrong); }) ==
             "expert_counts: counts is 3x3, expected 6x1");
  BOOST_TEST(message_of([&] {
               stiefelx::balance_loss_of_counts(p.ctx, 1, routes, all, wrong, loss, dscores);
             }) == "balance_loss_of_counts: counts is 3x3, expected 6x1");
  BOOST_TEST(message_of([&] {
               stiefelx::sequence_balance_loss(p.ctx, 1, routes, all, offsets, loss, dscores);
             }) == "sequence_balance_loss: offsets is 2x2, expected 1x2");
  auto gain = p.up(matrix_x<double>::Zero(4, 1));
  BOOST_TEST(message_of([&] { stiefelx::apply_gain(p.ctx, gain, routes.ids, wrong); }) ==
             "apply_gain: weights is 3x3, expected 2x6");
  BOOST_TEST(message_of([&] {
               stiefelx::apply_gain_backward(p.ctx, gain, routes.ids, dweights, dweights, wrong);
             }) == "apply_gain_backward: dgain is 3x3, expected 4x1");
}

BOOST_AUTO_TEST_SUITE_END()
