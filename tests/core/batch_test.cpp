// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Element text, team text and status on both backends.

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/context.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/shapes.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::inputs;
using stiefelx::no_status;
using stiefelx::outputs;

struct move_and_record {
  template <class S>
  void operator()(S& x, S& m, S g, S c) const {
    m = m + g;
    x = x - c * m;
  }
};

struct add_one {
  template <class S>
  void operator()(S& x, S before) const {
    x = before + S(1);
  }
};

struct weigh_columns {
  double weight;
  index_t scratch_size() const { return 4; }
  template <class Team, class S>
  void operator()(Team const& team, index_t j, double* work, stiefelx::matrix_ref<S> y,
                  stiefelx::matrix_ref<S const> x, stiefelx::matrix_ref<int> visits) const {
    for (index_t k = team.rank(); k < 4; k += team.size()) work[k] = weight;
    team.barrier();
    for (index_t i = team.rank(); i < y.rows; i += team.size())
      y(i, j) += static_cast<S>(work[3]) * x(i, j);
    if (team.rank() == 0) visits(0, j) += 1;
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(batch)

BOOST_AUTO_TEST_CASE_TEMPLATE(transform_visits_every_entry_once, Case, real_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const x = random_matrix<S>(rows, cols, 1);
    matrix_x<S> const m = random_matrix<S>(rows, cols, 2);
    matrix_x<S> const g = random_matrix<S>(rows, cols, 3);
    matrix_x<S> const flipped = g.adjoint();
    for (bool const upright : {true, false}) {
      auto px = p.up(x);
      auto pm = p.up(m);
      if (upright) {
        transform(p.ctx, move_and_record{}, outputs(px, pm), inputs(p.up(g), p.number(S(0.5))));
      } else {
        transform(p.ctx, move_and_record{}, outputs(px, pm),
                  inputs(p.up(flipped).adjoint(), p.number(S(0.5))));
      }
      BOOST_TEST(same(p.down(pm), m + g));
      double const reference = static_cast<double>(x.norm() + m.norm() + g.norm());
      BOOST_TEST(near(p.down(px), x - S(0.5) * (m + g), tolerance<S>(1), reference));
    }
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(transform_may_read_what_it_writes, Case, real_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  matrix_x<S> expected = random_matrix<S>(5, 4, 1);
  auto x = p.up(expected);
  transform(p.ctx, add_one{}, outputs(x), inputs(x));
  expected.array() += S(1);
  transform(p.ctx, add_one{}, outputs(x.middleRows(1, 3).middleCols(0, 2)),
            inputs(x.middleRows(1, 3).middleCols(2, 2)));
  expected.block(1, 0, 3, 2) = expected.block(1, 2, 3, 2).array() + S(1);
  BOOST_TEST(same(p.down(x), expected));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(run_batch_runs_every_item_once, Case, real_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  for_each_shape([&](index_t rows, index_t cols) {
    matrix_x<S> const a = random_matrix<S>(rows, cols, 1);
    auto y = p.up(a);
    auto const x = p.up(a);
    auto visits = p.up(matrix_x<int>::Zero(1, cols));
    run_batch(p.ctx, cols, weigh_columns{2}, y, x, visits);
    BOOST_TEST(same(p.down(y), S(3) * a));
    BOOST_TEST(same(p.down(visits), matrix_x<int>::Ones(1, cols)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(run_batch_writes_into_strips, Case, real_cases) {
  place<Case> p;
  using S = typename Case::scalar;
  matrix_x<S> expected = random_matrix<S>(9, 6, 1);
  auto y = p.up(expected);
  auto const x = p.up(expected);
  auto visits = zeros<int>(p.ctx, 3, 4);
  run_batch(p.ctx, 4, weigh_columns{1}, y.middleRows(2, 5).middleCols(1, 4),
            x.middleRows(2, 5).middleCols(1, 4), visits.middleRows(1, 1));
  expected.block(2, 1, 5, 4) *= S(2);
  BOOST_TEST(same(p.down(y), expected));
  BOOST_TEST(p.down(visits).sum() == 4);
  BOOST_TEST(p.down(visits).row(1).minCoeff() == 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(raise_adds_bits_and_clears_none, Case, double_cases) {
  place<Case> p;
  auto status = status_matrix<typename Case::backend>(p.ctx);
  BOOST_TEST(status_value(p.ctx, status) == 0);
  raise(p.ctx, status, stiefelx::not_converged);
  raise(p.ctx, status, 1);
  raise(p.ctx, status, stiefelx::not_converged);
  BOOST_TEST(status_value(p.ctx, status) == 5);
  matrix_x<int> bits = matrix_x<int>::Zero(1, 3);
  bits(0, 1) = stiefelx::not_finite;
  bits(0, 2) = stiefelx::refined;
  raise(p.ctx, status, p.up(bits));
  BOOST_TEST(status_value(p.ctx, status) == 15);
  raise(p.ctx, no_status{}, stiefelx::not_finite);
  auto const cleared = stiefelx::clear_status(p.ctx, 3);
  BOOST_TEST(same(p.down(cleared), matrix_x<int>::Zero(1, 3)));
}

BOOST_AUTO_TEST_SUITE_END()
