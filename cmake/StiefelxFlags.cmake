# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Compile options of our own targets. They are target options: nothing global is set, and nobody
# who uses stiefelx::stiefelx sees them.
include(CheckCXXCompilerFlag)

set(STIEFELX_SANITIZE "" CACHE STRING "Sanitizers of the tests: empty, address or thread")
set_property(CACHE STIEFELX_SANITIZE PROPERTY STRINGS "" address thread)

set(STIEFELX_WARNINGS
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wsign-conversion)

# Warnings are errors where the tests are built, by the compilers that the project is kept clean
# with: other versions may warn about sound code. So may optimizers about what sanitizers insert;
# plain builds compile the same files.
add_library(stiefelx_warnings INTERFACE)
target_compile_options(stiefelx_warnings INTERFACE ${STIEFELX_WARNINGS})
if(STIEFELX_BUILD_TESTS)
  if((CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\."
        AND NOT STIEFELX_SANITIZE)
      OR (CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^19\\."
        AND NOT STIEFELX_SANITIZE STREQUAL "thread"))
    target_compile_options(stiefelx_warnings INTERFACE -Werror)
  endif()
endif()

# Where no build type was chosen, tests are compiled as fast as Eigen allows: at -O0 it runs too
# slowly, at -O2 it compiles too slowly, and GCC's -Og takes two thirds of the time of its -O1.
# Address and undefined-behaviour checks alone take six times as long to compile at -O1 as at -O0, so
# that build stays at -O0. Assertions stay on.
add_library(stiefelx_test_flags INTERFACE)
target_link_libraries(stiefelx_test_flags INTERFACE stiefelx_warnings)
if(NOT STIEFELX_SANITIZE STREQUAL "address")
  target_compile_options(stiefelx_test_flags INTERFACE
    $<$<CONFIG:>:$<IF:$<CXX_COMPILER_ID:GNU>,-Og,-O1>>)
endif()
# GCC collects its garbage again and again from 128 MB on; from 1 GB on it takes about a tenth less
# time and a quarter more memory.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(stiefelx_test_flags INTERFACE
    "SHELL:--param ggc-min-heapsize=1000000")
endif()
if(STIEFELX_SANITIZE STREQUAL "address")
  # Eigen adds offsets to the null pointer of an empty matrix when it takes a block of it; nothing is
  # read there.
  target_compile_options(stiefelx_test_flags INTERFACE
    -fsanitize=address,undefined -fno-sanitize=pointer-overflow -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g1)
  target_link_options(stiefelx_test_flags INTERFACE -fsanitize=address,undefined)
elseif(STIEFELX_SANITIZE STREQUAL "thread")
  target_compile_options(stiefelx_test_flags INTERFACE
    -fsanitize=thread -fno-omit-frame-pointer -g1)
  target_link_options(stiefelx_test_flags INTERFACE -fsanitize=thread)
elseif(STIEFELX_SANITIZE)
  message(FATAL_ERROR "STIEFELX_SANITIZE is \"${STIEFELX_SANITIZE}\", expected address or thread")
endif()

# Examples and benchmarks are programs to be timed: full optimization for this machine.
check_cxx_compiler_flag(-march=native STIEFELX_HAS_MARCH_NATIVE)
add_library(stiefelx_fast_flags INTERFACE)
target_link_libraries(stiefelx_fast_flags INTERFACE stiefelx_warnings)
target_compile_options(stiefelx_fast_flags INTERFACE
  $<$<NOT:$<CONFIG:Debug>>:-O3>
  $<$<AND:$<BOOL:${STIEFELX_HAS_MARCH_NATIVE}>,$<NOT:$<CONFIG:Debug>>>:-march=native>)
# At -O3 GCC 12 warns about its own AVX-512 intrinsics and about std::string's operator+, both soundly
# written; the tests compile the same headers with these warnings on.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION MATCHES "^12\\.")
  target_compile_options(stiefelx_fast_flags INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
endif()
target_compile_definitions(stiefelx_fast_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:NDEBUG>)
