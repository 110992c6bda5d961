// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/nn/stored_weights.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/randomized_svd.hpp>

/// \file
/// \brief First values of low-rank factors from the frozen weight's own decomposition.
/// \ingroup nn
///
/// The start is taken out of the weight, \f$ W \mathrel{-}= s B A \f$, so that the layer starts as the
/// frozen one and the adapter moves what mattered most in it. The adapter then belongs to the changed
/// W: save the changed W with it, or the first factors, which make an adapter of rank 2r for the
/// original one.
///
/// A weight of two bytes an entry is widened as a whole, and what is left of it is rounded once: it and
/// the adapter in float then make the original up to that rounding.

namespace stiefelx {

/// Element text: the root of a nonnegative number over a divisor.
/// \ingroup nn
struct root_quotient_element {
  double divisor;  ///< above 0

  /// \param[in,out] w  a singular value; becomes \f$ \sqrt{w / d} \f$
  template <class S>
  STIEFELX_HD void operator()(S& w) const {
    w = static_cast<S>(std::sqrt(static_cast<double>(w) / divisor));
  }
};

namespace detail {

template <class W, class Down, class Up>
void expect_initialization(char const* function, W const& frozen, Down const& down, Up const& up,
                           double scaling) {
  expect_shape(function, "down", down, frozen.cols(), down.cols());
  expect_shape(function, "up", up, down.cols(), frozen.rows());
  index_t const most = frozen.rows() < frozen.cols() ? frozen.rows() : frozen.cols();
  expect_option(down.cols() <= most, function, "the rank", down.cols(),
                "at most the smaller side of the weight");
  expect_option(scaling > 0 && std::isfinite(scaling), function, "scaling", scaling,
                "a finite number above 0");
}

// A^T = V sqrt(w / d), B^T = sqrt(w / d) U^T.
template <class Ctx, class U, class R, class V, class Down, class Up>
void split_root(Ctx& ctx, double divisor, U const& u, R& w, V const& v, Down&& down, Up&& up) {
  transform(ctx, root_quotient_element{divisor}, outputs(w), inputs());
  copy(ctx, v, down);
  scale_columns(ctx, w, down);
  auto left = clone(ctx, u);
  scale_columns(ctx, w, left);
  copy(ctx, left.adjoint(), up);
}

// change(W) in the scalar of arithmetic; a weight of two bytes gets the result, rounded once.
template <class Ctx, class W, class Change>
void change_widened(Ctx& ctx, W&& frozen, Change const& change) {
  if constexpr (NarrowScalar<scalar_t<W>>) {
    auto wide = widened_weight(ctx, frozen);
    change(wide);
    copy(ctx, wide, frozen);
  } else {
    change(frozen);
  }
}

}  // namespace detail

/// \brief Principal singular values and vectors as first factors (PiSSA).
/// \ingroup nn
///
/// With the r leading singular triples of \f$ W = U \Sigma V^T \f$: \f$ A = \sqrt{\Sigma_r / s}\,V_r^T \f$,
/// \f$ B = U_r \sqrt{\Sigma_r / s} \f$, \f$ W \mathrel{-}= s B A \f$. What is left in W is its best
/// remainder after rank r.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in,out] stream   advanced by one draw, for the start of the subspace iteration
/// \param[in]     scaling  \f$ s \f$ of the adapter, above 0
/// \param[in,out] frozen   d_out x d_in; of two bytes an entry it is rounded once
/// \param[out]    down     d_in x r
/// \param[out]    up       r x d_out
/// \param[in]     options  how accurately the triples are found
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if the rank is above W's smaller side, or s is not finite and above 0
/// \par Cost
/// That of randomized_svd() and 2 r d_in d_out flops.
/// \see \cite meng2024
template <class Ctx, RealWeight W, RealMatrix Down, RealMatrix Up>
  requires OutputMatrix<W> && OutputMatrix<Down> && OutputMatrix<Up> && SameScalar<Down, Up> &&
           StoredAs<scalar_t<Down>, W>
void pissa_lora(Ctx& ctx, random_stream& stream, double scaling, W&& frozen, Down&& down, Up&& up,
                randomized_svd_options options = {}) {
  using S = scalar_t<Down>;
  detail::expect_initialization("pissa_lora", frozen, down, up, scaling);
  index_t const r = down.cols();
  auto u = scratch<S>(ctx, frozen.rows(), r);
  auto w = scratch<S>(ctx, 1, r);
  auto v = scratch<S>(ctx, frozen.cols(), r);
  detail::change_widened(ctx, frozen, [&](auto& weight) {
    randomized_svd(ctx, stream, weight, u, w, v, options);
    detail::split_root(ctx, scaling, u, w, v, down, up);
    multiply_add(ctx, -scaling, up.adjoint(), down.adjoint(), weight);
  });
}

/// \brief Leading part of a QR factorization as first factors (OLoRA).
/// \ingroup nn
///
/// With \f$ W = Q R \f$: B is the first r columns of Q, A the first r rows of R, and
/// \f$ W \mathrel{-}= s B A \f$. These columns of Q belong to the first r columns of W alone, and
/// \f$ A = B^T W \f$, so W need not be tall and only r of its columns are factored.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in]     scaling  \f$ s \f$ of the adapter, above 0
/// \param[in,out] frozen   d_out x d_in; of two bytes an entry it is rounded once
/// \param[out]    down     d_in x r
/// \param[out]    up       r x d_out
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if the rank is above W's smaller side, or s is not finite and above 0
/// \par Cost
/// 4 r d_in d_out flops and a QR factorization of d_out x r.
/// \see \cite buyukakyuz2024
template <class Ctx, RealWeight W, RealMatrix Down, RealMatrix Up>
  requires OutputMatrix<W> && OutputMatrix<Down> && OutputMatrix<Up> && SameScalar<Down, Up> &&
           StoredAs<scalar_t<Down>, W>
void olora(Ctx& ctx, double scaling, W&& frozen, Down&& down, Up&& up) {
  using S = scalar_t<Down>;
  detail::expect_initialization("olora", frozen, down, up, scaling);
  index_t const r = down.cols();
  auto q = scratch<S>(ctx, frozen.rows(), r);
  auto triangle = scratch<S>(ctx, r, r);
  detail::change_widened(ctx, frozen, [&](auto& weight) {
    householder_qr(ctx, weight.middleCols(0, r), q, triangle);
    multiply(ctx, weight.adjoint(), q, down);
    copy(ctx, q.adjoint(), up);
    multiply_add(ctx, -scaling, up.adjoint(), down.adjoint(), weight);
  });
}

/// Choices of goat_lora().
/// \ingroup nn
struct goat_options {
  double shrink = 10;  ///< \f$ \rho \f$: singular values are divided by it, above 0
  /// Factor of what is taken out of W; 0 takes 1/E, the mean weight of an expert.
  double removed = 0;
};

/// \brief A segment of the singular values for every expert (GOAT).
/// \ingroup nn
///
/// The singular triples of W, by falling value, are cut into E segments of equal length. Expert e
/// starts from the first r triples of segment e:
/// \f$ A_e = \sqrt{\Sigma_e / (s \rho)}\,V_e^T \f$, \f$ B_e = U_e \sqrt{\Sigma_e / (s \rho)} \f$, and W loses
/// \f$ c\,s \sum_e B_e A_e \f$. The experts' outputs are orthogonal from the start, since the \f$ U_e \f$
/// are parts of one frame.
///
/// \param[in]     ctx      where to run; nothing waits
/// \param[in,out] stream   advanced by one draw
/// \param[in]     count    E
/// \param[in]     scaling  \f$ s \f$ of the adapters, above 0
/// \param[in,out] frozen   d_out x d_in; of two bytes an entry it is rounded once
/// \param[out]    down     d_in x (E r)
/// \param[out]    up       (E r) x d_out
/// \param[in]     options  \f$ \rho \f$ and c
/// \throws shape_error   if a shape does not fit
/// \throws option_error  if there is no expert, r is longer than a segment, or s, \f$ \rho \f$ or c
///                       is out of range
/// \par Cost
/// That of the whole singular value decomposition of W: for matrices up to a few thousand.
/// \see \cite fan2025
template <class Ctx, RealWeight W, RealMatrix Down, RealMatrix Up>
  requires OutputMatrix<W> && OutputMatrix<Down> && OutputMatrix<Up> && SameScalar<Down, Up> &&
           StoredAs<scalar_t<Down>, W>
void goat_lora(Ctx& ctx, random_stream& stream, index_t count, double scaling, W&& frozen,
               Down&& down, Up&& up, goat_options options = {}) {
  using S = scalar_t<Down>;
  detail::expect_initialization("goat_lora", frozen, down, up, scaling);
  expect_option(count >= 1, "goat_lora", "count", count, "a number of at least 1");
  index_t const r = down.cols() / count;
  expect_shape("goat_lora", "down", down, frozen.cols(), r * count);
  expect_option(options.shrink > 0 && std::isfinite(options.shrink), "goat_lora", "shrink",
                options.shrink, "a finite number above 0");
  expect_option(options.removed >= 0 && std::isfinite(options.removed), "goat_lora", "removed",
                options.removed, "a finite number of at least 0");
  index_t const all = frozen.rows() < frozen.cols() ? frozen.rows() : frozen.cols();
  index_t const segment = all / count;
  expect_option(r <= segment, "goat_lora", "the rank", r,
                "at most the smaller side of the weight over the number of experts");
  auto u = scratch<S>(ctx, frozen.rows(), all);
  auto w = scratch<S>(ctx, 1, all);
  auto v = scratch<S>(ctx, frozen.cols(), all);
  double const removed = options.removed > 0 ? options.removed : 1 / static_cast<double>(count);
  detail::change_widened(ctx, frozen, [&](auto& weight) {
    randomized_svd(ctx, stream, weight, u, w, v, {.iterations = 0});
    for (index_t e = 0; e < count; ++e) {
      auto part = w.middleCols(e * segment, r);
      detail::split_root(ctx, scaling * options.shrink, u.middleCols(e * segment, r), part,
                         v.middleCols(e * segment, r), down.middleCols(e * r, r),
                         up.middleRows(e * r, r));
    }
    multiply_add(ctx, -removed * scaling, up.adjoint(), down.adjoint(), weight);
  });
}

}  // namespace stiefelx
