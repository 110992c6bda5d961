// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every algorithm with the archetype backend, whose matrices have what the library's pages promise
// and nothing else. What compiles here compiles for any backend; nvcc compiles this file as well,
// without Eigen.

#include <complex>
#include <type_traits>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/cross_entropy.hpp>
#include <stiefelx/nn/expert_gain.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <stiefelx/nn/gelu.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/moe_lora_body.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/clip.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/schedule.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/residual.hpp>
#include <stiefelx/testing/check_gradient.hpp>
#include <stiefelx/testing/check_retraction.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

static_assert(Context<archetype::context>);
static_assert(std::is_same_v<matrix_t<archetype::context, float>, archetype::matrix<float>>);
static_assert(std::is_same_v<owning_t<archetype::context, archetype::view<double const>>,
                             archetype::matrix<double>>);

// --- core and orth -------------------------------------------------------------------------------

template <class S>
void factorizations(archetype::context& ctx, archetype::matrix<S> const& a, archetype::matrix<S>& q,
                    archetype::matrix<S>& r, archetype::matrix<int>& status,
                    archetype::matrix<real_of_t<S>>& s) {
  random_stream stream{1, 0};
  fill_normal(ctx, stream, 1, q);
  fill_normal(ctx, stream, 1, q.middleCols(0, 1));

  gram_schmidt(ctx, a, q, r);
  gram_schmidt(ctx, a.middleCols(0, 2), q.middleCols(0, 2), r.middleRows(0, 2).middleCols(0, 2),
               status);
  gram_schmidt(ctx, a.adjoint(), q, r, no_status{});
  householder_qr(ctx, a, q, r);
  householder_qr(ctx, a.middleRows(0, 4), q.middleRows(0, 4), r, status);
  householder_qr(ctx, a.adjoint(), q, r, no_status{});
  cholesky_qr(ctx, a, q, r);
  cholesky_qr(ctx, a.adjoint(), q, r, status, {.method = cholesky_qr_method::shifted_three});
  cholesky_qr(ctx, q, q, r, no_status{}, {.method = cholesky_qr_method::one_pass});
  polar(ctx, a, q);
  polar(ctx, a.adjoint(), q, status, {.iterations = 12});
  polar(ctx, a.middleCols(0, 2), q.middleCols(0, 2), no_status{});
  inverse_sqrt(ctx, r, 0, 10, q.middleRows(0, 4));
  orthonormality_error(ctx, q, s);
  orthonormality_error(ctx, q.middleCols(0, 1), s);
  orthonormality_error(ctx, q.adjoint(), s);
}

template void factorizations(archetype::context&, archetype::matrix<float> const&,
                             archetype::matrix<float>&, archetype::matrix<float>&,
                             archetype::matrix<int>&, archetype::matrix<float>&);
template void factorizations(archetype::context&, archetype::matrix<double> const&,
                             archetype::matrix<double>&, archetype::matrix<double>&,
                             archetype::matrix<int>&, archetype::matrix<double>&);
template void factorizations(archetype::context&, archetype::matrix<std::complex<double>> const&,
                             archetype::matrix<std::complex<double>>&,
                             archetype::matrix<std::complex<double>>&, archetype::matrix<int>&,
                             archetype::matrix<double>&);

// --- manifold ------------------------------------------------------------------------------------

template <class S>
void geometry(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& v,
              archetype::matrix<S>& y, archetype::matrix<real_of_t<S>>& s) {
  static_assert(ManifoldOn<stiefel, archetype::context, archetype::matrix<S>>);
  static_assert(ManifoldOn<euclidean, archetype::context, archetype::matrix<S>>);
  stiefel const m{x.rows(), x.cols()};
  random_stream stream{1, 0};
  random_point(ctx, m, stream, x);
  random_tangent(ctx, m, stream, x, y);
  project(ctx, m, x, v, y);
  project(ctx, m, x.adjoint().adjoint(), v, y.middleCols(0, y.cols()));
  riemannian_gradient(ctx, m, x, v, y);
  retract(ctx, m, x, v, y);
  retract(ctx, m, x, v, x, qr_retraction{});
  retract(ctx, m, x, v, y, polar_retraction{});
  retract(ctx, m, x, v, y, cayley_retraction{});
  transport(ctx, m, x, x, v, y);
  inner(ctx, m, x, v, v, s);
  norm(ctx, m, x, v, s);
  transport_or_project(ctx, m, x, x, v, y);
  gradient_or_project(ctx, m, x, v, y);

  euclidean const flat{x.rows(), x.cols()};
  random_point(ctx, flat, stream, x);
  project(ctx, flat, x, v, y);
  retract(ctx, flat, x, v, y);
  inner(ctx, flat, x, v, v, s);
  transport_or_project(ctx, flat, x, x, v, y);
  gradient_or_project(ctx, flat, x, v, y);
}

