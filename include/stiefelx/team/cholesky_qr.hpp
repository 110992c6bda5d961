// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>

#include <stiefelx/core/status.hpp>
#include <stiefelx/team/cholesky.hpp>
#include <stiefelx/team/small_qr.hpp>

namespace stiefelx {

/// How cholesky_qr() factors.
/// \ingroup orth
enum class cholesky_qr_method {
  automatic,      ///< one or two passes by a test of the factor, Householder when both fail
  one_pass,       ///< loss of orthogonality grows as the squared condition number
  two_passes,     ///< unit roundoff up to condition \f$ \epsilon^{-1/2} \f$ \cite yamamoto2015
  shifted_three,  ///< unit roundoff up to condition of order \f$ \epsilon^{-1} \f$ \cite fukaya2020
};

/// \brief Team text: how far columns are from depending on each other.
/// \ingroup orth
///
/// \f$ 1 / (g_{jj} (g^{-1})_{jj}) \f$ is the part of column j's squared norm that all the others
/// leave unexplained: 1 for orthogonal columns, 0 for dependent ones. When it is at least a half
/// for every column, the condition number of the matrix with its columns brought to norm one is at
/// most \f$ p \sqrt 2 \f$, since the trace of its inverse Gram matrix is at most 2p. Squared pivots
/// alone bound nothing of the kind: each may be half of its column's norm while the condition
/// number grows as \f$ e^{2 \sqrt p} \f$.
///
/// For columns that should be orthonormal already, the least of \f$ 1/g_{jj} \f$ and \f$ 1 /
/// (g^{-1})_{jj} \f$ says the same, and also finds a column that has become small: the remainder of
/// a dependent one, which is rounding.
struct independence_body {
  bool orthonormal;  ///< the columns should be orthonormal already

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]  team      lanes
  /// \param[in]  r         p x p, the factor of g = r^H r
  /// \param[in]  inverse   p x p, its inverse
  /// \param[out] smallest  1 x 1, the least part of any column; NaN when r or inverse has one
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> r,
                              matrix_ref<S> inverse, matrix_ref<double> smallest) const {
    double least = 1;
    // A NaN is kept once it is there.
    auto const keep_least = [&](double part) {
      if (part < least || part != part) least = part;
    };
    for (index_t j = 0; j < r.cols; ++j) {
      double rest = 0;
      for (index_t k = j + team.rank(); k < r.cols; k += team.size()) {
        double const size = static_cast<double>(modulus(inverse(j, k)));
        rest += size * size;
      }
      rest = team.sum(rest);
      double const whole = column_squared_norm(team, r.column(j), j + 1);
      keep_least(1 / (orthonormal ? rest : rest * whole));
      if (orthonormal) keep_least(1 / whole);
    }
    if (team.rank() == 0) smallest(0, 0) = least;
  }
};

/// \brief Team text: adds the shift of shifted CholeskyQR to a Gram matrix.
/// \ingroup orth
struct gram_shift_body {
  index_t rows;  ///< n of the matrix behind the Gram matrix

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team  lanes
  /// \param[in,out] g     p x p; 11 (n p + p (p + 1)) u trace(g) is added to its diagonal
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> g) const {
    using Real = real_of_t<S>;
    Real trace = 0;
    for (index_t j = 0; j < g.cols; ++j) trace += real_part(g(j, j));
    auto const p = static_cast<Real>(g.cols);
    Real const unit = std::numeric_limits<Real>::epsilon() / 2;
    Real const shift = 11 * (static_cast<Real>(rows) * p + p * (p + 1)) * unit * trace;
    team.barrier();
    for (index_t j = team.rank(); j < g.cols; j += team.size()) g(j, j) += shift;
  }
};

