// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Points with orthonormal rows: every result is the adjoint of the tall one, and a wide matrix is
// never taken for a point of the tall manifold.

#include <complex>
#include <string>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/row_orthonormal.hpp>
#include <stiefelx/manifold/row_orthonormal_geodesic.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::random_stream;
/// The suite has the manifold's own name.
using rows = stiefelx::row_orthonormal;
using stiefelx::stiefel;

constexpr index_t n = 9, p = 4;

/// What turns matrices does not depend on the precision.
using cases =
    std::tuple<test_case<host_backend, double>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, float>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(row_orthonormal)

BOOST_AUTO_TEST_CASE_TEMPLATE(results_are_the_adjoints_of_the_tall_ones, Case, cases) {
  using S = typename Case::scalar;
  using matrix = matrix_x<S>;
  place<Case> at;
  auto& ctx = at.ctx;
  stiefel const tall{n, p, 0.5};
  rows const wide{tall};
  matrix const frame = orthonormal_frame<S>(n, p, 1), next = orthonormal_frame<S>(n, p, 2);
  matrix const tangent = tangent_vector(frame, 3), ambient = random_matrix<S>(n, p, 4);
  auto const x = at.up(frame), y = at.up(next), v = at.up(tangent), z = at.up(ambient);
  auto const xw = at.up(loop_adjoint(frame)), yw = at.up(loop_adjoint(next)),
             vw = at.up(loop_adjoint(tangent)), zw = at.up(loop_adjoint(ambient));
  auto out = at.up(frame), turned = at.up(loop_adjoint(frame));
  auto const agree = [&](char const* name) {
    matrix const found = at.down(turned), expected = at.down(out);
    BOOST_TEST_CONTEXT(name)
    BOOST_TEST(same_in_another_layout(found, loop_adjoint(expected), tolerance<S>(n, 10)));
  };
  project(ctx, tall, x, z, out);
  project(ctx, wide, xw, zw, turned);
  agree("project");
  riemannian_gradient(ctx, tall, x, z, out);
  riemannian_gradient(ctx, wide, xw, zw, turned);
  agree("riemannian_gradient");
  retract(ctx, tall, x, v, out);
  retract(ctx, wide, xw, vw, turned);
  agree("retract");
  retract(ctx, tall, x, v, out, stiefelx::polar_retraction{.iterations = 9});
  retract(ctx, wide, xw, vw, turned, stiefelx::polar_retraction{.iterations = 9});
  agree("retract by polar");
  matrix const point = at.down(turned);
  BOOST_TEST(
      near(loop_product(point, loop_adjoint(point)), matrix::Identity(p, p), tolerance<S>(n)));
  retract(ctx, tall, x, v, out, stiefelx::cayley_retraction{});
  retract(ctx, wide, xw, vw, turned, stiefelx::cayley_retraction{});
  agree("retract by Cayley");
  transport(ctx, tall, x, y, v, out);
  transport(ctx, wide, xw, yw, vw, turned);
  agree("transport");
  nearest_point(ctx, tall, z, out);
  nearest_point(ctx, wide, zw, turned);
  agree("nearest_point");
  random_stream first{1, 2}, second{1, 2};
  random_point(ctx, tall, first, out);
  random_point(ctx, wide, second, turned);
  agree("random_point");
  random_tangent(ctx, tall, first, x, out);
  random_tangent(ctx, wide, second, xw, turned);
  agree("random_tangent");
  BOOST_TEST(first.offset == second.offset);

  using real = typename Case::real;
  auto s = at.number(real(0)), t = at.number(real(0));
  auto const u = at.up(tangent_vector(frame, 6));
  auto const uw = at.up(loop_adjoint(tangent_vector(frame, 6)));
  inner(ctx, tall, x, u, v, s);
  inner(ctx, wide, xw, uw, vw, t);
  BOOST_TEST(value(ctx, s) == value(ctx, t));
  norm(ctx, tall, x, v, s);
  norm(ctx, wide, xw, vw, t);
  BOOST_TEST(value(ctx, s) == value(ctx, t));
}

