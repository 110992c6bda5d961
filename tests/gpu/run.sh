#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
set -u

usage() {
  cat <<'TEXT'
usage: bash tests/gpu/run.sh [--build-only] [--only NAME,...] [--out FOLDER] [--no-bench] [--help]

Tier F: compiles the device's tests, the library's typed tests and the benchmarks with nvcc and
NVIDIA's own libraries; runs them on a GPU, the device's own tests under compute-sanitizer too where it
is installed, and the peers that are there; and writes what was run where.

  --build-only      compiles and links, which needs no GPU
  --only NAME,...   these programs alone, by the names that the run prints; torch (peers/torch) where it
                    or a benchmark is named
  --out FOLDER      results.json and summary.md go there; default <build folder>/results. Committed,
                    the summary is docs/gpu/<device>.md
  --no-bench        no benchmarks and no peers, whatever --only names

STIEFELX_GPU_BUILD_DIR   build folder, default build/gpu in the repository
STIEFELX_GPU_READY=yes   runs the programs that the build folder holds and compiles nothing
STIEFELX_GPU_SECONDS     time for the build and all runs, default 600; what has not started by then is
                         not run. A build that takes more than three fifths of it is not counted further
STIEFELX_GPU_PROGRAM_SECONDS   time for one test program, default 60
STIEFELX_GPU_ARCH        architecture to compile for, default native, with --build-only sm_90
EIGEN_INCLUDE_DIR        folder of Eigen's headers, default /usr/include/eigen3
STIEFELX_PEERS           folder of a Python environment with a torch for CUDA, default as bench/run.sh
CUDACXX                  nvcc, default the one on the path or in /usr/local/cuda
CMAKE_BUILD_PARALLEL_LEVEL   jobs, default the number of cores

Exit status: 0 all passed; 1 something failed; 2 wrong option, or a tool is missing; 3 there is no GPU.
TEXT
}

wrong() {
  echo "run.sh: $1" >&2
  usage >&2
  exit 2
}

build_only=no
bench=yes
only=
out=
while [ $# -gt 0 ]; do
  case $1 in
    --build-only) build_only=yes ;;
    --no-bench) bench=no ;;
    --only | --out)
      [ $# -ge 2 ] || wrong "$1 needs a value"
      if [ "$1" = --only ]; then only=,$2,; else out=$2; fi
      shift
      ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) wrong "unknown option $1" ;;
  esac
  shift
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
build=${STIEFELX_GPU_BUILD_DIR:-$root/build/gpu}
ready=${STIEFELX_GPU_READY:-no}
seconds=${STIEFELX_GPU_SECONDS:-600}
program_seconds=${STIEFELX_GPU_PROGRAM_SECONDS:-60}
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
out=${out:-$build/results}
start=$SECONDS

device=
if [ $build_only = no ]; then
  # The device that programs see first, by the same count. Without one this prints a sentence, and fails.
  export CUDA_DEVICE_ORDER=PCI_BUS_ID
  visible=${CUDA_VISIBLE_DEVICES:-}
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ] && [ -z "$visible" ]; then
    echo "run.sh: CUDA_VISIBLE_DEVICES is empty, which hides every GPU from programs; nothing was run"
    exit 3
  fi
  device=$(nvidia-smi ${visible:+-i "${visible%%,*}"} --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null) ||
    device=
  device=${device%%$'\n'*}
  if [ -z "$device" ]; then
    echo "run.sh: there is no GPU here (nvidia-smi lists none); nothing was run"
    exit 3
  fi
fi
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if ! command -v "$nvcc" >/dev/null; then
  echo "run.sh: nvcc is not found; install the CUDA toolkit or set CUDACXX" >&2
  exit 2
