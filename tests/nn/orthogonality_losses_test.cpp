// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Penalties on overlap: between the outputs of experts, the columns of a router, and factors of two
// tasks.

#include <cmath>
#include <string>

#include <boost/test/unit_test.hpp>

#include <nn/scored_routing.hpp>
#include <stiefelx/nn/expert_orthogonality.hpp>
#include <stiefelx/nn/router_orthogonality.hpp>
#include <support/gradient_check.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using number = long double;
using stiefelx::orthogonality_form;
using stiefelx::router_orthogonality_options;

/// Outputs of the experts that tokens listed.
struct listed_outputs {
  matrix_x<double> e;  ///< d x (k T)
  matrix_x<int> ids;   ///< k x T
  matrix_x<double> w;  ///< 1 x T
};

listed_outputs random_outputs(index_t d, index_t k, index_t tokens, std::uint64_t seed) {
  listed_outputs o{random_matrix<double>(d, k * tokens, seed), matrix_x<int>::Zero(k, tokens),
                   random_weights(tokens, seed + 1)};
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < k; ++i) o.ids(i, t) = static_cast<int>((3 * t + i) % (k + 2));
  return o;
}

/// Squared lengths of projections, summed over pairs, by the vectors themselves.
number overlap_by_loops(listed_outputs const& o, number epsilon) {
  index_t const k = o.ids.rows();
  number sum = 0, weight = 0;
  for (index_t t = 0; t < o.ids.cols(); ++t) {
    weight += o.w(0, t);
    for (index_t i = 0; i < k; ++i)
      for (index_t j = 0; j < k; ++j) {
        if (i == j || o.ids(i, t) < 0 || o.ids(j, t) < 0 || o.w(0, t) == 0) continue;
        number s = 0, n = 0, square = 0;
        for (index_t row = 0; row < o.e.rows(); ++row) {
          s += number(o.e(row, t * k + i)) * o.e(row, t * k + j);
          n += number(o.e(row, t * k + j)) * o.e(row, t * k + j);
        }
        for (index_t row = 0; row < o.e.rows() && n + epsilon > 0; ++row) {
          number const along = s / (n + epsilon) * o.e(row, t * k + j);
          square += along * along;
        }
        sum += o.w(0, t) * square;
      }
  }
  return weight > 0 ? sum / weight : 0;
}

template <class Case>
loss_and_gradient overlap(listed_outputs const& o, double epsilon) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const e = o.e.template cast<S>();
  return run_loss(p, e.rows(), e.cols(), [&](auto& ctx, auto& loss, auto& de) {
    stiefelx::expert_orthogonality_loss(ctx, 1, p.up(e), p.up(o.ids), p.up(o.w), loss, de, epsilon);
  });
}

/// Gram matrices of the tokens, k^2 x T.
matrix_x<double> grams_of(listed_outputs const& o) {
  index_t const k = o.ids.rows();
  matrix_x<double> g(k * k, o.ids.cols());
  for (index_t t = 0; t < o.ids.cols(); ++t)
    for (index_t i = 0; i < k; ++i)
      for (index_t j = 0; j < k; ++j) g(i + j * k, t) = o.e.col(t * k + i).dot(o.e.col(t * k + j));
  return g;
}

template <class Case>
loss_and_gradient gram_overlap(listed_outputs const& o, double epsilon) {
  place<Case> p;
  return run_loss(p, o.ids.rows() * o.ids.rows(), o.ids.cols(),
                  [&](auto& ctx, auto& loss, auto& change) {
                    stiefelx::gram_orthogonality_loss(ctx, 1, p.up(grams_of(o)), p.up(o.ids),
                                                      p.up(o.w), loss, change, epsilon);
                  });
}

