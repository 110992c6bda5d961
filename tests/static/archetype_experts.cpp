// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The orthogonal expert optimizer with the archetype backend; nvcc compiles this file as well,
// without Eigen.

#include <complex>
#include <span>
#include <vector>

#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/expert_assignment.hpp>
#include <stiefelx/optim/expert_projectors.hpp>
#include <stiefelx/optim/input_projector.hpp>
#include <stiefelx/optim/low_rank_projector.hpp>
#include <stiefelx/optim/orthogonal_experts.hpp>
#include <stiefelx/optim/projector_policy.hpp>
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

template <class S>
void projectors(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& a,
                archetype::matrix<real_of_t<S>> const& shares, archetype::matrix<double> const& on,
                archetype::matrix<int>& status) {
  input_projector one(ctx, x, 1);
  one.observe(ctx, a, status);
  one.forget(ctx, 0.9, on);
  one.apply(ctx, a, x);
  (void)one.projector(ctx);
  one.for_each_array(visit_nothing{});
  low_rank_projector low(ctx, x, {.rank = 2});
  low.observe(ctx, a.middleCols(0, 2), status);
  low.forget(ctx, 0.9, on);
  low.apply(ctx, a, x);
  low.for_each_array(visit_nothing{});
  expert_projectors all(ctx, x, {2}, {.policy = projector_policy::product});
  all.observe(ctx, 1, a);
  all.observe(ctx, a, shares, status);
  all.remove(ctx, 0, a, x.middleCols(0, a.cols()));
  all.for_each_array(visit_nothing{});
}

template void projectors(archetype::context&, archetype::matrix<float>&,
                         archetype::matrix<float> const&, archetype::matrix<float> const&,
                         archetype::matrix<double> const&, archetype::matrix<int>&);
template void projectors(archetype::context&, archetype::matrix<std::complex<double>>&,
                         archetype::matrix<std::complex<double>> const&,
                         archetype::matrix<double> const&, archetype::matrix<double> const&,
                         archetype::matrix<int>&);

template <class S>
void experts(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& g,
             archetype::matrix<S> const& tokens, archetype::matrix<int> const& ids,
             archetype::matrix<S> const& weights, archetype::matrix<int>& status) {
  orthogonal_experts bank(ctx, adamw(ctx, x), x, {2, expert_layout::stacked});
  bank.observe(ctx, tokens, expert_assignment(ctx, ids, weights, 2), status);
  bank.step(ctx, x, g, status);
  bank.step(ctx, x.middleRows(0, x.rows()), g);
  bank.set_learning_rate(1e-3);
  bank.for_each_array(visit_nothing{});
  std::vector<decltype(adamw(ctx, x))> bases;
  bases.push_back(adamw(ctx, x));
  bases.push_back(adamw(ctx, x));
  orthogonal_experts loose(ctx, std::move(bases), x, {2, expert_layout::separate},
                           {.removes = removal::from_update}, phase_schedule{3, 1});
  std::vector<archetype::matrix<S>*> points{&x, &x};
  std::vector<archetype::matrix<S> const*> gradients{&g, &g};
  loose.step(ctx, std::span<archetype::matrix<S>* const>(points),
             std::span<archetype::matrix<S> const* const>(gradients), status);
}

template void experts(archetype::context&, archetype::matrix<float>&,
                      archetype::matrix<float> const&, archetype::matrix<float> const&,
                      archetype::matrix<int> const&, archetype::matrix<float> const&,
                      archetype::matrix<int>&);
template void experts(archetype::context&, archetype::matrix<double>&,
                      archetype::matrix<double> const&, archetype::matrix<double> const&,
                      archetype::matrix<int> const&, archetype::matrix<double> const&,
                      archetype::matrix<int>&);

}  // namespace stiefelx
