// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <boost/test/unit_test.hpp>

#include <support/backends.hpp>

namespace support {

/// f(rows, cols) for empty, single, square, tall and wide shapes; a failure names the shape.
template <class F>
void for_each_shape(F const& f) {
  using shape = std::pair<index_t, index_t>;
  for (auto const& [rows, cols] :
       {shape{0, 0}, {0, 3}, {3, 0}, {1, 1}, {1, 7}, {3, 3}, {65, 5}, {5, 33}}) {
    BOOST_TEST_INFO_SCOPE("shape " << rows << "x" << cols);
    f(rows, cols);
  }
}

}  // namespace support
