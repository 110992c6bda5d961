#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
set -u

usage() {
  cat <<'TEXT'
usage: bash bench/run.sh [--filter REGEX] [--json FILE] [--peers] [--help]

Builds the benchmarks, measures what this machine can do, then the library and, if asked for, its
peers, and prints times, rates and ratios. docs/benchmarks.md says what they mean.

  --filter REGEX  only rows whose case/shape/scalar/threads has a match of REGEX, like
                  'retract_qr/n=4096,p=64/float/1'; alike for the library and every peer
  --json FILE     also writes all rows to FILE, one JSON object a line
  --peers         also measures eigen, lapack, torch, torch-eager, torch-loop, torch-dense, geoopt and
                  pymanopt; one that is absent is named with the reason. bash
                  bench/peers/install.sh installs the Python ones
  --help          this text

STIEFELX_BUILD_DIR      build folder, default build/bench in the repository
STIEFELX_BENCH_THREADS  threads, default 1; pinned to as many cores, the last that may be used
STIEFELX_PEERS          folder of the Python environment, default
                        ${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers

Exit status: 0 done; 1 a step failed, or a result of the library is wrong; 2 wrong option, or
packages are missing and this is not root.
TEXT
}

wrong() {
  echo "run.sh: $1" >&2
  usage >&2
  exit 2
}

filter=
json=
peers=no
while [ $# -gt 0 ]; do
  case $1 in
    --filter | --json)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      if [ "$1" = --filter ]; then filter=$2; else json=$2; fi
      shift
      ;;
    --filter=*) filter=${1#*=} ;;
    --json=*) json=${1#*=} ;;
    --peers) peers=yes ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) wrong "unknown option $1" ;;
  esac
  shift
done
threads=${STIEFELX_BENCH_THREADS:-1}
case $threads in
  '' | *[!0-9]* | 0)
    wrong "STIEFELX_BENCH_THREADS is \"$threads\", expected a number of at least 1"
    ;;
esac
if [ -n "$json" ] && ! { : >>"$json"; } 2>/dev/null; then
  echo "run.sh: cannot write $json" >&2
  exit 1
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
build=${STIEFELX_BUILD_DIR:-$root/build/bench}
case $build in /*) ;; *) build=$PWD/$build ;; esac
support=$root/bench/support

# shellcheck source=cmake/packages.sh
. "$root/cmake/packages.sh"
install_packages "cmake g++ make python3 libeigen3-dev libbenchmark-dev" "libopenblas-dev" || exit 1

# --- build ---------------------------------------------------------------------------------------

mkdir -p "$build" || exit 1
[ -x "$build/bench/bench_limits" ] || echo "building the benchmarks, once: some minutes" >&2
if ! {
  cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DSTIEFELX_BUILD_TESTS=OFF \
    -DSTIEFELX_BUILD_EXAMPLES=OFF -DSTIEFELX_BUILD_DOCS=OFF -DSTIEFELX_BUILD_BENCH=ON &&
    cmake --build "$build" --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-2}"
} >"$build/build.log" 2>&1; then
  tail -n 60 "$build/build.log" >&2
  echo "run.sh: the build failed" >&2
  exit 1
fi
programs=()
for source in "$root"/bench/*.cpp; do
  name=$(basename "$source" .cpp)
  [ "$name" = limits ] || programs+=("$build/bench/bench_$name")
done

# --- measure -------------------------------------------------------------------------------------

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
: >"$work/limits"
: >"$work/listed"
: >"$work/measured"
# Contestants of several languages solve the same problems and show their results to one judge.
export STIEFELX_BENCH_DATA=$work/data
export STIEFELX_BENCH_JUDGE=$build/bench/bench_judge_leading_eigenspace

# The last cores: a system's own work tends to run on the first.
pin=()
where=
if command -v taskset >/dev/null; then
  cores=$(python3 -c 'import os, sys
print(",".join(map(str, sorted(os.sched_getaffinity(0))[-int(sys.argv[1]):])))' "$threads")
  if taskset -c "$cores" true 2>/dev/null; then
    pin=(taskset -c "$cores")
    where=", core $cores"
  fi
fi

# Settings of OpenBLAS that slow it down, and threads that nobody asked for, would make a peer look
# worse than it is. Waiting threads sleep: spinning ones cost whole time slices of a shared machine.
pinned() {
  env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE OPENBLAS_NUM_THREADS="$threads" \
    OMP_NUM_THREADS="$threads" MKL_NUM_THREADS="$threads" BLIS_NUM_THREADS="$threads" \
    OMP_WAIT_POLICY=passive PYTHONDONTWRITEBYTECODE=1 "${pin[@]}" "$@"
}

# Threads of the library are those of its context, which refuses a BLAS with threads of its own.
own() {
  pinned env OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 BLIS_NUM_THREADS=1 "$@"
}

status=0
for program in "${programs[@]}"; do
  own "$program" --list --filter "$filter" --threads "$threads" >>"$work/listed" || exit $?
done
if [ ! -s "$work/listed" ]; then
  echo "run.sh: no case/shape/scalar/threads matches \"$filter\"" >&2
  exit 2
fi
count=$(wc -l <"$work/listed")

echo "limits of this machine, $threads thread(s)$where"
scalars=$(sed 's/.*"scalar":"\([a-z]*\)".*/\1/' "$work/listed" | sort -u | paste -sd '|')
pinned "$build/bench/bench_limits" --threads "$threads" --filter "^copy/|/($scalars)/" \
  --bytes "$(python3 "$support/report.py" sizes "$work/listed")" >"$work/limits" || exit 1
