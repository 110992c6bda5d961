// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Steps for some items of a parameter: the dense step when all are given, loops when some are, and
// nothing for the others.

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/sparse_columns.hpp>
#include <stiefelx/optim/state.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::adamw_options;
using stiefelx::power;
using stiefelx::save;
using stiefelx::sphere;

/// Each kind of scalar once, and both backends.
using few_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

constexpr adamw_options plain_options{.learning_rate = 0.05, .weight_decay = 0.1};

/// AdamW for any number of items.
template <class Ctx>
auto make_plain(Ctx& ctx) {
  return [&ctx](auto const& part, index_t) { return stiefelx::adamw(ctx, part, plain_options); };
}

/// Adam on a power of the sphere.
template <class Ctx>
auto make_adam(Ctx& ctx, sphere m) {
  return [&ctx, m](auto const& part, index_t count) {
    return stiefelx::riemannian_adam(ctx, power<sphere>{m, count}, part, {.learning_rate = 0.1});
  };
}

/// Matrices of norm one side by side.
template <class S>
matrix_x<S> unit_matrices(index_t n, index_t p, index_t count) {
  matrix_x<S> x = random_matrix<S>(n, p * count, 50);
  for (index_t k = 0; k < count; ++k) x.middleCols(k * p, p).normalize();
  return x;
}

matrix_x<int> row(std::vector<int> const& entries) {
  matrix_x<int> r(1, static_cast<index_t>(entries.size()));
  for (index_t k = 0; k < r.cols(); ++k) r(0, k) = entries[static_cast<std::size_t>(k)];
  return r;
}

