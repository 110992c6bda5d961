// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Cases moe_lora_forward_backward and omoe_forward_backward: a whole layer, router, frozen product
// and adapters, forward and backward. Both are one code path with another mixing.

#include <cmath>
#include <cstddef>
#include <memory>
#include <string>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::timed_call;
using sizes = bench::cases::moe_lora_layer;

matrix<float> weights(std::ptrdiff_t rows, std::ptrdiff_t cols, double variance, unsigned seed) {
  return bench::normal_matrix<float>(rows, cols, seed) * static_cast<float>(std::sqrt(variance));
}

struct layer {
  static constexpr std::ptrdiff_t all = sizes::experts * sizes::rank;
  static constexpr double scaling = 2;

  layer(int threads, stiefelx::mixing form) : ctx({.threads = threads}), kind(form) {}

  void forward_backward() {
    auto const experts = stiefelx::lora_experts(down, up, sizes::experts, scaling);
    auto const routes = stiefelx::route(ctx, router, x, {.top_k = sizes::chosen});
    multiply(ctx, frozen, x, y);
    auto saved = stiefelx::moe_lora_forward(ctx, experts, routes, x, y, {.kind = kind});

    // Gradients of parameters accumulate, so a step starts them at zero.
    fill(ctx, 0, ddown);
    fill(ctx, 0, dup);
    fill(ctx, 0, drouter);
    multiply(ctx, frozen.adjoint(), dy, dx);
    stiefelx::moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, 1, dx);
    stiefelx::gate_backward(ctx, routes, dweights, dscores);
    stiefelx::router_backward(ctx, router, x, dscores, drouter, 1, dx);
  }

  std::string fault() const {
    for (auto const* result : {&y, &dx, &ddown, &dup, &drouter}) {
      if (!result->allFinite() || result->norm() == 0) return "a result is not finite or zero";
    }
    return "";
  }

  stiefelx::host::context ctx;
  stiefelx::mixing kind;
  matrix<float> x = weights(sizes::width, sizes::tokens, 1, 1);
  matrix<float> dy = weights(sizes::width, sizes::tokens, 1, 2);
  matrix<float> frozen = weights(sizes::width, sizes::width, 1.0 / sizes::width, 3);
  matrix<float> down = weights(sizes::width, all, 1.0 / sizes::width, 4);
  matrix<float> up = weights(all, sizes::width, 1.0 / sizes::rank, 5);
  matrix<float> router = weights(sizes::width, sizes::experts, 1.0 / sizes::width, 6);
  matrix<float> y{sizes::width, sizes::tokens}, dx{sizes::width, sizes::tokens};
  matrix<float> ddown{sizes::width, all}, dup{all, sizes::width};
  matrix<float> drouter{sizes::width, sizes::experts};
  matrix<float> dweights{sizes::chosen, sizes::tokens}, dscores{sizes::experts, sizes::tokens};
};

void add_layer(bench::suite& to, char const* name, stiefelx::mixing kind) {
  to.add({name, sizes::shape, "float", "stiefelx"},
         sizes::cost(kind != stiefelx::mixing::none, sizeof(float)),
         [threads = to.threads(), kind]() -> timed_call {
           auto const l = std::make_shared<layer>(threads, kind);
           return {[l] { l->forward_backward(); }, [l] { return l->fault(); }};
         });
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  add_layer(cases, sizes::plain_name, stiefelx::mixing::none);
  add_layer(cases, sizes::orthogonal_name, stiefelx::mixing::orthogonal);
  return cases.run();
}