template void geometry(archetype::context&, archetype::matrix<float>&,
                       archetype::matrix<float> const&, archetype::matrix<float>&,
                       archetype::matrix<float>&);
template void geometry(archetype::context&, archetype::matrix<double>&,
                       archetype::matrix<double> const&, archetype::matrix<double>&,
                       archetype::matrix<double>&);
template void geometry(archetype::context&, archetype::matrix<std::complex<double>>&,
                       archetype::matrix<std::complex<double>> const&,
                       archetype::matrix<std::complex<double>>&, archetype::matrix<double>&);

// --- optim ---------------------------------------------------------------------------------------

struct visit_nothing {
  template <class A>
  void operator()(char const*, A&) const {}
};

template <class S, class Manifold>
void riemannian_optimizers(archetype::context& ctx, Manifold m, archetype::matrix<S>& x,
                           archetype::matrix<S> const& g, archetype::matrix<int>& status) {
  riemannian_momentum momentum(ctx, m, x, {.learning_rate = 1e-2});
  momentum.step(ctx, x, g);
  momentum.step(ctx, x.middleCols(0, x.cols()), g, status);
  momentum.set_learning_rate(1e-3);
  copy(ctx, momentum.velocity(), x);

  riemannian_adam adam(ctx, m, x);
  adam.step(ctx, x, g);
  adam.step(ctx, x, g.adjoint().adjoint(), status);
  adam.for_each_array(visit_nothing{});
  copy(ctx, adam.first_moment(), x);
}

template void riemannian_optimizers(archetype::context&, stiefel, archetype::matrix<float>&,
                                    archetype::matrix<float> const&, archetype::matrix<int>&);
template void riemannian_optimizers(archetype::context&, stiefel, archetype::matrix<double>&,
                                    archetype::matrix<double> const&, archetype::matrix<int>&);
template void riemannian_optimizers(archetype::context&, euclidean, archetype::matrix<double>&,
                                    archetype::matrix<double> const&, archetype::matrix<int>&);
template void riemannian_optimizers(archetype::context&, stiefel,
                                    archetype::matrix<std::complex<double>>&,
                                    archetype::matrix<std::complex<double>> const&,
                                    archetype::matrix<int>&);

template <class S>
void plain_optimizers(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S>& g,
                      archetype::matrix<int>& status) {
  adamw opt(ctx, x, {.weight_decay = 1e-2});
  clip_by_global_norm(ctx, 1, g, g.middleCols(0, 1));
  opt.step(ctx, x, g);
  opt.step(ctx, x.middleRows(0, x.rows()), g, status);
  opt.set_learning_rate(cosine_schedule{1e-3, 100}(3));
  opt.for_each_array(visit_nothing{});
  (void)finite_gradient(ctx, g, status);
}

template void plain_optimizers(archetype::context&, archetype::matrix<float>&,
                               archetype::matrix<float>&, archetype::matrix<int>&);
template void plain_optimizers(archetype::context&, archetype::matrix<double>&,
                               archetype::matrix<double>&, archetype::matrix<int>&);

// --- nn ------------------------------------------------------------------------------------------

