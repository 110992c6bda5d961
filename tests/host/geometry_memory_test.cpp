// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// No function of the Stiefel manifold has an n x n temporary, and none allocates after its first
// call. Bytes of the heap are counted, and those that the arena holds.

#include <cstdlib>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/drift.hpp>
#include <stiefelx/manifold/generalized_stiefel.hpp>
#include <stiefelx/manifold/generalized_stiefel_retraction.hpp>
#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/grassmann_geodesic.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/row_orthonormal.hpp>
#include <stiefelx/manifold/scaled_stiefel.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_basis.hpp>
#include <stiefelx/manifold/stiefel_cayley_iteration.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_inverse_pade.hpp>
#include <stiefelx/manifold/stiefel_inverse_polar_light.hpp>
#include <stiefelx/manifold/stiefel_inverse_retraction.hpp>
#include <stiefelx/manifold/stiefel_logarithm.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/manifold/stiefel_pade.hpp>
#include <stiefelx/manifold/stiefel_parallel_transport.hpp>
#include <stiefelx/manifold/stiefel_polar_light.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

#include "counted_heap.hpp"

namespace {

using namespace support;
using stiefelx::random_stream;
using stiefelx::row_orthonormal;
using stiefelx::stiefel;
using stiefelx::host::context;

constexpr index_t n = 1500, p = 5;
constexpr long square = n * n * sizeof(double);
// Forty matrices of the size of a point and forty small ones; a square one is 300 of the former.
constexpr long allowed = (40 * n * p + 40 * p * p) * sizeof(double);
static_assert(7 * allowed < square);

/// Runs a function in a context of its own and checks what it took from the heap and the arena.
template <class F>
void expect_thin(char const* name, F const& function) {
  context ctx;
  BOOST_TEST_CONTEXT(name) {
    long const before = heap_bytes;
    function(ctx);
    // The arena grows in chunks that double, and joins them once: at most four times its peak.
    BOOST_TEST(heap_bytes - before <= 4 * allowed);
    BOOST_TEST(static_cast<long>(ctx.memory.capacity()) <= allowed);
    BOOST_TEST(ctx.memory.live() == 0U);
    long const calls = heap_calls;
    function(ctx);
    BOOST_TEST(heap_calls - calls == 0);
  }
}

/// Matrices that the functions read and write.
struct world {
  matrix_x<double> x = orthonormal_frame<double>(n, p, 1);
  matrix_x<double> v = tangent_vector<double>(x, 2) / 60;
  matrix_x<double> u = tangent_vector<double>(x, 3) / 60;
  matrix_x<double> g = random_matrix<double>(n, p, 4);
  matrix_x<double> y = x, w = x;
  matrix_x<double> s = matrix_x<double>::Zero(1, 1);
};

}  // namespace

BOOST_AUTO_TEST_SUITE(geometry_memory)

BOOST_AUTO_TEST_CASE(the_counters_see_the_heap_and_the_arena) {
  long const calls = heap_calls, bytes = heap_bytes;
  void* volatile block = std::malloc(12345);
  std::free(block);
  BOOST_TEST(heap_calls - calls == 1);
  BOOST_TEST(heap_bytes - bytes == 12345);
  context ctx;
  {
    auto const full = stiefelx::host::scratch<double>(ctx, n, n);
  }
  BOOST_TEST(static_cast<long>(ctx.memory.capacity()) >= square);
  BOOST_TEST(heap_bytes - bytes >= square);
}

