// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The k x k algebra of mixtures alone: coefficients against explicit vectors in long double, the
// adjoint against central differences, and what zero and dependent experts do. The outputs are the
// columns of a small matrix.

#include <cmath>
#include <cstring>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/team/mixing.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::dependent_experts;
using stiefelx::mixing;
using stiefelx::mixing_algebra;
using matrix = matrix_x<double>;

mixing const all_kinds[] = {
    mixing::none,      mixing::orthogonal, mixing::orthonormal, mixing::norm_preserving,
    mixing::symmetric, mixing::partial,    mixing::anchored};
dependent_experts const policies[] = {dependent_experts::keep, dependent_experts::drop,
                                      dependent_experts::ridge};

/// A mixture of a kind with a guard that random vectors stay clear of.
mixing_algebra algebra(mixing kind, dependent_experts policy = dependent_experts::keep,
                       double guard = 1e-6) {
  return {kind, guard, policy, 0.1, 0.7};
}

/// Coefficients, and the gradients of c and of the outputs for a given gradient of the sum.
struct mixed {
  matrix a, y, dc, w, de;
  int status = 0;
};

mixed mix(mixing_algebra const& m, matrix const& e, matrix const& c, matrix const& dy) {
  index_t const k = e.cols();
  std::vector<double> scratch(static_cast<std::size_t>(mixing_algebra::scratch_size(k)));
  auto const state = mixing_algebra::place(k, scratch.data());
  matrix const g = loop_product(loop_adjoint(e), e), u = loop_product(loop_adjoint(e), dy);
  mixed r{c, {}, c, matrix::Zero(k, k), {}};
  if (m.kind == mixing::none) {
    r.dc = u;
  } else {
    m.factor(k, g.data(), state);
    r.status = m.status_of(nullptr, state);
    m.coefficients(k, c.data(), state, r.a.data());
    m.pull_back(k, u.data(), state, r.dc.data());
    for (index_t j = 0; j < k; ++j)
      for (index_t i = 0; i < k; ++i) r.w(i, j) = state.w(i, j);
  }
  r.y = loop_product(e, r.a);
  r.de = loop_product(dy, loop_adjoint(r.a)) + loop_product(e, r.w);
  return r;
}

matrix coefficients(mixing_algebra const& m, matrix const& e, matrix const& c) {
  return mix(m, e, c, matrix::Zero(e.rows(), 1)).a;
}

/// Whether both gradients agree with central differences.
void expect_gradients(mixing_algebra const& m, matrix const& e, matrix const& c, int first = 5) {
  matrix const wave = random_matrix<double>(e.rows(), 1, 77);
  auto const loss_of = [&](matrix const& outputs, matrix const& weights) {
    return wave_loss(wave, loop_product(outputs, coefficients(m, outputs, weights)));
  };
  matrix const dy = wave_gradient(wave, mix(m, e, c, wave).y);
  mixed const r = mix(m, e, c, dy);
  BOOST_TEST_CONTEXT("kind " << static_cast<int>(m.kind) << ", policy "
                             << static_cast<int>(m.policy) << ", k = " << e.cols()) {
    BOOST_TEST(is_gradient([&](matrix const& x) { return loss_of(x, c); }, e, r.de, 5, first));
    // The sum is linear in c, so the loss bends little and longer steps are needed.
    BOOST_TEST(is_gradient([&](matrix const& x) { return loss_of(e, x); }, c, r.dc, 6, first - 3));
    BOOST_TEST(same(r.w, loop_adjoint(r.w)));
  }
}