/// \brief Team text: finds pivots of a triangular factor that are lost in rounding.
/// \ingroup orth
///
/// A pivot is what the earlier columns leave of a column. When it is rounding, the direction that
/// belongs to it is arbitrary.
struct lost_pivot_body {
  double tolerance;  ///< a pivot at most so large beside its column's norm is lost

  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     r       p x p, upper triangular
  /// \param[in,out] status  1 x 1; gets `rank_deficient` for a lost pivot
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> r,
                              matrix_ref<int> status) const {
    bool lost = false;
    for (index_t j = 0; j < r.cols; ++j) {
      double const pivot = static_cast<double>(modulus(r(j, j)));
      double const whole = column_squared_norm(team, r.column(j), j + 1);
      if (pivot <= tolerance * std::sqrt(whole)) lost = true;
    }
    if (team.rank() == 0 && lost) status(0, 0) |= rank_deficient;
  }
};

/// \brief What lost_pivot_body allows for the factor of a method other than `automatic`.
/// \ingroup orth
///
/// A Cholesky factor's squared pivots have the rounding of the Gram matrix. The factor of two keeps
/// what passes from being far from orthonormal. Three passes after a shift reach the rounding of
/// the matrix itself, as Householder's reflections do.
/// \param[in] method  how r was found
/// \param[in] rows    n
/// \param[in] cols    p
/// \returns the tolerance
template <class S>
STIEFELX_HD double pivot_tolerance(cholesky_qr_method method, index_t rows, index_t cols) {
  if (method == cholesky_qr_method::shifted_three)
    return static_cast<double>(rank_tolerance<S>(rows));
  return 2 * std::sqrt(static_cast<double>(rank_tolerance<S>(cols)));
}

/// \brief Team text: whether a Gram matrix is so near to the identity that one pass repairs it.
/// \ingroup orth
///
/// With \f$ \lVert g - I \rVert_F \le 1/2 \f$ the condition number of g is at most 3, and a pass by
/// its factor leaves columns that are orthonormal to the unit roundoff.
struct near_identity_body {
  /// \returns 0: no scratch
  index_t scratch_size() const { return 0; }

  /// \param[in]     team    lanes
  /// \param[in]     g       p x p, Hermitian; only the upper triangle is read
  /// \param[in,out] status  1 x 1; gets `not_converged` when g is farther, or NaN
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t, double*, matrix_ref<S> g,
                              matrix_ref<int> status) const {
    double square = 0;
    for (index_t j = 0; j < g.cols; ++j) {
      double const diagonal = static_cast<double>(modulus(S(g(j, j) - S(1))));
      square += 2 * column_squared_norm(team, g.column(j), j) + diagonal * diagonal;
    }
    if (team.rank() == 0 && !(square <= 0.25)) status(0, 0) |= not_converged;
  }
};

/// \brief Team text: cholesky_qr() of one small matrix of a stack.
/// \ingroup orth
struct small_cholesky_qr_body {
  index_t columns;            ///< p, the columns of one matrix
  cholesky_qr_method method;  ///< how to factor

  /// \returns doubles of scratch a team: two p x p matrices, complex or not, and three rows
  index_t scratch_size() const { return 4 * columns * columns + 3 * columns + 1; }

  /// \param[in]  team     lanes
  /// \param[in]  item     which matrix of the stack
  /// \param[in]  scratch  scratch_size() doubles
  /// \param[in]  a        n x (p count)
  /// \param[out] q        of a's shape; may be a unless the method is `automatic`
  /// \param[out] r        p x (p count)
  /// \param[out] status   1 x count
  template <Team T, class S>
  STIEFELX_HD void operator()(T const& team, index_t item, double* scratch, matrix_ref<S const> a,
                              matrix_ref<S> q, matrix_ref<S> r, matrix_ref<int> status) const {
    index_t const p = columns;
    S* const room = reinterpret_cast<S*>(scratch);
    double* const exponents = scratch + 4 * p * p;
    a = a.middle_columns(item * p, p);
    q = q.middle_columns(item * p, p);
    r = r.middle_columns(item * p, p);
    matrix_ref<S> const next{room, p, p, p}, inverse{room + p * p, p, p, p};
    matrix_ref<int> const own{&status(0, item), 1, 1, 1};
    bool all_finite = true;
    for (index_t j = 0; j < p; ++j) {
      bool finite = true;
      int const exponent = column_exponent(team, a.column(j), a.rows, finite);
      all_finite = all_finite && finite;
      scale_by_power(team, a.column(j), a.rows, -exponent, q.column(j));
      if (team.rank() == 0) exponents[j] = exponent;
    }
    if (team.rank() == 0) own(0, 0) = all_finite ? 0 : not_finite;
    team.barrier();
    if (method != cholesky_qr_method::automatic) {
      fixed_passes(team, q, r, next, own);
    } else if (!passes_by_test(team, q, r, next, inverse, exponents + p, own)) {
      small_householder_body{p}(team, 0, exponents, a, q, r, own);
      if (team.rank() == 0) own(0, 0) |= refined;
      return;
    }
    for (index_t j = 0; j < p; ++j)
      scale_by_power(team, r.column(j), j + 1, static_cast<int>(exponents[j]), r.column(j));
  }