BOOST_AUTO_TEST_CASE(metrics_and_hessians_are_thin) {
  world at;
  random_stream stream{1, 0};
  for (double const alpha : {stiefelx::euclidean_metric, stiefelx::canonical_metric}) {
    stiefel const m{n, p, alpha};
    expect_thin("project", [&](auto& ctx) { project(ctx, m, at.x, at.g, at.w); });
    expect_thin("inner", [&](auto& ctx) { inner(ctx, m, at.x, at.u, at.v, at.s); });
    expect_thin("norm", [&](auto& ctx) { norm(ctx, m, at.x, at.v, at.s); });
    expect_thin("riemannian_gradient",
                [&](auto& ctx) { riemannian_gradient(ctx, m, at.x, at.g, at.w); });
    expect_thin("riemannian_hessian",
                [&](auto& ctx) { riemannian_hessian(ctx, m, at.x, at.g, at.u, at.v, at.w); });
    expect_thin("random_tangent", [&](auto& ctx) { random_tangent(ctx, m, stream, at.x, at.w); });
  }
  stiefel const m{n, p};
  expect_thin("weingarten", [&](auto& ctx) { weingarten(ctx, m, at.x, at.v, at.g, at.w); });
  expect_thin("random_point", [&](auto& ctx) { random_point(ctx, m, stream, at.y); });
  expect_thin("nearest_point", [&](auto& ctx) { nearest_point(ctx, m, at.g, at.y); });
  matrix_x<double> c = matrix_x<double>::Zero(dimension(m), 1);
  expect_thin("tangent_coordinates",
              [&](auto& ctx) { tangent_coordinates(ctx, m, at.x, at.v, c); });
  expect_thin("tangent_vector",
              [&](auto& ctx) { stiefelx::tangent_vector(ctx, m, at.x, c, at.w); });
}

BOOST_AUTO_TEST_CASE(retractions_and_their_inverses_are_thin) {
  world at;
  stiefel const m{n, p};
  auto const expect = [&](char const* name, auto how) {
    expect_thin(name, [&](auto& ctx) { retract(ctx, m, at.x, at.v, at.y, how); });
    if constexpr (requires(context& ctx) { inverse_retract(ctx, m, at.x, at.y, at.w, how); })
      expect_thin(name, [&](auto& ctx) { inverse_retract(ctx, m, at.x, at.y, at.w, how); });
  };
  expect("QR", stiefelx::qr_retraction{});
  expect("polar", stiefelx::polar_retraction{});
  expect("Cayley", stiefelx::cayley_retraction{});
  expect("Cayley by iteration", stiefelx::cayley_iteration_retraction{});
  expect("Pade", stiefelx::pade_retraction{});
  expect("polar-light", stiefelx::polar_light_retraction{});
  expect("exponential", stiefelx::exponential_retraction{});
}

BOOST_AUTO_TEST_CASE(geodesics_and_transports_are_thin) {
  world at;
  for (double const alpha : {stiefelx::euclidean_metric, stiefelx::canonical_metric}) {
    stiefel const m{n, p, alpha};
    expect_thin("exp", [&](auto& ctx) { exp(ctx, m, at.x, at.v, at.y); });
    expect_thin("log", [&](auto& ctx) { log(ctx, m, at.x, at.y, at.w); });
    expect_thin("distance", [&](auto& ctx) { distance(ctx, m, at.x, at.y, at.s); });
  }
  stiefel const m{n, p};
  expect_thin("transport", [&](auto& ctx) { transport(ctx, m, at.x, at.y, at.v, at.w); });
  auto const expect = [&](char const* name, auto how) {
    expect_thin(name,
                [&](auto& ctx) { transport_along(ctx, m, at.x, at.v, at.y, at.u, at.w, how); });
  };
  expect("projection", stiefelx::projection_transport{});
  expect("differentiated QR", stiefelx::differentiated<stiefelx::qr_retraction>{});
  expect("differentiated polar", stiefelx::differentiated<stiefelx::polar_retraction>{});
  expect("differentiated Cayley", stiefelx::differentiated<stiefelx::cayley_retraction>{});
  expect("isometric Cayley", stiefelx::cayley_transport{});
  expect("parallel", stiefelx::parallel_transport{});
}

