// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Case batched_retract_qr: small points side by side, their sizes known at compile time. The tangent
// vectors have spectral norm 1.

#include <memory>
#include <stdexcept>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::tall;
using bench::timed_call;

template <class Scalar, std::ptrdiff_t N, std::ptrdiff_t P>
timed_call make_stack(int threads) {
  struct state {
    stiefelx::host::context ctx;
    bench::point_and_tangent<Scalar> at;
    matrix<Scalar> y;
  };
  constexpr std::ptrdiff_t count = bench::cases::batched_retract_qr::count;
  auto const [x, v] = bench::stiefel_point<Scalar>({N, P});
  std::shared_ptr<state> const s(new state{stiefelx::host::context({.threads = threads}),
                                           {x.replicate(1, count), v.replicate(1, count)},
                                           matrix<Scalar>(N, P * count)});
  stiefelx::power<stiefelx::fixed_stiefel<N, P>> const manifold{{}, count};
  return {[s, manifold] { retract(s->ctx, manifold, s->at.x, s->at.v, s->y); },
          [s] { return bench::orthonormality_fault_of_each<Scalar>(s->y, P); }};
}

// Finds the shape among those that are compiled.
template <class Scalar>
timed_call make_retract_qr(tall each, int threads) {
  if (each.n == 8 && each.p == 3) return make_stack<Scalar, 8, 3>(threads);
  if (each.n == 16 && each.p == 8) return make_stack<Scalar, 16, 8>(threads);
  if (each.n == 32 && each.p == 16) return make_stack<Scalar, 32, 16>(threads);
  if (each.n == 64 && each.p == 32) return make_stack<Scalar, 64, 32>(threads);
  throw std::invalid_argument("a shape of small_shapes that is not compiled");
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  bench::add_stacks(cases, "stiefelx", [threads = cases.threads()]<class S>(tall each) {
    return make_retract_qr<S>(each, threads);
  });
  return cases.run();
}
