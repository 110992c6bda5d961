// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include <stiefelx/simd/gram.hpp>
#include <stiefelx/simd/thin_gram.hpp>
#include <stiefelx/simd/thin_solve.hpp>
#include <stiefelx/simd/triangular_solve.hpp>

namespace stiefelx::simd {
inline namespace STIEFELX_SIMD_ISA {

/// Largest number of columns that thin_gram_schmidt() takes.
/// \ingroup simd
inline constexpr std::ptrdiff_t thin_columns = 16;

/// \brief Orthonormalizes a few long real columns: \f$ a = q\,r \f$, r with a positive diagonal.
/// \ingroup simd
///
/// A pass takes the Gram matrix of the columns, its factors \f$ t^T d\,t \f$ in double, and
/// substitutes; for up to 8 columns it reads the columns twice, the second time from a cache, and
/// writes them once. With \f$ \hat a \f$ the columns divided by their lengths, one pass leaves a
/// loss of orthogonality of some \f$ \epsilon\,\max_j \lVert \hat a^{+}_{j} \rVert^2 \f$. The
/// factors tell this maximum:
///
/// - up to 16 the pass is the last one;
/// - above, passes follow until it is, mostly one, because they start from nearly orthonormal ones;
/// - where the Gram matrix in float is too coarse, it is summed in double;
/// - where that does not resolve the columns either, or a length is so large or so small that its
///   square is not safe, or an entry is not finite, the function declines and writes nothing.
///
/// So the columns of q are orthonormal to rounding whenever the function does not decline, and it
/// does not for columns whose distances from the span of the earlier ones exceed a threshold of at
/// most \f$ 10^{-3} \f$ of their length in float and \f$ 10^{-5} \f$ in double, or, with very many
/// rows, twice the unit roundoff times the number of rows.
///
/// \tparam T  float or double
/// \param[in]  n          rows, at least k
/// \param[in]  k          columns, 1 to thin_columns
/// \param[in]  a          n x k, column-major, of any alignment
/// \param[in]  a_stride   distance of the columns, at least n
/// \param[out] q          n x k; may be a, else must not overlap it
/// \param[in]  q_stride   distance of the columns, at least n
/// \param[out] r          k x k, upper triangular, zeros below; must not overlap a, q
/// \param[in]  r_stride   distance of the columns, at least k
/// \param[in]  how        streaming passes q by the caches, where its addresses allow that
/// \param[in]  next       k n entries that the next call reads, to be fetched meanwhile, or a; one
///                        sweep over them costs less than k streams
/// \returns false when it declines
/// \par Cost
/// 2 n k (k + 1) flops a pass
template <class T>
bool thin_gram_schmidt(std::ptrdiff_t n, std::ptrdiff_t k, T const* a, std::ptrdiff_t a_stride,
                       T* q, std::ptrdiff_t q_stride, T* r, std::ptrdiff_t r_stride, writing how,
                       T const* next);

namespace detail {

inline constexpr std::ptrdiff_t thin_entries = packed_index(thin_columns, 0);

// Up to this growth a pass is the last one.
inline constexpr double thin_last_growth = 16;

// Beyond it, a pass with a Gram matrix of T would leave columns that are not nearly orthonormal: an
// error of eps times the growth must stay far below one.
template <class T>
inline constexpr double thin_growth_limit =
    1 / (1024 * static_cast<double>(std::numeric_limits<T>::epsilon()));

// The same for a Gram matrix in double. The substitution is in T still, and its error of eps times
// the root of the growth must stay far below one.
template <class T>
inline constexpr double thin_wide_growth_limit =
    1 / (65536 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
         static_cast<double>(std::numeric_limits<T>::epsilon()));

// Of each K packs that are fetched for the next call, how many the Gram matrix fetches; the
// substitution fetches the rest. Streaming, the Gram matrix of few columns is quicker than memory.
constexpr std::ptrdiff_t thin_fetched_early(std::ptrdiff_t k, writing how) {
  return how == writing::streaming && k <= 4 ? k / 4 : k / 2;
}

// Up to 8 columns, their number known at compile time.
template <class T, std::ptrdiff_t K, writing How>
struct thin_kernel {
  static constexpr std::integral_constant<std::ptrdiff_t, K> columns{};
  static constexpr std::ptrdiff_t early = thin_fetched_early(K, How);

  // The first pass reads a, fetches what comes next, and writes q as it is told to.
  void first_gram(std::ptrdiff_t n, T const* a, std::ptrdiff_t stride, double* g,
                  T const* next) const {
    thin_gram<K, early>(n, a, stride, g, next);
  }
  void first_solve(std::ptrdiff_t n, T const* a, std::ptrdiff_t a_stride, T const* t, T* q,
                   std::ptrdiff_t q_stride, bool last, T const* next) const {
    if (How == writing::streaming && last)
      thin_solve<K, How, K - early>(n, a, a_stride, t, q, q_stride, next + n * early);
    else
      thin_solve<K, writing::cached, K - early>(n, a, a_stride, t, q, q_stride, next + n * early);
  }
  void gram(std::ptrdiff_t n, T const* a, std::ptrdiff_t stride, double* g) const {
    thin_gram<K, early>(n, a, stride, g, a);
  }
  void solve(std::ptrdiff_t n, T const* t, T* q, std::ptrdiff_t stride) const {
    thin_solve<K, writing::cached, K - early>(n, q, stride, t, q, stride, q);
  }
};

// More columns, by the kernels for any number, with their workspace on the stack.
template <class T>
struct panel_kernel {
  std::ptrdiff_t columns;

  // Blocks of rows are summed in double, so the workspace and the error do not grow with n.
  void gram(std::ptrdiff_t n, T const* a, std::ptrdiff_t stride, double* g) const {
    constexpr std::ptrdiff_t block = 16 * native_width<T>;
    alignas(register_bytes) T workspace[std::size_t{gram_workspace<T>(block, thin_columns)}];
    std::fill(g, g + packed_index(columns, 0), 0.0);
    for (std::ptrdiff_t row = 0; row < n; row += block) {
      T square[thin_columns * thin_columns];
      simd::gram(std::min(block, n - row), columns, a + row, stride, square, thin_columns,
                 workspace);
      for (std::ptrdiff_t i = 0; i < columns; ++i)
        for (std::ptrdiff_t j = 0; j <= i; ++j)
          g[packed_index(i, j)] += static_cast<double>(square[i * thin_columns + j]);
    }
  }
  void first_gram(std::ptrdiff_t n, T const* a, std::ptrdiff_t stride, double* g, T const*) const {
    gram(n, a, stride, g);
  }
  void solve(std::ptrdiff_t n, T const* t, T* q, std::ptrdiff_t stride) const {
    T r[thin_columns * thin_columns];
    alignas(register_bytes) T workspace[std::size_t{solve_right_workspace<T>(thin_columns)}];
    for (std::ptrdiff_t j = 0; j < columns; ++j) {
      for (std::ptrdiff_t i = 0; i < j; ++i)
        r[j * thin_columns + i] = t[packed_index(j, i)] / t[packed_index(i, i)];
      r[j * thin_columns + j] = 1 / t[packed_index(j, j)];
    }
    solve_right(n, columns, r, thin_columns, q, stride, workspace);
  }
  void first_solve(std::ptrdiff_t n, T const* a, std::ptrdiff_t a_stride, T const* t, T* q,
                   std::ptrdiff_t q_stride, bool, T const*) const {
    for (std::ptrdiff_t j = 0; j < columns && q != a; ++j)
      std::copy(a + j * a_stride, a + j * a_stride + n, q + j * q_stride);
    solve(n, t, q, q_stride);
  }
};

// g = t^T d t with t unit upper triangular: t_ji at packed_index(i, j), d on the diagonal.
template <class Count>
[[gnu::always_inline]] inline void factor_thin(Count k, double const* g, double* t) {
  for (std::ptrdiff_t s = 0; s < packed_index(k, 0); ++s) t[s] = g[s];
  for (std::ptrdiff_t j = 0; j < k; ++j) {
    double const inverse = 1 / t[packed_index(j, j)];
    for (std::ptrdiff_t i = j + 1; i < k; ++i) {
      double const factor = t[packed_index(i, j)] * inverse;
      for (std::ptrdiff_t l = j + 1; l < i; ++l)
        t[packed_index(i, l)] -= factor * (t[packed_index(l, j)] * t[packed_index(j, j)]);
      t[packed_index(i, i)] -= factor * t[packed_index(i, j)];
      t[packed_index(i, j)] = factor;
    }
  }
}

// Largest squared length of a row of the pseudoinverse of the columns divided by their lengths, or
// a bound of it where they are nearly orthogonal; infinite where a pivot is not positive.
template <class Count>
double thin_growth(Count k, double const* g, double const* t) {
  double off = 0, inverse[thin_columns];
  for (std::ptrdiff_t i = 0; i < k; ++i) inverse[i] = 1 / g[packed_index(i, i)];
  // Each factor near the size of a cosine: the square of an entry may leave the range.
  for (std::ptrdiff_t i = 0; i < k; ++i)
    for (std::ptrdiff_t j = 0; j < i; ++j)
      off += (g[packed_index(i, j)] * inverse[i]) * (g[packed_index(i, j)] * inverse[j]);
  // Then the eigenvalues of the scaled Gram matrix are at least 1/2.
  if (off <= 0.125) return 2;
  double worst = 0;
  for (std::ptrdiff_t i = 0; i < k; ++i) {
    double const pivot = t[packed_index(i, i)];
    if (!(pivot > 0)) return std::numeric_limits<double>::infinity();
    double column[thin_columns];
    double sum = g[packed_index(i, i)];
    column[i] = 1;
    for (std::ptrdiff_t j = i - 1; j >= 0; --j) {
      column[j] = 0;
      for (std::ptrdiff_t l = j + 1; l <= i; ++l) column[j] -= t[packed_index(l, j)] * column[l];
      sum += g[packed_index(j, j)] * column[j] * column[j];
    }
    worst = std::max(worst, sum / pivot);
  }
  return worst;
}

// Whether squares of the columns neither overflowed nor lost digits to underflow.
template <class T, class Count>
bool has_safe_lengths(Count k, double const* g) {
  using limits = std::numeric_limits<T>;
  constexpr double eps = limits::epsilon();
  constexpr double smallest = static_cast<double>(limits::min()) / (eps * eps);
  constexpr double largest = static_cast<double>(limits::max()) / 4;
  bool safe = true;
  for (std::ptrdiff_t i = 0; i < k; ++i)
    safe &= g[packed_index(i, i)] >= smallest && g[packed_index(i, i)] <= largest;
  return safe;
}

// total = diag(root) t total; entry (i, j), i <= j, of total is at packed_index(j, i).
template <class Count>
void multiply_thin_factor(Count k, double const* t, double const* root, double* total) {
  for (std::ptrdiff_t j = 0; j < k; ++j)
    for (std::ptrdiff_t i = 0; i <= j; ++i) {
      double sum = total[packed_index(j, i)];
      for (std::ptrdiff_t l = i + 1; l <= j; ++l)
        sum += t[packed_index(l, i)] * total[packed_index(j, l)];
      total[packed_index(j, i)] = root[i] * sum;
    }
}

template <class Kernel, class T>
bool run_thin_gram_schmidt(Kernel const& kernel, std::ptrdiff_t n, T const* a,
                           std::ptrdiff_t a_stride, T* q, std::ptrdiff_t q_stride, T* r,
                           std::ptrdiff_t r_stride, T const* next) {
  auto const k = kernel.columns;
  double g[thin_entries], t[thin_entries], total[thin_entries], root[thin_columns];
  kernel.first_gram(n, a, a_stride, g, next);
  if (!has_safe_lengths<T>(k, g)) return false;
  factor_thin(k, g, t);
  double growth = thin_growth(k, g, t);
  if (!(growth <= thin_last_growth)) {
    if constexpr (std::is_same_v<T, float>) {
      if (!(growth <= thin_growth_limit<T>)) {
        wide_gram(n, k, a, a_stride, g);
        factor_thin(k, g, t);
        growth = thin_growth(k, g, t);
      }
    }
    double const limit =
        std::is_same_v<T, float> ? thin_wide_growth_limit<T> : thin_growth_limit<T>;
    // Twice the distance at which a column counts as dependent: closer ones are not decided here.
    double const distance = 2 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                            static_cast<double>(std::max<std::ptrdiff_t>(n, 4));
    if (!(growth <= limit && growth * distance * distance <= 1)) return false;
  }
  for (int pass = 0;; ++pass) {
    bool const last = growth <= thin_last_growth || pass == 3;
    T coefficients[thin_entries];
    for (std::ptrdiff_t i = 0; i < k; ++i) {
      root[i] = std::sqrt(t[packed_index(i, i)]);
      for (std::ptrdiff_t j = 0; j < i; ++j)
        coefficients[packed_index(i, j)] = static_cast<T>(t[packed_index(i, j)]);
      coefficients[packed_index(i, i)] = static_cast<T>(1 / root[i]);
    }
    if (pass == 0)
      kernel.first_solve(n, a, a_stride, coefficients, q, q_stride, last, next);
    else
      kernel.solve(n, coefficients, q, q_stride);
    if (pass == 0) {
      for (std::ptrdiff_t i = 0; i < k; ++i)
        for (std::ptrdiff_t j = 0; j <= i; ++j)
          total[packed_index(i, j)] = root[j] * (i == j ? 1.0 : t[packed_index(i, j)]);
    } else {
      multiply_thin_factor(k, t, root, total);
    }
    if (last) break;
    kernel.gram(n, q, q_stride, g);
    factor_thin(k, g, t);
    growth = thin_growth(k, g, t);
  }
  for (std::ptrdiff_t j = 0; j < k; ++j)
    for (std::ptrdiff_t i = 0; i < k; ++i)
      r[j * r_stride + i] = i <= j ? static_cast<T>(total[packed_index(j, i)]) : T{0};
  return true;
}

}  // namespace detail

template <class T>
bool thin_gram_schmidt(std::ptrdiff_t n, std::ptrdiff_t k, T const* a, std::ptrdiff_t a_stride,
                       T* q, std::ptrdiff_t q_stride, T* r, std::ptrdiff_t r_stride, writing how,
                       T const* next) {
  bool const aligned = reinterpret_cast<std::uintptr_t>(q) % std::uintptr_t{register_bytes} == 0 &&
                       q_stride % native_width<T> == 0;
  auto const run = [&](auto const& kernel) {
    return detail::run_thin_gram_schmidt(kernel, n, a, a_stride, q, q_stride, r, r_stride, next);
  };
  auto const run_thin = [&](auto columns) {
    if (how == writing::streaming && aligned && q != a)
      return run(detail::thin_kernel<T, columns, writing::streaming>{});
    return run(detail::thin_kernel<T, columns, writing::cached>{});
  };
  using std::integral_constant;
  switch (k) {
    case 1:
      return run_thin(integral_constant<std::ptrdiff_t, 1>{});
    case 2:
      return run_thin(integral_constant<std::ptrdiff_t, 2>{});
    case 3:
      return run_thin(integral_constant<std::ptrdiff_t, 3>{});
    case 4:
      return run_thin(integral_constant<std::ptrdiff_t, 4>{});
    case 5:
      return run_thin(integral_constant<std::ptrdiff_t, 5>{});
    case 6:
      return run_thin(integral_constant<std::ptrdiff_t, 6>{});
    case 7:
      return run_thin(integral_constant<std::ptrdiff_t, 7>{});
    case 8:
      return run_thin(integral_constant<std::ptrdiff_t, 8>{});
    default:
      return run(detail::panel_kernel<T>{k});
  }
}

}  // namespace STIEFELX_SIMD_ISA
}  // namespace stiefelx::simd
