// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/orth/svd.hpp>

namespace stiefelx {

/// The part of a direction that a low_rank_projector removes.
/// \ingroup optim
struct removed_part_element {
  double alpha;   ///< \f$ \alpha \f$
  double cutoff;  ///< roots up to this part of the largest count as zero

  /// \param[out] part     \f$ \sigma^2 / (\sigma^2 + \alpha) \f$
  /// \param[in]  root     \f$ \sigma \f$
  /// \param[in]  largest  the largest \f$ \sigma \f$
  template <class Real>
  STIEFELX_HD void operator()(Real& part, Real const& root, Real const& largest) const {
    auto const s = static_cast<double>(root);
    part = s > cutoff * static_cast<double>(largest) ? static_cast<Real>(1 / (1 + alpha / s / s))
                                                     : Real(0);
  }
};

/// Settings of low_rank_projector.
/// \ingroup optim
struct low_rank_projector_options {
  index_t rank = 16;  ///< m, the directions that are kept: from 1 to d - 1
  /// \f$ \alpha \ge 0 \f$: inputs of less energy are hardly noticed. With 0 the projector is exact:
  /// a kept direction is removed to rounding.
  double alpha = 1;
};

/// \brief An input_projector of O(d m) numbers: the m strongest directions of the inputs.
/// \ingroup optim
///
/// Keeps orthonormal columns U, d x m, and roots \f$ \sigma_1 \ge \dots \ge \sigma_m \ge 0 \f$ with
/// \f$ S \approx U\,\mathrm{diag}(\sigma^2)\,U^H \f$, and
/// \f[ P = I - U\,\mathrm{diag}(g)\,U^H, \qquad g_i = \frac{\sigma_i^2}{\sigma_i^2 + \alpha}, \f]
/// which is \f$ (I + S/\alpha)^{-1} \f$ as long as the inputs span at most m directions. New inputs A
/// enter by the singular value decomposition of \f$ [\,U\,\mathrm{diag}(\sigma),\ A\,] \f$, cut after m
/// values. Cutting makes S smaller and never larger, so P removes no more than the exact one does. U
/// is orthonormal to rounding after any number of updates, since svd() makes it anew each time.
///
/// \f$ \alpha = 0 \f$ makes P the orthogonal projector onto the complement of U. Directions whose
/// energy \f$ \sigma^2 \f$ is at most \f$ d\,\epsilon \f$ times the largest count as rounding there
/// and are not removed.
///
/// Inputs that are not finite change nothing and set `not_finite`.
///
/// \tparam Basis  owning matrix of the data's scalar
/// \tparam Roots  owning real matrix
template <Matrix Basis, RealMatrix Roots>
class low_rank_projector {
 public:
  static constexpr char const* name = "low_rank_projector";  ///< for messages and saved states
  static constexpr index_t block = 32;                       ///< inputs of one update, at most

  /// \param[in] ctx      where the state lives
  /// \param[in] x        d x p, the weight whose inputs are meant: its rows, scalar and memory count
  /// \param[in] options  rank and \f$ \alpha \f$
  /// \throws option_error  if an option is out of its range
  template <class Ctx, Matrix X>
  low_rank_projector(Ctx& ctx, X const& x, low_rank_projector_options options = {})
      : options_(checked(options, x.rows())),
        basis_(zeros<scalar_t<Basis>>(ctx, x.rows(), options.rank)),
        roots_(zeros<scalar_t<Roots>>(ctx, 1, options.rank)) {
    set_identity(ctx, basis_);
  }

  /// \brief Bytes of the state.
  /// \param[in] dimension  d
  /// \param[in] rank       m
  /// \returns a number, as a double since it may be large
  static double bytes(index_t dimension, index_t rank) {
    return static_cast<double>(rank) *
           (static_cast<double>(dimension) * static_cast<double>(sizeof(scalar_t<Basis>)) +
            static_cast<double>(sizeof(scalar_t<Roots>)));
  }

  /// Adds inputs to S. Never waits.
  /// \param[in]     ctx     where to run
  /// \param[in]     a       d x n, an input a column; any matrix or expression
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if a has not d rows
  /// \par Cost
  /// 6 d (m + b)^2 flops and the Jacobi rotations of an (m + b) x (m + b) triangle for every b
  /// inputs, b = min(32, d - m); two d x (m + b) scratch matrices.
  template <class Ctx, Matrix A, class Status = no_status>
  void observe(Ctx& ctx, A const& a, Status&& status = {}) {
    index_t const d = basis_.rows(), m = basis_.cols();
    expect_shape("low_rank_projector::observe", "a", a, d, a.cols());
    auto const& all = dense(ctx, a);
    index_t const most = std::min(block, d - m);
    for (index_t first = 0; first < a.cols(); first += most)
      update(ctx, all.middleCols(first, std::min(most, a.cols() - first)), status);
  }

