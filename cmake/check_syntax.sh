#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   check_syntax.sh headers|sources COMPILER FLAG... -- FILE...
#
# Runs COMPILER -fsyntax-only over each FILE as a translation unit of its own, two at a time.
# A header is included twice, so that a missing include guard is seen. Prints the first 60 lines of
# what the compiler says of a file; exits 1 if any file fails, 77 (skipped) if there is no such
# compiler.
set -u

kind=$1
compiler=$2
shift 2
flags=()
while [ "$1" != -- ]; do
  flags+=("$1")
  shift
done
shift

if ! command -v "$compiler" >/dev/null; then
  echo "skipped: $compiler is not installed"
  exit 77
fi

check() {
  local text
  if [ "$kind" = headers ]; then
    text=$(printf '#include "%s"\n#include "%s"\n' "$1" "$1" |
      "$compiler" -fsyntax-only "${flags[@]}" -x c++ - 2>&1)
  else
    text=$("$compiler" -fsyntax-only "${flags[@]}" "$1" 2>&1)
  fi
  local status=$?
  # A warning of the driver itself is no error to the compiler, and is one here.
  if [ $status -ne 0 ] || [ -n "$text" ]; then
    printf '%s\n%s\n' "--- $1" "$(head -n 60 <<<"$text")"
    return 1
  fi
}

running=0
failed=0
for file; do
  if [ $running -eq 2 ]; then
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
  fi
  check "$file" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
done

echo "$# files, $failed with findings"
[ $failed -eq 0 ]
