// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <complex>
#include <tuple>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace support {

/// \brief f(x) = Re tr(x^H a x D) / 2 - Re tr(c^H x) on any manifold, with a Hermitian and D a real
/// diagonal: leading and trailing eigenspaces, Brockett's cost, Procrustes (a = 0), quadratics.
///
/// a x is found once a point, by cost(). The functions count their calls.
template <class Case, class M, bool Hessian = true>
struct brockett {
  using S = typename Case::scalar;
  using matrix = typename Case::matrix;
  using reals = typename Case::backend::template matrix<double>;
  using context = typename Case::context;

  M manifold;
  matrix a;
  matrix c;
  reals weights;  ///< 1 x p: the diagonal of D
  index_t costs = 0, gradients = 0, hessians = 0;
  index_t most_gradients = 0;  ///< most calls of gradient() at one point

  struct cache {
    matrix product;  ///< a x D
    index_t gradients = -1;
  };

  static brockett make(context& ctx, M m, matrix_x<S> const& a, matrix_x<S> const& c,
                       matrix_x<double> const& weights) {
    return {m, Case::backend::upload(ctx, a), Case::backend::upload(ctx, c),
            Case::backend::upload(ctx, weights)};
  }

  template <class X>
  cache make_cache(context& ctx, X const& x) {
    return {zeros<S>(ctx, x.rows(), x.cols())};
  }

  template <class X>
  double cost(context& ctx, X const& x, cache& known) {
    ++costs;
    known.gradients = 0;
    apply(ctx, x, known.product);
    auto square = scratch<double>(ctx, 1, 1), line = scratch<double>(ctx, 1, 1);
    inner(ctx, x, known.product, square);
    inner(ctx, c, x, line);
    return value(ctx, square) / 2 - value(ctx, line);
  }

  template <class X, class G>
  void gradient(context& ctx, X const&, cache& known, G& g) {
    ++gradients;
    // A point whose cost was never asked for has a cache that was never filled.
    known.gradients = known.gradients < 0 ? 1000 : known.gradients + 1;
    most_gradients = std::max(most_gradients, known.gradients);
    copy(ctx, known.product, g);
    axpy(ctx, -1, c, g);
  }

  template <class X, class V, class H>
    requires Hessian
  void hessian(context& ctx, X const&, cache&, V const& v, H& h) {
    ++hessians;
    apply(ctx, v, h);
  }

 private:
  template <class V, class H>
  void apply(context& ctx, V const& v, H& h) {
    multiply(ctx, a, v, h);
    scale_columns(ctx, weights, h);
  }
};

/// Every scalar, and the archetype once: minimizations are long to compile.
using solver_cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
                                test_case<host_backend, std::complex<double>>,
                                test_case<archetype_backend, std::complex<double>>>;

/// Ones, for an eigenspace.
inline matrix_x<double> equal_weights(index_t p) { return matrix_x<double>::Ones(1, p); }

/// A quadratic on a flat space: a positive with condition 10.
template <class Case>
auto flat_quadratic(typename Case::context& ctx, index_t n) {
  using S = typename Case::scalar;
  return brockett<Case, stiefelx::euclidean>::make(ctx, {n, 1}, positive_matrix<S>(n, 10, 1),
                                                   random_matrix<S>(n, 1, 7), equal_weights(1));
}

}  // namespace support
