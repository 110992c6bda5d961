// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Orthogonalization and reverse rules against SciPy and PyTorch, whose values tests/oracles holds.

#include <algorithm>
#include <complex>
#include <string>
#include <tuple>
#include <type_traits>

#include <Eigen/LU>
#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/lyapunov.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/skew_exponential.hpp>
#include <stiefelx/orth/svd.hpp>
#include <stiefelx/orth/unitary_logarithm.hpp>
#include <stiefelx/orth/vjp.hpp>
#include <support/backends.hpp>
#include <support/near.hpp>
#include <support/oracle.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;  // functions of a context are not found by its namespace alone

using cases =
    std::tuple<test_case<host_backend, double>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

/// A file of values and the names of a scalar's part of it.
template <class Case>
struct values {
  using S = typename Case::scalar;

  place<Case> at;
  oracle file;

  explicit values(char const* topic) : file(topic) {}

  static std::string full(std::string const& name) {
    return (std::is_floating_point_v<S> ? "real." : "complex.") + name;
  }
  matrix_x<S> get(std::string const& name) const { return file.get<S>(full(name)); }
  auto up(std::string const& name) { return at.up(get(name)); }
};

// The matrix of orthogonalization.txt has condition number 1000.
constexpr double condition = 1e3;

}  // namespace

BOOST_AUTO_TEST_SUITE(outside_oracle)

BOOST_AUTO_TEST_CASE_TEMPLATE(qr_is_that_of_lapack_with_a_positive_diagonal, Case, cases) {
  using S = typename Case::scalar;
  values<Case> v("orthogonalization");
  auto const a = v.up("a");
  auto q = v.up("q"), r = v.up("r");
  double const within = tolerance<S>(12, condition);
  auto const check = [&](char const* method) {
    BOOST_TEST_CONTEXT(method) {
      BOOST_TEST(near(v.at.down(q), v.get("q"), within));
      BOOST_TEST(near(v.at.down(r), v.get("r"), within));
    }
    fill(v.at.ctx, 0, q);
    fill(v.at.ctx, 0, r);
  };
  fill(v.at.ctx, 0, q);
  gram_schmidt(v.at.ctx, a, q, r);
  check("gram_schmidt");
  householder_qr(v.at.ctx, a, q, r);
  check("householder_qr");
  cholesky_qr(v.at.ctx, a, q, r);
  check("cholesky_qr");
}

BOOST_AUTO_TEST_CASE_TEMPLATE(polar_factor_and_singular_values_are_those_of_scipy, Case, cases) {
  using S = typename Case::scalar;
  values<Case> v("orthogonalization");
  auto const a = v.up("a");
  auto q = v.up("q"), right = v.up("m");
  polar(v.at.ctx, a, q);
  BOOST_TEST(near(v.at.down(q), v.get("polar"), tolerance<S>(12, condition)));
  auto w = v.at.up(matrix_x<typename Case::real>::Zero(1, 4));
  svd(v.at.ctx, a, q, w, right);
  matrix_x<typename Case::real> const expected =
      v.file.template get<double>(v.full("singular_values"));
  BOOST_TEST(near(v.at.down(w), expected, tolerance<S>(12)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(equations_and_exponentials_are_those_of_scipy, Case, cases) {
  using S = typename Case::scalar;
  values<Case> v("orthogonalization");
  auto s = v.up("lyapunov");
  fill(v.at.ctx, 0, s);
  lyapunov(v.at.ctx, v.up("m"), v.up("c"), s);
  // The eigenvalues of m are away from the imaginary axis by more than a fourth of its norm.
  BOOST_TEST(near(v.at.down(s), v.get("lyapunov"), tolerance<S>(4, 20)));
  auto const skew = v.up("skew");
  auto e = v.up("skew");
  stiefelx::skew_exponential(v.at.ctx, skew, e);
  BOOST_TEST(near(v.at.down(e), v.get("skew_exponential"), tolerance<S>(5)));
  auto back = v.up("skew");
  fill(v.at.ctx, 0, back);
  stiefelx::unitary_logarithm(v.at.ctx, v.up("skew_exponential"), back);
  BOOST_TEST(near(v.at.down(back), v.get("skew"), tolerance<S>(5, 4)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(reverse_rules_of_qr_are_those_of_pytorch, Case, cases) {
  using S = typename Case::scalar;
  values<Case> v("reverse_rules");
  for (std::string const shape : {"tall.", "square.", "wide."}) {
    BOOST_TEST_CONTEXT(shape) {
      matrix_x<S> const a = v.get(shape + "a");
      index_t const k = std::min(a.rows(), a.cols());
      auto first = v.at.up(a.leftCols(k));
      auto q = v.at.up(a.leftCols(k)), triangle = v.at.up(a.topLeftCorner(k, k));
      householder_qr(v.at.ctx, first, q, triangle);
      matrix_x<S> const frame = v.at.down(q);
      auto const r = v.at.up(matrix_x<S>(frame.adjoint() * a));
      auto da = v.at.up(a);
      qr_vjp(v.at.ctx, q, r, v.up(shape + "dq"), v.up(shape + "dr"), da);
      matrix_x<S> const factor = (frame.adjoint() * a).leftCols(k);
      double const size = factor.norm() * factor.inverse().norm();
      BOOST_TEST(near(v.at.down(da), v.get(shape + "da"), tolerance<S>(7, size * size)));
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(reverse_rules_of_polar_and_cayley_are_those_of_pytorch, Case, cases) {
  using S = typename Case::scalar;
  values<Case> v("reverse_rules");
  auto const a = v.up("polar.a");
  auto q = v.up("polar.a"), da = v.up("polar.a");
  polar(v.at.ctx, a, q);
  polar_vjp(v.at.ctx, a, q, v.up("polar.dq"), da);
  BOOST_TEST(near(v.at.down(da), v.get("polar.da"), tolerance<S>(7, 10)));

  auto const x = v.up("cayley.x"), step = v.up("cayley.v");
  auto y = v.up("cayley.x"), dx = v.up("cayley.x"), dv = v.up("cayley.x");
  retract(v.at.ctx, stiefelx::stiefel{7, 3}, x, step, y, stiefelx::cayley_retraction{});
  cayley_vjp(v.at.ctx, x, step, y, v.up("cayley.dy"), dv, dx);
  BOOST_TEST(near(v.at.down(dv), v.get("cayley.dv"), tolerance<S>(7, 10)));
  BOOST_TEST(near(v.at.down(dx), v.get("cayley.dx"), tolerance<S>(7, 10)));
}

BOOST_AUTO_TEST_SUITE_END()