/// The vectors that a triangular kind adds up, by Gram-Schmidt on the outputs in long double.
matrix vectors_of(mixing_algebra const& m, matrix const& e) {
  using T = long double;
  matrix_x<T> const from = loop_cast<T>(e);
  matrix_x<T> v = from, out = from;
  auto const dot = [&](auto const& a, index_t i, auto const& b, index_t j) {
    T sum = 0;
    for (index_t row = 0; row < e.rows(); ++row) sum += a(row, i) * b(row, j);
    return sum;
  };
  for (index_t i = 0; i < e.cols(); ++i) {
    for (int sweep = 0; sweep < 2; ++sweep)
      for (index_t j = 0; j < (m.kind == mixing::anchored ? std::min<index_t>(i, 1) : i); ++j) {
        T const share = dot(v, i, v, j) / dot(v, j, v, j);
        for (index_t row = 0; row < e.rows(); ++row) v(row, i) -= share * v(row, j);
      }
    T const rest = std::sqrt(dot(v, i, v, i)), whole = std::sqrt(dot(from, i, from, i));
    T const part = m.kind == mixing::partial ? T(m.part) : T(1);
    T const size = m.kind == mixing::orthonormal       ? 1 / rest
                   : m.kind == mixing::norm_preserving ? whole / rest
                                                       : T(1);
    for (index_t row = 0; row < e.rows(); ++row)
      out(row, i) = size * ((1 - part) * from(row, i) + part * v(row, i));
  }
  return loop_cast<double>(out);
}

matrix outputs(index_t k, std::uint64_t seed) { return random_matrix<double>(9, k, seed); }
matrix weights(index_t k) { return random_matrix<double>(k, 1, 99).cwiseAbs(); }

/// The matrix S of a = S c.
matrix map_of(mixing_algebra const& m, matrix const& e) {
  matrix s(e.cols(), e.cols());
  for (index_t j = 0; j < e.cols(); ++j)
    s.col(j) = coefficients(m, e, matrix(matrix::Identity(e.cols(), e.cols()).col(j)));
  return s;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(mixing_coefficients)

BOOST_AUTO_TEST_CASE(coefficients_are_those_of_explicit_vectors) {
  for (mixing kind : all_kinds) {
    if (kind == mixing::none || kind == mixing::symmetric) continue;
    for (index_t k = 1; k <= 6; ++k) {
      matrix const e = outputs(k, static_cast<std::uint64_t>(k)), c = weights(k);
      matrix const expected = loop_product(vectors_of(algebra(kind), e), c);
      BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind) << ", k = " << k)
      BOOST_TEST(near(loop_product(e, coefficients(algebra(kind), e, c)), expected,
                      tolerance<double>(9, 100)));
    }
  }
}

BOOST_AUTO_TEST_CASE(symmetric_coefficients_are_the_inverse_root_of_the_gram_matrix) {
  for (index_t k = 1; k <= 6; ++k) {
    matrix e = outputs(k, static_cast<std::uint64_t>(k));
    // Sizes from 1 to 1e-3.
    for (index_t j = 0; j < k; ++j) e.col(j) *= std::pow(10.0, -0.6 * static_cast<double>(j));
    matrix const g = loop_product(loop_adjoint(e), e), s = map_of(algebra(mixing::symmetric), e);
    BOOST_TEST(near(loop_product(loop_product(s, g), s), matrix(matrix::Identity(k, k)),
                    tolerance<double>(9, 1e4)));
    BOOST_TEST(near(s, loop_adjoint(s), tolerance<double>(k)));
    for (std::uint64_t seed = 1; seed < 9; ++seed) {
      matrix const x = random_matrix<double>(k, 1, seed);
      BOOST_TEST(loop_product(loop_adjoint(x), loop_product(s, x))(0, 0) > 0);
    }
  }
}

BOOST_AUTO_TEST_CASE(adjoints_agree_with_central_differences) {
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      for (index_t k : {1, 2, 3, 5})
        expect_gradients(algebra(kind, policy), outputs(k, 3), weights(k));
}

