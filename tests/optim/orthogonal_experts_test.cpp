// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Steps of the orthogonal expert optimizer: what they are orthogonal to, phases, retained energy,
// state and misuse.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/orthogonal_experts.hpp>
#include <stiefelx/optim/state.hpp>
#include <stiefelx/orth/polar.hpp>
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

using stiefelx::expert_bank;
using stiefelx::expert_layout;
using stiefelx::expert_phase;
using stiefelx::observed_inputs;
using stiefelx::orthogonal_experts_options;
using stiefelx::phase_schedule;
using stiefelx::projector_policy;
using stiefelx::removal;

constexpr phase_schedule always{0, 1}, never{1, 0};

/// Plain gradient descent with weight decay, as a user would write it.
struct descent {
  double rate = 0.5;

  template <class Ctx, class X, class G>
  void step(Ctx& ctx, X&& x, G const& g) {
    scale(ctx, 1 - 0.1 * rate, x);
    axpy(ctx, -rate, g, x);
  }
};

/// Momentum, and steps along the polar factor of the velocity.
template <class Velocity>
struct polar_descent {
  Velocity velocity;

  template <class Ctx, class X, class G, class Status>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status) {
    scale(ctx, 0.9, velocity);
    axpy(ctx, 1, g, velocity);
    auto direction = clone(ctx, velocity);
    polar(ctx, velocity, direction, status);
    axpy(ctx, -0.1, direction, x);
  }
};

