// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a user's file compiles with nvcc: everything for the device, and some of it used.

#include <stiefelx/cuda.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "the device's umbrella includes Eigen"
#endif

namespace device = stiefelx::cuda;

void train(device::context& ctx, device::matrix<float>& x, device::matrix<float> const& g) {
  stiefelx::stiefel const m{x.rows(), x.cols()};
  stiefelx::riemannian_adam optimizer(ctx, m, x, {.learning_rate = 1e-2});
  optimizer.step(ctx, x, g);
  auto v = scratch<float>(ctx, m.n, m.p);
  project(ctx, m, x, g, v);
  retract(ctx, m, x, v, x, stiefelx::polar_retraction{});
}

void mix(device::context& ctx, device::matrix<float> const& router, device::matrix<float>& down,
         device::matrix<float>& up, device::matrix<float> const& x, device::matrix<float>& y) {
  stiefelx::lora_experts experts{down, up, stiefelx::index_t{8}, 2.0};
  auto const routes = stiefelx::route(ctx, router, x, stiefelx::router_options{.top_k = 2});
  auto const saved = stiefelx::moe_lora_forward(ctx, experts, routes, x, y);
  (void)saved;
}
