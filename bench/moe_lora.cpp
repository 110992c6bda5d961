// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A mixture of LoRA experts beside a frozen product: the adapters alone, the frozen products alone, and
// the whole layer with its router, forward and with the backward pass. Plain and orthogonalized
// mixtures are one code path with another option.
//
// The frozen product runs on OpenBLAS where the benchmarks are linked to it, and on Eigen elsewhere.

#if defined(BENCH_OPENBLAS) && !defined(STIEFELX_USE_BLAS)
#define STIEFELX_USE_BLAS
#endif

#include <cmath>
#include <cstddef>
#include <memory>
#include <string>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"
#ifdef BENCH_OPENBLAS
#include "bench/support/openblas.hpp"
#endif

namespace {

using bench::matrix;
using bench::timed_call;
using sizes = bench::cases::moe_lora_layer;

matrix<float> weights(std::ptrdiff_t rows, std::ptrdiff_t cols, double variance, unsigned seed) {
  return bench::normal_matrix<float>(rows, cols, seed) * static_cast<float>(std::sqrt(variance));
}

struct layer {
  static constexpr double scaling = 2;

  layer(sizes size, int threads, stiefelx::mixing form)
      : ctx({.threads = threads}), kind(form), width(size.width), all(size.experts * size.rank) {}

  auto route() { return stiefelx::route(ctx, router, x, {.top_k = sizes::chosen}); }

  template <class Routes>
  auto add_forward(Routes const& routes) {
    auto const experts = stiefelx::lora_experts(down, up, sizes::experts, scaling);
    return stiefelx::moe_lora_forward(ctx, experts, routes, x, y, {.kind = kind});
  }

  // Adds to what the gradients hold.
  template <class Routes, class Saved>
  void add_backward(Routes const& routes, Saved& saved) {
    auto const experts = stiefelx::lora_experts(down, up, sizes::experts, scaling);
    stiefelx::moe_lora_backward(ctx, experts, routes, saved, x, dy, ddown, dup, dweights, 1, dx);
  }

  void base(bool backward) {
    multiply(ctx, frozen, x, y);
    if (backward) multiply(ctx, frozen.adjoint(), dy, dx);
  }

  void forward() {
    auto const routes = route();
    base(false);
    add_forward(routes);
  }

  void forward_backward() {
    auto const routes = route();
    base(false);
    auto saved = add_forward(routes);
    // Gradients of parameters accumulate, so a step starts them at zero.
    fill(ctx, 0, ddown);
    fill(ctx, 0, dup);
    fill(ctx, 0, drouter);
    multiply(ctx, frozen.adjoint(), dy, dx);
    add_backward(routes, saved);
    stiefelx::gate_backward(ctx, routes, dweights, dscores);
    stiefelx::router_backward(ctx, router, x, dscores, drouter, 1, dx);
  }

  std::string fault() const {
    if (!y.allFinite() || y.norm() == 0) return "the output is not finite or zero";
    for (auto const* result : {&dx, &ddown, &dup, &drouter}) {
      if (!result->allFinite()) return "a gradient is not finite";
    }
    return "";
  }

  stiefelx::host::context ctx;
  stiefelx::mixing kind;
  std::ptrdiff_t width, all;
  matrix<float> x = weights(width, sizes::tokens, 1, 1);
  matrix<float> dy = weights(width, sizes::tokens, 1, 2);
  matrix<float> frozen = weights(width, width, 1.0 / static_cast<double>(width), 3);
  matrix<float> down = weights(width, all, 1.0 / static_cast<double>(width), 4);
  matrix<float> up = weights(all, width, sizes::experts / static_cast<double>(all), 5);
  matrix<float> router = weights(width, sizes::experts, 1.0 / static_cast<double>(width), 6);
  matrix<float> y = matrix<float>::Zero(width, sizes::tokens), dx = y;
  matrix<float> ddown = matrix<float>::Zero(width, all), dup = matrix<float>::Zero(all, width);
  matrix<float> drouter = matrix<float>::Zero(width, sizes::experts);
  matrix<float> dweights{sizes::chosen, sizes::tokens}, dscores{sizes::experts, sizes::tokens};
};

// run(layer) returns what is timed.
template <class Run>
void add_case(bench::suite& to, char const* name, sizes size, bench::work cost,
              stiefelx::mixing kind, Run const& run) {
  to.add({name, size.shape(), "float", "stiefelx"}, cost,
         [threads = to.threads(), size, kind, run]() -> timed_call {
           auto const l = std::make_shared<layer>(size, threads, kind);
           return {run(l), [l] { return l->fault(); }};
         });
}

void add_layer(bench::suite& to, sizes size) {
  using shared = std::shared_ptr<layer>;
  using stiefelx::mixing;
  constexpr double bytes = sizeof(float);
  add_case(to, sizes::part_forward, size, size.part(false, bytes), mixing::none, [](shared l) {
    auto const routes = std::make_shared<decltype(l->route())>(l->route());
    return [l, routes] { l->add_forward(*routes); };
  });
  add_case(to, sizes::part_both, size, size.part(true, bytes), mixing::none, [](shared l) {
    auto const routes = std::make_shared<decltype(l->route())>(l->route());
    return [l, routes] {
      auto saved = l->add_forward(*routes);
      l->add_backward(*routes, saved);
    };
  });
  add_case(to, sizes::base_forward, size, size.base(false, bytes), mixing::none,
           [](shared l) { return [l] { l->base(false); }; });
  add_case(to, sizes::base_both, size, size.base(true, bytes), mixing::none,
           [](shared l) { return [l] { l->base(true); }; });
  add_case(to, sizes::forward, size, size.whole(false, false, bytes), mixing::none,
           [](shared l) { return [l] { l->forward(); }; });
  auto const both = [](shared l) { return [l] { l->forward_backward(); }; };
  add_case(to, sizes::both, size, size.whole(true, false, bytes), mixing::none, both);
  add_case(to, sizes::orthogonal_both, size, size.whole(true, true, bytes), mixing::orthogonal,
           both);
}

std::string version() {
#ifdef BENCH_OPENBLAS
  return bench::library_version() + " " + bench::openblas::version();
#else
  return bench::library_version();
#endif
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, version());
#ifdef BENCH_OPENBLAS
  // The context's threads share the frozen product; it refuses a BLAS with threads of its own.
  openblas_set_num_threads(1);
#endif
  for (sizes const size : bench::cases::moe_lora_layers) add_layer(cases, size);
  return cases.run();
}
