#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   program.sh fashion_moe_lora
#
# What the example promises on the command line: errors are one line and exit status 2, an
# interrupted run goes on with the same bits, and the number of threads changes no result.
set -u

program=$1
data=/usr/share/datasets/fashion-mnist
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "failed: $*"
  failures=$((failures + 1))
}

# expect_error TEXT OPTION...: exit status 2, TEXT in the first line of the errors, nothing written.
expect_error() {
  local text=$1
  shift
  "$program" --quiet --out "$work/none" "$@" >"$work/stdout" 2>"$work/stderr"
  local status=$?
  [ $status -eq 2 ] || fail "$* exits with $status, expected 2"
  head -n 1 "$work/stderr" | grep -qF -- "$text" ||
    fail "$* says \"$(head -n 1 "$work/stderr")\", expected \"$text\""
  [ ! -s "$work/stdout" ] || fail "$* prints to standard output"
  [ ! -e "$work/none" ] || fail "$* leaves files"
}

"$program" --help | grep -q -- --resume || fail "--help does not name --resume"
expect_error "--nonsense" --nonsense
expect_error "--seed" --seed x
expect_error "--methods" --methods nobody
expect_error "$work/absent" --data "$work/absent"

if [ ! -d "$data" ]; then
  echo "skipped: $data is not there"
  exit 77
fi

mkdir "$work/cut" && cp "$data"/*.gz "$work/cut" &&
  head -c 100000 "$data/t10k-images-idx3-ubyte.gz" >"$work/cut/t10k-images-idx3-ubyte.gz"
expect_error "t10k-images-idx3-ubyte.gz" --data "$work/cut"
echo "not an IDX file" >"$work/cut/t10k-images-idx3-ubyte.gz"
expect_error "t10k-images-idx3-ubyte.gz" --data "$work/cut"
expect_error "checkpoint.bin" --resume --out "$work/nothing-here"
[ ! -e "$work/nothing-here" ] || fail "--resume without a checkpoint leaves a folder"

options=(--quick --quiet --steps 40 --methods "lora,omoe-2,omoe-4-orthonormal,stiefel-lora")
"$program" "${options[@]}" --threads 2 --out "$work/whole" >/dev/null || fail "the whole run"

interrupts=0
resume=()
for _ in $(seq 60); do
  "$program" "${options[@]}" "${resume[@]}" --threads 1 --out "$work/parts" >/dev/null 2>&1 &
  pid=$!
  (sleep 3 && kill -INT $pid) 2>/dev/null &
  killer=$!
  wait $pid
  status=$?
  kill $killer 2>/dev/null
  wait $killer 2>/dev/null
  [ $status -eq 130 ] || break
  [ -s "$work/parts/checkpoint.bin" ] || fail "no checkpoint after an interrupt"
  interrupts=$((interrupts + 1))
  resume=(--resume)
done
[ $status -eq 0 ] || fail "the resumed run exits with $status"
[ $interrupts -ge 2 ] || fail "only $interrupts interrupts took effect, expected at least 2"
cmp -s "$work/whole/metrics.csv" "$work/parts/metrics.csv" || fail "metrics.csv differs"
sums() { grep -o '"parameters_crc32":[^]]*' "$1/results.json"; }
[ -n "$(sums "$work/whole")" ] || fail "results.json has no checksums"
[ "$(sums "$work/whole")" = "$(sums "$work/parts")" ] || fail "trained parameters differ"
for file in results.json metrics.csv accuracy.svg similarity.svg; do
  [ -s "$work/parts/$file" ] || fail "$file is missing"
done
[ ! -e "$work/parts/checkpoint.bin" ] || fail "a finished run leaves its checkpoint"

echo "$interrupts interrupts, $failures failures"
[ $failures -eq 0 ]
