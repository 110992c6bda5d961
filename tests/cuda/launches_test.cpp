// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What a mixture of low-rank experts queues on a device: kernels and products of cuBLAS, counted.

#include <array>
#include <cstdint>
#include <limits>
#include <ostream>
#include <string>

#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <fake_cuda/fake.hpp>
#include <nn/expert_layer.hpp>
#include <support/device_backend.hpp>

namespace {

using namespace support;

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
  long others;  ///< waits and allocations
};

/// What a step of a layer does beside its mixture, and how.
struct step_options {
  double beta = 0;
  bool with_status = false;
  index_t dense_columns = 512;  ///< of the context; with 0 tokens take the experts that they chose
  int steps = 2;
};

/// The last step of a layer.
template <class S>
pass_counts last_step(expert_layer<S> const& l, mixing kind, step_options how = {}) {
  place<test_case<device_backend, S>> p;
  p.ctx.options.dense_expert_columns = how.dense_columns;
  auto down = p.up(l.down), up = p.up(l.up);
  stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
  auto const routes = routing_of(p, l);
  auto const x = p.up(l.x), dy = p.up(l.dy);
  auto y = p.up(matrix_x<S>::Zero(l.up.cols(), l.x.cols())), dx = p.up(l.x);
  auto ddown = zeros_like(p.ctx, down), dup = zeros_like(p.ctx, up), dweights = p.up(l.weights);
  auto status = status_matrix<device_backend>(p.ctx);
  pass_counts found{};
  for (int step = 0; step < how.steps; ++step) {
    long const others = waits_and_allocations();
    call_counts const begin = counted();
    auto saved = how.with_status
                     ? moe_lora_forward(p.ctx, experts, routes, x, y, {.kind = kind}, status)
                     : moe_lora_forward(p.ctx, experts, routes, x, y, {.kind = kind});
    call_counts const middle = counted();
    moe_lora_backward(p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, how.beta, dx);
    found = {middle - begin, counted() - middle, waits_and_allocations() - others};
  }
  return found;
}

layer_sizes constexpr bank{8, 2, 4, 40, 24, 20};

