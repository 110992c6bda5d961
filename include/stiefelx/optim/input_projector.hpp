// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>

namespace stiefelx {

/// The \f$ \alpha \f$ of one block of inputs in an input_projector, and its root.
/// \ingroup optim
struct projector_shift_element {
  double alpha;  ///< as the user chose it
  double least;  ///< smallest, relative to the energy of the block

  /// \param[out] shift   \f$ \alpha \f$, or more where rounding would swallow it
  /// \param[out] root    its square root
  /// \param[in]  energy  squared norm of the block
  STIEFELX_HD void operator()(double& shift, double& root, double const& energy) const {
    shift = least * energy > alpha ? least * energy : alpha;
    root = std::sqrt(shift);
  }
};

/// \brief Orthogonal weights modification: the map that removes what inputs of the past span.
/// \ingroup optim
///
/// With \f$ S = \sum x\,x^H \f$ over the inputs seen, columns of length d,
/// \f[ P = (I + S/\alpha)^{-1}, \f]
/// and P = I before the first. A gradient G of a weight whose rows belong to the inputs becomes
/// \f$ P\,G \f$: a step along it changes the weight's outputs for inputs of the past hardly, for a
/// direction of total energy s by the factor \f$ \alpha / (\alpha + s) \f$ \cite zeng2019.
///
/// A block A of m inputs enters by Woodbury's identity, in products with a d x m matrix and one
/// m x m Cholesky factor: \f$ P \leftarrow P - P A\,(\alpha I + A^H P A)^{-1} A^H P \f$. What is kept
/// is not P, whose differences would lose symmetry and sign to rounding, but a factor W in the wide
/// scalar with \f$ P = W W^H \f$. With \f$ F = W^H A \f$, \f$ \alpha I + F^H F = R^H R \f$ and
/// \f$ Z = R + \sqrt{\alpha}\,I \f$ the same update is
/// \f[ W \leftarrow W - (W F R^{-1})\,(F Z^{-1})^H , \f]
/// since \f$ (I - F R^{-1} Z^{-H} F^H)(I - F Z^{-1} R^{-H} F^H) = I - F (R^H R)^{-1} F^H \f$
/// \cite andrews1968. So P is Hermitian to the bit and never indefinite, whatever the rounding and
/// however many updates. It stays positive definite as long as the smallest singular value of W,
/// \f$ (1 + \lVert S \rVert_2/\alpha)^{-1/2} \f$, is above the rounding of the wide scalar, which it
/// is for every energy below \f$ 10^{20} \alpha \f$; each update divides P's determinant by that of
/// \f$ I + A^H P A/\alpha \f$. No eigenvalue exceeds 1 but by rounding, since every update subtracts.
///
/// An \f$ \alpha \f$ below the rounding of a block's energy, \f$ 2\,(m+1)\,\epsilon\,\lVert A
/// \rVert_F^2 \f$ in the wide scalar, counts as that much for the block: the Cholesky factor always
/// exists, and what rounding leaves of inputs that P removes already is not taken for a new direction.
/// So a tiny \f$ \alpha \f$ gives the orthogonal projector onto the complement, to rounding. Inputs
/// that are not finite, or so large that their Gram matrix is not, change nothing and set
/// `not_finite`.
///
/// \tparam Factor  owning matrix of the wide scalar
template <Matrix Factor>
class input_projector {
 public:
  static constexpr char const* name = "input_projector";  ///< for messages and saved states
  static constexpr index_t block = 64;                    ///< inputs of one update

  /// \param[in] ctx    where the state lives
  /// \param[in] x      d x p, the weight whose inputs are meant: its rows, scalar and memory count
  /// \param[in] alpha  \f$ \alpha > 0 \f$: inputs of less energy are hardly noticed
  /// \throws option_error  if alpha is not above 0
  template <class Ctx, Matrix X>
  input_projector(Ctx& ctx, X const& x, double alpha)
      : alpha_(checked(alpha)), factor_(zeros<scalar_t<Factor>>(ctx, x.rows(), x.rows())) {
    set_identity(ctx, factor_);
  }

  /// \brief Bytes of the state.
  /// \param[in] dimension  d
  /// \returns a number, as a double since it may be large
  static double bytes(index_t dimension) {
    auto const d = static_cast<double>(dimension);
    return d * d * static_cast<double>(sizeof(scalar_t<Factor>));
  }

  /// Adds inputs to S. Never waits.
  /// \param[in]     ctx     where to run
  /// \param[in]     a       d x m, an input a column; any matrix or expression
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if a has not d rows
  /// \par Cost
  /// 6 d^2 m flops, in blocks of 64 inputs; scratch of three d x 64 matrices.
  template <class Ctx, Matrix A, class Status = no_status>
  void observe(Ctx& ctx, A const& a, Status&& status = {}) {
    expect_shape("input_projector::observe", "a", a, factor_.rows(), a.cols());
    auto const& all = dense(ctx, a);
    for (index_t first = 0; first < a.cols(); first += block) {
      index_t const count = std::min(block, a.cols() - first);
      auto part = widen(ctx, all.middleCols(first, count));
      leave_if_not_finite(ctx, part, status);
      update(ctx, part);
    }
  }

