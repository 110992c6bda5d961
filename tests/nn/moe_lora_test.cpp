// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the page of the mixture promises beyond its formula (rank_space_test.cpp has that): zero
// experts, accumulation, beta, order, errors, and gradients by central differences.

#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <nn/expert_layer.hpp>
#include <stiefelx/nn/lora.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

/// The same bytes.
template <class S>
bool same_bits(matrix_x<S> const& a, matrix_x<S> const& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         (a.size() == 0 ||
          std::memcmp(a.data(), b.data(), sizeof(S) * static_cast<std::size_t>(a.size())) == 0);
}

/// f("y", y) and so on for the five results of a layer.
template <class R, class F>
void for_each_result(R const& r, F const& f) {
  f("y", &R::y, r.y);
  f("ddown", &R::ddown, r.ddown);
  f("dup", &R::dup, r.dup);
  f("dweights", &R::dweights, r.dweights);
  f("dx", &R::dx, r.dx);
}

template <class S>
void expect_same(layer_result<S> const& a, layer_result<S> const& b) {
  for_each_result(a, [&](char const* name, auto member, auto const& x) {
    BOOST_TEST_CONTEXT(name) BOOST_TEST(same_bits(x, b.*member));
  });
}

template <class S>
void expect_near(layer_result<S> const& found, layer_result<S> const& expected, double bound) {
  for_each_result(found, [&](char const* name, auto member, auto const& x) {
    BOOST_TEST_CONTEXT(name) BOOST_TEST(near(x, expected.*member, bound, 1 + x.norm()));
  });
}

template <class S>
void expect_finite(layer_result<S> const& r) {
  for_each_result(r, [&](char const* name, auto, auto const& x) {
    BOOST_TEST_CONTEXT(name) BOOST_TEST(x.allFinite());
  });
}

/// A layer's matrices on a backend, for calls that are to fail or that start from given gradients.
template <class Case>
struct running_layer {
  using S = typename Case::scalar;
  using matrix = typename Case::matrix;
  expert_layer<S> data;
  place<Case> p;
  matrix down, up, x, dy, y, ddown, dup, dweights, dx;

  explicit running_layer(expert_layer<S> const& l, S start = S(0))
      : data(l),
        down(p.up(l.down)),
        up(p.up(l.up)),
        x(p.up(l.x)),
        dy(p.up(l.dy)),
        y(p.up(matrix_x<S>::Constant(l.up.cols(), l.x.cols(), start))),
        ddown(p.up(matrix_x<S>::Constant(l.down.rows(), l.down.cols(), start))),
        dup(p.up(matrix_x<S>::Constant(l.up.rows(), l.up.cols(), start))),
        dweights(p.up(matrix_x<S>::Constant(l.weights.rows(), l.weights.cols(), start))),
        dx(p.up(matrix_x<S>::Constant(l.x.rows(), l.x.cols(), start))) {}

  void run(mixing kind, double beta) {
    stiefelx::lora_experts const experts(down, up, data.experts, data.scaling);
    auto const routes = routing_of(p, data);
    auto saved = moe_lora_forward(p.ctx, experts, routes, x, y, {.kind = kind});
    moe_lora_backward(p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, beta, dx);
  }
  layer_result<S> result() {
    return {p.down(y), p.down(ddown), p.down(dup), p.down(dweights), p.down(dx)};
  }
};

layer_sizes const soft{4, 4, 3, 6, 9, 7};
layer_sizes const sparse{5, 2, 3, 6, 9, 7};

}  // namespace

BOOST_AUTO_TEST_SUITE(moe_lora)