/// The functions that these manifolds share.
template <class M>
void expect_thin_manifold(world& at, M const& m) {
  random_stream stream{1, 0};
  expect_thin("random_point", [&](auto& ctx) { random_point(ctx, m, stream, at.x); });
  expect_thin("random_tangent", [&](auto& ctx) { random_tangent(ctx, m, stream, at.x, at.v); });
  expect_thin("project", [&](auto& ctx) { project(ctx, m, at.x, at.g, at.w); });
  expect_thin("inner", [&](auto& ctx) { inner(ctx, m, at.x, at.v, at.v, at.s); });
  expect_thin("riemannian_gradient",
              [&](auto& ctx) { riemannian_gradient(ctx, m, at.x, at.g, at.w); });
  expect_thin("riemannian_hessian",
              [&](auto& ctx) { riemannian_hessian(ctx, m, at.x, at.g, at.u, at.v, at.w); });
  expect_thin("nearest_point", [&](auto& ctx) { nearest_point(ctx, m, at.g, at.y); });
  expect_thin("retract", [&](auto& ctx) { retract(ctx, m, at.x, at.v, at.y); });
  expect_thin("transport", [&](auto& ctx) { transport(ctx, m, at.x, at.y, at.v, at.w); });
}

BOOST_AUTO_TEST_CASE(other_manifolds_are_thin) {
  world at;
  auto const expect_geodesics = [&](auto const& m) {
    expect_thin_manifold(at, m);
    expect_thin("exp", [&](auto& ctx) { exp(ctx, m, at.x, at.v, at.y); });
    expect_thin("log", [&](auto& ctx) { log(ctx, m, at.x, at.y, at.w); });
    expect_thin("distance", [&](auto& ctx) { distance(ctx, m, at.x, at.y, at.s); });
    expect_thin("transport_along",
                [&](auto& ctx) { transport_along(ctx, m, at.x, at.v, at.y, at.v, at.w); });
  };
  BOOST_TEST_CONTEXT("grassmann") expect_geodesics(stiefelx::grassmann{n, p});
  BOOST_TEST_CONTEXT("oblique") expect_geodesics(stiefelx::oblique{n, p});
  BOOST_TEST_CONTEXT("sphere") expect_geodesics(stiefelx::sphere{n, p});
  auto const twice = [](auto& ctx, auto const& x, auto& bx) {
    copy(ctx, x, bx);
    scale(ctx, 2, bx);
  };
  auto const half = [](auto& ctx, auto const& g, auto& y) {
    copy(ctx, g, y);
    scale(ctx, 0.5, y);
  };
  BOOST_TEST_CONTEXT("scaled_stiefel") expect_thin_manifold(at, stiefelx::scaled_stiefel{n, p, 2});
  BOOST_TEST_CONTEXT("generalized_stiefel")
  expect_thin_manifold(at, stiefelx::generalized_stiefel{n, p, twice});
  BOOST_TEST_CONTEXT("generalized_stiefel with a solver")
  expect_thin_manifold(at, stiefelx::generalized_stiefel{n, p, twice, half});
}

BOOST_AUTO_TEST_CASE(drift_and_its_repair_are_thin) {
  world at;
  stiefel const m{n, p};
  expect_thin("drift", [&](auto& ctx) { drift(ctx, m, at.x, at.s); });
  expect_thin("restabilize", [&](auto& ctx) { restabilize(ctx, m, at.x); });
}

BOOST_AUTO_TEST_CASE(points_with_orthonormal_rows_are_thin) {
  world at;
  row_orthonormal const m{{n, p}};
  matrix_x<double> const x = at.x.transpose(), v = at.v.transpose();
  matrix_x<double> y = x;
  expect_thin("project", [&](auto& ctx) { project(ctx, m, x, v, y); });
  expect_thin("retract", [&](auto& ctx) { retract(ctx, m, x, v, y); });
  expect_thin("nearest_point", [&](auto& ctx) { nearest_point(ctx, m, v, y); });
}

BOOST_AUTO_TEST_SUITE_END()
