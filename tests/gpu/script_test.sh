#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   bash tests/gpu/script_test.sh
#
# Runs tests/gpu/run.sh with stand-ins for a GPU, for nvcc and for the programs that it would compile:
# what it says, writes and returns where programs pass, fail, take too long or are missing.
set -u

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
command -v python3 >/dev/null || {
  echo "skipped: python3 is not installed"
  exit 77
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
wrong=0

complain() {
  echo "script_test.sh: $1" >&2
  wrong=1
}

program() {  # program FILE TEXT: an executable shell script
  printf '#!/bin/sh\n%s\n' "$2" >"$1"
  chmod +x "$1"
}

tools=$work/tools
build=$work/build
mkdir -p "$tools" "$build"
program "$tools/nvidia-smi" 'echo "Stand-in 100, 9.0, 580.65.06"'
program "$tools/nvcc" 'echo "Cuda compilation tools, release 13.0, V13.0.88"'

row='{"case":"copy","impl":"stiefelx","version":"0","scalar":"float","shape":"entries=8",'
row+='"median_ns":2000,"min_ns":1000,"flops":0,"bytes":64}'

# ready NAME...: programs that pass, and print a row where they are benchmarks.
ready() {
  rm -rf "$build"
  mkdir -p "$build"
  local name
  for name in "$@"; do
    case $name in
      bench/*) program "$build/${name//\//.}" "[ \"\${1:-}\" = --list ] || echo '$row'" ;;
      *) program "$build/${name//\//.}" 'echo "no errors"' ;;
    esac
  done
}

# run NAMES [ENVIRONMENT...]: the script with the stand-ins; sets status.
run() {
  local names=$1
  shift
  env PATH="$tools:$PATH" CUDACXX="$tools/nvcc" STIEFELX_GPU_BUILD_DIR="$build" \
    STIEFELX_GPU_READY=yes STIEFELX_PEERS="$work/none" "$@" \
    bash "$here/run.sh" --only "$names" --out "$work/out" >"$work/said" 2>&1
  status=$?
}

# expect STATUS PYTHON: the exit status, that both files are there, and a truth about results.json.
expect() {
  [ $status -eq "$1" ] || {
    complain "exit status $status, expected $1:"
    cat "$work/said" >&2
  }
  python3 -m json.tool "$work/out/results.json" >/dev/null || complain "results.json is no JSON"
  python3 - "$work/out" "$2" <<'PYTHON' || complain "not so: $2"
import json, sys
with open(sys.argv[1] + "/results.json", encoding="utf-8") as file:
    r = json.load(file)
with open(sys.argv[1] + "/summary.md", encoding="utf-8") as file:
    text = file.read()
tests = {t["name"]: t["result"] for t in r["tests"]}
benchmarks = {t["name"]: t["result"] for t in r["benchmarks"]}
sanitizer = {t["name"]: t["result"] for t in r["sanitizer"]}
sys.exit(0 if eval(sys.argv[2]) else 1)
PYTHON
}

# --- everything passes ---------------------------------------------------------------------------

program "$tools/compute-sanitizer" 'while [ "${1#--}" != "$1" ]; do shift 2; done; exec "$1"'
ready cuda/batch nn/lora bench/limits bench/orth
run cuda/batch,nn/lora,bench/limits,bench/orth
expect 0 'tests == {"cuda/batch": "passed", "nn/lora": "passed"} and len(r["rows"]) == 2'
expect 0 'r["device"] == "Stand-in 100" and r["driver"] == "580.65.06" and r["toolkit"] == "13.0.88"'
expect 0 'r["compute_capability"] == "9.0" and r["date"].endswith("Z") and r["commit"]'
expect 0 'sorted(sanitizer) == ["cuda/batch " + t for t in ("initcheck", "memcheck", "racecheck")]'
expect 0 'benchmarks["peers/torch"] == "passed" and "2 of 2 test programs passed" in text'
expect 0 '"| copy | entries=8 | float | stiefelx | 2 µs | 1 µs |" in text'
expect 0 'any(line.startswith("skipped torch-cuda") for line in r["absent"])'

# --- one fails, one is missing -------------------------------------------------------------------

ready cuda/batch
program "$build/nn.lora" 'echo "1 failure \"quoted\"" >&2; exit 201'
run cuda/batch,nn/lora,nn/router
expect 1 'tests == {"cuda/batch": "passed", "nn/lora": "failed (201)", "nn/router": "not built"}'
expect 1 '"- nn/lora: failed (201)" in text and "1 of 3 test programs passed" in text'
grep -q 'quoted' "$work/said" || complain "what a failing program says is not shown"

# --- a fault that only the sanitizer sees --------------------------------------------------------

program "$tools/compute-sanitizer" '[ "$2" != racecheck ] || exit 9
while [ "${1#--}" != "$1" ]; do shift 2; done; exec "$1"'
ready cuda/batch
run cuda/batch
expect 1 'tests["cuda/batch"] == "passed" and sanitizer["cuda/batch racecheck"] == "failed (9)"'
expect 1 'sanitizer["cuda/batch memcheck"] == "passed"'
program "$tools/compute-sanitizer" '[ "$2" != initcheck ] || exec sleep 60
while [ "${1#--}" != "$1" ]; do shift 2; done; exec "$1"'
run cuda/batch STIEFELX_GPU_PROGRAM_SECONDS=1
expect 0 'sanitizer["cuda/batch initcheck"] == "timed out after 1 s" and "initcheck: timed out" in text'
rm "$tools/compute-sanitizer"

# --- a wrong result, and a row that is cut off ---------------------------------------------------

ready cuda/batch
program "$build/bench.limits" "echo '$row'; printf '{\"case\":\"co'
echo 'refused stiefelx in copy/entries=9/float, because the last column differs' >&2; exit 1"
run cuda/batch,bench/limits
expect 1 'benchmarks["bench/limits"] == "failed (1)" and r["unfinished_rows"] == 1'
expect 1 'len(r["rows"]) == 1 and any("the last column differs" in line for line in r["absent"])'

# --- time runs out -------------------------------------------------------------------------------

ready nn/router
program "$build/cuda.batch" 'exec sleep 60'
run cuda/batch,nn/router STIEFELX_GPU_PROGRAM_SECONDS=1
expect 1 'tests == {"cuda/batch": "timed out after 1 s", "nn/router": "passed"}'
run nn/router STIEFELX_GPU_SECONDS=0
expect 1 'tests == {"nn/router": "not run: out of time"}'

# --- no GPU, and wrong options -------------------------------------------------------------------

rm "$tools/nvidia-smi"
program "$tools/nvidia-smi" 'exit 9'
run cuda/batch
[ $status -eq 3 ] || complain "without a GPU: exit status $status, expected 3"
grep -q "there is no GPU here" "$work/said" || complain "without a GPU: it does not say so"
bash "$here/run.sh" --wrong >/dev/null 2>&1
[ $? -eq 2 ] || complain "a wrong option is taken"
bash "$here/run.sh" --out >/dev/null 2>&1
[ $? -eq 2 ] || complain "an option without its value is taken"

# --- what nvcc is given --------------------------------------------------------------------------

cat >"$work/some_test.cpp" <<'TEXT'
#include <stiefelx/host/batch_lanes.hpp>
BOOST_AUTO_TEST_CASE(kept) {
  both();
}
BOOST_AUTO_TEST_CASE_TEMPLATE(of_the_host, Case, double_cases) {
  stiefelx::host::context ctx;
}
BOOST_AUTO_TEST_CASE(behind_the_fake) {
  BOOST_TEST(fake_cuda::calls("cudaMalloc") == 1);
}
long counted() {
  return fake_cuda::calls("cudaMalloc");
}
BOOST_AUTO_TEST_CASE(behind_by_a_function) {
  BOOST_TEST(counted() == 1);
}
BOOST_AUTO_TEST_CASE(any_order) {
  if (fake_cuda::keeps_lane_order) both();
}
TEXT
awk -v file=some -v left_out="$work/list" -f "$here/device_cases.awk" "$work/some_test.cpp" \
  >"$work/some.cu"
[ "$(cat "$work/list")" = "some: of_the_host
some: behind_the_fake
some: behind_by_a_function" ] || complain "the cases left out are $(cat "$work/list")"
[ "$(grep -c . "$work/some.cu")" -eq 10 ] || complain "the cases kept are $(cat "$work/some.cu")"
[ "$(wc -l <"$work/some.cu")" -eq 20 ] || complain "lines do not keep their numbers"

exit $wrong