  /// \brief Lets the past fade: S becomes rho S.
  /// \param[in,out] ctx      where to run; nothing waits
  /// \param[in]     rho      in (0, 1]
  /// \param[in]     proceed  1 x 1 of double; 0 leaves everything as it is
  /// \throws option_error  if rho is out of its range
  template <class Ctx, Matrix Number>
  void forget(Ctx& ctx, double rho, Number const& proceed) {
    expect_option(rho > 0 && rho <= 1, "low_rank_projector::forget", "rho", rho,
                  "a number in (0, 1]");
    if (rho == 1) return;
    auto next = clone(ctx, roots_);
    scale(ctx, std::sqrt(rho), next);
    copy_if(ctx, proceed, next, roots_);
  }

  /// y = P g.
  /// \param[in]  ctx  where to run; nothing waits
  /// \param[in]  g    d x p
  /// \param[out] y    d x p; may be g
  /// \throws shape_error  if g has not d rows, or y another shape
  /// \throws alias_error  if y overlaps g without being g
  /// \par Cost
  /// 4 d m p flops; one d x m scratch matrix.
  template <class Ctx, Matrix G, class Y>
    requires OutputMatrix<Y> && SameScalar<Basis, G, Y>
  void apply(Ctx& ctx, G const& g, Y&& y) const {
    expect_shape("low_rank_projector::apply", "g", g, basis_.rows(), g.cols());
    expect_shape("low_rank_projector::apply", "y", y, basis_.rows(), g.cols());
    expect_same_or_distinct(ctx, "low_rank_projector::apply", "y", y, "g", g);
    auto const inside = product(ctx, basis_.adjoint(), g);
    auto removed = clone(ctx, basis_);
    scale_columns(ctx, removed_parts(ctx), removed);
    copy(ctx, g, y);
    multiply_add(ctx, -1, removed, inside, y);
  }

  /// \param[in] ctx  where to run
  /// \returns 1 x m scratch: \f$ g_i \f$, the part of direction i that apply() removes
  template <class Ctx>
  auto removed_parts(Ctx& ctx) const {
    using Real = scalar_t<Roots>;
    auto parts = scratch<Real>(ctx, 1, roots_.cols());
    double const rounding = static_cast<double>(std::numeric_limits<Real>::epsilon()) *
                            static_cast<double>(basis_.rows());
    double const cutoff = options_.alpha > 0 ? 0 : std::sqrt(rounding);
    transform(ctx, removed_part_element{options_.alpha, cutoff}, outputs(parts),
              inputs(roots_, roots_.middleCols(0, 1)));
    return parts;
  }

  /// \returns U, d x m, orthonormal columns
  Basis const& basis() const { return basis_; }
  /// \returns \f$ \sigma \f$, 1 x m, descending
  Roots const& roots() const { return roots_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("basis", basis_);
    visit("roots", roots_);
  }

 private:
  static low_rank_projector_options checked(low_rank_projector_options options, index_t rows) {
    expect_option(options.rank >= 1 && options.rank < rows, name, "rank", options.rank,
                  "a number of at least 1, and below the number of inputs");
    expect_option(options.alpha >= 0, name, "alpha", options.alpha, "a number of at least 0");
    return options;
  }

  template <class Ctx, class A, class Status>
  void update(Ctx& ctx, A const& a, Status&& status) {
    index_t const d = basis_.rows(), m = basis_.cols(), n = m + a.cols();
    auto all = scratch<scalar_t<Basis>>(ctx, d, n);
    copy(ctx, basis_, all.middleCols(0, m));
    scale_columns(ctx, roots_, all.middleCols(0, m));
    copy(ctx, a, all.middleCols(m, a.cols()));
    auto w = scratch<scalar_t<Roots>>(ctx, 1, n);
    auto v = scratch<scalar_t<Basis>>(ctx, n, n);
    svd(ctx, all, all, w, v);
    // A NaN or an infinity among the inputs fills w, and so does energy beyond the scalar's range.
    auto finite = scratch<double>(ctx, 1, 1);
    all_finite(ctx, w, finite);
    auto bits = clear_status(ctx, 1);
    transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
    raise(ctx, status, bits);
    copy_if(ctx, finite, all.middleCols(0, m), basis_);
    copy_if(ctx, finite, w.middleCols(0, m), roots_);
  }

  low_rank_projector_options options_;
  Basis basis_;
  Roots roots_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
low_rank_projector(Ctx&, X const&, low_rank_projector_options = {})
    -> low_rank_projector<matrix_t<Ctx, scalar_t<X>>, matrix_t<Ctx, real_t<X>>>;

}  // namespace stiefelx
