// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The short form of routing, with softmax of all experts or of the k best, and its gradients.

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/router.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::router_options;

// One backend a scalar, since the bodies are the same text on both: choices in float, whose
// rounding they have to stand, gradients in double.
using choice_cases = std::tuple<test_case<host_backend, float>>;
using gradient_cases = std::tuple<test_case<archetype_backend, double>>;

/// A routing, downloaded.
template <class S>
struct decision {
  matrix_x<S> probabilities, weights;
  matrix_x<int> ids;
};

template <class Case, class Routes>
decision<typename Case::scalar> read(place<Case>& p, Routes const& routes) {
  return {p.down(routes.probabilities), p.down(routes.weights), p.down(routes.ids)};
}

template <class Case>
decision<typename Case::scalar> run_route(matrix_x<typename Case::scalar> const& router,
                                          matrix_x<typename Case::scalar> const& x,
                                          router_options options) {
  place<Case> p;
  return read(p, stiefelx::route(p.ctx, p.up(router), p.up(x), options));
}

/// A decision for given scores: the router is the identity.
template <class Case>
decision<typename Case::scalar> run_scores(matrix_x<typename Case::scalar> const& scores,
                                           router_options options) {
  using S = typename Case::scalar;
  return run_route<Case>(matrix_x<S>::Identity(scores.rows(), scores.rows()), scores, options);
}

/// Softmax of a set of numbers, in long double.
std::vector<long double> softmax(std::vector<long double> const& scores) {
  long double sum = 0;
  std::vector<long double> p;
  for (long double s : scores) sum += p.emplace_back(std::exp(s));
  for (long double& q : p) q /= sum;
  return p;
}

router_options const choices[] = {{.top_k = 0},
                                  {.top_k = 2},
                                  {.top_k = 2, .renormalize = false},
                                  {.top_k = 1, .renormalize = false},
                                  {.top_k = 4},
                                  {.top_k = 4, .renormalize = false}};

std::string text_of(router_options o) {
  return "top_k = " + std::to_string(o.top_k) + (o.renormalize ? ", renormalized" : "");
}

}  // namespace

BOOST_AUTO_TEST_SUITE(router)

