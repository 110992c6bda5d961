// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What may overlap, what may not, and the texts of refused shapes.

#include <stdexcept>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/residual.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

#include "methods.hpp"

namespace {

using namespace support;
using stiefelx::alias_error;
using stiefelx::no_status;
using stiefelx::option_error;
using stiefelx::shape_error;

auto says(std::string expected) {
  return [expected](std::invalid_argument const& error) {
    if (error.what() == expected) return true;
    BOOST_TEST_MESSAGE("found: " << error.what());
    return false;
  };
}

/// One of each, and the name in its errors.
struct named_method {
  qr_method method;
  std::string name;
};

std::vector<named_method> const named{{qr_method::gram_schmidt, "gram_schmidt"},
                                      {qr_method::householder, "householder_qr"},
                                      {qr_method::cholesky_automatic, "cholesky_qr"}};

}  // namespace

BOOST_AUTO_TEST_SUITE(qr_arguments)

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_shapes_are_refused_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto const a = Case::backend::upload(ctx, random_matrix<double>(5, 3, 1));
  auto const wide = zeros<double>(ctx, 3, 5);
  auto q = zeros<double>(ctx, 5, 3);
  auto r = zeros<double>(ctx, 3, 3);
  for (auto const& [method, name] : named) {
    BOOST_TEST_CONTEXT(name) {
      auto const run = [&, how = method](auto const& in, auto&& out, auto&& upper) {
        factor_into(how, ctx, in, out, upper, no_status{});
      };
      BOOST_CHECK_EXCEPTION(run(wide, q, r), shape_error,
                            says(name + ": a is 3x5, expected at least as many rows as columns"));
      BOOST_CHECK_EXCEPTION(run(a, q.middleRows(0, 4), r), shape_error,
                            says(name + ": q is 4x3, expected 5x3"));
      BOOST_CHECK_EXCEPTION(run(a, q, r.middleCols(0, 2)), shape_error,
                            says(name + ": r is 3x2, expected 3x3"));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(refused_overlaps_are_named_and_change_nothing, Case, double_cases) {
  typename Case::context ctx;
  matrix_x<double> const source = random_matrix<double>(9, 6, 2);
  auto m = Case::backend::upload(ctx, source);
  auto other = zeros<double>(ctx, 5, 3);
  auto r = zeros<double>(ctx, 3, 3);
  for (auto const& [method, name] : named) {
    BOOST_TEST_CONTEXT(name) {
      auto const run = [&, how = method](auto const& in, auto&& out, auto&& upper) {
        factor_into(how, ctx, in, out, upper, no_status{});
      };
      auto const a = m.middleCols(0, 3).middleRows(0, 5);
      BOOST_CHECK_EXCEPTION(
          run(a, m.middleCols(0, 3).middleRows(1, 5), r), alias_error,
          says(name + ": q overlaps a, expected the same matrix or separate memory"));
      BOOST_CHECK_EXCEPTION(
          run(a, m.middleCols(1, 3).middleRows(0, 5), r), alias_error,
          says(name + ": q overlaps a, expected the same matrix or separate memory"));
      BOOST_CHECK_EXCEPTION(run(a, other, m.middleCols(2, 3).middleRows(4, 3)), alias_error,
                            says(name + ": r overlaps a, expected separate memory"));
      BOOST_CHECK_EXCEPTION(run(a, other, other.middleRows(2, 3)), alias_error,
                            says(name + ": r overlaps q, expected separate memory"));
      BOOST_TEST(same(Case::backend::download(ctx, m), source));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(neighbours_in_one_matrix_are_allowed, Case, double_cases) {
  typename Case::context ctx;
  matrix_x<double> const source = random_matrix<double>(9, 9, 2);
  matrix_x<double> const a = source.block(0, 0, 6, 3);
  for (auto const& [method, name] : named) {
    BOOST_TEST_CONTEXT(name) {
      auto m = Case::backend::upload(ctx, source);
      auto const columns = m.middleCols(0, 3).middleRows(0, 6);
      factor_into(method, ctx, columns, m.middleCols(3, 3).middleRows(0, 6),
                  m.middleCols(0, 3).middleRows(6, 3), no_status{});
      matrix_x<double> const after = Case::backend::download(ctx, m);
      BOOST_TEST(same(after.block(0, 0, 6, 3), a));
      BOOST_TEST(near(loop_product<double>(after.block(0, 3, 6, 3), after.block(6, 0, 3, 3)), a,
                      tolerance<double>(6)));
      BOOST_TEST(same(after.rightCols(3), source.rightCols(3)));
      BOOST_TEST(same(after.block(6, 3, 3, 3), source.block(6, 3, 3, 3)));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_status_collects_bits_and_is_never_cleared, Case, double_cases) {
  using backend = typename Case::backend;
  typename Case::context ctx;
  auto const good = backend::upload(ctx, random_matrix<double>(6, 3, 1));
  auto const bad = backend::upload(ctx, matrix_x<double>::Zero(6, 3));
  auto q = zeros<double>(ctx, 6, 3);
  auto r = zeros<double>(ctx, 3, 3);
  auto status = status_matrix<backend>(ctx);
  for (auto const& [method, name] : named) {
    BOOST_TEST_CONTEXT(name) {
      fill(ctx, 0, status);
      raise(ctx, status, stiefelx::not_converged);
      factor_into(method, ctx, bad, q, r, status);
      factor_into(method, ctx, good, q, r, status);
      int const bits = status_value(ctx, status);
      BOOST_TEST((bits & stiefelx::rank_deficient) != 0);
      BOOST_TEST((bits & stiefelx::not_converged) != 0);
      BOOST_TEST((bits & stiefelx::not_finite) == 0);
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(polar_and_inverse_sqrt_refuse_by_name, Case, double_cases) {
  typename Case::context ctx;
  auto m = Case::backend::upload(ctx, random_matrix<double>(6, 6, 2));
  auto q = zeros<double>(ctx, 5, 3);
  auto const tall = m.middleCols(0, 3).middleRows(0, 5);
  BOOST_CHECK_EXCEPTION(stiefelx::polar(ctx, m.middleRows(0, 2), q), shape_error,
                        says("polar: a is 2x6, expected at least as many rows as columns"));
  BOOST_CHECK_EXCEPTION(stiefelx::polar(ctx, tall, q.middleCols(0, 2)), shape_error,
                        says("polar: q is 5x2, expected 5x3"));
  BOOST_CHECK_EXCEPTION(stiefelx::polar(ctx, tall, m.middleCols(1, 3).middleRows(0, 5)),
                        alias_error,
                        says("polar: q overlaps a, expected the same matrix or separate memory"));
  BOOST_CHECK_EXCEPTION(stiefelx::polar(ctx, tall, q, no_status{}, {.iterations = -1}),
                        option_error,
                        says("polar: iterations is -1, expected a number of at least 0"));

  auto z = zeros<double>(ctx, 6, 6);
  BOOST_CHECK_EXCEPTION(stiefelx::inverse_sqrt(ctx, tall, 0, 5, q), shape_error,
                        says("inverse_sqrt: g is 5x3, expected 3x3"));
  BOOST_CHECK_EXCEPTION(stiefelx::inverse_sqrt(ctx, m, 0, 5, q), shape_error,
                        says("inverse_sqrt: z is 5x3, expected 6x6"));
  BOOST_CHECK_EXCEPTION(stiefelx::inverse_sqrt(ctx, m, 0, 5, m), alias_error,
                        says("inverse_sqrt: z overlaps g, expected separate memory"));
  BOOST_CHECK_EXCEPTION(stiefelx::inverse_sqrt(ctx, m, 0, 0, z), option_error,
                        says("inverse_sqrt: iterations is 0, expected a number of at least 1"));
  BOOST_CHECK_EXCEPTION(stiefelx::orthonormality_error(ctx, m, q.middleRows(0, 1)), shape_error,
                        says("orthonormality_error: s is 1x3, expected 1x1"));
}

BOOST_AUTO_TEST_SUITE_END()
