// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Case expert_gram_schmidt: the experts' outputs of each token made orthonormal and added up, in
// token space.

#include <cmath>
#include <memory>
#include <string>

#include <stiefelx/stiefelx.hpp>

#include "bench/support/cases.hpp"
#include "bench/support/matrices.hpp"
#include "bench/support/suite.hpp"
#include "bench/support/version.hpp"

namespace {

using bench::matrix;
using bench::timed_call;
using sizes = bench::cases::expert_gram_schmidt;

template <class Scalar>
struct tokens {
  stiefelx::host::context ctx;
  matrix<Scalar> outputs =
      bench::normal_matrix<Scalar>(sizes::width, sizes::experts* sizes::tokens, 1);
  matrix<Scalar> weights = bench::normal_matrix<Scalar>(sizes::experts, sizes::tokens, 2);
  matrix<Scalar> y{sizes::width, sizes::tokens};

  void mix() {
    stiefelx::expert_gram_schmidt(ctx, outputs, weights, y,
                                  {.kind = stiefelx::mixing::orthonormal});
  }

  // A sum of orthonormal vectors is as long as its weights.
  std::string fault() const {
    matrix<Scalar> const lengths = y.colwise().norm(), expected = weights.colwise().norm();
    return bench::difference_fault<Scalar>(lengths, expected, 1e-4);
  }
};

template <class Scalar>
void add_mixture(bench::suite& to) {
  to.add({sizes::name, sizes::shape, bench::scalar_name<Scalar>, "stiefelx"},
         sizes::cost(sizeof(Scalar)), [threads = to.threads()]() -> timed_call {
           std::shared_ptr<tokens<Scalar>> const t(
               new tokens<Scalar>{stiefelx::host::context({.threads = threads})});
           return {[t] { t->mix(); }, [t] { return t->fault(); }};
         });
}

}  // namespace

int main(int argc, char** argv) {
  bench::suite cases(argc, argv, bench::library_version());
  add_mixture<float>(cases);
  add_mixture<double>(cases);
  return cases.run();
}
