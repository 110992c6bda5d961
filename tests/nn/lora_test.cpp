// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One low-rank adapter against loops and central differences, and first values in a stored weight.

#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/nn/lora.hpp>
#include <stiefelx/nn/spectral_initialization.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;

constexpr double scaling = 1.5;

template <class S>
struct adapter {
  matrix_x<S> down, up, x, dy;

  adapter(index_t d_in, index_t r, index_t d_out, index_t tokens)
      : down(random_matrix<S>(d_in, r, 1)),
        up(random_matrix<S>(r, d_out, 2)),
        x(random_matrix<S>(d_in, tokens, 3)),
        dy(random_matrix<S>(d_out, tokens, 4)) {}
};

template <class S>
struct adapter_result {
  matrix_x<S> y, h, ddown, dup, dx;
};

/// Both calls, with outputs that accumulate starting from `start` and a given dx.
template <class Case>
adapter_result<typename Case::scalar> run(adapter<typename Case::scalar> const& a, double start,
                                          double beta, double dx_start) {
  using S = typename Case::scalar;
  place<Case> p;
  auto const filled = [&](index_t rows, index_t cols, double c) {
    return p.up(matrix_x<S>::Constant(rows, cols, static_cast<S>(c)));
  };
  double const nan = std::numeric_limits<double>::quiet_NaN();
  auto const down = p.up(a.down);
  auto const up = p.up(a.up);
  auto const x = p.up(a.x);
  auto y = filled(a.up.cols(), a.x.cols(), start);
  auto h = filled(a.down.cols(), a.x.cols(), nan);
  auto ddown = filled(a.down.rows(), a.down.cols(), start);
  auto dup = filled(a.up.rows(), a.up.cols(), start);
  auto dx = filled(a.x.rows(), a.x.cols(), dx_start);
  stiefelx::lora_forward(p.ctx, down, up, scaling, x, y, h);
  stiefelx::lora_backward(p.ctx, down, up, scaling, x, h, p.up(a.dy), ddown, dup, beta, dx);
  return {p.down(y), p.down(h), p.down(ddown), p.down(dup), p.down(dx)};
}

struct extent {
  index_t d_in, r, d_out, tokens;
};

extent const extents[] = {{5, 3, 7, 6}, {1, 1, 1, 1}, {5, 3, 7, 0}, {5, 0, 7, 6}, {40, 8, 33, 50}};

}  // namespace

BOOST_AUTO_TEST_SUITE(lora)

