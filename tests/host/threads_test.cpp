// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Threads: the pool, two contexts at once, and results that do not depend on the number of
// threads. A thread sanitizer build runs this file.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/nn/moe_lora.hpp>
#include <stiefelx/nn/router.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace {

using namespace support;
using stiefelx::stiefel;
using stiefelx::host::context;
using stiefelx::host::determinism;
using stiefelx::host::thread_pool;

using matrix = matrix_x<float>;

/// What the tests run: more columns, tokens and items than one task takes.
struct job {
  index_t n = 70, p = 20, d = 24, experts = 4, rank = 4, tokens = 600;
  matrix x = orthonormal_frame<float>(n, p, 1), v = tangent_vector<float>(x, 2);
  matrix g = random_matrix<float>(n, p, 3);
  matrix down = random_matrix<float>(d, experts* rank, 4);
  matrix up = random_matrix<float>(experts * rank, d, 5);
  matrix router = random_matrix<float>(d, experts, 6), token = random_matrix<float>(d, tokens, 7);
  matrix dy = random_matrix<float>(d, tokens, 8);

  /// Every result of one run in a context.
  std::vector<matrix> run(context& ctx) {
    stiefel const m{n, p};
    matrix qr = x, polar = x, cayley = x, moved = x;
    retract(ctx, m, x, v, qr);
    retract(ctx, m, x, v, polar, stiefelx::polar_retraction{});
    retract(ctx, m, x, v, cayley, stiefelx::cayley_retraction{});
    stiefelx::riemannian_adam adam(ctx, m, moved);
    for (int t = 0; t < 3; ++t) adam.step(ctx, moved, g);

    matrix y = dy, ddown = matrix::Zero(d, down.cols()), dup = matrix::Zero(up.rows(), d);
    matrix dweights(2, tokens), dscores(experts, tokens), drouter = matrix::Zero(d, experts);
    matrix dx(d, tokens);
    stiefelx::lora_experts const bank(down, up, experts, 1.5);
    auto const routes = stiefelx::route(ctx, router, token, {.top_k = 2});
    auto saved = stiefelx::moe_lora_forward(ctx, bank, routes, token, y);
    stiefelx::moe_lora_backward(ctx, bank, routes, saved, token, dy, ddown, dup, dweights, 0, dx);
    stiefelx::gate_backward(ctx, routes, dweights, dscores);
    stiefelx::router_backward(ctx, router, token, dscores, drouter, 1, dx);
    return {qr, polar, cayley, moved, y, ddown, dup, dweights, dx, drouter};
  }
};

bool same_bits(std::vector<matrix> const& a, std::vector<matrix> const& b) {
  bool all = a.size() == b.size();
  for (std::size_t i = 0; all && i < a.size(); ++i)
    all = a[i].size() == b[i].size() &&
          std::memcmp(a[i].data(), b[i].data(),
                      sizeof(float) * static_cast<std::size_t>(a[i].size())) == 0;
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(threads)

// --- the pool ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(every_index_is_called_once) {
  for (int size : {1, 2, 4}) {
    thread_pool pool(size);
    BOOST_TEST(pool.size() == size);
    for (index_t count : {0, 1, 2, 3, 5, 100}) {
      // Written by one call each and read after the last one: no atomic is needed.
      std::vector<int> calls(static_cast<std::size_t>(count), 0);
      std::vector<int> inside(static_cast<std::size_t>(size), 0);
      std::atomic<bool> alone{true}, outside{false};
      pool.for_each_index(count, [&](index_t i, int worker) {
        if (worker >= size || worker >= count) outside = true;
        int& own = inside[static_cast<std::size_t>(worker)];
        if (++own != 1) alone = false;
        ++calls[static_cast<std::size_t>(i)];
        --own;
      });
      BOOST_TEST(calls == std::vector<int>(static_cast<std::size_t>(count), 1),
                 boost::test_tools::per_element());
      BOOST_TEST(alone);
      BOOST_TEST(!outside);
    }
  }
}

