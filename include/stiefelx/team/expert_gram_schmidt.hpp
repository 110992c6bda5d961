// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <type_traits>

#include <stiefelx/core/unroll.hpp>
#include <stiefelx/team/column.hpp>
#include <stiefelx/team/mixing.hpp>

/// \file
/// \brief Team text of mixtures of materialised experts' outputs, one token a team.
/// \ingroup nn
///
/// One lane goes through pairs of columns, whose sums fill its registers. Several take adjacent rows,
/// and what a lane has read it uses for up to four columns.

namespace stiefelx {

namespace detail {

// Partial sums of a lane alone: as many as its registers hold.
inline constexpr index_t lone_ways = 32;

// take(i, j, a_i^T b_j), by the first lane, for the first `tall` of N columns a_i and the first `wide`
// of M columns b_j; on and below the diagonal alone where b is a. Products and sums are in double; the
// rows are read once.
template <index_t N, index_t M, bool Square, Team Lanes, class S, class Take>
STIEFELX_HD void wide_dots(Lanes const& team, S const* a, index_t tall, S const* b, index_t wide,
                           index_t stride, index_t rows, Take const& take) {
  // Rows that are on their way together: fewer where there are many columns.
  constexpr index_t ways = N * M <= 4 ? 8 : 2;
  index_t const lanes = team.size();
  double sums[std::size_t{N * M}] = {};
  for (index_t row = team.rank(); row < rows; row += ways * lanes) {
    S left[std::size_t{N * ways}];
    [[maybe_unused]] S right[std::size_t{Square ? 1 : M * ways}];
    unroll<ways>([&](index_t r) __attribute__((always_inline)) {
      index_t const at = row + r * lanes;
      unroll<N>([&](index_t i) __attribute__((always_inline)) {
        left[r * N + i] = i < tall && at < rows ? a[i * stride + at] : S(0);
      });
      if constexpr (!Square)
        unroll<M>([&](index_t j) __attribute__((always_inline)) {
          right[r * M + j] = j < wide && at < rows ? b[j * stride + at] : S(0);
        });
    });
    unroll<ways>([&](index_t r) __attribute__((always_inline)) {
      unroll<M>([&](index_t j) __attribute__((always_inline)) {
        unroll<N>([&](index_t i) __attribute__((always_inline)) {
          if (Square && i < j) return;
          S factor = S(0);
          if constexpr (Square)
            factor = left[r * N + j];
          else
            factor = right[r * M + j];
          sums[j * N + i] += static_cast<double>(left[r * N + i]) * static_cast<double>(factor);
        });
      });
    });
  }
  // A column of a tile, or two, at a time: as many sums as teams exchange at once.
  constexpr index_t at_once = N * M < 16 ? M : 16 / N;
  unroll<M / at_once>([&](index_t part) __attribute__((always_inline)) {
    index_t const first = part * at_once;
    double some[std::size_t{N * at_once}];
    unroll<N * at_once>([&](index_t k)
                            __attribute__((always_inline)) { some[k] = sums[first * N + k]; });
    sum_to_first(team, some);
    if (team.rank() != 0) return;
    unroll<at_once>([&](index_t j) __attribute__((always_inline)) {
      unroll<N>([&](index_t i) __attribute__((always_inline)) {
        if (i < tall && first + j < wide && (!Square || i >= first + j))
          take(i, first + j, some[j * N + i]);
      });
    });
  });
}

// f(N) with the constant of 2 and 4 that k columns fill best. More would take so many registers from
// every mixture, small ones too, that too few lanes wait for memory at once.
template <class F>
STIEFELX_HD void with_columns(index_t k, F const& f) {
  if (k <= 2) return f(std::integral_constant<index_t, 2>{});
  f(std::integral_constant<index_t, 4>{});
}

// take(i, j, e_i^T e_j), by the first lane, for k columns and i >= j.
template <Team Lanes, class S, class Take>
STIEFELX_HD void wide_gram(Lanes const& team, S const* e, index_t stride, index_t rows, index_t k,
                           Take const& take) {
  with_columns(k, [&](auto columns) {
    constexpr index_t n = columns;
    for (index_t j = 0; j < k; j += n) {
      auto const here = [&](index_t i, index_t c, double sum) { take(j + i, j + c, sum); };
      index_t const wide = k - j < n ? k - j : n;
      S const* const right = e + j * stride;
      wide_dots<n, n, true>(team, right, wide, right, wide, stride, rows, here);
      for (index_t i = j + n; i < k; i += n)
        wide_dots<n, n, false>(team, e + i * stride, k - i < n ? k - i : n, right, wide, stride,
                               rows,
                               [&](index_t r, index_t c, double sum) { take(i + r, j + c, sum); });
    }
  });
}

// Rows of a lane that the same factors serve.
inline constexpr index_t rows_at_once = 4;

// out_i = start_i b + sum_j w(i, j) e_j for N columns from `first` on and all rows of a lane in turn.
// Without b there is no such term; where Skip is set, factors of zero leave out their columns,
// whatever they hold.
template <index_t N, bool Skip, Team Lanes, class S, class Start, class Factor, class Out>
STIEFELX_HD void combine_columns(Lanes const& team, index_t rows, index_t count, S const* e,
                                 index_t stride, index_t k, S const* b, Start const& start,
                                 Factor const& w, Out const& out) {
  constexpr index_t ways = rows_at_once;
  index_t const lanes = team.size();
  for (index_t row = team.rank(); row < rows; row += ways * lanes) {
    for (index_t first = 0; first < count; first += N) {
      S sums[std::size_t{N * ways}];
      unroll<ways>([&](index_t r) __attribute__((always_inline)) {
        index_t const at = row + r * lanes;
        S const given = b != nullptr && at < rows ? b[at] : S(0);
        unroll<N>([&](index_t i) __attribute__((always_inline)) {
          sums[i * ways + r] = b != nullptr && first + i < count ? start(first + i) * given : S(0);
        });
      });
      for (index_t j = 0; j < k; ++j) {
        S const* const column = e + j * stride;
        S read[std::size_t{ways}];
        unroll<ways>([&](index_t r) __attribute__((always_inline)) {
          index_t const at = row + r * lanes;
          read[r] = at < rows ? column[at] : S(0);
        });
        unroll<N>([&](index_t i) __attribute__((always_inline)) {
          S const factor = first + i < count ? w(first + i, j) : S(0);
          if (!Skip || factor != S(0))
            unroll<ways>([&](index_t r) __attribute__((always_inline)) {
              sums[i * ways + r] += factor * read[r];
            });
        });
      }
      unroll<N>([&](index_t i) __attribute__((always_inline)) {
        if (first + i < count)
          unroll<ways>([&](index_t r) __attribute__((always_inline)) {
            index_t const at = row + r * lanes;
            if (at < rows) out(first + i)[at] = sums[i * ways + r];
          });
      });
    }
  }
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
    constexpr bool alone = std::is_same_v<Lanes, serial_team>;
    index_t const k = experts, d = e.rows, first = t * k;
    double* const a = coefficients.column(t);
    bool const plain = algebra.is_plain(k);
    if (!plain) {
      double* const g = gram.column(t);
      auto const take = [&](index_t i, index_t j, double sum) {
        g[i + j * k] = sum;
        g[j + i * k] = sum;
      };
      if constexpr (alone) {
        for (index_t j = 0; j < k; ++j)
          for (index_t i = j; i < k; ++i)
            take(i, j,
                 wide_dot<detail::lone_ways>(team, e.column(first + i), e.column(first + j), d));
      } else {
        detail::wide_gram(team, e.column(first), e.stride, d, k, take);
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
    if constexpr (alone) {
      for (index_t row = 0; row < d; ++row) sum[row] = S(0);
      for (index_t i = 0; i < k; ++i)
        column_axpy(team, static_cast<S>(a[i]), e.column(first + i), d, sum);
    } else {
      S const* const none = nullptr;
      detail::combine_columns<1, false>(
          team, d, 1, e.column(first), e.stride, k, none, [](index_t) { return S(0); },
          [a](index_t, index_t j) { return static_cast<S>(a[j]); }, [sum](index_t) { return sum; });
    }
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
    constexpr bool alone = std::is_same_v<Lanes, serial_team>;
    index_t const k = experts, d = e.rows, first = t * k;
    auto const state = mixing_algebra::place(k, scratch);
    double* const u = scratch + mixing_algebra::scratch_size(k);
    double* const a = u + k;
    S const* const g = dy.column(t);
    if constexpr (alone) {
      for (index_t i = 0; i < k; ++i)
        u[i] = wide_dot<detail::lone_ways>(team, e.column(first + i), g, d);
    } else {
      detail::with_columns(k, [&](auto columns) {
        constexpr index_t n = columns;
        for (index_t i = 0; i < k; i += n)
          detail::wide_dots<n, 1, false>(team, e.column(first + i), k - i < n ? k - i : n, g, 1,
                                         e.stride, d, [&](index_t r, index_t, double sum) {
                                           if (team.rank() == 0) u[i + r] = sum;
                                         });
      });
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
    if constexpr (alone) {
      for (index_t i = 0; i < k; ++i) {
        S* const out = de.column(first + i);
        S const own = static_cast<S>(a[i]);
        for (index_t row = 0; row < d; ++row) out[row] = own * g[row];
        for (index_t j = 0; j < k && !plain; ++j)
          if (double const w = state.w(i, j); w != 0)
            column_axpy(team, static_cast<S>(w), e.column(first + j), d, out);
      }
    } else {
      detail::combine_columns<4, true>(
          team, d, k, e.column(first), e.stride, plain ? 0 : k, g,
          [a](index_t i) { return static_cast<S>(a[i]); },
          [&](index_t i, index_t j) { return static_cast<S>(state.w(i, j)); },
          [&](index_t i) { return de.column(first + i); });
    }
    // The next token of this team overwrites the scratch.
    team.barrier();
  }
};

}  // namespace stiefelx
