// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Routed products of the host: blocks and strips, threads, storage orders, memory, wrong ids.

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/host/routed.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::host::context;

struct extent {
  index_t width, experts, rank, slots, tokens;
};

template <class S>
bool same_bits(matrix_x<S> const& a, matrix_x<S> const& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(S) * static_cast<std::size_t>(a.size())) == 0;
}

// Different experts in the slots of a token; some slots are empty.
matrix_x<int> some_ids(extent const& e) {
  matrix_x<int> ids(e.slots, e.tokens);
  for (index_t t = 0; t < e.tokens; ++t)
    for (index_t i = 0; i < e.slots; ++i)
      ids(i, t) = (t * t + i) % 11 == 10 ? -1 : static_cast<int>((t * t / 3 + i) % e.experts);
  return ids;
}

template <class S>
struct results {
  matrix_x<S> h, y, a, b;
};

// All four products with a context of its own.
template <class S>
results<S> compute(extent const& e, int threads, matrix_x<int> const& ids) {
  context ctx({.threads = threads});
  matrix_x<S> const down = random_matrix<S>(e.width, e.experts * e.rank, 1);
  matrix_x<S> const up = random_matrix<S>(e.experts * e.rank, e.width, 2);
  matrix_x<S> const x = random_matrix<S>(e.width, e.tokens, 3);
  results<S> r{random_matrix<S>(e.slots * e.rank, e.tokens, 4), x, down, up};
  routed_multiply(ctx, ids, down, x, r.h);
  routed_multiply_add(ctx, 0.5, ids, up.adjoint(), r.h, r.y);
  routed_outer_add(ctx, 0.5, ids, x, r.h, r.a);
  routed_adjoint_outer_add(ctx, 0.5, ids, r.h, x, r.b);
  return r;
}

