// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// The team of a block: its sums, and team text with 32 to 256 lanes against one lane.
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/eigen_transfer.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/nn/moe_lora_body.hpp>
#include <stiefelx/nn/moe_lora_cross.hpp>
#include <stiefelx/team/cholesky.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/jacobi_svd.hpp>
#include <stiefelx/team/small_qr.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::matrix_ref;
using stiefelx::Team;
namespace device = stiefelx::cuda;

constexpr unsigned lane_counts[] = {32, 96, 256};

// One lane's summand: numbers of different sizes, so that another order gives other bits.
template <class T>
STIEFELX_HD T summand(stiefelx::index_t rank, int round) {
  T const size = static_cast<T>((rank * 7919 + round * 104729) % 1009 + 1);
  if constexpr (std::is_floating_point_v<T>)
    return (rank % 3 == 0 ? 1000 : T(1) / 3) * size;
  else
    return size;
}

template <class T>
struct sums_body {
  int rounds;
  stiefelx::index_t scratch_size() const { return 0; }
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t, double*,
                              matrix_ref<T> out) const {
    for (int round = 0; round < rounds; ++round)
      out(team.rank(), round) = team.sum(summand<T>(team.rank(), round));
  }
};

// Pairs of lanes by halves of a warp, then warps one after the other.
template <class T>
T expected_sum(unsigned lanes, int round) {
  T total = 0;
  for (unsigned first = 0; first < lanes; first += 32) {
    T part[32];
    for (unsigned k = 0; k < 32; ++k) part[k] = summand<T>(first + k, round);
    for (unsigned half = 16; half > 0; half /= 2)
      for (unsigned k = 0; k < half; ++k) part[k] += part[k + half];
    total = first == 0 ? part[0] : total + part[0];
  }
  return total;
}

// A lane writes, then all sum, then each reads what another one wrote.
struct sum_then_read_body {
  stiefelx::index_t scratch_size() const { return 256; }
  template <Team Lanes>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t, double* work,
                              matrix_ref<double> out) const {
    stiefelx::index_t const other = (team.rank() + 33) % team.size();
    out(team.rank(), 0) = 0;
    for (int round = 1; round <= 3; ++round) {
      work[team.rank()] = static_cast<double>(round * (team.rank() + 1));
      double const all = team.sum(1.0);
      out(team.rank(), 0) += all * work[other];
      (void)team.sum(1);
    }
  }
};

using sum_types = std::tuple<double, float, int, std::int64_t>;

/// Runs a body on the device with so many lanes, for each of its items.
template <class Body, class... A>
void run_lanes(device::context& ctx, index_t count, unsigned lanes, Body const& body, A&&... a) {
  device::detail::run_teams(ctx, count, lanes, body, device::ref(a)...);
}

template <class S>
matrix_ref<S> host_ref(matrix_x<S>& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}
template <class S>
matrix_ref<S const> host_read(matrix_x<S> const& a) {
  return {a.data(), a.rows(), a.cols(), a.outerStride()};
}

/// The same by one lane on the host.
template <class Body, class... A>
void run_one_lane(index_t count, Body const& body, A... a) {
  std::vector<double> work(static_cast<std::size_t>(body.scratch_size()) + 1);
  for (index_t item = 0; item < count; ++item)
    body(stiefelx::serial_team{}, item, work.data(), a...);
}

template <class S>
struct outcome {
  matrix_x<S> q, r;
  matrix_x<int> status;
};

template <class S, class Body>
outcome<S> factored(unsigned lanes, Body const& body, matrix_x<S> const& a, index_t p) {
  index_t const count = a.cols() / p;
  outcome<S> out{matrix_x<S>::Zero(a.rows(), a.cols()), matrix_x<S>::Zero(p, a.cols()),
                 matrix_x<int>::Zero(1, count)};
  if (lanes == 1) {
    run_one_lane(count, body, host_read(a), host_ref(out.q), host_ref(out.r), host_ref(out.status));
    return out;
  }
  device::context ctx;
  auto const source = on_device(ctx, a);
  auto q = on_device(ctx, out.q), r = on_device(ctx, out.r);
  auto status = on_device(ctx, out.status);
  run_lanes(ctx, count, lanes, body, source, q, r, status);
  return {on_host(ctx, q), on_host(ctx, r), on_host(ctx, status)};
}

