// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Groups of optimizers: the same steps as one by one, joint clipping, gradients that are not finite,
// rates and saved states.

#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/group.hpp>
#include <stiefelx/optim/optimizer_list.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/schedule.hpp>
#include <stiefelx/optim/state.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::euclidean;
using stiefelx::group_options;
using stiefelx::load;
using stiefelx::optimizer_group;
using stiefelx::save;
using stiefelx::stiefel;

/// Three parameters of different shapes, scalars and manifolds, and an optimizer of each.
template <class Case>
struct three {
  using complex = std::complex<double>;

  place<Case> p;
  decltype(p.up(matrix_x<float>())) x1 = p.up(orthonormal_frame<float>(6, 2, 1));
  decltype(p.up(matrix_x<double>())) x2 = p.up(random_matrix<double>(3, 4, 2));
  decltype(p.up(matrix_x<complex>())) x3 = p.up(random_matrix<complex>(2, 1, 3));

  auto adam() { return stiefelx::riemannian_adam(p.ctx, stiefel{6, 2}, x1); }
  auto plain() { return stiefelx::adamw(p.ctx, x2, {.learning_rate = 0.01}); }
  auto momentum() { return stiefelx::riemannian_momentum(p.ctx, euclidean{2, 1}, x3); }
  auto group(group_options o = {}) { return optimizer_group(o, adam(), plain(), momentum()); }
  auto points() { return std::tie(x1, x2, x3); }
  auto entries() { return std::tuple(p.down(x1), p.down(x2), p.down(x3)); }
};

/// Gradients of step t.
template <class Case>
auto gradients(place<Case>& p, int t, double factor = 1) {
  auto const seed = static_cast<std::uint64_t>(100 + 3 * t);
  return std::tuple(p.up(random_matrix<float>(6, 2, seed) * static_cast<float>(factor)),
                    p.up(random_matrix<double>(3, 4, seed + 1) * factor),
                    p.up(random_matrix<std::complex<double>>(2, 1, seed + 2) * factor));
}

template <class Tuple>
bool same_entries(Tuple const& a, Tuple const& b) {
  return bool(same(std::get<0>(a), std::get<0>(b))) && bool(same(std::get<1>(a), std::get<1>(b))) &&
         bool(same(std::get<2>(a), std::get<2>(b)));
}