bool contains(std::vector<int> const& all, int one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

/// The columns of the given items of a, side by side.
template <class S>
matrix_x<S> picked(matrix_x<S> const& a, std::vector<int> const& items, index_t p) {
  matrix_x<S> b(a.rows(), p * static_cast<index_t>(items.size()));
  for (std::size_t k = 0; k < items.size(); ++k)
    b.middleCols(static_cast<index_t>(k) * p, p) = a.middleCols(items[k] * p, p);
  return b;
}

template <class S>
matrix_x<S> gradient(index_t rows, index_t cols, int t) {
  return random_matrix<S>(rows, cols, static_cast<std::uint64_t>(100 + t));
}

/// Holds what is no columns of items.
template <class Ctx>
struct ill_fitting {
  static constexpr char const* name = "ill_fitting";
  stiefelx::matrix_t<Ctx, double> by_rows;

  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("by_rows", by_rows);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(sparse_columns)

// --- the dense step ------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(all_items_in_any_order_give_the_dense_step, Case, real_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  std::vector<int> const order{3, 0, 6, 5, 1, 4, 2};
  auto x = p.up(random_matrix<S>(5, 7, 1)), y = p.up(p.down(x));
  stiefelx::sparse_columns table(p.ctx, x, {.items = 7, .largest = 7}, make_plain(p.ctx));
  stiefelx::adamw opt(p.ctx, y, plain_options);
  for (int t = 0; t < 5; ++t) {
    matrix_x<S> const g = gradient<S>(5, 7, t);
    if (t == 3) {
      table.set_learning_rate(0.01);
      opt.set_learning_rate(0.01);
    }
    table.step_items(p.ctx, x, p.up(row(order)), p.up(picked(g, order, 1)));
    opt.step(p.ctx, y, p.up(g));
    BOOST_TEST(same(p.down(x), p.down(y)));
  }
  BOOST_TEST((save(p.ctx, table) == save(p.ctx, opt)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(all_points_of_a_power_give_the_dense_step, Case, few_cases) {
  using S = typename Case::scalar;
  index_t const n = 5, k = 2, items = 4;
  place<Case> p;
  std::vector<int> const order{0, 1, 2, 3};
  auto x = p.up(unit_matrices<S>(n, k, items)), y = p.up(p.down(x));
  auto const make = make_adam(p.ctx, sphere{n, k});
  stiefelx::sparse_columns table(p.ctx, x, {.items = items, .largest = 9}, make);
  auto opt = make(y, items);
  for (int t = 0; t < 4; ++t) {
    auto const g = p.up(gradient<S>(n, k * items, t));
    if (t == 2)
      table.step(p.ctx, x, g);
    else
      table.step_items(p.ctx, x, p.up(row(order)), g);
    opt.step(p.ctx, y, g);
    BOOST_TEST(same(p.down(x), p.down(y)));
  }
  BOOST_TEST((save(p.ctx, table) == save(p.ctx, opt)));
}

// --- some items ----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(some_items_agree_with_loops_and_the_others_stay, Case, real_cases) {
  using S = typename Case::scalar;
  using exact = long double;
  index_t const d = 4, items = 9;
  std::vector<std::vector<int>> const batches{{4},          {7, 2, 0}, {}, {1, 2, 3, 4, 5},
                                              {8, 4, 7, 2}, {2}};
  place<Case> p;
  matrix_x<S> const start = random_matrix<S>(d, items, 1);
  auto x = p.up(start);
  stiefelx::sparse_columns table(p.ctx, x, {.items = items, .largest = 5}, make_plain(p.ctx));
  matrix_x<exact> y = start.template cast<exact>(), m = matrix_x<exact>::Zero(d, items), v = m;
  exact const beta1 = plain_options.beta1, beta2 = plain_options.beta2;
  int steps = 0;
  for (std::size_t t = 0; t < batches.size(); ++t) {
    auto const& batch = batches[t];
    auto const count = static_cast<index_t>(batch.size());
    matrix_x<S> const g = gradient<S>(d, count, static_cast<int>(t)), before = p.down(x);
    matrix_x<S> const m_before = p.down(table.optimizer().first_moment());
    table.step_items(p.ctx, x, p.up(row(batch)), p.up(g));
    // The step count is the whole table's; a step without items is none.
    if (count > 0) ++steps;
    for (index_t k = 0; k < count; ++k) {
      int const j = batch[static_cast<std::size_t>(k)];
      for (index_t i = 0; i < d; ++i) {
        exact const gi = g(i, k);
        m(i, j) = beta1 * m(i, j) + (1 - beta1) * gi;
        v(i, j) = beta2 * v(i, j) + (1 - beta2) * gi * gi;
        exact const root = std::sqrt(v(i, j) / (1 - std::pow(beta2, steps))) + 1e-8L;
        y(i, j) -= 0.05L * (m(i, j) / (1 - std::pow(beta1, steps)) / root + 0.1L * y(i, j));
      }
    }
    for (int j = 0; j < items; ++j)
      if (!contains(batch, j)) {
        BOOST_TEST(same(p.down(x).col(j), before.col(j)));
        BOOST_TEST(same(p.down(table.optimizer().first_moment()).col(j), m_before.col(j)));
      }
  }
  BOOST_TEST(same(p.down(x).col(6), start.col(6)));
  BOOST_TEST(near(p.down(x), y, tolerance<S>(20, 4)));
  BOOST_TEST(near(p.down(table.optimizer().first_moment()), m, tolerance<S>(20, 4)));
  BOOST_TEST(near(p.down(table.optimizer().second_moment()), v, tolerance<S>(20, 4)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(points_of_a_power_move_as_each_alone, Case, few_cases) {
  using S = typename Case::scalar;
  index_t const n = 5, k = 2, items = 6;
  std::vector<std::vector<int>> const batches{{4, 1}, {0, 5, 1}, {3}, {1, 4, 5, 0}};
  place<Case> p;
  matrix_x<S> const start = unit_matrices<S>(n, k, items);
  auto x = p.up(start), y = p.up(start);
  stiefelx::sparse_columns table(p.ctx, x, {.items = items, .largest = 4},
                                 make_adam(p.ctx, sphere{n, k}));
  // Each has its own count of steps, as the dense optimizer keeps one for every point.
  using one = decltype(stiefelx::riemannian_adam(p.ctx, sphere{n, k}, x));
  std::vector<one> each;
  for (index_t j = 0; j < items; ++j)
    each.emplace_back(p.ctx, sphere{n, k}, y.middleCols(0, k),
                      stiefelx::riemannian_adam_options{.learning_rate = 0.1});
  for (std::size_t t = 0; t < batches.size(); ++t) {
    auto const& batch = batches[t];
    auto const count = static_cast<index_t>(batch.size());
    auto const g = p.up(gradient<S>(n, k * count, static_cast<int>(t)));
    table.step_items(p.ctx, x, p.up(row(batch)), g);
    for (index_t b = 0; b < count; ++b) {
      int const j = batch[static_cast<std::size_t>(b)];
      each[static_cast<std::size_t>(j)].step(p.ctx, y.middleCols(j * k, k), g.middleCols(b * k, k));
    }
    BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(n)));
  }
  BOOST_TEST(same(p.down(x).middleCols(2 * k, k), start.middleCols(2 * k, k)));
  for (index_t j = 0; j < items; ++j)
    BOOST_TEST(near(p.down(table.optimizer().first_moment()).middleCols(j * k, k),
                    p.down(each[static_cast<std::size_t>(j)].first_moment()), tolerance<S>(n), 1));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_repeated_index_counts_once_with_the_sum, Case, few_cases) {
  using S = typename Case::scalar;
  index_t const n = 5, k = 2, items = 6;
  place<Case> p;
  auto x = p.up(unit_matrices<S>(n, k, items)), y = p.up(p.down(x));
  auto const make = make_adam(p.ctx, sphere{n, k});
  stiefelx::sparse_columns table(p.ctx, x, {.items = items, .largest = 8}, make);
  stiefelx::sparse_columns other(p.ctx, y, {.items = items, .largest = 8}, make);
  std::vector<std::vector<int>> const batches{{3, 1, 3}, {1, 5, 1, 5, 1}, {2, 2, 2, 4, 4, 3, 2, 2}};
  for (std::size_t t = 0; t < batches.size(); ++t) {
    auto const& batch = batches[t];
    matrix_x<S> const g = gradient<S>(n, k * static_cast<index_t>(batch.size()), int(t));
    table.step_items(p.ctx, x, p.up(row(batch)), p.up(g));
    std::vector<int> distinct;
    matrix_x<S> sums = matrix_x<S>::Zero(n, k * items);
    for (std::size_t b = 0; b < batch.size(); ++b) {
      sums.middleCols(batch[b] * k, k) += g.middleCols(static_cast<index_t>(b) * k, k);
      if (!contains(distinct, batch[b])) distinct.push_back(batch[b]);
    }
    other.step_items(p.ctx, y, p.up(row(distinct)), p.up(picked(sums, distinct, k)));
    BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(n)));
  }
  // Behind the view stands an index that the step before had at that place.
  auto const before = p.up(row({0, 1, 3, 2})), indices = p.up(row({2, 0, 1, 2}));
  auto const g = p.up(gradient<S>(n, 4 * k, 9));
  table.step_items(p.ctx, x, before, g);
  other.step_items(p.ctx, y, before, g);
  table.step_items(p.ctx, x, indices.middleCols(0, 2), g.middleCols(0, 2 * k));
  other.step_items(p.ctx, y, p.up(row({2, 0})), clone(p.ctx, g.middleCols(0, 2 * k)));
  BOOST_TEST(near(p.down(x), p.down(y), tolerance<S>(n)));
  BOOST_TEST(near(p.down(table.optimizer().first_moment()),
                  p.down(other.optimizer().first_moment()), tolerance<S>(n)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(an_index_outside_is_left_out, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(3, 4, 1)), y = p.up(p.down(x));
  stiefelx::sparse_columns table(p.ctx, x, {.items = 4, .largest = 4}, make_plain(p.ctx));
  stiefelx::sparse_columns other(p.ctx, y, {.items = 4, .largest = 4}, make_plain(p.ctx));
  matrix_x<double> const g = gradient<double>(3, 4, 1);
  using limits = std::numeric_limits<int>;
  for (auto const& all : {std::vector{4, 2, -1, 0}, {limits::min(), 2, limits::max(), 0}}) {
    table.step_items(p.ctx, x, p.up(row(all)), p.up(g));
    other.step_items(p.ctx, y, p.up(row({2, 0})), p.up(picked(g, {1, 3}, 1)));
    BOOST_TEST(same(p.down(x), p.down(y)));
  }
  BOOST_TEST((save(p.ctx, table) == save(p.ctx, other)));
  auto const checked = [&](std::vector<int> const& indices) {
    return message_of([&] { stiefelx::expect_indices(p.ctx, p.up(row(indices)), 4); });
  };
  BOOST_TEST(checked({0, 3, 1}) == "nothing was thrown");
  BOOST_TEST(checked({0, 4, -1}) == "expect_indices: an index is 4, expected a number in [0, 4)");
}

// --- gradients that are not finite, states, memory -----------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_gradient_that_is_not_finite_changes_nothing, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(3, 4, 1));
  stiefelx::sparse_columns table(p.ctx, x, {.items = 4, .largest = 3}, make_plain(p.ctx));
  auto status = status_matrix<typename Case::backend>(p.ctx);
  auto const indices = p.up(row({1, 3, 0}));
  table.step_items(p.ctx, x, indices, p.up(gradient<double>(3, 3, 0)), status);
  matrix_x<double> const before = p.down(x);
  auto const state = save(p.ctx, table);
  matrix_x<double> g = gradient<double>(3, 3, 1);
  g(2, 1) = std::numeric_limits<double>::quiet_NaN();
  table.step_items(p.ctx, x, indices, p.up(g), status);
  BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
  BOOST_TEST(same(p.down(x), before));
  BOOST_TEST((save(p.ctx, table) == state));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_state_goes_on_with_the_same_bits, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(3, 5, 1));
  stiefelx::sparse_columns table(p.ctx, x, {.items = 5, .largest = 3}, make_plain(p.ctx));
  auto const step = [&](auto& opt, auto& point, int t) {
    opt.step_items(p.ctx, point, p.up(row({t % 5, 4 - t})), p.up(gradient<double>(3, 2, t)));
  };
  for (int t = 0; t < 2; ++t) step(table, x, t);
  auto y = p.up(p.down(x));
  stiefelx::sparse_columns loaded(p.ctx, y, {.items = 5, .largest = 2}, make_plain(p.ctx));
  auto const saved = save(p.ctx, table);
  BOOST_TEST(saved.optimizer == "adamw");
  stiefelx::load(p.ctx, saved, loaded);
  for (int t = 3; t < 5; ++t) {
    step(table, x, t);
    step(loaded, y, t);
  }
  BOOST_TEST(same(p.down(x), p.down(y)));
}

BOOST_AUTO_TEST_CASE(steps_make_no_owning_matrix) {
  place<test_case<archetype_backend, double>> p;
  auto x = p.up(unit_matrices<double>(5, 2, 6));
  stiefelx::sparse_columns table(p.ctx, x, {.items = 6, .largest = 5},
                                 make_adam(p.ctx, sphere{5, 2}));
  for (std::vector<int> const& batch : {std::vector{1}, std::vector{5, 2, 3}, std::vector<int>{}}) {
    auto const indices = p.up(row(batch));
    auto const g = p.up(gradient<double>(5, 2 * static_cast<index_t>(batch.size()), 1));
    index_t const owners = p.ctx.counts().owner_allocations;
    table.step_items(p.ctx, x, indices, g);
    BOOST_TEST(p.ctx.counts().owner_allocations == owners);
  }
}

BOOST_AUTO_TEST_CASE(layouts_and_threads_give_the_same_bits) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  stiefelx::host::context ctx, threads({.threads = 3});
  matrix_x<double> x = random_matrix<double>(4, 40, 1);
  row_major by_rows = x;
  matrix_x<double> all = matrix_x<double>::Constant(8, 80, -77);
  Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<16, 2>> strided(all.data(), 4, 40);
  strided = x;
  Eigen::Matrix<double, 4, 40> fixed = x;
  stiefelx::sparse_columns_options const o{.items = 40, .largest = 30};
  stiefelx::sparse_columns a(ctx, x, o, make_plain(ctx)), b(ctx, by_rows, o, make_plain(ctx)),
      c(threads, strided, o, make_plain(threads)), d(ctx, fixed, o, make_plain(ctx));
  std::vector<int> batch;
  for (int k = 0; k < 30; ++k) batch.push_back(7 * k % 37);
  Eigen::RowVectorXi const indices = row(batch);
  for (int t = 0; t < 3; ++t) {
    matrix_x<double> const g = gradient<double>(4, 30, t);
    row_major const g_by_rows = g;
    a.step_items(ctx, x, row(batch), g);
    b.step_items(ctx, by_rows, indices, g_by_rows);
    c.step_items(threads, strided, indices, 2 * g - g);
    d.step_items(ctx, fixed, indices, g);
  }
  BOOST_TEST(same(by_rows, x));
  BOOST_TEST(same(strided, x));
  BOOST_TEST(same(fixed, x));
  strided.setConstant(-77);
  BOOST_TEST((all.array() == -77).all());
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named, Case, double_cases) {
  place<Case> p;
  auto x = p.up(random_matrix<double>(3, 6, 1));
  auto const made = [&](stiefelx::sparse_columns_options o) {
    return message_of([&] { stiefelx::sparse_columns(p.ctx, x, o, make_plain(p.ctx)); });
  };
  BOOST_TEST(made({.items = 0, .largest = 1}) ==
             "sparse_columns: items is 0, expected a number of at least 1");
  BOOST_TEST(made({.items = 3, .largest = 0}) ==
             "sparse_columns: largest is 0, expected a number of at least 1");
  BOOST_TEST(made({.items = 4, .largest = 1}) ==
             "sparse_columns: x has 6 columns, expected a multiple of the 4 matrices of the stack");
  using context = typename Case::context;
  auto const ill = [&](auto const&, index_t count) {
    return ill_fitting<context>{zeros<double>(p.ctx, count, 1)};
  };
  BOOST_TEST(
      message_of([&] { stiefelx::sparse_columns(p.ctx, x, {.items = 3, .largest = 2}, ill); }) ==
      "sparse_columns: by_rows is 3x1, expected the shape of one item's, 1x1, or as many times "
      "its columns as there are items");
  stiefelx::sparse_columns table(p.ctx, x, {.items = 3, .largest = 2}, make_plain(p.ctx));
  auto const good = p.up(row({0, 1})), many = p.up(row({0, 1, 2}));
  auto const g = p.up(random_matrix<double>(3, 4, 2)), g6 = p.up(random_matrix<double>(3, 6, 2));
  auto all = p.up(random_matrix<double>(3, 8, 1));
  std::string const step = "sparse_columns::step_items: ";
  BOOST_TEST(message_of([&] { table.step_items(p.ctx, all, good, g); }) ==
             step + "x is 3x8, expected 3x6");
  BOOST_TEST(message_of([&] { table.step_items(p.ctx, x, good.adjoint(), g); }) ==
             step + "indices is 2x1, expected 1x1");
  BOOST_TEST(message_of([&] { table.step_items(p.ctx, x, good, g6); }) ==
             step + "g is 3x6, expected 3x4");
  BOOST_TEST(message_of([&] { table.step_items(p.ctx, x, many, g6); }) ==
             step + "indices has 3 columns, expected at most 2");
  BOOST_TEST(message_of([&] {
               table.step_items(p.ctx, all.middleCols(0, 6), good, all.middleCols(4, 4));
             }) == step + "x overlaps g, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
