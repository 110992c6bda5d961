// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Team text of routing, losses and experts' outputs: every team of 32 to 256 lanes against one lane.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <fake_cuda/executor.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/kernels/factor.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/importance_loss.hpp>
#include <stiefelx/nn/router_orthogonality.hpp>
#include <stiefelx/nn/routing_statistics.hpp>
#include <stiefelx/nn/selection_bias.hpp>
#include <stiefelx/team/cholesky_qr.hpp>
#include <stiefelx/team/expert_gram_schmidt.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/small_qr.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::matrix_ref;
namespace device = stiefelx::cuda;

// A thread a lane shows races and is slow: two warps have all that can be between lanes.
std::vector<unsigned> lane_counts() {
  return fake_cuda::keeps_lane_order ? std::vector{32u, 64u, 128u, 256u} : std::vector{64u};
}

template <class S>
matrix_ref<S> host_ref(matrix_x<S>& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}
template <class S>
matrix_ref<S const> host_ref(matrix_x<S> const& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}

template <class S>
void expect_near(matrix_x<S> const& found, matrix_x<S> const& expected, double rounding) {
  if constexpr (std::is_same_v<S, int>)
    BOOST_TEST(same(found, expected));
  else if (rounding == 0)
    BOOST_TEST(same(found, expected));
  else
    BOOST_TEST(near(found, expected, rounding));
}

/// Runs a body for each item by one lane, then by teams of all sizes, and compares what they leave in
/// the outputs.
/// \param rounding  of each output; 0 where even the bits are the same
/// \returns what one lane leaves
template <class Body, class... In, class... Out>
std::tuple<matrix_x<Out>...> by_all_teams(Body const& body, index_t count,
                                          std::array<double, sizeof...(Out)> const& rounding,
                                          std::tuple<matrix_x<In>...> const& in,
                                          std::tuple<matrix_x<Out>...> const& out) {
  auto expected = out;
  std::vector<double> work(static_cast<std::size_t>(body.scratch_size()) + 1);
  std::apply(
      [&](auto const&... read) {
        std::apply(
            [&](auto&... written) {
              for (index_t item = 0; item < count; ++item)
                body(stiefelx::serial_team{}, item, work.data(), host_ref(read)...,
                     host_ref(written)...);
            },
            expected);
        for (unsigned const lanes : lane_counts()) BOOST_TEST_CONTEXT(lanes << " lanes") {
            device::context ctx;
            auto const sources = std::tuple{on_device(ctx, read)...};
            auto targets = std::apply(
                [&](auto const&... start) { return std::tuple{on_device(ctx, start)...}; }, out);
            std::apply(
                [&](auto const&... a) {
                  std::apply(
                      [&](auto&... b) {
                        device::detail::run_teams(ctx, count, lanes, body, device::ref(a)...,
                                                  device::ref(b)...);
                        std::apply(
                            [&](auto const&... e) {
                              std::size_t at = 0;
                              (expect_near(matrix_x<Out>(on_host(ctx, b)), e, rounding[at++]), ...);
                            },
                            expected);
                      },
                      targets);
                },
                sources);
          }
      },
      in);
  return expected;
}

/// The same with one rounding for all outputs.
template <class Body, class... In, class... Out>
std::tuple<matrix_x<Out>...> by_all_teams(Body const& body, index_t count, double rounding,
                                          std::tuple<matrix_x<In>...> const& in,
                                          std::tuple<matrix_x<Out>...> const& out) {
  std::array<double, sizeof...(Out)> each;
  each.fill(rounding);
  return by_all_teams(body, count, each, in, out);
}

template <class S>
matrix_x<S> empty(index_t rows, index_t cols) {
  return matrix_x<S>::Constant(rows, cols, S(7));
}

/// At most as many slots as experts: each expert of a token is there once or not at all.
matrix_x<int> some_ids(index_t k, index_t tokens, index_t experts) {
  matrix_x<int> ids(k, tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < k; ++i)
      ids(i, t) = (t + i) % 5 == 4 ? -1 : static_cast<int>((7 * t + i) % experts);
  return ids;
}

