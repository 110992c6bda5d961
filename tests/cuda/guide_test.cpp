// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <cmath>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/cuda/graph.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/transfer.hpp>
#include <stiefelx/cuda/transform.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/orth/residual.hpp>

// What the guide to the device shows, run as it is printed there.
BOOST_AUTO_TEST_SUITE(guide)

BOOST_AUTO_TEST_CASE(a_step_on_the_device_stays_on_the_manifold) {
  std::vector<float> host_point(40), host_gradient(40);
  for (std::size_t i = 0; i < host_point.size(); ++i) {
    host_point[i] = i % 11 == 0 ? 1.0F : 0.0F;
    host_gradient[i] = static_cast<float>(i % 7) - 3.0F;
  }

  //! [step]
  namespace device = stiefelx::cuda;
  device::context ctx;
  stiefelx::stiefel const m{10, 4};

  auto x = zeros<float>(ctx, m.n, m.p);
  auto g = zeros<float>(ctx, m.n, m.p);
  upload(ctx, host_point.data(), x);
  upload(ctx, host_gradient.data(), g);

  auto v = scratch<float>(ctx, m.n, m.p);
  project(ctx, m, x, g, v);
  scale(ctx, -0.1, v);
  retract(ctx, m, x, v, x);

  auto error = zeros<float>(ctx, 1, 1);
  stiefelx::orthonormality_error(ctx, x, error);
  float const off = value(ctx, error);  // the first call that waits
  //! [step]

  // Sixteen roundings a sum of ten products, and the Gram matrix of a step of length below 2.
  BOOST_TEST(off <= 5 * 16 * 10 * 0x1p-24F);
  BOOST_TEST(off >= 0.0F);
}

BOOST_AUTO_TEST_CASE(a_step_is_captured_and_replayed) {
  std::vector<double> batch(24, 0.5);
  //! [capture]
  namespace device = stiefelx::cuda;
  device::context ctx;
  auto weights = zeros<double>(ctx, 6, 4);
  auto gradient = zeros<double>(ctx, 6, 4);

  auto const step = [&] {
    auto const direction = clone(ctx, gradient);
    axpy(ctx, -0.1, direction, weights);
  };
  step();                                // scratch reaches its size
  auto const work = capture(ctx, step);  // records, runs nothing
  for (int k = 0; k < 3; ++k) {
    upload(ctx, batch.data(), gradient);  // new numbers in the same memory
    replay(ctx, work);
  }
  //! [capture]
  std::vector<double> found(24);
  download(ctx, weights, found.data());
  for (double w : found) BOOST_TEST(std::abs(w + 0.15) < 1e-15);
}

BOOST_AUTO_TEST_CASE(memory_of_the_callers_is_wrapped) {
  namespace device = stiefelx::cuda;
  device::context ctx;
  auto owner = zeros<double>(ctx, 8, 3);
  double* const pointer = owner.data();
  //! [wrap]
  // 6 x 3 inside an 8 x 3 allocation of the caller's.
  device::matrix_view<double> view(pointer, 6, 3, 8);
  fill(ctx, 2, view);
  //! [wrap]
  std::vector<double> found(24);
  download(ctx, owner, found.data());
  for (std::size_t i = 0; i < found.size(); ++i) BOOST_TEST(found[i] == (i % 8 < 6 ? 2.0 : 0.0));
}

BOOST_AUTO_TEST_SUITE_END()