template <class S>
void layers(archetype::context& ctx, archetype::matrix<S>& down, archetype::matrix<S>& up,
            archetype::matrix<S> const& router, archetype::matrix<S> const& x,
            archetype::matrix<S>& y, archetype::matrix<S>& dx) {
  index_t const tokens = x.cols();
  auto h = scratch<S>(ctx, down.cols(), tokens);
  auto ddown = zeros_like(ctx, down);
  auto dup = zeros_like(ctx, up);
  auto drouter = zeros_like(ctx, router);
  lora_forward(ctx, down, up, 2, x, y, h);
  lora_backward(ctx, down, up, 2, x, h, y, ddown, dup, 1, dx);

  auto routes = route(ctx, router, x, {.top_k = 2});
  auto gain = zeros<S>(ctx, router.cols(), 1);
  auto dgain = zeros_like(ctx, gain);
  auto const gates = clone(ctx, routes.weights);
  apply_gain(ctx, gain, routes.ids, routes.weights);

  auto dscores = scratch<S>(ctx, router.cols(), tokens);
  auto dweights = scratch<S>(ctx, 2, tokens);
  auto similarity = scratch<double>(ctx, 2, 1);
  auto loss = scratch<double>(ctx, 1, 1);
  lora_experts const experts(down, up, router.cols(), 2);
  auto saved = moe_lora_forward(ctx, experts, routes, x, y, {.kind = mixing::orthonormal});
  moe_lora_backward(ctx, experts, routes, saved, x, y, ddown, dup, dweights, 0, dx);
  expert_similarity(ctx, experts, routes, x, {}, similarity);
  apply_gain_backward(ctx, gain, routes.ids, gates, dweights, dgain);
  gate_backward(ctx, routes, dweights, dscores);
  balance_loss(ctx, 1e-2, routes, loss, dscores);
  router_backward(ctx, router, x, dscores, drouter, 1, dx);
}

template <class S>
void heads(archetype::context& ctx, archetype::matrix<S> const& e, archetype::matrix<S> const& w,
           archetype::matrix<S>& y, archetype::matrix<S>& de, archetype::matrix<S>& dw,
           archetype::matrix<int> const& labels) {
  auto saved = expert_gram_schmidt(ctx, e, w, y);
  expert_gram_schmidt_backward(ctx, e, w, saved, y, de, dw);
  auto slope = scratch<S>(ctx, y.rows(), y.cols());
  auto loss = scratch<double>(ctx, 1, 1);
  gelu(ctx, y, y, slope);
  gelu(ctx, e.middleCols(0, 3), de.middleCols(0, 3), de.middleCols(3, 3));
  cross_entropy(ctx, y, labels, loss, slope);
  cross_entropy(ctx, y.middleCols(0, 2), labels.middleCols(0, 2), loss, y.middleCols(0, 2));
}

template void layers(archetype::context&, archetype::matrix<float>&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, archetype::matrix<float> const&,
                     archetype::matrix<float>&, archetype::matrix<float>&);
template void layers(archetype::context&, archetype::matrix<double>&, archetype::matrix<double>&,
                     archetype::matrix<double> const&, archetype::matrix<double> const&,
                     archetype::matrix<double>&, archetype::matrix<double>&);
template void heads(archetype::context&, archetype::matrix<float> const&,
                    archetype::matrix<float> const&, archetype::matrix<float>&,
                    archetype::matrix<float>&, archetype::matrix<float>&,
                    archetype::matrix<int> const&);
template void heads(archetype::context&, archetype::matrix<double> const&,
                    archetype::matrix<double> const&, archetype::matrix<double>&,
                    archetype::matrix<double>&, archetype::matrix<double>&,
                    archetype::matrix<int> const&);

// --- testing -------------------------------------------------------------------------------------

template <class S>
bool checks(archetype::context& ctx, archetype::matrix<S> const& x, archetype::matrix<S> const& v) {
  stiefel const m{x.rows(), x.cols()};
  auto const cost = [](archetype::context& where, archetype::matrix<S> const& point) {
    auto s = scratch<double>(where, 1, 1);
    inner(where, point, point, s);
    return value(where, s);
  };
  auto const gradient = [](archetype::context& where, archetype::matrix<S> const& point,
                           archetype::matrix<S>& g) {
    copy(where, point, g);
    scale(where, 2, g);
  };
  return check_retraction(ctx, m, x, v).passed &&
         check_retraction(ctx, m, x, v.middleCols(0, v.cols()), cayley_retraction{}).passed &&
         check_gradient(ctx, m, x, v, cost, gradient, polar_retraction{}).passed;
}

template bool checks(archetype::context&, archetype::matrix<float> const&,
                     archetype::matrix<float> const&);
template bool checks(archetype::context&, archetype::matrix<double> const&,
                     archetype::matrix<double> const&);

}  // namespace stiefelx