/// Sixteen sums at once, twice, and each alone.
struct sums_at_once_body {
  stiefelx::index_t scratch_size() const { return 0; }
  template <stiefelx::Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t, double*,
                              matrix_ref<double> at_once, matrix_ref<double> alone) const {
    for (stiefelx::index_t round = 0; round < 3; ++round) {
      double v[16];
      for (stiefelx::index_t k = 0; k < 16; ++k) {
        v[k] = 1.0 / static_cast<double>(1 + 7 * k + 3 * team.rank() + round);
        double const sum = team.sum(v[k]);
        if (team.rank() == 0) alone(k, round) = sum;
      }
      stiefelx::sum_to_first(team, v);
      for (stiefelx::index_t k = 0; k < 16 && team.rank() == 0; ++k) at_once(k, round) = v[k];
    }
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(team_sizes)

BOOST_AUTO_TEST_CASE(sums_at_once_have_the_bits_of_each_alone) {
  for (unsigned const lanes : lane_counts()) {
    device::context ctx;
    auto at_once = zeros<double>(ctx, 16, 3), alone = zeros<double>(ctx, 16, 3);
    device::detail::run_teams(ctx, 1, lanes, sums_at_once_body{}, ref(at_once), ref(alone));
    matrix_x<double> const found = on_host(ctx, at_once);
    BOOST_TEST(same(found, on_host(ctx, alone)));
    BOOST_TEST(found(0, 0) > 0);
  }
}

// --- experts' outputs ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(outputs_are_mixed_as_by_one_lane) {
  struct shape {
    index_t d, k, tokens;
  };
  // Columns in one tile of each size, in several, and rows that no team divides.
  for (auto const [d, k, tokens] : {shape{8192, 16, 1}, shape{1031, 9, 2}, shape{261, 7, 2},
                                    shape{70, 3, 3}, shape{33, 2, 3}, shape{5, 1, 2}})
    for (auto const kind : {stiefelx::mixing::orthonormal, stiefelx::mixing::none})
      BOOST_TEST_CONTEXT("d = " << d << ", k = " << k << ", mixing " << static_cast<int>(kind)) {
        using S = float;
        auto const e = random_matrix<S>(d, k * tokens, 1), dy = random_matrix<S>(d, tokens, 2);
        auto const c = random_matrix<S>(k, tokens, 3);
        stiefelx::mixing_algebra const algebra{kind, 1e-6};
        double const rounding = tolerance<S>(k, 20);
        // The Gram matrix and the coefficients are of doubles throughout.
        auto const forward = by_all_teams(
            stiefelx::expert_gram_schmidt_body{algebra, k}, tokens,
            {tolerance<double>(d), tolerance<double>(d, 20), rounding, 0}, std::tuple{e, c},
            std::tuple{empty<double>(k * k, tokens), empty<double>(k, tokens), empty<S>(d, tokens),
                       empty<int>(1, tokens)});
        by_all_teams(stiefelx::expert_gram_schmidt_backward_body{algebra, k}, tokens, rounding,
                     std::tuple{e, c, std::get<0>(forward), dy},
                     std::tuple{empty<S>(d, k * tokens), empty<S>(k, tokens)});
      }
}

BOOST_AUTO_TEST_CASE(outputs_overlap_as_by_one_lane) {
  constexpr index_t k = 4, tokens = 5;
  matrix_x<int> const ids = some_ids(k, tokens, 9);
  matrix_x<double> w = random_matrix<double>(1, tokens, 18).cwiseAbs();
  w(0, 2) = 0;
  for (index_t const d : {1031, 261, 33, 5}) {
    matrix_x<float> e = random_matrix<float>(d, k * tokens, 19);
    for (index_t t = 0; t < tokens; ++t)
      for (index_t i = 0; i < k; ++i)
        if (ids(i, t) < 0) e.col(t * k + i).setConstant(std::numeric_limits<float>::quiet_NaN());
    by_all_teams(stiefelx::output_overlap_body{{1e-6}, 0.5, k}, tokens,
                 {tolerance<double>(d, 20), tolerance<float>(k)},
                 std::tuple{e, ids, w, matrix_x<double>(matrix_x<double>::Constant(1, 1, w.sum()))},
                 std::tuple{empty<double>(1, tokens), random_matrix<float>(d, k * tokens, 20)});
  }
}

