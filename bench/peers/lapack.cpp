// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The peer lapack: LAPACK and BLAS as OpenBLAS carries them.

#include <algorithm>
#include <cstddef>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/openblas.hpp"
#include "bench/support/suite.hpp"

// The last parameters of routines that take a letter are the letters' lengths.
extern "C" {
void sgeqrf_(int const* m, int const* n, float* a, int const* lda, float* tau, float* work,
             int const* lwork, int* info);
void dgeqrf_(int const* m, int const* n, double* a, int const* lda, double* tau, double* work,
             int const* lwork, int* info);
void sorgqr_(int const* m, int const* n, int const* k, float* a, int const* lda, float const* tau,
             float* work, int const* lwork, int* info);
void dorgqr_(int const* m, int const* n, int const* k, double* a, int const* lda, double const* tau,
             double* work, int const* lwork, int* info);
void sgesdd_(char const* jobz, int const* m, int const* n, float* a, int const* lda, float* s,
             float* u, int const* ldu, float* vt, int const* ldvt, float* work, int const* lwork,
             int* iwork, int* info, std::size_t);
void dgesdd_(char const* jobz, int const* m, int const* n, double* a, int const* lda, double* s,
             double* u, int const* ldu, double* vt, int const* ldvt, double* work, int const* lwork,
             int* iwork, int* info, std::size_t);
void spotrf_(char const* uplo, int const* n, float* a, int const* lda, int* info, std::size_t);
void dpotrf_(char const* uplo, int const* n, double* a, int const* lda, int* info, std::size_t);
void cblas_ssyrk(int order, int uplo, int transpose, int n, int k, float alpha, float const* a,
                 int lda, float beta, float* c, int ldc);
void cblas_dsyrk(int order, int uplo, int transpose, int n, int k, double alpha, double const* a,
                 int lda, double beta, double* c, int ldc);
void cblas_strsm(int order, int side, int uplo, int transpose, int diagonal, int m, int n,
                 float alpha, float const* a, int lda, float* b, int ldb);
void cblas_dtrsm(int order, int side, int uplo, int transpose, int diagonal, int m, int n,
                 double alpha, double const* a, int lda, double* b, int ldb);
}

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;

constexpr int column_major = bench::openblas::column_major;
constexpr int as_it_is = bench::openblas::as_it_is;
constexpr int transposed = 112, upper = 121, any_diagonal = 131, from_the_right = 142;

template <class Scalar>
struct routines;
template <>
struct routines<float> {
  static constexpr auto geqrf = sgeqrf_;
  static constexpr auto orgqr = sorgqr_;
  static constexpr auto gesdd = sgesdd_;
  static constexpr auto potrf = spotrf_;
  static constexpr auto syrk = cblas_ssyrk;
  static constexpr auto trsm = cblas_strsm;
};
template <>
struct routines<double> {
  static constexpr auto geqrf = dgeqrf_;
  static constexpr auto orgqr = dorgqr_;
  static constexpr auto gesdd = dgesdd_;
  static constexpr auto potrf = dpotrf_;
  static constexpr auto syrk = cblas_dsyrk;
  static constexpr auto trsm = cblas_dtrsm;
};

// geqrf and orgqr with the workspace that they ask for, asked for once.
template <class Scalar>
class qr_factorization {
 public:
  explicit qr_factorization(tall shape)
      : n_(static_cast<int>(shape.n)), p_(static_cast<int>(shape.p)), tau_(size(p_)) {
    Scalar best_factor, best_form;
    int const ask = -1;
    int info = 0;
    routines<Scalar>::geqrf(&n_, &p_, nullptr, &n_, nullptr, &best_factor, &ask, &info);
    routines<Scalar>::orgqr(&n_, &p_, &p_, nullptr, &n_, nullptr, &best_form, &ask, &info);
    work_.resize(static_cast<std::size_t>(std::max(best_factor, best_form)));
  }

