#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   run.sh CLANG TOOLKIT_INCLUDE
#
# The device's headers and kernels by a second CUDA front end. Reads the umbrella for host and device,
# with every warning an error, and the kernels of tests/ptx/cases for the device; compiles some of them
# to PTX for sm_90, which ptxas must accept without a spill, where it is installed. Exits 77 (skipped)
# where there is no clang, no toolkit, or one that this clang cannot read.
set -u

clang=${1:-clang++-19}
include=$(realpath "${2:-/usr/local/cuda/include}")
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
root=$(cd "$folder/../../.." && pwd) || exit 1

if ! command -v "$clang" >/dev/null; then
  echo "skipped: $(basename "$clang") is not installed"
  exit 77
fi
# <toolkit>/include, or <toolkit>/targets/<machine>/include behind a link.
toolkit=${include%/include}
toolkit=${toolkit%/targets/*}
if [ ! -f "$include/cuda_runtime.h" ] || [ ! -d "$include/cccl" ] ||
  ! ls "$toolkit"/nvvm/libdevice/libdevice.*.bc >/dev/null 2>&1; then
  echo "skipped: there is no CUDA toolkit in $toolkit (headers, CCCL and libdevice)"
  exit 77
fi

flags=(-x cuda "--cuda-path=$toolkit" --cuda-gpu-arch=sm_90 -std=c++20
  # A newer toolkit than this clang was made with.
  -Wno-unknown-cuda-version
  "-I$root/include" "-I$root/tests" "-I$root" -isystem "$include/cccl" -idirafter "$folder"
  -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wsign-conversion -Werror)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

echo '#include <cuda_runtime.h>' >"$work/first.cu"
if ! "$clang" "${flags[@]}" -fsyntax-only "$work/first.cu" 2>"$work/log"; then
  echo "skipped: $(basename "$clang") does not read this toolkit's own headers:"
  head -n 5 "$work/log"
  exit 77
fi

failed=0
"$clang" "${flags[@]}" -fsyntax-only "$root/tests/cuda/umbrella.cpp" || failed=1
ptxas=$toolkit/bin/ptxas
for file in "$root"/tests/ptx/cases/*.cpp; do
  name=$(basename "$file" .cpp)
  # Code for all of them would take minutes.
  case $name in
    copies | reductions | routed) ;;
    *)
      "$clang" "${flags[@]}" --cuda-device-only -fsyntax-only "$file" || failed=1
      continue
      ;;
  esac
  ptx=$work/$name.ptx
  if ! "$clang" "${flags[@]}" --cuda-device-only -O2 -S "$file" -o "$ptx"; then
    failed=1
    continue
  fi
  kernels=$(grep -c '\.entry' "$ptx")
  if [ "$kernels" -eq 0 ]; then
    echo "$name: no kernel"
    failed=1
  elif [ ! -x "$ptxas" ]; then
    echo "$name: $kernels kernels; ptxas is not installed"
  elif ! "$ptxas" -arch=sm_90 -v "$ptx" -o /dev/null >"$work/log" 2>&1; then
    cat "$work/log"
    failed=1
  elif grep -E '[1-9][0-9]* bytes spill' "$work/log"; then
    echo "$name: a kernel spills"
    failed=1
  else
    echo "$name: $kernels kernels, no spills"
  fi
done
exit $failed
