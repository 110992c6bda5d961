// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Geometry against SciPy, pymanopt and geoopt, whose values tests/oracles holds.

#include <complex>
#include <string>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/grassmann_geodesic.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/special_orthogonal.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_exponential.hpp>
#include <stiefelx/manifold/stiefel_hessian.hpp>
#include <stiefelx/manifold/stiefel_logarithm.hpp>
#include <stiefelx/manifold/stiefel_parallel_transport.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <support/backends.hpp>
#include <support/near.hpp>
#include <support/oracle.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using namespace stiefelx;  // functions of a context are not found by its namespace alone

struct metric {
  char const* name;
  double alpha;
};
constexpr metric metrics[] = {
    {"euclidean", euclidean_metric}, {"canonical", canonical_metric}, {"quarter", 0.25}};

/// Values of a file, on the host.
struct values {
  host::context ctx;
  oracle file;
  Eigen::MatrixXd s = Eigen::MatrixXd::Zero(1, 1);

  explicit values(char const* topic) : file(topic) {}

  matrix_x<double> get(std::string const& name) const { return file.get<double>(name); }
};

/// What pymanopt says of a manifold with closed forms.
template <class S, class M>
void check(M const& m, std::string const& name) {
  BOOST_TEST_CONTEXT(name) {
    values v("other_manifolds");
    auto const get = [&](char const* what) { return v.file.get<S>(name + "." + what); };
    matrix_x<S> const x = get("x"), z = get("z"), h = get("h"), u = get("v"), y = get("exp");
    matrix_x<S> w(7, 3);
    double const within = tolerance<S>(7, 4);
    project(v.ctx, m, x, z, w);
    BOOST_TEST(near(w, get("project"), within));
    riemannian_hessian(v.ctx, m, x, z, h, u, w);
    BOOST_TEST(near(w, get("hessian"), within));
    exp(v.ctx, m, x, u, w);
    if constexpr (std::is_same_v<M, grassmann>) {
      // Points are subspaces: compare projectors.
      BOOST_TEST(near(matrix_x<S>(w * w.adjoint()), matrix_x<S>(y * y.adjoint()), within));
      retract(v.ctx, m, x, u, w, polar_retraction{});
      matrix_x<S> const moved = get("retract");
      BOOST_TEST(near(matrix_x<S>(w * w.adjoint()), matrix_x<S>(moved * moved.adjoint()), within));
    } else {
      BOOST_TEST(near(w, y, within));
      retract(v.ctx, m, x, u, w);
      BOOST_TEST(near(w, get("retract"), within));
      transport(v.ctx, m, x, y, u, w);
      if (name == "sphere") BOOST_TEST(near(w, get("transport"), within));
    }
    log(v.ctx, m, x, y, w);
    BOOST_TEST(near(w, get("log"), within));
    distance(v.ctx, m, x, y, v.s);
    BOOST_TEST(near(v.s, v.get(name + ".distance"), within));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(manifold_oracle)

BOOST_AUTO_TEST_CASE(stiefel_agrees_with_pymanopt) {
  values v("stiefel");
  stiefel const m{7, 3};
  auto const x = v.get("x"), z = v.get("z"), h = v.get("h"), u = v.get("v");
  matrix_x<double> w(7, 3);
  double const within = tolerance<double>(7, 4);
  project(v.ctx, m, x, z, w);
  BOOST_TEST(near(w, v.get("project"), within));
  retract(v.ctx, m, x, u, w, qr_retraction{});
  BOOST_TEST(near(w, v.get("retract.qr"), within));
  retract(v.ctx, m, x, u, w, polar_retraction{});
  BOOST_TEST(near(w, v.get("retract.polar"), within));
  retract(v.ctx, m, x, u, w, cayley_retraction{});
  BOOST_TEST(near(w, v.get("retract.cayley"), within));
  weingarten(v.ctx, m, x, u, v.get("normal"), w);
  BOOST_TEST(near(w, v.get("weingarten"), within));
  riemannian_hessian(v.ctx, m, x, z, h, u, w);
  BOOST_TEST(near(w, v.get("hessian"), within));
}

BOOST_AUTO_TEST_CASE(the_euclidean_geodesic_is_that_of_pymanopt_and_geoopt) {
  values v("stiefel");
  matrix_x<double> w(7, 3);
  exp(v.ctx, stiefel{7, 3}, v.get("x"), v.get("d"), w);
  BOOST_TEST(near(w, v.get("exp.pymanopt"), tolerance<double>(7, 4)));
  BOOST_TEST(near(w, v.get("exp.geoopt"), tolerance<double>(7, 4)));
}

BOOST_AUTO_TEST_CASE(geodesics_of_every_metric_are_those_of_dense_exponentials) {
  values v("stiefel");
  auto const check_scalar = [&]<class S>(S, std::string const& kind) {
    matrix_x<S> const x = v.file.get<S>(kind + ".x"), d = v.file.get<S>(kind + ".d");
    matrix_x<S> w(6, 2);
    for (metric const& each : metrics) {
      BOOST_TEST_CONTEXT(kind << " " << each.name) {
        stiefel const m{6, 2, each.alpha};
        matrix_x<S> const y = v.file.get<S>(kind + ".exp." + each.name);
        exp(v.ctx, m, x, d, w);
        BOOST_TEST(near(w, y, tolerance<S>(6, 4)));
        BOOST_TEST(log(v.ctx, m, x, y, w).converged);
        // The tolerance of the iteration's default.
        BOOST_TEST(near(w, d, 1e-10));
      }
    }
  };
  check_scalar(double(), "real");
  check_scalar(std::complex<double>(), "complex");
}

BOOST_AUTO_TEST_CASE(parallel_transport_is_that_of_an_integrator) {
  values v("stiefel");
  auto const x = v.get("x"), d = v.get("d"), u = v.get("v");
  matrix_x<double> y(7, 3), w(7, 3);
  for (metric const& each : metrics) {
    BOOST_TEST_CONTEXT(each.name) {
      stiefel const m{7, 3, each.alpha};
      exp(v.ctx, m, x, d, y);
      transport_along(v.ctx, m, x, d, y, u, w, parallel_transport{});
      // The integrator's tolerance is 1e-13 a step.
      BOOST_TEST(near(w, v.get(std::string("parallel.") + each.name), 1e-11));
    }
  }
}

BOOST_AUTO_TEST_CASE(other_manifolds_agree_with_pymanopt) {
  check<double>(sphere{7, 3}, "sphere");
  check<double>(oblique{7, 3}, "oblique");
  check<double>(grassmann{7, 3}, "grassmann");
  check<std::complex<double>>(grassmann{7, 3}, "complex_grassmann");
}

BOOST_AUTO_TEST_CASE(rotations_agree_with_pymanopt) {
  values v("other_manifolds");
  special_orthogonal const m{4};
  auto const x = v.get("rotations.x"), u = v.get("rotations.v"), y = v.get("rotations.exp");
  matrix_x<double> w(4, 4);
  exp(v.ctx, m, x, u, w);
  BOOST_TEST(near(w, y, tolerance<double>(4, 4)));
  log(v.ctx, m, x, y, w);
  BOOST_TEST(near(w, u, tolerance<double>(4, 8)));
  distance(v.ctx, m, x, y, v.s);
  BOOST_TEST(near(v.s, v.get("rotations.distance"), tolerance<double>(4, 4)));
}

BOOST_AUTO_TEST_SUITE_END()