// --- routing -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(tokens_choose_experts_as_by_one_lane) {
  using namespace stiefelx;
  auto const check = [](auto const& choice, index_t rows, bool biased) {
    constexpr index_t tokens = 8;
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    matrix_x<float> scores = random_matrix<float>(rows, tokens, 4);
    // Ties within a token, a token that is all of them, and numbers beside NaNs.
    scores.row(rows / 2) = scores.row(0);
    scores.col(3).setConstant(1);
    scores(0, 5) = nan;
    scores.col(6).setConstant(nan);
    scores(1, 6) = 1;
    scores(rows - 2, 6) = 2;
    scores.col(7).setConstant(nan);
    matrix_x<double> const bias =
        biased ? random_matrix<double>(rows, 1, 5) : matrix_x<double>(0, 0);
    matrix_x<double> padding = matrix_x<double>::Ones(1, tokens);
    padding(0, 1) = 0;
    choice_rule const rule = choice.choice(rows);
    index_t const k = rule.slots();
    auto const outputs = std::tuple{scores, empty<float>(k, tokens), empty<int>(k, tokens)};
    auto const chosen = by_all_teams(token_choice_body{rule, choice.gates(), rows}, tokens, 0,
                                     std::tuple{bias, padding}, outputs);
    // The same list again, with its first expert twice and one that there is not.
    matrix_x<int> given = std::get<2>(chosen);
    if (k > 2) given.row(1) = given.row(0);
    if (k > 2) given(2, 0) = static_cast<int>(rows);
    by_all_teams(given_list_body{rule.experts, choice.gates(), rows, k}, tokens, 0,
                 std::tuple{given, padding}, outputs);
    by_all_teams(gate_backward_body{choice.gates()}, tokens, 0,
                 std::tuple{std::get<0>(chosen), std::get<1>(chosen), std::get<2>(chosen),
                            random_matrix<float>(k, tokens, 6)},
                 std::tuple{empty<float>(rows, tokens)});
  };
  auto const by_index = expert_order::by_index;
  for (bool const biased : {false, true}) {
    check(top_k{.k = 8}, 64, biased);
    check(top_k{.k = 5, .renormalize = false, .order = by_index, .nulls = 3}, 40, biased);
    check(top_k{.k = 3, .score = score_kind::sigmoid, .scaling = 2}, 7, biased);
    check(top_p{.p = 0.6, .k_max = 20}, 40, biased);
    check(soft{.order = biased ? expert_order::by_score : by_index}, 9, biased);
  }
}

BOOST_AUTO_TEST_CASE(experts_take_tokens_as_by_one_lane) {
  using namespace stiefelx;
  constexpr index_t experts = 5, tokens = 130;
  matrix_x<float> scores = random_matrix<float>(experts, tokens, 7);
  // One expert whose values all are equal, and one with a tie at the end.
  scores.row(2).setConstant(0.5F);
  for (index_t t = 40; t < 120; t += 3) scores(3, t) = 0.25F;
  matrix_x<double> padding = matrix_x<double>::Ones(1, tokens);
  padding(0, 4) = 0;
  for (index_t const capacity : {0, 1, 37, 50, 129, 200}) {
    if (!fake_cuda::keeps_lane_order && capacity != 50) continue;
    auto const level = by_all_teams(token_level_body{score_kind::sigmoid}, tokens, 0,
                                    std::tuple{scores}, std::tuple{empty<double>(2, tokens)});
    auto const taken = by_all_teams(take_tokens_body{capacity}, experts, 0,
                                    std::tuple{scores, std::get<0>(level), padding},
                                    std::tuple{empty<int>(experts, tokens)});
    matrix_x<int> const sums = std::get<0>(taken).rowwise().sum();
    BOOST_TEST((sums.array() == static_cast<int>(std::min<index_t>(capacity, tokens - 1))).all());
    // Of the equal ones expert 3 takes the first and leaves the last.
    bool const first = std::get<0>(taken)(3, 40) == 1, last = std::get<0>(taken)(3, 118) == 1;
    if (capacity == 50) BOOST_TEST((first && !last));
    by_all_teams(taken_list_body{expert_order::by_score, {}, experts}, tokens, 0,
                 std::tuple{std::get<0>(taken), padding},
                 std::tuple{scores, empty<float>(experts, tokens), empty<int>(experts, tokens)});
  }
  by_all_teams(token_level_body{score_kind::softmax}, tokens, tolerance<double>(experts),
               std::tuple{scores}, std::tuple{empty<double>(2, tokens)});
}

