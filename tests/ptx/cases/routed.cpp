// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels of routed products: slots of tokens and the experts they name.
#include <stiefelx/cuda/routed.hpp>

#include <ptx/recording.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

constexpr index_t slots = 3, experts = 5;

cuda::matrix<int> routing(cuda::context& ctx, int tokens) {
  std::vector<int> ids;
  for (int t = 0; t < tokens; ++t)
    for (int i = 0; i < slots; ++i)
      ids.push_back(t == 4 || (t == 7 && i > 0) ? -1 : (3 * t + i) % 4);
  auto on_device = recording::uploaded(ctx, ids, slots);
  recording::given("ids", on_device);
  return on_device;
}

// Experts of numbers Stored along the columns of a, or along the rows of b.
template <class T, class Stored>
void products(index_t d, index_t r) {
  int const tokens = 11;
  std::string const type = recording::type_name<T>();
  for (bool const by_rows : {false, true}) {
    cuda::context ctx(recording::small());
    recording::begin((by_rows ? "routed_multiply by rows" : "routed_multiply") + type);
    auto const ids = routing(ctx, tokens);
    auto const x = recording::random<T>(ctx, "x", d, tokens, 2);
    cuda::matrix<T> h(slots * r, tokens);
    if (by_rows)
      routed_multiply(ctx, ids, recording::random<Stored>(ctx, "b", experts * r, d, 1).adjoint(), x,
                      h);
    else
      routed_multiply(ctx, ids, recording::random<Stored>(ctx, "a", d, experts * r, 1), x, h);
    recording::found("h", h);
  }
  for (bool const by_rows : {false, true}) {
    cuda::context ctx(recording::small());
    recording::begin((by_rows ? "routed_multiply_add by rows" : "routed_multiply_add") + type);
    auto const ids = routing(ctx, tokens);
    auto const h = recording::random<T>(ctx, "h", slots * r, tokens, 3);
    auto y = recording::random<T>(ctx, "y", d, tokens, 4);
    if (by_rows)
      routed_multiply_add(ctx, 0.5, ids,
                          recording::random<Stored>(ctx, "b", experts * r, d, 1).adjoint(), h, y);
    else
      routed_multiply_add(ctx, 0.5, ids, recording::random<Stored>(ctx, "a", d, experts * r, 1), h,
                          y);
    recording::found("y", y);
  }
}

// Many tokens are summed in parts, which another kernel adds.
template <class T>
void outer(index_t d, index_t r, int tokens) {
  cuda::context ctx(recording::small());
  recording::begin("routed_outer_add" + recording::type_name<T>());
  auto const ids = routing(ctx, tokens);
  auto const x = recording::random<T>(ctx, "x", d, tokens, 2);
  auto const h = recording::random<T>(ctx, "h", slots * r, tokens, 3);
  auto a = recording::random<T>(ctx, "a", d, experts * r, 5);
  routed_outer_add(ctx, 0.5, ids, x, h, a);
  recording::found("a", a);
  auto b = recording::random<T>(ctx, "b", experts * r, d, 6);
  routed_adjoint_outer_add(ctx, 0.5, ids, h, x, b);
  recording::found("b", b);
}

}  // namespace

void run_cases() {
  products<float, float>(20, 4);
  products<float, float>(13, 3);
  products<float, float>(20, 11);
  products<double, double>(18, 4);
  products<double, double>(7, 1);
  products<float, stiefelx::bfloat16>(24, 8);
  products<float, stiefelx::bfloat16>(13, 3);
  for (int tokens : {11, 70}) {
    outer<float>(20, 4, tokens);
    outer<float>(13, 3, tokens);
    outer<double>(18, 4, tokens);
    outer<double>(7, 1, tokens);
  }
  // Two tiles of columns in a block, the second of them not full or without columns.
  outer<float>(19, 11, 11);
  outer<float>(20, 20, 70);
}
