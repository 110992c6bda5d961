# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the Python peers of the cases leading_eigenspace share: data, timing, the judge and rows.

STIEFELX_BENCH_DATA names the folder into which bench_minimize wrote the matrix and the starts;
STIEFELX_BENCH_JUDGE is the program that looks at the final points. bench/run.sh sets both.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

N, P, STARTS = 1000, 10, 5
SECONDS = 20  # what a contestant has for a start
ACCURACIES = {"leading_eigenspace": 1e-8, "leading_eigenspace_1e-6": 1e-6,
              "leading_eigenspace_1e-3": 1e-3}


def blas_version(numpy):
    import threadpoolctl
    for library in threadpoolctl.threadpool_info():
        if library["internal_api"] == "openblas" and "numpy" in library["filepath"]:
            return "OpenBLAS %s (%s)" % (library["version"], library["architecture"])
    return "BLAS unknown"


def judged(numpy, folder, impl, points, accuracy):
    """What the judge says of the final points: an empty text when they are right."""
    stacked = numpy.concatenate([numpy.asarray(x).T.reshape(-1) for x in points])
    stacked.astype(numpy.float64).tofile(os.path.join(folder, impl))
    found = subprocess.run([os.environ["STIEFELX_BENCH_JUDGE"], folder, impl,
                            "%.17g" % (1 / accuracy)], capture_output=True, text=True, check=False)
    text = (found.stdout + found.stderr).strip()
    return text if text or found.returncode == 0 else "the judge cannot be run"


def run(option, setup, version):
    """The main function; setup(impl)(numpy, a, norm, accuracy) gives a function
    from a start to a point, or None where the peer does not take part."""
    parser = argparse.ArgumentParser(description="a peer of bench/run.sh")
    parser.add_argument(option, dest="impl", required=True, help="the row's impl")
    parser.add_argument("--cases", required=True, help="the rows to measure, one a line")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    impl = arguments.impl
    with open(arguments.cases, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row["case"] in ACCURACIES]
    if not rows:
        return 0
    try:
        import numpy
        text = "%s, numpy %s, %s" % (version(), numpy.__version__, blas_version(numpy))
    except (ImportError, OSError) as error:
        print("skipped %s, because it cannot be imported: %s" % (impl, error), file=sys.stderr)
        return 0

    folder = os.environ.get("STIEFELX_BENCH_DATA", "")
    if not os.path.exists(os.path.join(folder, "norm")):
        print("skipped %s, because bench_minimize has written no data" % impl, file=sys.stderr)
        return 0
    read = lambda name: numpy.fromfile(os.path.join(folder, name))
    # Symmetric, so its columns are its rows; points are row-major, as numpy makes them.
    a, norm = read("matrix").reshape(N, N), float(read("norm")[0])
    starts = [numpy.ascontiguousarray(x.T) for x in read("starts").reshape(STARTS, P, N)]
    status = 0
    for row in rows:
        accuracy = ACCURACIES[row["case"]]
        solve = setup(impl)(numpy, a, norm, accuracy)
        if solve is None:
            continue
        combination = "{case}/{shape}/{scalar}/{threads}".format(**row)
        points, times = [], []
        # The first start once more in front: imports and first calls are not timed.
        for k, start in enumerate(starts[:1] + starts):
            begun = time.perf_counter_ns()
            point = solve(start.copy())
            spent = time.perf_counter_ns() - begun
            if spent >= 1e9 * SECONDS:
                break
            if k > 0:
                points.append(point)
                times.append(spent)
        if len(points) < STARTS:
            print("refused %s in %s, because it does not end within %d s" % (
                impl, combination, SECONDS), file=sys.stderr)
            status = 1
            continue
        fault = judged(numpy, folder, impl, points, accuracy)
        if fault:
            print("refused %s in %s, because %s; its median is %.3g s" % (
                impl, combination, fault, statistics.median(times) / 1e9), file=sys.stderr)
            status = 1
            continue
        row.update(impl=impl, version=text, median_ns=statistics.median(times),
                   min_ns=min(times))
        print(json.dumps(row), flush=True)
    return status
