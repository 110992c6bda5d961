#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
set -u

usage() {
  cat <<'TEXT'
usage: bash tests/gpu/run.sh [--build-only] [--out FILE] [--help]

Tier F: builds the device's tests with nvcc and NVIDIA's own libraries, runs them on a GPU, under
compute-sanitizer too where it is installed, and writes what was run where to FILE.

  --build-only  compiles and links, which needs no GPU
  --out FILE    JSON: commit, device, driver, toolkit, and each program's result; default
                <build folder>/results.json

STIEFELX_GPU_BUILD_DIR   build folder, default build/gpu in the repository
CUDACXX                  nvcc, default the one on the path or in /usr/local/cuda
CMAKE_BUILD_PARALLEL_LEVEL   jobs, default 2

Exit status: 0 all passed; 1 something failed; 2 wrong option, or a tool is missing; 3 there is no GPU.
TEXT
}

build_only=no
out=
while [ $# -gt 0 ]; do
  case $1 in
    --build-only) build_only=yes ;;
    --out)
      if [ $# -lt 2 ]; then
        echo "run.sh: --out needs a file" >&2
        exit 2
      fi
      out=$2
      shift
      ;;
    --help | -h)
      usage
      exit 0
      ;;
    *)
      echo "run.sh: unknown option $1" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || exit 1
build=${STIEFELX_GPU_BUILD_DIR:-$root/build/gpu}
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
out=${out:-$build/results.json}

nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if ! command -v "$nvcc" >/dev/null; then
  echo "run.sh: nvcc is not found; install the CUDA toolkit or set CUDACXX" >&2
  exit 2
fi
device=
if [ $build_only = no ]; then
  device=$(nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader 2>/dev/null |
    head -n 1)
  if [ -z "$device" ]; then
    echo "run.sh: there is no GPU here (nvidia-smi lists none); nothing was run"
    exit 3
  fi
fi

# What runs the same on the fake device: programs that do not look behind it, and the library's typed
# tests, one file a program so that one fault leaves the others' results.
own=(batch block_team copy_kernels factor guide mdspan)
typed=(core/batch core/products core/routed core/verbs)
programs=()
for name in "${own[@]}"; do programs+=("cuda/$name"); done
programs+=("${typed[@]}")

arch=native
[ $build_only = yes ] && arch=sm_90
eigen=${EIGEN_INCLUDE_DIR:-/usr/include/eigen3}
# Eigen would mark its functions for the device, and nvcc warn of them.
flags=(-x cu -std=c++20 "-arch=$arch" -O1 --expt-relaxed-constexpr -DEIGEN_NO_CUDA
  -DBOOST_TEST_DYN_LINK -DSTIEFELX_TEST_ON_DEVICE "-I$root/include" "-I$root/tests" "-I$root"
  "-I$eigen")
mkdir -p "$build" || exit 1

compile() {  # compile NAME: NAME is folder/file
  local object=$build/${1//\//.}
  if ! "$nvcc" "${flags[@]}" "$root/tests/${1}_test.cpp" "$root/tests/support/main.cpp" \
    -o "$object" -lcublas -lboost_unit_test_framework >"$object.log" 2>&1; then
    rm -f "$object"
    echo "run.sh: $1 does not compile:" >&2
    tail -n 20 "$object.log" >&2
    return 1
  fi
}

start=$SECONDS
failed=0
running=0
for name in "${programs[@]}"; do
  if [ "$running" -ge "$jobs" ]; then
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
  fi
  compile "$name" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
done
echo "${#programs[@]} programs, $failed not built, $((SECONDS - start)) s"
if [ $build_only = yes ]; then
  [ $failed -eq 0 ]
  exit
fi

checker=()
if command -v compute-sanitizer >/dev/null; then
  checker=(compute-sanitizer --tool memcheck --error-exitcode 9)
fi
rows=
for name in "${programs[@]}"; do
  program=$build/${name//\//.}
  result=missing
  if [ -x "$program" ]; then
    if timeout 120 "$program" --report_level=no >"$program.out" 2>&1; then
      result=passed
      # The checker is slow; the library's own kernels are in the device's own tests.
      if [ ${#checker[@]} -gt 0 ] && [ "${name%%/*}" = cuda ] &&
        ! timeout 300 "${checker[@]}" "$program" --report_level=no >"$program.memcheck" 2>&1; then
        result="failed under compute-sanitizer"
      fi
    else
      result=failed
      tail -n 5 "$program.out"
    fi
  fi
  [ "$result" = passed ] || failed=$((failed + 1))
  echo "$name: $result"
  rows+=$(printf ',\n    {"test": "%s", "result": "%s"}' "$name" "$result")
done

commit=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
toolkit=$("$nvcc" --version | sed -n 's/.*release .*, V\(.*\)/\1/p')
IFS=, read -r model capability driver <<<"$device"
{
  printf '{\n  "commit": "%s",\n  "date": "%s",\n' "$commit" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
  printf '  "device": "%s",\n  "compute_capability": "%s",\n' "$model" "${capability# }"
  printf '  "driver": "%s",\n  "toolkit": "%s",\n' "${driver# }" "$toolkit"
  printf '  "compute_sanitizer": %s,\n' "$([ ${#checker[@]} -gt 0 ] && echo true || echo false)"
  printf '  "tests": [%s\n  ]\n}\n' "${rows#,}"
} >"$out.new" && mv "$out.new" "$out"
echo "results: $out"
[ $failed -eq 0 ]
