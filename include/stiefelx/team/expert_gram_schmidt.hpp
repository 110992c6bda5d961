// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <type_traits>

#include <stiefelx/team/column.hpp>
#include <stiefelx/team/mixing.hpp>

/// \file
/// \brief Team text of mixtures of materialised experts' outputs, one token a team.
/// \ingroup nn

namespace stiefelx {

namespace detail {

// a^T b with every product and sum in double.
template <Team Lanes, class S>
STIEFELX_HD double wide_dot(Lanes const& team, S const* a, S const* b, index_t rows) {
  // Independent partial sums let the compiler keep several vectors in flight. Lanes take adjacent
  // entries, which a device reads at once.
  constexpr index_t ways = 32;
  auto const product_of = [a, b](index_t k) {
    return static_cast<double>(a[k]) * static_cast<double>(b[k]);
  };
  index_t const lanes = team.size(), step = ways * lanes;
  double part[ways] = {};
  index_t i = team.rank();
  for (index_t end = step; end <= rows; end += step, i += step)
    for (index_t w = 0; w < ways; ++w) part[w] += product_of(i + w * lanes);
  if constexpr (std::is_same_v<Lanes, serial_team>) {
    for (index_t w = 0; i + w < rows; ++w) part[w] += product_of(i + w);
  } else {
    // Places that are known when compiling: others would keep the sums out of a device's registers.
    for (index_t w = 0; w < ways; ++w)
      if (i + w * lanes < rows) part[w] += product_of(i + w * lanes);
  }
  for (index_t width = ways / 2; width > 0; width /= 2)
    for (index_t w = 0; w < width; ++w) part[w] += part[w + width];
  return team.sum(part[0]);
}

}  // namespace detail

/// \brief Team text: Gram matrix, coefficients and mixture of one token.
/// \ingroup nn
struct expert_gram_schmidt_body {
  mixing_algebra algebra;  ///< form, guard and policy
  index_t experts;         ///< k

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return mixing_algebra::scratch_size(experts); }

  /// \param[in]  team          lanes share the rows
  /// \param[in]  t             the token
  /// \param[in]  scratch       scratch_size() doubles
  /// \param[in]  e             d x (k T), outputs
  /// \param[in]  weights       k x T
  /// \param[out] gram          k^2 x T; not touched for a plain mixture
  /// \param[out] coefficients  k x T
  /// \param[out] y             d x T
  /// \param[out] status        1 x T, bits of mixing_algebra::status_of()
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> e,
                              matrix_ref<S const> weights, matrix_ref<double> gram,
                              matrix_ref<double> coefficients, matrix_ref<S> y,
                              matrix_ref<int> status) const {
    index_t const k = experts, d = e.rows, first = t * k;
    double* const a = coefficients.column(t);
    bool const plain = algebra.is_plain(k);
    if (!plain) {
      double* const g = gram.column(t);
      for (index_t j = 0; j < k; ++j)
        for (index_t i = j; i < k; ++i) {
          double const sum = detail::wide_dot(team, e.column(first + i), e.column(first + j), d);
          if (team.rank() != 0) continue;
          g[i + j * k] = sum;
          g[j + i * k] = sum;
        }
    }
    if (team.rank() == 0) {
      status(0, t) = 0;
      if (plain) {
        for (index_t i = 0; i < k; ++i) a[i] = static_cast<double>(weights(i, t));
      } else {
        auto const state = mixing_algebra::place(k, scratch);
        algebra.factor(k, gram.column(t), state);
        algebra.coefficients(k, weights.column(t), state, a);
        status(0, t) = algebra.status_of(nullptr, state);
      }
    }
    team.barrier();
    S* const sum = y.column(t);
    for (index_t row = team.rank(); row < d; row += team.size()) sum[row] = S(0);
    for (index_t i = 0; i < k; ++i)
      column_axpy(team, static_cast<S>(a[i]), e.column(first + i), d, sum);
    team.barrier();
  }
};

/// \brief Team text: gradients of the outputs and weights of one token.
/// \ingroup nn
struct expert_gram_schmidt_backward_body {
  mixing_algebra algebra;  ///< as in the forward call
  index_t experts;         ///< k

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return mixing_algebra::scratch_size(experts) + 2 * experts; }

  /// \param[in]  team      lanes share the rows
  /// \param[in]  t         the token
  /// \param[in]  scratch   scratch_size() doubles
  /// \param[in]  e         d x (k T)
  /// \param[in]  weights   k x T
  /// \param[in]  gram      k^2 x T, of the forward call
  /// \param[in]  dy        d x T
  /// \param[out] de        d x (k T)
  /// \param[out] dweights  k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> e,
                              matrix_ref<S const> weights, matrix_ref<double const> gram,
                              matrix_ref<S const> dy, matrix_ref<S> de,
                              matrix_ref<S> dweights) const {
    index_t const k = experts, d = e.rows, first = t * k;
    auto const state = mixing_algebra::place(k, scratch);
    double* const u = scratch + mixing_algebra::scratch_size(k);
    double* const a = u + k;
    for (index_t i = 0; i < k; ++i) {
      double const sum = detail::wide_dot(team, e.column(first + i), dy.column(t), d);
      if (team.rank() == 0) u[i] = sum;
    }
    bool const plain = algebra.is_plain(k);
    if (team.rank() == 0) {
      if (plain) {
        for (index_t i = 0; i < k; ++i) {
          a[i] = static_cast<double>(weights(i, t));
          dweights(i, t) = static_cast<S>(u[i]);
        }
      } else {
        algebra.factor(k, gram.column(t), state);
        algebra.coefficients(k, weights.column(t), state, a);
        algebra.pull_back(k, u, state, dweights.column(t));
      }
    }
    team.barrier();
    for (index_t i = 0; i < k; ++i) {
      S* const out = de.column(first + i);
      S const own = static_cast<S>(a[i]);
      S const* const g = dy.column(t);
      for (index_t row = team.rank(); row < d; row += team.size()) out[row] = own * g[row];
      for (index_t j = 0; j < k && !plain; ++j)
        if (double const w = state.w(i, j); w != 0)
          column_axpy(team, static_cast<S>(w), e.column(first + j), d, out);
    }
    // The next token of this team overwrites the scratch.
    team.barrier();
  }
};

}  // namespace stiefelx
