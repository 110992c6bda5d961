# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   cmake -DROOT=<folder that holds include/> -P CheckLayers.cmake
#
# Fails on an include that the layers forbid, on a cycle, and on a name that would switch
# argument-dependent lookup off. Every finding is one line: file, offending text, reason.
cmake_minimum_required(VERSION 3.25)

# A header includes its own folder, version.hpp, and the folders named here. An umbrella is included
# by no header.
set(allow_core "")
set(allow_simd core)
set(allow_team core)
set(allow_element core)
set(allow_orth core simd team element)
set(allow_manifold core simd team element orth)
set(allow_optim core simd team element orth manifold)
set(allow_nn core simd team element orth manifold)
set(allow_host core simd team element)
set(allow_cuda core team element)
set(allow_io core)
set(allow_testing core manifold)
set(allow_stiefelx.hpp core simd team element orth manifold optim nn host io testing)
set(allow_cuda.hpp core simd team element orth manifold optim nn cuda io testing)
set(allow_version.hpp "")
set(umbrellas stiefelx.hpp cuda.hpp)

# The verbs. A local variable or member of such a name hides the verb from the calls behind it; so
# does a parameter, where the same file calls that verb. Checked where algorithms live.
string(JOIN "|" verbs
  copy fill set_identity clone widen scratch zeros zeros_like dense scale axpy product multiply
  multiply_add gram symmetrize cholesky solve_right solve eigh inner norm scale_columns column_inner
  sum_columns all_finite copy_if transform run_batch raise value memory upload download grouped_multiply
  grouped_multiply_add grouped_adjoint_multiply grouped_adjoint_multiply_add grouped_outer_add
  routed_multiply routed_multiply_add routed_outer_add routed_adjoint_outer_add dense_expert_columns)
set(algorithm_folders orth manifold optim nn)
set(not_a_type "return|else|case|throw|new|delete|using|goto|typename|operator|co_return|friend")

set(base "${ROOT}/include/stiefelx")
file(GLOB_RECURSE headers RELATIVE "${base}" "${base}/*.hpp")
if(NOT headers)
  message(FATAL_ERROR "no header under ${base}")
endif()
set(failures 0)

# Reports `file: text: reason`.
function(report file text reason)
  string(STRIP "${text}" text)
  message("include/stiefelx/${file}: ${text}: ${reason}")
  math(EXPR count "${failures} + 1")
  set(failures ${count} PARENT_SCOPE)
endfunction()

# --- includes ------------------------------------------------------------------------------------

foreach(header IN LISTS headers)
  string(REGEX REPLACE "/.*" "" layer "${header}")
  if(NOT DEFINED allow_${layer})
    report("${header}" "${layer}" "not a layer")
    continue()
  endif()
  set(includes_${header} "")
  file(STRINGS "${base}/${header}" lines REGEX "^[ \t]*#[ \t]*include")
  foreach(line IN LISTS lines)
    if(line MATCHES "include[ \t]*\"")
      report("${header}" "${line}" "write <stiefelx/...>")
    elseif(line MATCHES "<(unsupported/)?Eigen/" AND NOT layer STREQUAL "host")
      report("${header}" "${line}" "only host/ includes Eigen")
    elseif(line MATCHES "<(cuda|cublas|thrust|cub/|cooperative_groups|mma\\.h|vector_types)"
        AND NOT layer STREQUAL "cuda")
      report("${header}" "${line}" "only cuda/ includes CUDA headers")
    elseif(line MATCHES "<stiefelx/([^>]+)>")
      set(target "${CMAKE_MATCH_1}")
      string(REGEX REPLACE "/.*" "" target_layer "${target}")
      if(target IN_LIST umbrellas)
        report("${header}" "${line}" "no header includes an umbrella")
      elseif(NOT EXISTS "${base}/${target}")
        report("${header}" "${line}" "there is no such header")
      elseif(NOT target_layer STREQUAL layer AND NOT target_layer STREQUAL "version.hpp"
          AND NOT target_layer IN_LIST allow_${layer})
        string(JOIN ", " allowed ${allow_${layer}})
        report("${header}" "${line}" "${layer} may include its own folder and: ${allowed}")
      else()
        list(APPEND includes_${header} "${target}")
      endif()
    endif()
  endforeach()
endforeach()

