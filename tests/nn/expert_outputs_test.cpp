// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What is made of the experts' outputs themselves: Gram-Schmidt in token space (rank_space_test.cpp
// holds it to its definition) and their similarity.

#include <cmath>
#include <limits>
#include <string>

#include <boost/test/unit_test.hpp>

#include <nn/expert_layer.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <stiefelx/nn/expert_similarity.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

template <class S>
struct outputs {
  matrix_x<S> e, weights, dy;
};

template <class Case>
outputs<typename Case::scalar> run(outputs<typename Case::scalar> const& o, mixing_options options,
                                   matrix_x<typename Case::scalar>& y) {
  using S = typename Case::scalar;
  place<Case> p;
  auto const e = p.up(o.e);
  auto const weights = p.up(o.weights);
  auto mixed = p.up(o.dy);
  auto saved = stiefelx::expert_gram_schmidt(p.ctx, e, weights, mixed, options);
  auto de = p.up(matrix_x<S>::Zero(o.e.rows(), o.e.cols()));
  auto dweights = p.up(matrix_x<S>::Zero(o.weights.rows(), o.weights.cols()));
  // Twice, since de and dweights are overwritten and saved is not used up.
  for (int call = 0; call < 2; ++call)
    stiefelx::expert_gram_schmidt_backward(p.ctx, e, weights, saved, p.up(o.dy), de, dweights);
  y = p.down(mixed);
  return {p.down(de), p.down(dweights), {}};
}

/// Mean absolute cosines of a layer's outputs before and after Gram-Schmidt, by loops.
template <class S>
matrix_x<double> similarity_by_loops(expert_layer<S> const& l, mixing_options options) {
  using T = long double;
  index_t const k = l.ids.rows(), tokens = l.ids.cols();
  matrix_x<T> const e = expert_outputs<T>(l);
  matrix_x<T> v = e;
  double const guard = guard_of<S>(options);
  for (index_t t = 0; t < tokens && options.kind != mixing::none; ++t)
    for (index_t i = 0; i < k; ++i)
      for (index_t j = 0; j < i; ++j) {
        auto const vj = v.col(t * k + j);
        T const square = vj.squaredNorm();
        if (square > T(guard * guard) * e.col(t * k + j).squaredNorm())
          v.col(t * k + i) -= vj * (vj.dot(e.col(t * k + i)) / square);
      }
  auto const mean = [&](matrix_x<T> const& a) {
    T sum = 0, pairs = 0;
    for (index_t t = 0; t < tokens; ++t)
      for (index_t i = 0; i < k; ++i)
        for (index_t j = 0; j < i; ++j) {
          T const lengths = a.col(t * k + i).norm() * a.col(t * k + j).norm();
          if (!(lengths > 0)) continue;
          sum += std::abs(a.col(t * k + i).dot(a.col(t * k + j))) / lengths;
          pairs += 1;
        }
    return static_cast<double>(pairs > 0 ? sum / pairs : 0);
  };
  matrix_x<double> s(2, 1);
  s << mean(e), mean(v);
  return s;
}

