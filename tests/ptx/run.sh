#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   run.sh FILE.py ARGUMENT...
#
# Runs a file of this folder with a Python that has numpy: that of STIEFELX_PYTHON, python3, or the
# environment of bench/peers. Exits 77 (skipped) and says why where there is none, or no nvcc.
set -u

peers=${STIEFELX_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
export PYTHONDONTWRITEBYTECODE=1

if ! command -v "${STIEFELX_NVCC:-nvcc}" >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then
  echo "skipped: nvcc is not installed"
  exit 77
fi
for python in "${STIEFELX_PYTHON:-python3}" "$peers/bin/python"; do
  if command -v "$python" >/dev/null && "$python" -c "import numpy" 2>/dev/null; then
    exec "$python" "$folder/$1" "${@:2}"
  fi
done
echo "skipped: there is no python3 with numpy (Debian: python3-numpy)"
exit 77
