// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The example's network: a whole training step against central differences, and its tasks.

#include <cmath>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/stiefelx.hpp>

#include "examples/fashion/methods.hpp"
#include "examples/fashion/training.hpp"

namespace {

using namespace example;
using matrix = Eigen::MatrixXd;
using network_type = network<host::context, double>;

std::span<double const> columns(matrix const& x) {
  return {x.data(), static_cast<std::size_t>(x.size())};
}

// A small network with every parameter away from its start, where some gradients are zero.
struct small_case {
  explicit small_case(method const& m) {
    random_stream random{11};
    adapter_plan plan = m.plan;
    plan.rank = 2;
    net.emplace(ctx, std::vector<index_t>{6, 5, 4, 3}, random, 1e-3, 0.0);
    net->adapt(ctx, plan, random, m.train_layers);
    for (auto* p : net->trained()) {
      matrix noise(p->value.rows(), p->value.cols());
      fill_normal(ctx, random, 0.4, noise);
      p->value += noise;
    }
    x.resize(6, 7);
    fill_normal(ctx, random, 1, x);
    for (int i = 0; i < 7; ++i) y.push_back(i % 3);
  }

  double loss() {
    matrix found(1, 1);
    net->forward(ctx, columns(x));
    net->backward(ctx, y, found);
    return found(0);
  }

  // A training step; returns the loss before it.
  double step(network_type& trained, double schedule) {
    matrix found(1, 1);
    training_step(ctx, trained, columns(x), std::span<int const>(y), schedule, 1.0, found);
    return found(0);
  }

  // Error of the directional derivative along d at step h, by central differences.
  double error(parameter<host::context, double>& p, matrix const& d, double slope, double h) {
    matrix const start = p.value;
    p.value = start + h * d;
    double const above = loss();
    p.value = start - h * d;
    double const below = loss();
    p.value = start;
    return std::abs((above - below) / (2 * h) - slope);
  }

