#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   nvcc.sh NVCC FILE FLAG...
#
# Compiles a C++ file as CUDA, up to the text that the host compiler gets, to see that nvcc accepts the
# headers it includes. Exits 77 (skipped) where there is no nvcc or no such file.
set -u

nvcc=$1
file=$2
shift 2
if ! command -v "$nvcc" >/dev/null; then
  echo "skipped: nvcc is not installed"
  exit 77
fi
if [ ! -f "$file" ]; then
  echo "skipped: there is no $(basename "$file")"
  exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"$nvcc" -x cu -std=c++20 -arch=sm_90 -Werror all-warnings --expt-relaxed-constexpr "$@" -cuda "$file" \
  -o "$work/host.ii"
