// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "bench/cuda/suite.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string_view>
#include <utility>

#include <cublas_api.h>

#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/version.hpp>

#include "bench/cuda/event.hpp"

namespace bench {

namespace {

// Larger than the L2 of any device: 50 MB on an H100, 126 MB on a B200.
constexpr std::size_t flushed_bytes = std::size_t{256} << 20;
// What the repetitions of a row take together, and how many they are. An odd number of them has a
// median that was measured.
constexpr double nanoseconds_of_row = 0.2e9;
constexpr double least_repetitions = 11, most_repetitions = 201;

[[noreturn]] void refuse_arguments(std::string const& reason) {
  std::cerr << reason << "\nusage: PROGRAM [--list] [--filter TEXT] [--small]\n";
  std::exit(2);
}

std::string version() {
  auto const dotted = [](int a, int b, int c) {
    return std::to_string(a) + "." + std::to_string(b) + "." + std::to_string(c);
  };
  return "stiefelx " +
         dotted(stiefelx::version_major, stiefelx::version_minor, stiefelx::version_patch) +
         ", CUDA " + stiefelx::cuda::detail::dotted_version(CUDART_VERSION) + ", cuBLAS " +
         dotted(CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR, CUBLAS_VER_PATCH);
}

std::string shortest(double number) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, number).ptr);
}

struct timing {
  double median;
  double least;
};

// No text of a row has a character that JSON would write another way.
void print_row(combination const& what, work const& cost, timing const* times) {
  std::string line = "{\"case\":\"" + what.name + "\",\"impl\":\"" + what.implementation +
                     "\",\"version\":\"" + version() + "\",\"scalar\":\"" + what.scalar +
                     "\",\"shape\":\"" + what.shape + "\"";
  if (times != nullptr)
    line += ",\"median_ns\":" + shortest(times->median) + ",\"min_ns\":" + shortest(times->least);
  line += ",\"flops\":" + shortest(cost.flops) + ",\"bytes\":" + shortest(cost.bytes) + "}\n";
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
}

timing measure(device_call const& timed, bool small) {
  std::size_t const bytes = small ? 4096 : flushed_bytes;
  stiefelx::cuda::buffer<std::byte> const cache(bytes);
  event first, last;
  auto const once = [&] {
    stiefelx::cuda::clear_2d(cache.data(), bytes, bytes, 1, timed.queue);
    first.record(timed.queue);
    timed.call();
    last.record(timed.queue);
    last.wait();
    return event::nanoseconds(first, last);
  };
  double guess = 0;
  for (int i = 0; i < 3; ++i) guess = once();
  double const wanted =
      std::clamp(nanoseconds_of_row / std::max(guess, 1.0), least_repetitions, most_repetitions);
  std::size_t const repetitions = small ? 3 : static_cast<std::size_t>(wanted) / 2 * 2 + 1;
  std::vector<double> times(repetitions);
  for (double& t : times) t = once();
  std::sort(times.begin(), times.end());
  return {times[repetitions / 2], times.front()};
}

}  // namespace

device_suite::device_suite(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    if (option == "--list") {
      list_ = true;
    } else if (option == "--small") {
      small_ = true;
    } else if (option == "--filter") {
      if (++i == argc) refuse_arguments("--filter needs a value");
      filter_ = argv[i];
    } else {
      refuse_arguments("unknown option " + std::string(option));
    }
  }
}

void device_suite::add(combination what, work cost, std::function<device_call()> make) {
  entries_.push_back({std::move(what), cost, std::move(make)});
}

int device_suite::run() {
  int status = 0;
  for (entry const& e : entries_) {
    std::string const name = e.what.name + '/' + e.what.shape + '/' + e.what.scalar;
    if (name.find(filter_) == std::string::npos) continue;
    if (list_) {
      print_row(e.what, e.cost, nullptr);
      continue;
    }
    std::string fault;
    try {
      device_call const timed = e.make();
      timed.call();
      fault = timed.fault();
      if (fault.empty()) {
        timing const times = measure(timed, small_);
        print_row(e.what, e.cost, &times);
      }
    } catch (std::exception const& error) {
      fault = error.what();
    }
    if (!fault.empty()) {
      std::cerr << "refused " << e.what.implementation << " in " << name << ", because " << fault
                << "\n";
      status = 1;
    }
  }
  return status;
}

}  // namespace bench
