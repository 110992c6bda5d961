#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   no_cuda.sh fashion_moe_lora with|without
#
# What the example says to --device cuda where it cannot: one sentence, and nothing else happens. A
# program built with CUDA exits with 1 where there is no driver or no device; one built without it
# exits with 2.
set -u

program=$1
built=$2
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "failed: $*"
  failures=$((failures + 1))
}

if [ "$built" = with ] && nvidia-smi -L >/dev/null 2>&1; then
  echo "skipped: there is a GPU here"
  exit 77
fi

"$program" --device cuda --out "$work/out" >"$work/stdout" 2>"$work/stderr"
status=$?
sentence=$(cat "$work/stderr")
echo "exit status $status: $sentence"
if [ "$built" = with ]; then
  [ $status -eq 1 ] || fail "expected exit status 1"
  case $sentence in
    "fashion_moe_lora: cuda::context: "*"driver"*) ;;
    *) fail "expected what is missing: a driver, a newer one, or a device" ;;
  esac
else
  [ $status -eq 2 ] || fail "expected exit status 2"
  case $sentence in
    "fashion_moe_lora: --device cuda: this program was built without CUDA;"*"STIEFELX_CUDA=ON"*) ;;
    *) fail "expected that the program was built without CUDA, and how to build it" ;;
  esac
fi
[ "$(wc -l <"$work/stderr")" -eq 1 ] || fail "expected one line of errors"
[ ! -s "$work/stdout" ] || fail "it prints to standard output"
[ ! -e "$work/out" ] || fail "it leaves files"

"$program" --device gpu --out "$work/out" >"$work/stdout" 2>"$work/stderr"
status=$?
[ $status -eq 2 ] || fail "--device gpu exits with $status, expected 2"
head -n 1 "$work/stderr" | grep -qF -- "--device knows cpu, cuda, not 'gpu'" ||
  fail "--device gpu says \"$(head -n 1 "$work/stderr")\""

[ $failures -eq 0 ]
