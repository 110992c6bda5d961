#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Makes the reference values again and compares them with the files beside this script. Exits 77
# (skipped) where the Python packages are not installed.
set -u

folder=${STIEFELX_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
if [ ! -x "$folder/bin/python" ]; then
  echo "skipped, because there is no Python environment in $folder;" \
    "bash bench/peers/install.sh makes it"
  exit 77
fi
PYTHONDONTWRITEBYTECODE=1 exec "$folder/bin/python" "$(dirname "$0")/make.py" --compare
