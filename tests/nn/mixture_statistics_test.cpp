// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is measured of a routing and of the outputs of a token's experts.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <nn/scored_routing.hpp>
#include <stiefelx/nn/mixture_statistics.hpp>
#include <stiefelx/nn/routing_statistics.hpp>
#include <stiefelx/nn/token_grams.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::every_token;
using stiefelx::mixing;
using stiefelx::mixing_options;
using stiefelx::rank_layout;

/// What measure_routing() finds, on the host.
struct routing_figures {
  matrix_x<double> load, probability;
  double null_share, entropy_of_mean, mean_entropy, largest_load, dead, tokens;
};

template <class Case>
routing_figures measured(scored_routing const& r, matrix_x<double> const& w,
                         double dead_below = 0.1) {
  place<Case> p;
  stiefelx::routing_statistics s(p.ctx, r.experts, r.scores.rows() - r.experts);
  // Twice, since all is overwritten.
  for (int call = 0; call < 2; ++call)
    stiefelx::measure_routing(p.ctx, routing_on(p, r), p.up(w), s, {.dead_below = dead_below});
  auto const one = [&](auto const& a) { return p.down(a)(0, 0); };
  return {p.down(s.load),      p.down(s.probability), one(s.null_share),   one(s.entropy_of_mean),
          one(s.mean_entropy), one(s.largest_load),   one(s.dead_experts), one(s.tokens)};
}

routing_figures by_loops(scored_routing const& r, matrix_x<double> const& w) {
  using number = long double;
  auto const p = r.probabilities();
  number weight = 0, choices = 0, nulls = 0, entropy = 0, of_mean = 0;
  std::vector<number> count(static_cast<std::size_t>(r.experts), 0);
  std::vector<number> mean(static_cast<std::size_t>(p.rows()), 0);
  for (index_t t = 0; t < p.cols(); ++t) {
    number z = 0;
    for (index_t e = 0; e < p.rows(); ++e) z += p(e, t);
    weight += w(0, t);
    for (index_t e = 0; e < p.rows(); ++e) {
      mean[static_cast<std::size_t>(e)] += w(0, t) * p(e, t) / z;
      entropy -= w(0, t) * p(e, t) / z * std::log(p(e, t) / z);
    }
    for (index_t i = 0; i < r.choices(); ++i) {
      bool const filled = i < r.ids.rows() && r.ids(i, t) >= 0;
      if (filled) count[static_cast<std::size_t>(r.ids(i, t))] += w(0, t);
      if (!filled && p.rows() > r.experts) nulls += w(0, t);
    }
  }
  routing_figures f{matrix_x<double>(1, r.experts), matrix_x<double>(1, p.rows()), 0, 0, 0, 0, 0,
                    static_cast<double>(weight)};
  choices = nulls;
  for (number c : count) choices += c;
  for (index_t e = 0; e < p.rows(); ++e) {
    number const q = mean[static_cast<std::size_t>(e)] / weight;
    f.probability(0, e) = static_cast<double>(q);
    of_mean -= q * std::log(q);
  }
  for (index_t e = 0; e < r.experts; ++e) {
    f.load(0, e) = static_cast<double>(count[static_cast<std::size_t>(e)] / choices);
    f.dead += f.load(0, e) * static_cast<double>(r.experts) < 0.1 ? 1 : 0;
  }
  f.null_share = static_cast<double>(nulls / choices);
  f.entropy_of_mean = static_cast<double>(of_mean);
  f.mean_entropy = static_cast<double>(entropy / weight);
  f.largest_load = f.load.maxCoeff() * static_cast<double>(r.experts);
  return f;
}

/// Outputs of T tokens' experts in listed slots.
struct listed_outputs {
  matrix_x<double> e;        ///< d x (k T)
  matrix_x<int> ids;         ///< k x T
  matrix_x<double> w;        ///< 1 x T
  matrix_x<double> squares;  ///< k x T, the eigenvalues of the Gram matrices
};

