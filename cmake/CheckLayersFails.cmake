# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DROOT=<repository> -DWORK=<scratch folder> -P CheckLayersFails.cmake
#
# Seeds one fault at a time into a copy of include/ and requires that CheckLayers.cmake fails and
# prints the seeded line; other findings, which the test layers reports, do not matter.
cmake_minimum_required(VERSION 3.25)

set(script "${CMAKE_CURRENT_LIST_DIR}/CheckLayers.cmake")
file(REMOVE_RECURSE "${WORK}")
file(COPY "${ROOT}/include" DESTINATION "${WORK}")

# check(<file> <text> <PASS|FAIL>): a header of this text, alone in an otherwise sound copy.
function(check file text expected)
  set(path "${WORK}/include/stiefelx/${file}")
  file(WRITE "${path}" "#pragma once\n${text}\n")
  execute_process(COMMAND "${CMAKE_COMMAND}" "-DROOT=${WORK}" -P "${script}"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  file(REMOVE "${path}")
  if(expected STREQUAL "PASS" AND output MATCHES "seeded.hpp: ")
    message(FATAL_ERROR "${file} with \"${text}\" is sound, and CheckLayers fails:\n${output}")
  endif()
  string(STRIP "${text}" stripped)
  string(FIND "${output}" "${file}: ${stripped}" found)
  if(expected STREQUAL "FAIL" AND (result EQUAL 0 OR found EQUAL -1))
    message(FATAL_ERROR "${file} with \"${text}\" is not found by CheckLayers:\n${output}")
  endif()
endfunction()

check(core/seeded.hpp "inline int seeded = 0;" PASS)
check(nn/seeded.hpp "  return scale;" PASS)
check(nn/seeded.hpp "  scale(ctx, 2, seeded);" PASS)

check(core/seeded.hpp "#include <Eigen/Core>" FAIL)
check(optim/seeded.hpp "#include <cuda_runtime.h>" FAIL)
check(core/seeded.hpp "#include <stiefelx/orth/seeded.hpp>" FAIL)
check(manifold/seeded.hpp "#include <stiefelx/stiefelx.hpp>" FAIL)
check(host/seeded.hpp "#include \"stiefelx/version.hpp\"" FAIL)
check(nowhere/seeded.hpp "nowhere" FAIL)
check(cuda/seeded.hpp "  cudaMalloc(&p, 8);" FAIL)
check(cuda/seeded.hpp "  __syncthreads();" FAIL)
check(nn/seeded.hpp "  double scale = 1.0;" FAIL)
check(nn/seeded.hpp "  auto norm = f(x);" FAIL)
check(optim/seeded.hpp "  X const& value, auto y = value(ctx, s)" FAIL)
check(nn/seeded.hpp "  X const& value," PASS)
check(nn/seeded.hpp "  Lanes const& team, double* scratch, int t" PASS)
check(orth/seeded.hpp "  Velocity copy;" FAIL)
check(orth/seeded.hpp "  auto [q, gram] = f(x);" FAIL)

# Forbidden edges between folders that both exist need both ends.
file(WRITE "${WORK}/include/stiefelx/nn/end.hpp" "#pragma once\n")
file(WRITE "${WORK}/include/stiefelx/orth/end.hpp" "#pragma once\n")
check(optim/seeded.hpp "#include <stiefelx/nn/end.hpp>" FAIL)
check(core/seeded.hpp "#include <stiefelx/orth/end.hpp>" FAIL)
check(host/seeded.hpp "#include <stiefelx/orth/end.hpp>" FAIL)
check(nn/seeded.hpp "#include <stiefelx/orth/end.hpp>" PASS)

# A cycle within a folder.
file(WRITE "${WORK}/include/stiefelx/orth/end.hpp"
  "#pragma once\n#include <stiefelx/orth/seeded.hpp>\n")
set(path "${WORK}/include/stiefelx/orth/seeded.hpp")
file(WRITE "${path}" "#pragma once\n#include <stiefelx/orth/end.hpp>\n")
execute_process(COMMAND "${CMAKE_COMMAND}" "-DROOT=${WORK}" -P "${script}"
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0 OR NOT output MATCHES "orth/seeded.hpp: includes .*cycle")
  message(FATAL_ERROR "an include cycle is not found by CheckLayers:\n${output}")
endif()

file(REMOVE_RECURSE "${WORK}")
