// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Muon, SPEL, StelLA's wrapper and the Cayley optimizers, with the archetype backend.

#include <complex>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/scaled_stiefel.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/cayley_adam.hpp>
#include <stiefelx/optim/cayley_momentum.hpp>
#include <stiefelx/optim/muon.hpp>
#include <stiefelx/optim/spel.hpp>
#include <stiefelx/optim/stella.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

struct visit_no_array {
  template <class A>
  void operator()(char const*, A&) const {}
};

template <class Opt, class S>
void a_few_steps(archetype::context& ctx, Opt&& opt, archetype::matrix<S>& x,
                 archetype::matrix<S> const& g, archetype::matrix<int>& status) {
  opt.step(ctx, x, g);
  opt.step(ctx, x.middleCols(0, x.cols()), g.adjoint().adjoint(), status);
  opt.step(ctx, x, g, no_status{});
  opt.set_learning_rate(1e-3);
  opt.for_each_array(visit_no_array{});
}

template <class S>
void directions(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& g,
                archetype::matrix<int>& status) {
  auto const schedule = make_muon_schedule(muon_method::published, 5, 0, 0);
  orthogonalize(ctx, g.adjoint(), x.middleCols(0, 2), schedule, largest_value(schedule));
  muon free(ctx, x, {.method = muon_method::polar_express});
  a_few_steps(ctx, free, x, g, status);
  copy(ctx, free.momentum(), x);

  stiefel const m{x.rows(), x.cols()};
  a_few_steps(ctx, spel(ctx, m, x), x, g, status);
  a_few_steps(ctx, spel(ctx, scaled_stiefel{x.rows(), x.cols(), 2}, x), x, g, status);
  a_few_steps(ctx, spel(ctx, euclidean{x.rows(), x.cols()}, x), x, g, status);
  a_few_steps(ctx, stella(ctx, m, x, muon(ctx, x)), x, g, status);
  a_few_steps(ctx, stella(ctx, m, x, muon(ctx, x), {.hidden = 64}, exponential_retraction{}), x, g,
              status);
  a_few_steps(ctx, stella(ctx, euclidean{x.rows(), x.cols()}, x, muon(ctx, x)), x, g, status);

  cayley_momentum slow(ctx, m, x, {.newton_schulz_steps = 0});
  a_few_steps(ctx, slow, x, g, status);
  copy(ctx, slow.velocity(), x);
  cayley_adam quick(ctx, m, x);
  a_few_steps(ctx, quick, x, g, status);
  copy(ctx, quick.first_moment(), x);
}

template void directions(archetype::context&, archetype::matrix<float>&,
                         archetype::matrix<float> const&, archetype::matrix<int>&);
template void directions(archetype::context&, archetype::matrix<double>&,
                         archetype::matrix<double> const&, archetype::matrix<int>&);
template void directions(archetype::context&, archetype::matrix<std::complex<double>>&,
                         archetype::matrix<std::complex<double>> const&, archetype::matrix<int>&);

template <class S>
void adam_on_frames(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& g,
                    archetype::matrix<int>& status) {
  a_few_steps(ctx, stella(ctx, stiefel{x.rows(), x.cols()}, x, adamw(ctx, x)), x, g, status);
}

template void adam_on_frames(archetype::context&, archetype::matrix<float>&,
                             archetype::matrix<float> const&, archetype::matrix<int>&);

}  // namespace stiefelx