  /// \brief Lets the past fade: S becomes rho S.
  ///
  /// \f$ P \leftarrow (\rho P^{-1} + (1-\rho) I)^{-1} \f$, which is \f$ W R^{-1} \f$ with \f$ R^H R = \rho
  /// I + (1-\rho) W^H W \f$: as safe as an update, since R's condition is at most
  /// \f$ \rho^{-1/2} \f$.
  ///
  /// \param[in,out] ctx      where to run; nothing waits
  /// \param[in]     rho      in (0, 1]
  /// \param[in]     proceed  1 x 1 of double; 0 leaves everything as it is
  /// \throws option_error  if rho is out of its range
  /// \par Cost
  /// 7/3 d^3 flops, two d x d scratch matrices; nothing for rho = 1.
  template <class Ctx, Matrix Number>
  void forget(Ctx& ctx, double rho, Number const& proceed) {
    expect_option(rho > 0 && rho <= 1, "input_projector::forget", "rho", rho, "a number in (0, 1]");
    if (rho == 1) return;
    index_t const d = factor_.rows();
    auto r = gram(ctx, factor_);
    scale(ctx, 1 - rho, r);
    auto next = scratch<scalar_t<Factor>>(ctx, d, d);
    set_identity(ctx, next);
    axpy(ctx, rho, next, r);
    cholesky(ctx, r, no_status{});
    copy(ctx, factor_, next);
    solve_right(ctx, r, next);
    copy_if(ctx, proceed, next, factor_);
  }

  /// y = P g.
  /// \param[in]  ctx  where to run; nothing waits
  /// \param[in]  g    d x p; any scalar that widens to the state's
  /// \param[out] y    d x p; may be g
  /// \throws shape_error  if g has not d rows, or y another shape
  /// \par Cost
  /// 4 d^2 p flops in the wide scalar; three d x p scratch matrices.
  template <class Ctx, Matrix G, class Y>
    requires OutputMatrix<Y>
  void apply(Ctx& ctx, G const& g, Y&& y) const {
    expect_shape("input_projector::apply", "g", g, factor_.rows(), g.cols());
    expect_shape("input_projector::apply", "y", y, factor_.rows(), g.cols());
    auto const wide = widen(ctx, g);
    auto const inside = product(ctx, factor_.adjoint(), wide);
    copy(ctx, product(ctx, factor_, inside), y);
  }

  /// \param[in] ctx  where to run
  /// \returns P, d x d scratch of the wide scalar, Hermitian to the bit
  template <class Ctx>
  auto projector(Ctx& ctx) const {
    return gram(ctx, factor_.adjoint());
  }

  /// \returns W, d x d
  Factor const& factor() const { return factor_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("factor", factor_);
  }

 private:
  static double checked(double alpha) {
    expect_option(alpha > 0, name, "alpha", alpha, "a number above 0");
    return alpha;
  }

  // Zeros in place of a block that cannot be used: an update with zeros changes no bit.
  template <class Ctx, class A, class Status>
  static void leave_if_not_finite(Ctx& ctx, A& a, Status&& status) {
    auto finite = scratch<double>(ctx, 1, 1);
    auto bits = clear_status(ctx, 1);
    {
      auto const moments = gram(ctx, a);
      all_finite(ctx, moments, finite);
    }
    transform(ctx, not_finite_element{}, outputs(bits), inputs(finite));
    raise(ctx, status, bits);
    auto const kept = clone(ctx, a);
    fill(ctx, 0, a);
    copy_if(ctx, finite, kept, a);
  }

  template <class Ctx, class A>
  void update(Ctx& ctx, A const& a) {
    using W = scalar_t<Factor>;
    index_t const m = a.cols();
    auto f = product(ctx, factor_.adjoint(), a);
    auto k = product(ctx, factor_, f);
    auto shift = scratch<double>(ctx, 1, 1);
    auto root = scratch<double>(ctx, 1, 1);
    auto energy = scratch<double>(ctx, 1, 1);
    inner(ctx, a, a, energy);
    // Twice the backward error of an m x m Cholesky factor, so that every pivot stays positive.
    double const least = 2 * static_cast<double>(m + 1) *
                         static_cast<double>(std::numeric_limits<real_of_t<W>>::epsilon());
    transform(ctx, projector_shift_element{alpha_, least}, outputs(shift, root), inputs(energy));
    auto r = gram(ctx, f);
    auto identity = scratch<W>(ctx, m, m);
    set_identity(ctx, identity);
    axpy(ctx, shift, identity, r);
    cholesky(ctx, r, no_status{});
    solve_right(ctx, r, k);
    axpy(ctx, root, identity, r);
    solve_right(ctx, r, f);
    multiply_add(ctx, -1, k, f.adjoint(), factor_);
  }

  double alpha_;
  Factor factor_;
};

/// The state lives where the context's matrices live, in the wide scalar of the weight.
/// \ingroup optim
template <class Ctx, Matrix X>
input_projector(Ctx&, X const&, double) -> input_projector<matrix_t<Ctx, wide_t<scalar_t<X>>>>;

}  // namespace stiefelx
