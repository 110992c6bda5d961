// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each policy removes for an expert, from the inputs that were routed to the others.

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/expert_projectors.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "expert_oracle.hpp"

namespace {

using namespace support;

/// Both backends and both scalars.
using cases = std::tuple<test_case<host_backend, float>, test_case<archetype_backend, double>>;

using stiefelx::expert_assignment;
using stiefelx::expert_bank;
using stiefelx::expert_layout;
using stiefelx::expert_projectors_options;
using stiefelx::observed_inputs;
using stiefelx::projector_policy;

constexpr projector_policy policies[] = {projector_policy::mean, projector_policy::joint,
                                         projector_policy::product, projector_policy::low_rank};

/// What an optimizer's projectors do to the identity, for expert e.
template <class Case, class Projectors>
matrix_x<typename Case::scalar> removal_of(place<Case>& p, Projectors const& all, index_t e) {
  using S = typename Case::scalar;
  auto y = p.up(matrix_x<S>::Identity(all.dimension(), all.dimension()));
  all.remove(p.ctx, e, y, y);
  return p.down(y);
}

/// Tokens, two experts each of three, and gate weights.
template <class S>
struct routed_tokens {
  matrix_x<S> x = random_matrix<S>(6, 9, 11);
  matrix_x<int> ids = matrix_x<int>(2, 9);
  matrix_x<S> weights = random_matrix<S>(2, 9, 12).cwiseAbs();

  routed_tokens() {
    for (index_t t = 0; t < 9; ++t)
      ids.col(t) << static_cast<int>(t % 3), static_cast<int>(2 - t % 2);
    for (index_t t = 0; t < 9; ++t)
      if (ids(0, t) == ids(1, t)) ids(1, t) = 0;
  }