python3 "$support/report.py" limits "$work/limits" || exit 1
echo

echo "measuring $count rows of stiefelx" >&2
for program in "${programs[@]}"; do
  own "$program" --filter "$filter" --threads "$threads" >>"$work/measured" || status=1
done

# measure_peer NAME COMMAND...: a peer that is refused or skipped says so; the others go on.
measure_peer() {
  local name=$1 result
  shift
  echo "measuring $name" >&2
  pinned "$@" --threads "$threads" >>"$work/measured" 2>"$work/errors"
  result=$?
  if ! grep -E '^(skipped|refused) ' "$work/errors" >>"$work/absent" && [ $result -ne 0 ]; then
    echo "refused $name, because it fails: $(tail -n 1 "$work/errors")" >>"$work/absent"
  fi
}

if [ $peers = yes ]; then
  for name in eigen lapack; do
    if [ -x "$build/bench/bench_peer_$name" ]; then
      measure_peer $name "$build/bench/bench_peer_$name" --filter "$filter"
    else
      echo "skipped $name, because it was not built: OpenBLAS is not found" >>"$work/absent"
    fi
  done
  folder=${STIEFELX_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
  for name in torch torch-eager torch-loop torch-dense geoopt pymanopt-cg pymanopt-tr \
    pymanopt-cg-grassmann pymanopt-tr-grassmann geoopt-rsgd geoopt-radam; do
    script=("$root/bench/peers/with_${name/-/_}.py")
    case $name in
      pymanopt-*) script=("$root/bench/peers/with_pymanopt.py" --impl $name) ;;
      geoopt-*) script=("$root/bench/peers/with_geoopt_minimize.py" --impl $name) ;;
    esac
    if [ -x "$folder/bin/python" ]; then
      measure_peer $name "$folder/bin/python" "${script[@]}" --cases "$work/listed"
    else
      echo "skipped $name, because there is no Python environment in $folder;" \
        "bash bench/peers/install.sh makes it" >>"$work/absent"
    fi
  done
fi

# --- report --------------------------------------------------------------------------------------

options=()
[ -z "$json" ] || options=(--json "$json")
python3 "$support/report.py" table "$work/limits" "$work/listed" "$work/measured" \
  "${options[@]}" || status=1
if [ -s "$work/absent" ]; then
  echo
  cat "$work/absent"
fi
exit $status
