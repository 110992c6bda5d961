# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DROOT=<repository> -DWORK=<scratch folder> -P CheckLayersFails.cmake
#
# Seeds faults into a copy of include/, each a header of its own, and requires that CheckLayers.cmake
# fails and prints every seeded line; other findings, which the test layers reports, do not matter.
# What is sound is seeded in the same way and must not be named.
cmake_minimum_required(VERSION 3.25)

set(script "${CMAKE_CURRENT_LIST_DIR}/CheckLayers.cmake")
file(REMOVE_RECURSE "${WORK}")
file(COPY "${ROOT}/include" DESTINATION "${WORK}")

# seed(<folder> <text> <PASS|FAIL>): a header of this text.
set(count 0)
set(headers "")
function(seed folder text expected)
  math(EXPR number "${count} + 1")
  set(count ${number} PARENT_SCOPE)
  set(header ${folder}/seeded_${number}.hpp)
  file(WRITE "${WORK}/include/stiefelx/${header}" "#pragma once\n${text}\n")
  set(text_${number} "${text}" PARENT_SCOPE)
  set(expected_${number} ${expected} PARENT_SCOPE)
  list(APPEND headers ${header})
  set(headers ${headers} PARENT_SCOPE)
endfunction()

# check(): one run over all that was seeded since the last one.
macro(check)
  execute_process(COMMAND "${CMAKE_COMMAND}" "-DROOT=${WORK}" -P "${script}"
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  foreach(header IN LISTS headers)
    string(REGEX REPLACE ".*seeded_([0-9]+)[.]hpp" "\\1" number "${header}")
    set(text "${text_${number}}")
    string(STRIP "${text}" stripped)
    string(FIND "${output}" "${header}: " named)
    string(FIND "${output}" "${header}: ${stripped}" found)
    if(expected_${number} STREQUAL "PASS" AND NOT named EQUAL -1)
      message(FATAL_ERROR "${header} with \"${text}\" is sound, and CheckLayers names it:\n${output}")
    endif()
    if(expected_${number} STREQUAL "FAIL" AND (result EQUAL 0 OR found EQUAL -1))
      message(FATAL_ERROR "${header} with \"${text}\" is not found by CheckLayers:\n${output}")
    endif()
    file(REMOVE "${WORK}/include/stiefelx/${header}")
  endforeach()
  set(headers "")
endmacro()

# A fault alone, in a run of its own, makes the status of an otherwise sound copy an error.
seed(core "#include <Eigen/Core>" FAIL)
check()

seed(core "inline int seeded = 0;" PASS)
seed(nn "  return scale;" PASS)
seed(nn "  scale(ctx, 2, seeded);" PASS)

seed(core "#include <Eigen/Core>" FAIL)
seed(optim "#include <cuda_runtime.h>" FAIL)
seed(core "#include <stiefelx/orth/seeded.hpp>" FAIL)
seed(manifold "#include <stiefelx/stiefelx.hpp>" FAIL)
seed(host "#include \"stiefelx/version.hpp\"" FAIL)
seed(nowhere "nowhere" FAIL)
seed(cuda "  cudaMalloc(&p, 8);" FAIL)
seed(cuda "  __syncthreads();" FAIL)
seed(nn "  double scale = 1.0;" FAIL)
seed(nn "  auto norm = f(x);" FAIL)
seed(optim "  X const& value, auto y = value(ctx, s)" FAIL)
seed(nn "  X const& value," PASS)
seed(nn "  Lanes const& team, double* scratch, int t" PASS)
seed(orth "  Velocity copy;" FAIL)
seed(orth "  auto [q, gram] = f(x);" FAIL)

# Forbidden edges between folders that both exist need both ends.
file(WRITE "${WORK}/include/stiefelx/nn/end.hpp" "#pragma once\n")
file(WRITE "${WORK}/include/stiefelx/orth/end.hpp" "#pragma once\n")
seed(optim "#include <stiefelx/nn/end.hpp>" FAIL)
seed(core "#include <stiefelx/orth/end.hpp>" FAIL)
seed(host "#include <stiefelx/orth/end.hpp>" FAIL)
seed(nn "#include <stiefelx/orth/end.hpp>" PASS)
check()

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
