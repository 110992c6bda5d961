// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Ready layers against tests/oracles/layers.py: output, loss, every gradient, and ten steps of training.

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/nn/balance.hpp>
#include <stiefelx/nn/factored_lora.hpp>
#include <stiefelx/nn/hydra_layer.hpp>
#include <stiefelx/nn/localized_balance.hpp>
#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/merge_lora.hpp>
#include <stiefelx/nn/mixlora_layer.hpp>
#include <stiefelx/nn/presets.hpp>
#include <stiefelx/nn/task_layer.hpp>
#include <stiefelx/optim/sgd.hpp>
#include <stiefelx/optim/stella.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/oracle.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using matrix = matrix_x<double>;
using matrices = std::map<std::string, matrix>;
using stiefelx::mixing;

constexpr double scaling = 1.5, rate = 0.05;
constexpr index_t experts = 3;

/// Output, loss and gradients at one set of parameters.
struct evaluation {
  matrix y;
  double loss = 0;
  matrices gradients;
};

/// Half the mean squared distance of a token, and its gradient.
matrix measure(evaluation& at, matrix const& target) {
  matrix const error = at.y - target;
  double const tokens = static_cast<double>(target.cols());
  at.loss += error.squaredNorm() / (2 * tokens);
  return error / tokens;
}

/// Names of the matrices of a topic that begin with `gradient.`, without it.
std::set<std::string> gradients_of(std::string const& topic) {
  auto const folder = std::filesystem::path(__FILE__).parent_path().parent_path() / "oracles";
  std::ifstream file(folder / (topic + ".txt"));
  std::set<std::string> names;
  std::string const head = "gradient.";
  for (std::string word; file >> word;)
    if (word.rfind(head, 0) == 0) names.insert(word.substr(head.size()));
  return names;
}

matrix& zero_like(evaluation& at, matrices const& v, std::string const& name) {
  matrix const& a = v.at(name);
  return at.gradients[name] = matrix::Zero(a.rows(), a.cols());
}

/// Compares a layer with its topic. `evaluate(ctx, v)` is the layer; `step(ctx, v, gradients)`
/// changes v.
template <class Evaluate, class Step>
void compare(std::string const& topic, matrices v, Evaluate const& evaluate, Step const& step) {
  oracle const expected(topic);
  auto const get = [&](std::string const& name) { return expected.get<double>(name); };
  for (auto& [name, value] : v) value = get(name);
  stiefelx::host::context ctx;
  // Sums of a few terms, each with a few roundings, ten times over; factors are of size one.
  double const bound = tolerance<double>(6, 10);
  for (int k = 0; k < 10; ++k) {
    evaluation const at = evaluate(ctx, v);
    if (k == 0) {
      BOOST_TEST(near(at.y, get("y"), bound));
      BOOST_TEST(std::abs(at.loss - get("loss")(0, 0)) <= bound * at.loss);
      std::set<std::string> found;
      for (auto const& [name, gradient] : at.gradients) found.insert(name);
      BOOST_TEST(found == gradients_of(topic), boost::test_tools::per_element());
      for (auto const& [name, gradient] : at.gradients)
        BOOST_TEST_CONTEXT(name) BOOST_TEST(near(gradient, get("gradient." + name), bound));
    }
    step(ctx, v, at.gradients);
  }
  for (auto const& [name, gradient] : evaluate(ctx, v).gradients)
    if (name != "x")
      BOOST_TEST_CONTEXT(name) BOOST_TEST(near(v.at(name), get("after." + name), 10 * bound));
  double const loss = evaluate(ctx, v).loss;
  BOOST_TEST(std::abs(loss - get("loss_after")(0, 0)) <= 10 * bound * loss);
}

struct descend {
  template <class Ctx>
  void operator()(Ctx& ctx, matrices& v, matrices const& gradients) const {
    for (auto const& [name, g] : gradients)
      if (name != "x") axpy(ctx, -rate, g, v.at(name));
  }
};

matrices named(std::initializer_list<char const*> names) {
  matrices v;
  for (char const* name : names) v[name];
  return v;
}

