// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#define STIEFELX_TEST_DEFINES_INSTANCES
#include <support/instances.hpp>
