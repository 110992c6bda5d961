// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <array>
#include <cstddef>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/core/unroll.hpp>

BOOST_AUTO_TEST_SUITE(unroll)

BOOST_AUTO_TEST_CASE(indices_come_in_order) {
  std::vector<std::ptrdiff_t> found;
  stiefelx::unroll<4>([&](std::ptrdiff_t i) { found.push_back(i); });
  BOOST_TEST(found == (std::vector<std::ptrdiff_t>{0, 1, 2, 3}), boost::test_tools::per_element());
  stiefelx::unroll<0>([&](std::ptrdiff_t i) { found.push_back(i); });
  BOOST_TEST(found.size() == 4u);
}

BOOST_AUTO_TEST_CASE(an_index_may_be_a_constant_of_the_type) {
  std::array<std::size_t, 3> sizes{};
  stiefelx::unroll<3>([&](auto i) { sizes[i] = std::array<char, i + 1>{}.size(); });
  BOOST_TEST(sizes == (std::array<std::size_t, 3>{1, 2, 3}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(one_that_is_a_number_is_the_same_function_for_all) {
  // A static of a lambda is one for each of its instantiations.
  int calls = 0;
  stiefelx::unroll<5>([&](std::ptrdiff_t) {
    static int count = 0;
    calls = ++count;
  });
  BOOST_TEST(calls == 5);
}

BOOST_AUTO_TEST_SUITE_END()
