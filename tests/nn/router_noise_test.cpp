// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Noise of scores: its law, its bits, its learned size and the gradient of that.

#include <cmath>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/random.hpp>
#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::noisy_top_k;
using matrix = matrix_x<double>;
using spot = place<test_case<archetype_backend, double>>;
using fast_spot = place<test_case<host_backend, double>>;  // many draws

constexpr index_t width = 5, experts = 4, tokens = 6;

/// A chance of 1e-9 to be farther off, for a mean of many independent numbers (normal law).
constexpr double six_deviations = 6.2;

/// What noise adds to zero scores.
template <class Spot>
matrix noise_of(Spot& p, stiefelx::random_stream stream, double deviation, index_t rows,
                index_t cols) {
  auto scores = p.up(matrix::Zero(rows, cols));
  stiefelx::add_score_noise(p.ctx, stream, deviation, scores);
  return p.down(scores);
}

double normal_share(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

}  // namespace

BOOST_AUTO_TEST_SUITE(router_noise)

BOOST_AUTO_TEST_CASE(noise_has_mean_zero_and_the_given_deviation) {
  fast_spot p;
  constexpr double n = 8 * 4096, deviation = 0.3;
  matrix const e = noise_of(p, {5, 7}, deviation, 8, 4096) / deviation;
  // The mean of n squares has variance 2 / n, that of fourth powers 96 / n.
  BOOST_TEST(std::abs(e.mean()) < six_deviations / std::sqrt(n));
  BOOST_TEST(std::abs(e.array().square().mean() - 1) < six_deviations * std::sqrt(2 / n));
  BOOST_TEST(std::abs(e.array().pow(4).mean() - 3) < six_deviations * std::sqrt(96 / n));
  // Neither experts nor tokens share noise.
  matrix const across = e * e.transpose() / 4096.0;
  for (index_t i = 0; i < 8; ++i)
    for (index_t j = 0; j < i; ++j)
      BOOST_TEST(std::abs(across(i, j)) < six_deviations / std::sqrt(4096.0));
  double const along = (e.leftCols(4095).array() * e.rightCols(4095).array()).mean();
  BOOST_TEST(std::abs(along) < six_deviations / std::sqrt(8 * 4095.0));
}

BOOST_AUTO_TEST_CASE(the_better_expert_wins_as_often_as_the_normal_law_says) {
  fast_spot p;
  constexpr index_t draws = 20000;
  constexpr double gap = 0.5, deviation = 0.8;
  matrix scores = matrix::Zero(2, draws);
  scores.row(1).setConstant(gap);
  auto const routes = stiefelx::route_scores(p.ctx, p.up(scores),
                                             noisy_top_k{.k = 1,
                                                         .training = true,
                                                         .stream = {3, 0},
                                                         .deviation = deviation,
                                                         .renormalize = false});
  auto const wins = static_cast<double>((p.down(routes.ids).array() == 1).count());
  double const share = normal_share(gap / (deviation * std::sqrt(2.0)));
  double const spread = std::sqrt(share * (1 - share) / draws);
  BOOST_TEST(std::abs(wins / draws - share) < six_deviations * spread);
}

BOOST_AUTO_TEST_CASE(noise_is_a_function_of_seed_and_offset) {
  spot p;
  matrix const scores = random_matrix<double>(experts, tokens, 1);
  auto const run = [&](stiefelx::random_stream stream) {
    return p.down(
        stiefelx::route_scores(p.ctx, p.up(scores), noisy_top_k{.training = true, .stream = stream})
            .probabilities);
  };
  BOOST_TEST(same(run({1, 2}), run({1, 2})));
  BOOST_TEST(!same(run({1, 2}), run({1, 3})));
  BOOST_TEST(!same(run({1, 2}), run({2, 2})));
  // The numbers are those of the library's generator.
  stiefelx::random_stream stream{1, 2};
  auto normal = p.up(matrix::Zero(experts, tokens));
  fill_normal(p.ctx, stream, 0.7, normal);
  BOOST_TEST(same(noise_of(p, {1, 2}, 0.7, experts, tokens), p.down(normal)));
}

