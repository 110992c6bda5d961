// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Case riemannian_adam: one step, with the same Euclidean gradient every time, for one matrix and for
// a stack of small ones.

#include <memory>
#include <utility>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;

template <class Scalar>
struct state {
  using optimizer_type =
      decltype(stiefelx::riemannian_adam(std::declval<stiefelx::host::context&>(),
                                         stiefelx::stiefel{}, std::declval<matrix<Scalar>&>()));

  state(tall shape, int threads)
      : ctx({.threads = threads}),
        x(bench::stiefel_point<Scalar>(shape).x),
        g(bench::normal_matrix<Scalar>(shape.n, shape.p, 3)),
        optimizer(ctx, stiefelx::stiefel{shape.n, shape.p}, x) {}

  stiefelx::host::context ctx;
  matrix<Scalar> x, g;
  optimizer_type optimizer;
};

template <class Scalar>
timed_call make_step(tall shape, int threads) {
  auto const s = std::make_shared<state<Scalar>>(shape, threads);
  return {[s] { s->optimizer.step(s->ctx, s->x, s->g); },
          [s] { return bench::orthonormality_fault<Scalar>(s->x); }};
}

using small_stack = bench::cases::batched_riemannian_adam;

template <class Scalar>
struct stack_state {
  using manifold_type =
      stiefelx::power<stiefelx::fixed_stiefel<small_stack::each.n, small_stack::each.p>>;
  using optimizer_type = decltype(stiefelx::riemannian_adam(
      std::declval<stiefelx::host::context&>(), manifold_type{}, std::declval<matrix<Scalar>&>()));

  explicit stack_state(int threads)
      : ctx({.threads = threads}),
        x(bench::stiefel_point<Scalar>(small_stack::each).x.replicate(1, small_stack::count)),
        g(bench::normal_matrix<Scalar>(x.rows(), x.cols(), 3)),
        optimizer(ctx, {{}, small_stack::count}, x) {}

  stiefelx::host::context ctx;
  matrix<Scalar> x, g;
  optimizer_type optimizer;
};

template <class Scalar>
timed_call make_stack_step(int threads) {
  auto const s = std::make_shared<stack_state<Scalar>>(threads);
  return {[s] { s->optimizer.step(s->ctx, s->x, s->g); },
          [s] { return bench::orthonormality_fault_of_each<Scalar>(s->x, small_stack::each.p); }};
}

template <class Scalar>
void add_stack(bench::suite& cases) {
  cases.add({small_stack::name, small_stack::shape, bench::scalar_name<Scalar>, "stiefelx"},
            small_stack::cost(sizeof(Scalar)),
            [threads = cases.threads()] { return make_stack_step<Scalar>(threads); });
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  bench::add_tall(
      cases, bench::cases::riemannian_adam, "stiefelx",
      [threads = cases.threads()]<class S>(tall shape) { return make_step<S>(shape, threads); });
  add_stack<float>(cases);
  add_stack<double>(cases);
  return cases.run();
}
