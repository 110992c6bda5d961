#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   bash examples/train.sh [--quick] [--device cpu|cuda] [--out DIR] [further options]
#
# Installs what is missing, builds the example fashion_moe_lora and runs it. All options are the
# program's; --help lists them. --device cuda also builds the device's part, for which nvcc has to be
# installed.
set -u

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
build=${STIEFELX_BUILD_DIR:-$root/build/train}
case $build in /*) ;; *) build=$PWD/$build ;; esac

required="cmake g++ make libeigen3-dev zlib1g-dev dataset-fashion-mnist"
before=''
device=cpu
for option; do
  case $option in
    --data | --data=*) required=${required% dataset-fashion-mnist} ;;
    --device=*) device=${option#*=} ;;
  esac
  if [ "$before" = --device ]; then device=$option; fi
  before=$option
done
# shellcheck source=cmake/packages.sh
. "$root/cmake/packages.sh"
install_packages "$required" ""

# A folder that was built with CUDA once stays so.
cuda=()
if [ "$device" = cuda ]; then
  cuda=(-DSTIEFELX_CUDA=ON)
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
  capability=${capability//[!0-9]/}
  if [ -n "$capability" ]; then cuda+=("-DCMAKE_CUDA_ARCHITECTURES=$capability"); fi
fi

mkdir -p "$build" || exit 1
program=$build/examples/fashion_moe_lora
first=no
if [ ! -x "$program" ]; then
  first=yes
  echo "building the example, once: up to three minutes" >&2
fi
start=$SECONDS
if ! {
  cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DSTIEFELX_BUILD_TESTS=OFF \
    -DSTIEFELX_BUILD_BENCH=OFF -DSTIEFELX_BUILD_DOCS=OFF -DSTIEFELX_BUILD_EXAMPLES=ON "${cuda[@]}" &&
    cmake --build "$build" --target fashion_moe_lora --parallel 2
} >"$build/build.log" 2>&1; then
  tail -n 100 "$build/build.log" >&2
  echo "train.sh: the build failed" >&2
  exit 1
fi
if [ $first = yes ]; then echo "first build: $((SECONDS - start)) s" >&2; fi

# Where the build has a BLAS, a context refuses it unless it uses one thread a call: threads are the
# context's.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 BLIS_NUM_THREADS=1
exec "$program" "$@"
