// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The balance loss against its formula, and the experts' gain with its gradients.

#include <cmath>
#include <stdexcept>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::router_options;

router_options const choices[] = {{.top_k = 0},
                                  {.top_k = 2},
                                  {.top_k = 1, .renormalize = false},
                                  {.top_k = 4, .renormalize = false}};

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
  auto gain = p.up(matrix_x<double>::Zero(4, 1));
  BOOST_TEST(message_of([&] { stiefelx::apply_gain(p.ctx, gain, routes.ids, wrong); }) ==
             "apply_gain: weights is 3x3, expected 2x6");
  BOOST_TEST(message_of([&] {
               stiefelx::apply_gain_backward(p.ctx, gain, routes.ids, dweights, dweights, wrong);
             }) == "apply_gain_backward: dgain is 3x3, expected 4x1");
}

BOOST_AUTO_TEST_SUITE_END()
