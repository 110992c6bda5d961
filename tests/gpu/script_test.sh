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
toolkit=$work/toolkit
mkdir -p "$tools" "$build" "$toolkit/bin"
program "$tools/nvidia-smi" '[ "$1" != -i ] || [ "$2" = 1 ] || exit 6
echo "Stand-in 100, 9.0, 580.65.06"'
program "$toolkit/bin/nvcc" 'echo "Cuda compilation tools, release 13.0, V13.0.88"'

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
  env PATH="$tools:$PATH" CUDACXX="$toolkit/bin/nvcc" STIEFELX_GPU_BUILD_DIR="$build" \
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
  python3 -IS - "$work/out" "$2" <<'PYTHON' || complain "not so: $2"
import json, sys
with open(sys.argv[1] + "/results.json", encoding="utf-8") as file:
    try:
        r = json.load(file)
    except ValueError as error:
        sys.exit("results.json is no JSON: %s" % error)
with open(sys.argv[1] + "/summary.md", encoding="utf-8") as file:
    text = file.read()
tests = {t["name"]: t["result"] for t in r["tests"]}
benchmarks = {t["name"]: t["result"] for t in r["benchmarks"]}
sanitizer = {t["name"]: t["result"] for t in r["sanitizer"]}
sys.exit(0 if eval(sys.argv[2]) else 1)
PYTHON
}

# --- everything passes ---------------------------------------------------------------------------

# Beside nvcc, on no path; a call that fails on purpose is no finding.
program "$toolkit/bin/compute-sanitizer" 'case " $* " in
*" --report-api-errors no "*) while [ "${1#--}" != "$1" ]; do shift 2; done; exec "$1" ;;
esac
exit 9'
ready cuda/batch nn/lora bench/limits bench/orth
run cuda/batch,nn/lora,bench/limits,bench/orth
expect 0 'tests == {"cuda/batch": "passed", "nn/lora": "passed"} and len(r["rows"]) == 2'
expect 0 'r["device"] == "Stand-in 100" and r["driver"] == "580.65.06" and r["toolkit"] == "13.0.88"'
expect 0 'r["compute_capability"] == "9.0" and r["date"].endswith("Z") and r["commit"]'
expect 0 'sorted(sanitizer) == ["cuda/batch " + t for t in ("initcheck", "memcheck", "racecheck",
                                                             "synccheck")]'
expect 0 'benchmarks["peers/torch"] == "passed" and "2 of 2 test programs passed" in text'
expect 0 '"| copy | entries=8 | float | stiefelx | 2 µs | 1 µs |" in text'
expect 0 'any(line.startswith("skipped torch-cuda") for line in r["absent"])'

ready cuda/batch
run cuda/batch CUDA_VISIBLE_DEVICES=1,0
expect 0 'r["device"] == "Stand-in 100"'

ready cuda/batch
run cuda/batch CUDA_VISIBLE_DEVICES=
[ $status -eq 3 ] || complain "exit status $status where every GPU is hidden, expected 3"
grep -q 'hides every GPU' "$work/said" || complain "it does not say that every GPU is hidden"

ready
run peers/torch
expect 0 'tests == {} and benchmarks == {"peers/torch": "passed"}'

# --- one fails, one is missing -------------------------------------------------------------------

ready cuda/batch
program "$build/nn.lora" 'echo "1 failure \"quoted\"" >&2; exit 201'
run cuda/batch,nn/lora,nn/router
expect 1 'benchmarks == {}'
expect 1 'tests == {"cuda/batch": "passed", "nn/lora": "failed (201)", "nn/router": "not built"}'
expect 1 '"- nn/lora: failed (201)" in text and "1 of 3 test programs passed" in text'
grep -q 'quoted' "$work/said" || complain "what a failing program says is not shown"

# --- a fault that only the sanitizer sees --------------------------------------------------------

program "$toolkit/bin/compute-sanitizer" '[ "$2" != racecheck ] || exit 9
while [ "${1#--}" != "$1" ]; do shift 2; done; exec "$1"'
ready cuda/batch
run cuda/batch
expect 1 'tests["cuda/batch"] == "passed" and sanitizer["cuda/batch racecheck"] == "failed (9)"'
expect 1 'sanitizer["cuda/batch memcheck"] == "passed"'
program "$toolkit/bin/compute-sanitizer" '[ "$2" != initcheck ] || exec sleep 60
while [ "${1#--}" != "$1" ]; do shift 2; done; exec "$1"'
run cuda/batch STIEFELX_GPU_PROGRAM_SECONDS=1
expect 0 'sanitizer["cuda/batch initcheck"] == "timed out after 1 s" and "initcheck: timed out" in text'
program "$toolkit/bin/compute-sanitizer" 'exec sleep 60'
run cuda/batch STIEFELX_GPU_PROGRAM_SECONDS=1
expect 1 'tests["cuda/batch"] == "passed" and set(sanitizer.values()) == {"timed out after 1 s"}'
# One that makes no call of CUDA is not looked at, and what is for the library's kernels is not
# asked of all.
program "$toolkit/bin/compute-sanitizer" 'tool=$2 kernels=all
while [ "${1#--}" != "$1" ]; do
  [ "$2" != kernel_substring=stiefelx ] || kernels=own
  shift 2
