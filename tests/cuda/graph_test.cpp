// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Captures and graphs: nothing runs before a replay, what a capture forbids says so, and scratch of a
// graph stays where it is.

#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/table.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/graph.hpp>
#include <support/device_backend.hpp>

namespace {

namespace device = stiefelx::cuda;
using support::device_backend;
using tables::message_of;
using matrix = Eigen::MatrixXd;

bool same(matrix const& a, matrix const& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() && (a.array() == b.array()).all();
}

bool holds(std::string const& text, char const* piece) {
  return text.find(piece) != std::string::npos;
}

/// y = 2 x + y, by scratch.
struct small_step {
  device::context ctx{{.blas_workspace = 16384}};
  device::matrix<double> x = device_backend::upload(ctx, matrix::Constant(5, 3, 1.0));
  device::matrix<double> y = zeros<double>(ctx, 5, 3);

  void run() {
    auto const twice = clone(ctx, x);
    axpy(ctx, 2, twice, y);
  }
  double entry() {
    matrix const all = device_backend::download(ctx, y);
    BOOST_TEST((all.array() == all(0, 0)).all());
    return all(0, 0);
  }
  /// What a capture of run() and then f says.
  std::string refused(std::function<void()> const& f) {
    return message_of([&] {
      (void)capture(ctx, [&] {
        run();
        f();
      });
    });
  }
  /// After a failed capture: nothing of it has run, and the context works.
  void expect_usable() {
    double const before = entry();
    run();
    BOOST_TEST(entry() == before + 2);
    auto const again = capture(ctx, [&] { run(); });
    replay(ctx, again);
    BOOST_TEST(entry() == before + 4);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(graph)

BOOST_AUTO_TEST_CASE(a_captured_step_has_no_effect_until_it_is_replayed) {
  small_step s;
  s.run();
  BOOST_TEST(s.entry() == 2);
  auto const work = capture(s.ctx, [&] { s.run(); });
  BOOST_TEST(s.entry() == 2);
  for (int k = 2; k < 5; ++k) {
    replay(s.ctx, work);
    BOOST_TEST(s.entry() == 2 * k);
  }
  // Direct work and replays take turns in the order in which they are queued.
  fill(s.ctx, 10, s.x);
  replay(s.ctx, work);
  s.run();
  BOOST_TEST(s.entry() == 48);
}

// --- misuse --------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(a_step_that_was_never_run_is_told_to_run_once) {
  small_step s;
  auto const text = message_of(
      [&] { (void)capture(s.ctx, [&] { auto const big = scratch<double>(s.ctx, 300, 300); }); });
  BOOST_TEST(holds(text, "run the step once before capturing it"), text);
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(seeded_bug_a_captured_step_allocates) {
  small_step s;
  s.run();
  BOOST_TEST(s.refused([] {}) == "nothing was thrown");
  std::string const text = s.refused([&] { auto const owner = zeros<double>(s.ctx, 2, 2); });
  BOOST_TEST(holds(text, "cudaMalloc: operation not permitted when stream is capturing"), text);
  BOOST_TEST(holds(text, "must neither allocate device memory nor wait"), text);
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(seeded_bug_a_captured_step_waits) {
  small_step s;
  s.run();
  std::string const text =
      s.refused([&] { (void)value(s.ctx, s.y.middleCols(0, 1).middleRows(0, 1)); });
  BOOST_TEST(holds(text, "cudaStreamSynchronize: operation not permitted"), text);
  BOOST_TEST(holds(text, "must neither allocate device memory nor wait"), text);
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(seeded_bug_a_captured_step_drops_a_matrix) {
  small_step s;
  s.run();
  long const before = fake_cuda::live_allocations();
  std::optional<device::matrix<double>> owner(zeros<double>(s.ctx, 2, 2));
  std::string const text = s.refused([&] { owner.reset(); });
  BOOST_TEST(holds(text, "cudaStreamEndCapture: operation failed due to a previous error"), text);
  BOOST_TEST(fake_cuda::live_allocations() == before);
  // The thread is as strict as before.
  BOOST_TEST(
      holds(s.refused([&] { auto const other = zeros<double>(s.ctx, 2, 2); }), "cudaMalloc"));
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(an_error_that_the_step_hides_still_ends_the_capture) {
  small_step s;
  s.run();
  std::string const text = s.refused([&] {
    BOOST_CHECK_THROW(synchronize(s.ctx.queue), device::cuda_error);
    BOOST_CHECK_THROW(s.run(), device::cuda_error);
  });
  BOOST_TEST(holds(text, "cudaStreamEndCapture: operation failed due to a previous error"), text);
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(an_exception_of_the_step_passes_and_ends_the_capture) {
  small_step s;
  s.run();
  BOOST_TEST(s.refused([] { throw std::runtime_error("of the step"); }) == "of the step");
  BOOST_TEST(s.ctx.memory.live() == 0U);
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(captures_and_replays_are_not_captured) {
  small_step s;
  s.run();
  std::string const text = s.refused([&] { (void)capture(s.ctx, [&] { s.run(); }); });
  BOOST_TEST(holds(text, "this context is being captured already"), text);
  auto const work = capture(s.ctx, [&] { s.run(); });
  std::string const inner = s.refused([&] { replay(s.ctx, work); });
  BOOST_TEST(holds(inner, "cannot be part of the capture of another"), inner);
  s.expect_usable();
}

BOOST_AUTO_TEST_CASE(a_graph_belongs_to_its_context) {
  small_step s, other;
  s.run();
  auto work = capture(s.ctx, [&] { s.run(); });
  std::string const text = message_of([&] { replay(other.ctx, work); });
  BOOST_TEST(holds(text, "captured from another context"), text);
  auto const moved = std::move(work);
  BOOST_TEST(message_of([&] { replay(s.ctx, work); }) == text);
  replay(s.ctx, moved);
  BOOST_TEST(s.entry() == 4);
}

BOOST_AUTO_TEST_CASE(a_matrix_that_is_gone_is_found_by_the_replay) {
  small_step s;
  std::optional<device::matrix<double>> z(zeros<double>(s.ctx, 5, 3));
  auto const by_kernel = [&] { axpy(s.ctx, 1, *z, s.y); };
  auto const by_product = [&] { multiply(s.ctx, z->adjoint(), s.x, s.y.middleRows(0, 3)); };
  auto const by_copy = [&] { copy(s.ctx, *z, s.y); };
  by_product();
  std::vector<device::graph> all;
  all.push_back(capture(s.ctx, by_kernel));
  all.push_back(capture(s.ctx, by_product));
  all.push_back(capture(s.ctx, by_copy));
  for (auto const& work : all) replay(s.ctx, work);
  z.reset();
  for (auto const& work : all) {
    BOOST_CHECK_EXCEPTION(replay(s.ctx, work), fake_cuda::fault,
                          [](auto const& fault) { return holds(fault.what(), "freed"); });
  }
}

// --- scratch -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(scratch_of_a_graph_stays_when_the_arena_grows) {
  small_step s;
  s.run();
  std::size_t const held = s.ctx.memory.capacity();
  std::optional<device::graph> work(capture(s.ctx, [&] { s.run(); }));
  for (int k = 0; k < 3; ++k) {
    auto const more = scratch<double>(s.ctx, 100, 100);
    auto const most = scratch<double>(s.ctx, 300, 300);
  }
  BOOST_TEST(s.ctx.memory.capacity() > held);
  replay(s.ctx, *work);
  BOOST_TEST(s.entry() == 4);
  // A second graph needs no merged memory: its step was run once.
  auto const large = [&] {
    auto const more = scratch<double>(s.ctx, 200, 200);
    auto const most = scratch<double>(s.ctx, 400, 400);
    auto const last = scratch<double>(s.ctx, 600, 600);
    s.run();
  };
  large();
  auto const second = capture(s.ctx, large);
  replay(s.ctx, second);
  replay(s.ctx, *work);
  BOOST_TEST(s.entry() == 10);
  long const before = fake_cuda::live_allocations();
  work.reset();
  s.run();
  BOOST_TEST(fake_cuda::live_allocations() == before);
}

BOOST_AUTO_TEST_CASE(one_run_is_enough_for_a_step_that_grows_the_scratch_several_times) {
  small_step s;
  auto const large = [&] {
    auto const first = scratch<double>(s.ctx, 200, 200);
    auto const second = scratch<double>(s.ctx, 400, 400);
    s.run();
  };
  large();
  long const before = fake_cuda::live_allocations();
  auto const work = capture(s.ctx, large);
  BOOST_TEST(fake_cuda::live_allocations() < before);
  replay(s.ctx, work);
  BOOST_TEST(s.entry() == 4);
}

BOOST_AUTO_TEST_CASE(chunks_merge_again_when_the_last_graph_is_gone) {
  small_step s;
  s.run();
  std::optional<device::graph> work(capture(s.ctx, [&] { s.run(); }));
  {
    auto const most = scratch<double>(s.ctx, 300, 300);
  }
  long const before = fake_cuda::live_allocations();
  s.run();
  BOOST_TEST(fake_cuda::live_allocations() == before);
  work.reset();
  s.run();
  BOOST_TEST(fake_cuda::live_allocations() == before - 1);
}

BOOST_AUTO_TEST_CASE(scratch_that_a_replay_would_write_over_is_found) {
  small_step s;
  s.run();
  auto const earlier = clone(s.ctx, s.x);
  s.run();
  auto const work = capture(s.ctx, [&] { s.run(); });
  replay(s.ctx, work);
  {
    auto const later = clone(s.ctx, s.x);
    std::string const text = message_of([&] { replay(s.ctx, work); });
    BOOST_TEST(holds(text, "release it first, or take it before the capture"), text);
  }
  replay(s.ctx, work);
  BOOST_TEST(s.entry() == 8);
  BOOST_TEST(same(device_backend::download(s.ctx, earlier), device_backend::download(s.ctx, s.x)));
}

BOOST_AUTO_TEST_CASE(scratch_that_a_step_leaves_holds_what_the_last_replay_wrote) {
  small_step s;
  s.run();
  s.run();
  std::optional<device::scratch_matrix<double>> left;
  auto const work = capture(s.ctx, [&] { left.emplace(clone(s.ctx, s.x)); });
  for (double number : {3.0, 7.0}) {
    fill(s.ctx, number, s.x);
    replay(s.ctx, work);
    BOOST_TEST(device_backend::download(s.ctx, *left)(4, 2) == number);
  }
}

BOOST_AUTO_TEST_CASE(scratch_that_a_step_gives_back_and_takes_again_is_reserved) {
  small_step s;
  std::optional<device::scratch_matrix<double>> saved;
  auto const step = [&] {
    saved.reset();
    saved.emplace(clone(s.ctx, s.x));
  };
  step();
  auto const work = capture(s.ctx, step);
  replay(s.ctx, work);
  saved.reset();
  auto const later = scratch<double>(s.ctx, 5, 3);
  BOOST_CHECK_THROW(replay(s.ctx, work), std::logic_error);
}

BOOST_AUTO_TEST_CASE(one_run_is_enough_for_a_step_that_holds_scratch_between_its_runs) {
  small_step s;
  std::optional<device::scratch_matrix<double>> saved;
  auto const step = [&] {
    saved.reset();
    saved.emplace(clone(s.ctx, s.x));
    // A second chunk, which cannot be merged with the first while that is held.
    auto large = scratch<double>(s.ctx, 5, 3000);
    fill(s.ctx, 1, large);
    axpy(s.ctx, 1, large.middleCols(0, 3), s.y);
  };
  step();
  auto const work = capture(s.ctx, step);
  replay(s.ctx, work);
  BOOST_TEST(s.entry() == 2);
}

BOOST_AUTO_TEST_CASE(memory_of_the_host_is_read_when_the_graph_runs) {
  small_step s;
  std::vector<double> source(15, 3.0);
  auto const work = capture(s.ctx, [&] { upload(s.ctx, source.data(), s.y); });
  replay(s.ctx, work);
  BOOST_TEST(s.entry() == 3);
  source.assign(15, 4.0);
  replay(s.ctx, work);
  BOOST_TEST(s.entry() == 4);
}

BOOST_AUTO_TEST_CASE(memory_of_the_host_stays_as_it_is_until_the_graph_is_waited_for) {
  small_step s;
  std::vector<double> source(15, 3.0);
  auto const work = capture(s.ctx, [&] { upload(s.ctx, source.data(), s.y); });
  replay(s.ctx, work);
  source.assign(15, 5.0);
  BOOST_CHECK_THROW(synchronize(s.ctx.queue), fake_cuda::fault);
}

BOOST_AUTO_TEST_SUITE_END()
