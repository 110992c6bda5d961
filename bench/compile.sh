#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   bash bench/compile.sh [COMPILER]
#
# Compile time of a file that includes one header and nothing else, with the compiler given, $CXX or
# g++. The headers are taken in turn, seven times; printed are medians and ratios of this run.
# EIGEN_INCLUDE_DIR names another Eigen than the system's.
set -u

case ${1:-} in
  -*)
    sed -n '4,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    [ "$1" = --help ] && exit 0
    exit 2
    ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
compiler=${1:-${CXX:-g++}}
rounds=7
command -v "$compiler" >/dev/null || { echo "compile.sh: $compiler is not installed" >&2 && exit 2; }

flags=(-std=c++20 -O2 "-I$root/include" -isystem "${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}")

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
names=(empty Eigen/Core Eigen/Dense stiefelx/stiefelx.hpp)
for i in "${!names[@]}"; do
  [ "${names[i]}" = empty ] || echo "#include <${names[i]}>"
  echo 'int main() {}'
done | awk -v dir="$work" '{ print > (dir "/" n + 0 ".cpp") } /main/ { n++ }'

for ((round = 0; round < rounds; ++round)); do
  for i in "${!names[@]}"; do
    start=$(date +%s%N)
    "$compiler" "${flags[@]}" -c "$work/$i.cpp" -o "$work/$i.o" || exit 1
    echo $((($(date +%s%N) - start) / 1000000)) >>"$work/$i.ms"
  done
done

median() { sort -n "$work/$1.ms" | sed -n "$((rounds / 2 + 1))p"; }
printf '%s, median of %d\n' "$("$compiler" --version | head -n 1)" $rounds
dense=$(median 2)
for i in "${!names[@]}"; do
  ms=$(median "$i")
  printf '%-24s %6d ms  %s of Eigen/Dense\n' "${names[i]}" "$ms" \
    "$(awk -v a="$ms" -v b="$dense" 'BEGIN { printf "%.2f", a / b }')"
done