/// Tokens whose outputs in filled slots are Q diag(s) V^T with orthonormal Q and V and random s, so
/// that the eigenvalues are known; a slot of id -1 holds a large number.
void fill_outputs(listed_outputs& o, index_t t, std::uint64_t seed) {
  index_t const k = o.ids.rows();
  std::vector<index_t> slots;
  for (index_t i = 0; i < k; ++i)
    if (o.ids(i, t) >= 0) slots.push_back(t * k + i);
  auto const m = static_cast<index_t>(slots.size());
  matrix_x<double> const q = orthonormal_frame<double>(o.e.rows(), m, seed);
  matrix_x<double> const v = orthonormal_frame<double>(m, m, seed + 1);
  o.e.middleCols(t * k, k).setConstant(50);
  o.squares.col(t).setZero();
  numbers draw(seed + 2);
  for (index_t j = 0; j < m; ++j) o.squares(j, t) = std::exp(draw.normal());
  for (index_t i = 0; i < m; ++i)
    for (index_t row = 0; row < o.e.rows(); ++row) {
      double sum = 0;
      for (index_t j = 0; j < m; ++j) sum += q(row, j) * std::sqrt(o.squares(j, t)) * v(i, j);
      o.e(row, slots[static_cast<std::size_t>(i)]) = sum;
    }
}

listed_outputs random_outputs(index_t d, index_t k, index_t tokens, std::uint64_t seed) {
  listed_outputs o{matrix_x<double>(d, k * tokens), matrix_x<int>(k, tokens),
                   random_weights(tokens, seed), matrix_x<double>(k, tokens)};
  for (index_t t = 0; t < tokens; ++t) {
    for (index_t i = 0; i < k; ++i) o.ids(i, t) = static_cast<int>((t + i) % (k + 1));
    fill_outputs(o, t, seed + 10 * static_cast<std::uint64_t>(t));
  }
  return o;
}

matrix_x<double> grams_of(listed_outputs const& o) {
  index_t const k = o.ids.rows();
  matrix_x<double> g(k * k, o.ids.cols());
  for (index_t t = 0; t < o.ids.cols(); ++t)
    for (index_t i = 0; i < k; ++i)
      for (index_t j = 0; j < k; ++j) g(i + j * k, t) = o.e.col(t * k + i).dot(o.e.col(t * k + j));
  return g;
}

/// similarity before and after, effective rank, participation ratio, redundancy, guarded.
template <class Case>
matrix_x<double> measured(listed_outputs const& o, mixing_options options) {
  place<Case> p;
  stiefelx::mixture_statistics s(p.ctx);
  for (int call = 0; call < 2; ++call)
    stiefelx::measure_mixture(p.ctx, p.up(grams_of(o)), p.up(o.ids), p.up(o.w), s, options);
  matrix_x<double> all(6, 1);
  all << p.down(s.similarity_before), p.down(s.similarity_after), p.down(s.effective_rank),
      p.down(s.participation_ratio), p.down(s.redundancy), p.down(s.guarded);
  return all;
}