# Headers that include nothing left are taken away until none goes; what stays is on a cycle or
# includes one.
set(left ${headers})
set(progress TRUE)
while(left AND progress)
  set(progress FALSE)
  foreach(header IN LISTS left)
    set(open FALSE)
    foreach(target IN LISTS includes_${header})
      if(target IN_LIST left)
        set(open TRUE)
        break()
      endif()
    endforeach()
    if(NOT open)
      list(REMOVE_ITEM left "${header}")
      set(progress TRUE)
    endif()
  endforeach()
endwhile()
foreach(header IN LISTS left)
  string(JOIN ", " targets ${includes_${header}})
  report("${header}" "includes ${targets}" "on an include cycle, or includes one")
endforeach()

# --- lines ---------------------------------------------------------------------------------------

# Brackets and semicolons have a meaning in CMake's lists, so lines are read with stand-ins.
string(ASCII 1 semicolon)
string(ASCII 2 open_bracket)
string(ASCII 3 close_bracket)
function(read_lines path out)
  file(READ "${path}" text)
  string(REPLACE ";" "${semicolon}" text "${text}")
  string(REPLACE "[" "${open_bracket}" text "${text}")
  string(REPLACE "]" "${close_bracket}" text "${text}")
  string(REPLACE "\\" "/" text "${text}")
  string(REPLACE "\n" ";" text "${text}")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()
function(restore line out)
  string(REPLACE "${semicolon}" ";" line "${line}")
  string(REPLACE "${open_bracket}" "[" line "${line}")
  string(REPLACE "${close_bracket}" "]" line "${line}")
  set(${out} "${line}" PARENT_SCOPE)
endfunction()

# A type, then the name, then what ends a declaration: `auto norm = `, `double scale;`, `X& copy)`.
set(declared "([A-Za-z_][A-Za-z0-9_]*|>)( const)?[&*]*[ ]+[&*]*(${verbs})[ ]*(=[^=]|=$|[,){]|${semicolon}|$)")
# What run_batch hands to a body, which calls no verb.
set(body_scratch "double[*] scratch[,)]")

foreach(header IN LISTS headers)
  string(REGEX REPLACE "/.*" "" layer "${header}")
  string(REGEX REPLACE ".*/" "" name "${header}")
  if(layer IN_LIST algorithm_folders)
    read_lines("${base}/${header}" lines)
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "//.*" "" code "${line}")
      string(REGEX REPLACE "${body_scratch}" "" code "${code}")
      if(code MATCHES "${declared}")
        set(type "${CMAKE_MATCH_1}")
        set(verb "${CMAKE_MATCH_3}")
        set(end "${CMAKE_MATCH_4}")
        if(type MATCHES "^(${not_a_type})$" OR (end MATCHES "[,)]"
            AND NOT lines MATCHES "[^A-Za-z0-9_]${verb}(<[^()]*>)?[(]ctx[,)]"))
          continue()
        endif()
        restore("${line}" line)
        report("${header}" "${line}" "a name of the verb table hides the verb")
      elseif(code MATCHES "auto&*[ ]*${open_bracket}([^=]*[ ,])?(${verbs})[ ]*[,${close_bracket}]")
        restore("${line}" line)
        report("${header}" "${line}" "a name of the verb table hides the verb")
      endif()
    endforeach()
  elseif(layer STREQUAL "cuda")
    read_lines("${base}/${header}" lines)
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "//.*" "" code "${line}")
      restore("${line}" line)
      if(code MATCHES "(^|[^A-Za-z0-9_])cuda[A-Z][A-Za-z0-9_]*[ ]*\\(" AND NOT name STREQUAL "runtime.hpp")
        report("${header}" "${line}" "only cuda/runtime.hpp calls cuda* functions")
      elseif(code MATCHES "(^|[^A-Za-z0-9_])cublas[A-Z][A-Za-z0-9_]*[ ]*\\(" AND NOT name STREQUAL "blas.hpp")
        report("${header}" "${line}" "only cuda/blas.hpp calls cublas* functions")
      elseif(NOT name STREQUAL "lane.hpp" AND code MATCHES
          "__(global|shared|syncthreads|syncwarp|shfl|launch_bounds|ldg|stwb)|(thread|block)(Idx|Dim)|<<<")
        report("${header}" "${line}" "only cuda/lane.hpp names what the machine offers a kernel")
      endif()
    endforeach()
  endif()
endforeach()

list(LENGTH headers count)
if(failures GREATER 0)
  message(FATAL_ERROR "${failures} finding(s) in ${count} headers")
endif()
message("${count} headers keep the layers")
