# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DFILE=<file> -DCOMPILER=<compiler> "-DFLAGS=<list>" -P must_not_compile.cmake
#
# Requires that FILE is refused, and that a reader of the compiler's text soon knows why: among its
# first 20 lines one matches the expression in the file's first line, `// expect: REGEX`, and there
# are at most 60 lines in all.
cmake_minimum_required(VERSION 3.25)

file(STRINGS "${FILE}" first LIMIT_COUNT 1)
if(NOT first MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${FILE}: the first line is not `// expect: REGEX`")
endif()
set(expected "${CMAKE_MATCH_1}")

set(ENV{LC_ALL} C)
execute_process(
  COMMAND "${COMPILER}" ${FLAGS} -fsyntax-only -fdiagnostics-color=never "${FILE}"
  RESULT_VARIABLE result OUTPUT_VARIABLE text ERROR_VARIABLE text)
if(result EQUAL 0)
  message(FATAL_ERROR "${FILE} compiles")
endif()

# Brackets and semicolons would be read as parts of a list.
string(REGEX REPLACE "[][;]" " " lines "${text}")
string(REGEX REPLACE "\n$" "" lines "${lines}")
string(REPLACE "\n" ";" lines "${lines}")
list(LENGTH lines count)
list(SUBLIST lines 0 20 head)
string(JOIN "\n" head ${head})
if(NOT head MATCHES "${expected}")
  message("${text}")
  message(FATAL_ERROR "${FILE}: the first 20 lines do not match ${expected}")
endif()
if(count GREATER 60)
  message("${text}")
  message(FATAL_ERROR "${FILE}: the compiler prints ${count} lines, expected at most 60")
endif()
