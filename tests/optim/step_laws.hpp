// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/thrown.hpp>
#include <support/tolerance.hpp>

/// Laws of every optimizer's step, for tests of those that leave the manifold and come back.
namespace support {

/// Both backends, both precisions, real and complex.
using step_cases =
    std::tuple<test_case<host_backend, float>, test_case<archetype_backend, std::complex<double>>>;

/// A Euclidean gradient of step t.
template <class S>
matrix_x<S> step_gradient(index_t n, index_t p, int t) {
  return random_matrix<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// Complex long double: what closed forms are evaluated in.
using exact = std::complex<long double>;

/// x^H x - I in long double.
template <class S>
matrix_x<exact> exact_defect(matrix_x<S> const& x) {
  matrix_x<exact> const y = loop_cast<exact>(x);
  matrix_x<exact> defect = loop_product(loop_adjoint(y), y);
  for (index_t j = 0; j < x.cols(); ++j) defect(j, j) -= exact(1);
  return defect;
}

/// The Frobenius norm of x^H x - I.
template <class S>
double frame_distance(matrix_x<S> const& x) {
  return static_cast<double>(frobenius(table(exact_defect(x))));
}

/// Re tr(a^H b).
inline long double exact_inner(matrix_x<exact> const& a, matrix_x<exact> const& b) {
  long double sum = 0;
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i) sum += std::real(std::conj(a(i, j)) * b(i, j));
  return sum;
}

/// (u y^H y - y u^H y) / 2.
inline matrix_x<exact> exact_relative(matrix_x<exact> const& y, matrix_x<exact> const& u) {
  matrix_x<exact> const k = loop_product(loop_adjoint(y), y);
  matrix_x<exact> const c = loop_product(loop_adjoint(u), y);
  matrix_x<exact> const twice = loop_product(u, k) - loop_product(y, c);
  return twice * exact(0.5L);
}

/// \brief Hermitian, with a leading eigenspace of dimension 3: the gap is 2 and the largest
/// eigenvalue 4.
template <class S>
struct gapped_matrix {
  matrix_x<S> negated, projector, start;

  gapped_matrix() : start(orthonormal_frame<S>(8, 3, 3)) {
    matrix_x<S> const frame = orthonormal_frame<S>(8, 8, 1);
    matrix_x<S> weighted = frame;
    double const values[] = {4, 3.5, 3, 1, 0.8, 0.5, 0, -1};
    for (index_t j = 0; j < 8; ++j)
      weighted.col(j) *= S(static_cast<stiefelx::real_of_t<S>>(-values[j]));
    negated = loop_product(weighted, loop_adjoint(frame));
    matrix_x<S> const lead = frame.leftCols(3);
    projector = loop_product(lead, loop_adjoint(lead));
  }
};

/// \brief -Re tr(x^H c) has its minimum over orthonormal columns at the polar factor of c, where
/// the curvature is at least c's smallest singular value 1/4.
template <class S>
struct procrustes {
  matrix_x<S> best, negated;