  host::context ctx;
  std::optional<network_type> net;
  matrix x;
  std::vector<int> y;
};

std::vector<std::string> trained_methods() {
  std::vector<std::string> names;
  for (method const& m : all_methods())
    if (m.name != "frozen") names.push_back(m.name);
  return names;
}

method named(std::string const& name) {
  for (method const& m : all_methods())
    if (m.name == name) return m;
  throw std::invalid_argument(name);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model)

BOOST_AUTO_TEST_CASE(gradients_of_a_training_step_match_central_differences) {
  for (std::string const& name : trained_methods()) {
    small_case c(named(name));
    for (auto* p : c.net->trained()) p->gradient.setZero();
    c.loss();
    std::vector<matrix> gradients;
    for (auto* p : c.net->trained()) gradients.push_back(p->gradient);
    std::size_t i = 0;
    for (auto* p : c.net->trained()) {
      BOOST_TEST_CONTEXT(name << ", " << p->name) {
        random_stream random{5};
        matrix d(p->value.rows(), p->value.cols());
        fill_normal(c.ctx, random, 1, d);
        d /= d.norm();
        double const slope = gradients[i].cwiseProduct(d).sum();
        // The error of central differences falls as h squared until rounding, about 1e-16 / h.
        double const coarse = c.error(*p, d, slope, 4e-3), fine = c.error(*p, d, slope, 1e-3);
        BOOST_TEST(std::abs(slope) > 1e-6);
        BOOST_TEST(fine < 1e-4 * (1 + std::abs(slope)));
        if (coarse > 1e-9) BOOST_TEST(std::abs(std::log2(coarse / fine) - 4) < 0.5);
      }
      ++i;
    }
  }
}

BOOST_AUTO_TEST_CASE(a_training_step_lowers_the_loss_of_its_batch) {
  for (std::string const& name : trained_methods()) {
    BOOST_TEST_CONTEXT(name) {
      small_case c(named(name));
      double const first = c.step(*c.net, 1e-1);
      for (int i = 0; i < 40; ++i) c.step(*c.net, 1e-1);
      BOOST_TEST(c.loss() < first);
    }
  }
}

BOOST_AUTO_TEST_CASE(adapters_start_as_the_frozen_network) {
  for (std::string const& name : trained_methods()) {
    BOOST_TEST_CONTEXT(name) {
      host::context ctx;
      random_stream random{3};
      network_type net(ctx, {6, 5, 4, 3}, random, 1e-3, 0.0);
      matrix x(6, 9);
      fill_normal(ctx, random, 1, x);
      matrix const before = net.forward(ctx, columns(x));
      adapter_plan plan = named(name).plan;
      plan.rank = 2;
      net.adapt(ctx, plan, random, false);
      BOOST_TEST((net.forward(ctx, columns(x)) == before));
    }
  }
}

BOOST_AUTO_TEST_CASE(stiefel_factors_stay_orthonormal) {
  small_case c(named("stiefel-lora"));
  random_stream random{3};
  network_type net(c.ctx, {6, 5, 4, 3}, random, 1e-3, 0.0);
  net.adapt(c.ctx, {.kind = adapter_plan::form::stiefel, .rank = 2}, random, false);
  for (int i = 0; i < 50; ++i) c.step(net, 1.0);
  for (auto* p : net.trained()) {
    if (p->optimizer.index() == 0) continue;
    Eigen::Matrix<double, 1, 1> error;
    orthonormality_error(c.ctx, p->value, error);
    BOOST_TEST(error(0) < 1e-14);
  }
}

BOOST_AUTO_TEST_CASE(parameter_counts_are_those_of_the_matrices) {
  for (std::string const& name : trained_methods()) {
    BOOST_TEST_CONTEXT(name) {
      method const m = named(name);
      std::vector<index_t> const sizes{6, 5, 4, 3};
      host::context ctx;
      random_stream random{1};
      network_type net(ctx, sizes, random, 1e-3, 0.0);
      method small = m;
      small.plan.rank = 2;
      net.adapt(ctx, small.plan, random, m.train_layers);
      index_t count = 0;
      for (auto* p : net.trained()) count += p->value.size();
      BOOST_TEST(count == trainable_parameters(small, sizes));
    }
  }
}

BOOST_AUTO_TEST_CASE(matched_methods_have_the_nearest_count) {
  auto const sizes = network_sizes();
  index_t const target = trainable_parameters(named("omoe-4"), sizes);
  for (std::string const name : {"lora", "stiefel-lora"}) {
    method m = named(name);
    index_t const distance = std::abs(trainable_parameters(m, sizes) - target);
    for (index_t change : {-1, 1}) {
      method other = m;
      other.plan.rank += change;
      BOOST_TEST(std::abs(trainable_parameters(other, sizes) - target) >= distance);
    }
  }
}

BOOST_AUTO_TEST_CASE(label_maps_contradict_each_other) {
  task_set const tasks;
  std::set<std::vector<int>> maps;
  for (std::size_t k = 0; k < task_count; ++k) {
    std::vector<int> map;
    for (std::size_t c = 0; c < class_count; ++c) {
      map.push_back(tasks.label(k, c));
      BOOST_TEST((tasks.label(k, c) == static_cast<int>(c)) == (k == 0));
    }
    BOOST_TEST(std::set<int>(map.begin(), map.end()).size() == class_count);
    maps.insert(map);
  }
  BOOST_TEST(maps.size() == task_count);
}

BOOST_AUTO_TEST_CASE(cues_mark_sixteen_border_pixels_of_their_own) {
  std::set<std::size_t> all;
  for (std::size_t k = 0; k < task_count; ++k) {
    std::vector<float> image(784, 0.0F);
    task_set::mark(k, image.data());
    std::size_t marked = 0;
    for (std::size_t i = 0; i < image.size(); ++i) {
      if (image[i] == 0) continue;
      BOOST_TEST(image[i] == 3.0F);
      all.insert(i);
      ++marked;
    }
    BOOST_TEST(marked == 16U);
  }
  BOOST_TEST(all.size() == 16 * task_count);
}

BOOST_AUTO_TEST_CASE(a_batch_is_a_function_of_seed_and_step) {
  pixel_columns set;
  for (int i = 0; i < 50; ++i) {
    set.classes.push_back(i % 10);
    set.pixels.insert(set.pixels.end(), pixel_count, static_cast<float>(i));
  }
  task_set const tasks;
  batch a(32), b(32), c(32);
  draw_batch(set, &tasks, 1, 7, a);
  draw_batch(set, &tasks, 1, 7, b);
  draw_batch(set, &tasks, 1, 8, c);
  BOOST_TEST(a.pixels == b.pixels);
  BOOST_TEST(a.labels == b.labels);
  BOOST_TEST(a.pixels != c.pixels);
}

BOOST_AUTO_TEST_CASE(pixels_are_normalised_by_one_mean_and_deviation) {
  labelled_images set{{1, 28, 28, std::vector<std::uint8_t>(pixel_count)}, {7}};
  set.images.pixels[1] = 255;
  auto const out = normalise(set);
  BOOST_TEST(out.count() == 1U);
  BOOST_TEST(out.classes[0] == 7);
  BOOST_TEST(out.image(0)[0] == (0.0F - 0.2860F) / 0.3530F);
  BOOST_TEST(out.image(0)[1] == (1.0F - 0.2860F) / 0.3530F);
}

BOOST_AUTO_TEST_SUITE_END()
