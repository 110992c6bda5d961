# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   stiefelx_device_tests(<folder> <variable>)
#
# The files of a folder of tests that are typed on a backend and run on the device too: all but those
# that take minutes to compile or where lanes are fibers, and those that need complex matrices.
set(stiefelx_device_folders core orth manifold optim nn testing)
set(stiefelx_host_only
  manifold/drift manifold/haar manifold/logarithm optim/adam_stack optim/group optim/state
  orth/conditioning orth/householder_oracle orth/qr_laws orth/scheduled_inverse_sqrt)

function(stiefelx_device_tests folder variable)
  get_filename_component(tests ${CMAKE_CURRENT_FUNCTION_LIST_DIR} DIRECTORY)
  file(GLOB typed CONFIGURE_DEPENDS ${tests}/${folder}/*_test.cpp)
  set(found "")
  foreach(file IN LISTS typed)
    string(REGEX REPLACE ".*/(.*)_test\\.cpp" "${folder}/\\1" name ${file})
    file(STRINGS ${file} lines REGEX "(real|complex|double)_cases[)]")
    if(lines AND NOT name IN_LIST stiefelx_host_only)
      list(APPEND found ${file})
    endif()
  endforeach()
  set(${variable} ${found} PARENT_SCOPE)
endfunction()