// --- zero experts --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(with_zero_up_orthogonal_is_plain_to_the_bit, Case, real_cases) {
  using S = typename Case::scalar;
  for (layer_sizes n : {soft, sparse, layer_sizes{8, 2, 16, 40, 50, 33}}) {
    expert_layer<S> l = random_layer<S>(n, 1);
    l.up.setZero();
    running_layer<Case> plain(l, S(0.25)), orthogonal(l, S(0.25));
    for (int call = 0; call < 2; ++call) {
      plain.run(mixing::none, 1);
      orthogonal.run(mixing::orthogonal, 1);
    }
    expect_same(orthogonal.result(), plain.result());
    expect_finite(plain.result());
    BOOST_TEST((plain.result().y.array() == S(0.25)).all());
    BOOST_TEST((plain.result().dup.array() != S(0.25)).any());
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(zero_experts_are_finite_in_every_kind, Case, real_cases) {
  using S = typename Case::scalar;
  for (mixing kind : kinds)
    for (int zeros = 0; zeros < 3; ++zeros) {
      expert_layer<S> l = random_layer<S>(sparse, 2);
      if (zeros == 0) l.up.setZero();
      if (zeros == 1) l.down.setZero();
      if (zeros == 2) l.x.setZero();
      auto const r = run_layer<Case>(l, {.kind = kind});
      expect_finite(r);
      BOOST_TEST((r.y.array() == S(0)).all());
    }
}

// --- gradients -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  for (mixing kind : kinds)
    for (layer_sizes n : {soft, sparse}) {
      expert_layer<double> l = random_layer<double>(n, 3);
      matrix_x<double> const c = random_matrix<double>(n.d_out, n.tokens, 4);
      l.dy = wave_gradient(c, run_layer<Case>(l, {.kind = kind}).y);
      auto const r = run_layer<Case>(l, {.kind = kind});
      auto const check = [&](char const* name, auto member, matrix_x<double> const& gradient) {
        auto const loss = [&](matrix_x<double> const& moved) {
          expert_layer<double> other = l;
          other.*member = moved;
          return wave_loss(c, run_layer<Case>(other, {.kind = kind}).y);
        };
        BOOST_TEST_CONTEXT(name << ", kind " << static_cast<int>(kind) << ", k = " << n.chosen)
        BOOST_TEST(is_gradient(loss, l.*member, gradient, 5, 7));
      };
      check("down", &expert_layer<double>::down, r.ddown);
      check("up", &expert_layer<double>::up, r.dup);
      check("weights", &expert_layer<double>::weights, r.dweights);
      check("x", &expert_layer<double>::x, r.dx);
    }
}