  procrustes() : best(orthonormal_frame<S>(8, 3, 1)) {
    negated = loop_product(best, positive_matrix<S>(3, 4, 2)) * S(-1);
  }
};

/// Every array of a state, in double.
template <class Case, class Opt>
std::vector<matrix_x<std::complex<double>>> state_of(place<Case>& p, Opt& opt) {
  std::vector<matrix_x<std::complex<double>>> all;
  opt.for_each_array([&](char const*, auto& a) {
    all.push_back(p.down(a).template cast<std::complex<double>>());
  });
  return all;
}

/// The names of a state's arrays, which saved states keep.
template <class Opt>
std::vector<std::string> array_names(Opt& opt) {
  std::vector<std::string> names;
  opt.for_each_array([&](char const* name, auto&) { names.emplace_back(name); });
  return names;
}

/// A gradient that is not finite changes neither point nor state, and the next step goes on as if
/// it had never been. make(ctx, x) returns the optimizer.
template <class Case, class Make>
void expect_bad_gradients_ignored(Make const& make, matrix_x<typename Case::scalar> const& start) {
  using S = typename Case::scalar;
  using real = typename Case::real;
  index_t const n = start.rows(), k = start.cols();
  for (real bad : {std::numeric_limits<real>::quiet_NaN(), std::numeric_limits<real>::infinity(),
                   -std::numeric_limits<real>::infinity()}) {
    place<Case> p;
    auto x = p.up(start);
    auto twin = p.up(start);
    auto opt = make(p.ctx, x);
    auto other = make(p.ctx, twin);
    for (int t = 0; t < 4; ++t) {
      auto status = status_matrix<typename Case::backend>(p.ctx);
      matrix_x<S> const before = p.down(x);
      auto const state = state_of(p, opt);
      matrix_x<S> g = step_gradient<S>(n, k, t);
      g(n - 1, k - 1) = S(bad);
      opt.step(p.ctx, x, p.up(g), status);
      BOOST_TEST(status_value(p.ctx, status) == stiefelx::not_finite);
      BOOST_TEST(same(p.down(x), before));
      auto const after = state_of(p, opt);
      for (std::size_t i = 0; i < state.size(); ++i) BOOST_TEST(same(after[i], state[i]));
      auto good = status_matrix<typename Case::backend>(p.ctx);
      opt.step(p.ctx, x, p.up(step_gradient<S>(n, k, t)), good);
      other.step(p.ctx, twin, p.up(step_gradient<S>(n, k, t)), stiefelx::no_status{});
      BOOST_TEST(status_value(p.ctx, good) == 0);
      BOOST_TEST(same(p.down(x), p.down(twin)));
      BOOST_TEST(!same(p.down(x), before));
    }
  }
}

/// An optimizer that gets the arrays of another goes on with the same bits.
template <class Case, class Make>
void expect_saved_state_goes_on(Make const& make, matrix_x<typename Case::scalar> const& start) {
  using S = typename Case::scalar;
  index_t const n = start.rows(), k = start.cols();
  place<Case> p;
  auto x = p.up(start);
  auto opt = make(p.ctx, x);
  for (int t = 0; t < 3; ++t) opt.step(p.ctx, x, p.up(step_gradient<S>(n, k, t)));
  auto x_loaded = p.up(p.down(x));
  auto loaded = make(p.ctx, x_loaded);
  auto const saved = state_of(p, opt);
  std::size_t next = 0;
  loaded.for_each_array([&](char const*, auto& a) {
    using T = stiefelx::scalar_t<decltype(a)>;
    matrix_x<T> array(a.rows(), a.cols());
    for (index_t j = 0; j < a.cols(); ++j) {
      for (index_t i = 0; i < a.rows(); ++i) {
        if constexpr (std::is_floating_point_v<T>)
          array(i, j) = static_cast<T>(saved[next](i, j).real());
        else
          array(i, j) = static_cast<T>(saved[next](i, j));
      }
    }
    copy(p.ctx, p.up(array), a);
    ++next;
  });
  BOOST_TEST(next == saved.size());
  for (int t = 3; t < 6; ++t) {
    opt.step(p.ctx, x, p.up(step_gradient<S>(n, k, t)));
    loaded.step(p.ctx, x_loaded, p.up(step_gradient<S>(n, k, t)));
  }
  BOOST_TEST(same(p.down(x), p.down(x_loaded)));
  auto const a = state_of(p, opt), b = state_of(p, loaded);
  for (std::size_t i = 0; i < a.size(); ++i) BOOST_TEST(same(a[i], b[i]));
}

/// Row-major, strided and fixed-size points, and gradients that are expressions. The condition is
/// that of three steps.
template <class Make>
void expect_layouts_taken(Make const& make, double condition = 1) {
  using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  stiefelx::host::context ctx;
  matrix_x<double> x = orthonormal_frame<double>(5, 3, 1);
  row_major by_rows = x;
  matrix_x<double> all = matrix_x<double>::Constant(12, 3, -77);
  Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<12, 2>> strided(all.data(), 5, 3);
  strided = x;
  Eigen::Matrix<double, 5, 3> fixed = x;
  auto a = make(ctx, x);
  auto b = make(ctx, by_rows);
  auto c = make(ctx, strided);
  auto d = make(ctx, fixed);
  for (int t = 0; t < 3; ++t) {
    matrix_x<double> const g = step_gradient<double>(5, 3, t);
    row_major const g_by_rows = g;
    a.step(ctx, x, g);
    b.step(ctx, by_rows, g_by_rows);
    c.step(ctx, strided, 2 * g - g);
    d.step(ctx, fixed, Eigen::Matrix<double, 5, 3>(g));
  }
  double const bound = tolerance<double>(5, condition);
  BOOST_TEST(near(by_rows, x, bound));
  BOOST_TEST(near(strided, x, bound));
  BOOST_TEST(near(fixed, x, bound));
  strided.setConstant(-77);
  BOOST_TEST((all.array() == -77).all());
}

/// The texts of step() for arguments of wrong shapes and shared memory; the state is 5 x 3.
template <class Case, class Opt>
void expect_wrong_steps_named(place<Case>& p, std::string const& name, Opt opt) {
  auto x = p.up(orthonormal_frame<double>(5, 3, 1));
  auto wrong = p.up(random_matrix<double>(3, 5, 1));
  auto all = p.up(random_matrix<double>(5, 5, 1));
  BOOST_TEST(message_of([&] { opt.step(p.ctx, wrong, x); }) ==
             name + "::step: x is 3x5, expected 5x3");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, x, wrong); }) ==
             name + "::step: g is 3x5, expected 5x3");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, x, x); }) ==
             name + "::step: x overlaps g, expected separate memory");
  BOOST_TEST(message_of([&] { opt.step(p.ctx, all.middleCols(0, 3), all.middleCols(2, 3)); }) ==
             name + "::step: x overlaps g, expected separate memory");
}

}  // namespace support