BOOST_AUTO_TEST_CASE(adjoints_of_guarded_experts_agree_with_central_differences) {
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      for (index_t k : {2, 3, 5}) {
        // Experts 1 and 3 keep a fifth of their size, which is far below this guard.
        matrix e = outputs(k, 4);
        e.col(1) = e.col(0) + 0.2 * e.col(1);
        if (k > 3) e.col(3) = 2 * e.col(2) + 0.2 * e.col(3);
        mixing_algebra const m = algebra(kind, policy, 0.4);
        if (kind != mixing::none && policy != dependent_experts::ridge)
          BOOST_TEST(mix(m, e, weights(k), e.col(0)).status == stiefelx::rank_deficient);
        expect_gradients(m, e, weights(k), 7);
      }
}

BOOST_AUTO_TEST_CASE(a_ridge_is_smooth_at_equal_opposite_and_zero_experts) {
  for (mixing kind : all_kinds)
    for (double factor : {1.0, -1.0}) {
      matrix e = outputs(4, 5);
      e.col(2) = factor * e.col(0);
      expect_gradients(algebra(kind, dependent_experts::ridge), e, weights(4), 6);
    }
}

BOOST_AUTO_TEST_CASE(a_ridge_is_the_algebra_of_a_gram_matrix_with_a_larger_diagonal) {
  for (mixing kind : all_kinds) {
    // Outputs with that Gram matrix: four rows more, one an expert.
    matrix const e = outputs(4, 6);
    matrix longer = matrix::Zero(13, 4);
    longer.topRows(9) = e;
    for (index_t j = 0; j < 4; ++j) longer(9 + j, j) = std::sqrt(0.1) * e.col(j).norm();
    BOOST_TEST(near(coefficients(algebra(kind, dependent_experts::ridge), e, weights(4)),
                    coefficients(algebra(kind), longer, weights(4)), tolerance<double>(13, 100)));
  }
}

BOOST_AUTO_TEST_CASE(partial_goes_from_plain_to_orthogonal_exactly) {
  for (dependent_experts policy : policies)
    for (index_t k : {1, 2, 5}) {
      matrix const e = outputs(k, 7), dy = random_matrix<double>(9, 1, 8), c = weights(k);
      mixing_algebra m = algebra(mixing::partial, policy);
      for (double part : {0.0, 1.0}) {
        m.part = part;
        mixed const found = mix(m, e, c, dy);
        mixed const expected =
            mix(algebra(part == 0 ? mixing::none : mixing::orthogonal, policy), e, c, dy);
        BOOST_TEST(same(found.a, expected.a));
        BOOST_TEST(same(found.dc, expected.dc));
        BOOST_TEST(same(found.w, expected.w));
      }
    }
}

BOOST_AUTO_TEST_CASE(norms_are_preserved) {
  matrix const e = outputs(5, 9);
  matrix const s = map_of(algebra(mixing::norm_preserving), e);
  for (index_t i = 0; i < 5; ++i) {
    // Column i of S has the coefficients of the i-th vector.
    matrix const v = loop_product(e, matrix(s.col(i)));
    BOOST_TEST(near(matrix::Constant(1, 1, v.norm()), matrix::Constant(1, 1, e.col(i).norm()),
                    tolerance<double>(9, 100)));
  }
}

BOOST_AUTO_TEST_CASE(symmetric_mixing_does_not_depend_on_the_order) {
  Eigen::PermutationMatrix<Eigen::Dynamic> turn(5);
  turn.indices() << 3, 0, 4, 2, 1;
  matrix const c = weights(5), dy = random_matrix<double>(9, 1, 8);
  for (dependent_experts policy : policies)
    for (int form = 0; form < 4; ++form) {
      matrix e = outputs(5, 10);
      if (form == 1) e.col(1).setZero();
      if (form == 2) e.col(1) = e.col(3);
      if (form == 3) e.col(4) *= 1e-8;
      // A coefficient grows as one over the guard, and the squares behind it twice as fast.
      mixing_algebra const m = algebra(mixing::symmetric, policy, 1e-3);
      mixed const r = mix(m, e, c, dy), moved = mix(m, e * turn, turn.transpose() * c, dy);
      BOOST_TEST_CONTEXT("policy " << static_cast<int>(policy) << ", form " << form) {
        BOOST_TEST(near(moved.y, r.y, tolerance<double>(9, 1e3)));
        BOOST_TEST(near(moved.de, matrix(r.de * turn), tolerance<double>(9, 1e6)));
      }
    }
  // Gram-Schmidt does depend on it.
  mixing_algebra const other = algebra(mixing::orthonormal);
  matrix const e = outputs(5, 10);
  matrix const here = mix(other, e, c, dy).y;
  matrix const there = mix(other, e * turn, turn.transpose() * c, dy).y;
  BOOST_TEST((here - there).norm() > 1e-2);
}

