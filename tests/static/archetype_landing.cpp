// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Landing, POGO and projected gradients with the archetype backend; nvcc compiles this file as
// well, without Eigen.

#include <complex>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/base_direction.hpp>
#include <stiefelx/optim/generalized_landing.hpp>
#include <stiefelx/optim/landing.hpp>
#include <stiefelx/optim/landing_field.hpp>
#include <stiefelx/optim/pogo.hpp>
#include <stiefelx/optim/projected_gradient.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

struct visit_array {
  template <class A>
  void operator()(char const*, A&) const {}
};

struct identity {
  template <class Ctx, class X, class Bx>
  void operator()(Ctx& ctx, X const& x, Bx& bx) const {
    copy(ctx, x, bx);
  }
};

struct make_adamw {
  template <class Ctx, class X>
  auto operator()(Ctx& ctx, X const& x) const {
    return adamw(ctx, x, {.learning_rate = 1});
  }
};

template <class Opt, class S>
void steps(archetype::context& ctx, Opt opt, archetype::matrix<S>& x, archetype::matrix<S> const& g,
           archetype::matrix<int>& status) {
  opt.step(ctx, x, g);
  opt.step(ctx, x.middleCols(0, x.cols()), g.adjoint().adjoint(), status);
  opt.set_learning_rate(1e-3);
  opt.for_each_array(visit_array{});
}

template <class S>
void landing_methods(archetype::context& ctx, archetype::matrix<S>& x,
                     archetype::matrix<S> const& g, archetype::matrix<S> const& b,
                     archetype::matrix<S>& f, archetype::matrix<int>& status) {
  stiefel const m{x.rows(), x.cols()};
  relative_gradient(ctx, x, g, f);
  landing_field(ctx, x, g, 0.5, f.middleCols(0, f.cols()));
  generalized_landing_field(ctx, x, g, g, 1, f);
  steps(ctx, landing(ctx, m, x), x, g, status);
  landing safe(ctx, m, x, {.momentum = 0.5, .outside = landing_outside::safe_step});
  copy(ctx, safe.velocity(), f);
  (void)safe.step_length();

  generalized_landing general(ctx, x, {.learning_rate = 0.1});
  general.step(ctx, x, g, b);
  general.step(ctx, x.middleRows(0, x.rows()), g, identity{}, status);
  general.step(ctx, x, g, two_estimates{b, identity{}}, status);
  general.for_each_array(visit_array{});
  (void)general.step_length();
}

template <class S>
void others(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& g,
            archetype::matrix<int>& status) {
  stiefel const m{x.rows(), x.cols()};
  steps(ctx, pogo(ctx, m, x), x, g, status);
  steps(ctx, pogo(ctx, m, x, {.largest_step = 1, .root_every = 2}, momentum_base{}), x, g, status);
  steps(ctx, pogo(ctx, m, x, {}, vector_adam_base{}), x, g, status);
  (void)pogo(ctx, m, x).correction();
  steps(ctx, projected_gradient(ctx, m, x), x, g, status);
  steps(ctx, projected_gradient(ctx, oblique{x.rows(), x.cols()}, x), x, g, status);
  steps(ctx, projected_gradient(ctx, euclidean{x.rows(), x.cols()}, x, {.weight_decay = 0.1}), x, g,
        status);
}

void euclidean_bases(archetype::context& ctx, archetype::matrix<float>& x,
                     archetype::matrix<float> const& g, archetype::matrix<int>& status) {
  stiefel const m{x.rows(), x.cols()};
  steps(ctx, pogo(ctx, m, x, {}, optimizer_base{make_adamw{}}), x, g, status);
}

template void landing_methods(archetype::context&, archetype::matrix<float>&,
                              archetype::matrix<float> const&, archetype::matrix<float> const&,
                              archetype::matrix<float>&, archetype::matrix<int>&);
template void landing_methods(archetype::context&, archetype::matrix<std::complex<double>>&,
                              archetype::matrix<std::complex<double>> const&,
                              archetype::matrix<std::complex<double>> const&,
                              archetype::matrix<std::complex<double>>&, archetype::matrix<int>&);
template void others(archetype::context&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, archetype::matrix<int>&);
template void others(archetype::context&, archetype::matrix<std::complex<double>>&,
                     archetype::matrix<std::complex<double>> const&, archetype::matrix<int>&);

}  // namespace stiefelx
