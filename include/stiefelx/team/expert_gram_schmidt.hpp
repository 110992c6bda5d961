// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/team/column.hpp>
#include <stiefelx/team/mixing.hpp>

/// \file
/// \brief Team text of Gram-Schmidt on materialised experts' outputs, one token a team.
/// \ingroup nn

namespace stiefelx {

namespace detail {

// Length that a residual is divided by; a zero output has no direction and stays zero.
STIEFELX_HD inline double mixing_length(mixing kind, double guard, double d, double g) {
  if (kind != mixing::orthonormal) return 1;
  double const length = d > guard * guard * g ? std::sqrt(d) : guard * std::sqrt(g);
  return length > 0 ? length : 1;
}

}  // namespace detail

/// \brief Team text: residuals, squared lengths and mixture of one token.
/// \ingroup nn
struct expert_gram_schmidt_body {
  mixing kind;   ///< form of the mixture
  double guard;  ///< a residual below this part of its output is guarded

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team     lanes share the rows
  /// \param[in]  t        the token
  /// \param[in]  e        d x (k T), outputs
  /// \param[in]  weights  k x T
  /// \param[out] v        d x (k T), residuals
  /// \param[out] lengths  2k x T: squared lengths of residuals, then of outputs
  /// \param[out] y        d x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double*, matrix_ref<S const> e,
                              matrix_ref<S const> weights, matrix_ref<S> v,
                              matrix_ref<double> lengths, matrix_ref<S> y) const {
    index_t const k = weights.rows, d = e.rows, first = t * k;
    for (index_t row = team.rank(); row < d; row += team.size()) y(row, t) = S(0);
    for (index_t i = 0; i < k; ++i) {
      S* const now = v.column(first + i);
      for (index_t row = team.rank(); row < d; row += team.size()) now[row] = e(row, first + i);
      team.barrier();
      double const whole = column_squared_norm(team, e.column(first + i), d);
      // Two sweeps: the second removes what rounding left of the first.
      for (int sweep = 0; sweep < 2 && kind != mixing::none; ++sweep)
        for (index_t j = 0; j < i; ++j) {
          double const n = lengths(j, t);
          if (!(n > guard * guard * lengths(k + j, t))) continue;
          S const c = column_dot(team, v.column(first + j), now, d) / static_cast<S>(n);
          column_axpy(team, S(-c), v.column(first + j), d, now);
          team.barrier();
        }
      double const rest = column_squared_norm(team, now, d);
      if (team.rank() == 0) {
        lengths(i, t) = rest;
        lengths(k + i, t) = whole;
      }
      team.barrier();
      double const factor =
          static_cast<double>(weights(i, t)) / detail::mixing_length(kind, guard, rest, whole);
      column_axpy(team, static_cast<S>(factor), now, d, y.column(t));
    }
    team.barrier();
  }
};

/// \brief Team text: gradients of the outputs and weights of one token.
/// \ingroup nn
struct expert_gram_schmidt_backward_body {
  mixing kind;      ///< form of the mixture
  double guard;     ///< as in the forward call
  index_t experts;  ///< k

  /// \returns doubles of scratch a team
  index_t scratch_size() const { return experts; }

  /// \param[in]  team      lanes share the rows
  /// \param[in]  t         the token
  /// \param[in]  scratch   scratch_size() doubles
  /// \param[in]  e         d x (k T)
  /// \param[in]  weights   k x T
  /// \param[in]  v         d x (k T), of the forward call
  /// \param[in]  lengths   2k x T, of the forward call
  /// \param[in]  dy        d x T
  /// \param[out] de        d x (k T)
  /// \param[out] dweights  k x T
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, index_t t, double* scratch, matrix_ref<S const> e,
                              matrix_ref<S const> weights, matrix_ref<S> v,
                              matrix_ref<double> lengths, matrix_ref<S const> dy, matrix_ref<S> de,
                              matrix_ref<S> dweights) const {
    index_t const k = experts, d = e.rows, first = t * k;
    auto const guarded = [&](index_t j) {
      return kind == mixing::none || !(lengths(j, t) > guard * guard * lengths(k + j, t));
    };
    // de starts as the gradient of the residuals, lengths included.
    for (index_t i = 0; i < k; ++i) {
      S const u = column_dot(team, static_cast<S const*>(v.column(first + i)), dy.column(t), d);
      double const n = detail::mixing_length(kind, guard, lengths(i, t), lengths(k + i, t));
      double const c = static_cast<double>(weights(i, t));
      bool const has_length = kind == mixing::orthonormal && !guarded(i);
      auto const along = static_cast<S>(has_length ? -c * static_cast<double>(u) / (n * n * n) : 0);
      for (index_t row = team.rank(); row < d; row += team.size())
        de(row, first + i) = static_cast<S>(c / n) * dy(row, t) + along * v(row, first + i);
      if (team.rank() == 0) dweights(i, t) = static_cast<S>(static_cast<double>(u) / n);
    }
    team.barrier();
    for (index_t i = k - 1; i >= 0; --i) {
      S* const g = de.column(first + i);
      for (index_t j = 0; j < i; ++j) {
        if (guarded(j)) continue;
        S const* const vj = v.column(first + j);
        double const n = lengths(j, t);
        double const along =
            static_cast<double>(column_dot(team, static_cast<S const*>(g), vj, d)) / n;
        double const c = static_cast<double>(column_dot(team, e.column(first + i), vj, d)) / n;
        for (index_t row = team.rank(); row < d; row += team.size())
          de(row, first + j) -=
              static_cast<S>(c) * g[row] +
              static_cast<S>(along) * (e(row, first + i) - static_cast<S>(2 * c) * vj[row]);
        if (team.rank() == 0) scratch[j] = along;
        team.barrier();
      }
      for (index_t j = 0; j < i; ++j)
        if (!guarded(j))
          column_axpy(team, static_cast<S>(-scratch[j]), static_cast<S const*>(v.column(first + j)),
                      d, g);
      // The guarded length is a multiple of the output's own.
      double const g2 = lengths(k + i, t);
      if (kind == mixing::orthonormal && guarded(i) && g2 > 0) {
        double const n = detail::mixing_length(kind, guard, lengths(i, t), g2);
        double const factor = -static_cast<double>(weights(i, t)) *
                              static_cast<double>(dweights(i, t)) * guard * guard / (n * n);
        column_axpy(team, static_cast<S>(factor), e.column(first + i), d, g);
      }
      team.barrier();
    }
  }
};

}  // namespace stiefelx
