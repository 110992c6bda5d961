#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Joins what tests/gpu/run.sh ran: results.json, and a summary in Markdown.

Python's standard library alone. Exit status: 1 if anything failed, was not built, timed out or was
not run, or if a benchmark refused a result. compute-sanitizer, which can be a hundred times as slow,
fails by what it finds, and where none of its runs came to an end; torch not at all: it is not the
library.
"""
import argparse
import datetime
import json
import os
import sys


def lines(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in file if line.strip()]


def read_results(path):
    """The lines KIND, NAME, RESULT and SECONDS of run.sh, by kind."""
    found = {"test": [], "benchmark": [], "sanitizer": []}
    for line in lines(path):
        kind, name, result, seconds = line.split("\t")
        found[kind].append({"name": name, "result": result, "seconds": int(seconds)})
    return found


def read_rows(path):
    """The rows of the benchmarks, and how many lines a program that was stopped left unfinished."""
    rows, broken = [], 0
    for line in lines(path):
        try:
            rows.append(json.loads(line))
        except ValueError:
            broken += 1
    return rows, broken


def rate(row, what):
    """TFLOP/s or TB/s: a number a nanosecond is 10^9 a second."""
    return row[what] / row["median_ns"] / 1e3


def best(rows, case, scalar, what):
    rates = [rate(row, what) for row in rows if row["case"] == case and row["scalar"] == scalar]
    return max(rates, default=0)


def floor_ns(row, memory, product):
    """The longer of moving the bytes and doing the arithmetic at the best rates of this run."""
    floors = []
    if memory:
        floors.append(row["bytes"] / memory / 1e3)
    if product:
        floors.append(row["flops"] / product / 1e3)
    return max(floors, default=0)


def engineering(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size:
            return "%.3g %s" % (nanoseconds / size, unit)
    return "%.3g µs" % (nanoseconds / 1e3)


def benchmark_table(rows):
    """Times, rates, and the share of the floor; peers below the library's row of the same case."""
    memory = best(rows, "copy", "float", "bytes")
    products = {s: best(rows, "gemm_rate", s, "flops") for s in ("float", "double")}
    text = ["| case | shape | scalar | impl | median | min | TFLOP/s | TB/s | of floor |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    order = {}
    for row in rows:
        order.setdefault((row["case"], row["shape"], row["scalar"]), len(order))
    for row in sorted(rows, key=lambda r: order[r["case"], r["shape"], r["scalar"]]):
        floor = floor_ns(row, memory, products.get(row["scalar"], 0))
        text.append("| %s | %s | %s | %s | %s | %s | %.3g | %.3g | %s |" % (
            row["case"], row["shape"], row["scalar"], row["impl"], engineering(row["median_ns"]),
            engineering(row["min_ns"]), rate(row, "flops"), rate(row, "bytes"),
            "%.0f %%" % (100 * floor / row["median_ns"]) if floor else ""))
    return text


def summary(report):
    passed = [t for t in report["tests"] if t["result"] == "passed"]
    text = ["# %s {#gpu_%s}" % (report["device"], identifier(report["device"])), "",
            "Commit `%s`, %s; driver %s, CUDA toolkit %s, compute capability %s; %d s in all." % (
                report["commit"], report["date"], report["driver"], report["toolkit"],
                report["compute_capability"], report["seconds"]), "",
            "**%d of %d test programs passed.**" % (len(passed), len(report["tests"]))]
    for kind in ("tests", "sanitizer", "benchmarks"):
        wrong = [r for r in report[kind] if r["result"] != "passed"]
        if wrong:
            text += ["", "Not passed, %s:" % kind, ""]
            text += ["- %s: %s" % (r["name"], r["result"]) for r in wrong]
    text += ["", "compute-sanitizer: " + (
        "%d runs" % len(report["sanitizer"]) if report["compute_sanitizer"] else
        "not installed") + "."]
    if report["rows"]:
        text += ["", "## Benchmarks", "",
                 "Times are between two events of the device, with a cold L2. The floor is the "
                 "longer of moving the bytes and doing the flops at the best rates of this run.",
                 ""] + benchmark_table(report["rows"])
    if report["absent"]:
        text += ["", "## Absent", ""] + ["- " + line for line in report["absent"]]
    return "\n".join(text) + "\n"


def identifier(name):
    return "".join(c.lower() if c.isalnum() else "_" for c in name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("out", "results", "rows", "absent", "left-out", "commit", "device", "toolkit",
                 "sanitizer"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    a = parser.parse_args()
    model, capability, driver = ([part.strip() for part in a.device.split(",")] + ["", ""])[:3]
    results = read_results(a.results)
    rows, broken = read_rows(a.rows)
    report = {
        "commit": a.commit,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": model, "compute_capability": capability, "driver": driver,
        "toolkit": a.toolkit, "seconds": a.seconds, "compute_sanitizer": a.sanitizer == "yes",
        "tests": results["test"], "sanitizer": results["sanitizer"],
        "benchmarks": results["benchmark"], "rows": rows, "unfinished_rows": broken,
        "absent": lines(a.absent), "cases_left_out": sorted(set(lines(a.left_out))),
    }
    for name, text in (("results.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n"),
                       ("summary.md", summary(report))):
        path = os.path.join(a.out, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)
    every = report["tests"] + report["benchmarks"]
    right = bool(every) and all(
        r["result"] == "passed" for r in every if r["name"] != "peers/torch")
    checks = [r["result"] for r in report["sanitizer"]]
    found = any(result.startswith("failed") for result in checks)
    unchecked = checks and "passed" not in checks
    return 0 if right and not found and not unchecked else 1


if __name__ == "__main__":
    sys.exit(main())
