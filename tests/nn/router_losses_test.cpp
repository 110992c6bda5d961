// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Losses of the router beside balance: z-loss, importance, localised balancing, variance of scores.

#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <nn/scored_routing.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/localized_balance.hpp>
#include <stiefelx/nn/score_variance_loss.hpp>
#include <stiefelx/nn/z_loss.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using number = long double;

/// Samples of a routing for localised balancing.
struct typed_samples {
  matrix_x<int> offsets, experts, samples;
  double delta;
};

/// Three samples of T tokens and two types; experts take turns.
typed_samples samples_of(scored_routing const& r, double delta) {
  auto const tokens = static_cast<int>(r.scores.cols());
  typed_samples s{matrix_x<int>(1, 4), matrix_x<int>(r.experts, 1), matrix_x<int>(1, 3), delta};
  s.offsets << 0, tokens / 3, tokens / 2, tokens;
  s.samples << 0, 1, 0;
  for (index_t e = 0; e < r.experts; ++e) s.experts(e, 0) = e % 2 == 0 ? 0 : 1;
  return s;
}

/// A loss of a routing and token weights: as the library computes it, and by its formula.
template <class Case>
struct routed_loss {
  char const* name;
  std::function<loss_and_gradient(scored_routing const&, matrix_x<double> const&)> library;
  std::function<number(scored_routing const&, matrix_x<double> const&)> formula;
};

number variation(std::vector<number> const& a, number epsilon = 0) {
  auto const n = static_cast<number>(a.size());
  number mean = 0, square = 0;
  for (number x : a) mean += x / n;
  for (number x : a) square += (x - mean) * (x - mean);
  return n > 1 && mean != 0 ? square / (n - 1) / (mean * mean + epsilon) : 0;
}

number z_by_loops(scored_routing const& r, matrix_x<double> const& w) {
  number sum = 0, weight = 0;
  for (index_t t = 0; t < r.scores.cols(); ++t) {
    number z = 0;
    for (index_t e = 0; e < r.scores.rows(); ++e) z += std::exp(number(r.scores(e, t)));
    sum += w(0, t) * std::log(z) * std::log(z);
    weight += w(0, t);
  }
  return sum / weight;
}

std::vector<number> sums_by_loops(scored_routing const& r, matrix_x<double> const& w, index_t first,
                                  index_t end) {
  auto const p = r.probabilities();
  std::vector<number> sums(static_cast<std::size_t>(r.experts), 0);
  for (index_t t = first; t < end; ++t)
    for (index_t e = 0; e < r.experts; ++e) sums[static_cast<std::size_t>(e)] += w(0, t) * p(e, t);
  return sums;
}

number localized_by_loops(scored_routing const& r, matrix_x<double> const& w,
                          typed_samples const& s) {
  std::vector<number> z;
  for (index_t m = 0; m < 3; ++m) {
    auto const q = sums_by_loops(r, w, s.offsets(0, m), s.offsets(0, m + 1));
    for (index_t e = 0; e < r.experts; ++e) {
      number const sign = s.experts(e, 0) == s.samples(0, m) ? 1 : -1;
      z.push_back((1 + sign * s.delta) * q[static_cast<std::size_t>(e)]);
    }
  }
  return variation(z, 1e-10L);
}

number score_variance_by_loops(scored_routing const& r, matrix_x<double> const& w) {
  auto const p = r.probabilities();
  number sum = 0, weight = 0;
  for (index_t t = 0; t < p.cols(); ++t) weight += w(0, t);
  auto const sums = sums_by_loops(r, w, 0, p.cols());
  for (index_t t = 0; t < p.cols(); ++t)
    for (index_t e = 0; e < r.experts; ++e) {
      number const d = p(e, t) - sums[static_cast<std::size_t>(e)] / weight;
      sum += w(0, t) * d * d;
    }
  return -sum / (weight * static_cast<number>(r.experts));
}

