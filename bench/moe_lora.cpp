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

#include <cstddef>
#include <memory>
#include <string>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/moe_lora_step.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"
#ifdef BENCH_OPENBLAS
#include "bench/support/openblas.hpp"
#endif

namespace {

using bench::matrix;
using bench::timed_call;
using sizes = bench::cases::moe_lora_layer;

struct normal_entries {
  auto operator()(stiefelx::host::context&, std::ptrdiff_t rows, std::ptrdiff_t cols,
                  double deviation, unsigned seed) const {
    matrix<float> const entries = bench::normal_matrix<float>(rows, cols, seed);
    return matrix<float>(entries * static_cast<float>(deviation));
  }
};

struct layer : bench::moe_lora_step<stiefelx::host::context, sizes, normal_entries> {
  layer(sizes extent, int threads, stiefelx::mixing form)
      : moe_lora_step(extent, form, stiefelx::host::context_options{.threads = threads}) {}

  std::string fault() const {
    if (!y.allFinite() || y.norm() == 0) return "the output is not finite or zero";
    for (auto const* result : {&dx, &ddown, &dup, &drouter}) {
      if (!result->allFinite()) return "a gradient is not finite";
    }
    return "";
  }
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
      l->add_backward(*routes, saved, 1);
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
