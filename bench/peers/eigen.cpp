// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The peer eigen: what a user of Eigen alone writes. One thread.

#include <iostream>
#include <memory>
#include <string>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;

template <class Scalar>
timed_call make_gemm(tall shape) {
  struct state {
    matrix<Scalar> a, b, c;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           bench::normal_matrix<Scalar>(shape.p, shape.p, 2),
                                           matrix<Scalar>(shape.n, shape.p)});
  return {[s] { s->c.noalias() = s->a * s->b; }, {}};
}

template <class Scalar>
timed_call make_low_rank_product(tall shape) {
  struct state {
    matrix<Scalar> a, b, c;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           bench::normal_matrix<Scalar>(shape.n, shape.p, 2),
                                           matrix<Scalar>(shape.n, shape.n)});
  return {[s] { s->c.noalias() = s->a * s->b.transpose(); }, {}};
}

template <class Scalar>
timed_call make_gram(tall shape) {
  struct state {
    matrix<Scalar> a, g;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           matrix<Scalar>(shape.p, shape.p)});
  return {[s] { s->g.noalias() = s->a.transpose() * s->a; }, {}};
}

// The thin factors of a in q and r, with a positive diagonal of r.
template <class Scalar>
void factor(Eigen::HouseholderQR<matrix<Scalar>>& qr, matrix<Scalar> const& a, matrix<Scalar>& q,
            matrix<Scalar>& r) {
  Eigen::Index const p = a.cols();
  qr.compute(a);
  q.setIdentity();
  q.applyOnTheLeft(qr.householderQ());
  r = qr.matrixQR().topRows(p).template triangularView<Eigen::Upper>();
  for (Eigen::Index j = 0; j < p; ++j) {
    if (r(j, j) >= 0) continue;
    q.col(j) = -q.col(j);
    r.row(j) = -r.row(j);
  }
}

template <class Scalar>
timed_call make_retract_qr(tall shape) {
  struct state {
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> sum, y, r;
    Eigen::HouseholderQR<matrix<Scalar>> qr;
  };
  std::shared_ptr<state> const s(
      new state{bench::stiefel_point<Scalar>(shape), matrix<Scalar>(shape.n, shape.p),
                matrix<Scalar>(shape.n, shape.p), matrix<Scalar>(shape.p, shape.p),
                Eigen::HouseholderQR<matrix<Scalar>>(shape.n, shape.p)});
  return {[s] {
            s->sum = s->at.x + s->at.v;
            factor(s->qr, s->sum, s->y, s->r);
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->y); }};
}

// A loop over the matrices: Eigen has no call for many.
template <class Scalar>
timed_call make_batched_retract_qr(tall each) {
  struct state {
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> sum, q, y, r;
    Eigen::HouseholderQR<matrix<Scalar>> qr;
  };
  std::ptrdiff_t const count = bench::cases::batched_retract_qr::count;
  auto const [x, v] = bench::stiefel_point<Scalar>(each);
  std::shared_ptr<state> const s(new state{{x.replicate(1, count), v.replicate(1, count)},
                                           matrix<Scalar>(each.n, each.p),
                                           matrix<Scalar>(each.n, each.p),
                                           matrix<Scalar>(each.n, each.p * count),
                                           matrix<Scalar>(each.p, each.p),
                                           Eigen::HouseholderQR<matrix<Scalar>>(each.n, each.p)});
  return {[s, p = each.p] {
            for (std::ptrdiff_t first = 0; first < s->y.cols(); first += p) {
              s->sum = s->at.x.middleCols(first, p) + s->at.v.middleCols(first, p);
              factor(s->qr, s->sum, s->q, s->r);
              s->y.middleCols(first, p) = s->q;
            }
          },
          [s, p = each.p] { return bench::orthonormality_fault_of_each<Scalar>(s->y, p); }};
}

template <class Scalar>
timed_call make_retract_polar(tall shape) {
  struct state {
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> sum, y;
    Eigen::BDCSVD<matrix<Scalar>> svd;
  };
  std::shared_ptr<state> const s(
      new state{bench::stiefel_point<Scalar>(shape), matrix<Scalar>(shape.n, shape.p),
                matrix<Scalar>(shape.n, shape.p), Eigen::BDCSVD<matrix<Scalar>>()});
  return {[s] {
            s->sum = s->at.x + s->at.v;
            s->svd.compute(s->sum, Eigen::ComputeThinU | Eigen::ComputeThinV);
            s->y.noalias() = s->svd.matrixU() * s->svd.matrixV().transpose();
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->y); }};
}