/// Every loss with a gradient at the scores.
template <class Case>
std::vector<routed_loss<Case>> losses() {
  auto const with = [](auto const& call) {
    return [call](scored_routing const& r, matrix_x<double> const& w) {
      place<Case> p;
      return run_loss(p, r.scores.rows(), r.scores.cols(), [&](auto& ctx, auto& loss, auto& ds) {
        call(ctx, r, p, routing_on(p, r), p.up(w), loss, ds);
      });
    };
  };
  return {
      {"z",
       with([](auto& ctx, auto const& r, auto& p, auto const&, auto const& w, auto& l, auto& ds) {
         stiefelx::z_loss(ctx, 1, p.up(r.scores), w, l, ds);
       }),
       z_by_loops},
      {"importance",
       with([](auto& ctx, auto const&, auto&, auto const& routes, auto const& w, auto& l,
               auto& ds) { stiefelx::importance_loss(ctx, 1, routes, w, l, ds); }),
       [](scored_routing const& r, matrix_x<double> const& w) {
         return variation(sums_by_loops(r, w, 0, r.scores.cols()));
       }},
      {"localized",
       with([](auto& ctx, auto const& r, auto& p, auto const& routes, auto const& w, auto& l,
               auto& ds) {
         auto const s = samples_of(r, 0.2);
         stiefelx::localized_balance_loss(ctx, 1, routes, w, p.up(s.offsets), p.up(s.experts),
                                          p.up(s.samples), l, ds, {.delta = s.delta});
       }),
       [](scored_routing const& r, matrix_x<double> const& w) {
         return localized_by_loops(r, w, samples_of(r, 0.2));
       }},
      {"variance",
       with([](auto& ctx, auto const&, auto&, auto const& routes, auto const& w, auto& l,
               auto& ds) { stiefelx::score_variance_loss(ctx, 1, routes, w, l, ds); }),
       score_variance_by_loops},
  };
}

/// The gradient of importance_loss_of_gates() at the gate weights.
template <class Case>
loss_and_gradient gate_importance(scored_routing const& r, matrix_x<double> const& gates,
                                  matrix_x<double> const& w) {
  place<Case> p;
  return run_loss(p, r.ids.rows(), r.ids.cols(), [&](auto& ctx, auto& loss, auto& dweights) {
    auto routes = routing_on(p, r);
    routes.weights = p.up(gates);
    stiefelx::importance_loss_of_gates(ctx, 1, routes, p.up(w), loss, dweights);
  });
}