/// A vector of optimizers, which move and do not copy.
template <class First, class... Opt>
std::vector<First> vector_of(First first, Opt... opt) {
  std::vector<First> all;
  all.push_back(std::move(first));
  (all.push_back(std::move(opt)), ...);
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(group)

// --- steps ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_group_steps_as_its_optimizers_do, Case, double_cases) {
  for (group_options o : {group_options{}, group_options{.all_or_nothing = false},
                          group_options{.largest_norm = 1e9}}) {
    three<Case> a, b;
    auto group = a.group(o);
    auto adam = b.adam();
    auto plain = b.plain();
    auto momentum = b.momentum();
    auto status = status_matrix<typename Case::backend>(a.p.ctx);
    for (int t = 0; t < 5; ++t) {
      auto const g = gradients(a.p, t);
      auto const [g1, g2, g3] = gradients(b.p, t);
      group.step(a.p.ctx, a.points(), g, status);
      adam.step(b.p.ctx, b.x1, g1);
      plain.step(b.p.ctx, b.x2, g2);
      momentum.step(b.p.ctx, b.x3, g3);
    }
    BOOST_TEST(same_entries(a.entries(), b.entries()));
    BOOST_TEST(status_value(a.p.ctx, status) == 0);
    BOOST_TEST(same(a.p.down(group.template optimizer<1>().first_moment()),
                    b.p.down(plain.first_moment())));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(views_and_expressions_are_taken, Case, double_cases) {
  three<Case> a, b;
  auto group = a.group({.largest_norm = 2});
  auto other = b.group({.largest_norm = 2});
  auto const g = gradients(a.p, 1);
  auto const h = gradients(b.p, 1);
  group.step(a.p.ctx, a.points(), std::tie(std::get<0>(g), std::get<1>(g), std::get<2>(g)));
  other.step(b.p.ctx,
             std::tuple(b.x1.middleCols(0, 2), b.x2.middleRows(0, 3), b.x3.middleCols(0, 1)),
             std::tuple(std::get<0>(h).adjoint().adjoint(), std::get<1>(h).middleCols(0, 4),
                        std::get<2>(h).middleRows(0, 2)),
             stiefelx::no_status{});
  BOOST_TEST(same_entries(a.entries(), b.entries()));
}

// --- clipping ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(steps_are_those_of_gradients_with_the_largest_norm, Case,
                              real_cases) {
  using S = typename Case::scalar;
  // Gradient descent with step 1 moves by the gradient that it is given.
  auto const descent = [](auto& ctx, auto const& x) {
    return stiefelx::riemannian_momentum(ctx, euclidean{x.rows(), x.cols()}, x,
                                         {.learning_rate = 1, .momentum = 0});
  };
  matrix_x<S> const g1 = random_matrix<S>(5, 3, 1), g2 = random_matrix<S>(2, 7, 2);
  double const joint = std::sqrt(static_cast<double>(g1.squaredNorm() + g2.squaredNorm()));
  for (bool all_or_nothing : {true, false})
    for (double share : {0.25, 1e-6, 1.001, 1e6}) {
      place<Case> p;
      auto x1 = p.up(matrix_x<S>::Zero(5, 3)), x2 = p.up(matrix_x<S>::Zero(2, 7));
      auto const h1 = p.up(g1), h2 = p.up(g2);
      optimizer_group group(
          group_options{.largest_norm = share * joint, .all_or_nothing = all_or_nothing},
          descent(p.ctx, x1), descent(p.ctx, x2));
      group.step(p.ctx, std::tie(x1, x2), std::tie(h1, h2));
      S const factor = static_cast<S>(-std::fmin(1, share));
      BOOST_TEST(near(p.down(x1), factor * g1, tolerance<S>(29)));
      BOOST_TEST(near(p.down(x2), factor * g2, tolerance<S>(29)));
      BOOST_TEST(same(p.down(h1), g1));
      BOOST_TEST(same(p.down(h2), g2));
    }
}

// --- gradients that are not finite ---------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(one_bad_gradient_holds_back_the_whole_group, Case, double_cases) {
  for (double norm : {std::numeric_limits<double>::infinity(), 0.5})
    for (double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      three<Case> a, b;
      auto group = a.group({.largest_norm = norm});
      auto other = b.group({.largest_norm = norm});
      for (int t = 0; t < 3; ++t) {
        auto const before = a.entries();
        auto const state = save(a.p.ctx, group);
        auto g = gradients(a.p, t);
        fill(a.p.ctx, bad, std::get<1>(g).middleCols(2, 1).middleRows(1, 1));
        auto status = status_matrix<typename Case::backend>(a.p.ctx);
        group.step(a.p.ctx, a.points(), g, status);
        BOOST_TEST(status_value(a.p.ctx, status) == stiefelx::not_finite);
        BOOST_TEST(same_entries(a.entries(), before));
        BOOST_TEST((save(a.p.ctx, group) == state));
        // A step with good gradients goes on as if the bad one had never been.
        auto good = status_matrix<typename Case::backend>(a.p.ctx);
        group.step(a.p.ctx, a.points(), gradients(a.p, t), good);
        other.step(b.p.ctx, b.points(), gradients(b.p, t));
        BOOST_TEST(status_value(a.p.ctx, good) == 0);
        BOOST_TEST(same_entries(a.entries(), b.entries()));
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_joint_norm_beyond_the_range_holds_back_the_group, Case,
                              double_cases) {
  // Each gradient has a squared norm just below the largest, and seven together have none.
  double const size = std::sqrt(stiefelx::largest_squared_gradient<matrix_x<double>>) * 0.999;
  place<Case> p;
  matrix_x<double> const g = matrix_x<double>::Constant(1, 1, size);
  std::vector<decltype(p.number(1.0))> x, h;
  std::vector<decltype(stiefelx::adamw(p.ctx, x[0]))> each;
  for (int i = 0; i < 7; ++i) {
    x.push_back(p.number(1.0));
    h.push_back(p.up(g));
    each.push_back(stiefelx::adamw(p.ctx, x.back()));
  }
  std::vector<decltype(p.number(1.0))*> px, ph;
  for (std::size_t i = 0; i < 7; ++i) {
    px.push_back(&x[i]);
    ph.push_back(&h[i]);
  }
  stiefelx::optimizer_list list(std::move(each), {.largest_norm = 1});
  auto status = status_matrix<typename Case::backend>(p.ctx);
  list.step(p.ctx, px, ph, status);
  BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
  BOOST_TEST(value(p.ctx, x[0]) == 1);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(each_alone_lets_the_others_step, Case, double_cases) {
  double const bad = std::numeric_limits<double>::quiet_NaN();
  for (double share : {0.0, 0.5}) {
    three<Case> a, b;
    // The norm of the gradients that are left is what counts.
    auto g = gradients(a.p, 1);
    double const rest = std::sqrt(static_cast<double>(a.p.down(std::get<0>(g)).squaredNorm()) +
                                  a.p.down(std::get<2>(g)).squaredNorm());
    double const norm = share > 0 ? share * rest : std::numeric_limits<double>::infinity();
    auto group = a.group({.largest_norm = norm, .all_or_nothing = false});
    auto const x2 = a.p.down(a.x2);
    fill(a.p.ctx, bad, std::get<1>(g).middleCols(0, 1));
    auto status = status_matrix<typename Case::backend>(a.p.ctx);
    group.step(a.p.ctx, a.points(), g, status);
    BOOST_TEST(status_value(a.p.ctx, status) == stiefelx::not_finite);
    BOOST_TEST(same(a.p.down(a.x2), x2));

    auto const [g1, g2, g3] = gradients(b.p, 1, share > 0 ? share : 1);
    auto adam = b.adam();
    auto momentum = b.momentum();
    adam.step(b.p.ctx, b.x1, g1);
    momentum.step(b.p.ctx, b.x3, g3);
    BOOST_TEST(near(a.p.down(a.x1), b.p.down(b.x1), tolerance<float>(14)));
    // The norm of float gradients is summed in float.
    BOOST_TEST(near(a.p.down(a.x3), b.p.down(b.x3), tolerance<float>(14)));
    BOOST_TEST(near(a.p.down(group.template optimizer<2>().velocity()),
                    b.p.down(momentum.velocity()), tolerance<float>(14)));
  }
}

// --- rates and states ----------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(rates_follow_a_schedule_times_their_own, Case, double_cases) {
  stiefelx::cosine_schedule const schedule{1, 20, 5};
  std::array<double, 3> const own{0.1, 0.01, 0.5};
  three<Case> a, b;
  auto group = a.group();
  auto adam = b.adam();
  auto plain = b.plain();
  auto momentum = b.momentum();
  for (int t = 0; t < 8; ++t) {
    if (t == 3) group.set_relative_rates(own);
    std::array<double, 3> const base = t < 3 ? std::array<double, 3>{1, 1, 1} : own;
    group.set_learning_rate(schedule(t));
    adam.set_learning_rate(schedule(t) * base[0]);
    plain.set_learning_rate(schedule(t) * base[1]);
    momentum.set_learning_rate(schedule(t) * base[2]);
    auto const [g1, g2, g3] = gradients(b.p, t);
    group.step(a.p.ctx, a.points(), gradients(a.p, t));
    adam.step(b.p.ctx, b.x1, g1);
    plain.step(b.p.ctx, b.x2, g2);
    momentum.step(b.p.ctx, b.x3, g3);
    BOOST_TEST(same_entries(a.entries(), b.entries()));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_saved_group_goes_on_with_the_same_bits, Case, double_cases) {
  three<Case> a, b;
  auto group = a.group();
  for (int t = 0; t < 3; ++t) group.step(a.p.ctx, a.points(), gradients(a.p, t));
  auto const saved = save(a.p.ctx, group);
  BOOST_TEST(saved.optimizer == "optimizer_group(riemannian_adam, adamw, riemannian_momentum)");
  std::vector<std::string> names;
  for (auto const& array : saved.arrays) names.push_back(array.name);
  std::vector<std::string> const expected{"0.first_moment", "0.second_moment", "0.power1",
                                          "0.power2",       "1.first_moment",  "1.second_moment",
                                          "1.power1",       "1.power2",        "2.velocity"};
  BOOST_TEST(names == expected, boost::test_tools::per_element());

  auto loaded = b.group();
  load(b.p.ctx, saved, loaded);
  copy(b.p.ctx, b.p.up(a.p.down(a.x1)), b.x1);
  copy(b.p.ctx, b.p.up(a.p.down(a.x2)), b.x2);
  copy(b.p.ctx, b.p.up(a.p.down(a.x3)), b.x3);
  for (int t = 3; t < 6; ++t) {
    group.step(a.p.ctx, a.points(), gradients(a.p, t));
    loaded.step(b.p.ctx, b.points(), gradients(b.p, t));
  }
  BOOST_TEST(same_entries(a.entries(), b.entries()));

  auto alone = b.adam();
  optimizer_group turned(b.plain(), b.adam(), b.momentum());
  auto const refused = [&](auto& target) {
    try {
      load(b.p.ctx, saved, target);
    } catch (stiefelx::state_error const& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  BOOST_TEST(refused(turned) ==
             "load: the state is of optimizer_group(riemannian_adam, adamw, riemannian_momentum), "
             "expected optimizer_group(adamw, riemannian_adam, riemannian_momentum)");
  BOOST_TEST(refused(alone) ==
             "load: the state is of optimizer_group(riemannian_adam, adamw, riemannian_momentum), "
             "expected riemannian_adam");
}

// --- lists ---------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_list_steps_as_a_group_does, Case, real_cases) {
  using S = typename Case::scalar;
  for (group_options o : {group_options{}, group_options{.largest_norm = 0.5},
                          group_options{.all_or_nothing = false}}) {
    place<Case> p;
    auto x1 = p.up(random_matrix<S>(4, 3, 1)), x2 = p.up(random_matrix<S>(1, 5, 2));
    auto y1 = p.up(p.down(x1)), y2 = p.up(p.down(x2));
    optimizer_group group(o, stiefelx::adamw(p.ctx, x1), stiefelx::adamw(p.ctx, x2));
    stiefelx::optimizer_list list(vector_of(stiefelx::adamw(p.ctx, y1), stiefelx::adamw(p.ctx, y2)),
                                  o);
    BOOST_TEST(list.size() == 2U);
    for (int t = 0; t < 4; ++t) {
      auto const g1 = p.up(random_matrix<S>(4, 3, static_cast<std::uint64_t>(10 + t)));
      auto g2 = p.up(random_matrix<S>(1, 5, static_cast<std::uint64_t>(20 + t)));
      if (t == 2) fill(p.ctx, std::numeric_limits<double>::quiet_NaN(), g2);
      auto status = status_matrix<typename Case::backend>(p.ctx);
      group.set_learning_rate(1e-2 / (t + 1));
      list.set_learning_rate(1e-2 / (t + 1));
      group.step(p.ctx, std::tie(x1, x2), std::tie(g1, g2));
      list.step(p.ctx, std::array{&y1, &y2}, std::vector{&g1, &std::as_const(g2)}, status);
      BOOST_TEST(status_value(p.ctx, status) == (t == 2 ? stiefelx::not_finite : 0));
    }
    BOOST_TEST(same(p.down(y1), p.down(x1)));
    BOOST_TEST(same(p.down(y2), p.down(x2)));
    auto saved = save(p.ctx, list);
    BOOST_TEST(saved.optimizer == "optimizer_list(adamw)");
    BOOST_TEST((saved.arrays == save(p.ctx, group).arrays));
    BOOST_TEST(
        same(p.down(list[1].first_moment()), p.down(group.template optimizer<1>().first_moment())));
  }
}

// --- errors --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_arguments_are_named_and_nothing_moves, Case, double_cases) {
  three<Case> a;
  BOOST_TEST(message_of([&] { a.group({.largest_norm = 0}); }) ==
             "optimizer_group: largest_norm is 0.000000, expected a number above 0");
  auto group = a.group();
  BOOST_TEST(message_of([&] { group.set_relative_rates({1, -1, 1}); }) ==
             "optimizer_group: relative rate is -1.000000, expected a number of at least 0");
  auto const before = a.entries();
  auto const [g1, g2, g3] = gradients(a.p, 0);
  auto wrong = a.p.up(random_matrix<std::complex<double>>(1, 2, 1));
  BOOST_TEST(message_of([&] { group.step(a.p.ctx, a.points(), std::tie(g1, g2, wrong)); }) ==
             "optimizer_group::step: g is 1x2, expected 2x1");
  BOOST_TEST(message_of([&] { group.step(a.p.ctx, a.points(), std::tie(g1, g2, a.x3)); }) ==
             "optimizer_group::step: x overlaps g, expected separate memory");

  auto all = a.p.up(random_matrix<double>(2, 4, 1));
  auto one = all.middleCols(0, 2), two = all.middleCols(2, 2);
  optimizer_group crossed(stiefelx::adamw(a.p.ctx, one), stiefelx::adamw(a.p.ctx, two));
  BOOST_TEST(message_of([&] { crossed.step(a.p.ctx, std::tie(one, two), std::tie(g2, one)); }) ==
             "optimizer_group::step: g is 3x4, expected 2x2");
  BOOST_TEST(message_of([&] { crossed.step(a.p.ctx, std::tie(one, two), std::tie(two, one)); }) ==
             "optimizer_group::step: x overlaps g, expected separate memory");

  using plain = decltype(stiefelx::adamw(a.p.ctx, a.x2));
  BOOST_TEST(message_of([&] {
               stiefelx::optimizer_list(std::vector<plain>(), {.largest_norm = -1});
             }) == "optimizer_list: largest_norm is -1.000000, expected a number above 0");
  stiefelx::optimizer_list list(vector_of(stiefelx::adamw(a.p.ctx, a.x2)));
  std::vector const x{&a.x2};
  std::vector const g{&g2, &g2};
  BOOST_TEST(message_of([&] { list.step(a.p.ctx, x, g); }) ==
             "optimizer_list::step: g has 2 matrices, expected 1");
  BOOST_TEST(message_of([&] { list.step(a.p.ctx, std::vector{&a.x2, &a.x2}, g); }) ==
             "optimizer_list::step: x has 2 matrices, expected 1");
  BOOST_TEST(message_of([&] { list.step(a.p.ctx, x, x); }) ==
             "optimizer_list::step: x overlaps g, expected separate memory");
  BOOST_TEST(same_entries(a.entries(), before));
}

BOOST_AUTO_TEST_SUITE_END()