// --- forward -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(weights_are_softmax_of_all_or_of_the_chosen, Case, real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const router = random_matrix<S>(6, 4, 1), x = random_matrix<S>(6, 9, 2);
  matrix_x<long double> const scores =
      loop_product(loop_adjoint(loop_cast<long double>(router)), loop_cast<long double>(x));
  // A score of size s is off by eps s, and so is its exponential, relatively.
  double const bound = tolerance<S>(6, 1 + static_cast<double>(scores.cwiseAbs().maxCoeff()));
  for (router_options options : choices) {
    BOOST_TEST_CONTEXT(text_of(options)) {
      auto const d = run_route<Case>(router, x, options);
      matrix_x<long double> p(4, 9), w(d.ids.rows(), 9);
      for (index_t t = 0; t < 9; ++t) {
        auto const all = softmax({scores(0, t), scores(1, t), scores(2, t), scores(3, t)});
        for (index_t e = 0; e < 4; ++e) p(e, t) = all[static_cast<std::size_t>(e)];
        std::vector<long double> listed;
        for (index_t i = 0; i < w.rows(); ++i) {
          listed.push_back(scores(d.ids(i, t), t));
          w(i, t) = p(d.ids(i, t), t);
        }
        if (!options.renormalize) continue;
        auto const chosen = softmax(listed);
        for (index_t i = 0; i < w.rows(); ++i) w(i, t) = chosen[static_cast<std::size_t>(i)];
      }
      BOOST_TEST(near(d.probabilities, p, bound));
      BOOST_TEST(near(d.weights, w, bound));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(experts_are_listed_by_falling_score, Case, choice_cases) {
  using S = typename Case::scalar;
  matrix_x<S> scores(4, 5);
  scores << 1, 2, -3, 0, 5,  //
      4, 2, -1, 0, 5,        //
      2, 3, -1, 0, 4,        //
      3, 2, -2, 0, 5;
  matrix_x<int> three(3, 5), all(4, 5);
  three << 1, 2, 1, 0, 0,  //
      3, 0, 2, 1, 1,       //
      2, 1, 3, 2, 3;
  all << 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3;
  BOOST_TEST(same(run_scores<Case>(scores, {.top_k = 3}).ids, three));
  BOOST_TEST(same(run_scores<Case>(scores, {.top_k = 3, .renormalize = false}).ids, three));
  BOOST_TEST(same(run_scores<Case>(scores, {}).ids, all));
  auto const sorted = run_scores<Case>(scores, {.top_k = 4}).ids;
  BOOST_TEST(same(sorted.topRows(3), three));
  BOOST_TEST(sorted(3, 0) == 0);
  BOOST_TEST(sorted(3, 4) == 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(near_ties_are_decided_by_score_not_by_probability, Case,
                              choice_cases) {
  using S = typename Case::scalar;
  // These scores differ in the last digit and their exponentials are equal after rounding.
  matrix_x<S> scores(3, 1);
  scores << S(0.001), std::nextafter(S(0.001), S(1)), S(0.001);
  BOOST_TEST(run_scores<Case>(scores, {.top_k = 2}).ids(0, 0) == 1);
  BOOST_TEST(run_scores<Case>(scores, {.top_k = 2}).ids(1, 0) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(large_scores_do_not_overflow, Case, choice_cases) {
  using S = typename Case::scalar;
  matrix_x<S> scores(3, 2);
  scores << S(-1e30), S(-2e30), S(1e30), S(-1e30), S(1e30), S(-1e30);
  auto const d = run_scores<Case>(scores, {});
  matrix_x<S> expected(3, 2);
  expected << 0, 0, S(0.5), S(0.5), S(0.5), S(0.5);
  BOOST_TEST(same(d.weights, expected));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(scores_that_are_not_numbers_give_valid_ids, Case, choice_cases) {
  using S = typename Case::scalar;
  S const nan = std::numeric_limits<S>::quiet_NaN(), inf = std::numeric_limits<S>::infinity();
  matrix_x<S> scores(4, 6);
  scores << nan, 1, nan, nan, inf, -inf,  //
      nan, nan, 2, inf, nan, -inf,        //
      nan, 3, 1, nan, inf, nan,           //
      nan, 2, nan, 0, -inf, -inf;
  for (index_t k : {0, 2, 3, 4}) {
    place<Case> p;
    auto router = zeros<S>(p.ctx, 4, 4);
    set_identity(p.ctx, router);
    // The product would spread a NaN, so the body runs on the scores themselves.
    auto probabilities = p.up(scores);
    index_t const chosen = k == 0 ? 4 : k;
    auto weights = p.up(matrix_x<S>::Zero(chosen, 6));
    auto ids = p.up(matrix_x<int>::Constant(chosen, 6, -1));
    router_options const options{.top_k = k, .renormalize = k != 1};
    auto const nothing = scratch<double>(p.ctx, 0, 0);
    run_batch(p.ctx, 6, stiefelx::token_choice_body{options.choice(4), options.gates(), 4}, nothing,
              nothing, probabilities, weights, ids);
    matrix_x<int> const found = p.down(ids);
    for (index_t t = 0; t < 6; ++t) {
      std::vector<int> seen(4, 0);
      for (index_t i = 0; i < chosen; ++i) {
        BOOST_TEST_REQUIRE(found(i, t) >= 0);
        BOOST_TEST_REQUIRE(found(i, t) < 4);
        BOOST_TEST(++seen[static_cast<std::size_t>(found(i, t))] == 1);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(edges_of_the_sizes_are_routed, Case, choice_cases) {
  using S = typename Case::scalar;
  auto const none = run_route<Case>(random_matrix<S>(3, 4, 1), matrix_x<S>(3, 0), {.top_k = 2});
  BOOST_TEST(none.ids.rows() == 2);
  BOOST_TEST(none.ids.cols() == 0);
  for (index_t k : {0, 1}) {
    auto const one =
        run_route<Case>(random_matrix<S>(3, 1, 1), random_matrix<S>(3, 5, 2), {.top_k = k});
    BOOST_TEST(same(one.weights, matrix_x<S>::Ones(1, 5)));
    BOOST_TEST(same(one.ids, matrix_x<int>::Zero(1, 5)));
  }
  auto const nobody = run_route<Case>(matrix_x<S>(3, 0), random_matrix<S>(3, 5, 2), {});
  BOOST_TEST(nobody.ids.rows() == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(permuted_tokens_are_routed_alike, Case, choice_cases) {
  using S = typename Case::scalar;
  matrix_x<S> const router = random_matrix<S>(6, 4, 1), x = random_matrix<S>(6, 5, 2);
  Eigen::PermutationMatrix<Eigen::Dynamic> turn(5);
  turn.indices() << 3, 0, 4, 2, 1;
  for (router_options options : choices) {
    auto const a = run_route<Case>(router, x, options);
    auto const b = run_route<Case>(router, x * turn, options);
    BOOST_TEST(same(b.ids, a.ids * turn));
    BOOST_TEST(near(b.weights, a.weights * turn, tolerance<S>(6)));
    BOOST_TEST(near(b.probabilities, a.probabilities * turn, tolerance<S>(6)));
  }
}

// --- backward ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, gradient_cases) {
  matrix_x<double> const router = random_matrix<double>(5, 4, 3),
                         x = random_matrix<double>(5, 6, 4);
  for (router_options options : choices) {
    matrix_x<double> const c = random_matrix<double>(options.top_k == 0 ? 4 : options.top_k, 6, 5);
    auto const base = run_route<Case>(router, x, options);
    auto const loss = [&](matrix_x<double> const& w, matrix_x<double> const& tokens) {
      place<Case> p;
      auto const routes = stiefelx::route(p.ctx, p.up(w), p.up(tokens), options);
      auto const d = read(p, routes);
      BOOST_TEST_REQUIRE(same(d.ids, base.ids));
      return wave_loss(c, d.weights);
    };
    place<Case> p;
    auto const w = p.up(router);
    auto const tokens = p.up(x);
    auto const routes = stiefelx::route(p.ctx, w, tokens, options);
    auto dscores = p.up(matrix_x<double>::Constant(4, 6, std::nan("")));
    auto drouter = p.up(matrix_x<double>::Zero(5, 4));
    auto dx = p.up(matrix_x<double>::Constant(5, 6, std::nan("")));
    stiefelx::gate_backward(p.ctx, routes, p.up(wave_gradient(c, base.weights)), dscores);
    stiefelx::router_backward(p.ctx, w, tokens, dscores, drouter, 0, dx);
    BOOST_TEST_CONTEXT(text_of(options)) {
      BOOST_TEST_CONTEXT("router")
      BOOST_TEST(is_gradient([&](auto const& moved) { return loss(moved, x); }, router,
                             p.down(drouter), 6, 7));
      BOOST_TEST_CONTEXT("x")
      BOOST_TEST(
          is_gradient([&](auto const& moved) { return loss(router, moved); }, x, p.down(dx), 7, 7));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(experts_out_of_choice_get_no_renormalized_gradient, Case,
                              gradient_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  auto const routes = stiefelx::route(p.ctx, p.up(random_matrix<S>(5, 4, 1)),
                                      p.up(random_matrix<S>(5, 6, 2)), {.top_k = 2});
  auto dscores = p.up(matrix_x<S>::Constant(4, 6, S(9)));
  stiefelx::gate_backward(p.ctx, routes, p.up(random_matrix<S>(2, 6, 3)), dscores);
  matrix_x<int> const ids = p.down(routes.ids);
  matrix_x<S> const found = p.down(dscores);
  for (index_t t = 0; t < 6; ++t)
    for (int e = 0; e < 4; ++e) {
      bool const chosen = ids(0, t) == e || ids(1, t) == e;
      BOOST_TEST((found(e, t) == S(0)) == !chosen);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_router_accumulates_and_dx_takes_beta, Case, gradient_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const router = random_matrix<S>(5, 4, 1), x = random_matrix<S>(5, 6, 2);
  matrix_x<S> const ds = random_matrix<S>(4, 6, 3);
  auto const w = p.up(router);
  auto const tokens = p.up(x);
  auto const dscores = p.up(ds);
  matrix_x<S> const g = loop_product(x, loop_adjoint(ds)), own = loop_product(router, ds);
  S const nan = std::numeric_limits<S>::quiet_NaN();
  for (double beta : {0.0, 1.0, 0.5}) {
    auto drouter = p.up(matrix_x<S>::Constant(5, 4, S(0.5)));
    auto dx = p.up(matrix_x<S>::Constant(5, 6, beta == 0 ? nan : S(3)));
    stiefelx::router_backward(p.ctx, w, tokens, dscores, drouter, beta, dx);
    matrix_x<S> const expected = own + matrix_x<S>::Constant(5, 6, static_cast<S>(3 * beta));
    BOOST_TEST(near(p.down(dx), expected, tolerance<S>(4)));
    stiefelx::router_backward(p.ctx, w, tokens, dscores, drouter, beta, dx);
    matrix_x<S> const sum = matrix_x<S>::Constant(5, 4, S(0.5)) + S(2) * g;
    BOOST_TEST(near(p.down(drouter), sum, tolerance<S>(6)));
  }
}

// --- errors --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_options_and_shapes_are_named, Case, gradient_cases) {
  place<Case> p;
  auto const router = p.up(random_matrix<double>(5, 4, 1));
  auto const x = p.up(random_matrix<double>(5, 6, 2));
  auto wrong = p.up(matrix_x<double>::Zero(3, 3));
  auto dx = p.up(matrix_x<double>::Zero(5, 6));
  auto drouter = p.up(matrix_x<double>::Zero(5, 4));
  auto dscores = p.up(matrix_x<double>::Zero(4, 6));
  auto const text = [](auto const& f) { return message_of(f); };
  BOOST_TEST(text([&] { (void)stiefelx::route(p.ctx, router, x, {.top_k = 1}); }) ==
             "route: top_k is 1, expected more than 1 with renormalize, since a single weight of 1 "
             "has no gradient");
  for (index_t k : {-1, 5})
    BOOST_TEST(text([&] { (void)stiefelx::route(p.ctx, router, x, {.top_k = k}); }) ==
               "route: top_k is " + std::to_string(k) +
                   ", expected a number from 0 (all) to the number of experts");
  BOOST_TEST(text([&] { (void)stiefelx::route(p.ctx, wrong, x); }) ==
             "route: router is 3x3, expected 5x3");
  auto const routes = stiefelx::route(p.ctx, router, x, {.top_k = 2});
  auto dweights = p.up(matrix_x<double>::Zero(2, 6));
  BOOST_TEST(text([&] { stiefelx::gate_backward(p.ctx, routes, wrong, dscores); }) ==
             "gate_backward: dweights is 3x3, expected 2x6");
  BOOST_TEST(text([&] { stiefelx::gate_backward(p.ctx, routes, dweights, wrong); }) ==
             "gate_backward: dscores is 3x3, expected 4x6");
  auto const backward = [&](auto const& w, auto const& ds, auto& dw, auto& out) {
    return text([&] { stiefelx::router_backward(p.ctx, w, x, ds, dw, 0, out); });
  };
  BOOST_TEST(backward(wrong, dscores, drouter, dx) ==
             "router_backward: router is 3x3, expected 5x3");
  BOOST_TEST(backward(router, wrong, drouter, dx) ==
             "router_backward: dscores is 3x3, expected 4x6");
  BOOST_TEST(backward(router, dscores, wrong, dx) ==
             "router_backward: drouter is 3x3, expected 5x4");
  BOOST_TEST(backward(router, dscores, drouter, wrong) ==
             "router_backward: dx is 3x3, expected 5x6");
}

BOOST_AUTO_TEST_SUITE_END()
