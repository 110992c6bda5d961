# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DKIND=... -DVERSION=... -DSOURCE=<repository> -DBUILD=<its build folder>
#         -DWORK=<scratch folder> -DCOMPILER=... -P run.cmake
#
# Configures, builds and runs the consumer in a fresh folder; with find_package, against a copy
# installed there.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(NOT result EQUAL 0)
    string(JOIN " " command ${ARGN})
    message("${text}")
    message(FATAL_ERROR "${result}: ${command}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
# A copy of the consumer, so that nothing of the repository is found beside it.
file(COPY "${SOURCE}/tests/package/" DESTINATION "${WORK}/consumer")

if(KIND STREQUAL "find_package")
  run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix")
  set(where "-DCMAKE_PREFIX_PATH=${WORK}/prefix")
else()
  set(where "-DSTIEFELX_SOURCE=${SOURCE}")
endif()

run("${CMAKE_COMMAND}" -S "${WORK}/consumer" -B "${WORK}/build" "-DCMAKE_CXX_COMPILER=${COMPILER}"
  "-DKIND=${KIND}" "-DVERSION=${VERSION}" "${where}")
run("${CMAKE_COMMAND}" --build "${WORK}/build")
run("${WORK}/build/consumer")