std::vector<scored_routing> routings() {
  std::vector<scored_routing> all{random_scores(5, 0, 9, 2, 1), random_scores(4, 3, 12, 3, 2),
                                  random_scores(1, 0, 6, 1, 3), random_scores(5, 2, 600, 4, 4)};
  all.push_back(all[0]);
  all.back().kind = score_kind::sigmoid;
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(router_losses)

BOOST_AUTO_TEST_CASE_TEMPLATE(losses_are_their_formulas, Case, double_cases) {
  for (auto const& r : routings())
    for (auto const& l : losses<Case>())
      BOOST_TEST_CONTEXT(l.name << ", " << r.scores.rows() << " experts") {
        auto const w = random_weights(r.scores.cols(), 5);
        auto const expected = static_cast<double>(l.formula(r, w));
        BOOST_TEST(std::abs(l.library(r, w).loss - expected) <=
                   tolerance<double>(r.scores.cols()) * std::max(std::abs(expected), 1e-3));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  for (auto const& r : routings())
    for (auto const& l : losses<Case>())
      BOOST_TEST_CONTEXT(l.name << ", " << r.scores.rows() << " experts") {
        auto const w = random_weights(r.scores.cols(), 6);
        auto const gradient = l.library(r, w).gradient;
        if (r.scores.rows() ==
            1) {  // differences of a square are exact; one expert is all there is
          bool const square = l.name == std::string("z");
          matrix_x<double> const expected = (square ? 2 : 0) * w.cwiseProduct(r.scores) / w.sum();
          BOOST_TEST(near(gradient, expected, tolerance<double>(6), 1));
          continue;
        }
        auto const value = [&](matrix_x<double> const& scores) {
          scored_routing moved = r;
          moved.scores = scores;
          return static_cast<double>(l.formula(moved, w));
        };
        BOOST_TEST(is_gradient(value, r.scores, gradient, 7));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(orders_do_not_matter_and_padding_does_not_count, Case, double_cases) {
  for (auto const& r : routings())
    for (auto const& l : losses<Case>())
      BOOST_TEST_CONTEXT(l.name << ", " << r.scores.rows() << " experts") {
        index_t const tokens = r.scores.cols(), cut = tokens - 2;
        auto const w = random_weights(tokens, 8);
        auto const found = l.library(r, w);
        double const bound = tolerance<double>(tokens);
        // Two tokens of the last sample.
        std::vector<index_t> list(static_cast<std::size_t>(tokens));
        std::iota(list.begin(), list.end(), 0);
        std::swap(list[static_cast<std::size_t>(cut)], list.back());
        matrix_x<double> moved = w;
        std::swap(moved(0, cut), moved(0, tokens - 1));
        auto const turned = l.library(r.tokens(list), moved);
        BOOST_TEST(std::abs(turned.loss - found.loss) <= bound);
        BOOST_TEST(near(turned.gradient.col(cut), found.gradient.col(tokens - 1), bound, 1));

        auto padded = r;
        padded.scores.col(cut).setConstant(std::nan(""));
        moved = w;
        moved(0, cut) = 0;
        auto const without = l.library(padded, moved);
        auto quiet = r;
        quiet.scores.col(cut).setZero();
        BOOST_TEST(std::abs(without.loss - static_cast<double>(l.formula(quiet, moved))) <= bound);
        BOOST_TEST(same(without.gradient.col(cut), matrix_x<double>::Zero(r.scores.rows(), 1)));
        BOOST_TEST(l.library(r, matrix_x<double>::Zero(1, tokens)).loss == 0);
        BOOST_TEST(l.library(r.range(0, 0), matrix_x<double>(1, 0)).loss == 0);
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(closed_forms_at_uniform_and_collapsed_routers, Case, double_cases) {
  scored_routing r{4, matrix_x<double>::Zero(4, 8), matrix_x<int>::Zero(1, 8)};
  matrix_x<double> const w = matrix_x<double>::Ones(1, 8);
  auto const all = losses<Case>();
  double const bound = tolerance<double>(8), log4 = std::log(4.0);
  BOOST_TEST(std::abs(all[0].library(r, w).loss - log4 * log4) <= bound);
  BOOST_TEST(std::abs(all[1].library(r, w).loss) <= bound);
  BOOST_TEST(std::abs(all[3].library(r, w).loss) <= bound);
  // A number that is added to all scores of a token moves the z-loss alone.
  r.scores.setConstant(2);
  BOOST_TEST(std::abs(all[0].library(r, w).loss - (2 + log4) * (2 + log4)) <= bound);
  BOOST_TEST(std::abs(all[1].library(r, w).loss) <= bound);
  // One expert has it all: mean T/4, deviations 3T/4, -T/4: CV^2 is E.
  r.scores.setZero();
  r.scores.row(1).setConstant(60);
  BOOST_TEST(std::abs(all[1].library(r, w).loss - 4) <= bound);
  BOOST_TEST(std::abs(all[3].library(r, w).loss) <= bound);
  // Sharp and balanced: the least variance loss, -(1 - 1/E) / E.
  r.scores.setZero();
  for (index_t t = 0; t < 8; ++t) r.scores(t % 4, t) = 60;
  BOOST_TEST(std::abs(all[3].library(r, w).loss + 0.1875) <= bound);
  // Huge scores overflow no exponential.
  r.scores.setConstant(1000);
  BOOST_TEST(std::abs(all[0].library(r, w).loss / ((1000 + log4) * (1000 + log4)) - 1) <= bound);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(localized_balance_weighs_types, Case, double_cases) {
  // Two experts, two samples of one token: Z is constant where the other type has (1 + d)/(1 - d)
  // times the probability of the own one.
  double const delta = 0.25, ratio = std::log((1 + delta) / (1 - delta));
  scored_routing r{2, matrix_x<double>::Zero(2, 2), matrix_x<int>::Zero(1, 2)};
  r.scores(1, 0) = ratio;
  r.scores(0, 1) = ratio;
  matrix_x<int> offsets(1, 3), experts(2, 1), samples(1, 2);
  offsets << 0, 1, 2;
  experts << 7, 9;
  samples << 7, 9;
  place<Case> p;
  auto const of = [&](double d) {
    return run_loss(p, 2, 2, [&](auto& ctx, auto& loss, auto& ds) {
      stiefelx::localized_balance_loss(ctx, 1, routing_on(p, r), stiefelx::every_token{},
                                       p.up(offsets), p.up(experts), p.up(samples), loss, ds,
                                       {.delta = d, .epsilon = 0});
    });
  };
  BOOST_TEST(of(delta).loss <= tolerance<double>(4));
  BOOST_TEST(near(of(delta).gradient, matrix_x<double>::Zero(2, 2), tolerance<double>(4), 1));
  BOOST_TEST(of(-delta).loss > 0.1);
  // Z = 1 +- d at a uniform router, each twice: variance d^2 4/3 over a squared mean of 1.
  r.scores.setZero();
  BOOST_TEST(std::abs(of(delta).loss - delta * delta * 4 / 3) <= tolerance<double>(4));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gate_importance_is_its_formula_with_its_gradient, Case,
                              double_cases) {
  auto r = random_scores(4, 0, 300, 2, 9);
  r.ids(1, 4) = -1;
  auto const w = random_weights(300, 10);
  matrix_x<double> const gates = random_weights(600, 11).reshaped(2, 300);
  auto const formula = [&](matrix_x<double> const& c) {
    std::vector<number> sums(4, 0);
    for (index_t t = 0; t < 300; ++t)
      for (index_t i = 0; i < 2; ++i)
        if (r.ids(i, t) >= 0) sums[static_cast<std::size_t>(r.ids(i, t))] += w(0, t) * c(i, t);
    return static_cast<double>(variation(sums));
  };
  auto const found = gate_importance<Case>(r, gates, w);
  BOOST_TEST(std::abs(found.loss - formula(gates)) <= tolerance<double>(300) * formula(gates));
  BOOST_TEST(found.gradient(1, 4) == 0);
  BOOST_TEST(is_gradient(formula, gates, found.gradient, 12));
  // Larger gates do not change a ratio, and their gradient falls by as much.
  auto const twice = gate_importance<Case>(r, 2 * gates, w);
  BOOST_TEST(std::abs(twice.loss - found.loss) <= tolerance<double>(300) * found.loss);
  BOOST_TEST(near(2 * twice.gradient, found.gradient, tolerance<double>(300), 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(variation_of_given_loads, Case, double_cases) {
  place<Case> p;
  auto loss = p.up(matrix_x<double>::Zero(1, 1));
  matrix_x<double> loads(1, 3);
  loads << 1, 2, 6;  // mean 3, variance 7
  auto dloads = p.up(matrix_x<double>::Constant(1, 3, std::nan("")));
  stiefelx::variation_loss(p.ctx, 2, p.up(loads), loss, dloads);
  BOOST_TEST(std::abs(p.down(loss)(0, 0) - 14.0 / 9) <= tolerance<double>(3));
  matrix_x<double> expected(1, 3);  // 2 (2 (a - 3) / (2 9) - 2 7 3 / (3 81))
  expected << 2 * (-2.0 / 9 - 14.0 / 81), 2 * (-1.0 / 9 - 14.0 / 81), 2 * (3.0 / 9 - 14.0 / 81);
  BOOST_TEST(near(p.down(dloads), expected, tolerance<double>(3)));
  auto one = p.up(matrix_x<double>::Zero(1, 1));
  stiefelx::variation_loss(p.ctx, 2, p.up(matrix_x<double>::Constant(1, 1, 5)), loss, one);
  BOOST_TEST(p.down(loss)(0, 0) == 0);
  BOOST_TEST(p.down(one)(0, 0) == 0);
  stiefelx::variation_loss(p.ctx, 2, p.up(matrix_x<double>::Zero(1, 3)), loss, dloads);
  BOOST_TEST(p.down(loss)(0, 0) == 0);
  BOOST_TEST(same(p.down(dloads), matrix_x<double>::Zero(1, 3)));
  loads(0, 1) = std::nan("");
  stiefelx::variation_loss(p.ctx, 2, p.up(loads), loss, dloads);
  BOOST_TEST(std::isnan(p.down(loss)(0, 0)));
  BOOST_TEST(p.down(dloads).array().isNaN().all());
}

BOOST_AUTO_TEST_CASE(sums_have_the_same_bits_for_any_number_of_threads) {
  auto const r = random_scores(5, 0, 1700, 2, 14);
  auto const w = random_weights(1700, 15);
  place<test_case<host_backend, double>> p;
  auto const routes = routing_on(p, r);
  matrix_x<double> losses(1, 3), gradient = matrix_x<double>::Zero(5, 1700);
  matrix_x<double> first_losses, first_gradient;
  for (int threads : {1, 2, 3}) {
    stiefelx::host::context ctx({.threads = threads});
    gradient.setZero();
    stiefelx::z_loss(ctx, 1, r.scores, w, losses.middleCols(0, 1), gradient);
    stiefelx::importance_loss(ctx, 1, routes, w, losses.middleCols(1, 1), gradient);
    stiefelx::score_variance_loss(ctx, 1, routes, w, losses.middleCols(2, 1), gradient);
    if (threads == 1) first_losses = losses;
    if (threads == 1) first_gradient = gradient;
    BOOST_TEST(same(losses, first_losses));
    BOOST_TEST(same(gradient, first_gradient));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto const r = random_scores(4, 0, 6, 2, 13);
  auto const routes = routing_on(p, r);
  auto scores = p.up(random_matrix<double>(4, 12, 1));
  auto loss = p.up(matrix_x<double>::Zero(1, 1)), wrong = p.up(matrix_x<double>::Zero(3, 3));
  auto ds = p.up(matrix_x<double>::Zero(4, 6));
  auto offsets = p.up(matrix_x<int>::Zero(1, 3)), types = p.up(matrix_x<int>::Zero(4, 1));
  auto samples = p.up(matrix_x<int>::Zero(1, 2));
  stiefelx::every_token const all;
  auto const z = [&](auto const& w, auto& l, auto&& d) {
    return message_of([&] { stiefelx::z_loss(p.ctx, 1, scores.middleCols(0, 6), w, l, d); });
  };
  BOOST_TEST(z(wrong, loss, ds) == "z_loss: w is 3x3, expected 1x6");
  BOOST_TEST(z(all, wrong, ds) == "z_loss: loss is 3x3, expected 1x1");
  BOOST_TEST(z(all, loss, wrong) == "z_loss: dscores is 3x3, expected 4x6");
  BOOST_TEST(z(all, loss, scores.middleCols(5, 6)) ==
             "z_loss: dscores overlaps scores, expected separate memory");
  BOOST_TEST(message_of([&] { stiefelx::importance_loss(p.ctx, 1, routes, all, loss, wrong); }) ==
             "importance_loss: dscores is 3x3, expected 4x6");
  BOOST_TEST(message_of([&] {
               stiefelx::importance_loss_of_gates(p.ctx, 1, routes, all, loss, ds);
             }) == "importance_loss_of_gates: dweights is 4x6, expected 2x6");
  BOOST_TEST(message_of([&] { stiefelx::variation_loss(p.ctx, 1, wrong, loss, ds); }) ==
             "variation_loss: dloads is 4x6, expected 3x3");
  BOOST_TEST(message_of([&] { stiefelx::score_variance_loss(p.ctx, 1, routes, all, wrong, ds); }) ==
             "score_variance_loss: loss is 3x3, expected 1x1");
  auto const localized = [&](auto const& o, auto const& e, auto const& s, double delta) {
    return message_of([&] {
      stiefelx::localized_balance_loss(p.ctx, 1, routes, all, o, e, s, loss, ds, {.delta = delta});
    });
  };
  std::string const name = "localized_balance_loss: ";
  BOOST_TEST(localized(types, types, samples, 0.1) == name + "offsets is 4x1, expected 1x1");
  BOOST_TEST(localized(offsets, samples, samples, 0.1) ==
             name + "expert_types is 1x2, expected 4x1");
  BOOST_TEST(localized(offsets, types, offsets, 0.1) == name + "sample_types is 1x3, expected 1x2");
  BOOST_TEST(localized(offsets, types, samples, 1) ==
             name + "delta is 1.000000, expected a number in (-1, 1)");
}

BOOST_AUTO_TEST_SUITE_END()