BOOST_AUTO_TEST_CASE(workers_share_the_work_and_the_caller_waits_for_them) {
  // Every call waits until all are running at once: it ends only if no worker is left out.
  thread_pool pool(4);
  std::atomic<int> running{0}, finished{0};
  pool.for_each_index(4, [&](index_t, int worker) {
    ++running;
    while (running < 4) std::this_thread::yield();
    if (worker != 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++finished;
  });
  BOOST_TEST(finished == 4);
}

BOOST_AUTO_TEST_CASE(an_exception_reaches_the_caller_and_the_pool_goes_on) {
  for (int size : {1, 3}) {
    thread_pool pool(size);
    for (index_t bad : {0, 7, 19}) {
      std::string text = "nothing was thrown";
      try {
        pool.for_each_index(20, [&](index_t i, int) {
          if (i == bad) throw std::runtime_error("index " + std::to_string(i));
        });
      } catch (std::runtime_error const& error) {
        text = error.what();
      }
      BOOST_TEST(text == "index " + std::to_string(bad));
      std::atomic<int> calls{0};
      pool.for_each_index(20, [&](index_t, int) { ++calls; });
      BOOST_TEST(calls == 20);
    }
  }
}

BOOST_AUTO_TEST_CASE(many_short_rounds_lose_no_call) {
  thread_pool pool(3);
  std::vector<long> sums(3, 0);
  long expected = 0;
  for (index_t round = 0; round < 2000; ++round) {
    index_t const count = round % 7;
    pool.for_each_index(
        count, [&](index_t i, int worker) { sums[static_cast<std::size_t>(worker)] += i + 1; });
    expected += count * (count + 1) / 2;
  }
  BOOST_TEST(sums[0] + sums[1] + sums[2] == expected);
}

BOOST_AUTO_TEST_CASE(a_round_with_fewer_calls_than_workers_uses_the_first_workers) {
  thread_pool pool(4);
  std::atomic<int> outside{0};
  for (int round = 0; round < 500; ++round)
    pool.for_each_index(2, [&](index_t, int worker) { outside += worker >= 2 ? 1 : 0; });
  BOOST_TEST(outside == 0);
}

// --- contexts ------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(two_contexts_run_on_two_threads_at_once) {
  job reference;
  context ctx;
  auto const expected = reference.run(ctx);
  std::vector<std::vector<matrix>> found(2);
  {
    std::vector<std::thread> runners;
    for (std::size_t i = 0; i < 2; ++i)
      runners.emplace_back([&found, i] {
        job own;
        context mine({.threads = i == 0 ? 1 : 2});
        for (int round = 0; round < 3; ++round) found[i] = own.run(mine);
      });
    for (std::thread& t : runners) t.join();
  }
  BOOST_TEST(same_bits(found[0], expected));
  BOOST_TEST(same_bits(found[1], expected));
}

BOOST_AUTO_TEST_CASE(results_do_not_depend_on_the_number_of_threads) {
  job work;
  context one;
  auto const expected = work.run(one);
  BOOST_TEST(same_bits(work.run(one), expected));
  for (int threads : {2, 4}) {
    context many({.threads = threads});
    BOOST_TEST_CONTEXT(threads << " threads")
    for (int round = 0; round < 3; ++round) BOOST_TEST(same_bits(work.run(many), expected));
  }
}

BOOST_AUTO_TEST_CASE(one_number_of_threads_gives_the_same_bits_every_time) {
  job work;
  for (int threads : {1, 2, 4}) {
    context ctx({.threads = threads, .same_bits_for = determinism::this_thread_count});
    context other({.threads = threads, .same_bits_for = determinism::this_thread_count});
    auto const expected = work.run(ctx);
    BOOST_TEST_CONTEXT(threads << " threads") {
      for (int round = 0; round < 3; ++round) BOOST_TEST(same_bits(work.run(ctx), expected));
      BOOST_TEST(same_bits(work.run(other), expected));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
