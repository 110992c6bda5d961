// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a mixture of low-rank experts queues on a device: kernels and products of cuBLAS, counted.

#include <array>
#include <cstdint>
#include <ostream>
#include <string>

#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <fake_cuda/fake.hpp>
#include <nn/expert_layer.hpp>
#include <support/device_backend.hpp>

namespace {

using namespace support;
using device_case = test_case<device_backend, float>;

/// Calls of the runtime and of cuBLAS, since the program began or between two moments.
struct call_counts {
  long kernels, products, moments, copies, fills;
  bool operator==(call_counts const&) const = default;
};

std::ostream& operator<<(std::ostream& out, call_counts const& n) {
  return out << n.kernels << " kernels, " << n.products << " products, " << n.moments
             << " products of moments, " << n.copies << " copies, " << n.fills << " fills";
}

call_counts counted() {
  using fake_cuda::calls;
  return {calls("launch"),
          calls("cublasSgemm_v2") + calls("cublasDgemm_v2") + calls("cublasGemmEx"),
          calls("cublasDsyrk_v2") + calls("cublasSsyrk_v2"),
          calls("cudaMemcpyAsync") + calls("cudaMemcpy2DAsync"),
          calls("cudaMemsetAsync") + calls("cudaMemset2DAsync")};
}

call_counts operator-(call_counts const& a, call_counts const& b) {
  return {a.kernels - b.kernels, a.products - b.products, a.moments - b.moments,
          a.copies - b.copies, a.fills - b.fills};
}

/// What nobody may call between two steps.
long waits_and_allocations() {
  long sum = 0;
  for (char const* symbol : {"cudaStreamSynchronize", "cudaDeviceSynchronize",
                             "cudaEventSynchronize", "cudaMalloc", "cudaFree"})
    sum += fake_cuda::calls(symbol);
  return sum;
}

struct pass_counts {
  call_counts forward, backward;
  long others;  ///< waits and allocations of the second step
};

/// The second step of a layer.
pass_counts second_step(expert_layer<float> const& l, mixing kind, double beta, bool with_status) {
  place<device_case> p;
  auto down = p.up(l.down), up = p.up(l.up);
  stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
  auto const routes = routing_of(p, l);
  auto const x = p.up(l.x), dy = p.up(l.dy);
  auto y = p.up(matrix_x<float>::Zero(l.up.cols(), l.x.cols())), dx = p.up(l.x);
  auto ddown = zeros_like(p.ctx, down), dup = zeros_like(p.ctx, up), dweights = p.up(l.weights);
  auto status = status_matrix<device_backend>(p.ctx);
  pass_counts found{};
  for (int step = 0; step < 2; ++step) {
    long const others = waits_and_allocations();
    call_counts const begin = counted();
    auto saved = with_status
                     ? moe_lora_forward(p.ctx, experts, routes, x, y, {.kind = kind}, status)
                     : moe_lora_forward(p.ctx, experts, routes, x, y, {.kind = kind});
    call_counts const middle = counted();
    moe_lora_backward(p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, beta, dx);
    found = {middle - begin, counted() - middle, waits_and_allocations() - others};
  }
  return found;
}

layer_sizes constexpr bank{8, 2, 4, 40, 24, 20};

}  // namespace

BOOST_AUTO_TEST_SUITE(launches)

BOOST_AUTO_TEST_CASE(a_plain_mixture_takes_three_calls_forward_and_five_backward) {
  auto const found = second_step(random_layer<float>(bank, 1), mixing::none, 0, false);
  // A x of all experts; mix_forward_body; B of what is mixed.
  BOOST_TEST(found.forward == (call_counts{1, 2, 0, 0, 0}));
  // B^T dy; mix_backward_body; the gradients of B, A and x.
  BOOST_TEST(found.backward == (call_counts{1, 4, 0, 0, 0}));
}

BOOST_AUTO_TEST_CASE(orthogonalization_adds_four_calls_forward_and_three_backward) {
  auto const found = second_step(random_layer<float>(bank, 1), mixing::orthogonal, 0, false);
  // Products of the experts' factors depend on no token: B widened, one half of its Gram matrix, the
  // other half, and a copy to where the caller keeps it.
  BOOST_TEST(found.forward == (call_counts{3, 2, 1, 1, 0}));
  // The sums of cross_moments_body, over parts of the tokens and then over the parts, and their product
  // with B.
  BOOST_TEST(found.backward == (call_counts{3, 5, 0, 0, 0}));
}

BOOST_AUTO_TEST_CASE(counts_depend_neither_on_tokens_nor_on_their_experts) {
  for (mixing const kind : {mixing::none, mixing::orthogonal}) {
    auto const expected = second_step(random_layer<float>(bank, 1), kind, 0, false);
    for (index_t const tokens : {1, 20, 300}) {
      layer_sizes n = bank;
      n.tokens = tokens;
      auto l = random_layer<float>(n, 2);
      if (tokens == 20) l.ids.setConstant(3);
      if (tokens == 20) l.ids.leftCols(7).setConstant(-1);
      if (tokens == 300) l.up.setZero();
      auto const found = second_step(l, kind, 0, false);
      BOOST_TEST_CONTEXT(tokens << " tokens") {
        BOOST_TEST(found.forward == expected.forward);
        BOOST_TEST(found.backward == expected.backward);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(nothing_waits_and_the_second_step_allocates_nothing) {
  for (mixing const kind : {mixing::none, mixing::orthogonal})
    BOOST_TEST(second_step(random_layer<float>(bank, 3), kind, 1, false).others == 0);
}

BOOST_AUTO_TEST_CASE(a_beta_of_one_costs_nothing_and_another_one_kernel) {
  auto const l = random_layer<float>(bank, 4);
  auto const zero = second_step(l, mixing::none, 0, false).backward;
  BOOST_TEST(second_step(l, mixing::none, 1, false).backward == zero);
  auto scaled = zero;
  ++scaled.kernels;
  BOOST_TEST(second_step(l, mixing::none, 0.5, false).backward == scaled);
}

BOOST_AUTO_TEST_CASE(a_status_costs_one_kernel) {
  auto const l = random_layer<float>(bank, 5);
  auto expected = second_step(l, mixing::orthogonal, 0, false).forward;
  ++expected.kernels;
  BOOST_TEST(second_step(l, mixing::orthogonal, 0, true).forward == expected);
}

BOOST_AUTO_TEST_SUITE_END()