// The same in long double, expert by expert as dense products.
template <class S>
results<S> expected(extent const& e, matrix_x<int> const& ids) {
  using wide = matrix_x<long double>;
  wide const down = random_matrix<S>(e.width, e.experts * e.rank, 1).template cast<long double>();
  wide const up = random_matrix<S>(e.experts * e.rank, e.width, 2).template cast<long double>();
  wide const x = random_matrix<S>(e.width, e.tokens, 3).template cast<long double>();
  wide h = wide::Zero(e.slots * e.rank, e.tokens), y = x, a = down, b = up;
  for (index_t t = 0; t < e.tokens; ++t)
    for (index_t i = 0; i < e.slots; ++i) {
      if (ids(i, t) < 0) continue;
      index_t const first = ids(i, t) * e.rank;
      for (index_t j = 0; j < e.rank; ++j)
        for (index_t c = 0; c < e.width; ++c) h(i * e.rank + j, t) += down(c, first + j) * x(c, t);
      for (index_t j = 0; j < e.rank; ++j)
        for (index_t c = 0; c < e.width; ++c) {
          long double const half = 0.5L * h(i * e.rank + j, t);
          y(c, t) += half * up(first + j, c);
          a(c, first + j) += half * x(c, t);
          b(first + j, c) += half * x(c, t);
        }
    }
  return {h.template cast<S>(), y.template cast<S>(), a.template cast<S>(), b.template cast<S>()};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(routed_products)

BOOST_AUTO_TEST_CASE(blocks_and_strips_of_many_tokens_agree_with_sums) {
  // Several blocks of tokens and several strips of rows, whole and in part.
  for (extent const& e :
       {extent{500, 3, 5, 2, 150}, extent{193, 5, 8, 2, 530}, extent{96, 4, 16, 1, 257},
        extent{100, 2, 3, 3, 128}, extent{400, 2, 1, 1, 300}})
    BOOST_TEST_CONTEXT("d=" << e.width << ", E=" << e.experts << ", r=" << e.rank
                            << ", k=" << e.slots << ", T=" << e.tokens) {
      matrix_x<int> const ids = some_ids(e);
      auto const found = compute<double>(e, 1, ids), sum = expected<double>(e, ids);
      double const bound = tolerance<double>(e.width + e.tokens);
      BOOST_TEST(near(found.h, sum.h, bound));
      BOOST_TEST(near(found.y, sum.y, bound));
      BOOST_TEST(near(found.a, sum.a, bound));
      BOOST_TEST(near(found.b, sum.b, bound));
    }
}

BOOST_AUTO_TEST_CASE(routed_products_have_the_same_bits_for_any_number_of_threads_and_every_time) {
  for (extent const& e : {extent{500, 3, 5, 2, 550}, extent{65, 4, 16, 4, 300}}) {
    matrix_x<int> const ids = some_ids(e);
    auto const one = compute<double>(e, 1, ids);
    for (int threads : {1, 2, 3}) {
      auto const other = compute<double>(e, threads, ids);
      BOOST_TEST(same_bits(one.h, other.h));
      BOOST_TEST(same_bits(one.y, other.y));
      BOOST_TEST(same_bits(one.a, other.a));
      BOOST_TEST(same_bits(one.b, other.b));
    }
  }
}

BOOST_AUTO_TEST_CASE(every_expert_in_every_token_is_a_dense_product) {
  extent const e{70, 3, 6, 3, 140};
  matrix_x<int> ids(3, e.tokens);
  for (index_t t = 0; t < e.tokens; ++t)
    for (int i = 0; i < 3; ++i) ids(i, t) = i;
  auto const found = compute<double>(e, 1, ids), sum = expected<double>(e, ids);
  double const bound = tolerance<double>(e.width + e.tokens);
  BOOST_TEST(near(found.h, sum.h, bound));
  BOOST_TEST(near(found.y, sum.y, bound));
  BOOST_TEST(near(found.a, sum.a, bound));
  BOOST_TEST(near(found.b, sum.b, bound));
  // One token in another order, and no product is dense any more.
  std::swap(ids(0, 77), ids(2, 77));
  BOOST_TEST(near(compute<double>(e, 1, ids).h, expected<double>(e, ids).h, bound));
}

BOOST_AUTO_TEST_CASE(arguments_of_any_storage_order_give_the_same_numbers) {
  using by_rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  extent const e{45, 3, 7, 2, 20};
  context ctx;
  matrix_x<int> const ids = some_ids(e);
  matrix_x<double> const a = random_matrix<double>(e.width, e.experts * e.rank, 1);
  matrix_x<double> const x = random_matrix<double>(e.width, e.tokens, 2);
  matrix_x<double> h = random_matrix<double>(e.slots * e.rank, e.tokens, 3);
  by_rows const ar = a, xr = x;
  by_rows hr = h;
  Eigen::Matrix<int, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const ids_r = ids;
  matrix_x<double> sparse = matrix_x<double>::Zero(2 * e.width, e.experts * e.rank);
  Eigen::Map<matrix_x<double>, 0, Eigen::Stride<-1, 2>> every_other(
      sparse.data(), e.width, e.experts * e.rank, Eigen::Stride<-1, 2>(2 * e.width, 2));
  every_other = a;

  routed_multiply(ctx, ids, a, x, h);
  matrix_x<double> again = h;
  again.setZero();
  routed_multiply(ctx, ids_r, every_other, 1.0 * x, again);
  BOOST_TEST(same_bits(h, again));
  routed_multiply(ctx, ids_r, ar, xr, hr);
  BOOST_TEST(same_bits(h, matrix_x<double>(hr)));

  matrix_x<double> y = x, sums = a;
  by_rows yr = x, sums_r = a, sums_t = a.transpose();
  Eigen::Matrix<double, 1, 1> s(0.25);
  routed_multiply_add(ctx, s, ids, a, h, y);
  routed_multiply_add(ctx, s, ids, ar, hr, yr);
  BOOST_TEST(same_bits(y, matrix_x<double>(yr)));
  routed_outer_add(ctx, s, ids, x, h, sums);
  routed_outer_add(ctx, s, ids, xr, hr, sums_r);
  BOOST_TEST(same_bits(sums, matrix_x<double>(sums_r)));
  routed_adjoint_outer_add(ctx, s, ids, hr, xr, sums_t);
  BOOST_TEST(same_bits(sums, matrix_x<double>(sums_t.transpose())));
}

BOOST_AUTO_TEST_CASE(routed_products_take_no_more_memory_after_the_first_step) {
  extent const e{130, 4, 8, 2, 300};
  matrix_x<int> const ids = some_ids(e);
  matrix_x<double> a = random_matrix<double>(e.width, e.experts * e.rank, 1), b = a.transpose();
  matrix_x<double> x = random_matrix<double>(e.width, e.tokens, 2), y = x;
  matrix_x<double> h(e.slots * e.rank, e.tokens);
  for (int threads : {1, 2}) {
    context ctx({.threads = threads});
    auto const step = [&] {
      routed_multiply(ctx, ids, a, x, h);
      routed_multiply_add(ctx, 1e-3, ids, b.adjoint(), h, y);
      routed_outer_add(ctx, 1e-3, ids, x, h, a);
      routed_adjoint_outer_add(ctx, 1e-3, ids, h, x, b);
    };
    step();
    std::size_t const held = ctx.memory.capacity();
    for (int i = 0; i < 3; ++i) step();
    BOOST_TEST(ctx.memory.capacity() == held);
    BOOST_TEST(ctx.memory.live() == 0u);
  }
}

BOOST_AUTO_TEST_CASE(an_id_beyond_the_last_expert_is_refused_before_any_work) {
  extent const e{9, 3, 2, 2, 5};
  context ctx;
  matrix_x<int> ids = some_ids(e);
  ids(1, 4) = 3;
  matrix_x<double> const a = random_matrix<double>(e.width, e.experts * e.rank, 1);
  matrix_x<double> const x = random_matrix<double>(e.width, e.tokens, 2);
  matrix_x<double> const h = random_matrix<double>(e.slots * e.rank, e.tokens, 3);
  matrix_x<double> y = x, sums = a, out = h, transposed = a.transpose();
  std::string const end = ": ids holds 3, expected a number below 3";
  auto const refused = [&](std::string const& name, auto const& call) {
    BOOST_TEST(message_of(call) == name + end);
  };
  refused("routed_multiply", [&] { routed_multiply(ctx, ids, a, x, out); });
  refused("routed_multiply_add", [&] { routed_multiply_add(ctx, 1, ids, a, h, y); });
  refused("routed_outer_add", [&] { routed_outer_add(ctx, 1, ids, x, h, sums); });
  refused("routed_adjoint_outer_add",
          [&] { routed_adjoint_outer_add(ctx, 1, ids, h, x, transposed); });
  BOOST_TEST(same_bits(out, h));
  BOOST_TEST(same_bits(y, x));
  BOOST_TEST(same_bits(sums, a));
  BOOST_TEST(same_bits(transposed, matrix_x<double>(a.transpose())));
}

BOOST_AUTO_TEST_SUITE_END()
