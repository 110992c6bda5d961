// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Orthogonalization, retractions and steps on the device: one large matrix, and many small ones.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/context.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_random.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_stack.hpp>
#include <stiefelx/manifold/stiefel_stack_retraction.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/orth/cholesky_qr.hpp>
#include <stiefelx/orth/gram_schmidt.hpp>
#include <stiefelx/orth/householder_qr.hpp>
#include <stiefelx/orth/polar.hpp>

#include "bench/cuda/matrices.hpp"
#include "bench/cuda/suite.hpp"
#include "bench/cuda/triangles.hpp"

namespace {

namespace cuda = stiefelx::cuda;
using bench::device_call;
using bench::index_t;
using bench::tall;
using stiefelx::stack;
using stiefelx::stiefel;

// Many matrices side by side; one is a stack of one.
struct batch {
  index_t count;
  tall each;

  std::string shape() const {
    return count == 1 ? bench::shape_text(each) : bench::shape_text(count, each);
  }
  bench::work cost(bench::tall_case const& of, double scalar_bytes) const {
    auto const n = static_cast<double>(each.n), p = static_cast<double>(each.p);
    auto const b = static_cast<double>(count);
    return {b * of.flops(n, p), b * of.entries(n, p) * scalar_bytes};
  }
};

// Input and factors.
template <class S>
struct factored {
  cuda::context ctx;
  cuda::matrix<S> a, q, r;

  explicit factored(batch const& b)
      : a(bench::normal<S>(ctx, b.each.n, b.each.p * b.count, 1, 1)),
        q(b.each.n, b.each.p * b.count),
        r(b.each.p, b.each.p * b.count) {}

  // R is upper triangular and Q R is A: with orthonormal columns that makes it the factorization.
  std::string fault(index_t p) {
    std::string const found = bench::orthonormality_fault(ctx, q, p);
    return found.empty() ? bench::factors_fault(ctx, a, q, r, p) : found;
  }
};

// run(ctx, a, q, r) queues a factorization.
template <class S, class Run>
void add_qr(bench::device_suite& to, char const* name, bench::tall_case const& of, batch b,
            Run const& run) {
  to.add({name, b.shape(), bench::scalar_name<S>, "stiefelx"}, b.cost(of, sizeof(S)),
         [b, run]() -> device_call {
           auto const s = std::make_shared<factored<S>>(b);
           return {s->ctx.queue, [s, run] { run(s->ctx, s->a, s->q, s->r); },
                   [s, b] { return s->fault(b.each.p); }};
         });
}

template <class S>
void add_polar(bench::device_suite& to, char const* name, stiefelx::polar_method method, batch b) {
  to.add({name, b.shape(), bench::scalar_name<S>, "stiefelx"},
         b.cost(bench::cases::retract_polar, sizeof(S)), [b, method]() -> device_call {
           auto const s = std::make_shared<factored<S>>(b);
           return {s->ctx.queue,
                   [s, method] {
                     stiefelx::polar(s->ctx, s->a, s->q, stiefelx::no_status{}, {.method = method});
                   },
                   [s, b] { return bench::orthonormality_fault(s->ctx, s->q, b.each.p); }};
         });
}

// A point, a tangent vector, and room for another point.
template <class S, class Manifold>
struct moving {
  cuda::context ctx;
  Manifold manifold;
  cuda::matrix<S> x, v, y;