// --- losses --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(choices_are_counted_as_by_one_lane) {
  using namespace stiefelx;
  constexpr index_t experts = 6, nulls = 2, tokens = 300, k = 4;
  matrix_x<float> const p = random_matrix<float>(experts + nulls, tokens, 8).cwiseAbs();
  matrix_x<int> const ids = some_ids(k, tokens, experts);
  matrix_x<double> w = random_matrix<double>(1, tokens, 9).cwiseAbs();
  w(0, 17) = 0;
  matrix_x<int> offsets(1, 4);
  offsets << 0, 7, 7, 300;
  double const rounding = tolerance<double>(tokens);
  for (bool const first_only : {false, true})
    for (index_t const block : {0, 256})
      by_all_teams(expert_counts_body{{block}, experts, k, first_only}, block > 0 ? 2 : 3, rounding,
                   std::tuple{p, ids, w, offsets}, std::tuple{empty<double>(experts + 2, 3)});
  // A weight without bound is of no account to an expert that its token does not list.
  matrix_x<double> unbounded = matrix_x<double>::Ones(1, tokens);
  unbounded(0, 4) = std::numeric_limits<double>::infinity();
  auto const counted = by_all_teams(expert_counts_body{{}, experts, k, false}, 2, 0,
                                    std::tuple{p, ids, unbounded, offsets},
                                    std::tuple{empty<double>(experts + 2, 2)});
  matrix_x<double> const found = std::get<0>(counted).col(0);
  BOOST_TEST(!std::isfinite(found(ids(1, 4), 0)));
  BOOST_TEST(found.topRows(experts).array().isFinite().any());
  BOOST_TEST(!found.hasNaN());
  auto const gates = random_matrix<float>(k, tokens, 10);
  by_all_teams(gate_sums_body{{}, experts}, 2, rounding, std::tuple{gates, ids, w},
               std::tuple{empty<double>(experts, 2)});
  by_all_teams(gate_sums_body{{}, experts}, 2, 0,
               std::tuple{ids, w, random_matrix<double>(experts, 1, 11)}, std::tuple{gates});
  by_all_teams(inverse_sum_body{}, tokens, rounding, std::tuple{p},
               std::tuple{empty<double>(1, tokens)});
}

