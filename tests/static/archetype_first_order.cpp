// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// First-order optimizers with the archetype backend: what compiles here compiles for any backend.

#include <complex>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/rasa.hpp>
#include <stiefelx/optim/riemannian_adagrad.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/riemannian_rmsprop.hpp>
#include <stiefelx/optim/sgd.hpp>
#include <stiefelx/optim/tangent_decay.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

struct visit_nothing {
  template <class A>
  void operator()(char const*, A&) const {}
};

template <class Opt, class S>
void take_steps(archetype::context& ctx, Opt opt, archetype::matrix<S>& x,
                archetype::matrix<S> const& g, archetype::matrix<int>& status) {
  opt.step(ctx, x, g);
  opt.step(ctx, x.middleCols(0, x.cols()), g.adjoint().adjoint(), status);
  opt.set_learning_rate(1e-3);
  opt.for_each_array(visit_nothing{});
}

template <class S, class M>
void first_order(archetype::context& ctx, M m, archetype::matrix<S>& x,
                 archetype::matrix<S> const& g, archetype::matrix<int>& status) {
  take_steps(ctx, riemannian_momentum(ctx, m, x, {.nesterov = true, .weight_decay = 1e-2}), x, g,
             status);
  take_steps(ctx, riemannian_rmsprop(ctx, m, x, {.momentum = 0.5}), x, g, status);
  take_steps(ctx, riemannian_adagrad(ctx, m, x), x, g, status);
  take_steps(ctx, rasa(ctx, m, x, {.side = rasa_side::rows}), x, g, status);
  take_steps(ctx, sgd(ctx, x, {.momentum = 0.5}), x, g, status);
  add_tangent_decay(ctx, m, 0.1, g, x);
}

template void first_order(archetype::context&, stiefel, archetype::matrix<float>&,
                          archetype::matrix<float> const&, archetype::matrix<int>&);
template void first_order(archetype::context&, stiefel, archetype::matrix<std::complex<double>>&,
                          archetype::matrix<std::complex<double>> const&, archetype::matrix<int>&);
template void first_order(archetype::context&, euclidean, archetype::matrix<double>&,
                          archetype::matrix<double> const&, archetype::matrix<int>&);

}  // namespace stiefelx