template <class Case>
matrix_x<double> similarity(expert_layer<typename Case::scalar> const& l, mixing_options options) {
  place<Case> p;
  auto down = p.up(l.down);
  auto up = p.up(l.up);
  stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
  auto s = p.up(matrix_x<double>::Constant(2, 1, std::nan("")));
  stiefelx::expert_similarity(p.ctx, experts, routing_of(p, l), p.up(l.x), options, s);
  return p.down(s);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(expert_outputs)

// --- Gram-Schmidt --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  for (mixing kind : kinds) {
    outputs<double> o{random_matrix<double>(9, 12, 1), random_matrix<double>(4, 3, 2),
                      matrix_x<double>::Zero(9, 3)};
    matrix_x<double> const c = random_matrix<double>(9, 3, 3);
    matrix_x<double> y;
    run<Case>(o, {.kind = kind}, y);
    o.dy = wave_gradient(c, y);
    auto const gradients = run<Case>(o, {.kind = kind}, y);
    auto const check = [&](char const* name, auto member, matrix_x<double> const& gradient) {
      auto const loss = [&](matrix_x<double> const& moved) {
        outputs<double> other = o;
        other.*member = moved;
        matrix_x<double> mixed;
        run<Case>(other, {.kind = kind}, mixed);
        return wave_loss(c, mixed);
      };
      BOOST_TEST_CONTEXT(name << ", kind " << static_cast<int>(kind))
      BOOST_TEST(is_gradient(loss, o.*member, gradient, 4, 8));
    };
    check("e", &outputs<double>::e, gradients.e);
    check("weights", &outputs<double>::weights, gradients.weights);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_tokens_and_no_rows_are_valid, Case, real_cases) {
  using S = typename Case::scalar;
  matrix_x<S> y;
  outputs<S> const none{matrix_x<S>(9, 0), matrix_x<S>(4, 0), matrix_x<S>(9, 0)};
  BOOST_TEST(run<Case>(none, {}, y).e.cols() == 0);
  outputs<S> const flat{matrix_x<S>(0, 12), random_matrix<S>(4, 3, 2), matrix_x<S>(0, 3)};
  BOOST_TEST(same(run<Case>(flat, {}, y).weights, matrix_x<S>::Zero(4, 3)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_of_gram_schmidt_are_named, Case, double_cases) {
  place<Case> p;
  auto const e = p.up(random_matrix<double>(5, 6, 1));
  auto const weights = p.up(random_matrix<double>(2, 3, 2));
  auto y = p.up(matrix_x<double>::Zero(5, 3)), wrong = p.up(matrix_x<double>::Zero(4, 4));
  auto de = p.up(matrix_x<double>::Zero(5, 6)), dweights = p.up(matrix_x<double>::Zero(2, 3));
  auto all = p.up(random_matrix<double>(5, 9, 3));
  auto const forward = [&](auto const& a, auto&& out, mixing_options options) {
    return message_of(
        [&] { (void)stiefelx::expert_gram_schmidt(p.ctx, a, weights, out, options); });
  };
  BOOST_TEST(forward(wrong, y, {}) == "expert_gram_schmidt: e is 4x4, expected 4x6");
  BOOST_TEST(forward(e, wrong, {}) == "expert_gram_schmidt: y is 4x4, expected 5x3");
  BOOST_TEST(forward(all.middleCols(0, 6), all.middleCols(4, 3), {}) ==
             "expert_gram_schmidt: y overlaps e, expected separate memory");
  BOOST_TEST(forward(e, y, {.guard = 1}) ==
             "expert_gram_schmidt: guard is 1.000000, expected a number in [0, 1)");
  auto saved = stiefelx::expert_gram_schmidt(p.ctx, e, weights, y);
  auto const backward = [&](auto const& a, auto const& dy, auto&& da, auto& dw) {
    return message_of(
        [&] { stiefelx::expert_gram_schmidt_backward(p.ctx, a, weights, saved, dy, da, dw); });
  };
  std::string const name = "expert_gram_schmidt_backward: ";
  BOOST_TEST(backward(wrong, y, de, dweights) == name + "e is 4x4, expected 4x6");
  BOOST_TEST(backward(e, wrong, de, dweights) == name + "dy is 4x4, expected 5x3");
  BOOST_TEST(backward(e, y, wrong, dweights) == name + "de is 4x4, expected 5x6");
  BOOST_TEST(backward(e, y, de, wrong) == name + "dweights is 4x4, expected 2x3");
  BOOST_TEST(backward(all.middleCols(0, 6), y, all.middleCols(3, 6), dweights) ==
             name + "de overlaps e, expected separate memory");
  BOOST_TEST(backward(e, all.middleCols(0, 3), all.middleCols(2, 6), dweights) ==
             name + "de overlaps dy, expected separate memory");
}

// --- similarity ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(similarity_agrees_with_loops, Case, real_cases) {
  using S = typename Case::scalar;
  for (mixing kind : kinds)
    for (layer_sizes n : {layer_sizes{4, 4, 3, 6, 9, 7}, layer_sizes{5, 2, 3, 6, 9, 7},
                          layer_sizes{3, 1, 2, 4, 5, 6}}) {
      auto const l = random_layer<S>(n, 1);
      mixing_options const options{.kind = kind, .guard = 0.3};
      auto const expected = similarity_by_loops(l, options);
      BOOST_TEST(near(similarity<Case>(l, options), expected, tolerance<S>(15)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(orthogonal_outputs_are_less_alike, Case, real_cases) {
  using S = typename Case::scalar;
  auto l = random_layer<S>({4, 4, 3, 6, 9, 7}, 2);
  for (index_t e = 1; e < 4; ++e) {
    l.down.middleCols(3 * e, 3) = l.down.middleCols(0, 3) + S(0.1) * l.down.middleCols(3 * e, 3);
    l.up.middleRows(3 * e, 3) = l.up.middleRows(0, 3) + S(0.1) * l.up.middleRows(3 * e, 3);
  }
  auto const before_and_after = similarity<Case>(l, {});
  BOOST_TEST(before_and_after(0, 0) > 0.9);
  BOOST_TEST(before_and_after(0, 0) <= 1 + tolerance<S>(9));
  // What remains of the cosines is the rounding of the Gram matrix over the squared remainders.
  double const delta = define_layer(l, {}).mixture.delta;
  BOOST_TEST(before_and_after(1, 0) <= tolerance<double>(9) / (delta * delta));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(pairs_with_a_zero_output_do_not_count, Case, real_cases) {
  using S = typename Case::scalar;
  auto l = random_layer<S>({3, 3, 3, 6, 9, 7}, 3);
  l.up.middleRows(3, 3).setZero();
  BOOST_TEST(near(similarity<Case>(l, {.kind = mixing::none}),
                  similarity_by_loops(l, {.kind = mixing::none}), tolerance<S>(15)));
  l.up.setZero();
  BOOST_TEST(same(similarity<Case>(l, {}), matrix_x<double>::Zero(2, 1)));
  l.x.resize(6, 0);
  l.ids.resize(3, 0);
  l.weights.resize(3, 0);
  BOOST_TEST(same(similarity<Case>(l, {}), matrix_x<double>::Zero(2, 1)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_shapes_of_similarity_are_named, Case, double_cases) {
  place<Case> p;
  auto const l = random_layer<double>({2, 2, 3, 6, 9, 7}, 4);
  auto down = p.up(l.down), up = p.up(l.up);
  auto const x = p.up(l.x);
  auto s = p.up(matrix_x<double>::Zero(2, 1)), wrong = p.up(matrix_x<double>::Zero(3, 3));
  stiefelx::lora_experts const experts(down, up, 2, 1.0);
  auto const routes = routing_of(p, l);
  BOOST_TEST(message_of([&] {
               stiefelx::expert_similarity(p.ctx, experts, routes, x, {}, wrong);
             }) == "expert_similarity: s is 3x3, expected 2x1");
  BOOST_TEST(message_of([&] {
               stiefelx::expert_similarity(p.ctx, experts, routes, wrong, {}, s);
             }) == "expert_similarity: experts.down is 6x6, expected 3x6");
}

BOOST_AUTO_TEST_SUITE_END()