BOOST_AUTO_TEST_CASE(values_of_losses_are_those_of_one_lane) {
  using namespace stiefelx;
  constexpr index_t experts = 70;
  double const rounding = tolerance<double>(experts, 10);
  matrix_x<double> const sums = random_matrix<double>(experts + 3, 2, 12).cwiseAbs();
  matrix_x<double> const counts = random_matrix<double>(experts + 2, 2, 13).cwiseAbs();
  by_all_teams(balance_value_body{{}, 0.5, experts}, 2, rounding, std::tuple{sums, counts},
               std::tuple{empty<double>(experts + 2, 2), empty<double>(1, 2)});
  by_all_teams(selection_bias_body{1e-2}, 1, rounding,
               std::tuple{matrix_x<double>(counts.leftCols(1).topRows(experts))},
               std::tuple{random_matrix<double>(experts, 1, 14)});
  by_all_teams(variation_body{0.3, 1e-3}, 1, rounding,
               std::tuple{matrix_x<double>(counts.topRows(experts))},
               std::tuple{empty<double>(1, 1), empty<double>(experts, 2)});
  matrix_x<double> const router = random_matrix<double>(90, experts, 15);
  matrix_x<double> const gram = router.transpose() * router;
  for (bool const normalize : {false, true})
    by_all_teams(router_orthogonality_body{{.normalize = normalize}, 0.7}, experts, rounding,
                 std::tuple{gram},
                 std::tuple{empty<double>(1, experts), empty<double>(experts, experts)});
}

BOOST_AUTO_TEST_CASE(routings_are_measured_as_by_one_lane) {
  // Fewer experts than lanes and more; the largest load belongs to the last expert.
  for (index_t const experts : {3, 70, 300}) {
    matrix_x<double> sums = random_matrix<double>(experts + 3, 1, 21).cwiseAbs();
    matrix_x<double> counts = random_matrix<double>(experts + 2, 1, 22).cwiseAbs();
    sums(0, 0) = sums.bottomRows(experts + 2).sum();
    counts(1, 0) = 0;
    counts(experts - 1, 0) = 9;
    auto const one = empty<double>(1, 1);
    for (double const size : {1.0, 0.0}) {
      auto const found =
          by_all_teams(stiefelx::routing_statistics_body{0.1}, 1, tolerance<double>(experts),
                       std::tuple{matrix_x<double>(size * sums), matrix_x<double>(size * counts)},
                       std::tuple{one, empty<double>(1, experts), empty<double>(1, experts + 2),
                                  one, one, one, one, one});
      BOOST_TEST(std::get<5>(found)(0, 0) ==
                 std::get<1>(found)(0, experts - 1) * static_cast<double>(experts));
    }
  }
}

// --- factors -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(frames_are_made_as_by_one_lane) {
  // More columns than one walk takes, fewer, and a square.
  for (auto const& [rows, cols] :
       {std::pair<index_t, index_t>{150, 19}, {45, 3}, {64, 64}, {9, 9}}) {
    if (!fake_cuda::keeps_lane_order && rows > 45) continue;
    BOOST_TEST_CONTEXT(rows << "x" << cols) {
      matrix_x<double> const a = conditioned_matrix<double>(rows, cols, 20, 17);
      double const rounding = tolerance<double>(rows, 400);
      auto const outputs =
          std::tuple{empty<double>(rows, cols), empty<double>(cols, cols), empty<int>(1, 1)};
      by_all_teams(stiefelx::gram_schmidt_body{cols}, 1, rounding, std::tuple{a}, outputs);
      by_all_teams(stiefelx::small_householder_body{cols}, 1, rounding, std::tuple{a}, outputs);
      by_all_teams(stiefelx::small_cholesky_qr_body{cols, stiefelx::cholesky_qr_method::two_passes},
                   1, rounding, std::tuple{a}, outputs);
    }
  }
}

BOOST_AUTO_TEST_CASE(panels_are_factored_as_by_one_lane) {
  for (index_t const rows : {1, 31, 64, 65, 200}) {
    index_t const cols = std::min<index_t>(rows, 64);
    matrix_x<double> a = random_matrix<double>(rows, cols, 16);
    // Equal entries: the first of them is the pivot, whoever finds it.
    if (rows > 2) a(2, 0) = a(rows - 1, 0) = 9;
    auto const found = by_all_teams(
        device::lu_panel_body{rows, cols}, 1, 0, std::tuple<>{},
        std::tuple{a, empty<int>(cols + 1, 1), matrix_x<int>(matrix_x<int>::Zero(1, 1))});
    if (rows > 2) BOOST_TEST(std::get<1>(found)(0, 0) == 2);
  }
}

BOOST_AUTO_TEST_SUITE_END()
