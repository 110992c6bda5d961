#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# Where there is no GPU tests/gpu/run.sh says so and exits with 3.
set -u
if nvidia-smi --query-gpu=name --format=csv,noheader >/dev/null 2>&1; then
  echo "skipped: there is a GPU"
  exit 77
fi
said=$(bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" 2>&1)
status=$?
echo "$said"
[ "$status" -eq 3 ] && [ "$said" = "run.sh: there is no GPU here (nvidia-smi lists none); nothing was run" ]
