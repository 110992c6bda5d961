// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <functional>

#include <boost/test/unit_test.hpp>

#include "counted_heap.hpp"

/// Steps of a loop that allocate nothing after the first one.
namespace support {

/// Heap calls of one run of f.
inline long allocations_of(std::function<void()> const& f) {
  long const before = heap_calls;
  f();
  return heap_calls - before;
}

/// Runs a step once to reach the high-water mark, and then counts.
inline void expect_steady(char const* name, std::function<void()> const& step) {
  step();
  BOOST_TEST_CONTEXT(name) {
    long const second = allocations_of(step), third = allocations_of(step);
    BOOST_TEST(second == 0);
    BOOST_TEST(third == 0);
  }
}

}  // namespace support