template <class Case>
loss_and_gradient router_loss(matrix_x<double> const& router,
                              router_orthogonality_options options) {
  using S = typename Case::scalar;
  place<Case> p;
  matrix_x<S> const r = router.cast<S>();
  return run_loss(p, r.rows(), r.cols(), [&](auto& ctx, auto& loss, auto& dr) {
    stiefelx::router_orthogonality_loss(ctx, 0.5, p.up(r), loss, dr, options);
  });
}

number router_by_loops(matrix_x<double> const& r, router_orthogonality_options options) {
  number sum = 0;
  for (index_t i = 0; i < r.cols(); ++i)
    for (index_t j = 0; j < r.cols(); ++j) {
      number s = 0, a = 0, b = 0;
      for (index_t row = 0; row < r.rows(); ++row) {
        s += number(r(row, i)) * r(row, j);
        a += number(r(row, i)) * r(row, i);
        b += number(r(row, j)) * r(row, j);
      }
      if (options.normalize) s = i == j ? 1 : (a > 0 && b > 0 ? s / std::sqrt(a * b) : 0);
      number const d = s - (i == j ? 1 : 0);
      sum += options.form == orthogonality_form::frobenius ? d * d : std::abs(d);
    }
  return sum / 2;
}

template <class Case>
loss_and_gradient cross_loss(matrix_x<double> const& a, matrix_x<double> const& b,
                             orthogonality_form form) {
  place<Case> p;
  return run_loss(p, b.rows(), b.cols(), [&](auto& ctx, auto& loss, auto& db) {
    stiefelx::cross_orthogonality_loss(ctx, 0.5, p.up(a), p.up(b), loss, db, form);
  });
}

orthogonality_form const forms[] = {orthogonality_form::frobenius, orthogonality_form::entrywise};

}  // namespace

BOOST_AUTO_TEST_SUITE(orthogonality_losses)

