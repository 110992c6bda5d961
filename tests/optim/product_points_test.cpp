// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include <boost/test/unit_test.hpp>

#include <cmath>

#include <Eigen/Core>
#include <Eigen/SVD>

#include <stiefelx/host/context.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/host/verbs.hpp>
#include <stiefelx/manifold/product_point.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_random.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/optim/barzilai_borwein.hpp>
#include <stiefelx/optim/conjugate_gradient.hpp>
#include <stiefelx/optim/minimize.hpp>
#include <stiefelx/optim/trust_region.hpp>
#include <support/data.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace stiefelx;
using support::matrix_x;
using matrix = matrix_x<double>;

// Minus the trace of u^T a v for orthonormal u and v of different heights: lowest, minus the sum of
// the leading singular values, at the leading singular subspaces.
struct leading_pairs {
  product_of<stiefel, stiefel> manifold;
  matrix const& a;

  template <class Ctx, class X>
  double cost(Ctx&, X const& x) const {
    return -(std::get<0>(x).transpose() * a * std::get<1>(x)).trace();
  }
  template <class Ctx, class X, class G>
  void gradient(Ctx&, X const& x, G&& g) const {
    std::get<0>(g) = -a * std::get<1>(x);
    std::get<1>(g) = -a.transpose() * std::get<0>(x);
  }
};

constexpr index_t rows = 14, cols = 9, p = 3;

struct setting {
  host::context ctx;
  matrix a = support::random_matrix<double>(rows, cols, 1);
  leading_pairs problem{product_of{stiefel{rows, p}, stiefel{cols, p}}, a};
  matrix u{rows, p}, v{cols, p};
  double best = -Eigen::JacobiSVD<matrix>(a).singularValues().head(p).sum();

  setting() {
    random_stream stream{5};
    random_point(ctx, problem.manifold, stream, std::tie(u, v));
  }
};

template <class Solver>
void check_finds_the_leading_pairs(Solver const& solver) {
  setting s;
  product_point<matrix&, matrix&> x(s.u, s.v);
  minimum const found =
      minimize(s.ctx, s.problem, x, solver, gradient_below{1e-7} || iterations{5000});
  BOOST_TEST((found.reason == stop_reason::gradient_norm));
  // The cost is off by the square of the gradient.
  BOOST_TEST(std::abs(found.last.cost - s.best) <=
             support::tolerance<double>(rows) * std::abs(s.best));
  matrix const one = matrix::Identity(p, p);
  BOOST_TEST((s.u.transpose() * s.u - one).norm() <= support::tolerance<double>(rows));
  BOOST_TEST((s.v.transpose() * s.v - one).norm() <= support::tolerance<double>(rows));
  BOOST_TEST(std::abs((s.u.transpose() * s.a * s.v).trace() + s.best) <=
             support::tolerance<double>(rows) * std::abs(s.best));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(product_points)

BOOST_AUTO_TEST_CASE(verbs_act_on_every_factor) {
  host::context ctx;
  matrix const a = support::random_matrix<double>(5, 2, 1),
               b = support::random_matrix<double>(3, 3, 2);
  product_point const x(a, b);
  auto y = clone(ctx, x), z = clone(ctx, x);
  scale(ctx, 2, y);
  axpy(ctx, -3, x, y);
  BOOST_TEST((std::get<0>(y) + a).norm() <= support::tolerance<double>(1) * a.norm());
  BOOST_TEST((std::get<1>(y) + b).norm() <= support::tolerance<double>(1) * b.norm());
  matrix size(1, 1);
  norm(ctx, x, size);
  BOOST_TEST(std::abs(size(0, 0) - std::hypot(a.norm(), b.norm())) <=
             support::tolerance<double>(19) * size(0, 0));
  fill(ctx, 4, z);
  BOOST_TEST((std::get<0>(z).array() == 4).all());
  BOOST_TEST((std::get<1>(z).array() == 4).all());
  copy(ctx, x, z);
  BOOST_TEST((std::get<0>(z).array() == a.array()).all());
  BOOST_TEST((std::get<1>(z).array() == b.array()).all());
  BOOST_TEST(x.rows() == 19);
}

BOOST_AUTO_TEST_CASE(barzilai_borwein_minimizes_over_a_product) {
  check_finds_the_leading_pairs(barzilai_borwein{});
}
BOOST_AUTO_TEST_CASE(conjugate_gradient_minimizes_over_a_product) {
  check_finds_the_leading_pairs(conjugate_gradient{});
}
BOOST_AUTO_TEST_CASE(trust_region_minimizes_over_a_product_by_differences) {
  check_finds_the_leading_pairs(trust_region{});
}

BOOST_AUTO_TEST_SUITE_END()
