// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The main function of every test program. Boost.Test is linked dynamically, so this file alone
// includes the code that defines it; BOOST_TEST_DYN_LINK comes from CMake.
#define BOOST_TEST_MODULE stiefelx
#include <boost/test/unit_test.hpp>
