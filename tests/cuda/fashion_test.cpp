// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The example's network on the device against the same text on the host: frozen layers, routers,
// mixtures, losses and optimizers, from end to end.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/host/routed.hpp>
#include <stiefelx/host/verbs.hpp>

#include "examples/fashion/methods.hpp"
#include "examples/fashion/training.hpp"
#include "fake_cuda/fake.hpp"
#include "support/device_backend.hpp"
#include "support/tolerance.hpp"

namespace {

using namespace example;
using numbers = std::vector<double>;
using on_host = stiefelx::host::context;
using on_device = stiefelx::cuda::context;

constexpr index_t tokens = 11;
std::vector<index_t> const sizes{9, 7, 6, 4};

// Images and labels in the host's memory.
struct images_of_a_step {
  numbers pixels = numbers(static_cast<std::size_t>(sizes[0] * tokens));
  std::vector<int> labels = std::vector<int>(static_cast<std::size_t>(tokens));

  explicit images_of_a_step(std::uint64_t step) {
    for (std::size_t i = 0; i < pixels.size(); ++i) {
      auto const w = philox(5, step, i);
      pixels[i] = 4 * uniform_open(w[0], w[1]) - 2;
    }
    for (std::size_t i = 0; i < labels.size(); ++i)
      labels[i] = static_cast<int>(philox(6, step, i)[0] % 4);
  }
};

template <class Ctx, class M>
numbers entries_of(Ctx& ctx, M const& a) {
  numbers all(static_cast<std::size_t>(a.rows() * a.cols()));
  download(ctx, a, all.data());
  return all;
}

// A network in some context's memory.
template <class Ctx>
struct trained_network {
  explicit trained_network(method const& m)
      : net(ctx, sizes, random, 2e-3, 0.0), loss(zeros<double>(ctx, 1, 1)) {
    adapter_plan plan = m.plan;
    plan.rank = 2;
    net.adapt(ctx, plan, random, m.train_layers);
    // Away from zeros, where a gradient's sign would be that of its rounding. Factors with
    // orthonormal columns stay.
    for (auto* p : net.trained())
      if (p->optimizer.index() != 1)
        axpy(ctx, 1, normal_start<double>(ctx, random, 0.4, p->value.rows(), p->value.cols()),
             p->value);
  }

  void step(index_t number) {
    images_of_a_step const drawn(static_cast<std::uint64_t>(number));
    training_step<Ctx, double>(ctx, net, drawn.pixels, drawn.labels, 0.5, 1.0, loss);
  }

  Ctx ctx;
  random_stream random{3};
  network<Ctx, double> net;
  matrix_t<Ctx, double> loss;
};

// By how much Adam's quotients of gradients enlarge an error that is relative to a whole gradient.
double enlargement(trained_network<on_host>& host) {
  double most = 1;
  for (auto* p : host.net.trained()) {
    double squares = 0, least = std::numeric_limits<double>::infinity();
    for (double g : entries_of(host.ctx, p->gradient)) {
      squares += g * g;
      if (g != 0) least = std::min(least, std::abs(g));
    }
    if (squares > 0) most = std::max(most, std::sqrt(squares) / least);
  }
  return most;
}

double relative_distance(numbers const& a, numbers const& b) {
  double squares = 0, scale = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    squares += (a[i] - b[i]) * (a[i] - b[i]);
    scale += b[i] * b[i];
  }
  return scale > 0 ? std::sqrt(squares / scale) : std::sqrt(squares);
}

// Each brings a layer, a router, a mixture or an optimizer that the others lack.
std::vector<method> methods_of_interest() {
  std::vector<method> some;
  for (method const& m : all_methods())
    for (char const* name : {"lora", "moe-4-orthogonal-optimizer", "moe-8-top2", "omoe-2",
                             "omoe-4-orthonormal", "stiefel-lora", "full"})
      if (m.name == name) some.push_back(m);
  return some;
}

constexpr std::array watched{"cudaStreamSynchronize",
                             "cudaDeviceSynchronize",
                             "cudaEventSynchronize",
                             "cudaMalloc",
                             "cudaFree",
                             "cudaHostAlloc"};

std::array<long, watched.size()> watched_calls() {
  std::array<long, watched.size()> calls{};
  for (std::size_t i = 0; i < watched.size(); ++i) calls[i] = fake_cuda::calls(watched[i]);
  return calls;
}

struct compared {
  std::string name;
  bool drawn;                           // and not made orthonormal where it lives
  double off_at_start, off_in_the_end;  // relative distance from the host's
};