  // q holds the matrix and becomes its orthonormal factor; r has a positive diagonal.
  template <class Q>
  void compute(Q&& q, matrix<Scalar>& r) {
    int const room = static_cast<int>(work_.size());
    int info = 0;
    routines<Scalar>::geqrf(&n_, &p_, q.data(), &n_, tau_.data(), work_.data(), &room, &info);
    r = q.topRows(p_).template triangularView<Eigen::Upper>();
    routines<Scalar>::orgqr(&n_, &p_, &p_, q.data(), &n_, tau_.data(), work_.data(), &room, &info);
    for (int j = 0; j < p_; ++j) {
      if (r(j, j) >= 0) continue;
      q.col(j) = -q.col(j);
      r.row(j) = -r.row(j);
    }
  }

 private:
  static std::size_t size(int count) { return static_cast<std::size_t>(count); }

  int n_, p_;
  std::vector<Scalar> tau_, work_;
};

template <class Scalar>
timed_call make_gemm(tall shape) {
  struct state {
    matrix<Scalar> a, b, c;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           bench::normal_matrix<Scalar>(shape.p, shape.p, 2),
                                           matrix<Scalar>(shape.n, shape.p)});
  return {[s] { bench::openblas::multiply(s->a, s->b, s->c); }, {}};
}

template <class Scalar>
timed_call make_low_rank_product(tall shape) {
  struct state {
    matrix<Scalar> a, b, c;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           bench::normal_matrix<Scalar>(shape.p, shape.n, 2),
                                           matrix<Scalar>(shape.n, shape.n)});
  return {[s] { bench::openblas::multiply(s->a, s->b, s->c); }, {}};
}

// The upper triangle of g = a^T a.
template <class Scalar>
void symmetric_product(matrix<Scalar> const& a, matrix<Scalar>& g) {
  auto const n = static_cast<int>(a.rows()), p = static_cast<int>(a.cols());
  routines<Scalar>::syrk(column_major, upper, transposed, p, n, 1, a.data(), n, 0, g.data(), p);
}

template <class Scalar>
timed_call make_gram(tall shape) {
  struct state {
    matrix<Scalar> a, g;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           matrix<Scalar>(shape.p, shape.p)});
  return {[s] {
            symmetric_product(s->a, s->g);
            s->g.template triangularView<Eigen::StrictlyLower>() = s->g.transpose();
          },
          {}};
}

template <class Scalar>
timed_call make_retract_qr(tall shape) {
  struct state {
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> y, r;
    qr_factorization<Scalar> qr;
  };
  std::shared_ptr<state> const s(
      new state{bench::stiefel_point<Scalar>(shape), matrix<Scalar>(shape.n, shape.p),
                matrix<Scalar>(shape.p, shape.p), qr_factorization<Scalar>(shape)});
  return {[s] {
            s->y = s->at.x + s->at.v;
            s->qr.compute(s->y, s->r);
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->y); }};
}

template <class Scalar>
timed_call make_householder_qr(tall shape) {
  struct state {
    matrix<Scalar> a, q, r;
    qr_factorization<Scalar> qr;
  };
  std::shared_ptr<state> const s(
      new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1), matrix<Scalar>(shape.n, shape.p),
                matrix<Scalar>(shape.p, shape.p), qr_factorization<Scalar>(shape)});
  return {[s] {
            s->q = s->a;
            s->qr.compute(s->q, s->r);
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->q); }};
}

template <class Scalar>
timed_call make_cholesky_qr(tall shape) {
  struct state {
    matrix<Scalar> a, q, r;
  };
  std::shared_ptr<state> const s(new state{bench::normal_matrix<Scalar>(shape.n, shape.p, 1),
                                           matrix<Scalar>(shape.n, shape.p),
                                           matrix<Scalar>(shape.p, shape.p)});
  return {[s] {
            auto const n = static_cast<int>(s->a.rows()), p = static_cast<int>(s->a.cols());
            int info = 0;
            s->r.setZero();
            symmetric_product(s->a, s->r);
            routines<Scalar>::potrf("U", &p, s->r.data(), &p, &info, 1);
            s->q = s->a;
            routines<Scalar>::trsm(column_major, from_the_right, upper, as_it_is, any_diagonal, n,
                                   p, 1, s->r.data(), p, s->q.data(), n);
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->q); }};
}

