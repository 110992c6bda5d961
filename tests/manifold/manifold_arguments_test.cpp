// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Allowed and refused overlaps of the manifold functions, the texts of refused shapes, and the flat
// manifold.

#include <stdexcept>
#include <string>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::alias_error;
using stiefelx::euclidean;
using stiefelx::option_error;
using stiefelx::random_stream;
using stiefelx::shape_error;
using stiefelx::stiefel;

auto says(std::string expected) {
  return [expected](std::invalid_argument const& error) {
    if (error.what() == expected) return true;
    BOOST_TEST_MESSAGE("found: " << error.what());
    return false;
  };
}

constexpr index_t n = 6, p = 2;
stiefel const frames{n, p};
euclidean const flat{n, p};

/// A point, two tangents and an output, side by side in one matrix or apart.
template <class Case>
struct world {
  using backend = typename Case::backend;

  world() : frame(orthonormal_frame<double>(n, p, 1)), tangent(tangent_vector(frame, 2)) {}

  template <class A>
  auto up(A const& a) {
    return backend::upload(ctx, a);
  }
  template <class A>
  matrix_x<double> down(A const& a) {
    return backend::download(ctx, a);
  }

  typename Case::context ctx;
  matrix_x<double> frame;
  matrix_x<double> tangent;
  typename Case::matrix x = up(frame);
  typename Case::matrix v = up(tangent);
  typename Case::matrix w = up(matrix_x<double>::Zero(n, p));
  typename Case::matrix big = up(matrix_x<double>::Zero(n + 1, 2 * p));
  typename Case::matrix s = up(matrix_x<double>::Zero(1, 1));
};

}  // namespace

BOOST_AUTO_TEST_SUITE(manifold_arguments)