expert_layer<float> layer_of(index_t tokens) {
  return random_layer<float>({8, 2, 4, 12, 8, tokens}, 2);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(launches)

BOOST_AUTO_TEST_CASE(a_plain_mixture_takes_three_calls_forward_and_five_backward) {
  auto const found = last_step(random_layer<float>(bank, 1), mixing::none);
  // A x of all experts; mix_forward_body; B of what is mixed.
  BOOST_TEST(found.forward == (call_counts{1, 2, 0, 0, 0}));
  // B^T dy; mix_backward_body; the gradients of B, A and x.
  BOOST_TEST(found.backward == (call_counts{1, 4, 0, 0, 0}));
}

BOOST_AUTO_TEST_CASE(orthogonalization_adds_two_calls_forward_and_three_backward) {
  auto const found = last_step(random_layer<float>(bank, 1), mixing::orthogonal);
  // Products of the experts' factors depend on no token: B widened, and its product with itself, where
  // the caller keeps it.
  BOOST_TEST(found.forward == (call_counts{2, 3, 0, 0, 0}));
  // The sums of cross_moments_body, over parts of the tokens and then over the parts, and their product
  // with B.
  BOOST_TEST(found.backward == (call_counts{3, 5, 0, 0, 0}));
  // What is double needs no widening.
  auto const wide = last_step(random_layer<double>(bank, 1), mixing::orthogonal);
  BOOST_TEST(wide.forward == (call_counts{1, 3, 0, 0, 0}));
  BOOST_TEST(wide.backward == found.backward);
}

BOOST_AUTO_TEST_CASE(a_large_bank_takes_half_of_the_experts_products_and_two_calls_more) {
  // B widened, one half of its Gram matrix, the other half, and a copy to where the caller keeps it.
  layer_sizes const whole{64, 2, 4, 8, 8, 3}, half{65, 2, 4, 8, 8, 3};
  call_counts const forward{2, 3, 0, 0, 0}, larger{3, 2, 1, 1, 0};
  BOOST_TEST(last_step(random_layer<float>(whole, 1), mixing::orthogonal).forward == forward);
  BOOST_TEST(last_step(random_layer<float>(half, 1), mixing::orthogonal).forward == larger);
}

BOOST_AUTO_TEST_CASE(the_experts_products_are_those_of_their_factors_for_small_and_large_banks) {
  for (index_t const experts : {64, 65}) {
    auto const l = random_layer<float>({experts, 2, 4, 8, 8, 3}, 1);
    place<test_case<device_backend, float>> p;
    auto down = p.up(l.down), up = p.up(l.up);
    auto y = p.up(matrix_x<float>::Zero(8, 3));
    stiefelx::lora_experts const bank_of(down, up, experts, l.scaling);
    auto const saved = moe_lora_forward(p.ctx, bank_of, routing_of(p, l), p.up(l.x), y,
                                        {.kind = mixing::orthogonal});
    matrix_x<double> const b = l.up.cast<double>();
    // Sums of eight products, each of at most the largest length squared.
    double const bound =
        8 * b.rowwise().squaredNorm().maxCoeff() * std::numeric_limits<double>::epsilon();
    BOOST_TEST((p.down(saved.moments) - b * b.transpose()).cwiseAbs().maxCoeff() <= bound);
  }
}

BOOST_AUTO_TEST_CASE(products_with_chosen_experts_take_three_calls_forward_and_seven_backward) {
  step_options const routed{.dense_columns = 0};
  auto const plain = last_step(random_layer<float>(bank, 1), mixing::none, routed);
  // A x; mix_forward_body; B of what is mixed.
  BOOST_TEST(plain.forward == (call_counts{3, 0, 0, 0, 0}));
  // B^T dy; mix_backward_body; the gradients of B and A, each over parts of the tokens and then over
  // the parts; that of x.
  BOOST_TEST(plain.backward == (call_counts{7, 0, 0, 0, 0}));
  auto const found = last_step(random_layer<float>(bank, 1), mixing::orthogonal, routed);
  BOOST_TEST(found.forward == (call_counts{4, 1, 0, 0, 0}));
  BOOST_TEST(found.backward == (call_counts{9, 1, 0, 0, 0}));
}

BOOST_AUTO_TEST_CASE(counts_depend_neither_on_tokens_nor_on_their_experts) {
  for (index_t const dense : {512, 0})
    for (mixing const kind : {mixing::none, mixing::orthogonal}) {
      step_options const how{.dense_columns = dense, .steps = 1};
      auto const expected = last_step(random_layer<float>(bank, 1), kind, how);
      for (index_t const tokens : {1, 20, 64, 65, 2048}) {
        auto l = layer_of(tokens);
        if (tokens == 20) l.ids.setConstant(3);
        if (tokens == 20) l.ids.leftCols(7).setConstant(-1);
        if (tokens == 64) l.up.setZero();
        auto const found = last_step(l, kind, how);
        BOOST_TEST_CONTEXT(tokens << " tokens, all experts up to " << dense << " columns") {
          BOOST_TEST(found.forward == expected.forward);
          BOOST_TEST(found.backward == expected.backward);
        }
      }
    }
}

BOOST_AUTO_TEST_CASE(no_token_queues_no_more_than_what_depends_on_none) {
  call_counts const nothing{};
  for (index_t const dense : {512, 0}) {
    step_options const how{.dense_columns = dense};
    auto const plain = last_step(layer_of(0), mixing::none, how);
    BOOST_TEST(plain.forward == nothing);
    BOOST_TEST(plain.backward == nothing);
    auto const found = last_step(layer_of(0), mixing::orthogonal, how);
    BOOST_TEST(found.forward == (call_counts{1, 1, 0, 0, 0}));
    BOOST_TEST(found.backward == nothing);
  }
}

BOOST_AUTO_TEST_CASE(nothing_waits_and_the_second_step_allocates_nothing) {
  for (index_t const dense : {512, 0})
    for (mixing const kind : {mixing::none, mixing::orthogonal})
      for (index_t const tokens : {20, 65}) {
        step_options const how{.beta = 1, .dense_columns = dense};
        BOOST_TEST(last_step(layer_of(tokens), kind, how).others == 0);
      }
}

BOOST_AUTO_TEST_CASE(a_beta_of_one_costs_nothing_and_another_one_kernel) {
  auto const l = random_layer<float>(bank, 4);
  auto const zero = last_step(l, mixing::none).backward;
  BOOST_TEST(last_step(l, mixing::none, {.beta = 1}).backward == zero);
  auto scaled = zero;
  ++scaled.kernels;
  BOOST_TEST(last_step(l, mixing::none, {.beta = 0.5}).backward == scaled);
}

BOOST_AUTO_TEST_CASE(a_status_costs_one_kernel) {
  auto const l = random_layer<float>(bank, 5);
  auto expected = last_step(l, mixing::orthogonal).forward;
  ++expected.kernels;
  BOOST_TEST(last_step(l, mixing::orthogonal, {.with_status = true}).forward == expected);
}

BOOST_AUTO_TEST_SUITE_END()