// --- zero and dependent experts ------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(zero_outputs_give_the_plain_mixture_to_the_bit) {
  matrix const e = matrix::Zero(9, 4), c = weights(4), dy = random_matrix<double>(9, 1, 8);
  for (mixing kind : all_kinds)
    for (dependent_experts policy : {dependent_experts::keep, dependent_experts::ridge}) {
      mixed const r = mix(algebra(kind, policy), e, c, dy);
      BOOST_TEST(same(r.a, c));
      BOOST_TEST(r.w.norm() == 0);
      BOOST_TEST(r.dc.norm() == 0);
      BOOST_TEST(r.status == (kind == mixing::none ? 0 : stiefelx::rank_deficient));
    }
}

BOOST_AUTO_TEST_CASE(a_kept_zero_expert_still_gets_a_gradient_and_changes_nothing) {
  matrix e = outputs(4, 11);
  e.col(1).setZero();
  matrix rest(9, 3), c = weights(4), few(3, 1);
  rest << e.col(0), e.col(2), e.col(3);
  few << c(0), c(2), c(3);
  matrix const dy = random_matrix<double>(9, 1, 8);
  for (mixing kind : all_kinds) {
    mixed const r = mix(algebra(kind), e, c, dy), without = mix(algebra(kind), rest, few, dy);
    BOOST_TEST(near(r.y, without.y, tolerance<double>(9)));
    BOOST_TEST(near(matrix(r.de.col(3)), matrix(without.de.col(2)), tolerance<double>(9, 100)));
    BOOST_TEST(r.a(1) == c(1));
    BOOST_TEST(r.de.col(1).norm() > 1e-3 * dy.norm());
  }
}

BOOST_AUTO_TEST_CASE(an_anchor_is_the_first_output_that_is_not_zero_forward_and_backward) {
  // Slots 0 and 2 are empty: zero output, weight 0.
  matrix const rest = outputs(3, 17), few = weights(3), dy = random_matrix<double>(9, 1, 8);
  index_t const place[] = {1, 3, 4};
  auto const spread = [&](matrix const& m, bool as_rows) {
    matrix wide = matrix::Zero(as_rows ? 5 : m.rows(), as_rows ? m.cols() : 5);
    for (index_t i = 0; i < 3; ++i)
      if (as_rows)
        wide.row(place[i]) = m.row(i);
      else
        wide.col(place[i]) = m.col(i);
    return wide;
  };
  for (dependent_experts policy : policies) {
    mixing_algebra const m = algebra(mixing::anchored, policy);
    matrix const e = spread(rest, false), c = spread(few, true);
    mixed const r = mix(m, e, c, dy), expected = mix(m, rest, few, dy);
    BOOST_TEST(near(r.a, spread(expected.a, true), tolerance<double>(9, 100)));
    for (index_t i = 0; i < 3; ++i) {
      BOOST_TEST(std::abs(r.dc(place[i]) - expected.dc(i)) <= tolerance<double>(9, 100));
      BOOST_TEST(near(matrix(r.de.col(place[i])), matrix(expected.de.col(i)),
                      tolerance<double>(9, 100), 1 + dy.norm()));
    }
    matrix const wave = random_matrix<double>(9, 1, 77);
    matrix const slope = wave_gradient(wave, mix(m, e, c, wave).y);
    mixed const back = mix(m, e, c, slope);
    matrix de(9, 3);
    for (index_t i = 0; i < 3; ++i) de.col(i) = back.de.col(place[i]);
    auto const loss = [&](matrix const& x) {
      matrix const wide = spread(x, false);
      return wave_loss(wave, loop_product(wide, coefficients(m, wide, c)));
    };
    BOOST_TEST(is_gradient(loss, rest, de, 5, 5));
  }
}

