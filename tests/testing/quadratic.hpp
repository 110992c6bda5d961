// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <support/backends.hpp>
#include <support/data.hpp>

namespace support {

/// f(x) = Re tr(x^H a x) / 2 + Re tr(b^H x), a Hermitian; its gradient is a x + b, its Hessian along
/// v is a v. Each of them may be wrong by choice.
template <class Case>
struct quadratic {
  using S = typename Case::scalar;
  using matrix = typename Case::matrix;
  using context = typename Case::context;

  matrix a;
  matrix b;
  double curvature = 1;      ///< factor of the first term
  double wrong = 0;          ///< relative error of the gradient
  double foreign = 0;        ///< part of b that the cost does not have
  double wrong_hessian = 0;  ///< relative error of the Hessian

  static quadratic make(context& ctx, index_t n, index_t p) {
    return {Case::backend::upload(ctx, positive_matrix<S>(n, 10, 3)),
            Case::backend::upload(ctx, random_matrix<S>(n, p, 4))};
  }

  double cost(context& ctx, matrix const& x) const {
    auto s = single<typename Case::backend, typename Case::real>(ctx);
    auto const ax = product(ctx, a, x);
    inner(ctx, x, ax, s);
    double const square = static_cast<double>(value(ctx, s));
    inner(ctx, b, x, s);
    return curvature * square / 2 + static_cast<double>(value(ctx, s));
  }

  void gradient(context& ctx, matrix const& x, matrix& g) const {
    multiply(ctx, a, x, g);
    scale(ctx, curvature, g);
    axpy(ctx, 1 + foreign, b, g);
    scale(ctx, 1 + wrong, g);
  }

  void hessian(context& ctx, matrix const&, matrix const& v, matrix& h) const {
    multiply(ctx, a, v, h);
    scale(ctx, curvature * (1 + wrong_hessian), h);
  }
};

}  // namespace support