/// Whether experts have down-factors of their own.
enum class bank_of { lora, hydra };

/// A layer of linear experts with a router of their tokens.
template <bank_of Kind, class Preset, class Losses>
void compare_bank(std::string const& topic, Preset const& preset, Losses const& losses) {
  auto const evaluate = [&](stiefelx::host::context& ctx, matrices const& v) {
    auto const bank = [&] {
      if constexpr (Kind == bank_of::hydra)
        return stiefelx::hydra_experts(v.at("down"), v.at("up"), experts, scaling);
      else
        return stiefelx::lora_experts(v.at("down"), v.at("up"), experts, scaling);
    }();
    auto const layer = preset.layer(bank, v.at("router"));
    matrix const& x = v.at("x");
    evaluation at;
    at.y = v.at("frozen") * x;
    auto saved = stiefelx::expert_layer_forward(ctx, layer, x, at.y);
    matrix const dy = measure(at, v.at("target"));
    matrix& dx = at.gradients["x"] = v.at("frozen").transpose() * dy;
    stiefelx::expert_layer_gradients const gradients(
        zero_like(at, v, "down"), zero_like(at, v, "up"), zero_like(at, v, "router"));
    stiefelx::expert_layer_backward(
        ctx, layer, saved, x, dy,
        [&](auto const& routes, auto& dscores) { at.loss += losses(ctx, routes, dscores); },
        gradients, 1, dx);
    return at;
  };
  compare(topic, named({"frozen", "down", "up", "router", "x", "target"}), evaluate, descend{});
}

template <class Preset, class Losses>
void compare_experts(std::string const& topic, Preset const& preset, Losses const& losses) {
  compare_bank<bank_of::lora>(topic, preset, losses);
}

struct no_loss {
  template <class Ctx, class Routing, class DS>
  double operator()(Ctx&, Routing const&, DS&) const {
    return 0;
  }
};