done
case "$tool $kernels" in
"memcheck all" | "racecheck own" | "synccheck own" | "initcheck own") ;;
*) exit 9 ;;
esac
case $1 in *mdspan) ;; *) exec "$1" ;; esac
echo "Error: Target application terminated before first instrumented API call"
exit 255'
ready cuda/batch cuda/mdspan
run cuda/batch,cuda/mdspan
expect 0 'sanitizer["cuda/mdspan memcheck"] == "not run: it makes no call of CUDA"'
expect 0 'set(t for n, t in sanitizer.items() if "batch" in n) == {"passed"}'
rm "$toolkit/bin/compute-sanitizer"

# --- a wrong result, and a row that is cut off ---------------------------------------------------

ready cuda/batch
program "$build/bench.limits" "echo '$row'; printf '{\"case\":\"co'
echo 'refused stiefelx in copy/entries=9/float, because the last column differs' >&2; exit 1"
program "$build/bench.orth" "[ \"\${1:-}\" = --list ] || echo '$row'"
run cuda/batch,bench/limits,bench/orth
expect 1 'benchmarks["bench/limits"] == "failed (1)" and r["unfinished_rows"] == 1'
expect 1 'len(r["rows"]) == 2 and any("the last column differs" in line for line in r["absent"])'

# --- time runs out -------------------------------------------------------------------------------

ready nn/router
program "$build/cuda.batch" 'exec sleep 60'
run cuda/batch,nn/router STIEFELX_GPU_PROGRAM_SECONDS=1
expect 1 'tests == {"cuda/batch": "timed out after 1 s", "nn/router": "passed"}'
run nn/router STIEFELX_GPU_SECONDS=0
expect 1 'tests == {"nn/router": "not run: out of time"}'

# --- what an earlier run left --------------------------------------------------------------------

ready bench/limits
run bench/limits
expect 0 'len(r["rows"]) == 1'
run bench/limits STIEFELX_GPU_SECONDS=0
expect 1 'benchmarks["bench/limits"] == "not run: out of time" and r["rows"] == []'
expect 1 'r["absent"] == []'

# --- what is built, and what its time is ---------------------------------------------------------

# An nvcc that needs four seconds for a program, and makes one that passes.
program "$toolkit/bin/nvcc" 'case " $* " in
*" --version "*) echo "Cuda compilation tools, release 13.0, V13.0.88"; exit ;;
*" -E "*) exit ;;
esac
echo "$*" >>"'"$work"'/compiled"
[ "${*#*-c }" != "$*" ] || sleep 4
while [ $# -gt 1 ] && [ "$1" != -o ]; do shift; done
printf "#!/bin/sh\n" >"$2"
chmod +x "$2"'
rm -rf "$build"
run cuda/batch,bench/limits STIEFELX_GPU_READY=no STIEFELX_GPU_SECONDS=8
expect 0 'tests == {"cuda/batch": "passed"} and benchmarks["bench/limits"] == "passed"'
grep -q -- '-lineinfo.*-o .*/cuda[.]batch' "$work/compiled" || complain "tests have no lines"
grep -q -- '-O3 -DNDEBUG .*-o .*/bench[.]limits' "$work/compiled" || complain "limits is not -O3"
grep -q -- "-rpath=$toolkit/lib64" "$work/compiled" || complain "libraries are not found at run time"
: >"$work/compiled"
env PATH="$tools:$PATH" CUDACXX="$toolkit/bin/nvcc" STIEFELX_GPU_BUILD_DIR="$build" \
  bash "$here/run.sh" --no-bench --only bench/limits --out "$work/out" >/dev/null 2>&1
[ ! -s "$work/compiled" ] || complain "--no-bench compiles: $(cat "$work/compiled")"

# Headers that are not there: one sentence, before anything is compiled.
program "$toolkit/bin/nvcc" 'echo "missing: Eigen"; echo "$*" >>"'"$work"'/compiled"'
run cuda/batch STIEFELX_GPU_READY=no
[ $status -eq 2 ] || complain "without Eigen: exit status $status, expected 2"
[ "$(wc -l <"$work/said")" -eq 1 ] || complain "without Eigen it says $(cat "$work/said")"
grep -q "headers of Eigen" "$work/said" || complain "without Eigen it does not say so"
[ "$(wc -l <"$work/compiled")" -eq 1 ] || complain "without Eigen something is compiled"

# --- no GPU, and wrong options -------------------------------------------------------------------

rm "$tools/nvidia-smi"
program "$tools/nvidia-smi" 'echo "No devices were found"; exit 6'
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
