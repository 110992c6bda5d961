#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   bash bench/compile.sh [COMPILER]
#
# Compile time of a file that includes one header and nothing else, with the compiler given, $CXX or
# g++. The headers are taken in turn, seven times; printed are medians and ratios of this run.
# EIGEN_INCLUDE_DIR names another Eigen than the system's. Where nvcc is found (CUDACXX, or on the
# path), the same for cuda.hpp beside the headers of Thrust, cuBLAS and CUB that it stands on.
set -u

case ${1:-} in
  -*)
    sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    [ "$1" = --help ] && exit 0
    exit 2
    ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
compiler=${1:-${CXX:-g++}}
rounds=7
command -v "$compiler" >/dev/null || { echo "compile.sh: $compiler is not installed" >&2 && exit 2; }

include=("-I$root/include" -isystem "${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# compare NAME BASE EXTENSION COMMAND... -- LINES...: a file a line, whose headers are separated by +; the
# file at index BASE is one.
compare() {
  local folder=$work/$1 base=$2 extension=$3 command=() i round start ms one
  shift 3
  while [ "$1" != -- ]; do
    command+=("$1")
    shift
  done
  shift
  mkdir "$folder"
  local names=("$@")
  for i in "${!names[@]}"; do
    {
      [ "${names[i]}" = empty ] || tr + '\n' <<<"${names[i]}" | sed 's/.*/#include <&>/'
      echo 'int main() {}'
    } >"$folder/$i.$extension"
  done
  for ((round = 0; round < rounds; ++round)); do
    for i in "${!names[@]}"; do
      start=$(date +%s%N)
      "${command[@]}" "${include[@]}" -c "$folder/$i.$extension" -o "$folder/$i.o" || exit 1
      echo $((($(date +%s%N) - start) / 1000000)) >>"$folder/$i.ms"
    done
  done
  one=$(median "$folder/$base")
  for i in "${!names[@]}"; do
    ms=$(median "$folder/$i")
    printf '%6d ms  %s times the base  %s%s\n' "$ms" \
      "$(awk -v a="$ms" -v b="$one" 'BEGIN { printf "%.2f", a / b }')" "${names[i]//+/, }" \
      "$([ "$i" -eq "$base" ] && echo ' (the base)')"
  done
}

median() { sort -n "$1.ms" | sed -n "$((rounds / 2 + 1))p"; }

printf '%s, median of %d\n' "$("$compiler" --version | head -n 1)" $rounds
compare host 2 cpp "$compiler" -std=c++20 -O2 -- empty Eigen/Core Eigen/Dense stiefelx/stiefelx.hpp

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if ! command -v "$nvcc" >/dev/null; then
  echo "skipped cuda.hpp, because nvcc is not found"
  exit 0
fi
printf '\n%s, median of %d\n' "$("$nvcc" --version | grep release)" $rounds
compare device 1 cu "$nvcc" -std=c++20 -O2 -arch=sm_90 --expt-relaxed-constexpr -- empty \
  thrust/device_vector.h+cublas_v2.h+cub/block/block_reduce.cuh stiefelx/cuda.hpp
