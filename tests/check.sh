#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
set -u

usage() {
  cat <<'TEXT'
usage: bash tests/check.sh [--quick | --label NAME] [--help]

Installs what is missing (Debian 12, Ubuntu), configures, builds and runs the tests.

  (no option)   everything: host tests, device code on the host, examples, documentation, layer and
                package rules, two compilers, address, undefined and thread sanitizers
  --quick       the host tests alone
  --label NAME  one group: a folder of tests (core, orth, nn, ...), host (all of these), examples,
                rules, syntax, package, docs, fuzz, cuda, asan or tsan
  --help        this text

STIEFELX_BUILD_DIR       build folder, default build/check in the repository
CMAKE_BUILD_PARALLEL_LEVEL, CTEST_PARALLEL_LEVEL   jobs, default 2

Exit status: 0 all passed; 1 a stage or a test failed; 2 wrong option, or packages are missing
and this is not root.
TEXT
}

label=all
while [ $# -gt 0 ]; do
  case $1 in
    --quick) label=host ;;
    --label)
      if [ $# -lt 2 ]; then
        echo "check.sh: --label needs a name" >&2
        usage >&2
        exit 2
      fi
      label=$2
      shift
      ;;
    --help | -h)
      usage
      exit 0
      ;;
    *)
      echo "check.sh: unknown option $1" >&2
      usage >&2
      exit 2
      ;;
  esac
  shift
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
build=${STIEFELX_BUILD_DIR:-$root/build/check}
case $build in /*) ;; *) build=$PWD/$build ;; esac
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
export CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-2}

folders=$(cd "$root/tests" && for file in */*_test.cpp; do echo "${file%%/*}"; done | sort -u)
# What the sanitizer builds hold: the folders and files that touch memory most, and what runs on
# threads.
asan_folders="core;host;io;optim/sparse_columns;optim/state"
for name in expert_choice lora mixture_kinds moe_lora narrow_weights router_choice; do
  asan_folders+=";nn/$name"
done
for name in gram_schmidt_stack layouts; do asan_folders+=";orth/$name"; done
for name in manifold_arguments manifold_layouts stiefel_stack; do asan_folders+=";manifold/$name"; done
tsan_folders="host/threads;host/tall_products;team"