  /// Columns whose sum of x x^T is what expert e's S should be.
  matrix_x<double> columns(observed_inputs how, index_t e, bool own_rows) const {
    matrix_x<double> all(own_rows ? 2 : 6, 0), mean = matrix_x<double>::Zero(all.rows(), 1);
    double total = 0;
    for (index_t t = 0; t < 9; ++t) {
      for (index_t i = 0; i < 2; ++i) {
        if (ids(i, t) != e) continue;
        double const c = static_cast<double>(weights(i, t));
        matrix_x<double> const token =
            x.col(t).segment(own_rows ? 2 * e : 0, all.rows()).template cast<double>();
        mean += c * token;
        total += c;
        matrix_x<double> const before = all;
        all.resize(all.rows(), before.cols() + 1);
        all << before, std::sqrt(c) * token;
      }
    }
    return how == observed_inputs::every ? all : matrix_x<double>(mean / total);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(expert_projectors)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_policy_applies_its_formula_to_routed_tokens, Case, cases) {
  using S = typename Case::scalar;
  routed_tokens<S> const batch;
  for (projector_policy policy : policies) {
    for (observed_inputs how : {observed_inputs::mean, observed_inputs::every}) {
      for (bool own_rows : {false, true}) {
        if (own_rows && policy == projector_policy::low_rank && how == observed_inputs::every)
          continue;  // the inputs span more than the cap keeps
        place<Case> p;
        expert_bank const bank{3, own_rows ? expert_layout::stacked : expert_layout::side_by_side};
        index_t const d = own_rows ? 2 : 6;
        auto const like = p.up(matrix_x<S>::Zero(6, 3));
        stiefelx::expert_projectors all(
            p.ctx, like, bank,
            {.policy = policy, .inputs = how, .alpha = 0.4, .rank = own_rows ? 1 : 5});
        BOOST_TEST(all.dimension() == d);
        auto const shares = expert_assignment(p.ctx, p.up(batch.ids), p.up(batch.weights), 3);
        all.observe(p.ctx, p.up(batch.x), shares);
        std::vector<matrix_x<double>> inputs;
        for (index_t e = 0; e < 3; ++e) inputs.push_back(batch.columns(how, e, own_rows));
        bool const cut =
            policy == projector_policy::low_rank && (how == observed_inputs::every || own_rows);
        for (index_t e = 0; e < 3 && !cut; ++e)
          BOOST_TEST_CONTEXT("policy " << int(policy) << ", how " << int(how) << ", expert " << e)
        BOOST_TEST(near(removal_of(p, all, e),
                        exact_removal(policy, inputs, static_cast<std::size_t>(e), 0.4),
                        tolerance<S>(18, 8)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_expert_s_own_inputs_are_those_of_its_tokens, Case, cases) {
  using S = typename Case::scalar;
  routed_tokens<S> const batch;
  for (projector_policy policy : policies) {
    for (observed_inputs how : {observed_inputs::mean, observed_inputs::every}) {
      place<Case> p;
      auto const like = p.up(matrix_x<S>::Zero(6, 3));
      expert_projectors_options const o{.policy = policy, .inputs = how, .rank = 5};
      stiefelx::expert_projectors routed(p.ctx, like, {3}, o), given(p.ctx, like, {3}, o);
      routed.observe(p.ctx, p.up(batch.x),
                     expert_assignment(p.ctx, p.up(batch.ids), p.up(batch.weights), 3,
                                       stiefelx::token_share::one));
      for (index_t e = 0; e < 3; ++e) {
        matrix_x<S> own(6, 0);
        for (index_t t = 0; t < 9; ++t) {
          if (batch.ids(0, t) != e && batch.ids(1, t) != e) continue;
          matrix_x<S> const before = own;
          own.resize(6, before.cols() + 1);
          own << before, batch.x.col(t);
        }
        given.observe(p.ctx, e, p.up(own));
        given.observe(p.ctx, e, p.up(matrix_x<S>(6, 0)));
      }
      // The cut of low_rank sees blocks in another order; the directions it drops are weak here.
      if (policy == projector_policy::low_rank && how == observed_inputs::every) continue;
      for (index_t e = 0; e < 3; ++e)
        BOOST_TEST(near(removal_of(p, routed, e), removal_of(p, given, e), tolerance<S>(18, 8)));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(tokens_of_no_expert_are_skipped, Case, double_cases) {
  place<Case> p;
  matrix_x<int> ids(2, 3);
  ids << 0, -1, 1, 7, 1, 1;
  matrix_x<double> weights(2, 3), expected(2, 3), ones(2, 3);
  weights << 0.5, 0.25, 0.125, 2, 3, 4;
  expected << 0.5, 0, 0, 0, 3, 4.125;
  ones << 1, 0, 0, 0, 1, 1;
  auto const list = p.up(ids);
  auto const gates = p.up(weights);
  BOOST_TEST(same(p.down(expert_assignment(p.ctx, list, gates, 2)), expected));
  BOOST_TEST(
      same(p.down(expert_assignment(p.ctx, list, gates, 2, stiefelx::token_share::one)), ones));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_mean_of_projectors_keeps_a_direction_that_one_expert_uses, Case,
                              cases) {
  using S = typename Case::scalar;
  for (index_t count : {2, 3, 4, 8}) {
    for (projector_policy policy : policies) {
      place<Case> p;
      bool const low_rank = policy == projector_policy::low_rank;
      auto const like = p.up(matrix_x<S>::Zero(5, count));
      stiefelx::expert_projectors all(p.ctx, like, {count},
                                      {.policy = policy, .alpha = low_rank ? 0 : 1e-30, .rank = 2});
      matrix_x<S> const u = orthonormal_frame<S>(5, 2, 1);
      all.observe(p.ctx, count - 1, p.up(matrix_x<S>(u.col(0))));  // one expert uses u_0
      for (index_t e = 0; e < count; ++e)                          // all use u_1
        all.observe(p.ctx, e, p.up(matrix_x<S>(u.col(1))));
      matrix_x<S> const found = removal_of(p, all, 0);
      double const kept = policy == projector_policy::mean
                              ? static_cast<double>(count - 2) / static_cast<double>(count - 1)
                              : 0;
      BOOST_TEST_CONTEXT(count << " experts, policy " << int(policy)) {
        BOOST_TEST(near(found * u.col(0), u.col(0) * static_cast<S>(kept), tolerance<S>(5), 1));
        BOOST_TEST(near(found * u.col(1), u.col(1) * S(0), tolerance<S>(5), 1));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_product_is_a_direction_of_descent, Case, double_cases) {
  place<Case> p;
  auto const like = p.up(matrix_x<double>::Zero(5, 4));
  stiefelx::expert_projectors all(p.ctx, like, {4},
                                  {.policy = projector_policy::product, .alpha = 0.1});
  std::vector<matrix_x<double>> inputs;
  for (index_t e = 0; e < 4; ++e) {
    inputs.push_back(random_matrix<double>(5, 1, static_cast<std::uint64_t>(e)));
    all.observe(p.ctx, e, p.up(inputs.back()));
  }
  for (index_t e = 0; e < 4; ++e) {
    matrix_x<double> const found = removal_of(p, all, e);
    BOOST_TEST(near(
        found, exact_removal(projector_policy::product, inputs, static_cast<std::size_t>(e), 0.1),
        tolerance<double>(20)));
    BOOST_TEST(near(found, found.transpose(), tolerance<double>(20)));
    BOOST_TEST(found.determinant() > 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_state_above_the_limit_is_refused_and_the_alternative_named, Case,
                              cases) {
  using S = typename Case::scalar;
  place<Case> p;
  // Only the shape counts, so nothing of this size is ever made.
  auto const narrow = p.up(matrix_x<S>::Zero(40000, 0));
  auto const made = [&](expert_projectors_options o) {
    return message_of([&] { stiefelx::expert_projectors(p.ctx, narrow, {8}, o); });
  };
  std::string const low_rank = std::to_string(8 * 16 * 40001 * sizeof(S));
  for (projector_policy policy :
       {projector_policy::mean, projector_policy::joint, projector_policy::product})
    BOOST_TEST(
        made({.policy = policy}) ==
        "expert_projectors: memory_limit is 1073741824, expected at least 102400000000 bytes "
        "for 8 projectors of 40000x40000; the policy low_rank of rank 16 takes " +
            low_rank);
  BOOST_TEST(made({.policy = projector_policy::low_rank, .memory_limit = 1000}) ==
             "expert_projectors: memory_limit is 1000, expected at least " + low_rank +
                 " bytes for 8 bases of 40000x16; a smaller rank takes less");
  auto const small = p.up(matrix_x<S>::Zero(5, 8));
  double const exact = 8 * 25 * static_cast<double>(sizeof(stiefelx::wide_t<S>));
  BOOST_CHECK_NO_THROW((stiefelx::expert_projectors(p.ctx, small, {8}, {.memory_limit = exact})));
  BOOST_CHECK_THROW((stiefelx::expert_projectors(p.ctx, small, {8}, {.memory_limit = exact - 1})),
                    stiefelx::option_error);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto const like = p.up(matrix_x<double>::Zero(5, 6));
  auto const tokens = p.up(matrix_x<double>::Zero(5, 4));
  auto const wrong = p.up(matrix_x<double>::Zero(4, 4));
  auto const shares = p.up(matrix_x<double>::Zero(3, 4));
  auto const ids = p.up(matrix_x<int>::Zero(2, 4));
  auto const made = [&](expert_bank bank, expert_projectors_options o) {
    return message_of([&] { stiefelx::expert_projectors(p.ctx, like, bank, o); });
  };
  auto const low_rank = projector_policy::low_rank;
  BOOST_TEST(made({0}, {}) ==
             "expert_projectors: bank.count is 0, expected a number of at least 1");
  BOOST_TEST(made({4}, {}) == "expert_projectors: x is 5x6, expected a multiple of 4 columns");
  BOOST_TEST(made({3, expert_layout::stacked}, {}) ==
             "expert_projectors: x is 5x6, expected a multiple of 3 rows");
  BOOST_TEST(made({3}, {.alpha = 0}) ==
             "expert_projectors: alpha is 0.000000, expected a number above 0; the policy low_rank "
             "takes 0");
  BOOST_TEST(made({3}, {.policy = low_rank, .alpha = -1}) ==
             "expert_projectors: alpha is -1.000000, expected a number of at least 0");
  BOOST_TEST(made({3}, {.decay = 0}) ==
             "expert_projectors: decay is 0.000000, expected a number in (0, 1]");
  BOOST_TEST(
      made({3}, {.policy = low_rank, .rank = 5}) ==
      "expert_projectors: rank is 5, expected at least 1 and less than the number of inputs, "
      "for which the policy joint is exact and as small");
  stiefelx::expert_projectors all(p.ctx, like, {3});
  BOOST_TEST(message_of([&] { all.observe(p.ctx, 3, tokens); }) ==
             "expert_projectors::observe: e is 3, expected the number of an expert");
  BOOST_TEST(message_of([&] { all.observe(p.ctx, 0, wrong); }) ==
             "expert_projectors::observe: a is 4x4, expected 5x4");
  BOOST_TEST(message_of([&] { all.observe(p.ctx, wrong, shares); }) ==
             "expert_projectors::observe: x is 4x4, expected 5x4");
  BOOST_TEST(message_of([&] { all.observe(p.ctx, tokens, wrong); }) ==
             "expert_projectors::observe: assignment is 4x4, expected 3x4");
  BOOST_TEST(message_of([&] { (void)expert_assignment(p.ctx, ids, shares, 3); }) ==
             "expert_assignment: weights is 3x4, expected 2x4");
}

BOOST_AUTO_TEST_SUITE_END()
