// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The Lyapunov equation, the reverse rules and the drift contract, with the archetype backend.

#include <complex>

#include <stiefelx/manifold/drift.hpp>
#include <stiefelx/orth/lyapunov.hpp>
#include <stiefelx/orth/vjp.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

namespace stiefelx {

template <class S>
void equations(archetype::context& ctx, archetype::matrix<S> const& m, archetype::matrix<S>& s,
               archetype::matrix<int>& status) {
  lyapunov(ctx, m, m, s);
  lyapunov(ctx, m.adjoint(), m.middleCols(0, m.cols()), s, status, {.iterations = 12});
}

template void equations(archetype::context&, archetype::matrix<float> const&,
                        archetype::matrix<float>&, archetype::matrix<int>&);
template void equations(archetype::context&, archetype::matrix<double> const&,
                        archetype::matrix<double>&, archetype::matrix<int>&);
template void equations(archetype::context&, archetype::matrix<std::complex<double>> const&,
                        archetype::matrix<std::complex<double>>&, archetype::matrix<int>&);

template <class S>
void rules(archetype::context& ctx, archetype::matrix<S> const& a, archetype::matrix<S> const& r,
           archetype::matrix<S>& da, archetype::matrix<S>& dx, archetype::matrix<int>& status) {
  index_t const count = status.cols();
  auto one = status.middleCols(0, 1);
  qr_vjp(ctx, a, r, a, r, da);
  qr_vjp(ctx, a.middleRows(0, 2), r, a.middleRows(0, 2), r.adjoint(), da.middleRows(0, 2), one);
  qr_vjp(ctx, stack{count}, a, r, a, r, da);
  qr_vjp(ctx, stack{count}, a, r, a, r, da, status);
  gram_schmidt_vjp(ctx, a, r, a, r, da);
  gram_schmidt_vjp(ctx, a, r.adjoint(), da, r, da, one);
  gram_schmidt_vjp(ctx, stack{count}, a, r, a, r, da);
  gram_schmidt_vjp(ctx, stack{count}, a, r, da, r, da, status);
  polar_vjp(ctx, a, a, a, da);
  polar_vjp(ctx, a, a.middleCols(0, a.cols()), da, da, one, {.iterations = 12});
  polar_vjp(ctx, stack{count}, a, a, a, da);
  polar_vjp(ctx, stack{count}, a, a, da, da, status, {.iterations = 12});
  cayley_vjp(ctx, a, a, a, a, da, dx);
  cayley_vjp(ctx, stack{count}, a, a, a, a, da, dx);
  cayley_vjp(ctx, stack{count}, a, a, a, da, da, dx, status);
  cayley_vjp(ctx, a, a, a, da, da, dx.middleCols(0, a.cols()), one);
}

template void rules(archetype::context&, archetype::matrix<float> const&,
                    archetype::matrix<float> const&, archetype::matrix<float>&,
                    archetype::matrix<float>&, archetype::matrix<int>&);
template void rules(archetype::context&, archetype::matrix<double> const&,
                    archetype::matrix<double> const&, archetype::matrix<double>&,
                    archetype::matrix<double>&, archetype::matrix<int>&);
template void rules(archetype::context&, archetype::matrix<std::complex<double>> const&,
                    archetype::matrix<std::complex<double>> const&,
                    archetype::matrix<std::complex<double>>&,
                    archetype::matrix<std::complex<double>>&, archetype::matrix<int>&);

template <class S>
bool keep(archetype::context& ctx, stiefel m, archetype::matrix<S>& x,
          archetype::matrix<S> const& v, archetype::matrix<real_of_t<S>>& s) {
  restabilizer keeper;
  drift(ctx, m, x, s.middleCols(0, 1));
  restabilize(ctx, m, x);
  restabilize(ctx, m, x.middleCols(0, m.p), {.above = 1e-6, .repair = drift_repair::qr});
  restabilize(ctx, power<stiefel>{m, 2}, x, keeper.policy());
  retract(ctx, m, x, v, x, restabilized{cayley_retraction{}});
  return keeper.step(ctx, m, x, cayley_retraction{}) || keeper.step(ctx, m, x, qr_retraction{});
}

template bool keep(archetype::context&, stiefel, archetype::matrix<float>&,
                   archetype::matrix<float> const&, archetype::matrix<float>&);
template bool keep(archetype::context&, stiefel, archetype::matrix<double>&,
                   archetype::matrix<double> const&, archetype::matrix<double>&);
template bool keep(archetype::context&, stiefel, archetype::matrix<std::complex<double>>&,
                   archetype::matrix<std::complex<double>> const&, archetype::matrix<double>&);

}  // namespace stiefelx