BOOST_AUTO_TEST_CASE(there_is_no_noise_where_no_training_is_asked) {
  spot p;
  auto const scores = p.up(random_matrix<double>(experts, tokens, 1));
  auto const u = p.up(random_matrix<double>(experts, tokens, 2));
  auto const plain = stiefelx::route_scores(p.ctx, scores, stiefelx::top_k{.k = 3});
  auto const quiet =
      stiefelx::route_scores(p.ctx, scores, noisy_top_k{.k = 3}, stiefelx::noise_scale(u));
  auto const zero =
      stiefelx::route_scores(p.ctx, scores, noisy_top_k{.k = 3, .training = true, .deviation = 0});
  BOOST_TEST(same(p.down(quiet.ids), p.down(plain.ids)));
  BOOST_TEST(same(p.down(quiet.weights), p.down(plain.weights)));
  BOOST_TEST(same(p.down(zero.weights), p.down(plain.weights)));
  auto du = p.up(matrix::Ones(experts, tokens));
  stiefelx::noise_scale_backward(p.ctx, quiet, u, scores, du);
  BOOST_TEST(same(p.down(du), matrix::Zero(experts, tokens)));
}

BOOST_AUTO_TEST_CASE(learned_noise_is_the_noise_times_softplus) {
  spot p;
  matrix u = random_matrix<double>(experts, tokens, 2);
  u(0, 0) = 800;   // exp overflows
  u(1, 0) = -40;   // 1 + exp rounds to 1
  u(2, 0) = -800;  // exp is zero
  auto scores = p.up(matrix::Zero(experts, tokens));
  stiefelx::add_score_noise(p.ctx, {4, 1}, 0.5, p.up(u), scores);
  matrix expected = noise_of(p, {4, 1}, 0.5, experts, tokens);
  matrix const found = p.down(scores);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t e = 0; e < experts; ++e) {
      auto const x = static_cast<long double>(u(e, t));
      long double const softplus = std::max(x, 0.0L) + std::log1p(std::exp(-std::abs(x)));
      auto const exact = static_cast<double>(expected(e, t) * softplus);
      BOOST_TEST(std::abs(found(e, t) - exact) <= tolerance<double>(1) * std::abs(exact));
    }
}

BOOST_AUTO_TEST_CASE(gradients_reach_both_weights_and_the_input) {
  matrix const w = random_matrix<double>(width, experts, 1),
               x = random_matrix<double>(width, tokens, 2),
               v = random_matrix<double>(width, experts, 3),
               c = random_matrix<double>(2, tokens, 4);
  noisy_top_k const choice{.training = true, .stream = {9, 4}, .deviation = 0.6};
  spot p;
  auto const router = p.up(w), noise = p.up(v), input = p.up(x);
  auto const u = stiefelx::router_scores(p.ctx, noise, input);
  auto const routes = stiefelx::route(p.ctx, router, input, choice, stiefelx::noise_scale(u));
  matrix_x<int> const ids = p.down(routes.ids);
  auto dscores = p.up(matrix::Zero(experts, tokens)), du = p.up(matrix::Zero(experts, tokens));
  auto dw = p.up(matrix::Zero(width, experts)), dv = p.up(matrix::Zero(width, experts));
  auto dx = p.up(matrix::Zero(width, tokens));
  stiefelx::gate_backward(p.ctx, routes, p.up(wave_gradient(c, p.down(routes.weights))), dscores);
  stiefelx::noise_scale_backward(p.ctx, routes, u, dscores, du);
  stiefelx::router_backward(p.ctx, router, input, dscores, dw, 0, dx);
  stiefelx::router_backward(p.ctx, noise, input, du, dv, 1, dx);

  auto const loss = [&](matrix const& a, matrix const& b, matrix const& y) {
    spot q;
    auto const in = q.up(y);
    auto const scores = stiefelx::router_scores(q.ctx, q.up(a), in);
    auto const size = stiefelx::router_scores(q.ctx, q.up(b), in);
    return wave_loss(c, q.down(stiefelx::route_replay(q.ctx, scores, q.up(ids), choice,
                                                      stiefelx::noise_scale(size))
                                   .weights));
  };
  BOOST_TEST(is_gradient([&](matrix const& m) { return loss(m, v, x); }, w, p.down(dw), 5, 6));
  BOOST_TEST(is_gradient([&](matrix const& m) { return loss(w, m, x); }, v, p.down(dv), 6, 6));
  BOOST_TEST(is_gradient([&](matrix const& m) { return loss(w, v, m); }, x, p.down(dx), 7, 6));
}

BOOST_AUTO_TEST_SUITE_END()
