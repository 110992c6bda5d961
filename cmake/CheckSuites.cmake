# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DROOT=<repository> -P CheckSuites.cmake
#
# CTest runs the suite named after each test file. A case outside of it would never run, so the first
# Boost.Test line of <suite>_test.cpp opens the suite <suite>, and the last one closes it.
cmake_minimum_required(VERSION 3.25)

set(failures 0)
file(GLOB files RELATIVE "${ROOT}" "${ROOT}/tests/*/*_test.cpp")
foreach(file IN LISTS files)
  string(REGEX REPLACE ".*/(.*)_test\\.cpp" "\\1" suite "${file}")
  file(STRINGS "${ROOT}/${file}" lines REGEX
    "^[ \t]*BOOST_(AUTO_TEST_SUITE|FIXTURE_TEST_SUITE|AUTO_TEST_CASE|FIXTURE_TEST_CASE|DATA_TEST_CASE|AUTO_TEST_SUITE_END)")
  set(first "nothing")
  set(last "nothing")
  if(lines)
    list(GET lines 0 first)
    list(GET lines -1 last)
  endif()
  if(NOT first MATCHES "_TEST_SUITE[ ]*\\([ ]*${suite}[ ]*[,)]")
    message("${file}: first comes ${first}, expected BOOST_AUTO_TEST_SUITE(${suite})")
    math(EXPR failures "${failures} + 1")
  endif()
  if(NOT last MATCHES "BOOST_AUTO_TEST_SUITE_END")
    message("${file}: last comes ${last}, expected BOOST_AUTO_TEST_SUITE_END()")
    math(EXPR failures "${failures} + 1")
  endif()
endforeach()
if(failures GREATER 0)
  message(FATAL_ERROR "${failures} finding(s)")
endif()