 private:
  template <Team T>
  STIEFELX_HD static void add_bits(T const& team, matrix_ref<int> own, int bits) {
    if (team.rank() == 0) own(0, 0) |= bits;
    team.barrier();
  }

  // q = q r^-1 with the factor r of q's Gram matrix.
  template <Team T, class S>
  STIEFELX_HD static int factor_pass(T const& team, matrix_ref<S> q, matrix_ref<S> r) {
    int const bits = small_cholesky(team, r);
    small_solve_right(team, r, q);
    return bits;
  }

  template <Team T, class S>
  STIEFELX_HD void fixed_passes(T const& team, matrix_ref<S> q, matrix_ref<S> r, matrix_ref<S> next,
                                matrix_ref<int> own) const {
    bool const shifted = method == cholesky_qr_method::shifted_three;
    small_gram(team, q, r);
    if (shifted) gram_shift_body{q.rows}(team, 0, nullptr, r);
    team.barrier();
    add_bits(team, own, factor_pass(team, q, r));
    lost_pivot_body const pivots{pivot_tolerance<S>(method, q.rows, q.cols)};
    if (!shifted) pivots(team, 0, nullptr, r, own);
    int const repeats = shifted ? 2 : method == cholesky_qr_method::two_passes ? 1 : 0;
    for (int pass = 1; pass <= repeats; ++pass) {
      small_gram(team, q, next);
      if (pass == repeats) near_identity_body{}(team, 0, nullptr, next, own);
      team.barrier();
      add_bits(team, own, factor_pass(team, q, next));
      small_triangle_product(team, next, r);
    }
    if (shifted) pivots(team, 0, nullptr, r, own);
  }

  // One pass or two; false when neither gave orthonormal columns.
  template <Team T, class S>
  STIEFELX_HD static bool passes_by_test(T const& team, matrix_ref<S> q, matrix_ref<S> r,
                                         matrix_ref<S> next, matrix_ref<S> inverse,
                                         double* smallest, matrix_ref<int> own) {
    small_gram(team, q, r);
    if (factor_pass(team, q, r) != 0) return false;
    if (is_accurate(team, r, inverse, smallest, false)) return true;
    small_gram(team, q, next);
    if (factor_pass(team, q, next) != 0) return false;
    if (!is_accurate(team, next, inverse, smallest, true)) return false;
    small_triangle_product(team, next, r);
    add_bits(team, own, refined);
    return true;
  }

  template <Team T, class S>
  STIEFELX_HD static bool is_accurate(T const& team, matrix_ref<S> r, matrix_ref<S> inverse,
                                      double* smallest, bool repeated) {
    for (index_t j = 0; j < r.cols; ++j)
      for (index_t i = team.rank(); i < r.rows; i += team.size()) inverse(i, j) = S(i == j ? 1 : 0);
    team.barrier();
    small_solve_right(team, r, inverse);
    independence_body{repeated}(team, 0, nullptr, r, inverse,
                                matrix_ref<double>{smallest, 1, 1, 1});
    team.barrier();
    bool const accurate = *smallest >= 0.5;
    team.barrier();
    return accurate;
  }
};

}  // namespace stiefelx
