#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Builds moe_peft_read.cpp and reads folders that examples/convert_moe_peft.py makes of pickled ones,
# see moe_peft.py. Exits 77 (skipped) where torch or safetensors is not installed. CXX is the compiler,
# default c++.
set -u

folder=${STIEFELX_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
here=$(cd "$(dirname "$0")" && pwd) || exit 1
if [ ! -x "$folder/bin/python" ]; then
  echo "skipped, because there is no Python environment in $folder;" \
    "bash bench/peers/install.sh makes it"
  exit 77
fi
for package in safetensors torch; do
  if ! ("$folder/bin/python" -c "import importlib.util as u, sys
sys.exit(u.find_spec('$package') is None)"); then
    echo "skipped, because the Python package $package is not installed in $folder"
    exit 77
  fi
done
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"${CXX:-c++}" -std=c++20 -O1 "-I$here/../../include" "$here/moe_peft_read.cpp" \
  -o "$work/moe_peft_read" || exit 1
PYTHONDONTWRITEBYTECODE=1 "$folder/bin/python" "$here/moe_peft.py" "$work/moe_peft_read"
