// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The quasi-Newton and trust-region solvers with the archetype backend: what compiles here compiles
// for any backend; nvcc compiles this file as well, without Eigen.

#include <complex>

#include <stiefelx/core/context.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/finite_difference_hessian.hpp>
#include <stiefelx/optim/limited_bfgs.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/secant_pairs.hpp>
#include <stiefelx/optim/truncated_cg.hpp>
#include <stiefelx/optim/trust_region.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

// f(x) = Re tr(x^H a x) / 2.
template <class S, class M>
struct rayleigh {
  M manifold;
  archetype::matrix<S> const& a;

  template <class X>
  double cost(archetype::context& ctx, X const& x) {
    auto const ax = product(ctx, a, x);
    auto s = scratch<double>(ctx, 1, 1);
    inner(ctx, x, ax, s);
    return value(ctx, s) / 2;
  }
  template <class X, class G>
  void gradient(archetype::context& ctx, X const& x, G& g) {
    multiply(ctx, a, x, g);
  }
};

// With a Hessian and a preconditioner.
template <class S, class M>
struct known_rayleigh : rayleigh<S, M> {
  template <class X, class V, class H>
  void hessian(archetype::context& ctx, X const&, V const& v, H& h) {
    multiply(ctx, this->a, v, h);
  }
  template <class X, class V, class W>
  void precondition(archetype::context& ctx, X const&, V const& v, W& w) {
    copy(ctx, v, w);
  }
};

template <class S, class M>
void deterministic_solvers(archetype::context& ctx, M m, archetype::matrix<S> const& a,
                           archetype::matrix<S>& x) {
  rayleigh<S, M> bare{m, a};
  known_rayleigh<S, M> known{{m, a}};
  (void)minimize(ctx, bare, x, limited_bfgs{});
  (void)minimize(ctx, known, x, limited_bfgs{.space = pair_space::ambient});
  (void)minimize(ctx, bare, x, trust_region{});
  (void)minimize(ctx, known, x, trust_region{});
}

template void deterministic_solvers(archetype::context&, stiefel, archetype::matrix<float> const&,
                                    archetype::matrix<float>&);
template void deterministic_solvers(archetype::context&, euclidean,
                                    archetype::matrix<double> const&, archetype::matrix<double>&);
template void deterministic_solvers(archetype::context&, stiefel,
                                    archetype::matrix<std::complex<double>> const&,
                                    archetype::matrix<std::complex<double>>&);

}  // namespace stiefelx
