// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Checkpoints: a run that stops and goes on has the bits of one that did not stop.

#include <complex>
#include <cstdint>
#include <limits>
#include <string>

#include <boost/test/unit_test.hpp>

#include <io/checkpoint_samples.hpp>
#include <io/files.hpp>
#include <stiefelx/io/checkpoint.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/nn/dropout.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/state.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>

namespace {

using namespace io_test;
using stiefelx::checkpoint_reader;
using stiefelx::checkpoint_writer;
using stiefelx::format_fault;
using stiefelx::index_t;

/// A training run: a point, its optimizer, and a gradient with dropout from a stream.
template <class S>
struct training {
  stiefelx::host::context ctx;
  support::matrix_x<S> x = support::orthonormal_frame<S>(7, 3, 1);
  stiefelx::random_stream stream{9, 0};
  std::int64_t step = 0;
  decltype(stiefelx::riemannian_momentum(ctx, stiefelx::stiefel{7, 3}, x)) opt{
      ctx, stiefelx::stiefel{7, 3}, x};

  void run(int steps) {
    for (int k = 0; k < steps; ++k, ++step) {
      support::matrix_x<S> g = support::random_matrix<S>(7, 3, static_cast<std::uint64_t>(step));
      support::matrix_x<double> mask = support::matrix_x<double>::Ones(7, 3);
      dropout(ctx, stiefelx::next_dropout_mask(stream, 0.25), mask, mask);
      g = g.cwiseProduct(mask.cast<S>());
      opt.step(ctx, x, g);
    }
  }

  void write(std::string const& path) {
    checkpoint_writer to;
    if constexpr (std::is_floating_point_v<S>) to.add("x", x);
    to.add_state("opt", save(ctx, opt));
    to.add_stream("dropout", stream);
    to.add_number("step", step);
    to.add_text("note", "x is 7x3");
    to.write(path);
  }

