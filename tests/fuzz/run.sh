#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
set -u

usage() {
  cat <<'TEXT'
usage: bash tests/fuzz/run.sh [--seconds N] [--build DIR] [--target NAME]... [--help]

Gives changed files to the readers of safetensors, NPY, JSON, PEFT folders and checkpoints until the
time is over, under the address and undefined-behaviour sanitizers, with little memory. It starts with the files of
tests/io/*_samples.hpp and with what earlier runs kept in DIR.

  --seconds N    for all targets together, default 60
  --build DIR    for programs, seeds and what is found, default build/fuzz in the repository
  --target NAME  json, npy, safetensors, peft or checkpoint alone; may be given several times
  --help         this text

STIEFELX_CXX_FUZZ   the compiler, default clang++-19

Exit status: 0 nothing was found; 1 a build failed, or an input was found, whose file is named;
2 wrong option; 77 skipped, because clang++-19 or libclang-rt-19-dev is not installed.
TEXT
}

wrong() {
  echo "run.sh: $1" >&2
  usage >&2
  exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
seconds=60
build=$root/build/fuzz
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      usage
      exit 0
      ;;
    --seconds | --build | --target)
      if [ $# -lt 2 ]; then wrong "$1 needs a value"; fi
      case $1 in
        --seconds)
          if ! [[ $2 =~ ^[1-9][0-9]{0,5}$ ]]; then wrong "--seconds is $2, expected 1 to 999999"; fi
          seconds=$2
          ;;
        --build) build=$2 ;;
        --target)
          case $2 in
            json | npy | safetensors | peft | checkpoint) targets+=("$2") ;;
            *) wrong "--target is $2, expected json, npy, safetensors, peft or checkpoint" ;;
          esac
          ;;
      esac
      shift 2
      ;;
    *) wrong "unknown option $1" ;;
  esac
done
if [ ${#targets[@]} -eq 0 ]; then targets=(json npy safetensors peft checkpoint); fi

sanitizers=fuzzer,address,undefined
compiler=${STIEFELX_CXX_FUZZ:-clang++-19}
if ! command -v "$compiler" >/dev/null; then
  echo "skipped, because $compiler is not installed"
  exit 77
fi
mkdir -p "$build" || exit 1
build=$(cd "$build" && pwd) || exit 1
if ! echo 'extern "C" int LLVMFuzzerTestOneInput(char const*, unsigned long) { return 0; }' |
  "$compiler" -x c++ "-fsanitize=$sanitizers" - -o "$build/probe" 2>"$build/probe.log"; then
  echo "skipped, because $compiler has no library for fuzzing; libclang-rt-19-dev holds it"
  exit 77
fi

flags=(-std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wsign-conversion -Werror
  "-I$root/include" "-I$root")
compile() {  # compile NAME FLAG...: builds NAME.cpp where it, or what it may include, is newer
  local name=$1 program=$build/$1
  shift
  if [ -x "$program" ] && [ -z "$(find "$root/include/stiefelx/io" "$root/include/stiefelx/core" \
    "$root/tests/fuzz" "$root/tests/io" -newer "$program" -name '*.?pp' -print -quit)" ]; then
    return 0
  fi
  "$compiler" "${flags[@]}" "$@" "$root/tests/fuzz/$name.cpp" -o "$program.new" &&
    mv "$program.new" "$program"
}
for name in seeds "${targets[@]}"; do
  options=(-O1 -g1 -fno-omit-frame-pointer "-fsanitize=$sanitizers" -fno-sanitize-recover=all)
  if [ "$name" = seeds ]; then options=(-O0); fi
  if ! compile "$name" "${options[@]}"; then
    echo "run.sh: $name was not built" >&2
    exit 1
  fi
done
"$build/seeds" "$build/seeds.d" || exit 1

share=$((seconds / ${#targets[@]}))
if [ "$share" -eq 0 ]; then share=1; fi
failed=0
for name in "${targets[@]}"; do
  kept=$build/corpus/$name
  found=$build/found/$name
  mkdir -p "$kept" "$found" || exit 1
  # No sound or hostile seed needs a piece of more than some megabytes: a size in a file that is
  # believed shows as an allocation beyond the limit.
  if ! "$build/$name" "$kept" "$build/seeds.d/$name" -max_total_time="$share" -max_len=4096 \
    -timeout=5 -malloc_limit_mb=32 -rss_limit_mb=1024 -use_value_profile=1 -print_final_stats=1 \
    -artifact_prefix="$found/" >"$build/$name.log" 2>&1; then
    tail -n 40 "$build/$name.log"
    echo "run.sh: $name: an input was found; it is in $found"
    failed=1
    continue
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log")
  coverage=$(grep -o 'cov: [0-9]*' "$build/$name.log" | tail -n 1)
  echo "$name: $runs inputs in $share s, ${coverage:-cov: 0} edges, nothing found"
done
exit $failed
