# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DPROGRAM=... "-DARGUMENTS=<list>" -DEXPECTED=<file> -P RunExample.cmake
#
# Runs an example. It has to exit with 0 and, where EXPECTED exists, to print exactly that.
cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND "${PROGRAM}" ${ARGUMENTS}
  RESULT_VARIABLE result OUTPUT_VARIABLE printed ERROR_VARIABLE errors)
if(NOT result EQUAL 0)
  message("${printed}${errors}")
  message(FATAL_ERROR "${PROGRAM} ends with ${result}")
endif()
if(EXISTS "${EXPECTED}")
  file(READ "${EXPECTED}" expected)
  if(NOT printed STREQUAL expected)
    message("--- printed\n${printed}--- expected\n${expected}---")
    message(FATAL_ERROR "${PROGRAM} prints something else than ${EXPECTED}")
  endif()
endif()
