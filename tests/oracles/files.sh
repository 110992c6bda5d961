#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Builds exchange.cpp and exchanges files with NumPy and the Python package safetensors through it,
# see files.py. Exits 77 (skipped) where these are not installed. CXX is the compiler, default c++.
set -u

folder=${STIEFELX_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
here=$(cd "$(dirname "$0")" && pwd) || exit 1
if [ ! -x "$folder/bin/python" ]; then
  echo "skipped, because there is no Python environment in $folder;" \
    "bash bench/peers/install.sh makes it"
  exit 77
fi
for package in numpy safetensors; do
  if ! "$folder/bin/python" -c "import $package" 2>/dev/null; then
    echo "skipped, because the Python package $package is not installed in $folder"
    exit 77
  fi
done
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"${CXX:-c++}" -std=c++20 -O1 "-I$here/../../include" "$here/exchange.cpp" -o "$work/exchange" || exit 1
PYTHONDONTWRITEBYTECODE=1 "$folder/bin/python" "$here/files.py" "$work/exchange"