/// The same from the outputs: known eigenvalues, and modified Gram-Schmidt on vectors.
matrix_x<double> by_vectors(listed_outputs const& o, mixing kind, double guard) {
  index_t const k = o.ids.rows();
  double before = 0, after = 0, pairs = 0, pairs_after = 0, rank = 0, ratio = 0, ranked = 0;
  double energy = 0, rest = 0, guarded = 0, filled = 0;
  auto const add_cosines = [](matrix_x<double> const& a, double w, double& sum, double& count) {
    for (index_t j = 0; j < a.cols(); ++j)
      for (index_t i = 0; i < j; ++i) {
        double const lengths = a.col(i).norm() * a.col(j).norm();
        if (lengths > 0) sum += w * std::abs(a.col(i).dot(a.col(j))) / lengths;
        if (lengths > 0) count += w;
      }
  };
  for (index_t t = 0; t < o.ids.cols(); ++t) {
    double const w = o.w(0, t);
    std::vector<index_t> slots;
    for (index_t i = 0; i < k; ++i)
      if (o.ids(i, t) >= 0) slots.push_back(t * k + i);
    matrix_x<double> e(o.e.rows(), static_cast<index_t>(slots.size()));
    for (index_t i = 0; i < e.cols(); ++i) e.col(i) = o.e.col(slots[static_cast<std::size_t>(i)]);
    if (w == 0 || e.cols() == 0) continue;
    add_cosines(e, w, before, pairs);
    matrix_x<double> v = e;
    for (index_t i = 0; i < e.cols(); ++i) {
      for (index_t j = 0; j < i; ++j)
        if (v.col(j).norm() > guard * e.col(j).norm())
          v.col(i) -= v.col(j) * (v.col(j).dot(v.col(i)) / v.col(j).squaredNorm());
      guarded += v.col(i).norm() > guard * e.col(i).norm() ? 0 : w;
      filled += w;
    }
    energy += w * e.squaredNorm();
    rest += w * v.squaredNorm();
    add_cosines(kind == mixing::none ? e : v, w, after, pairs_after);
    if (e.norm() == 0) continue;
    double entropy = 0, square = 0;
    for (index_t i = 0; i < k; ++i) {
      double const q = o.squares(i, t) / o.squares.col(t).sum();
      if (q > 0) entropy -= q * std::log(q);
      square += q * q;
    }
    rank += w * std::exp(entropy);
    ratio += w / square;
    ranked += w;
  }
  matrix_x<double> all(6, 1);
  auto const mean = [](double sum, double count) { return count > 0 ? sum / count : 0; };
  all << mean(before, pairs), mean(after, pairs_after), mean(rank, ranked), mean(ratio, ranked),
      (energy > 0 ? 1 - rest / energy : 0), mean(guarded, filled);
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(mixture_statistics)

// --- routing -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(routing_statistics_are_their_formulas, Case, double_cases) {
  for (auto r : {random_scores(5, 0, 9, 2, 1), random_scores(4, 3, 400, 3, 2),
                 random_scores(2, 4, 6, 4, 3), random_scores(12, 0, 11, 2, 4)})
    for (score_kind kind : {score_kind::softmax, score_kind::sigmoid}) {
      r.kind = kind;
      auto const w = random_weights(r.scores.cols(), 5);
      auto const found = measured<Case>(r, w), expected = by_loops(r, w);
      double const bound = tolerance<double>(r.scores.cols());
      BOOST_TEST(near(found.load, expected.load, bound));
      BOOST_TEST(near(found.probability, expected.probability, bound));
      BOOST_TEST(std::abs(found.null_share - expected.null_share) <= bound);
      BOOST_TEST(std::abs(found.entropy_of_mean - expected.entropy_of_mean) <= bound);
      BOOST_TEST(std::abs(found.mean_entropy - expected.mean_entropy) <= bound);
      BOOST_TEST(std::abs(found.largest_load - expected.largest_load) <= 5 * bound);
      BOOST_TEST(found.dead == expected.dead);
      BOOST_TEST(std::abs(found.tokens - expected.tokens) <= bound * expected.tokens);
      BOOST_TEST(found.mean_entropy <= found.entropy_of_mean + bound);
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(uniform_and_collapsed_routers_have_known_figures, Case,
                              double_cases) {
  scored_routing r{4, matrix_x<double>::Zero(4, 8), matrix_x<int>(1, 8)};
  r.ids << 0, 1, 2, 3, 0, 1, 2, 3;
  matrix_x<double> const w = matrix_x<double>::Ones(1, 8);
  double const bound = tolerance<double>(8);
  auto found = measured<Case>(r, w);
  BOOST_TEST(near(found.load, matrix_x<double>::Constant(1, 4, 0.25), bound));
  BOOST_TEST(std::abs(found.entropy_of_mean - std::log(4.0)) <= bound);
  BOOST_TEST(std::abs(found.mean_entropy - std::log(4.0)) <= bound);
  BOOST_TEST(std::abs(found.largest_load - 1) <= bound);
  BOOST_TEST(found.dead == 0);
  // Sharp and balanced: the tokens' entropies vanish, that of the mean stays.
  for (index_t t = 0; t < 8; ++t) r.scores(t % 4, t) = 900;
  found = measured<Case>(r, w);
  BOOST_TEST(std::abs(found.entropy_of_mean - std::log(4.0)) <= bound);
  BOOST_TEST(found.mean_entropy == 0);
  r.scores.setZero();
  r.scores.row(2).setConstant(900);
  r.ids.setConstant(2);
  found = measured<Case>(r, w);
  BOOST_TEST(found.entropy_of_mean == 0);
  BOOST_TEST(found.largest_load == 4);
  BOOST_TEST(found.dead == 3);
  BOOST_TEST(measured<Case>(r, w, 0).dead == 0);
  found = measured<Case>(r.range(0, 0), w.leftCols(0));
  BOOST_TEST(same(found.load, matrix_x<double>::Zero(1, 4)));
  BOOST_TEST(found.tokens == 0);
  BOOST_TEST(found.dead == 4);
  // A token of padding changes nothing, whatever it holds.
  r = random_scores(4, 2, 8, 3, 6);
  matrix_x<double> masked = w;
  masked(0, 7) = 0;
  auto const fewer = measured<Case>(r.range(0, 7), w.leftCols(7));
  r.scores(1, 7) = std::nan("");
  auto const padded = measured<Case>(r, masked);
  BOOST_TEST(near(padded.load, fewer.load, bound));
  BOOST_TEST(std::abs(padded.mean_entropy - fewer.mean_entropy) <= bound);
}

// --- outputs -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(mixture_statistics_agree_with_the_outputs, Case, double_cases) {
  for (mixing kind : {mixing::none, mixing::orthogonal, mixing::orthonormal})
    for (index_t k : {1, 2, 4, 7}) {
      auto o = random_outputs(9, k, 12, 7);
      if (k > 2) {
        o.ids(1, 3) = -1;
        fill_outputs(o, 3, 99);
        o.ids.col(5).setConstant(-1);
        fill_outputs(o, 5, 99);
        // A zero output beside others: their Gram matrix is that of the others.
        o.ids(2, 7) = -1;
        fill_outputs(o, 7, 99);
        o.ids(2, 7) = 0;
        o.e.col(7 * k + 2).setZero();
        o.e.middleCols(9 * k, k).setZero();
        o.w(0, 11) = 0;
      }
      // A guard that some of the remainders fall below.
      double const guard = 0.7;
      BOOST_TEST(near(measured<Case>(o, {.kind = kind, .guard = guard}), by_vectors(o, kind, guard),
                      tolerance<double>(9, 10)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(equal_and_orthogonal_outputs_have_known_figures, Case, double_cases) {
  double const bound = tolerance<double>(8);
  matrix_x<double> expected(6, 1);
  listed_outputs o{3 * orthonormal_frame<double>(8, 6, 1),
                   matrix_x<int>::Zero(3, 2),
                   matrix_x<double>::Ones(1, 2),
                   {}};
  expected << 0, 0, 3, 3, 0, 0;
  BOOST_TEST(near(measured<Case>(o, {}), expected, bound));
  for (index_t i = 1; i < 6; ++i) o.e.col(i) = -o.e.col(0);
  // All but the first are guarded, and their remainders are rounding: nothing is to be said of
  // the cosines between them.
  auto const equal = measured<Case>(o, {});
  expected << 1, equal(1, 0), 1, 1, 2.0 / 3, 2.0 / 3;
  BOOST_TEST(near(equal, expected, bound));
  // The size of the outputs does not matter.
  auto large = random_outputs(8, 3, 5, 2), small = large;
  large.e *= 1e60;
  small.e *= 1e-60;
  BOOST_TEST(near(measured<Case>(large, {}), measured<Case>(small, {}), tolerance<double>(8, 10)));
  // Loewdin's vectors are orthogonal whatever the outputs are.
  BOOST_TEST(measured<Case>(small, {.kind = mixing::symmetric})(1, 0) <= tolerance<double>(8, 100));
  large.e.setZero();
  expected << 0, 0, 0, 0, 0, 1;
  BOOST_TEST(same(measured<Case>(large, {}), expected));
  listed_outputs const none{
      matrix_x<double>(8, 0), matrix_x<int>(3, 0), matrix_x<double>(1, 0), {}};
  BOOST_TEST(same(measured<Case>(none, {}), matrix_x<double>::Zero(6, 1)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(grams_come_from_either_layout, Case, mixed_cases) {
  using S = typename Case::scalar;
  index_t const experts = 4, rank = 3, tokens = 6, k = 2;
  matrix_x<S> const h = random_matrix<S>(experts * rank, tokens, 8);
  matrix_x<double> const up = random_matrix<double>(experts * rank, 7, 9);
  matrix_x<double> const moments = loop_product(up, loop_adjoint(up));
  matrix_x<int> ids(k, tokens);
  ids << 2, 0, 3, 1, -1, 2, 1, 3, -1, 0, -1, 3;
  matrix_x<S> slots = matrix_x<S>::Constant(k * rank, tokens, S(std::nanf("")));
  matrix_x<double> expected = matrix_x<double>::Zero(k * k, tokens);
  for (index_t t = 0; t < tokens; ++t) {
    matrix_x<double> e = matrix_x<double>::Zero(7, k);
    for (index_t i = 0; i < k; ++i) {
      if (ids(i, t) < 0) continue;
      index_t const first = ids(i, t) * rank;
      slots.block(i * rank, t, rank, 1) = h.block(first, t, rank, 1);
      for (index_t row = 0; row < 7; ++row)
        for (index_t q = first; q < first + rank; ++q)
          e(row, i) += up(q, row) * static_cast<double>(h(q, t));
    }
    for (index_t i = 0; i < k * k; ++i) expected(i, t) = e.col(i % k).dot(e.col(i / k));
  }
  place<Case> p;
  auto const listed = p.up(ids);
  auto const blocks = p.up(moments);
  auto grams = p.up(matrix_x<double>::Constant(k * k, tokens, std::nan("")));
  stiefelx::token_grams(p.ctx, p.up(slots), listed, blocks, rank, grams);
  BOOST_TEST(near(p.down(grams), expected, tolerance<double>(12)));
  fill(p.ctx, 0, grams);
  stiefelx::token_grams(p.ctx, p.up(h), listed, blocks, rank, grams, rank_layout::by_expert);
  BOOST_TEST(near(p.down(grams), expected, tolerance<double>(12)));
  fill(p.ctx, 0, grams);
  auto down = p.up(matrix_x<S>::Zero(5, experts * rank)), bank = p.up(up.cast<S>());
  stiefelx::token_grams(p.ctx, stiefelx::lora_experts(down, bank, experts, 1), p.up(slots), listed,
                        grams);
  BOOST_TEST(near(p.down(grams), expected, tolerance<S>(12)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_of_statistics_are_named, Case, double_cases) {
  place<Case> p;
  auto const routes = routing_on(p, random_scores(4, 1, 6, 2, 9));
  auto wrong = p.up(matrix_x<double>::Zero(3, 3)), grams = p.up(matrix_x<double>::Zero(4, 6));
  auto const moments = p.up(matrix_x<double>::Zero(12, 12));
  stiefelx::routing_statistics few(p.ctx, 3, 2), no_null(p.ctx, 4), s(p.ctx, 4, 1);
  stiefelx::mixture_statistics m(p.ctx);
  auto const measure = [&](auto& statistics, auto const& w, double dead_below) {
    return message_of(
        [&] { stiefelx::measure_routing(p.ctx, routes, w, statistics, {dead_below}); });
  };
  every_token const all;
  BOOST_TEST(measure(few, all, 0) == "measure_routing: statistics.load is 1x3, expected 1x4");
  BOOST_TEST(measure(no_null, all, 0) ==
             "measure_routing: statistics.probability is 1x4, expected 1x5");
  BOOST_TEST(measure(s, wrong, 0) == "measure_routing: w is 3x3, expected 1x6");
  BOOST_TEST(measure(s, all, -1) ==
             "measure_routing: dead_below is -1.000000, expected a number of at least 0");
  auto const mixture = [&](auto const& g, double guard) {
    return message_of(
        [&] { stiefelx::measure_mixture(p.ctx, g, routes.ids, all, m, {.guard = guard}); });
  };
  BOOST_TEST(mixture(wrong, 0) == "measure_mixture: token_grams is 3x3, expected 4x6");
  BOOST_TEST(mixture(grams, 1) ==
             "measure_mixture: guard is 1.000000, expected a number in [0, 1)");
  auto const make = [&](auto const& h, auto const& c, auto& g) {
    return message_of([&] { stiefelx::token_grams(p.ctx, h, routes.ids, c, 3, g); });
  };
  auto const h = p.up(matrix_x<double>::Zero(6, 6));
  BOOST_TEST(make(h, grams, grams) == "token_grams: moments is 4x6, expected 4x4");
  BOOST_TEST(make(wrong, moments, grams) == "token_grams: h is 3x3, expected 6x6");
  BOOST_TEST(make(h, moments, wrong) == "token_grams: grams is 3x3, expected 4x6");
}

BOOST_AUTO_TEST_SUITE_END()
