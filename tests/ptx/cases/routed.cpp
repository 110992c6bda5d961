// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels of routed products: slots of tokens and the experts they name.
#include <stiefelx/cuda/routed.hpp>

#include <ptx/recording.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

constexpr index_t slots = 3, tokens = 11, experts = 5;

cuda::matrix<int> routing(cuda::context& ctx) {
  std::vector<int> ids;
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < slots; ++i)
      ids.push_back(t == 4 || (t == 7 && i > 0) ? -1 : (3 * t + i) % 4);
  auto on_device = recording::uploaded(ctx, ids, slots);
  recording::given("ids", on_device);
  return on_device;
}

template <class T>
void routed(index_t d, index_t r) {
  std::string const type = recording::type_name<T>();
  {
    cuda::context ctx(recording::small());
    recording::begin("routed_multiply" + type);
    auto const ids = routing(ctx);
    auto const a = recording::random<T>(ctx, "a", d, experts * r, 1);
    auto const x = recording::random<T>(ctx, "x", d, tokens, 2);
    cuda::matrix<T> h(slots * r, tokens);
    routed_multiply(ctx, ids, a, x, h);
    recording::found("h", h);
  }
  {
    cuda::context ctx(recording::small());
    recording::begin("routed_multiply_add" + type);
    auto const ids = routing(ctx);
    auto const a = recording::random<T>(ctx, "a", d, experts * r, 1);
    auto const h = recording::random<T>(ctx, "h", slots * r, tokens, 3);
    auto y = recording::random<T>(ctx, "y", d, tokens, 4);
    routed_multiply_add(ctx, 0.5, ids, a, h, y);
    recording::found("y", y);
  }
  {
    cuda::context ctx(recording::small());
    recording::begin("routed_outer_add" + type);
    auto const ids = routing(ctx);
    auto const x = recording::random<T>(ctx, "x", d, tokens, 2);
    auto const h = recording::random<T>(ctx, "h", slots * r, tokens, 3);
    auto a = recording::random<T>(ctx, "a", d, experts * r, 5);
    routed_outer_add(ctx, 0.5, ids, x, h, a);
    recording::found("a", a);
    auto b = recording::random<T>(ctx, "b", experts * r, d, 6);
    routed_adjoint_outer_add(ctx, 0.5, ids, h, x, b);
    recording::found("b", b);
  }
}

}  // namespace

void run_cases() {
  routed<float>(20, 4);
  routed<float>(13, 3);
  routed<double>(18, 4);
  routed<double>(7, 1);
}