struct balance {
  template <class Ctx, class Routing, class DS>
  double operator()(Ctx& ctx, Routing const& routes, DS& dscores) const {
    matrix loss(1, 1);
    stiefelx::balance_loss(ctx, 0.1, routes, loss, dscores);
    return loss(0, 0);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(layers)

BOOST_AUTO_TEST_CASE(lora_agrees_with_torch) {
  auto const evaluate = [](stiefelx::host::context& ctx, matrices const& v) {
    matrix const& x = v.at("x");
    evaluation at;
    at.y = v.at("frozen") * x;
    matrix h(v.at("down").cols(), x.cols());
    stiefelx::lora_forward(ctx, v.at("down"), v.at("up"), scaling, x, at.y, h);
    matrix const dy = measure(at, v.at("target"));
    matrix& dx = at.gradients["x"] = v.at("frozen").transpose() * dy;
    stiefelx::lora_backward(ctx, v.at("down"), v.at("up"), scaling, x, h, dy,
                            zero_like(at, v, "down"), zero_like(at, v, "up"), 1, dx);
    return at;
  };
  compare("layer_lora", named({"frozen", "down", "up", "x", "target"}), evaluate, descend{});
}

BOOST_AUTO_TEST_CASE(omoe_agrees_with_explicit_gram_schmidt_in_torch) {
  compare_experts("layer_omoe_soft", stiefelx::omoe_lora_preset(), no_loss{});
  compare_experts("layer_omoe_top", stiefelx::omoe_lora_preset(2), no_loss{});
}

BOOST_AUTO_TEST_CASE(mola_agrees_with_torch) {
  compare_experts("layer_mola", stiefelx::mola_preset(), balance{});
}

BOOST_AUTO_TEST_CASE(loramoe_agrees_with_torch) {
  matrix_x<int> offsets(1, 3), expert_types(3, 1), sample_types(1, 2);
  offsets << 0, 3, 6;
  expert_types << 0, 0, 1;
  sample_types << 0, 1;
  compare_experts("layer_loramoe", stiefelx::loramoe_preset(),
                  [&](auto& ctx, auto const& routes, auto& dscores) {
                    matrix loss(1, 1);
                    stiefelx::localized_balance_loss(ctx, 0.1, routes, stiefelx::every_token{},
                                                     offsets, expert_types, sample_types, loss,
                                                     dscores, {.delta = 0.1});
                    return loss(0, 0);
                  });
}

BOOST_AUTO_TEST_CASE(adamoe_agrees_with_torch) {
  compare_experts("layer_adamoe", stiefelx::adamoe_preset(3, 2), balance{});
}

BOOST_AUTO_TEST_CASE(hydralora_agrees_with_torch) {
  compare_bank<bank_of::hydra>("layer_hydralora", stiefelx::hydra_lora_preset(), no_loss{});
}

// Copies of one A in a bank are another layer with the same outputs, and the sum of its gradients.
BOOST_AUTO_TEST_CASE(a_shared_factor_is_a_bank_of_its_copies_in_every_mixing) {
  stiefelx::host::context ctx;
  index_t const d = 6, r = 2, tokens = 7;
  matrix const down = random_matrix<double>(d, r, 1), up = random_matrix<double>(3 * r, 5, 2);
  matrix const x = random_matrix<double>(d, tokens, 3), dy = random_matrix<double>(5, tokens, 4);
  matrix const router = random_matrix<double>(d, 4, 5);
  matrix const copies = down.replicate(1, 3);
  auto const shared = stiefelx::hydra_experts(down, up, experts, scaling);
  auto const bank = stiefelx::lora_experts(copies, up, experts, scaling);
  // A null expert, so that some slots are empty.
  auto const routes = stiefelx::route(ctx, router, x, stiefelx::top_k{.k = 2, .nulls = 1});
  BOOST_TEST((routes.ids.array() < 0).any());
  for (mixing kind : {mixing::none, mixing::orthogonal, mixing::orthonormal, mixing::symmetric})
    BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
      matrix y1 = matrix::Zero(5, tokens), y2 = y1, dx1 = matrix::Ones(d, tokens), dx2 = dx1;
      matrix dup1 = matrix::Ones(3 * r, 5), dup2 = dup1, dw1(2, tokens), dw2(2, tokens);
      matrix ddown1 = matrix::Ones(d, r), ddown2 = matrix::Zero(d, 3 * r);
      auto first = stiefelx::hydra_lora_forward(ctx, shared, routes, x, y1, {.kind = kind});
      auto second = stiefelx::moe_lora_forward(ctx, bank, routes, x, y2, {.kind = kind});
      stiefelx::hydra_lora_backward(ctx, shared, routes, first, x, dy, ddown1, dup1, dw1, 0.5, dx1);
      stiefelx::moe_lora_backward(ctx, bank, routes, second, x, dy, ddown2, dup2, dw2, 0.5, dx2);
      matrix sum = matrix::Ones(d, r);
      for (index_t e = 0; e < experts; ++e) sum += ddown2.middleCols(e * r, r);
      // The same sums in another order; Gram matrices are those of random factors.
      double const bound = tolerance<double>(d, 1000);
      BOOST_TEST(near(y1, y2, bound));
      BOOST_TEST(near(ddown1, sum, bound));
      BOOST_TEST(near(dup1, dup2, bound));
      BOOST_TEST(near(dw1, dw2, bound));
      BOOST_TEST(near(dx1, dx2, bound));
    }
}

// Equal scores list the experts by index, so the weights that replace the router's are those of slots.
BOOST_AUTO_TEST_CASE(a_shared_factor_with_fixed_gates_merges_into_the_frozen_weight) {
  stiefelx::host::context ctx;
  index_t const d = 6, r = 2, tokens = 7;
  matrix const down = random_matrix<double>(d, r, 1), up = random_matrix<double>(3 * r, 5, 2);
  matrix const x = random_matrix<double>(d, tokens, 3), frozen = random_matrix<double>(5, d, 4);
  matrix const router = matrix::Zero(d, experts);
  matrix gates(3, 1), y = frozen * x, merged = frozen;
  gates << 0.75, -0.5, 2;
  auto const shared = stiefelx::hydra_experts(down, up, experts, scaling);
  auto routes = stiefelx::route(ctx, router, x, stiefelx::top_k{.k = experts});
  routes.weights = gates.replicate(1, tokens);
  stiefelx::hydra_lora_forward(ctx, shared, routes, x, y, {.kind = mixing::none});
  stiefelx::merge_experts(ctx, shared, gates, mixing::none, merged);
  // Both sum d + E r products a number, of this size at most.
  double const size = (frozen.norm() + scaling * gates.norm() * up.norm() * down.norm()) * x.norm();
  BOOST_TEST(near(merged * x, y, tolerance<double>(d + 3 * r), size));
}

BOOST_AUTO_TEST_CASE(dx_of_a_layer_may_be_x_where_its_router_does_not_read_x_last) {
  stiefelx::host::context ctx;
  index_t const d = 6, r = 2, tokens = 7;
  matrix const down = random_matrix<double>(d, r, 1), up = random_matrix<double>(3 * r, 5, 2);
  matrix const start = random_matrix<double>(d, tokens, 3),
               dy = random_matrix<double>(5, tokens, 4);
  matrix const router = random_matrix<double>(d, experts, 5), bank = random_matrix<double>(d, 6, 6);
  matrix const embeddings = random_matrix<double>(d, 2, 7);
  matrix_x<int> tasks(1, tokens);
  tasks << 0, 1, 1, 0, 1, 0, 0;
  auto const shared = stiefelx::hydra_experts(down, up, experts, scaling);
  auto const routes = stiefelx::route(ctx, router, start, stiefelx::top_k{});
  stiefelx::task_layer const layer(stiefelx::lora_experts(bank, up, experts, scaling), router,
                                   embeddings);
  for (bool of_task : {false, true}) BOOST_TEST_CONTEXT("of a task: " << of_task) {
      auto const gradients = [&](matrix const& x, matrix& dx) {
        matrix y = matrix::Zero(5, tokens), dup = matrix::Zero(3 * r, 5), dw(2, tokens);
        matrix ddown = 0 * down, dbank = 0 * bank, drouter = 0 * router, de = 0 * embeddings;
        if (of_task) {
          auto saved = task_layer_forward(ctx, layer, tasks, x, y);
          task_layer_backward(ctx, layer, saved, tasks, x, dy, stiefelx::no_routing_loss{},
                              stiefelx::task_layer_gradients(dbank, dup, drouter, de), 0.5, dx);
        } else {
          auto saved = hydra_lora_forward(ctx, shared, routes, x, y);
          hydra_lora_backward(ctx, shared, routes, saved, x, dy, ddown, dup, dw, 0.5, dx);
        }
        return std::vector<matrix>{y, dup, ddown, dbank, drouter, de, dx};
      };
      matrix dx = start, both = start;
      BOOST_TEST((gradients(start, dx) == gradients(both, both)));
      BOOST_TEST((dx != start));
    }
}

BOOST_AUTO_TEST_CASE(moelora_agrees_with_torch) {
  matrix_x<int> tasks(1, 6);
  tasks << 0, 1, 1, 0, 1, 0;
  auto const evaluate = [&](stiefelx::host::context& ctx, matrices const& v) {
    //! [moelora]
    stiefelx::task_layer const layer(
        stiefelx::lora_experts(v.at("down"), v.at("up"), experts, scaling), v.at("router"),
        v.at("tasks"));
    matrix const& x = v.at("x");
    evaluation at;
    at.y = v.at("frozen") * x;
    auto saved = task_layer_forward(ctx, layer, tasks, x, at.y);
    matrix const dy = measure(at, v.at("target"));
    matrix& dx = at.gradients["x"] = v.at("frozen").transpose() * dy;
    stiefelx::task_layer_gradients const gradients(zero_like(at, v, "down"), zero_like(at, v, "up"),
                                                   zero_like(at, v, "router"),
                                                   zero_like(at, v, "tasks"));
    task_layer_backward(ctx, layer, saved, tasks, x, dy, stiefelx::no_routing_loss{}, gradients, 1,
                        dx);
    //! [moelora]
    return at;
  };
  compare("layer_moelora", named({"frozen", "down", "up", "router", "tasks", "x", "target"}),
          evaluate, descend{});
}

BOOST_AUTO_TEST_CASE(stella_agrees_with_torch) {
  auto const evaluate = [](stiefelx::host::context& ctx, matrices const& v) {
    matrix const& x = v.at("x");
    matrix const up = v.at("u").transpose(), middle = v.at("middle").transpose();
    evaluation at;
    at.y = v.at("frozen") * x;
    matrix h(middle.rows(), x.cols()), g(middle.rows(), x.cols());
    stiefelx::factored_lora_forward(ctx, v.at("v"), middle, up, scaling, x, at.y, h, g);
    matrix const dy = measure(at, v.at("target"));
    matrix& dx = at.gradients["x"] = v.at("frozen").transpose() * dy;
    matrix dup = matrix::Zero(up.rows(), up.cols()), dmiddle = matrix::Zero(h.rows(), h.rows());
    stiefelx::factored_lora_backward(ctx, v.at("v"), middle, up, scaling, x, h, g, dy,
                                     zero_like(at, v, "v"), dmiddle, dup, 1, dx);
    at.gradients["u"] = dup.transpose();
    at.gradients["middle"] = dmiddle.transpose();
    return at;
  };
  auto const step = [](stiefelx::host::context& ctx, matrices& v, matrices const& gradients) {
    axpy(ctx, -rate, gradients.at("middle"), v.at("middle"));
    for (char const* name : {"u", "v"}) {
      matrix& x = v.at(name);
      // Gradient descent has no state, so a new optimizer every step is the same optimizer.
      stiefelx::stella opt(ctx, stiefelx::stiefel{x.rows(), x.cols()}, x,
                           stiefelx::sgd(ctx, x, {.learning_rate = rate}));
      opt.step(ctx, x, gradients.at(name));
    }
  };
  compare("layer_stella", named({"frozen", "v", "middle", "u", "x", "target"}), evaluate, step);
}

BOOST_AUTO_TEST_CASE(mixlora_agrees_with_torch) {
  auto const evaluate = [](stiefelx::host::context& ctx, matrices const& v) {
    //! [mixlora]
    auto const bank = [&](std::string const& name) {
      return stiefelx::lora_experts(v.at(name + ".down"), v.at(name + ".up"), experts, scaling);
    };
    stiefelx::mixlora_layer const layer(
        stiefelx::ffn_experts(v.at("gate.frozen"), v.at("up.frozen"), v.at("down.frozen"),
                              bank("gate"), bank("up"), bank("down")),
        v.at("router"));
    matrix const& x = v.at("x");
    evaluation at;
    at.y = v.at("target");
    auto saved = mixlora_forward(ctx, layer, x, at.y);
    matrix const dy = measure(at, v.at("target"));
    auto const bank_gradients = [&](std::string const& name) {
      return stiefelx::lora_gradients(zero_like(at, v, name + ".down"),
                                      zero_like(at, v, name + ".up"));
    };
    stiefelx::mixlora_gradients const gradients(bank_gradients("gate"), bank_gradients("up"),
                                                bank_gradients("down"), zero_like(at, v, "router"));
    mixlora_backward(
        ctx, layer, saved, x, dy,
        [&](auto const& routes, auto& dscores) { at.loss += balance{}(ctx, routes, dscores); },
        gradients, 0, zero_like(at, v, "x"));
    //! [mixlora]
    return at;
  };
  compare("layer_mixlora",
          named({"gate.frozen", "up.frozen", "down.frozen", "gate.down", "gate.up", "up.down",
                 "up.up", "down.down", "down.up", "router", "x", "target"}),
          evaluate, descend{});
}

BOOST_AUTO_TEST_SUITE_END()