BOOST_AUTO_TEST_CASE(a_dropped_expert_has_no_part_and_no_gradient) {
  matrix const c = weights(4), dy = random_matrix<double>(9, 1, 8);
  for (mixing kind : all_kinds) {
    if (kind == mixing::none) continue;
    for (bool zero : {true, false}) {
      // For the symmetric form no single one of two equal experts is the dependent one.
      if (!zero && kind == mixing::symmetric) continue;
      matrix e = outputs(4, 12);
      e.col(2) = (zero ? 0 : -1) * e.col(0);
      mixed const r = mix(algebra(kind, dependent_experts::drop), e, c, dy);
      BOOST_TEST_CONTEXT("kind " << static_cast<int>(kind)) {
        BOOST_TEST(r.a(2) == 0);
        BOOST_TEST(r.dc(2) == 0);
        BOOST_TEST(r.de.col(2).norm() == 0);
        BOOST_TEST(r.a(1) != 0);
        BOOST_TEST(r.status == stiefelx::rank_deficient);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(dropping_from_the_symmetric_form_is_the_pseudoinverse_root) {
  matrix e = outputs(4, 13);
  e.col(2) = e.col(0);
  matrix const s = map_of(algebra(mixing::symmetric, dependent_experts::drop), e);
  matrix const g = loop_product(loop_adjoint(e), e);
  // S G S is the projector on the range of G.
  matrix const p = loop_product(loop_product(s, g), s);
  BOOST_TEST(near(loop_product(p, p), p, tolerance<double>(9, 100)));
  BOOST_TEST(near(loop_product(p, g), g, tolerance<double>(9, 100)));
  BOOST_TEST(std::abs(p.trace() - 3) < 1e-9);
}

BOOST_AUTO_TEST_CASE(equal_and_opposite_experts_are_finite_in_every_kind_and_policy) {
  matrix const c = weights(5), dy = random_matrix<double>(9, 1, 8);
  for (mixing kind : all_kinds)
    for (dependent_experts policy : policies)
      for (double factor : {1.0, -1.0, 1e-30, 1e30}) {
        matrix e = outputs(5, 14);
        e.col(1) = factor * e.col(0);
        e.col(4) = e.col(3);
        mixed const r = mix(algebra(kind, policy), e, c, dy);
        BOOST_TEST(r.y.allFinite());
        BOOST_TEST(r.de.allFinite());
        BOOST_TEST(r.dc.allFinite());
        // The vectors added up are at most 1/lambda or the guard's share longer than the outputs.
        bool const sized = kind != mixing::orthonormal && kind != mixing::symmetric;
        if (sized) BOOST_TEST(r.y.norm() <= 10 * c.norm() * e.norm());
      }
}

BOOST_AUTO_TEST_CASE(a_status_tells_of_guarded_experts_and_of_numbers_that_are_not_finite) {
  matrix const c = weights(3), dy = random_matrix<double>(9, 1, 8);
  for (mixing kind : all_kinds) {
    if (kind == mixing::none) continue;
    matrix e = outputs(3, 15);
    BOOST_TEST(mix(algebra(kind), e, c, dy).status == 0);
    e.col(2) = e.col(0);
    BOOST_TEST(mix(algebra(kind), e, c, dy).status == stiefelx::rank_deficient);
    e(3, 1) = std::nan("");
    BOOST_TEST((mix(algebra(kind), e, c, dy).status & stiefelx::not_finite) != 0);
  }
}

BOOST_AUTO_TEST_SUITE_END()
