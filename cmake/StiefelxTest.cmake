# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   stiefelx_add_test(name SOURCES file... [LABELS label...] [LIBRARIES target...])
#
# builds the program test_<name> from Boost.Test files and registers one CTest case a file. The file
# <suite>_test.cpp holds one BOOST_AUTO_TEST_SUITE(<suite>); its case is <name>.<suite>. A suite that
# is not in the file fails, since Boost.Test finds nothing to run.
#
# In a sanitizer build every case is <sanitizer>.<name>.<suite>, and its only label is the
# sanitizer's, so that the cases of several builds can be run together and told apart.

if(STIEFELX_SANITIZE STREQUAL "address")
  set(stiefelx_sanitizer_label asan)
elseif(STIEFELX_SANITIZE STREQUAL "thread")
  set(stiefelx_sanitizer_label tsan)
else()
  set(stiefelx_sanitizer_label "")
endif()

function(stiefelx_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LABELS;LIBRARIES")
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "stiefelx_add_test(${name}): no SOURCES")
  endif()

  set(target test_${name})
  add_executable(${target} ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE stiefelx_test_support ${arg_LIBRARIES})
  target_precompile_headers(${target} REUSE_FROM stiefelx_test_support)

  if(stiefelx_sanitizer_label)
    set(prefix ${stiefelx_sanitizer_label}.)
    set(labels ${stiefelx_sanitizer_label})
  else()
    set(prefix "")
    set(labels ${arg_LABELS})
  endif()
  foreach(source IN LISTS arg_SOURCES)
    if(source MATCHES "([^/]+)_test\\.cpp$")
      set(case ${prefix}${name}.${CMAKE_MATCH_1})
      add_test(NAME ${case}
        COMMAND ${STIEFELX_TEST_LAUNCHER} $<TARGET_FILE:${target}> --run_test=${CMAKE_MATCH_1})
      # A build with a BLAS runs it on one thread, as host::context asks.
      set_tests_properties(${case} PROPERTIES LABELS "${labels}" TIMEOUT 300
        ENVIRONMENT "OPENBLAS_NUM_THREADS=1;OMP_NUM_THREADS=1;MKL_NUM_THREADS=1;BLIS_NUM_THREADS=1")
    endif()
  endforeach()
endfunction()
