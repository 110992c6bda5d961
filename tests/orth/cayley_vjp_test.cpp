// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The reverse rule of the Cayley retraction: central differences, the dense n x n transform, laws.

#include <cmath>
#include <complex>
#include <limits>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/cayley_vjp.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/gradient_check.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

#include "linear_oracle.hpp"

namespace {

using namespace support;
using stiefelx::not_finite;

/// Every scalar and both backends, each once: for laws that need not see every pair.
using law_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

struct extent {
  index_t rows, cols;
};

std::vector<extent> const extents{{1, 1}, {5, 1}, {4, 4}, {7, 3}};

/// A point, a tangent vector, where the retraction goes and a cotangent of that.
template <class S>
struct sample {
  matrix_x<S> x, v, y, dy;
};

template <class S>
matrix_x<S> skew_matrix(matrix_x<S> const& x, matrix_x<S> const& v) {
  matrix_x<S> const d = v - loop_product(x, loop_product(loop_adjoint(x), v)) * S(0.5);
  return loop_product(d, loop_adjoint(x)) - loop_product(x, loop_adjoint(d));
}

template <class S>
matrix_x<S> identity(index_t n) {
  return matrix_x<S>::Identity(n, n);
}

template <class S>
matrix_x<S> dense_retraction(matrix_x<S> const& x, matrix_x<S> const& v) {
  matrix_x<S> const half = skew_matrix(x, v) * S(0.5), one = identity<S>(x.rows());
  matrix_x<S> const right = x + loop_product(half, x);
  return matrix_x<S>(one - half).partialPivLu().solve(right);
}

template <class S>
sample<S> sample_of(extent size) {
  using wide = stiefelx::wide_t<S>;
  matrix_x<wide> const x = orthonormal_frame<wide>(size.rows, size.cols, 1);
  matrix_x<wide> const v = tangent_vector<wide>(x, 2) * wide(0.5);
  return {loop_cast<S>(x), loop_cast<S>(v), loop_cast<S>(dense_retraction(x, v)),
          random_matrix<S>(size.rows, size.cols, 3)};
}

template <class S>
struct gradient {
  matrix_x<S> dv, dx;
  int status;
};

template <class Case>
gradient<typename Case::scalar> reverse(sample<typename Case::scalar> const& at,
                                        bool in_place = false) {
  place<Case> here;
  auto const x = here.up(at.x), v = here.up(at.v), y = here.up(at.y), dy = here.up(at.dy);
  auto dv = here.up(at.dy), dx = here.up(at.dy);
  auto status = status_matrix<typename Case::backend>(here.ctx);
  if (in_place)
    stiefelx::cayley_vjp(here.ctx, x, v, y, dv, dv, dx, status);
  else
    stiefelx::cayley_vjp(here.ctx, x, v, y, dy, dv, dx, status);
  return {here.down(dv), here.down(dx), status_value(here.ctx, status)};
}

/// Both cotangents from the differential of the dense transform, entry by entry.
template <class S>
gradient<S> oracle(sample<S> const& at) {
  auto const& [x, v, y, dy] = at;
  index_t const n = x.rows();
  matrix_x<S> const w = skew_matrix(x, v), one = identity<S>(n);
  matrix_x<S> const inverse = matrix_x<S>(one - w * S(0.5)).partialPivLu().inverse();
  gradient<S> found{x * S(0), x * S(0), 0};
  for (auto const& unit : units<S>(n, x.cols())) {
    auto const along = [&](matrix_x<S> const& dw, matrix_x<S> const& moved) {
      matrix_x<S> const right =
          loop_product(dw, matrix_x<S>(x + y)) * S(0.5) + moved + loop_product(w, moved) * S(0.5);
      return S(static_cast<stiefelx::real_of_t<S>>(real_inner(dy, loop_product(inverse, right))));
    };
    // W is linear in v; in x it is a cubic, whose differential is that of its three factors.
    matrix_x<S> const dw_v = skew_matrix(x, unit);
    matrix_x<S> const c = loop_product(loop_adjoint(x), v);
    matrix_x<S> const d = v - loop_product(x, c) * S(0.5);
    matrix_x<S> const moved_d =
        (loop_product(unit, c) + loop_product(x, loop_product(loop_adjoint(unit), v))) * S(-0.5);
    matrix_x<S> const half =
        loop_product(moved_d, loop_adjoint(x)) + loop_product(d, loop_adjoint(unit));
    found.dv += unit * along(dw_v, unit * S(0));
    found.dx += unit * along(half - loop_adjoint(half), unit);
  }
  return found;
}

template <class S>
double size_of(matrix_x<S> const& a) {
  return static_cast<double>(frobenius(table(a)));
}

template <class S>
void falls() {
  for (auto const size : {extent{5, 1}, extent{4, 4}, extent{7, 3}})
    BOOST_TEST_CONTEXT(size.rows << "x" << size.cols) {
      auto const at = sample_of<S>(size);
      auto const found = reverse<test_case<host_backend, S>>(at);
      matrix_x<S> const direction = random_matrix<S>(size.rows, size.cols, 4);
      auto const along_v = [&](double h) {
        return real_inner(at.dy, dense_retraction<S>(at.x, at.v + direction * S(h)));
      };
      auto const along_x = [&](double h) {
        return real_inner(at.dy, dense_retraction<S>(at.x + direction * S(h), at.v));
      };
      BOOST_TEST(falls_as_square(along_v, real_inner(found.dv, direction), 6));
      BOOST_TEST(falls_as_square(along_x, real_inner(found.dx, direction), 6));
    }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cayley_vjp)

BOOST_AUTO_TEST_CASE(central_differences_approach_the_derivative_as_the_square) {
  falls<double>();
  falls<std::complex<double>>();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_entry_is_that_of_the_dense_transform, Case, complex_cases) {
  using S = typename Case::scalar;
  using wide = stiefelx::wide_t<S>;
  for (auto const size : extents) BOOST_TEST_CONTEXT(size.rows << "x" << size.cols) {
      auto const at = sample_of<S>(size);
      auto fine = sample_of<wide>(size);
      fine.dy = loop_cast<wide>(at.dy);
      auto const expected = oracle(fine);
      auto const found = reverse<Case>(at);
      double const length = size_of(at.dy);
      BOOST_TEST(found.status == 0);
      BOOST_TEST(near(found.dv, expected.dv, tolerance<S>(size.rows), length));
      BOOST_TEST(near(found.dx, expected.dx, tolerance<S>(size.rows), length));
    }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_rule_is_that_of_the_library_retraction, Case, double_cases) {
  auto const at = sample_of<double>({7, 3});
  auto const found = reverse<Case>(at);
  matrix_x<double> const direction = tangent_vector<double>(at.x, 4);
  place<Case> here;
  auto const x = here.up(at.x);
  auto const loss = [&](double h) {
    auto const v = here.up(at.v + h * direction);
    auto y = here.up(at.y);
    stiefelx::retract(here.ctx, stiefelx::stiefel{7, 3}, x, v, y, stiefelx::cayley_retraction{});
    return real_inner(at.dy, here.down(y));
  };
  BOOST_TEST(falls_as_square(loss, real_inner(found.dv, direction)));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_rule_is_linear_in_the_cotangent, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents) {
    auto first = sample_of<S>(size), second = first, both = first;
    second.dy = random_matrix<S>(size.rows, size.cols, 9);
    both.dy = first.dy * S(2) - second.dy;
    auto const a = reverse<Case>(first), b = reverse<Case>(second), c = reverse<Case>(both);
    double const length = 2 * size_of(first.dy) + size_of(second.dy);
    BOOST_TEST(near(c.dv, matrix_x<S>(a.dv * S(2) - b.dv), tolerance<S>(size.rows), length));
    BOOST_TEST(near(c.dx, matrix_x<S>(a.dx * S(2) - b.dx), tolerance<S>(size.rows), length));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_cotangent_normal_to_the_frames_gives_none_for_the_vector, Case,
                              law_cases) {
  using S = typename Case::scalar;
  for (auto const size : extents) {
    auto at = sample_of<S>(size);
    matrix_x<S> const z = random_matrix<S>(size.cols, size.cols, 4);
    at.dy = loop_product(at.y, matrix_x<S>(z + loop_adjoint(z)));
    BOOST_TEST(near(reverse<Case>(at).dv, at.x * S(0), tolerance<S>(size.rows), size_of(at.dy)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_step_passes_the_tangent_cotangent_on, Case, law_cases) {
  using S = typename Case::scalar;
  for (auto const size : {extent{5, 1}, extent{4, 4}, extent{7, 3}}) {
    auto at = sample_of<S>(size);
    at.v.setZero();
    at.y = at.x;
    at.dy = tangent_vector<S>(at.x, 5);
    auto const found = reverse<Case>(at);
    // DR(0) is the identity on tangent vectors, and R(0) = x.
    matrix_x<S> const tangent = tangent_vector<S>(at.x, 6);
    double const allowed = tolerance<S>(size.rows) * size_of(at.dy) * size_of(tangent);
    BOOST_TEST(std::abs(real_inner(found.dv, tangent) - real_inner(at.dy, tangent)) <= allowed);
    BOOST_TEST(near(found.dx, at.dy, tolerance<S>(size.rows), size_of(at.dy)));
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_stack_has_the_gradients_of_its_points, Case, double_cases) {
  auto at = sample_of<double>({6, 2});
  auto const one = at;
  auto const twice = [](auto& m) {
    matrix_x<double> const own = m;
    m.resize(own.rows(), 2 * own.cols());
    m << own, own;
  };
  twice(at.x), twice(at.v), twice(at.y), twice(at.dy);
  at.dy.rightCols(2) *= 3;
  at.dy(1, 3) = std::numeric_limits<double>::infinity();
  place<Case> here;
  auto const x = here.up(at.x), v = here.up(at.v), y = here.up(at.y);
  auto dv = here.up(at.dy), dx = here.up(at.dy);
  auto status = here.up(matrix_x<int>::Zero(1, 2));
  stiefelx::cayley_vjp(here.ctx, stiefelx::stack{2}, x, v, y, dv, dv, dx, status);
  auto const expected = reverse<Case>(one);
  BOOST_TEST(same(here.down(dv).leftCols(2), expected.dv));
  BOOST_TEST(same(here.down(dx).leftCols(2), expected.dx));
  BOOST_TEST(here.down(status)(0, 0) == 0);
  BOOST_TEST(here.down(status)(0, 1) == not_finite);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(the_gradient_may_replace_the_cotangent, Case, law_cases) {
  using S = typename Case::scalar;
  auto const at = sample_of<S>({6, 3});
  auto const apart = reverse<Case>(at), in_place = reverse<Case>(at, true);
  BOOST_TEST(same(in_place.dv, apart.dv));
  BOOST_TEST(same(in_place.dx, apart.dx));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(numbers_that_are_not_finite_are_reported, Case, law_cases) {
  using S = typename Case::scalar;
  S const bad(std::numeric_limits<typename Case::real>::quiet_NaN());
  for (int which = 0; which < 4; ++which) {
    auto at = sample_of<S>({5, 2});
    (which == 0 ? at.x : which == 1 ? at.v : which == 2 ? at.y : at.dy)(3, 1) = bad;
    BOOST_TEST(reverse<Case>(at).status == not_finite);
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(misuse_is_refused_by_name, Case, double_cases) {
  place<Case> here;
  auto& ctx = here.ctx;
  auto const a = here.up(random_matrix<double>(5, 2, 1));
  auto dv = here.up(random_matrix<double>(5, 2, 2)), dx = here.up(random_matrix<double>(5, 2, 3));
  auto const cut = a.middleRows(0, 4), row = a.middleRows(0, 1);
  auto const says = [](auto const& f, char const* expected) {
    BOOST_TEST(message_of(f) == expected);
  };
  says([&] { stiefelx::cayley_vjp(ctx, row, row, row, row, dv, dx); },
       "cayley_vjp: x is 1x2, expected at least as many rows as columns");
  says([&] { stiefelx::cayley_vjp(ctx, a, cut, a, a, dv, dx); },
       "cayley_vjp: v is 4x2, expected 5x2");
  says([&] { stiefelx::cayley_vjp(ctx, a, a, cut, a, dv, dx); },
       "cayley_vjp: y is 4x2, expected 5x2");
  says([&] { stiefelx::cayley_vjp(ctx, a, a, a, cut, dv, dx); },
       "cayley_vjp: dy is 4x2, expected 5x2");
  says([&] { stiefelx::cayley_vjp(ctx, cut, cut, cut, cut, dv, dx); },
       "cayley_vjp: dv is 5x2, expected 4x2");
  says([&] { stiefelx::cayley_vjp(ctx, dv, a, a, a, dv, dx); },
       "cayley_vjp: dv overlaps x, expected separate memory");
  says([&] { stiefelx::cayley_vjp(ctx, a, a, a, dx, dv, dx); },
       "cayley_vjp: dx overlaps dy, expected separate memory");
  says([&] { stiefelx::cayley_vjp(ctx, a, a, a, a, dv, dv); },
       "cayley_vjp: dx overlaps dv, expected separate memory");
}

BOOST_AUTO_TEST_SUITE_END()