  void read(std::string const& path) {
    checkpoint_reader const from(path);
    if constexpr (std::is_floating_point_v<S>) from.read("x", x);
    load(ctx, from.state<stiefelx::optimizer_state>("opt"), opt);
    stream = from.stream("dropout");
    step = from.number("step");
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(a_run_goes_on_with_the_same_bits) {
  temporary_folder const folder;
  training<float> whole, first, second;
  whole.run(10);
  first.run(5);
  first.write(folder / "run.safetensors");
  second.read(folder / "run.safetensors");
  BOOST_TEST(second.step == 5);
  second.run(5);
  BOOST_TEST((second.x == whole.x));
  BOOST_TEST((save(second.ctx, second.opt) == save(whole.ctx, whole.opt)));
  BOOST_TEST(second.stream.offset == whole.stream.offset);
}

BOOST_AUTO_TEST_CASE(complex_states_and_extreme_counters_come_back) {
  temporary_folder const folder;
  training<std::complex<double>> a, b;
  a.run(3);
  a.stream = {std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 63};
  a.step = std::numeric_limits<std::int64_t>::min();
  a.write(folder / "run.safetensors");
  b.read(folder / "run.safetensors");
  BOOST_TEST((save(a.ctx, a.opt) == save(b.ctx, b.opt)));
  BOOST_TEST(b.stream.seed == a.stream.seed);
  BOOST_TEST(b.stream.offset == a.stream.offset);
  BOOST_TEST(b.step == a.step);
  BOOST_TEST(checkpoint_reader(folder / "run.safetensors").text("note") == "x is 7x3");
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_named_and_changes_nothing) {
  temporary_folder const folder;
  auto const path = folder / "run.safetensors";
  training<float> run;
  run.run(2);
  run.write(path);
  checkpoint_reader const from(path);
  support::matrix_x<double> wide = support::matrix_x<double>::Zero(7, 3);
  support::matrix_x<float> other = support::matrix_x<float>::Zero(3, 7);
  expect_fault(format_fault::dtype, "'x' of F32", [&] { from.read("x", wide); });
  expect_fault(format_fault::shape, "'x'", [&] { from.read("x", other); });
  expect_fault(format_fault::missing_tensor, "'y'", [&] { from.read("y", other); });
  expect_fault(format_fault::member, "'state:x'",
               [&] { from.state<stiefelx::optimizer_state>("x"); });
  expect_fault(format_fault::member, "'stream:x'", [&] { from.stream("x"); });
  expect_fault(format_fault::member, "'number:x'", [&] { from.number("x"); });
  BOOST_TEST((wide.isZero(0) && other.isZero(0)));

  // A state of another optimizer's shape is load()'s to refuse.
  training<double> double_run;
  auto const before = save(double_run.ctx, double_run.opt);
  BOOST_CHECK_THROW(
      load(double_run.ctx, from.state<stiefelx::optimizer_state>("opt"), double_run.opt),
      stiefelx::state_error);
  BOOST_TEST((save(double_run.ctx, double_run.opt) == before));
}

BOOST_AUTO_TEST_CASE(files_that_are_no_checkpoints_are_refused) {
  temporary_folder const folder;
  auto const path = folder / "run.safetensors";
  auto const with = [&](auto const& add) {
    stiefelx::safetensors_writer to;
    add(to);
    to.write(path);
    return checkpoint_reader(path);
  };
  expect_fault(format_fault::version, "no stiefelx.format", [&] { with([](auto&) {}); });
  expect_fault(format_fault::version, "stiefelx.format '2'",
               [&] { with([](auto& to) { to.add_metadata("stiefelx.format", "2"); }); });
  auto const entry = [&](char const* name, char const* text) {
    return with([&](auto& to) {
      to.add_metadata("stiefelx.format", "1");
      to.add_metadata(name, text);
    });
  };
  for (char const* text : {"", "1", "1 ", " 1", "1 2 3", "-1 2", "1 18446744073709551616"})
    expect_fault(format_fault::number, "stream", [&] { entry("stream:s", text).stream("s"); });
  for (char const* text : {"", "1.5", "9223372036854775808", "1 "})
    expect_fault(format_fault::number, "number", [&] { entry("number:n", text).number("n"); });
  auto const state = [&](char const* text) {
    return [&, text] { entry("state:s", text).template state<stiefelx::optimizer_state>("s"); };
  };
  expect_fault(format_fault::syntax, "", state("{"));
  expect_fault(format_fault::member, "", state("{}"));
  expect_fault(format_fault::missing_tensor, "'s/a'", state(R"({"optimizer":"o","arrays":["a"]})"));
}

// The fuzzer's seeds. A repeated array would need more memory than the file has bytes.
BOOST_AUTO_TEST_CASE(content_in_memory_is_read_and_every_defect_has_its_reason) {
  auto const read = [](sample const& s) {
    checkpoint_reader const from(bytes_of(s.bytes));
    for (auto const& [name, value] : from.file().metadata()) {
      if (name == "state:s") from.state<stiefelx::optimizer_state>("s");
      if (name == "stream:d") from.stream("d");
      if (name == "number:n") from.number("n");
    }
  };
  auto const sound = sound_checkpoint();
  for (sample const& s : sound) BOOST_TEST_CONTEXT(s.name) BOOST_CHECK_NO_THROW(read(s));
  for (sample const& s : hostile_checkpoint())
    BOOST_TEST_CONTEXT(s.name) expect_fault(s.fault, "", [&] { read(s); });
  checkpoint_reader const from(bytes_of(named(sound, "state").bytes));
  auto const found = from.state<stiefelx::optimizer_state>("s");
  BOOST_TEST(found.optimizer == "adam");
  BOOST_REQUIRE(found.arrays.size() == 3U);
  BOOST_TEST(found.arrays[1].scalar == "complex128");
  BOOST_TEST(found.arrays[0].rows == 2);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_of_bytes_is_the_one_of_the_file) {
  temporary_folder const folder;
  checkpoint_writer to;
  support::matrix_x<float> const x = support::random_matrix<float>(3, 2, 1);
  to.add("x", x);
  to.add_number("step", 3);
  to.write(folder / "run.safetensors");
  BOOST_TEST((text_of(to.bytes()) == content(folder / "run.safetensors")));
}

BOOST_AUTO_TEST_CASE(names_are_taken_once) {
  checkpoint_writer to;
  support::matrix_x<float> const x = support::matrix_x<float>::Zero(2, 2);
  to.add("x", x);
  to.add_number("x", 1);
  to.add_text("x", "");
  to.add_stream("x", {});
  expect_fault(format_fault::duplicate_name, "'x'", [&] { to.add("x", x); });
  expect_fault(format_fault::duplicate_name, "'number:x'", [&] { to.add_number("x", 1); });
  expect_fault(format_fault::not_utf8, "", [&] { to.add_text("y", "\xff"); });
}

BOOST_AUTO_TEST_SUITE_END()