/// Largest |U^T (x+ - x)| of a run, relative to |x|, over steps of random gradients, where U are the
/// directions that the other experts have used.
template <class Case, class Optimizer>
double leak(place<Case>& p, Optimizer& opt) {
  using S = typename Case::scalar;
  auto x = p.up(random_matrix<S>(8, 9, 5));
  matrix_x<S> const u = orthonormal_frame<S>(8, 3, 6);
  for (index_t e = 0; e < 3; ++e) opt.observe(p.ctx, e, p.up(matrix_x<S>(u.col(e) * S(2))));
  double worst = 0;
  for (int t = 0; t < 6; ++t) {
    matrix_x<S> const before = p.down(x);
    opt.step(p.ctx, x, p.up(random_matrix<S>(8, 9, static_cast<std::uint64_t>(20 + t))));
    matrix_x<S> const change = p.down(x) - before, seen = u.transpose() * change / before.norm();
    BOOST_TEST(change.norm() > 1e-4);
    for (index_t k = 0; k < 9; ++k)  // columns 3 e, ..., 3 e + 2 are those of expert e
      for (index_t j = 0; j < 3; ++j)
        if (j != k / 3) worst = std::max(worst, static_cast<double>(std::abs(seen(j, k))));
  }
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(orthogonal_experts)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_projected_update_is_orthogonal_whatever_the_base, Case, cases) {
  using S = typename Case::scalar;
  using owner = typename Case::matrix;
  double const rounding = tolerance<S>(8);
  for (projector_policy policy : {projector_policy::joint, projector_policy::low_rank}) {
    double const alpha = policy == projector_policy::low_rank ? 0 : 1e-30;
    for (removal removes : {removal::from_update, removal::from_gradient}) {
      orthogonal_experts_options const o{
          .projectors = {.policy = policy, .alpha = alpha, .rank = 3}, .removes = removes};
      place<Case> p;
      auto x = p.up(matrix_x<S>::Zero(8, 9));
      auto const part = p.up(matrix_x<S>::Zero(8, 3));
      stiefelx::orthogonal_experts by_descent(p.ctx, descent{}, x, {3}, o, always);
      stiefelx::orthogonal_experts by_adamw(
          p.ctx, stiefelx::adamw(p.ctx, x, {.learning_rate = 0.1, .weight_decay = 0.1}), x, {3}, o,
          always);
      std::vector<polar_descent<owner>> muons;
      for (int e = 0; e < 3; ++e) muons.push_back({zeros_like(p.ctx, part)});
      stiefelx::orthogonal_experts by_muon(p.ctx, std::move(muons), x, {3}, o, always);
      BOOST_TEST_CONTEXT("policy " << int(policy)) {
        if (removes == removal::from_update) {
          BOOST_TEST(leak(p, by_descent) <= rounding);
          BOOST_TEST(leak(p, by_adamw) <= rounding);
          BOOST_TEST(leak(p, by_muon) <= rounding);
        } else {
          // Weight decay and element-wise step lengths leave the complement.
          BOOST_TEST(leak(p, by_descent) > 1e-3);
          BOOST_TEST(leak(p, by_adamw) > 1e-3);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(accumulating_steps_are_the_base_s_to_the_bit, Case, cases) {
  using S = typename Case::scalar;
  for (removal removes : {removal::from_gradient, removal::from_update}) {
    place<Case> p;
    auto x = p.up(random_matrix<S>(4, 6, 1));
    auto twin = p.up(random_matrix<S>(4, 6, 1));
    stiefelx::adamw alone(p.ctx, twin);
    stiefelx::orthogonal_experts opt(
        p.ctx, stiefelx::adamw(p.ctx, x), x, {2},
        {.projectors = {.policy = projector_policy::joint}, .removes = removes},
        phase_schedule{2, 1});
    opt.set_learning_rate(1e-2);
    alone.set_learning_rate(1e-2);
    for (int t = 0; t < 6; ++t) {
      opt.observe(p.ctx, t % 2, p.up(random_matrix<S>(4, 3, static_cast<std::uint64_t>(t))));
      auto const g = p.up(random_matrix<S>(4, 6, static_cast<std::uint64_t>(30 + t)));
      copy(p.ctx, x, twin);
      opt.step(p.ctx, x, g);
      alone.step(p.ctx, twin, g);
      bool const equal = p.down(x) == p.down(twin);
      BOOST_TEST(equal == (t < 2 || (t % 3 < 2 && removes == removal::from_update)));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_callable_chooses_the_phase) {
  stiefelx::host::context ctx;
  matrix_x<double> x = random_matrix<double>(4, 4, 1);
  std::vector<index_t> asked;
  auto const late = [&asked](index_t step) {
    asked.push_back(step);
    return step < 2 ? expert_phase::accumulating : expert_phase::orthogonal;
  };
  stiefelx::orthogonal_experts opt(ctx, descent{}, x, {2}, {}, late);
  opt.observe(ctx, 0, matrix_x<double>(matrix_x<double>::Ones(4, 1)));
  for (int t = 0; t < 4; ++t) {
    opt.step(ctx, x, random_matrix<double>(4, 4, static_cast<std::uint64_t>(t)));
    BOOST_TEST((opt.retained()(0, 1) < 1) == (t >= 2));
  }
  BOOST_TEST(asked == (std::vector<index_t>{0, 1, 2, 3}), boost::test_tools::per_element());
  for (index_t step = 0; step < 6; ++step) {
    BOOST_TEST((phase_schedule{2, 1}(step) == expert_phase::orthogonal) == (step % 3 == 2));
    BOOST_TEST((never(step) == expert_phase::accumulating));
    BOOST_TEST((always(step) == expert_phase::orthogonal));
    BOOST_TEST((phase_schedule{0, 0}(step) == expert_phase::accumulating));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(retained_energy_is_that_of_the_projected_gradient, Case, cases) {
  using S = typename Case::scalar;
  for (removal removes : {removal::from_gradient, removal::from_update}) {
    place<Case> p;
    auto x = p.up(matrix_x<S>::Zero(5, 6));
    stiefelx::orthogonal_experts opt(p.ctx, descent{}, x, {3}, {.removes = removes}, always);
    BOOST_TEST(same(p.down(opt.retained()), matrix_x<double>::Ones(1, 3)));
    std::vector<matrix_x<double>> inputs;
    for (index_t e = 0; e < 3; ++e) {
      matrix_x<S> const a = random_matrix<S>(5, 1, static_cast<std::uint64_t>(e));
      inputs.push_back(a.template cast<double>());
      opt.observe(p.ctx, e, p.up(a));
    }
    matrix_x<S> g = random_matrix<S>(5, 6, 9);
    g.col(5).setZero();
    g.col(4).setZero();
    opt.step(p.ctx, x, p.up(g));
    matrix_x<double> expected = matrix_x<double>::Ones(1, 3);
    for (index_t e = 0; e < 2; ++e) {
      matrix_x<double> const part = g.middleCols(2 * e, 2).template cast<double>();
      expected(0, e) =
          (exact_removal(projector_policy::mean, inputs, static_cast<std::size_t>(e), 1) * part)
              .norm() /
          part.norm();
    }
    BOOST_TEST(near(p.down(opt.retained()), expected, tolerance<S>(5, 4)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_that_is_not_finite_changes_nothing, Case, cases) {
  using S = typename Case::scalar;
  for (removal removes : {removal::from_gradient, removal::from_update}) {
    for (projector_policy policy : {projector_policy::mean, projector_policy::low_rank}) {
      place<Case> p;
      auto x = p.up(random_matrix<S>(4, 6, 1));
      auto const part = p.up(matrix_x<S>::Zero(4, 2));
      using base = decltype(stiefelx::adamw(p.ctx, part));
      std::vector<base> bases;
      for (int e = 0; e < 3; ++e) bases.push_back(stiefelx::adamw(p.ctx, part));
      stiefelx::orthogonal_experts opt(
          p.ctx, std::move(bases), x, {3},
          {.projectors = {.policy = policy, .decay = 0.5, .rank = 2}, .removes = removes}, always);
      for (index_t e = 0; e < 3; ++e)
        opt.observe(p.ctx, e, p.up(random_matrix<S>(4, 2, static_cast<std::uint64_t>(e))));
      opt.step(p.ctx, x, p.up(random_matrix<S>(4, 6, 8)));
      auto const before = p.down(x);
      auto const state = save(p.ctx, opt);
      matrix_x<S> g = random_matrix<S>(4, 6, 9);
      g(3, 5) = std::numeric_limits<S>::quiet_NaN();  // of the last expert
      auto status = status_matrix<typename Case::backend>(p.ctx);
      opt.step(p.ctx, x, p.up(g), status);
      BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
      BOOST_TEST(same(p.down(x), before));
      auto const after = save(p.ctx, opt);
      BOOST_TEST(after.arrays.size() == state.arrays.size());
      for (std::size_t i = 0; i < state.arrays.size(); ++i)
        BOOST_TEST((after.arrays[i] == state.arrays[i]) == (state.arrays[i].name != "steps"));
      opt.step(p.ctx, x, p.up(random_matrix<S>(4, 6, 8)));
      BOOST_TEST(!same(p.down(x), before));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_base_without_a_guard_is_guarded, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(4, 4, 1));
  auto const before = p.down(x);
  stiefelx::orthogonal_experts opt(p.ctx, descent{}, x, {2});
  opt.step(p.ctx, x, p.up(matrix_x<double>::Constant(4, 4, std::nan(""))));
  BOOST_TEST(same(p.down(x), before));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_state_goes_on_with_the_same_bits, Case, cases) {
  using S = typename Case::scalar;
  for (projector_policy policy : {projector_policy::joint, projector_policy::low_rank}) {
    place<Case> p;
    auto x = p.up(random_matrix<S>(4, 6, 1));
    orthogonal_experts_options const o{
        .projectors = {
            .policy = policy, .inputs = observed_inputs::every, .decay = 0.9, .rank = 2}};
    stiefelx::orthogonal_experts opt(p.ctx, stiefelx::adamw(p.ctx, x), x, {3}, o,
                                     phase_schedule{2, 1});
    auto const advance = [&](auto& one, auto& point, int t) {
      auto const seed = static_cast<std::uint64_t>(t);
      one.observe(p.ctx, t % 3, p.up(random_matrix<S>(4, 3, seed)));
      one.step(p.ctx, point, p.up(random_matrix<S>(4, 6, 50 + seed)));
    };
    for (int t = 0; t < 4; ++t) advance(opt, x, t);  // in the middle of a period
    auto y = p.up(p.down(x));
    stiefelx::orthogonal_experts loaded(p.ctx, stiefelx::adamw(p.ctx, y), y, {3}, o,
                                        phase_schedule{2, 1});
    auto const state = save(p.ctx, opt);
    load(p.ctx, state, loaded);
    for (int t = 4; t < 9; ++t) {
      advance(opt, x, t);
      advance(loaded, y, t);
    }
    BOOST_TEST(same(p.down(x), p.down(y)));
    BOOST_TEST((save(p.ctx, opt) == save(p.ctx, loaded)));
    std::string names;
    for (auto const& array : state.arrays) names += array.name + " ";
    if (policy == projector_policy::joint)
      BOOST_TEST(names ==
                 "expert0.factor expert1.factor expert2.factor base.first_moment "
                 "base.second_moment base.power1 base.power2 retained steps ");
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(banks_of_both_layouts_and_separate_weights_agree, Case, cases) {
  using S = typename Case::scalar;
  using owner = typename Case::matrix;
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(4, 6, 1);
  auto const stacked_form = [](matrix_x<S> const& bank) {
    matrix_x<S> s(12, 2);
    for (index_t e = 0; e < 3; ++e) s.middleRows(4 * e, 4) = bank.middleCols(2 * e, 2);
    return s;
  };
  auto bank = p.up(start);
  auto stacked = p.up(stacked_form(start));
  std::vector<owner> parts;
  for (index_t e = 0; e < 3; ++e) parts.push_back(p.up(matrix_x<S>(start.middleCols(2 * e, 2))));
  using base = decltype(stiefelx::adamw(p.ctx, parts[0]));
  std::vector<base> bases;
  for (auto& part : parts) bases.push_back(stiefelx::adamw(p.ctx, part));
  orthogonal_experts_options const o{.removes = removal::from_update};
  stiefelx::orthogonal_experts first(p.ctx, stiefelx::adamw(p.ctx, bank), bank, {3}, o);
  stiefelx::orthogonal_experts second(p.ctx, stiefelx::adamw(p.ctx, stacked), stacked,
                                      {3, expert_layout::stacked}, o);
  stiefelx::orthogonal_experts third(p.ctx, std::move(bases), parts[0],
                                     {3, expert_layout::separate}, o);
  std::vector<owner*> points{&parts[0], &parts[1], &parts[2]};
  for (int t = 0; t < 4; ++t) {
    auto const tokens = p.up(random_matrix<S>(4, 5, static_cast<std::uint64_t>(t)));
    auto const shares = p.up(matrix_x<S>(random_matrix<S>(3, 5, 60).cwiseAbs()));
    first.observe(p.ctx, tokens, shares);
    second.observe(p.ctx, tokens, shares);
    third.observe(p.ctx, tokens, shares);
    matrix_x<S> const g = random_matrix<S>(4, 6, static_cast<std::uint64_t>(80 + t));
    first.step(p.ctx, bank, p.up(g));
    second.step(p.ctx, stacked, p.up(stacked_form(g)));
    std::vector<owner> gradients;
    for (index_t e = 0; e < 3; ++e) gradients.push_back(p.up(matrix_x<S>(g.middleCols(2 * e, 2))));
    std::vector<owner const*> list{&gradients[0], &gradients[1], &gradients[2]};
    third.step(p.ctx, std::span<owner* const>(points), std::span<owner const* const>(list));
  }
  BOOST_TEST(near(p.down(stacked), stacked_form(p.down(bank)), tolerance<S>(4)));
  for (index_t e = 0; e < 3; ++e)
    BOOST_TEST(near(p.down(parts[static_cast<std::size_t>(e)]), p.down(bank).middleCols(2 * e, 2),
                    tolerance<S>(4)));
  BOOST_TEST(!near(p.down(bank), start, 1e-4));
}

BOOST_AUTO_TEST_CASE(row_major_fixed_and_strided_weights_and_a_single_expert_are_taken) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  stiefelx::host::context ctx;
  matrix_x<double> x = random_matrix<double>(4, 4, 1), all(12, 4), single = x;
  matrix_x<double> const tokens = random_matrix<double>(4, 3, 2);
  row_major by_rows = x;
  Eigen::Matrix<double, 4, 4> fixed = x;
  Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::OuterStride<>> strided(
      all.data(), 4, 4, Eigen::OuterStride<>(12));
  strided = x;
  orthogonal_experts_options const o{.removes = removal::from_update};
  stiefelx::orthogonal_experts a(ctx, descent{}, x, {2}, o, always);
  stiefelx::orthogonal_experts b(ctx, descent{}, by_rows, {2}, o, always);
  stiefelx::orthogonal_experts c(ctx, descent{}, fixed, {2}, o, always);
  stiefelx::orthogonal_experts d(ctx, descent{}, strided, {2}, o, always);
  stiefelx::orthogonal_experts e(ctx, descent{}, single, {1}, o, always);
  matrix_x<double> const start = x, g = random_matrix<double>(4, 4, 3);
  a.observe(ctx, 0, tokens);
  b.observe(ctx, 0, row_major(tokens));
  c.observe(ctx, 0, 2 * tokens - tokens);
  d.observe(ctx, 0, tokens);
  e.observe(ctx, 0, tokens);
  a.step(ctx, x, g);
  b.step(ctx, by_rows, row_major(g));
  c.step(ctx, fixed, 2 * g - g);
  d.step(ctx, strided, g);
  e.step(ctx, single, g);
  BOOST_TEST(near(by_rows, x, tolerance<double>(4)));
  BOOST_TEST(near(fixed, x, tolerance<double>(4)));
  BOOST_TEST(near(strided, x, tolerance<double>(4)));
  BOOST_TEST(near(single, 0.95 * start - 0.5 * g, tolerance<double>(4)));
  BOOST_TEST(e.retained()(0, 0) == 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  using owner = typename Case::matrix;
  place<Case> p;
  auto x = p.up(random_matrix<double>(4, 6, 1));
  auto wrong = p.up(random_matrix<double>(6, 4, 1));
  auto wide = p.up(random_matrix<double>(4, 12, 1));
  auto const made = [&](expert_bank bank, std::size_t bases) {
    return message_of(
        [&] { stiefelx::orthogonal_experts(p.ctx, std::vector<descent>(bases), x, bank); });
  };
  std::string const bases = ", expected one for the bank or one for each expert";
  BOOST_TEST(made({4}, 1) == "expert_projectors: x is 4x6, expected a multiple of 4 columns");
  BOOST_TEST(made({3}, 2) == "orthogonal_experts: bases is 2" + bases);
  BOOST_TEST(made({3, expert_layout::separate}, 1) == "orthogonal_experts: bases is 1" + bases);
  stiefelx::orthogonal_experts opt(p.ctx, descent{}, x, {3});
  BOOST_TEST(message_of([&] { opt.step(p.ctx, wrong, x); }) ==
             "orthogonal_experts::step: x is 6x4, expected 4x6");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, x, wrong); }) ==
             "orthogonal_experts::step: g is 6x4, expected 4x6");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, wide.middleCols(0, 6), wide.middleCols(5, 6)); }) ==
             "orthogonal_experts::step: x overlaps g, expected separate memory");
  std::vector<owner*> list{&x};
  std::span<owner* const> const weights(list);
  std::string const one = "orthogonal_experts::step: x is 1, expected ";
  BOOST_TEST(message_of([&] { opt.step(p.ctx, weights, weights); }) ==
             one + "one matrix, since the experts are in a bank");
  stiefelx::orthogonal_experts loose(p.ctx, std::vector<descent>(3), x,
                                     {3, expert_layout::separate});
  BOOST_TEST(message_of([&] { loose.step(p.ctx, weights, weights); }) ==
             one + "a weight and a gradient for each expert");
  BOOST_TEST(message_of([&] { loose.step(p.ctx, x, wide); }) ==
             one + "a list of weights, since the experts are separate");
}

BOOST_AUTO_TEST_SUITE_END()
