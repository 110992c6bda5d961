// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Row-major, strided, blocked, fixed-size and unevaluated matrices on the host: each result has the
// entries that plain matrices give.

#include <tuple>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_basis.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_nearest.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::stiefel;

constexpr index_t n = 8, p = 3;
stiefel const m{n, p};

using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using fixed = Eigen::Matrix<double, n, p>;
using strided =
    Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

template <class How>
struct run_retract {
  template <class Ctx, class X, class V, class Y>
  void operator()(Ctx& ctx, X const& x, V const& v, Y&& y) const {
    stiefelx::retract(ctx, m, x, v, y, How{});
  }
};

struct run_project {
  template <class Ctx, class X, class V, class Y>
  void operator()(Ctx& ctx, X const& x, V const& v, Y&& y) const {
    stiefelx::project(ctx, m, x, v, y);
    stiefelx::transport(ctx, m, x, x, v, y);
    stiefelx::riemannian_gradient(ctx, m, x, v, y);
  }
};

struct run_hessian {
  template <class Ctx, class X, class V, class Y>
  void operator()(Ctx& ctx, X const& x, V const& v, Y&& y) const {
    stiefel const canonical{n, p, stiefelx::canonical_metric};
    stiefelx::nearest_point(ctx, m, v, y);
    stiefelx::weingarten(ctx, m, x, v, x, y);
    stiefelx::riemannian_gradient(ctx, canonical, x, v, y);
    stiefelx::riemannian_hessian(ctx, canonical, x, v, x, v, y);
  }
};

struct run_coordinates {
  template <class Ctx, class X, class V, class Y>
  void operator()(Ctx& ctx, X const& x, V const& v, Y&& y) const {
    row_major c(dimension(m), 1);
    stiefelx::tangent_coordinates(ctx, m, x, v, c);
    stiefelx::tangent_vector(ctx, m, x, 2 * c, y);
  }
};

struct run_flat {
  template <class Ctx, class X, class V, class Y>
  void operator()(Ctx& ctx, X const& x, V const& v, Y&& y) const {
    stiefelx::retract(ctx, stiefelx::euclidean{n, p}, x, v, y);
  }
};

struct run_random {
  template <class Ctx, class X, class V, class Y>
  void operator()(Ctx& ctx, X const& x, V const&, Y&& y) const {
    stiefelx::random_stream stream{1, 2};
    stiefelx::random_point(ctx, m, stream, y);
    stiefelx::random_tangent(ctx, m, stream, x, y);
  }
};

using runs =
    std::tuple<run_project, run_hessian, run_coordinates, run_flat, run_random,
               run_retract<stiefelx::qr_retraction>, run_retract<stiefelx::polar_retraction>,
               run_retract<stiefelx::cayley_retraction>>;

}  // namespace

BOOST_AUTO_TEST_SUITE(manifold_layouts)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_layout_gives_the_same_result, Run, runs) {
  stiefelx::host::context ctx;
  Run const run;
  matrix_x<double> const x = orthonormal_frame<double>(n, p, 1);
  matrix_x<double> const v = tangent_vector(x, 2) / 2;
  matrix_x<double> y(n, p);
  run(ctx, x, v, y);
  double const allowed = tolerance<double>(n);

  row_major const xr = x, vr = v;
  row_major yr(n, p);
  run(ctx, xr, vr, yr);
  BOOST_TEST(near(yr, y, allowed));

  matrix_x<double> memory = matrix_x<double>::Zero(2 * n, 2 * p);
  strided ys(memory.data(), n, p, {4 * n, 2});
  run(ctx, x, v, ys);
  BOOST_TEST(near(ys, y, allowed));
  ys.setZero();
  BOOST_TEST(memory.isZero(0));
  strided xs(memory.data(), n, p, {4 * n, 2});
  xs = x;
  run(ctx, xs, v, yr);
  BOOST_TEST(near(yr, y, allowed));

  matrix_x<double> large = matrix_x<double>::Zero(n + 4, 3 * p);
  large.block(1, 0, n, p) = x;
  large.block(2, p, n, p) = v;
  run(ctx, large.block(1, 0, n, p), large.block(2, p, n, p), large.block(3, 2 * p, n, p));
  BOOST_TEST(near(large.block(3, 2 * p, n, p), y, allowed));
  BOOST_TEST(same(large.block(1, 0, n, p), x));
  BOOST_TEST(large.col(2 * p).head(3).isZero(0));

  matrix_x<double> const half = x / 2;
  matrix_x<double> again(n, p);
  run(ctx, half + half, 2 * (v / 2), again);
  BOOST_TEST(near(again, y, allowed));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(fixed_sizes_give_the_same_result, Run, runs) {
  stiefelx::host::context ctx;
  Run const run;
  fixed const x = orthonormal_frame<double>(n, p, 1);
  fixed const v = tangent_vector<double>(x, 2) / 2;
  matrix_x<double> y(n, p);
  run(ctx, matrix_x<double>(x), matrix_x<double>(v), y);
  fixed z = fixed::Zero();
  run(ctx, x, v, z);
  BOOST_TEST(near(z, y, tolerance<double>(n)));
}

BOOST_AUTO_TEST_CASE(an_expression_of_the_output_is_evaluated_before_it_is_written) {
  stiefelx::host::context ctx;
  matrix_x<double> const x = orthonormal_frame<double>(n, p, 1);
  matrix_x<double> const v = tangent_vector(x, 2);
  matrix_x<double> expected(n, p), y = v;
  stiefelx::retract(ctx, m, x, 0.5 * v, expected);
  stiefelx::retract(ctx, m, x, 0.5 * y, y);
  BOOST_TEST(near(y, expected, tolerance<double>(n)));
}

BOOST_AUTO_TEST_CASE(inner_and_norm_take_every_layout) {
  stiefelx::host::context ctx;
  matrix_x<double> const x = orthonormal_frame<double>(n, p, 1);
  matrix_x<double> const v = tangent_vector(x, 2);
  row_major const vr = v;
  fixed const vf = v;
  Eigen::Matrix<double, 1, 1> s;
  double const square = v.squaredNorm();
  auto const is_square = [&] {
    return std::abs(s(0, 0) - square) < tolerance<double>(n * p) * square;
  };
  stiefelx::inner(ctx, m, x, vr, v, s);
  BOOST_TEST(is_square());
  stiefelx::inner(ctx, m, x, vf, 0.5 * (v + v), s);
  BOOST_TEST(is_square());
  stiefelx::norm(ctx, m, x, vr, s);
  s(0, 0) *= s(0, 0);
  BOOST_TEST(is_square());
}

BOOST_AUTO_TEST_SUITE_END()