// A loop over the matrices: LAPACK has no call for many.
template <class Scalar>
timed_call make_batched_retract_qr(tall each) {
  struct state {
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> y, r;
    qr_factorization<Scalar> qr;
  };
  std::ptrdiff_t const count = bench::cases::batched_retract_qr::count;
  auto const [x, v] = bench::stiefel_point<Scalar>(each);
  std::shared_ptr<state> const s(new state{{x.replicate(1, count), v.replicate(1, count)},
                                           matrix<Scalar>(each.n, each.p * count),
                                           matrix<Scalar>(each.p, each.p),
                                           qr_factorization<Scalar>(each)});
  return {[s, p = each.p] {
            for (std::ptrdiff_t first = 0; first < s->y.cols(); first += p) {
              s->y.middleCols(first, p) =
                  s->at.x.middleCols(first, p) + s->at.v.middleCols(first, p);
              s->qr.compute(s->y.middleCols(first, p), s->r);
            }
          },
          [s, p = each.p] { return bench::orthonormality_fault_of_each<Scalar>(s->y, p); }};
}

template <class Scalar>
timed_call make_retract_polar(tall shape) {
  struct state {
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> sum, u, vt, y;
    std::vector<Scalar> values, work;
    std::vector<int> integers;
  };
  auto const n = static_cast<int>(shape.n), p = static_cast<int>(shape.p);
  auto const count = static_cast<std::size_t>(p);
  std::shared_ptr<state> const s(
      new state{bench::stiefel_point<Scalar>(shape), matrix<Scalar>(n, p), matrix<Scalar>(n, p),
                matrix<Scalar>(p, p), matrix<Scalar>(n, p), std::vector<Scalar>(count),
                std::vector<Scalar>(1), std::vector<int>(8 * count)});
  // Decomposes sum; a room of -1 asks for the best room.
  auto const decompose = [s, n, p](int room) {
    int info = 0;
    routines<Scalar>::gesdd("S", &n, &p, s->sum.data(), &n, s->values.data(), s->u.data(), &n,
                            s->vt.data(), &p, s->work.data(), &room, s->integers.data(), &info, 1);
  };
  decompose(-1);
  s->work.resize(static_cast<std::size_t>(s->work[0]));
  return {[s, decompose] {
            s->sum = s->at.x + s->at.v;
            decompose(static_cast<int>(s->work.size()));
            bench::openblas::multiply(s->u, s->vt, s->y);
          },
          [s] { return bench::orthonormality_fault<Scalar>(s->y); }};
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::openblas::version());
  openblas_set_num_threads(cases.threads());
  if (!cases.lists()) {
    std::string fault = bench::openblas::product_fault<float>();
    if (fault.empty()) fault = bench::openblas::product_fault<double>();
    if (!fault.empty()) {
      std::cerr << "refused lapack, because " << fault << "\n";
      return 1;
    }
  }
  namespace all = bench::cases;
  bench::add_tall(cases, all::gemm, "lapack", []<class S>(tall t) { return make_gemm<S>(t); });
  bench::add_tall(cases, all::low_rank_product, "lapack",
                  []<class S>(tall t) { return make_low_rank_product<S>(t); });
  bench::add_tall(cases, all::gram, "lapack", []<class S>(tall t) { return make_gram<S>(t); });
  bench::add_tall(cases, all::retract_qr, "lapack",
                  []<class S>(tall t) { return make_retract_qr<S>(t); });
  bench::add_tall(cases, all::retract_polar, "lapack",
                  []<class S>(tall t) { return make_retract_polar<S>(t); });
  bench::add_tall(cases, all::householder_qr, "lapack",
                  []<class S>(tall t) { return make_householder_qr<S>(t); });
  bench::add_tall(cases, all::cholesky_qr, "lapack",
                  []<class S>(tall t) { return make_cholesky_qr<S>(t); });
  bench::add_stacks(cases, "lapack",
                    []<class S>(tall each) { return make_batched_retract_qr<S>(each); });
  return cases.run();
}