// g = its Cholesky factor, and y = y r^-1 with it.
struct factor_and_solve_body {
  stiefelx::index_t scratch_size() const { return 0; }
  template <Team Lanes, class S>
  STIEFELX_HD void operator()(Lanes const& team, stiefelx::index_t, double*, matrix_ref<S const> a,
                              matrix_ref<S> y, matrix_ref<S> g, matrix_ref<int> status) const {
    for (stiefelx::index_t j = 0; j < a.cols; ++j)
      for (stiefelx::index_t i = team.rank(); i < a.rows; i += team.size()) y(i, j) = a(i, j);
    team.barrier();
    stiefelx::small_gram(team, y, g);
    int const bits = stiefelx::small_cholesky(team, g);
    stiefelx::small_solve_right(team, g, y);
    if (team.rank() == 0) status(0, 0) = bits;
  }
};

/// Both passes of a mixture of experts of rank r by so many lanes.
void expect_mixture_of_one_lane(index_t r, unsigned lanes) {
  constexpr index_t k = 3, experts = 4, tokens = 7, part = 4;
  index_t const all = experts * r;
  constexpr auto by_expert = stiefelx::rank_layout::by_expert;
  stiefelx::mixing_algebra const algebra{stiefelx::mixing::orthonormal, 1e-6};
  stiefelx::mix_forward_body const forward{algebra, k, r, by_expert};
  stiefelx::mix_backward_body const backward{algebra, k, r, 1.5, by_expert};
  stiefelx::cross_moments_body const parts{r, experts, part};
  stiefelx::cross_sums_body const total{r, 2, all};
  matrix_x<double> const root = random_matrix<double>(2 * all, all, 1);
  matrix_x<double> const moments = root.transpose() * root;
  matrix_x<double> const weights = random_matrix<double>(k, tokens, 3).cwiseAbs();
  matrix_x<int> ids(k, tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < k; ++i)
      ids(i, t) = t == 3 && i > 1 ? -1 : static_cast<int>((2 * t + i) % experts);

  matrix_x<double> vectors(k * r, tokens), gram(k * k, tokens), coefficients(k, tokens);
  matrix_x<double> mixed = random_matrix<double>(all, tokens, 2), dh = mixed * 2;
  matrix_x<double> dweights(k, tokens), sums = matrix_x<double>::Zero(all, 2 * all),
                                        cross(all, all);
  matrix_x<int> status(1, tokens);
  matrix_x<double> const h = mixed, z = dh;
  run_one_lane(tokens, forward, host_ref(vectors), host_read(ids), host_read(weights),
               host_read(moments), host_ref(gram), host_ref(coefficients), host_ref(mixed),
               host_ref(status));
  run_one_lane(tokens, backward, host_read(vectors), host_read(ids), host_read(weights),
               host_read(moments), host_ref(gram), host_ref(dh), host_ref(mixed),
               host_ref(dweights));
  run_one_lane(2 * experts, parts, host_read(vectors), host_read(ids), host_read(gram),
               host_ref(sums), host_ref(cross));
  run_one_lane(all, total, host_read(sums), host_ref(cross));
  device::context ctx;
  auto const dw = on_device(ctx, weights), dm = on_device(ctx, moments);
  auto const di = on_device(ctx, ids);
  auto dv = zeros<double>(ctx, k * r, tokens), dg = zeros<double>(ctx, k * k, tokens);
  auto da = zeros<double>(ctx, k, tokens), dc = zeros<double>(ctx, k, tokens);
  auto dy = on_device(ctx, h), dz = on_device(ctx, z);
  auto ds = zeros<int>(ctx, 1, tokens);
  auto dsums = zeros<double>(ctx, all, 2 * all), dk = zeros<double>(ctx, all, all);
  run_lanes(ctx, tokens, lanes, forward, dv, di, dw, dm, dg, da, dy, ds);
  auto const& saved = std::as_const(dv);
  run_lanes(ctx, tokens, lanes, backward, saved, di, dw, dm, dg, dz, dy, dc);
  run_lanes(ctx, 2 * experts, lanes, parts, saved, di, std::as_const(dg), dsums, dk);
  run_lanes(ctx, all, lanes, total, std::as_const(dsums), dk);
  double const bound = tolerance<double>(all * tokens, 64);
  BOOST_TEST(same(on_host(ctx, dv), vectors));
  BOOST_TEST(near(on_host(ctx, dc), dweights, bound));
  BOOST_TEST(near(on_host(ctx, dz), dh, bound));
  BOOST_TEST(near(on_host(ctx, dy), mixed, bound));
  BOOST_TEST(near(on_host(ctx, dk), cross, bound));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(block_team)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_sum_has_the_bits_of_its_fixed_order_in_every_lane, T, sum_types) {
  constexpr int rounds = 4;
  for (unsigned const lanes : lane_counts) {
    device::context ctx;
    device::buffer<T> const found(lanes * rounds);
    matrix_ref<T> const places{found.data(), static_cast<index_t>(lanes), rounds,
                               static_cast<index_t>(lanes)};
    device::detail::run_teams(ctx, 1, lanes, sums_body<T>{rounds}, places);
    std::vector<T> sums(lanes * rounds);
    std::size_t const bytes = sums.size() * sizeof(T);
    device::copy_2d(sums.data(), bytes, found.data(), bytes, bytes, 1, device::direction::to_host,
                    ctx.queue);
    device::synchronize(ctx.queue);
    for (int round = 0; round < rounds; ++round)
      for (unsigned k = 0; k < lanes; ++k)
        BOOST_REQUIRE_EQUAL(sums[static_cast<unsigned>(round) * lanes + k],
                            expected_sum<T>(lanes, round));
  }
}

