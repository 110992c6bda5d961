// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A table of mistakes that tier B or C must catch, and the program that runs one of them.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

#include <cuda/child.hpp>
#include <fake_cuda/executor.hpp>
#include <fake_cuda/sanitizer.hpp>

namespace must_fail {

/// Numbers that no oracle expects, told apart from a guard.
struct wrong_numbers : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void expect_number(double got, double expected) {
  if (!(std::abs(got - expected) < 1e-12))
    throw wrong_numbers("wrong numbers: an oracle disagrees");
}

/// Which builds have the guard.
enum class guarded { always, by_sanitizers };

struct bug {
  char const* name;
  void (*run)(bool wrong);
  child::end how;
  char const* guard;  ///< part of what the guard says
  guarded where = guarded::always;
};

// Clang's undefined-behaviour checks pass over the copy of a class at a wrong address.
#if defined(FAKE_CUDA_ASAN) && !defined(__clang__)
inline constexpr bool has_sanitizers = true;
#else
inline constexpr bool has_sanitizers = false;
#endif

/// Runs the bug that is named: first as it should be, which must end well, and then with the
/// mistake. \returns the status of the program, 77 where this build lacks the guard
inline int run_named(std::span<bug const> bugs, int count, char** arguments) {
  for (bug const& b : bugs) {
    if (count != 2 || std::strcmp(arguments[1], b.name) != 0) continue;
    child::report const right = child::run([&] { b.run(false); }, true);
    if (right.how != child::end::normal) {
      std::printf("without the mistake: %s\n", right.text.c_str());
      return 1;
    }
    if (b.where == guarded::by_sanitizers && !has_sanitizers) {
      std::printf("skipped: %s is caught where tier B runs under GCC's sanitizers, and by tier D\n",
                  b.name);
      return 77;
    }
    child::report const wrong = child::run([&] { b.run(true); }, true);
    bool const caught = wrong.how == b.how && wrong.text.find(b.guard) != std::string::npos;
    std::printf(
        "%s: %s by tier %s%s\n%s\n", b.name, caught ? "caught" : "NOT caught as expected",
        fake_cuda::keeps_lane_order ? "B" : "C",
        wrong.how == child::end::memory_fault ? ": device memory is closed to this access" : "",
        wrong.text.c_str());
    return caught ? 0 : 1;
  }
  std::printf("usage: %s BUG; there are:\n", arguments[0]);
  for (bug const& b : bugs) std::printf("  %s\n", b.name);
  return 2;
}

}  // namespace must_fail
