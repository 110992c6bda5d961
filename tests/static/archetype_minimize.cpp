// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The deterministic solvers and their line searches, instantiated with the backend that promises
// nothing beyond the library's pages, with no Eigen in sight.

#include <complex>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/barzilai_borwein.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/gradient_descent.hpp>
#include <stiefelx/optim/hager_zhang.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/nonmonotone.hpp>
#include <stiefelx/optim/strong_wolfe.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

namespace {

/// Re tr(a^H x), with a cache, a preconditioner and a Hessian.
template <class S, class M>
struct line_cost {
  M manifold;
  archetype::matrix<S> const& a;

  struct cache {
    double cost;
  };
  template <class X>
  cache make_cache(archetype::context&, X const&) {
    return {0};
  }
  template <class X>
  double cost(archetype::context& ctx, X const& x, cache& known) {
    auto s = scratch<double>(ctx, 1, 1);
    inner(ctx, a, x, s);
    return known.cost = value(ctx, s);
  }
  template <class X, class G>
  void gradient(archetype::context& ctx, X const&, cache&, G& g) {
    copy(ctx, a, g);
  }
  template <class X, class V, class W>
  void precondition(archetype::context& ctx, X const&, cache&, V const& v, W& w) {
    copy(ctx, v, w);
  }
};

}  // namespace

template <class S, class M>
stop_reason solvers(archetype::context& ctx, M m, archetype::matrix<S>& x,
                    archetype::matrix<S> const& a) {
  line_cost<S, M> problem{m, a};
  auto const stop = gradient_below{1e-3} || (cost_below{0} && iterations{3});
  minimize(ctx, problem, x, gradient_descent{});
  minimize(ctx, problem, x.middleCols(0, x.cols()), gradient_descent{.search = strong_wolfe{}},
           stop);
  minimize(ctx, problem, x, conjugate_gradient{}, stop,
           [](iteration const& at, auto const&) { return at.number > 3; });
  minimize(ctx, problem, x, conjugate_gradient{.search = armijo{}}, stop);
  return minimize(ctx, problem, x, barzilai_borwein{.reference = average_cost{}}, stop).reason;
}

template stop_reason solvers(archetype::context&, stiefel, archetype::matrix<float>&,
                             archetype::matrix<float> const&);
template stop_reason solvers(archetype::context&, stiefel, archetype::matrix<std::complex<double>>&,
                             archetype::matrix<std::complex<double>> const&);
template stop_reason solvers(archetype::context&, euclidean, archetype::matrix<double>&,
                             archetype::matrix<double> const&);

}  // namespace stiefelx