template <class Scalar>
timed_call make_householder_qr(tall shape) {
  struct state {
    matrix<Scalar> a, q, r;
    Eigen::HouseholderQR<matrix<Scalar>> qr;
  };
  std::shared_ptr<state> const s(new state{
      bench::normal_matrix<Scalar>(shape.n, shape.p, 1), matrix<Scalar>(shape.n, shape.p),
      matrix<Scalar>(shape.p, shape.p), Eigen::HouseholderQR<matrix<Scalar>>(shape.n, shape.p)});
  return {[s] { factor(s->qr, s->a, s->q, s->r); },
          [s] { return bench::orthonormality_fault<Scalar>(s->q); }};
}

template <class Scalar>
timed_call make_cholesky_qr(tall shape) {
  struct state {
    matrix<Scalar> a, q, r;
    Eigen::LLT<matrix<Scalar>> factor;
  };
  std::shared_ptr<state> const s(
      new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1), matrix<Scalar>(shape.n, shape.p),
                matrix<Scalar>(shape.p, shape.p), Eigen::LLT<matrix<Scalar>>(shape.p)});
  return {[s] {
            s->r.noalias() = s->a.transpose() * s->a;
            s->factor.compute(s->r);
            s->q = s->a;
            s->factor.matrixU().template solveInPlace<Eigen::OnTheRight>(s->q);
            s->r = s->factor.matrixU();
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->q); }};
}

template <class Scalar>
timed_call make_gram_schmidt(bench::cases::gram_schmidt columns) {
  struct state {
    matrix<Scalar> a, q;
    Eigen::HouseholderQR<matrix<Scalar>> qr;
  };
  Eigen::Index const d = columns.d, k = columns.k, cols = k * columns.tokens;
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(d, cols, 1),
                                           matrix<Scalar>(d, cols),
                                           Eigen::HouseholderQR<matrix<Scalar>>(d, k)});
  return {[s, k] {
            for (Eigen::Index first = 0; first < s->a.cols(); first += k) {
              s->qr.compute(s->a.middleCols(first, k));
              auto q = s->q.middleCols(first, k);
              q.setIdentity();
              q.applyOnTheLeft(s->qr.householderQ());
              for (Eigen::Index j = 0; j < k; ++j)
                if (s->qr.matrixQR()(j, j) < 0) q.col(j) = -q.col(j);
            }
          },
          [s, k] { return bench::orthonormality_fault_of_each<Scalar>(s->q, k); }};
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::eigen_version());
  if (cases.threads() != 1) {
    std::cerr << "skipped eigen, because its peer runs on one thread, not on " << cases.threads()
              << "\n";
    return 0;
  }
  namespace all = bench::cases;
  bench::add_tall(cases, all::gemm, "eigen", []<class S>(tall t) { return make_gemm<S>(t); });
  bench::add_tall(cases, all::low_rank_product, "eigen",
                  []<class S>(tall t) { return make_low_rank_product<S>(t); });
  bench::add_tall(cases, all::gram, "eigen", []<class S>(tall t) { return make_gram<S>(t); });
  bench::add_tall(cases, all::retract_qr, "eigen",
                  []<class S>(tall t) { return make_retract_qr<S>(t); });
  bench::add_tall(cases, all::retract_polar, "eigen",
                  []<class S>(tall t) { return make_retract_polar<S>(t); });
  bench::add_tall(cases, all::householder_qr, "eigen",
                  []<class S>(tall t) { return make_householder_qr<S>(t); });
  bench::add_tall(cases, all::cholesky_qr, "eigen",
                  []<class S>(tall t) { return make_cholesky_qr<S>(t); });
  bench::add_columns_of_tokens(
      cases, all::gram_schmidt::name, "eigen",
      []<class S>(all::gram_schmidt c) { return make_gram_schmidt<S>(c); });
  bench::add_stacks(cases, "eigen",
                    []<class S>(tall each) { return make_batched_retract_qr<S>(each); });
  return cases.run();
}
