#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   bash tests/gpu/bench_test.sh PROGRAM...
#
# The device's benchmarks on the fake device, with small sizes: each row that is listed is measured, so
# its result was right, and every line is JSON with the fields of a row.
set -u
command -v python3 >/dev/null || {
  echo "skipped: python3 is not installed"
  exit 77
}
status=0
for program in "$@"; do
  listed=$("$program" --small --list) || status=1
  rows=$("$program" --small) || status=1
  LISTED=$listed ROWS=$rows python3 - "$program" <<'PYTHON' || status=1
import json, os, sys
listed, rows = ([json.loads(line) for line in os.environ[name].splitlines()]
                for name in ("LISTED", "ROWS"))
key = lambda row: tuple(row[field] for field in ("case", "shape", "scalar", "impl"))
if not rows or [key(row) for row in listed] != [key(row) for row in rows]:
    sys.exit("%s: %d rows of %d are measured" % (sys.argv[1], len(rows), len(listed)))
for row in rows:
    if not (row["median_ns"] >= row["min_ns"] > 0 and row["flops"] + row["bytes"] > 0):
        sys.exit("%s: no times, or no work: %s" % (sys.argv[1], row))
if len(set(map(key, rows))) != len(rows):
    sys.exit("%s: two rows have the same names" % sys.argv[1])
print("%s: %d rows" % (os.path.basename(sys.argv[1]), len(rows)))
PYTHON
  if "$program" --wrong >/dev/null 2>&1; then
    echo "bench_test.sh: $program takes a wrong option" >&2
    status=1
  fi
done
exit $status
