#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   bash tests/gpu/builds_test.sh FOLDER
#
# tests/gpu/run.sh compiles and links programs with nvcc: one of the library's typed tests, and a suite
# of the device's own.
set -u
here=$(dirname "${BASH_SOURCE[0]}")
if ! command -v "${CUDACXX:-nvcc}" >/dev/null && ! command -v /usr/local/cuda/bin/nvcc >/dev/null; then
  echo "skipped: nvcc is not installed"
  exit 77
fi
STIEFELX_GPU_BUILD_DIR=$1 bash "$here/run.sh" --build-only --no-bench --only nn/lora,cuda/arena ||
  exit 1
[ -x "$1/nn.lora" ] && [ -x "$1/cuda.arena" ]