wants() {  # wants NAME...: is the chosen label all or one of these?
  local name
  [ "$label" = all ] && return 0
  for name; do [ "$label" = "$name" ] && return 0; done
  return 1
}
# shellcheck disable=SC2206  # one word a folder
known=(host ${folders//host/} examples rules syntax package docs fuzz asan tsan)
if ! wants "${known[@]}"; then
  echo "check.sh: there is no label $label; there are: ${known[*]}" >&2
  exit 2
fi

times=()
stage() {  # stage NAME COMMAND...: runs it quietly, shows its output if it fails
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  if ! "$@" >"$build/stage.log" 2>&1; then
    tail -n 200 "$build/stage.log"
    echo "check.sh: $name failed"
    exit 1
  fi
  times+=("$(printf '%5d s  %s' $((SECONDS - start)) "$name")")
}

# --- packages ------------------------------------------------------------------------------------

start=$SECONDS
required="cmake g++ make libeigen3-dev libboost-test-dev zlib1g-dev"
optional=""
if wants examples; then required+=" dataset-fashion-mnist"; fi
if wants docs; then
  required+=" doxygen doxygen-awesome-css graphviz libjs-mathjax texlive-binaries"
fi
if wants syntax; then optional="clang-19 libbenchmark-dev"; fi
if wants cuda; then optional+=" python3-numpy"; fi
if wants asan tsan fuzz cuda; then optional="clang-19 libclang-rt-19-dev ${optional#clang-19}"; fi
# shellcheck source=cmake/packages.sh
. "$root/cmake/packages.sh"
echo "== packages"
install_packages "$required" "$optional"
times+=("$(printf '%5d s  packages' $((SECONDS - start)))")
if wants syntax; then
  command -v clang++-19 >/dev/null ||
    echo "headers.clang, warnings.clang: skipped, because clang++-19 is not installed"
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] ||
    echo "archetype.nvcc: skipped, because nvcc is not installed"
fi

# --- configure and build -------------------------------------------------------------------------

mkdir -p "$build" || exit 1
builds=()

# clang compiles instrumented code in less than half of GCC's time. What it builds, with warnings as
# errors, is not looked through by it a second time.
sanitizing=c++
seen_by_clang=
if package_installed libclang-rt-19-dev && command -v clang++-19 >/dev/null; then
  sanitizing=clang++-19
  if [ "$label" = all ]; then seen_by_clang=$asan_folders; fi
fi
# The device code runs in the sanitizer builds, and there takes the place of the second backend.
host_alone=OFF
for toolkit in "${CUDA_PATH:-}" /usr/local/cuda /usr; do
  if [ "$label" = all ] && [ -f "$toolkit/include/cublas_v2.h" ]; then host_alone=ON; fi
done

if [ "$label" != asan ] && [ "$label" != tsan ]; then
  with_docs=OFF
  with_examples=OFF
  targets=(host_tests)
  if wants docs; then with_docs=ON; fi
  if wants examples; then with_examples=ON; fi
  case $label in
    all) targets=(all) ;;
    examples) targets=(all_examples) ;;
    rules | package | docs | fuzz) targets=() ;;
    cuda) targets=(test_ptx) ;;
    syntax) targets=(static_facts) ;;
    host) ;;
    *) targets=("test_$label") ;;
  esac
  if [ "$label" = examples ] && [ -d "$root/tests/examples" ]; then targets+=(test_examples); fi
  stage "configure" cmake -S "$root" -B "$build" -DSTIEFELX_SANITIZE= \
    -DSTIEFELX_BUILD_BENCH=OFF -DSTIEFELX_BUILD_DOCS=$with_docs \
    -DSTIEFELX_BUILD_EXAMPLES=$with_examples -DSTIEFELX_TIMED_EXAMPLES=OFF \
    "-DSTIEFELX_SEEN_BY_CLANG=$seen_by_clang" -DSTIEFELX_CUDA_ELSEWHERE=ON \
    -DSTIEFELX_TEST_HOST_ALONE=$host_alone
  if [ ${#targets[@]} -gt 0 ]; then
    stage "build ${targets[*]}" cmake --build "$build" --target "${targets[@]}"
  fi
  builds+=("$build")
fi

with_cuda=OFF
if wants cuda; then with_cuda=ON; fi
sanitizer() {  # sanitizer NAME KIND FOLDERS
  local folders=$3
  if [ "$label" = cuda ]; then folders=; fi
  stage "configure $1" cmake -S "$root" -B "$build-$1" "-DSTIEFELX_SANITIZE=$2" \
    "-DCMAKE_CXX_COMPILER=$sanitizing" \
    "-DSTIEFELX_TEST_FOLDERS=$folders" -DSTIEFELX_TEST_CUDA=$with_cuda -DSTIEFELX_BUILD_BENCH=OFF -DSTIEFELX_BUILD_DOCS=OFF \
    -DSTIEFELX_BUILD_EXAMPLES=OFF
  stage "build $1" cmake --build "$build-$1"
  builds+=("$build-$1")
}
if wants asan cuda; then sanitizer asan address "$asan_folders"; fi
if wants tsan cuda; then sanitizer tsan thread "$tsan_folders"; fi

# --- run -----------------------------------------------------------------------------------------

# One run over all builds: a folder of tests that has each of them as a part.
mkdir -p "$build/together" || exit 1
for dir in "${builds[@]}"; do printf 'subdirs([==[%s]==])\n' "$dir"; done \
  >"$build/together/CTestTestfile.cmake"

echo "== times"
printf '%s\n' "${times[@]}"
echo "== tests"
select=()
if [ "$label" != all ]; then select=(-L "^$label\$"); fi
exec ctest --test-dir "$build/together" --output-on-failure --no-label-summary --no-tests=error \
  "${select[@]}"