fi
command -v python3 >/dev/null || wrong "python3 is not found"
# Libraries and compute-sanitizer lie where the compiler does, which is often on no path.
tools=$(dirname "$(readlink -f "$(command -v "$nvcc")")")
toolkit=${tools%/*}

# --- what is run ---------------------------------------------------------------------------------

# Suites of the fake itself; the rest of what only it shows is left out case by case.
of_the_fake="executor failures fake fake_blas fake_graph fake_refusals launches runtime"

programs=()
skipped=()
chosen() {  # chosen NAME
  [ -z "$only" ] || [[ $only = *",$1,"* ]]
}
# Files for nvcc are written at once, because some are left without a case.
add_tests() {  # add_tests NAME
  local copy=$build/${1//\//.}.cu
  chosen "$1" || return
  awk -v file="$1" -v left_out="$build/cases_left_out" -f "$root/tests/gpu/device_cases.awk" \
    "$root/tests/${1}_test.cpp" >"$copy.new" || exit 1
  if ! grep -q '^BOOST_[A-Z_]*TEST_CASE' "$copy.new"; then
    rm -f "$copy.new" "$copy"
    skipped+=("$1: every case needs the host or the fake")
    return
  fi
  mv "$copy.new" "$copy"
  programs+=("$1")
}
mkdir -p "$build" "$out" || exit 1
: >"$build/cases_left_out"
# What takes longest to compile first; what runs first is said below.
benches=(bench/limits bench/experts bench/orth bench/peers)
if [ $bench = yes ]; then
  for name in bench/orth bench/experts bench/limits bench/peers; do
    if chosen "$name"; then programs+=("$name"); fi
  done
  # torch measures the rows that two of them list.
  if chosen peers/torch; then
    for name in bench/orth bench/experts; do
      chosen "$name" || programs+=("$name")
    done
  fi
fi
# The device's own suites first: where they fail, nothing else has a meaning.
for file in "$root"/tests/cuda/*_test.cpp; do
  name=$(basename "$file" _test.cpp)
  if [[ " $of_the_fake " = *" $name "* ]]; then
    skipped+=("cuda/$name: tests of the fake device")
  elif grep -qE '#include <?"?(examples|stiefelx/(host/|stiefelx\.hpp))' "$file"; then
    skipped+=("cuda/$name: includes the host's headers")
  else
    add_tests "cuda/$name"
  fi
done
host_only=$(sed -n '/^set(stiefelx_host_only/,/)/p' "$root/tests/cuda/typed_tests.cmake" |
  tr -d ')' | tr '\n' ' ')
for folder in core orth manifold optim nn testing; do
  for file in "$root/tests/$folder"/*_test.cpp; do
    name=$folder/$(basename "$file" _test.cpp)
    grep -qE '(real|complex|double)_cases[)]' "$file" || continue
    if [[ " $host_only " = *" $name "* ]]; then
      skipped+=("$name: takes minutes, or complex matrices; host alone (tests/cuda/typed_tests.cmake)")
    elif [ "$name" = core/shape ]; then
      skipped+=("$name: concepts of the host's matrices")
    else
      add_tests "$name"
    fi
  done
done

# --- build ---------------------------------------------------------------------------------------

arch=${STIEFELX_GPU_ARCH:-native}
if [ $build_only = yes ]; then arch=${STIEFELX_GPU_ARCH:-sm_90}; fi
# Warnings are the errors of the other tiers; what nvcc says of Eigen and Boost.Test is theirs.
flags=(-std=c++20 "-arch=$arch" --expt-relaxed-constexpr "-I$root/include"
  "-I$root/tests/gpu/stand_ins" "-I$root/tests" "-I$root" -Xlinker "-rpath=$toolkit/lib64")
bench_flags=(-O3 -DNDEBUG)
# Eigen would mark its functions for the device, and nvcc warn of them. compute-sanitizer names lines.
test_flags=(-O1 -lineinfo -DEIGEN_NO_CUDA -DBOOST_TEST_DYN_LINK -DSTIEFELX_TEST_ON_DEVICE
  "-I${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}")

made() {  # made NAME SECONDS LOG STATUS
  if [ "$4" -ne 0 ]; then
    rm -f "$build/${1//\//.}"
    echo "run.sh: $1 does not compile:" >&2
    tail -n 20 "$3" >&2
    return 1
  fi
  echo "$1 $2" >"$3.seconds"
}

compile() {  # compile NAME
  local name=$1 program=$build/${1//\//.} began=$SECONDS status=0
  rm -f "$program" "$program.log.seconds"
  case $name in
    bench/*)
      local libraries=(-lcublas)
      [ "$name" != bench/peers ] || libraries+=(-lcusolver)
      "$nvcc" -x cu "${bench_flags[@]}" "${flags[@]}" \
        "$root/bench/cuda/${name#bench/}.cpp" "$root/bench/cuda/suite.cpp" -o "$program" \
        "${libraries[@]}" >"$program.log" 2>&1 || status=$?
      ;;
    *)
      "$nvcc" "${test_flags[@]}" "${flags[@]}" "-I$root/tests/${name%/*}" "$program.cu" \
        "$build/main.o" -o "$program" -lcublas -lboost_unit_test_framework >"$program.log" 2>&1 ||
        status=$?
      ;;
  esac
  made "$name" $((SECONDS - began)) "$program.log" $status
}

# What every test includes and what they share, once.
prepare_tests() {
  printf '#if !__has_include(<%s>)\nmissing: %s\n#endif\n' boost/test/unit_test.hpp Boost.Test \
    Eigen/Core "Eigen (EIGEN_INCLUDE_DIR)" >"$build/needed.cpp"
  local missing
  missing=$("$nvcc" "${test_flags[@]}" -E "$build/needed.cpp" 2>/dev/null | sed -n 's/^missing: //p')
  if [ -n "$missing" ]; then
    echo "run.sh: the tests need the headers of ${missing//$'\n'/ and of }, which nvcc does not find" >&2
    exit 2
  fi
  if ! "$nvcc" "${test_flags[@]}" "${flags[@]}" -c "$root/tests/support/main.cpp" -o "$build/main.o" \
      >"$build/main.log" 2>&1; then
    tail -n 20 "$build/main.log" >&2
    echo "run.sh: tests/support/main.cpp does not compile" >&2
    exit 1
  fi
}

unbuilt=0
if [ "$ready" != yes ]; then
  for name in "${programs[@]}"; do
    case $name in bench/*) continue ;; esac
    prepare_tests
    break
  done
  running=0
  for name in "${programs[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
      wait -n || unbuilt=$((unbuilt + 1))
      running=$((running - 1))
    fi
    compile "$name" &
    running=$((running + 1))
  done
  while [ "$running" -gt 0 ]; do
    wait -n || unbuilt=$((unbuilt + 1))
    running=$((running - 1))
  done
  echo "${#programs[@]} programs, $unbuilt not built, $((SECONDS - start)) s with $jobs jobs"
fi
if [ -z "$only" ]; then
  printf 'not run on a GPU: %s\n' "${skipped[@]}"
  sort -u "$build/cases_left_out" |
    awk -F: '{ n[$1]++ } END { for (f in n) print "cases left out, which need the host: " f ": " n[f] }' |
    sort
fi
if [ $build_only = yes ]; then
  [ $unbuilt -eq 0 ]
  exit
fi

# --- run -----------------------------------------------------------------------------------------

# A line for each thing that was run: kind, name, result and seconds, with tabs between.
results=$build/results.tsv
rows=$build/rows.jsonl
: >"$results"
: >"$rows"
: >"$build/absent"

built=$SECONDS
counted=$((built - start))
if [ $counted -gt $((seconds * 3 / 5)) ]; then counted=$((seconds * 3 / 5)); fi
left() { echo $((seconds - counted - (SECONDS - built))); }

# limited SECONDS OUTPUT COMMAND...: sets `result` and `spent`. What an earlier run wrote is emptied
# first: it is not of this one.
limited() {
  local limit=$1 output=$2 rest began=$SECONDS status
  shift 2
  : >"$output"
  : >"$output.errors"
  rest=$(left)
  spent=0
  if [ "$rest" -le 0 ]; then
    result="not run: out of time"
    return
  fi
  [ "$limit" -le "$rest" ] || limit=$rest
  timeout --kill-after=5 "$limit" "$@" >"$output" 2>"$output.errors"
  status=$?
  spent=$((SECONDS - began))
  case $status in
    0) result=passed ;;
    124 | 137) result="timed out after $limit s" ;;
    *) result="failed ($status)" ;;
  esac
}

note() {  # note KIND NAME
  echo "$1 $2: $result"
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$result" "$spent" >>"$results"
}

for name in "${programs[@]}"; do
  program=$build/${name//\//.}
  case $name in bench/*) continue ;; esac
  spent=0
  result="not built"
  if [ -x "$program" ]; then
    limited "$program_seconds" "$program.out" "$program" --report_level=no
    [ "$result" = passed ] || cat "$program.out" "$program.out.errors" | tail -n 5
  fi
  note test "$name"
done

# Slow, so of the library's own kernels alone, and one tool before the benchmarks, which take what time
# they are given. The tests make calls that fail, on purpose: a status is no finding.
checker=no
sanitizer=$(command -v "$tools/compute-sanitizer" || command -v compute-sanitizer)
if [ -n "$sanitizer" ]; then checker=yes; else echo "compute-sanitizer: not installed"; fi
check_with() {  # check_with TOOL SECONDS OPTION..., with SECONDS left for what follows
  local tool=$1 reserve=$2 name program
  shift 2
  [ -n "$sanitizer" ] || return
  for name in "${programs[@]}"; do
    program=$build/${name//\//.}
    case $name in cuda/*) ;; *) continue ;; esac
    [ -x "$program" ] || continue
    spent=0
    result="not run: out of time"
    if [ "$(left)" -gt "$reserve" ]; then
      limited "$program_seconds" "$program.$tool" "$sanitizer" --tool "$tool" "$@" \
        --report-api-errors no --error-exitcode 9 "$program" --report_level=no
      if [ "$result" = "failed (255)" ] &&
        grep -q 'before first instrumented API call' "$program.$tool" "$program.$tool.errors"; then
        result="not run: it makes no call of CUDA"
      fi
    fi
    case $result in passed | "not run"*) ;; *) tail -n 5 "$program.$tool" ;; esac
    note sanitizer "$name $tool"
  done
}
check_with memcheck $((seconds * 2 / 5))

with_torch=no
if [ $bench = yes ]; then
  if chosen peers/torch; then with_torch=yes; fi
  for name in "${benches[@]}"; do
    program=$build/${name//\//.}
    chosen "$name" || continue
    with_torch=yes
    spent=0
    result="not built"
    if [ -x "$program" ]; then
      limited 120 "$program.out" "$program"
      # A program that was stopped in a row leaves it without an end of line.
      awk 1 "$program.out" >>"$rows"
      grep -E '^(skipped|refused) ' "$program.out.errors" >>"$build/absent"
      [ "$result" = passed ] || tail -n 5 "$program.out.errors"
    fi
    note benchmark "$name"
  done
fi
if [ "$with_torch" = yes ]; then
  folder=${STIEFELX_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
  python=$folder/bin/python
  [ -x "$python" ] || python=python3
  : >"$build/listed"
  for name in bench/experts bench/orth; do
    program=$build/${name//\//.}
    if [ -x "$program" ]; then timeout 20 "$program" --list >>"$build/listed" 2>/dev/null; fi
  done
  limited 120 "$build/torch.out" "$python" "$root/bench/peers/with_torch_cuda.py" \
    --cases "$build/listed"
  awk 1 "$build/torch.out" >>"$rows"
  grep -E '^(skipped|refused) ' "$build/torch.out.errors" >>"$build/absent"
  note benchmark peers/torch
fi

# Kernels of cuBLAS synchronize by means that these tools do not know.
for tool in racecheck synccheck initcheck; do
  check_with $tool 0 --kernel-name kernel_substring=stiefelx
done

# --- results -------------------------------------------------------------------------------------

commit=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
if [ "$commit" != unknown ] && [ -n "$(git -C "$root" status --porcelain 2>/dev/null)" ]; then
  commit+=" with changes"
fi
version=$("$nvcc" --version | sed -n 's/.*release .*, V\(.*\)/\1/p')
python3 "$root/tests/gpu/report.py" --out "$out" --results "$results" --rows "$rows" \
  --absent "$build/absent" --left-out "$build/cases_left_out" --commit "$commit" \
  --device "$device" --toolkit "$version" --sanitizer $checker --seconds $((SECONDS - start))
status=$?
echo "results: $out/results.json, $out/summary.md; $((SECONDS - start)) s in all"
exit $status