BOOST_AUTO_TEST_CASE(a_sum_orders_memory_as_a_barrier_does) {
  for (unsigned const lanes : lane_counts) {
    device::context ctx;
    auto out = zeros<double>(ctx, static_cast<index_t>(lanes), 1);
    run_lanes(ctx, 1, lanes, sum_then_read_body{}, out);
    auto const seen = on_host(ctx, out);
    for (unsigned k = 0; k < lanes; ++k)
      BOOST_REQUIRE_EQUAL(seen(k, 0), 6.0 * lanes * ((k + 33) % lanes + 1));
  }
}

BOOST_AUTO_TEST_CASE(lanes_factor_what_one_lane_factors) {
  constexpr index_t rows = 77, cols = 3;
  matrix_x<double> a(rows, 2 * cols);
  a << random_matrix<double>(rows, cols, 1), conditioned_matrix<double>(rows, cols, 50, 2);
  auto const compare = [&](auto const& body) {
    auto const one = factored(1, body, a, cols);
    for (unsigned const lanes : {32u, 128u}) BOOST_TEST_CONTEXT(lanes << " lanes") {
        auto const found = factored(lanes, body, a, cols);
        BOOST_TEST(same(found.status, one.status));
        BOOST_TEST(near(found.q, one.q, tolerance<double>(rows, 2500)));
        BOOST_TEST(near(found.r, one.r, tolerance<double>(rows, 2500)));
      }
  };
  compare(stiefelx::gram_schmidt_body{cols, stiefelx::gram_schmidt_method::mgs});
  compare(stiefelx::gram_schmidt_body{cols});
  compare(stiefelx::small_householder_body{cols});
}

BOOST_AUTO_TEST_CASE(lanes_factor_and_solve_what_one_lane_does) {
  for (index_t const p : {1, 9, 33}) {
    matrix_x<double> const a = conditioned_matrix<double>(61, p, 20, 3);
    auto const one = factored(1, factor_and_solve_body{}, a, p);
    for (unsigned const lanes : {32u, 64u}) BOOST_TEST_CONTEXT(lanes << " lanes") {
        if (p == 33 && lanes == 64) continue;
        auto const found = factored(lanes, factor_and_solve_body{}, a, p);
        BOOST_TEST(same(found.status, one.status));
        BOOST_TEST(near(found.q, one.q, tolerance<double>(61, 400)));
        BOOST_TEST(near(found.r, one.r, tolerance<double>(61, 400)));
      }
  }
}