BOOST_AUTO_TEST_CASE_TEMPLATE(outputs_may_be_the_inputs_that_the_pages_name, Case, double_cases) {
  world<Case> at;
  auto& ctx = at.ctx;
  matrix_x<double> const z = random_matrix<double>(n, p, 3);
  auto const ambient = at.up(z);

  project(ctx, frames, at.x, ambient, at.w);
  auto in_place = at.up(z);
  project(ctx, frames, at.x, in_place, in_place);
  BOOST_TEST(same(at.down(in_place), at.down(at.w)));

  auto gradient = at.up(z);
  riemannian_gradient(ctx, frames, at.x, gradient, gradient);
  BOOST_TEST(same(at.down(gradient), at.down(at.w)));

  auto const y = at.up(orthonormal_frame<double>(n, p, 4));
  transport(ctx, frames, at.x, y, at.v, at.w);
  auto moved = at.up(at.tangent);
  transport(ctx, frames, at.x, y, moved, moved);
  BOOST_TEST(same(at.down(moved), at.down(at.w)));
  // w may also be x: only y is read after v.
  auto point = at.up(at.frame);
  transport(ctx, frames, point, y, at.v, point);
  BOOST_TEST(same(at.down(point), at.down(at.w)));

  retract(ctx, flat, at.x, at.v, at.w);
  point = at.up(at.frame);
  retract(ctx, flat, point, at.v, point);
  BOOST_TEST(same(at.down(point), at.down(at.w)));
  project(ctx, flat, at.x, point, point);
  BOOST_TEST(same(at.down(point), at.down(at.w)));

  // Neighbours in one matrix do not overlap.
  copy(ctx, at.x, at.big.middleRows(0, n).middleCols(0, p));
  project(ctx, frames, at.big.middleRows(0, n).middleCols(0, p), ambient,
          at.big.middleRows(0, n).middleCols(p, p));
  project(ctx, frames, at.x, ambient, at.w);
  BOOST_TEST(same_in_another_layout(at.down(at.big.middleRows(0, n).middleCols(p, p)),
                                    at.down(at.w), tolerance<double>(n, 10)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(refused_overlaps_are_named, Case, double_cases) {
  world<Case> at;
  auto& ctx = at.ctx;
  std::string const either = ", expected the same matrix or separate memory";
  std::string const apart = ", expected separate memory";
  auto const part = [&](index_t row) { return at.big.middleRows(row, n).middleCols(0, p); };

  BOOST_CHECK_EXCEPTION(project(ctx, frames, at.x, at.v, at.x), alias_error,
                        says("project: v overlaps x" + apart));
  BOOST_CHECK_EXCEPTION(project(ctx, frames, at.x, part(0), part(1)), alias_error,
                        says("project: v overlaps z" + either));
  BOOST_CHECK_EXCEPTION(riemannian_gradient(ctx, frames, at.x, part(0), part(1)), alias_error,
                        says("riemannian_gradient: v overlaps g" + either));
  BOOST_CHECK_EXCEPTION(riemannian_gradient(ctx, frames, at.x, at.v, at.x), alias_error,
                        says("riemannian_gradient: v overlaps x" + apart));
  BOOST_CHECK_EXCEPTION(transport(ctx, frames, at.x, at.w, at.v, at.w), alias_error,
                        says("transport: w overlaps y" + apart));
  BOOST_CHECK_EXCEPTION(transport(ctx, frames, at.x, at.w, part(0), part(1)), alias_error,
                        says("transport: w overlaps v" + either));
  random_stream stream{1, 0};
  BOOST_CHECK_EXCEPTION(random_tangent(ctx, frames, stream, at.x, at.x), alias_error,
                        says("random_tangent: v overlaps x" + apart));
  BOOST_TEST(stream.offset == 0U);

  auto const refuse = [&](auto const& m, auto... how) {
    BOOST_CHECK_EXCEPTION(retract(ctx, m, at.x, at.v, at.v, how...), alias_error,
                          says("retract: y overlaps v" + apart));
    BOOST_CHECK_EXCEPTION(retract(ctx, m, at.x, part(0), part(1), how...), alias_error,
                          says("retract: y overlaps v" + apart));
    BOOST_CHECK_EXCEPTION(retract(ctx, m, part(0), at.v, part(1), how...), alias_error,
                          says("retract: y overlaps x" + either));
  };
  refuse(frames);
  refuse(frames, stiefelx::polar_retraction{});
  refuse(frames, stiefelx::cayley_retraction{});
  refuse(flat);
  BOOST_CHECK_EXCEPTION(project(ctx, flat, at.x, part(0), part(1)), alias_error,
                        says("project: v overlaps z" + either));
  BOOST_TEST(same(at.down(at.x), at.frame));
  BOOST_TEST(same(at.down(at.v), at.tangent));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(wrong_shapes_are_refused_by_name, Case, double_cases) {
  world<Case> at;
  auto& ctx = at.ctx;
  random_stream stream{1, 0};
  auto const thin = at.big.middleRows(0, n).middleCols(0, 1);
  auto const flawed = [&](std::string const& function, char const* argument) {
    return says(function + ": " + argument + " is 6x1, expected 6x2");
  };
  auto const on = [&](auto const& m) {
    BOOST_CHECK_EXCEPTION(project(ctx, m, thin, at.v, at.w), shape_error, flawed("project", "x"));
    BOOST_CHECK_EXCEPTION(project(ctx, m, at.x, thin, at.w), shape_error, flawed("project", "z"));
    BOOST_CHECK_EXCEPTION(project(ctx, m, at.x, at.v, at.w.middleCols(0, 1)), shape_error,
                          flawed("project", "v"));
    BOOST_CHECK_EXCEPTION(retract(ctx, m, thin, at.v, at.w), shape_error, flawed("retract", "x"));
    BOOST_CHECK_EXCEPTION(retract(ctx, m, at.x, thin, at.w), shape_error, flawed("retract", "v"));
    BOOST_CHECK_EXCEPTION(retract(ctx, m, at.x, at.v, at.w.middleCols(0, 1)), shape_error,
                          flawed("retract", "y"));
    BOOST_CHECK_EXCEPTION(inner(ctx, m, thin, at.v, at.v, at.s), shape_error, flawed("inner", "x"));
    BOOST_CHECK_EXCEPTION(inner(ctx, m, at.x, thin, at.v, at.s), shape_error, flawed("inner", "u"));
    BOOST_CHECK_EXCEPTION(inner(ctx, m, at.x, at.v, thin, at.s), shape_error, flawed("inner", "v"));
    BOOST_CHECK_EXCEPTION(inner(ctx, m, at.x, at.v, at.v, at.w), shape_error,
                          says("inner: s is 6x2, expected 1x1"));
    BOOST_CHECK_EXCEPTION(random_point(ctx, m, stream, at.w.middleCols(0, 1)), shape_error,
                          flawed("random_point", "x"));
  };
  on(frames);
  on(flat);

  BOOST_CHECK_EXCEPTION(riemannian_gradient(ctx, frames, at.x, thin, at.w), shape_error,
                        flawed("riemannian_gradient", "g"));
  BOOST_CHECK_EXCEPTION(norm(ctx, frames, at.x, thin, at.s), shape_error, flawed("norm", "v"));
  BOOST_CHECK_EXCEPTION(norm(ctx, frames, at.x, at.v, at.w), shape_error,
                        says("norm: s is 6x2, expected 1x1"));
  BOOST_CHECK_EXCEPTION(transport(ctx, frames, at.x, thin, at.v, at.w), shape_error,
                        flawed("transport", "y"));
  BOOST_CHECK_EXCEPTION(transport(ctx, frames, at.x, at.x, thin, at.w), shape_error,
                        flawed("transport", "v"));
  BOOST_CHECK_EXCEPTION(random_tangent(ctx, frames, stream, thin, at.w), shape_error,
                        flawed("random_tangent", "x"));
  BOOST_CHECK_EXCEPTION(retract(ctx, frames, at.x, thin, at.w, stiefelx::polar_retraction{}),
                        shape_error, flawed("retract", "v"));
  BOOST_CHECK_EXCEPTION(retract(ctx, frames, at.x, thin, at.w, stiefelx::cayley_retraction{}),
                        shape_error, flawed("retract", "v"));
  BOOST_CHECK_EXCEPTION(project(ctx, stiefel{2, 3}, at.x, at.v, at.w), shape_error,
                        says("project: the manifold is stiefel{2, 3}, expected 0 <= p <= n"));
  BOOST_CHECK_EXCEPTION(
      retract(ctx, frames, at.x, at.v, at.w, stiefelx::polar_retraction{.iterations = 0}),
      option_error,
      says("retract: polar_retraction::iterations is 0, expected a number of at least 1"));
  BOOST_TEST(stream.offset == 0U);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_flat_manifold_adds_and_measures, Case, double_cases) {
  world<Case> at;
  auto& ctx = at.ctx;
  matrix_x<double> const a = random_matrix<double>(n, p, 5), b = random_matrix<double>(n, p, 6);
  auto const x = at.up(a), v = at.up(b);
  project(ctx, flat, x, v, at.w);
  BOOST_TEST(same(at.down(at.w), b));
  retract(ctx, flat, x, v, at.w);
  BOOST_TEST(same(at.down(at.w), a + b));
  inner(ctx, flat, x, x, v, at.s);
  BOOST_TEST(std::abs(at.down(at.s)(0, 0) - a.cwiseProduct(b).sum()) <
             tolerance<double>(n * p) * a.norm() * b.norm());
  BOOST_TEST(dimension(flat) == n * p);

  random_stream stream{8, 3};
  random_point(ctx, flat, stream, at.w);
  BOOST_TEST(stream.offset == 4U);
  matrix_x<double> const drawn = at.down(at.w);
  BOOST_TEST(drawn.allFinite());
  BOOST_TEST(drawn.norm() > 0.5);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(deduced_functions_fall_back_to_projection, Case, double_cases) {
  world<Case> at;
  auto& ctx = at.ctx;
  auto const y = at.up(orthonormal_frame<double>(n, p, 4));
  transport_or_project(ctx, frames, at.x, y, at.v, at.w);
  matrix_x<double> const own = at.down(at.w);
  transport(ctx, frames, at.x, y, at.v, at.w);
  BOOST_TEST(same(own, at.down(at.w)));
  gradient_or_project(ctx, frames, at.x, y, at.w);
  matrix_x<double> const gradient = at.down(at.w);
  riemannian_gradient(ctx, frames, at.x, y, at.w);
  BOOST_TEST(same(gradient, at.down(at.w)));
  // The flat manifold has neither function, and its projection is the identity.
  transport_or_project(ctx, flat, at.x, y, at.v, at.w);
  BOOST_TEST(same(at.down(at.w), at.tangent));
  gradient_or_project(ctx, flat, at.x, at.v, at.w);
  BOOST_TEST(same(at.down(at.w), at.tangent));
}

BOOST_AUTO_TEST_SUITE_END()
