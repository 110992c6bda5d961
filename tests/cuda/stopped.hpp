// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>

#include <boost/test/unit_test.hpp>

#include <fake_cuda/fake.hpp>

/// The text that the fake device refuses f with.
template <class F>
std::string stopped(F const& f) {
  try {
    f();
  } catch (fake_cuda::fault const& fault) {
    return fault.what();
  }
  return "nothing was stopped";
}

/// Whether f is refused with a text that holds a piece.
template <class F>
bool stops(F const& f, std::string const& piece) {
  std::string const text = stopped(f);
  BOOST_TEST_INFO(text);
  return text.find(piece) != std::string::npos;
}
