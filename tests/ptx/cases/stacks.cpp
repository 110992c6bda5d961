// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Team text of orthogonalization: each launch is compared with the same text run by one lane.
#include <algorithm>
#include <utility>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/orth/polar.hpp>
#include <stiefelx/orth/qr_vjp.hpp>
#include <stiefelx/team/cholesky_qr.hpp>
#include <stiefelx/team/gram_schmidt.hpp>
#include <stiefelx/team/gram_schmidt_vjp.hpp>
#include <stiefelx/team/householder_qr.hpp>
#include <stiefelx/team/row_column_moments.hpp>
#include <stiefelx/team/small_inverse_sqrt.hpp>
#include <stiefelx/team/small_polar.hpp>
#include <stiefelx/team/small_qr.hpp>
#include <stiefelx/team/statuses.hpp>

#include <ptx/serial_oracle.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using recording::constant;
using recording::definite;
using recording::triangles;
using recording::values;
using std::as_const;
using stiefelx::index_t;

constexpr index_t n = 34, p = 5, count = 3;

// Q and R of a stack by every method.
template <class T, class Body>
void factor(std::string const& name, Body const& body, cuda::matrix<T> const& a,
            cuda::context& ctx) {
  recording::begin(name + recording::type_name<T>());
  cuda::matrix<T> q(a.rows(), a.cols()), r(p, a.cols());
  cuda::matrix<int> status(1, a.cols() / p);
  run_batch(ctx, a.cols() / p, body, a, q, r, status);
}

template <class T>
void factors() {
  using method = stiefelx::cholesky_qr_method;
  cuda::context ctx(recording::small());
  auto const a = values<T>(ctx, n, p * count, 1);
  factor<T>("modified gram_schmidt",
            stiefelx::gram_schmidt_body{p, stiefelx::gram_schmidt_method::mgs}, a, ctx);
  factor<T>("householder", stiefelx::small_householder_body{p}, a, ctx);
  factor<T>("cholesky_qr", stiefelx::small_cholesky_qr_body{p, method::automatic}, a, ctx);
  factor<T>("cholesky_qr twice", stiefelx::small_cholesky_qr_body{p, method::two_passes}, a, ctx);
  // A column twice: the method by test ends in reflections.
  auto entries = recording::entries<T>(n * p, 2);
  std::copy_n(entries.begin(), n, entries.begin() + n);
  auto const dependent = recording::uploaded(ctx, entries, n);
  factor<T>("dependent gram_schmidt", stiefelx::gram_schmidt_body{p}, dependent, ctx);
}

template <class T>
void gradients() {
  cuda::context ctx(recording::small());
  recording::begin("gram_schmidt_vjp" + recording::type_name<T>());
  auto const q = values<T>(ctx, n, p * count, 3), dr = values<T>(ctx, p, p * count, 4);
  auto const r = triangles<T>(ctx, p, count, 5);
  auto dq = values<T>(ctx, n, p * count, 6);
  cuda::matrix<T> v(n, count), da(n, p * count);
  cuda::matrix<int> status(1, count);
  run_batch(ctx, count, stiefelx::gram_schmidt_vjp_body{p, p}, q, r, dr, dq, v, da, status);
  recording::begin("qr_vjp" + recording::type_name<T>());
  auto h = values<T>(ctx, p, p, 7);
  run_batch(ctx, p, stiefelx::mirror_lower_body{}, h);
  cuda::matrix<int> bits(1, p);
  run_batch(ctx, p, stiefelx::dependent_column_body{n}, r.middleCols(0, p), bits);
}

template <class T>
void panels() {
  cuda::context ctx(recording::small());
  recording::begin("panels" + recording::type_name<T>());
  auto const a = values<T>(ctx, 70, p, 8);
  cuda::matrix<T> b(70, p), v(70, p), t(p, p);
  cuda::matrix<int> exponents(1, p), bits(1, p), status(1, 1);
  run_batch(ctx, p, stiefelx::equilibrate_body{}, a, b, exponents, bits);
  run_batch(ctx, 1, stiefelx::householder_panel_body{}, b, v, t);
  auto r = triangles<T>(ctx, p, 1, 9);
  auto q = values<T>(ctx, n, p, 10);
  run_batch(ctx, 1, stiefelx::positive_diagonal_body{}, q, r, status);
  run_batch(ctx, p, stiefelx::rescale_triangle_body{}, r, exponents);
  auto all = constant<int>(ctx, 1, 1, 0);
  run_batch(ctx, 1, stiefelx::collect_statuses_body{p}, bits, all);
  run_batch(ctx, 1, stiefelx::equilibrate_whole_body{}, a, b, status);
  cuda::matrix<int> each(1, p);
  run_batch(ctx, p, stiefelx::small_equilibrate_body{1}, a, b, each);
}

