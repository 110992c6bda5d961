// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The mixture three times: in rank space (moe_lora), in token space (expert_gram_schmidt), and by
// projectors in long double. A wrong adjoint of the coefficients hardly shows in training, so
// these tests are what finds it.

#include <limits>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <nn/expert_layer.hpp>
#include <stiefelx/nn/expert_gram_schmidt.hpp>
#include <support/near.hpp>

namespace {

using namespace support;

char const* name_of(mixing kind) {
  return kind == mixing::none ? "none" : kind == mixing::orthogonal ? "orthogonal" : "orthonormal";
}

template <class A, class B, class C>
void expect_near(char const* name, A const& found, B const& expected, C const& size, double bound) {
  double const reference = static_cast<double>(frobenius(table(size)));
  BOOST_TEST_CONTEXT(name) BOOST_TEST(near(found, expected, bound, reference));
}

template <class S>
void expect_result(layer_result<S> const& found, layer_result<long double> const& expected,
                   layer_result<long double> const& size, double bound) {
  expect_near("y", found.y, expected.y, size.y, bound);
  expect_near("ddown", found.ddown, expected.ddown, size.ddown, bound);
  expect_near("dup", found.dup, expected.dup, size.dup, bound);
  expect_near("dweights", found.dweights, expected.dweights, size.dweights, bound);
  expect_near("dx", found.dx, expected.dx, size.dx, bound);
}

/// Runs a layer and holds it to its definition, whose branches must be certain.
template <class Case>
layer_definition expect_definition(expert_layer<typename Case::scalar> const& l,
                                   mixing_options options) {
  layer_definition const d = define_layer(l, options);
  BOOST_TEST_CONTEXT(name_of(options.kind)
                     << ", E = " << l.experts << ", k = " << l.ids.rows() << ", r = " << l.rank
                     << ", delta = " << d.mixture.delta) {
    BOOST_TEST_REQUIRE(d.mixture.margin >= 3);
    expect_result(run_layer<Case>(l, options), d.exact, d.size, rank_space_bound(l, d.mixture));
  }
  return d;
}

/// expert_gram_schmidt() and its backward pass, in the scalar of the case.
template <class Case>
token_mixture<typename Case::scalar> run_token_space(matrix_x<typename Case::scalar> const& e,
                                                     matrix_x<typename Case::scalar> const& weights,
                                                     matrix_x<typename Case::scalar> const& dy,
                                                     mixing_options options) {
  using S = typename Case::scalar;
  place<Case> p;
  S const nan = std::numeric_limits<S>::quiet_NaN();
  auto const outputs = p.up(e);
  auto const c = p.up(weights);
  auto y = p.up(matrix_x<S>::Constant(dy.rows(), dy.cols(), nan));
  auto saved = expert_gram_schmidt(p.ctx, outputs, c, y, options);
  auto de = p.up(matrix_x<S>::Constant(e.rows(), e.cols(), nan));
  auto dweights = p.up(matrix_x<S>::Constant(weights.rows(), weights.cols(), nan));
  expert_gram_schmidt_backward(p.ctx, outputs, c, saved, p.up(dy), de, dweights);
  return {p.down(y), p.down(de), p.down(dweights), {}, {}};
}

/// Holds expert_gram_schmidt() to the definition on the outputs of a layer.
template <class Case>
void expect_token_definition(expert_layer<typename Case::scalar> const& l, mixing_options options) {
  using S = typename Case::scalar;
  using T = long double;
  matrix_x<S> const e = expert_outputs<S>(l);
  auto const m = mix_by_projectors<T>(loop_cast<T>(e), loop_cast<T>(l.weights), loop_cast<T>(l.dy),
                                      options.kind, guard_of<S>(options));
  BOOST_TEST_CONTEXT(name_of(options.kind) << ", k = " << l.ids.rows() << ", delta = " << m.delta) {
    BOOST_TEST_REQUIRE(m.margin >= 3);
    auto const found = run_token_space<Case>(e, l.weights, l.dy, options);
    double const bound = token_space_bound<S>(e.rows(), m);
    expect_near("y", found.y, m.y, m.y_size, bound);
    expect_near("de", found.de, m.de, m.de, bound);
    expect_near("dweights", found.dweights, m.dweights, m.dweights_size, bound);
  }
}

/// Holds a layer in rank space to the token-space functions in double.
template <class Case>
void expect_token_space(expert_layer<typename Case::scalar> const& l, mixing_options options) {
  using S = typename Case::scalar;
  using oracle = test_case<typename Case::backend, double>;
  options.guard = guard_of<S>(options);
  layer_definition const d = define_layer(l, options);
  BOOST_TEST_CONTEXT(name_of(options.kind)
                     << ", k = " << l.ids.rows() << ", delta = " << d.mixture.delta) {
    BOOST_TEST_REQUIRE(d.mixture.margin >= 3);
    auto const m = run_token_space<oracle>(expert_outputs<double>(l), loop_cast<double>(l.weights),
                                           l.scaling * loop_cast<double>(l.dy), options);
    matrix_x<double> const y = l.scaling * m.y;
    auto const found = run_layer<Case>(l, options);
    auto const expected = through_experts<double>(l, y, m.de, m.dweights);
    double const bound = rank_space_bound(l, d.mixture);
    expect_near("y", found.y, expected.y, d.size.y, bound);
    expect_near("ddown", found.ddown, expected.ddown, d.size.ddown, bound);
    expect_near("dup", found.dup, expected.dup, d.size.dup, bound);
    expect_near("dweights", found.dweights, expected.dweights, d.size.dweights, bound);
    expect_near("dx", found.dx, expected.dx, d.size.dx, bound);
  }
}

/// Experts that are one expert but for a part delta of their size, in both factors.
template <class S>
expert_layer<S> near_layer(layer_sizes n, double delta, std::uint64_t seed) {
  expert_layer<S> l = random_layer<S>(n, seed);
  auto const mix = [delta](S common, S own) {
    return static_cast<S>(static_cast<double>(common) + delta * static_cast<double>(own));
  };
  for (index_t e = 1; e < n.experts; ++e)
    for (index_t a = 0; a < n.rank; ++a) {
      for (index_t i = 0; i < n.d_in; ++i)
        l.down(i, e * n.rank + a) = mix(l.down(i, a), l.down(i, e * n.rank + a));
      for (index_t i = 0; i < n.d_out; ++i)
        l.up(e * n.rank + a, i) = mix(l.up(a, i), l.up(e * n.rank + a, i));
    }
  return l;
}

/// Makes expert `to` a multiple of expert `from`; a factor of 0 makes it zero.
template <class S>
void copy_expert(expert_layer<S>& l, index_t from, index_t to, double factor) {
  for (index_t a = 0; a < l.rank; ++a) {
    for (index_t i = 0; i < l.down.rows(); ++i)
      l.down(i, to * l.rank + a) = l.down(i, from * l.rank + a);
    for (index_t i = 0; i < l.up.cols(); ++i)
      l.up(to * l.rank + a, i) = static_cast<S>(factor) * l.up(from * l.rank + a, i);
  }
}

/// Layers of six experts of which some are equal, opposite or zero.
template <class S>
std::vector<expert_layer<S>> dependent_layers() {
  struct change {
    index_t from, to;
    double factor;
  };
  std::vector<std::vector<change>> const recipes{
      {{0, 1, 1}},                         // equal
      {{0, 1, -1}},                        // opposite
      {{1, 4, 1}, {2, 5, -1}},             // two pairs, apart
      {{0, 2, 1}, {0, 4, 1}, {0, 5, -1}},  // four of a kind
      {{0, 0, 0}},                         // zero first
      {{0, 3, 0}, {0, 5, 0}},              // zeros later
      {{0, 0, 0}, {0, 1, 0}, {2, 4, 1}},   // zeros and a pair
      {{0, 1, 0}, {0, 2, 0}, {0, 3, 0}, {0, 4, 0}, {0, 5, 0}, {0, 0, 0}},
  };
  std::vector<expert_layer<S>> all;
  for (auto const& recipe : recipes)
    for (index_t chosen : {6, 4}) {
      all.push_back(random_layer<S>({6, chosen, 3, 7, 20, 6}, 40 + all.size()));
      for (change const& c : recipe) copy_expert(all.back(), c.from, c.to, c.factor);
    }
  return all;
}

/// Whether sweeps over k and the kinds take this rank: all of them on the host, and two where code is
/// slow, on the checked backend and in a build without optimization.
template <class Case>
bool is_swept(index_t rank) {
#if defined(__OPTIMIZE__)
  if (std::is_same_v<typename Case::backend, host_backend>) return true;
#endif
  return rank == 1 || rank == 5;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(rank_space)

BOOST_AUTO_TEST_CASE_TEMPLATE(rank_space_is_the_definition, Case, real_cases) {
  using S = typename Case::scalar;
  for (index_t k = 1; k <= 8; ++k) {
    for (index_t r = 1; r <= 32; ++r) {
      if (!is_swept<Case>(r)) continue;
      for (mixing kind : kinds) {
        auto const seed = static_cast<std::uint64_t>(100 * k + r);
        expect_definition<Case>(random_layer<S>({k, k, r, 6, 24, 3}, seed), {.kind = kind});
        if (r > 1 && r % 4 != 0) continue;
        expect_definition<Case>(random_layer<S>({k + 2, k, r, 6, 24, 5}, seed), {.kind = kind});
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(token_space_is_the_definition, Case, real_cases) {
  using S = typename Case::scalar;
  for (index_t k = 1; k <= 8; ++k)
    for (mixing kind : kinds) {
      auto const seed = static_cast<std::uint64_t>(k);
      expect_token_definition<Case>(random_layer<S>({k, k, 4, 6, 24, 3}, seed), {.kind = kind});
    }
  for (mixing kind : kinds) {
    for (auto const& l : dependent_layers<S>()) expect_token_definition<Case>(l, {.kind = kind});
    for (double delta : {1e-1, 1e-2, 1e-3, 1e-4})
      expect_token_definition<Case>(near_layer<S>({4, 4, 3, 7, 20, 5}, delta, 9),
                                    {.kind = kind, .guard = 1e-6});
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(rank_space_is_token_space, Case, real_cases) {
  using S = typename Case::scalar;
  for (index_t k = 1; k <= 8; ++k)
    for (index_t r : {1, 2, 5, 8, 16, 32}) {
      if (!is_swept<Case>(r)) continue;
      for (mixing kind : kinds) {
        auto const seed = static_cast<std::uint64_t>(10 * k + r);
        expect_token_space<Case>(random_layer<S>({k, k, r, 6, 24, 3}, seed), {.kind = kind});
        expect_token_space<Case>(random_layer<S>({k + 1, k, r, 6, 24, 3}, seed), {.kind = kind});
      }
    }
  for (mixing kind : kinds) {
    for (auto const& l : dependent_layers<S>()) expect_token_space<Case>(l, {.kind = kind});
    for (double delta : {1e-1, 1e-2, 1e-3, 1e-4})
      expect_token_space<Case>(near_layer<S>({4, 4, 3, 7, 20, 5}, delta, 9),
                               {.kind = kind, .guard = 1e-6});
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(near_experts_are_told_apart, Case, real_cases) {
  using S = typename Case::scalar;
  double const guard = guard_of<S>({});
  for (mixing kind : kinds)
    for (index_t k : {2, 3, 5})
      for (double delta : {1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-5})
        for (std::uint64_t seed = 1; seed <= 3; ++seed) {
          auto const l = near_layer<S>({k, k, 4, 9, 16, 5}, delta, seed);
          bool const wide = delta >= 10 * guard;
          // Below the default's reach a smaller guard shows that only the data's rounding is left.
          auto const d = expect_definition<Case>(l, {.kind = kind, .guard = wide ? 0 : 1e-8});
          if (kind != mixing::none) BOOST_TEST(d.mixture.guarded == 0);
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(nearer_experts_are_guarded, Case, real_cases) {
  using S = typename Case::scalar;
  double const guard = guard_of<S>({});
  for (mixing kind : {mixing::orthogonal, mixing::orthonormal})
    for (index_t k : {2, 4})
      for (double delta : {0.1 * guard, 0.01 * guard})
        for (double option : {0.0, guard}) {
          auto const l = near_layer<S>({k, k, 4, 9, 16, 5}, delta, 1);
          auto const d = expect_definition<Case>(l, {.kind = kind, .guard = option});
          BOOST_TEST(d.mixture.guarded == (k - 1) * 5);
          expect_token_space<Case>(l, {.kind = kind, .guard = option});
        }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_guard_is_an_option, Case, real_cases) {
  using S = typename Case::scalar;
  for (mixing kind : {mixing::orthogonal, mixing::orthonormal}) {
    auto const l = near_layer<S>({3, 3, 4, 9, 16, 5}, 1e-2, 1);
    BOOST_TEST(expect_definition<Case>(l, {.kind = kind, .guard = 0.1}).mixture.guarded == 10);
    BOOST_TEST(expect_definition<Case>(l, {.kind = kind, .guard = 1e-4}).mixture.guarded == 0);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(equal_opposite_and_zero_experts_are_defined, Case, real_cases) {
  for (mixing kind : kinds)
    for (auto const& l : dependent_layers<typename Case::scalar>())
      expect_definition<Case>(l, {.kind = kind});
}

BOOST_AUTO_TEST_SUITE_END()
