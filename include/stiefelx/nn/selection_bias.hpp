// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <concepts>

#include <stiefelx/core/context.hpp>
#include <stiefelx/team/team.hpp>

namespace stiefelx {

/// \brief Team text: the step of a selection bias.
/// \ingroup nn
struct selection_bias_body {
  double rate;  ///< u

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes share the experts
  /// \param[in]     counts  E x 1
  /// \param[in,out] bias    E x 1
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, index_t, double*, matrix_ref<double const> counts,
                              matrix_ref<double> bias) const {
    auto const experts = static_cast<double>(bias.rows);
    index_t const rank = team.rank(), lanes = team.size();
    double mean = 0, drift = 0;
    for (index_t e = rank; e < bias.rows; e += lanes) mean += counts(e, 0);
    mean = team.sum(mean) / experts;
    for (index_t e = rank; e < bias.rows; e += lanes) {
      double const n = counts(e, 0);
      bias(e, 0) += n < mean ? rate : n > mean ? -rate : 0.0;
      drift += bias(e, 0);
    }
    drift = team.sum(drift);
    for (index_t e = rank; e < bias.rows; e += lanes) bias(e, 0) -= drift / experts;
  }
};

/// \brief Moves a selection bias towards an even load.
/// \ingroup nn
///
/// \f$ b_e \leftarrow b_e + u\,\mathrm{sign}(\bar n - n_e) \f$ with \f$ \bar n \f$ the mean count
/// \cite wang2024auxfree. Then the mean of b is taken off: unequal numbers of experts above and
/// below the mean count would let all of b drift. Call it once a step, with the counts of the whole
/// batch, as the first rows of expert_counts() have them.
///
/// \param[in]     ctx     where to run; nothing waits
/// \param[in]     rate    u, at least 0; 1e-3 is usual
/// \param[in]     counts  E x 1 of double, tokens an expert
/// \param[in,out] bias    E x 1 of double; must not overlap counts
/// \throws shape_error   if a shape is wrong
/// \throws alias_error   if bias overlaps counts
/// \throws option_error  if rate is negative
template <class Ctx, Matrix C, class B>
  requires OutputMatrix<B> && SameScalar<C, B> && std::same_as<scalar_t<B>, double>
void update_selection_bias(Ctx& ctx, double rate, C const& counts, B&& bias) {
  expect_option(rate >= 0, "update_selection_bias", "rate", rate, "a number of at least 0");
  expect_shape("update_selection_bias", "counts", counts, bias.rows(), 1);
  expect_shape("update_selection_bias", "bias", bias, counts.rows(), 1);
  expect_distinct(ctx, "update_selection_bias", "bias", bias, "counts", counts);
  auto const& n = dense(ctx, counts);
  run_batch(ctx, 1, selection_bias_body{rate}, n, bias);
}

}  // namespace stiefelx
