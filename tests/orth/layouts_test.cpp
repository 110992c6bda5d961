// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Row-major, strided, blocked, fixed-size and unevaluated matrices on the host: each result has the
// entries that plain matrices give.

#include <utility>

#include <boost/test/unit_test.hpp>

#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/inverse_sqrt.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/residual.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/loops.hpp>
#include <support/near.hpp>
#include <support/tolerance.hpp>

namespace {

using namespace support;
using stiefelx::no_status;

constexpr index_t n = 9, p = 4;

using row_major = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using strided =
    Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

/// Every second entry of every second column of memory that is zero elsewhere.
struct spread {
  explicit spread(index_t rows, index_t cols)
      : memory(matrix_x<double>::Zero(2 * rows, 2 * cols)),
        view(memory.data(), rows, cols, {4 * rows, 2}) {}

  /// Whether nothing was written beside the view.
  bool is_clean() const {
    for (index_t j = 0; j < memory.cols(); ++j)
      for (index_t i = 0; i < memory.rows(); ++i)
        if ((i % 2 != 0 || j % 2 != 0) && memory(i, j) != 0) return false;
    return true;
  }

  matrix_x<double> memory;
  strided view;
};

struct run_gram_schmidt {
  template <class Ctx, class A, class Q, class R>
  void operator()(Ctx& ctx, A const& a, Q&& q, R&& r) const {
    stiefelx::gram_schmidt(ctx, a, q, r, no_status{});
  }
};

struct run_householder {
  template <class Ctx, class A, class Q, class R>
  void operator()(Ctx& ctx, A const& a, Q&& q, R&& r) const {
    stiefelx::householder_qr(ctx, a, q, r, no_status{});
  }
};

struct run_cholesky {
  template <class Ctx, class A, class Q, class R>
  void operator()(Ctx& ctx, A const& a, Q&& q, R&& r) const {
    stiefelx::cholesky_qr(ctx, a, q, r, no_status{});
  }
};

struct run_polar {
  template <class Ctx, class A, class Q, class R>
  void operator()(Ctx& ctx, A const& a, Q&& q, R&& r) const {
    stiefelx::polar(ctx, a, q, no_status{});
    stiefelx::inverse_sqrt(ctx, a.adjoint() * a, 0, 30, r);
  }
};

using runs = std::tuple<run_gram_schmidt, run_householder, run_cholesky, run_polar>;

}  // namespace

BOOST_AUTO_TEST_SUITE(layouts)

BOOST_AUTO_TEST_CASE_TEMPLATE(every_layout_gives_the_same_factors, Run, runs) {
  stiefelx::host::context ctx;
  Run const run;
  matrix_x<double> const a = random_matrix<double>(n, p, 1);
  matrix_x<double> q(n, p), r(p, p);
  run(ctx, a, q, r);
  double const allowed = tolerance<double>(n, 10);

  row_major const ar = a;
  row_major qr(n, p), rr(p, p);
  run(ctx, ar, qr, rr);
  BOOST_TEST(near(qr, q, allowed));
  BOOST_TEST(near(rr, r, allowed));

  spread as(n, p), qs(n, p), rs(p, p);
  as.view = a;
  run(ctx, as.view, qs.view, rs.view);
  BOOST_TEST(near(qs.view, q, allowed));
  BOOST_TEST(near(rs.view, r, allowed));
  BOOST_TEST(qs.is_clean());
  BOOST_TEST(rs.is_clean());
  run(ctx, qs.view, qs.view, rs.view);
  BOOST_TEST(near(qs.view, q, allowed));

  matrix_x<double> ab = matrix_x<double>::Zero(2 * n, 2 * p), qb = ab, rb = ab;
  ab.block(3, 2, n, p) = a;
  run(ctx, ab.block(3, 2, n, p), qb.block(1, 1, n, p), rb.block(0, 3, p, p));
  BOOST_TEST(near(qb.block(1, 1, n, p), q, allowed));
  BOOST_TEST(near(rb.block(0, 3, p, p), r, allowed));
  qb.block(1, 1, n, p).setZero();
  rb.block(0, 3, p, p).setZero();
  BOOST_TEST(qb.isZero(0));
  BOOST_TEST(rb.isZero(0));

  matrix_x<double> const half = a / 2;
  run(ctx, half + half, q, rb.block(0, 0, p, p));
  BOOST_TEST(near(rb.block(0, 0, p, p), r, allowed));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(fixed_sizes_give_the_same_factors, Run, runs) {
  stiefelx::host::context ctx;
  Run const run;
  matrix_x<double> const a = random_matrix<double>(n, p, 1);
  matrix_x<double> q(n, p), r(p, p);
  run(ctx, a, q, r);
  Eigen::Matrix<double, n, p> const af = a;
  Eigen::Matrix<double, n, p> qf;
  Eigen::Matrix<double, p, p> rf;
  run(ctx, af, qf, rf);
  BOOST_TEST(near(qf, q, tolerance<double>(n, 10)));
  BOOST_TEST(near(rf, r, tolerance<double>(n, 10)));
}

BOOST_AUTO_TEST_CASE(the_orthonormality_error_takes_every_layout) {
  stiefelx::host::context ctx;
  matrix_x<double> const a = random_matrix<double>(n, p, 1);
  matrix_x<double> expected(1, 1);
  stiefelx::orthonormality_error(ctx, a, expected);
  Eigen::Matrix<double, 1, 1> s;
  row_major const ar = a;
  spread as(n, p);
  as.view = a;
  Eigen::Matrix<double, n, p> const af = a;
  stiefelx::orthonormality_error(ctx, ar, s);
  BOOST_TEST(near(s, expected, tolerance<double>(n)));
  stiefelx::orthonormality_error(ctx, as.view, s);
  BOOST_TEST(near(s, expected, tolerance<double>(n)));
  stiefelx::orthonormality_error(ctx, af, s);
  BOOST_TEST(near(s, expected, tolerance<double>(n)));
  stiefelx::orthonormality_error(ctx, a + 0 * a, s);
  BOOST_TEST(near(s, expected, tolerance<double>(n)));
}

BOOST_AUTO_TEST_SUITE_END()
