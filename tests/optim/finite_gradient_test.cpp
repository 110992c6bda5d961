// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which gradients optimizers take: finite ones whose squares can be summed.

#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <type_traits>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_metric.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/finite_gradient.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>

namespace {

using namespace support;
using stiefelx::stiefel;

/// float, double and complex, on both backends where the sum is formed in another way.
using few_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
               test_case<host_backend, std::complex<double>>, test_case<archetype_backend, float>,
               test_case<archetype_backend, std::complex<double>>>;

/// Second moments in float overflow first.
using float_cases = std::tuple<test_case<host_backend, float>, test_case<archetype_backend, float>>;

/// Norm of the largest gradient that is taken.
template <class S>
double largest_norm() {
  return std::sqrt(stiefelx::largest_squared_gradient<matrix_x<S>>);
}

/// A gradient of the given norm.
template <class S>
matrix_x<S> sized(index_t rows, index_t cols, double norm) {
  matrix_x<S> const g = random_matrix<S>(rows, cols, 7);
  return g * static_cast<stiefelx::real_of_t<S>>(norm / static_cast<double>(g.norm()));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(finite_gradient)

BOOST_AUTO_TEST_CASE_TEMPLATE(the_squared_norm_decides, Case, few_cases) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  place<Case> p;
  auto const taken = [&](matrix_x<S> const& g) {
    auto status = status_matrix<typename Case::backend>(p.ctx);
    double const finite = value(p.ctx, stiefelx::finite_gradient(p.ctx, p.up(g), status));
    BOOST_TEST(status_value(p.ctx, status) == (finite == 0 ? stiefelx::not_finite : 0));
    return finite;
  };
  double const most = largest_norm<S>();
  for (double share : {0.0, 1e-30, 1e-3, 0.999})
    BOOST_TEST(taken(sized<S>(5, 3, share * most)) == 1);
  for (double share : {1.001, 2.001, 1e3}) BOOST_TEST(taken(sized<S>(5, 3, share * most)) == 0);
  BOOST_TEST(taken(matrix_x<S>(4, 0)) == 1);
  using limits = std::numeric_limits<real>;
  for (real bad : {limits::quiet_NaN(), limits::infinity(), -limits::infinity(), limits::max()})
    for (index_t k = 0; k < 15; ++k) {
      matrix_x<S> g = random_matrix<S>(5, 3, 1);
      g(k % 5, k / 5) = S(bad);
      BOOST_TEST(taken(g) == 0);
      if constexpr (!std::is_floating_point_v<S>) {
        g(k % 5, k / 5) = S(0, bad);
        BOOST_TEST(taken(g) == 0);
      }
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(moments_of_the_largest_gradient_stay_finite, Case, float_cases) {
  using S = typename Case::scalar;
  place<Case> p;
  // The canonical metric makes of a tangent gradient x a, a skew, one of twice its length.
  stiefel const m{4, 4, stiefelx::canonical_metric};
  matrix_x<S> const start = orthonormal_frame<S>(4, 4, 1);
  matrix_x<S> skew = random_matrix<S>(4, 4, 2);
  skew -= skew.transpose().eval();
  matrix_x<S> direction = start * skew;
  direction /= direction.norm();
  for (double share : {0.999, 1.001}) {
    matrix_x<S> const g = direction * static_cast<S>(share * largest_norm<S>());
    auto x = p.up(start), y = p.up(start);
    stiefelx::riemannian_adam adam(p.ctx, m, x, {.learning_rate = 0.1, .beta2 = 0});
    stiefelx::adamw plain(p.ctx, y, {.learning_rate = 0.1, .beta2 = 0});
    for (int t = 0; t < 3; ++t) {
      adam.step(p.ctx, x, p.up(g));
      plain.step(p.ctx, y, p.up(g));
      BOOST_TEST(std::isfinite(value(p.ctx, adam.second_moment())));
      BOOST_TEST(p.down(adam.first_moment()).allFinite());
      BOOST_TEST(p.down(plain.second_moment()).allFinite());
      BOOST_TEST(p.down(plain.first_moment()).allFinite());
    }
    // What is taken moves, what is refused does not.
    BOOST_TEST(bool(same(p.down(x), start)) == (share > 1));
    BOOST_TEST(bool(same(p.down(y), start)) == (share > 1));
  }
}

BOOST_AUTO_TEST_SUITE_END()