BOOST_AUTO_TEST_CASE(lanes_find_the_singular_values_of_one_lane) {
  constexpr index_t rows = 45, cols = 4;
  matrix_x<double> a = conditioned_matrix<double>(rows, cols, 1e6, 4);
  a.col(1).setZero();
  stiefelx::jacobi_svd_body const body{cols, 1e-15};
  matrix_x<int> const exponents = matrix_x<int>::Constant(1, cols, 3);
  matrix_x<double> x = a, w(1, cols), v(cols, cols);
  matrix_x<int> places = exponents, status(1, 1);
  run_one_lane(1, body, host_ref(x), host_ref(places), host_ref(w), host_ref(v), host_ref(status));
  for (unsigned const lanes : {32u, 64u}) BOOST_TEST_CONTEXT(lanes << " lanes") {
      device::context ctx;
      auto dx = on_device(ctx, a), dw = zeros<double>(ctx, 1, cols);
      auto dv = zeros<double>(ctx, cols, cols);
      auto de = on_device(ctx, exponents), ds = zeros<int>(ctx, 1, 1);
      run_lanes(ctx, 1, lanes, body, dx, de, dw, dv, ds);
      auto const u = on_host(ctx, dx), right = on_host(ctx, dv), values = on_host(ctx, dw);
      BOOST_TEST(same(on_host(ctx, ds), status));
      BOOST_TEST(near(values, w, tolerance<double>(rows)));
      BOOST_TEST(
          near(u.transpose() * u, matrix_x<double>::Identity(cols, cols), tolerance<double>(rows)));
      matrix_x<double> const back = u * values.row(0).asDiagonal() * right.transpose() / 8;
      BOOST_TEST(near(back, a, tolerance<double>(rows)));
    }
}

BOOST_AUTO_TEST_CASE(lanes_mix_experts_as_one_lane_does) {
  constexpr index_t k = 4, r = 3, experts = 6, tokens = 5;
  matrix_x<double> const root = random_matrix<double>(40, experts * r, 1);
  matrix_x<double> const moments = root.transpose() * root;
  matrix_x<double> const h = random_matrix<double>(k * r, tokens, 2);
  matrix_x<double> const weights = random_matrix<double>(k, tokens, 3).cwiseAbs();
  matrix_x<int> ids(k, tokens);
  for (index_t t = 0; t < tokens; ++t)
    for (index_t i = 0; i < k; ++i)
      ids(i, t) = t == 3 && i > 1 ? -1 : static_cast<int>((2 * t + i) % experts);
  for (auto const kind : {stiefelx::mixing::orthonormal, stiefelx::mixing::symmetric}) {
    stiefelx::mix_forward_body const body{{kind, 1e-6}, k, r};
    matrix_x<double> gram(k * k, tokens), coefficients(k, tokens), mixed(k * r, tokens);
    matrix_x<int> status(1, tokens);
    matrix_x<double> vectors = h;
    run_one_lane(tokens, body, host_ref(vectors), host_read(ids), host_read(weights),
                 host_read(moments), host_ref(gram), host_ref(coefficients), host_ref(mixed),
                 host_ref(status));
    for (unsigned const lanes : {32u, 64u}) {
      device::context ctx;
      auto dh = on_device(ctx, h);
      auto const dw = on_device(ctx, weights);
      auto const dm = on_device(ctx, moments);
      auto const di = on_device(ctx, ids);
      auto dg = zeros<double>(ctx, k * k, tokens), dc = zeros<double>(ctx, k, tokens);
      auto dy = zeros<double>(ctx, k * r, tokens);
      auto ds = zeros<int>(ctx, 1, tokens);
      run_lanes(ctx, tokens, lanes, body, dh, di, dw, dm, dg, dc, dy, ds);
      BOOST_TEST(same(on_host(ctx, ds), status));
      BOOST_TEST(near(on_host(ctx, dc), coefficients, tolerance<double>(r)));
      BOOST_TEST(near(on_host(ctx, dy), mixed, tolerance<double>(r)));
    }
  }
}

BOOST_AUTO_TEST_CASE(lanes_take_a_mixture_back_as_one_lane_does) {
  expect_mixture_of_one_lane(5, 32);
  expect_mixture_of_one_lane(5, 64);
  // More rows than lanes.
  expect_mixture_of_one_lane(35, 32);
}

BOOST_AUTO_TEST_SUITE_END()