BOOST_AUTO_TEST_CASE_TEMPLATE(results_agree_with_loops, Case, real_cases) {
  using S = typename Case::scalar;
  S const s = static_cast<S>(scaling);
  double const nan = std::numeric_limits<double>::quiet_NaN();
  for (extent n : extents) {
    BOOST_TEST_CONTEXT(n.d_in << ", " << n.r << ", " << n.d_out << ", " << n.tokens) {
      adapter<S> const a(n.d_in, n.r, n.d_out, n.tokens);
      auto const found = run<Case>(a, 0.5, 0, nan);
      matrix_x<S> const h = loop_product(loop_adjoint(a.down), a.x);
      matrix_x<S> const dh = s * loop_product(a.up, a.dy);
      auto const half = [](matrix_x<S> const& m) {
        return matrix_x<S>(m + matrix_x<S>::Constant(m.rows(), m.cols(), S(0.5)));
      };
      auto const expect = [&](char const* name, matrix_x<S> const& b, matrix_x<S> const& expected) {
        double const size = 1 + static_cast<double>(expected.norm());
        BOOST_TEST_CONTEXT(name) BOOST_TEST(near(b, expected, tolerance<S>(50), size));
      };
      expect("h", found.h, h);
      expect("y", found.y, half(s * loop_product(loop_adjoint(a.up), h)));
      expect("ddown", found.ddown, half(loop_product(a.x, loop_adjoint(dh))));
      expect("dup", found.dup, half(s * loop_product(h, loop_adjoint(a.dy))));
      expect("dx", found.dx, loop_product(a.down, dh));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(dx_takes_beta, Case, real_cases) {
  using S = typename Case::scalar;
  adapter<S> const a(5, 3, 7, 6);
  matrix_x<S> const dx = run<Case>(a, 0, 0, std::nan("")).dx;
  for (double beta : {1.0, 0.5}) {
    matrix_x<S> const expected = dx + matrix_x<S>::Constant(5, 6, static_cast<S>(3 * beta));
    BOOST_TEST(near(run<Case>(a, 0, beta, 3).dx, expected, tolerance<S>(7)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(gradients_agree_with_central_differences, Case, double_cases) {
  adapter<double> a(5, 3, 7, 6);
  matrix_x<double> const c = random_matrix<double>(7, 6, 5);
  a.dy = wave_gradient(c, run<Case>(a, 0, 0, 0).y);
  auto const r = run<Case>(a, 0, 0, 0);
  auto const check = [&](char const* name, auto member, matrix_x<double> const& gradient) {
    auto const loss = [&](matrix_x<double> const& moved) {
      adapter<double> other = a;
      other.*member = moved;
      return wave_loss(c, run<Case>(other, 0, 0, 0).y);
    };
    BOOST_TEST_CONTEXT(name) BOOST_TEST(is_gradient(loss, a.*member, gradient, 6, 8));
  };
  check("down", &adapter<double>::down, r.ddown);
  check("up", &adapter<double>::up, r.dup);
  check("x", &adapter<double>::x, r.dx);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_shapes_and_overlap_are_named, Case, double_cases) {
  place<Case> p;
  adapter<double> const a(5, 3, 5, 6);
  auto const down = p.up(a.down);
  auto const up = p.up(a.up);
  auto const x = p.up(a.x);
  auto const dy = p.up(a.dy);
  auto y = p.up(matrix_x<double>::Zero(5, 6)), dx = p.up(a.x), h = p.up(matrix_x<double>(3, 6));
  auto ddown = p.up(a.down), dup = p.up(a.up), wrong = p.up(matrix_x<double>::Zero(2, 2));
  auto all = p.up(random_matrix<double>(5, 9, 1));
  auto const forward = [&](auto const& b, auto const& tokens, auto&& out, auto& saved) {
    return message_of([&] { stiefelx::lora_forward(p.ctx, down, b, scaling, tokens, out, saved); });
  };
  BOOST_TEST(forward(wrong, x, y, h) == "lora_forward: up is 2x2, expected 3x5");
  BOOST_TEST(forward(up, wrong, y, h) == "lora_forward: x is 2x2, expected 5x6");
  BOOST_TEST(forward(up, x, y, wrong) == "lora_forward: h is 2x2, expected 3x6");
  BOOST_TEST(forward(up, all.middleCols(0, 6), all.middleCols(1, 6), h) ==
             "lora_forward: y overlaps x, expected separate memory");
  auto const backward = [&](auto const& tokens, auto const& saved, auto const& incoming, auto& da,
                            auto& db, auto&& out) {
    return message_of([&] {
      stiefelx::lora_backward(p.ctx, down, up, scaling, tokens, saved, incoming, da, db, 0, out);
    });
  };
  BOOST_TEST(backward(wrong, h, dy, ddown, dup, dx) == "lora_backward: x is 2x2, expected 5x2");
  BOOST_TEST(backward(x, wrong, dy, ddown, dup, dx) == "lora_backward: h is 2x2, expected 3x6");
  BOOST_TEST(backward(x, h, wrong, ddown, dup, dx) == "lora_backward: dy is 2x2, expected 5x6");
  BOOST_TEST(backward(x, h, dy, wrong, dup, dx) == "lora_backward: ddown is 2x2, expected 5x3");
  BOOST_TEST(backward(x, h, dy, ddown, wrong, dx) == "lora_backward: dup is 2x2, expected 3x5");
  BOOST_TEST(backward(x, h, dy, ddown, dup, wrong) == "lora_backward: dx is 2x2, expected 5x6");
  BOOST_TEST(backward(x, h, all.middleCols(0, 6), ddown, dup, all.middleCols(0, 6)) ==
             "lora_backward: dx overlaps dy, expected separate memory");
  // Square matrices, each of which has the shape of every other.
  auto const square = [&](std::uint64_t seed) { return p.up(random_matrix<double>(3, 3, seed)); };
  auto const zero = [&] { return p.up(matrix_x<double>::Zero(3, 3)); };
  auto a3 = square(1), b3 = square(2), x3 = square(3), h3 = square(4), dy3 = square(5);
  auto da3 = zero(), db3 = zero(), dx3 = zero();
  auto const overlap = [&](auto& da, auto& db) {
    return message_of(
        [&] { stiefelx::lora_backward(p.ctx, a3, b3, scaling, x3, h3, dy3, da, db, 1, dx3); });
  };
  BOOST_TEST(overlap(a3, db3) == "lora_backward: ddown overlaps down, expected separate memory");
  BOOST_TEST(overlap(x3, db3) == "lora_backward: ddown overlaps x, expected separate memory");
  BOOST_TEST(overlap(da3, b3) == "lora_backward: dup overlaps up, expected separate memory");
  BOOST_TEST(overlap(da3, dy3) == "lora_backward: dup overlaps dy, expected separate memory");
  for (auto const* gradient : {&da3, &db3, &dx3}) BOOST_TEST(p.down(*gradient).isZero(0));
  BOOST_TEST(overlap(da3, da3) == "nothing was thrown");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(dx_may_be_x, Case, double_cases) {
  place<Case> p;
  adapter<double> const a(5, 3, 7, 6);
  auto const gradients = [&](auto& x, auto& dx) {
    auto ddown = p.up(matrix_x<double>::Zero(5, 3)), dup = p.up(matrix_x<double>::Zero(3, 7));
    stiefelx::lora_backward(p.ctx, p.up(a.down), p.up(a.up), scaling, x,
                            p.up(matrix_x<double>(a.down.transpose() * a.x)), p.up(a.dy), ddown,
                            dup, 0.5, dx);
    return std::pair<matrix_x<double>, matrix_x<double>>(p.down(ddown), p.down(dx));
  };
  auto x = p.up(a.x), dx = p.up(a.x), both = p.up(a.x);
  auto const apart = gradients(x, dx);
  BOOST_TEST((gradients(both, both) == apart));
  BOOST_TEST((apart.second != a.x));
}

BOOST_AUTO_TEST_CASE(row_major_and_strided_matrices_are_taken) {
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using inner_stride = Eigen::Map<matrix_x<float>, Eigen::Unaligned, Eigen::Stride<50, 2>>;
  adapter<float> const a(5, 3, 7, 6);
  auto const expected = run<test_case<host_backend, float>>(a, 0, 0, 0);
  stiefelx::host::context ctx;
  row_major down = a.down, up = a.up, ddown = row_major::Zero(5, 3), dup = row_major::Zero(3, 7);
  matrix_x<float> memory = matrix_x<float>::Zero(50, 24);
  auto const strided = [&](index_t rows, index_t cols, index_t first) {
    return inner_stride(memory.data() + 50 * first, rows, cols);
  };
  auto x = strided(5, 6, 0), y = strided(7, 6, 6), h = strided(3, 6, 12), dx = strided(5, 6, 18);
  x = a.x;
  stiefelx::lora_forward(ctx, down, up, scaling, x, y, h);
  stiefelx::lora_backward(ctx, down, up, scaling, x, h, 2 * a.dy - a.dy, ddown, dup, 0, dx);
  double const bound = tolerance<float>(7);
  BOOST_TEST(near(y, expected.y, bound));
  BOOST_TEST(near(h, expected.h, bound));
  BOOST_TEST(near(ddown, expected.ddown, bound));
  BOOST_TEST(near(dup, expected.dup, bound));
  BOOST_TEST(near(dx, expected.dx, bound));
}

BOOST_AUTO_TEST_CASE(a_stored_weight_and_its_first_adapter_are_the_original_up_to_one_rounding) {
  using stiefelx::bfloat16, stiefelx::float16;
  stiefelx::host::context ctx;
  index_t const d_out = 12, d_in = 8, count = 6;
  // removed is what leaves W, in parts of s B A; unit half the spacing of stored numbers at 1.
  auto const check = [&](auto stored, double unit, double removed, auto const& first_values) {
    matrix_x<decltype(stored)> w(d_out, d_in), rounded(d_out, d_in);
    copy(ctx, random_matrix<double>(d_out, d_in, 1), w);
    matrix_x<float> wide = w.template cast<float>(), down(d_in, count), up(count, d_out),
                    other_down = down, other_up = up;
    matrix_x<double> const original = w.template cast<double>();
    first_values(w, down, up);
    first_values(wide, other_down, other_up);
    copy(ctx, wide, rounded);
    BOOST_TEST((down == other_down && up == other_up));
    BOOST_TEST((w.template cast<float>() == rounded.template cast<float>()));
    matrix_x<double> const update = removed * scaling * up.cast<double>().transpose() *
                                    down.cast<double>().transpose(),
                           rest = original - update, found = w.template cast<double>();
    double const bound = unit * rest.norm() + tolerance<float>(d_out) * original.norm();
    BOOST_TEST((found - rest).norm() <= bound);
    BOOST_TEST(update.norm() > bound);
  };
  double const of_bfloat16 = std::ldexp(1.0, -8), of_float16 = std::ldexp(1.0, -11);
  BOOST_TEST_CONTEXT("PiSSA")
  check(bfloat16{}, of_bfloat16, 1, [&](auto& w, auto& down, auto& up) {
    stiefelx::random_stream stream{1, 0};
    stiefelx::pissa_lora(ctx, stream, scaling, w, down, up);
  });
  BOOST_TEST_CONTEXT("OLoRA")
  check(float16{}, of_float16, 1,
        [&](auto& w, auto& down, auto& up) { stiefelx::olora(ctx, scaling, w, down, up); });
  BOOST_TEST_CONTEXT("GOAT")
  check(bfloat16{}, of_bfloat16, 1.0 / 3, [&](auto& w, auto& down, auto& up) {
    stiefelx::random_stream stream{1, 0};
    stiefelx::goat_lora(ctx, stream, 3, scaling, w, down, up);
  });
}

BOOST_AUTO_TEST_SUITE_END()