// --- experts -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(overlap_is_its_formula_with_its_gradient, Case, double_cases) {
  for (double epsilon : {0.0, 1e-6, 0.5})
    for (index_t k : {1, 2, 4}) {
      auto o = random_outputs(11, k, 7, 1);
      if (k > 1) o.ids(k - 1, 2) = -1;
      auto const found = overlap<Case>(o, epsilon);
      auto const value = [&](matrix_x<double> const& e) {
        return static_cast<double>(overlap_by_loops({e, o.ids, o.w}, epsilon));
      };
      BOOST_TEST(std::abs(found.loss - value(o.e)) <= tolerance<double>(11 * k) * value(o.e));
      if (k > 1)
        BOOST_TEST(is_gradient(value, o.e, found.gradient, 3));
      else
        BOOST_TEST(same(found.gradient, matrix_x<double>::Zero(11, 7)));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_gram_matrix_gives_the_same_loss_and_gradient, Case,
                              double_cases) {
  for (index_t k : {2, 3}) {
    auto o = random_outputs(9, k, 300, 5);
    o.ids(0, 4) = -1;
    o.w(0, 6) = 0;
    auto const direct = overlap<Case>(o, 0.1), found = gram_overlap<Case>(o, 0.1);
    BOOST_TEST(std::abs(found.loss - direct.loss) <= tolerance<double>(9) * direct.loss);
    matrix_x<double> de(9, k * 300);
    for (index_t t = 0; t < 300; ++t) {
      matrix_x<double> w(k, k);
      for (index_t i = 0; i < k * k; ++i) w(i % k, i / k) = found.gradient(i, t);
      BOOST_TEST(near(w, loop_adjoint(w), tolerance<double>(9), 1));
      de.middleCols(t * k, k) = loop_product<double>(o.e.middleCols(t * k, k), w);
    }
    BOOST_TEST(near(de, direct.gradient, tolerance<double>(9 * 300)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(closed_forms_of_overlap, Case, mixed_cases) {
  using S = typename Case::scalar;
  // Orthogonal outputs do not overlap; k equal ones of length 2 do k (k - 1) times 4.
  listed_outputs o{orthonormal_frame<double>(8, 6, 1), matrix_x<int>::Zero(3, 2),
                   matrix_x<double>::Ones(1, 2)};
  BOOST_TEST(std::abs(overlap<Case>(o, 0).loss) <= tolerance<S>(8));
  for (index_t i = 0; i < 6; ++i) o.e.col(i) = 2 * orthonormal_frame<double>(8, 1, 2);
  double const equal = overlap<Case>(o, 0).loss;
  BOOST_TEST(std::abs(equal - 24) <= tolerance<S>(8) * 24);
  // Of degree two in the size of all outputs, without epsilon.
  o.e = random_matrix<double>(8, 6, 3);
  auto const found = overlap<Case>(o, 0);
  o.e *= 3;
  auto const larger = overlap<Case>(o, 0);
  BOOST_TEST(std::abs(larger.loss - 9 * found.loss) <= tolerance<S>(8, 10) * found.loss);
  BOOST_TEST(near(larger.gradient, 3 * found.gradient, tolerance<S>(8, 10)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(empty_slots_padding_and_zero_outputs_count_nothing, Case,
                              double_cases) {
  auto o = random_outputs(7, 3, 5, 7);
  auto const found = overlap<Case>(o, 1e-3);
  // The slots of a token in another order.
  auto turned = o;
  turned.e.col(6).swap(turned.e.col(8));
  auto const other = overlap<Case>(turned, 1e-3);
  BOOST_TEST(std::abs(found.loss - other.loss) <= tolerance<double>(7) * found.loss);
  BOOST_TEST(near(other.gradient.col(6), found.gradient.col(8), tolerance<double>(7)));

  for (double epsilon : {0.0, 1e-3}) {
    auto empty = o, zero = o;
    empty.ids(1, 2) = -1;
    empty.e.col(7).setConstant(std::nan(""));
    zero.e.col(7).setZero();
    auto const a = overlap<Case>(empty, epsilon), b = overlap<Case>(zero, epsilon);
    BOOST_TEST(std::abs(a.loss - b.loss) <= tolerance<double>(7) * a.loss);
    BOOST_TEST(near(a.gradient, b.gradient, tolerance<double>(7)));
    BOOST_TEST(same(a.gradient.col(7), matrix_x<double>::Zero(7, 1)));
    empty.w(0, 3) = 0;
    empty.e.middleCols(9, 3).setConstant(std::nan(""));
    auto const padded = overlap<Case>(empty, epsilon);
    BOOST_TEST(std::abs(padded.loss - static_cast<double>(overlap_by_loops(empty, epsilon))) <=
               tolerance<double>(7) * padded.loss);
    BOOST_TEST(same(padded.gradient.middleCols(9, 3), matrix_x<double>::Zero(7, 3)));
    auto const in_grams = gram_overlap<Case>(empty, epsilon);
    BOOST_TEST(std::abs(in_grams.loss - padded.loss) <= tolerance<double>(7) * padded.loss);
  }
  o.w.setZero();
  BOOST_TEST(overlap<Case>(o, 0).loss == 0);
  listed_outputs const none{matrix_x<double>(7, 0), matrix_x<int>(3, 0), matrix_x<double>(1, 0)};
  BOOST_TEST(overlap<Case>(none, 0).loss == 0);
  BOOST_TEST(gram_overlap<Case>(none, 0).loss == 0);
}

// --- router --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(router_loss_is_its_formula_with_its_gradient, Case, double_cases) {
  for (orthogonality_form form : forms)
    for (bool normalize : {false, true})
      for (index_t experts : {1, 4, 9}) {
        router_orthogonality_options const options{form, normalize};
        matrix_x<double> const r = random_matrix<double>(7, experts, 11);
        auto const value = [&](matrix_x<double> const& moved) {
          return static_cast<double>(router_by_loops(moved, options));
        };
        auto const found = router_loss<Case>(r, options);
        BOOST_TEST(std::abs(found.loss - value(r)) <=
                   tolerance<double>(7 * experts) * std::abs(value(r)));
        // Between its kinks the entrywise loss is a quadratic, whose differences have rounding alone.
        matrix_x<double> const direction = random_matrix<double>(7, experts, 12);
        double const along = found.gradient.cwiseProduct(direction).sum(), h = 0x1p-20;
        double const difference = (value(r + h * direction) - value(r - h * direction)) / (2 * h);
        BOOST_TEST(std::abs(difference - along) <= tolerance<double>(7 * experts) * value(r) / h);
        if (form == orthogonality_form::frobenius && !(normalize && experts == 1))
          BOOST_TEST(is_gradient(value, r, found.gradient, 13, 6));
      }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(closed_forms_of_router_losses, Case, mixed_cases) {
  using S = typename Case::scalar;
  matrix_x<double> const frame = orthonormal_frame<double>(8, 3, 14);
  matrix_x<double> const twice = 2 * frame;
  for (orthogonality_form form : forms)
    for (bool normalize : {false, true}) {
      BOOST_TEST(std::abs(router_loss<Case>(frame, {form, normalize}).loss) <= tolerance<S>(8));
      // R^T R - I = 3 I.
      double const expected = normalize ? 0 : (form == orthogonality_form::frobenius ? 13.5 : 4.5);
      BOOST_TEST(std::abs(router_loss<Case>(twice, {form, normalize}).loss - expected) <=
                 tolerance<S>(8, 27));
    }
  matrix_x<double> const r = random_matrix<double>(8, 3, 15);
  matrix_x<double> graded = r;
  graded.col(1) *= 5;
  for (orthogonality_form form : forms) {
    // Lengths of columns do not matter, so a gradient has no part along its column.
    auto const found = router_loss<Case>(r, {form, true});
    auto const scaled = router_loss<Case>(graded, {form, true});
    BOOST_TEST(std::abs(found.loss - scaled.loss) <= tolerance<S>(8, 10) * found.loss);
    BOOST_TEST(near(5 * scaled.gradient.col(1), found.gradient.col(1), tolerance<S>(8, 50)));
    BOOST_TEST(std::abs(found.gradient.col(1).dot(r.col(1))) <= tolerance<S>(8, 10));
    // A column of zeros has no direction.
    matrix_x<double> zero = r;
    zero.col(2).setZero();
    auto const without = router_loss<Case>(zero, {form, true});
    auto const fewer = router_loss<Case>(r.leftCols(2), {form, true});
    BOOST_TEST(std::abs(without.loss - fewer.loss) <= tolerance<S>(8) * fewer.loss);
    BOOST_TEST(same(without.gradient.col(2), matrix_x<double>::Zero(8, 1)));
    BOOST_TEST(router_loss<Case>(matrix_x<double>(8, 0), {form, true}).loss == 0);
  }
  // Sign 0 at 0: exactly orthonormal columns have no gradient at all.
  auto const kink =
      router_loss<Case>(matrix_x<double>::Identity(8, 3), {orthogonality_form::entrywise, false});
  BOOST_TEST(same(kink.gradient, matrix_x<double>::Zero(8, 3)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(new_factors_are_kept_off_frozen_ones, Case, double_cases) {
  matrix_x<double> const a = random_matrix<double>(9, 4, 16), b = random_matrix<double>(9, 3, 17);
  matrix_x<double> const c = loop_product(loop_adjoint(a), b);
  matrix_x<double> signs = c;
  for (index_t i = 0; i < c.size(); ++i) signs(i % 4, i / 4) = c(i % 4, i / 4) > 0 ? 0.5 : -0.5;
  matrix_x<double> const of_squares = loop_product(a, c), of_signs = loop_product(a, signs);
  auto const squares = cross_loss<Case>(a, b, orthogonality_form::frobenius);
  auto const absolute = cross_loss<Case>(a, b, orthogonality_form::entrywise);
  BOOST_TEST(std::abs(squares.loss - 0.5 * c.squaredNorm()) <= tolerance<double>(9, 10));
  BOOST_TEST(near(squares.gradient, of_squares, tolerance<double>(9)));
  BOOST_TEST(std::abs(absolute.loss - 0.5 * c.cwiseAbs().sum()) <= tolerance<double>(9, 10));
  BOOST_TEST(near(absolute.gradient, of_signs, tolerance<double>(9)));
  BOOST_TEST(cross_loss<Case>(a.leftCols(0), b, orthogonality_form::entrywise).loss == 0);
}

// --- errors --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto a = p.up(random_matrix<double>(4, 12, 1));
  auto ids = p.up(matrix_x<int>::Zero(2, 3));
  auto loss = p.up(matrix_x<double>::Zero(1, 1)), wrong = p.up(matrix_x<double>::Zero(3, 3));
  stiefelx::every_token const all;
  auto const outputs = [&](auto const& e, auto& l, auto&& de, double epsilon) {
    return message_of(
        [&] { stiefelx::expert_orthogonality_loss(p.ctx, 1, e, ids, all, l, de, epsilon); });
  };
  std::string name = "expert_orthogonality_loss: ";
  auto const e = p.up(random_matrix<double>(4, 6, 2));
  auto de = p.up(matrix_x<double>::Zero(4, 6));
  BOOST_TEST(outputs(wrong, loss, de, 0) == name + "e is 3x3, expected 3x6");
  BOOST_TEST(outputs(e, wrong, de, 0) == name + "loss is 3x3, expected 1x1");
  BOOST_TEST(outputs(e, loss, wrong, 0) == name + "de is 3x3, expected 4x6");
  BOOST_TEST(outputs(e, loss, de, -1) ==
             name + "epsilon is -1.000000, expected a number of at least 0");
  BOOST_TEST(outputs(a.middleCols(0, 6), loss, a.middleCols(5, 6), 0) ==
             name + "de overlaps e, expected separate memory");
  auto const grams = [&](auto const& g, auto&& change) {
    return message_of(
        [&] { stiefelx::gram_orthogonality_loss(p.ctx, 1, g, ids, all, loss, change); });
  };
  name = "gram_orthogonality_loss: ";
  BOOST_TEST(grams(wrong, wrong) == name + "token_grams is 3x3, expected 4x3");
  BOOST_TEST(grams(a.middleCols(0, 3), wrong) == name + "change is 3x3, expected 4x3");
  BOOST_TEST(grams(a.middleCols(0, 3), a.middleCols(2, 3)) ==
             name + "change overlaps token_grams, expected separate memory");
  auto const router = [&](auto const& r, auto& l, auto&& dr) {
    return message_of([&] { stiefelx::router_orthogonality_loss(p.ctx, 1, r, l, dr); });
  };
  name = "router_orthogonality_loss: ";
  BOOST_TEST(router(e, wrong, de) == name + "loss is 3x3, expected 1x1");
  BOOST_TEST(router(e, loss, wrong) == name + "drouter is 3x3, expected 4x6");
  BOOST_TEST(router(a.middleCols(0, 6), loss, a.middleCols(5, 6)) ==
             name + "drouter overlaps router, expected separate memory");
  auto const cross = [&](auto const& f, auto const& b, auto&& db) {
    return message_of([&] { stiefelx::cross_orthogonality_loss(p.ctx, 1, f, b, loss, db); });
  };
  name = "cross_orthogonality_loss: ";
  BOOST_TEST(cross(e, wrong, de) == name + "factor is 3x3, expected 4x3");
  BOOST_TEST(cross(e, de, wrong) == name + "dfactor is 3x3, expected 4x6");
  BOOST_TEST(cross(a.middleCols(0, 6), e, a.middleCols(5, 6)) ==
             name + "dfactor overlaps frozen, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