BOOST_AUTO_TEST_CASE(geodesics_and_hessians_are_the_adjoints_of_the_tall_ones) {
  using matrix = matrix_x<double>;
  stiefelx::host::context ctx;
  matrix const x = orthonormal_frame<double>(n, p, 1), v = tangent_vector(x, 3) / 8;
  matrix const u = tangent_vector(x, 5), g = random_matrix<double>(n, p, 4);
  matrix const xw = loop_adjoint(x), vw = loop_adjoint(v), uw = loop_adjoint(u),
               gw = loop_adjoint(g);
  matrix out = x, turned = xw;
  for (double const alpha : {stiefelx::euclidean_metric, stiefelx::canonical_metric}) {
    stiefel const tall{n, p, alpha};
    rows const wide{tall};
    riemannian_hessian(ctx, tall, x, g, u, v, out);
    riemannian_hessian(ctx, wide, xw, gw, uw, vw, turned);
    BOOST_TEST(same(turned, loop_adjoint(out)));
    matrix y = x, yw = xw;
    exp(ctx, tall, x, v, y);
    exp(ctx, wide, xw, vw, yw);
    BOOST_TEST(same(yw, loop_adjoint(y)));
    log(ctx, tall, x, y, out);
    auto const found = log(ctx, wide, xw, yw, turned);
    BOOST_TEST(same(turned, loop_adjoint(out)));
    BOOST_TEST(near(turned, vw, 10 * stiefelx::logarithm_options{}.tolerance));
    BOOST_TEST(found.converged);
    matrix s(1, 1), t(1, 1);
    distance(ctx, wide, xw, yw, s);
    norm(ctx, wide, xw, vw, t);
    BOOST_TEST(near(s, t, 10 * stiefelx::logarithm_options{}.tolerance));
    transport_along(ctx, tall, x, v, y, u, out, stiefelx::projection_transport{});
    transport_along(ctx, wide, xw, vw, yw, uw, turned, stiefelx::projection_transport{});
    BOOST_TEST(same(turned, loop_adjoint(out)));
  }
  rows const m{{n, p}};
  weingarten(ctx, m.tall, x, v, g, out);
  weingarten(ctx, m, xw, vw, gw, turned);
  BOOST_TEST(same(turned, loop_adjoint(out)));
  matrix yw = xw;
  Eigen::Matrix<int, 1, 1> bits(0);
  retract(ctx, m, xw, vw, yw, stiefelx::cayley_retraction{});
  inverse_retract(ctx, m, xw, yw, turned, stiefelx::cayley_retraction{}, bits);
  BOOST_TEST(near(turned, vw, tolerance<double>(n, 10)));
  BOOST_TEST(bits(0, 0) == 0);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(outputs_may_be_any_input, Case, double_cases) {
  place<Case> at;
  auto& ctx = at.ctx;
  rows const m{{n, p}};
  matrix_x<double> const frame = orthonormal_frame<double>(n, p, 1);
  matrix_x<double> const step = loop_adjoint<double>(tangent_vector(frame, 3));
  auto const x = at.up(loop_adjoint(frame)), v = at.up(step);
  auto y = at.up(step), same_as_v = at.up(step), same_as_x = at.up(loop_adjoint(frame));
  retract(ctx, m, x, v, y);
  retract(ctx, m, x, same_as_v, same_as_v);
  retract(ctx, m, same_as_x, v, same_as_x);
  BOOST_TEST(same(at.down(same_as_v), at.down(y)));
  BOOST_TEST(same(at.down(same_as_x), at.down(y)));
}

BOOST_AUTO_TEST_CASE(wide_points_satisfy_the_concept_and_have_the_dimensions) {
  using stiefelx::host::context;
  static_assert(stiefelx::ManifoldOn<rows, context, matrix_x<double>>);
  static_assert(dimension(rows{{5, 2}}) == dimension(stiefel{5, 2}));
  static_assert(complex_dimension(rows{{5, 2}}) == complex_dimension(stiefel{5, 2}));
  BOOST_TEST(stiefelx::injectivity_radius(rows{{5, 2}}) ==
             stiefelx::injectivity_radius(stiefel{5, 2}));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_matrix_of_the_other_kind_is_refused_by_name, Case, double_cases) {
  place<Case> at;
  auto& ctx = at.ctx;
  stiefel const tall{6, 2};
  rows const wide{tall};
  auto x = at.up(orthonormal_frame<double>(6, 2, 1));
  auto xw = at.up(loop_adjoint(orthonormal_frame<double>(6, 2, 1)));
  std::string const hint =
      "x is 2x6, expected 6x2; points with orthonormal rows are those of "
      "row_orthonormal{stiefel{6, 2}}";
  BOOST_TEST(message_of([&] { project(ctx, tall, xw, xw, xw); }) == "project: " + hint);
  BOOST_TEST(message_of([&] { retract(ctx, tall, xw, xw, xw); }) == "retract: " + hint);
  random_stream stream{1, 0};
  BOOST_TEST(message_of([&] { random_point(ctx, tall, stream, xw); }) == "random_point: " + hint);
  BOOST_TEST(message_of([&] { project(ctx, tall, xw.middleCols(0, 3), xw, xw); }) ==
             "project: x is 2x3, expected 6x2");
  std::string const found = " is 6x2, expected 2x6";
  BOOST_TEST(message_of([&] { project(ctx, wide, x, xw, xw); }) == "project: x" + found);
  BOOST_TEST(message_of([&] { project(ctx, wide, xw, x, xw); }) == "project: z" + found);
  BOOST_TEST(message_of([&] { project(ctx, wide, xw, xw, x); }) == "project: v" + found);
  BOOST_TEST(message_of([&] { retract(ctx, wide, xw, x, xw); }) == "retract: v" + found);
  BOOST_TEST(message_of([&] { random_point(ctx, wide, stream, x); }) == "random_point: x" + found);
  BOOST_TEST(stream.offset == 0U);
  BOOST_TEST(message_of([&] { project(ctx, rows{{2, 6}}, x, x, x); }) ==
             "project: the manifold is stiefel{2, 6}, expected 0 <= p <= n");
}

BOOST_AUTO_TEST_SUITE_END()
