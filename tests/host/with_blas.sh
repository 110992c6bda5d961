#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Builds with_blas.cpp with OpenBLAS and runs it. Exits 77 (skipped) where OpenBLAS is not installed.
# CXX is the compiler, default c++.
set -u

here=$(cd "$(dirname "$0")" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
compiler=${CXX:-c++}
echo 'extern "C" void openblas_set_num_threads(int); int main() { openblas_set_num_threads(1); }' \
  >"$work/probe.cpp"
if ! "$compiler" "$work/probe.cpp" -o "$work/probe" -lopenblas 2>"$work/log"; then
  echo "skipped, because $compiler finds no OpenBLAS; libopenblas-dev holds it"
  exit 77
fi
native=
if "$compiler" -march=native -E -x c++ /dev/null >/dev/null 2>&1; then native=-march=native; fi
eigen=${EIGEN:-/usr/include/eigen3}
# shellcheck disable=SC2086  # nothing, or one word
"$compiler" -std=c++20 -O1 $native "-I$here/../../include" -isystem "$eigen" "$here/with_blas.cpp" \
  -o "$work/with_blas" -lopenblas -lpthread || exit 1
"$work/with_blas"