// What is seen of one method on both sides.
struct observation {
  explicit observation(method const& m) : what(m) {
    trained_network<on_host> host(m);
    trained_network<on_device> device(m);
    auto const expected = host.net.trained();
    auto const found = device.net.trained();
    auto const distance = [&](std::size_t i) {
      return relative_distance(entries_of(device.ctx, found[i]->value),
                               entries_of(host.ctx, expected[i]->value));
    };
    for (std::size_t i = 0; i < found.size(); ++i)
      parameters.push_back({found[i]->name, found[i]->optimizer.index() != 1, distance(i), 0});
    constexpr index_t steps = 3;
    auto losses = zeros<double>(device.ctx, 1, steps);
    for (index_t step = 0; step < steps; ++step) {
      // The second step still finds the scratch of the first in pieces and puts it together.
      if (step == 2) calls_before = watched_calls();
      device.step(step);
      copy(device.ctx, device.loss, losses.middleCols(step, 1));
    }
    calls_after = watched_calls();
    device_losses = entries_of(device.ctx, losses);
    for (index_t step = 0; step < steps; ++step) {
      conditions.push_back(condition);
      host.step(step);
      host_losses.push_back(value(host.ctx, host.loss));
      condition += enlargement(host);
    }
    for (std::size_t i = 0; i < found.size(); ++i) parameters[i].off_in_the_end = distance(i);
    if (m.plan.kind != adapter_plan::form::mixture) return;
    images_of_a_step const drawn(9);
    host.net.forward(host.ctx, drawn.pixels);
    device.net.forward(device.ctx, drawn.pixels);
    for (std::size_t l = 0; l < 2; ++l) {
      host_experts.push_back(*host.net.adapters()[l].statistics(host.ctx, host.net.input(l)));
      device_experts.push_back(
          *device.net.adapters()[l].statistics(device.ctx, device.net.input(l)));
    }
  }

  method what;
  std::vector<compared> parameters;
  double condition = 1;
  numbers conditions, host_losses, device_losses;  // one a step
  std::array<long, watched.size()> calls_before{}, calls_after{};
  std::vector<std::array<double, 3>> host_experts, device_experts;
};

// Trained once; every case looks at something else.
std::vector<observation> const& observations() {
  static std::vector<observation> const all = [] {
    std::vector<observation> some;
    for (method const& m : methods_of_interest()) some.emplace_back(m);
    return some;
  }();
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(fashion)

BOOST_AUTO_TEST_CASE(networks_start_with_the_same_bits) {
  for (observation const& o : observations())
    for (compared const& p : o.parameters) BOOST_TEST_CONTEXT(o.what.name << ", " << p.name) {
        // The device has a QR factorization of its own.
        BOOST_TEST(p.off_at_start <= (p.drawn ? 0 : support::tolerance<double>(sizes[0])));
      }
}

// Else the tolerances below would let everything pass.
BOOST_AUTO_TEST_CASE(quotients_of_gradients_stay_bounded) {
  for (observation const& o : observations()) BOOST_TEST_CONTEXT(o.what.name) {
      BOOST_TEST(o.condition < 1e8);
    }
}

BOOST_AUTO_TEST_CASE(losses_on_the_device_are_those_of_the_host) {
  for (observation const& o : observations())
    for (std::size_t i = 0; i < o.host_losses.size(); ++i)
      BOOST_TEST_CONTEXT(o.what.name << ", step " << i) {
        BOOST_TEST(std::isfinite(o.host_losses[i]));
        BOOST_TEST(std::abs(o.device_losses[i] - o.host_losses[i]) <=
                   support::tolerance<double>(tokens, o.conditions[i]) * o.host_losses[i]);
      }
}

BOOST_AUTO_TEST_CASE(parameters_trained_on_the_device_are_those_of_the_host) {
  for (observation const& o : observations())
    for (compared const& p : o.parameters) BOOST_TEST_CONTEXT(o.what.name << ", " << p.name)
  BOOST_TEST(p.off_in_the_end <= support::tolerance<double>(tokens, o.condition));
}

BOOST_AUTO_TEST_CASE(experts_are_as_alike_on_the_device) {
  for (observation const& o : observations())
    for (std::size_t l = 0; l < o.host_experts.size(); ++l)
      BOOST_TEST_CONTEXT(o.what.name << ", layer " << l) {
        auto const& found = o.device_experts[l];
        for (std::size_t i = 0; i < 3; ++i)
          BOOST_TEST(std::abs(found[i] - o.host_experts[l][i]) <=
                     support::tolerance<double>(tokens, o.condition));
        BOOST_TEST(found[0] > 0.01);
        if (o.what.plan.mix != mixing::none)
          BOOST_TEST(found[1] <= support::tolerance<double>(sizes[0]));
      }
}

BOOST_AUTO_TEST_CASE(a_step_neither_waits_nor_allocates) {
  for (observation const& o : observations())
    for (std::size_t i = 0; i < watched.size(); ++i)
      BOOST_TEST(o.calls_after[i] == o.calls_before[i],
                 o.what.name << ": " << watched[i] << " is called");
}

BOOST_AUTO_TEST_SUITE_END()