template <class T>
void cholesky_parts() {
  cuda::context ctx(recording::small());
  recording::begin("cholesky_qr parts" + recording::type_name<T>());
  auto r = triangles<T>(ctx, p, 1, 11);
  auto inverse = triangles<T>(ctx, p, 1, 12);
  cuda::matrix<double> smallest(1, 1);
  run_batch(ctx, 1, stiefelx::independence_body{false}, r, inverse, smallest);
  run_batch(ctx, 1, stiefelx::independence_body{true}, r, inverse, smallest);
  auto g = definite<T>(ctx, p, 1, 13);
  run_batch(ctx, 1, stiefelx::gram_shift_body{n}, g);
  auto status = constant<int>(ctx, 1, 1, 0);
  run_batch(ctx, 1, stiefelx::lost_pivot_body{1e-3}, r, status);
  run_batch(ctx, 1, stiefelx::near_identity_body{}, g, status);
}

template <class T>
void roots() {
  cuda::context ctx(recording::small());
  recording::begin("inverse_sqrt" + recording::type_name<T>());
  auto const g = definite<T>(ctx, p, count, 14);
  cuda::matrix<T> z(p, p * count);
  cuda::matrix<int> status(1, count);
  run_batch(ctx, count, stiefelx::small_inverse_sqrt_body{p, 1, 12}, g, z, status);
  auto one = definite<T>(ctx, p, 1, 15);
  cuda::matrix<double> scaling(1, 2);
  run_batch(ctx, 1, stiefelx::newton_schulz_scaling_body{0.5}, one, scaling);
  auto bits = constant<int>(ctx, 1, 1, 0);
  run_batch(ctx, 1, stiefelx::small_identity_body{}, one, bits);

  recording::begin("polar" + recording::type_name<T>());
  auto x = definite<T>(ctx, p, count, 16);
  auto const schedule =
      stiefelx::make_polar_schedule(stiefelx::polar_degree::quintic, 0.05, 4, 1e-3);
  run_batch(ctx, count, stiefelx::small_polar_body{p, schedule, 0}, x);
  auto states = constant<int>(ctx, 1, count, 0);
  run_batch(ctx, count, stiefelx::small_defect_body{p, 1e-3}, x, states);
  auto defect = constant<double>(ctx, 1, 1, 0.25);
  run_batch(ctx, 1, stiefelx::convergence_body{0.125}, defect, bits);
  auto a = values<T>(ctx, n, p * count, 17), b = values<T>(ctx, p, p * count, 18);
  cuda::matrix<T> c(n, p * count);
  run_batch(ctx, count, stiefelx::small_product_body{p}, a, b, c);
  run_batch(ctx, count, stiefelx::small_product_body{p, true}, a, b, c);
}

template <class T>
void moments() {
  cuda::context ctx(recording::small());
  recording::begin("row_column_moments" + recording::type_name<T>());
  auto const r = values<T>(ctx, n, p, 19);
  auto const finite = constant<double>(ctx, 1, 1, 1);
  auto rows = constant<double>(ctx, n, 2, 0.5), columns = constant<double>(ctx, 2, p, 0.25);
  run_batch(ctx, 1, stiefelx::row_column_moments_body{0.9}, r, finite, rows, columns);
  auto const factor = constant<double>(ctx, 1, 1, 1.5);
  cuda::matrix<T> d(n, p);
  run_batch(ctx, 1, stiefelx::row_column_scaling_body{0.25, 0.5, 1e-8}, r, as_const(rows),
            as_const(columns), factor, d);
}

}  // namespace

void run_cases() {
  factors<double>();
  factors<float>();
  gradients<double>();
  panels<double>();
  cholesky_parts<double>();
  roots<double>();
  moments<double>();
}