// --- accumulation --------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(output_and_parameter_gradients_accumulate, Case, real_cases) {
  using S = typename Case::scalar;
  expert_layer<S> const l = random_layer<S>(sparse, 6);
  for (mixing kind : kinds) {
    auto const once = run_layer<Case>(l, {.kind = kind});
    running_layer<Case> twice(l, S(0.5));
    twice.run(kind, 0);
    twice.run(kind, 0);
    auto const r = twice.result();
    double const bound = tolerance<S>(20);
    auto const expect = [&](char const* name, auto const& found, auto const& g) {
      matrix_x<S> const expected = matrix_x<S>::Constant(g.rows(), g.cols(), S(0.5)) + S(2) * g;
      BOOST_TEST_CONTEXT(name) BOOST_TEST(near(found, expected, bound));
    };
    expect("y", r.y, once.y);
    expect("ddown", r.ddown, once.ddown);
    expect("dup", r.dup, once.dup);
    BOOST_TEST(same_bits(r.dweights, once.dweights));
    BOOST_TEST(same_bits(r.dx, once.dx));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(dx_takes_beta, Case, real_cases) {
  using S = typename Case::scalar;
  expert_layer<S> const l = random_layer<S>(sparse, 7);
  // run_layer() has beta = 0 and a dx of NaN.
  matrix_x<S> const dx = run_layer<Case>(l, {}).dx;
  BOOST_TEST(dx.allFinite());
  for (double beta : {1.0, 0.5, -2.0}) {
    running_layer<Case> r(l, S(3));
    r.run(mixing::orthogonal, beta);
    matrix_x<S> const expected =
        dx + matrix_x<S>::Constant(dx.rows(), dx.cols(), static_cast<S>(3 * beta));
    BOOST_TEST(near(r.result().dx, expected, tolerance<S>(15)));
  }
}

// --- laws ----------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(one_expert_is_lora, Case, real_cases) {
  using S = typename Case::scalar;
  expert_layer<S> l = random_layer<S>({1, 1, 4, 6, 9, 7}, 8);
  l.weights.setOnes();
  place<Case> p;
  auto const down = p.up(l.down);
  auto const up = p.up(l.up);
  auto const x = p.up(l.x);
  auto const dy = p.up(l.dy);
  auto y = p.up(matrix_x<S>::Zero(9, 7));
  auto h = p.up(matrix_x<S>::Zero(4, 7));
  auto ddown = p.up(matrix_x<S>::Zero(6, 4));
  auto dup = p.up(matrix_x<S>::Zero(4, 9));
  auto dx = p.up(matrix_x<S>::Zero(6, 7));
  stiefelx::lora_forward(p.ctx, down, up, l.scaling, x, y, h);
  stiefelx::lora_backward(p.ctx, down, up, l.scaling, x, h, dy, ddown, dup, 0, dx);
  for (mixing kind : {mixing::none, mixing::orthogonal}) {
    auto r = run_layer<Case>(l, {.kind = kind});
    layer_result<S> const lora{p.down(y), p.down(ddown), p.down(dup), r.dweights, p.down(dx)};
    expect_near(r, lora, tolerance<S>(9));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(permuted_tokens_give_permuted_results, Case, real_cases) {
  using S = typename Case::scalar;
  expert_layer<S> const l = random_layer<S>(sparse, 9);
  Eigen::PermutationMatrix<Eigen::Dynamic> turn(7);
  turn.indices() << 3, 0, 6, 2, 5, 1, 4;
  expert_layer<S> moved = l;
  moved.x = l.x * turn;
  moved.dy = l.dy * turn;
  moved.ids = l.ids * turn;
  moved.weights = l.weights * turn;
  for (mixing kind : kinds) {
    auto r = run_layer<Case>(l, {.kind = kind});
    r.y = (r.y * turn).eval();
    r.dx = (r.dx * turn).eval();
    r.dweights = (r.dweights * turn).eval();
    expect_near(run_layer<Case>(moved, {.kind = kind}), r, tolerance<S>(15));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_expert_without_tokens_gets_exactly_no_gradient, Case, real_cases) {
  using S = typename Case::scalar;
  expert_layer<S> l = random_layer<S>(sparse, 10);
  for (index_t t = 0; t < l.ids.cols(); ++t) {
    l.ids(0, t) = t % 2 == 0 ? 4 : 1;
    l.ids(1, t) = t % 2 == 0 ? 1 : 3;
  }
  for (mixing kind : kinds) {
    running_layer<Case> running(l, S(0.5));
    running.run(kind, 0);
    auto const r = running.result();
    for (index_t e : {0, 2}) {
      BOOST_TEST((r.ddown.middleCols(e * 3, 3).array() == S(0.5)).all());
      BOOST_TEST((r.dup.middleRows(e * 3, 3).array() == S(0.5)).all());
    }
    for (index_t e : {1, 3, 4}) {
      BOOST_TEST((r.ddown.middleCols(e * 3, 3).array() != S(0.5)).all());
      BOOST_TEST((r.dup.middleRows(e * 3, 3).array() != S(0.5)).all());
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nothing_is_a_valid_number_of_tokens_and_ranks, Case, real_cases) {
  using S = typename Case::scalar;
  for (mixing kind : kinds) {
    expect_finite(run_layer<Case>(random_layer<S>({3, 2, 2, 4, 5, 0}, 1), {.kind = kind}));
    auto const r = run_layer<Case>(random_layer<S>({3, 2, 0, 4, 5, 6}, 1), {.kind = kind});
    BOOST_TEST(same(r.y, matrix_x<S>::Zero(5, 6)));
    BOOST_TEST(same(r.dx, matrix_x<S>::Zero(4, 6)));
    BOOST_TEST(same(r.dweights, matrix_x<S>::Zero(2, 6)));
  }
}

BOOST_AUTO_TEST_CASE(matrices_of_any_form_are_taken) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using any_stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using strided_map = Eigen::Map<matrix_x<double>, Eigen::Unaligned, any_stride>;
  using host_case = test_case<host_backend, double>;
  auto const l = random_layer<double>(sparse, 11);
  auto const expected = run_layer<host_case>(l, {});
  place<host_case> p;
  auto const routes = routing_of(p, l);
  auto const run = [&](auto& down, auto& up, auto const& x, auto const& dy, auto& y, auto& ddown,
                       auto& dup, auto& dweights, auto& dx) {
    y.setZero();
    ddown.setZero();
    dup.setZero();
    stiefelx::lora_experts const experts(down, up, l.experts, l.scaling);
    auto saved = moe_lora_forward(p.ctx, experts, routes, x, y);
    moe_lora_backward(p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
    expect_near(layer_result<double>{y, ddown, dup, dweights, dx}, expected, tolerance<double>(15));
  };
  BOOST_TEST_CONTEXT("row-major") {
    row_major down = l.down, up = l.up, x = l.x, dy = l.dy, y = dy, ddown = down, dup = up, dx = x;
    row_major dweights = l.weights;
    run(down, up, x, dy, y, ddown, dup, dweights, dx);
  }
  BOOST_TEST_CONTEXT("strided") {
    std::vector<matrix_x<double>> memory;
    memory.reserve(9);
    auto const strided = [&](matrix_x<double> const& a) {
      memory.emplace_back(matrix_x<double>::Constant(2 * a.rows() + 3, a.cols() + 1, -77));
      strided_map m(memory.back().data() + 1, a.rows(), a.cols(),
                    any_stride(memory.back().rows(), 2));
      m = a;
      return m;
    };
    auto down = strided(l.down), up = strided(l.up), x = strided(l.x), dy = strided(l.dy);
    auto y = strided(l.dy), ddown = strided(l.down), dup = strided(l.up), dx = strided(l.x);
    auto dweights = strided(l.weights);
    run(down, up, x, dy, y, ddown, dup, dweights, dx);
  }
  BOOST_TEST_CONTEXT("expressions and blocks") {
    matrix_x<double> down = l.down, up = l.up, all = matrix_x<double>::Zero(40, 40);
    auto y = all.block(0, 0, 9, 7), ddown = all.block(10, 0, 6, 15), dx = all.block(10, 16, 6, 7);
    auto dup = all.block(20, 0, 15, 9), dweights = all.block(36, 0, 2, 7);
    run(down, up, 0.5 * l.x + 0.5 * l.x, 2 * l.dy - l.dy, y, ddown, dup, dweights, dx);
  }
}

// --- errors --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_shapes_are_named, Case, double_cases) {
  auto const l = random_layer<double>({2, 2, 3, 6, 9, 7}, 12);
  running_layer<Case> r(l);
  auto const forward = [&](auto& down, auto& up, index_t count, auto const& x, auto& y) {
    return message_of([&] {
      stiefelx::lora_experts const experts(down, up, count, 1.0);
      (void)moe_lora_forward(r.p.ctx, experts, routing_of(r.p, l), x, y);
    });
  };
  auto wrong = r.p.up(matrix_x<double>::Zero(5, 4));
  BOOST_TEST(forward(r.down, r.up, 0, r.x, r.y) ==
             "moe_lora_forward: experts.count is 0, expected a number of at least 1");
  BOOST_TEST(forward(r.down, r.up, 4, r.x, r.y) ==
             "moe_lora_forward: experts.down is 6x6, expected 6x4");
  BOOST_TEST(forward(wrong, r.up, 2, r.x, r.y) ==
             "moe_lora_forward: experts.down is 5x4, expected 6x4");
  BOOST_TEST(forward(r.down, wrong, 2, r.x, r.y) ==
             "moe_lora_forward: experts.up is 5x4, expected 6x9");
  BOOST_TEST(forward(r.down, r.up, 3, r.x, r.y) ==
             "moe_lora_forward: routes.experts is 2, expected the number of experts");
  BOOST_TEST(forward(r.down, r.up, 2, r.x, wrong) ==
             "moe_lora_forward: experts.up is 6x9, expected 6x5");
  auto short_y = r.p.up(matrix_x<double>::Zero(9, 6));
  BOOST_TEST(forward(r.down, r.up, 2, r.x, short_y) == "moe_lora_forward: y is 9x6, expected 9x7");

  auto const backward = [&](auto const& x, auto const& dy, auto& ddown, auto& dup, auto& dweights,
                            auto& dx) {
    stiefelx::lora_experts const experts(r.down, r.up, 2, 1.0);
    auto const routes = routing_of(r.p, l);
    auto saved = moe_lora_forward(r.p.ctx, experts, routes, r.x, r.y);
    return message_of([&] {
      moe_lora_backward(r.p.ctx, experts, routes, saved, x, dy, ddown, dup, dweights, 0, dx);
    });
  };
  BOOST_TEST(backward(r.x, wrong, r.ddown, r.dup, r.dweights, r.dx) ==
             "moe_lora_backward: experts.up is 6x9, expected 6x5");
  BOOST_TEST(backward(r.x, short_y, r.ddown, r.dup, r.dweights, r.dx) ==
             "moe_lora_backward: dy is 9x6, expected 9x7");
  BOOST_TEST(backward(r.x, r.dy, wrong, r.dup, r.dweights, r.dx) ==
             "moe_lora_backward: ddown is 5x4, expected 6x6");
  BOOST_TEST(backward(r.x, r.dy, r.ddown, wrong, r.dweights, r.dx) ==
             "moe_lora_backward: dup is 5x4, expected 6x9");
  BOOST_TEST(backward(r.x, r.dy, r.ddown, r.dup, wrong, r.dx) ==
             "moe_lora_backward: dweights is 5x4, expected 2x7");
  BOOST_TEST(backward(r.x, r.dy, r.ddown, r.dup, r.dweights, wrong) ==
             "moe_lora_backward: dx is 5x4, expected 6x7");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(overlap_and_a_wrong_guard_are_refused, Case, double_cases) {
  auto const l = random_layer<double>({2, 2, 3, 6, 6, 7}, 13);
  running_layer<Case> r(l);
  stiefelx::lora_experts const experts(r.down, r.up, 2, 1.0);
  auto const routes = routing_of(r.p, l);
  auto all = r.p.up(random_matrix<double>(6, 10, 1));
  auto const left = all.middleCols(0, 7);
  BOOST_TEST(message_of([&] {
               (void)moe_lora_forward(r.p.ctx, experts, routes, left, all.middleCols(3, 7));
             }) == "moe_lora_forward: y overlaps x, expected separate memory");
  auto saved = moe_lora_forward(r.p.ctx, experts, routes, r.x, r.y);
  BOOST_TEST(message_of([&] {
               moe_lora_backward(r.p.ctx, experts, routes, saved, r.x, left, r.ddown, r.dup,
                                 r.dweights, 0, all.middleCols(0, 7));
             }) == "moe_lora_backward: dx overlaps dy, expected separate memory");
  for (double guard : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    std::string const text = message_of(
        [&] { (void)moe_lora_forward(r.p.ctx, experts, routes, r.x, r.y, {.guard = guard}); });
    BOOST_TEST(text == "moe_lora_forward: guard is " + std::to_string(guard) +
                           ", expected a number in [0, 1)");
  }
}

BOOST_AUTO_TEST_SUITE_END()
