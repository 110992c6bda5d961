# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   stiefelx_compile_together(<target> <number of files>)
#   stiefelx_precompile_includes(<target> <file>...)
#
# Tests of one program instantiate largely the same templates. So many files become one translation
# unit, each in a namespace of its own, so that their names cannot meet. Within one, no header may be
# opened for the first time: the precompiled header has whatever the files include.

function(stiefelx_compile_together target count)
  set_target_properties(${target} PROPERTIES
    UNITY_BUILD ON
    UNITY_BUILD_BATCH_SIZE ${count}
    UNITY_BUILD_UNIQUE_ID STIEFELX_FILE
    UNITY_BUILD_CODE_BEFORE_INCLUDE "namespace STIEFELX_FILE {"
    UNITY_BUILD_CODE_AFTER_INCLUDE "}  // namespace STIEFELX_FILE")
  # What a file adds to a namespace of others, it adds outside of its own.
  get_target_property(files ${target} SOURCES)
  foreach(file IN LISTS files)
    file(STRINGS ${file} lines REGEX "^(inline )?namespace [a-z_:]+ {")
    if(lines)
      set_source_files_properties(${file} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
endfunction()

function(stiefelx_precompile_includes target)
  get_filename_component(tests ${CMAKE_CURRENT_FUNCTION_LIST_DIR} DIRECTORY)
  set(headers "")
  foreach(file IN LISTS ARGN)
    # A new include is another header to precompile.
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(folder ${file} DIRECTORY)
    file(RELATIVE_PATH folder ${tests} ${folder})
    file(STRINGS ${file} lines REGEX "^#include [<\"]")
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "^#include \"([^/]+)\".*" "#include <${folder}/\\1>" line ${line})
      string(REGEX REPLACE "^#include [<\"](.+)[>\"].*" "<\\1>" header ${line})
      list(APPEND headers ${header})
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES headers)
  list(SORT headers)
  target_precompile_headers(${target} PRIVATE ${headers})
  # Warnings of the library's text are errors there too.
  set(CMAKE_PCH_PROLOGUE "" PARENT_SCOPE)
endfunction()