  moving(batch const& b, Manifold where)
      : manifold(std::move(where)),
        x(b.each.n, b.each.p * b.count),
        v(bench::normal<S>(ctx, b.each.n, b.each.p * b.count, 0.01, 2)),
        y(b.each.n, b.each.p * b.count) {
    auto const start = bench::normal<S>(ctx, b.each.n, b.each.p * b.count, 1, 1);
    cuda::matrix<S> r(b.each.p, b.each.p * b.count);
    stiefelx::householder_qr(ctx, stack{b.count}, start, x, r);
    project(ctx, manifold, x, v, y);
    copy(ctx, y, v);
  }
};

template <class S, class Manifold>
void add_retraction(bench::device_suite& to, char const* name, batch b, Manifold const& manifold) {
  to.add({name, b.shape(), bench::scalar_name<S>, "stiefelx"},
         b.cost(bench::cases::retract_qr, sizeof(S)), [b, manifold]() -> device_call {
           auto const s = std::make_shared<moving<S, Manifold>>(b, manifold);
           return {
               s->ctx.queue,
               [s] { retract(s->ctx, s->manifold, s->x, s->v, s->y, stiefelx::qr_retraction{}); },
               [s, b] { return bench::orthonormality_fault(s->ctx, s->y, b.each.p); }};
         });
}

template <class S, class Manifold>
void add_adam(bench::device_suite& to, batch b, Manifold const& manifold) {
  to.add({bench::cases::riemannian_adam.name, b.shape(), bench::scalar_name<S>, "stiefelx"},
         b.cost(bench::cases::riemannian_adam, sizeof(S)), [b, manifold]() -> device_call {
           struct state : moving<S, Manifold> {
             using optimizer = decltype(stiefelx::riemannian_adam(
                 std::declval<cuda::context&>(), std::declval<Manifold>(),
                 std::declval<cuda::matrix<S> const&>()));
             optimizer step;
             state(batch const& of, Manifold const& where)
                 : moving<S, Manifold>(of, where), step(this->ctx, this->manifold, this->x) {}
           };
           auto const s = std::make_shared<state>(b, manifold);
           return {s->ctx.queue, [s] { s->step.step(s->ctx, s->x, s->v); },
                   [s, b] { return bench::orthonormality_fault(s->ctx, s->x, b.each.p); }};
         });
}

// Large positive matrices, each its own, made from the rows of tall ones.
void add_cholesky(bench::device_suite& to, index_t count, index_t n) {
  double const b = static_cast<double>(count), order = static_cast<double>(n);
  to.add({"batched_cholesky", "b=" + std::to_string(count) + ",n=" + std::to_string(n), "float",
          "stiefelx"},
         {b * order * order * order / 3, 2 * b * order * order * sizeof(float)},
         [count, n]() -> device_call {
           struct state {
             cuda::context ctx;
             cuda::matrix<float> g, r;
             cuda::matrix<int> bits;
             state(index_t matrices, index_t of)
                 : g(bench::positive(ctx, matrices, of)),
                   r(of, of * matrices),
                   bits(zeros<int>(ctx, 1, matrices)) {}
           };
           auto const s = std::make_shared<state>(count, n);
           return {s->ctx.queue,
                   [s, count] {
                     // The factor takes the matrix's place; copying it there is part of the work.
                     copy(s->ctx, s->g, s->r);
                     run_batch(s->ctx, count, bench::cholesky_of_each{}, s->r, s->bits);
                   },
                   [s, n] { return bench::cholesky_fault(s->ctx, s->g, s->r, n); }};
         });
}

template <class S>
void add_large(bench::device_suite& to, tall shape) {
  batch const b{1, shape};
  namespace cases = bench::cases;
  add_retraction<S>(to, "retract_qr", b, stiefel{shape.n, shape.p});
  add_qr<S>(to, "cholesky_qr", cases::cholesky_qr, b,
            [](auto& ctx, auto& a, auto& q, auto& r) { stiefelx::cholesky_qr(ctx, a, q, r); });
  add_qr<S>(to, "gram_schmidt", cases::cholesky_qr, b,
            [](auto& ctx, auto& a, auto& q, auto& r) { stiefelx::gram_schmidt(ctx, a, q, r); });
  add_qr<S>(to, "householder_qr", cases::householder_qr, b,
            [](auto& ctx, auto& a, auto& q, auto& r) { stiefelx::householder_qr(ctx, a, q, r); });
}

void add_batched(bench::device_suite& to, batch b) {
  namespace cases = bench::cases;
  add_qr<float>(to, "batched_gram_schmidt", cases::cholesky_qr, b,
                [b](auto& ctx, auto& a, auto& q, auto& r) {
                  stiefelx::gram_schmidt(ctx, stack{b.count}, a, q, r);
                });
  add_qr<float>(to, "batched_householder_qr", cases::householder_qr, b,
                [b](auto& ctx, auto& a, auto& q, auto& r) {
                  stiefelx::householder_qr(ctx, stack{b.count}, a, q, r);
                });
  add_qr<float>(to, "batched_cholesky_qr", cases::cholesky_qr, b,
                [b](auto& ctx, auto& a, auto& q, auto& r) {
                  stiefelx::cholesky_qr(ctx, stack{b.count}, a, q, r);
                });
  stiefelx::power<stiefel> const points{stiefel{b.each.n, b.each.p}, b.count};
  add_retraction<float>(to, "batched_retract_qr", b, points);
}

}  // namespace

int main(int argc, char** argv) {
  bench::device_suite cases(argc, argv);
  bool const small = cases.small();
  std::vector<tall> const large =
      small ? std::vector<tall>{{12, 3}} : std::vector<tall>{{4096, 64}, {1024, 256}};
  for (tall const shape : large) {
    add_large<float>(cases, shape);
    add_polar<float>(cases, "newton_schulz", stiefelx::polar_method::newton_schulz, {1, shape});
    add_polar<float>(cases, "polar_express", stiefelx::polar_method::polar_express, {1, shape});
    add_adam<float>(cases, {1, shape}, stiefel{shape.n, shape.p});
  }
  add_large<double>(cases, large.front());

  std::vector<batch> const batches = small
                                         ? std::vector<batch>{{3, {6, 2}}}
                                         : std::vector<batch>{{10000, {16, 8}}, {10000, {64, 32}}};
  for (batch const& b : batches) add_batched(cases, b);
  batch const& points = batches.front();
  add_adam<float>(cases, points,
                  stiefelx::power<stiefel>{stiefel{points.each.n, points.each.p}, points.count});
  for (index_t const n : {16, 32, 64}) add_cholesky(cases, small ? 3 : 10000, small ? n / 4 : n);
  return cases.run();
}
