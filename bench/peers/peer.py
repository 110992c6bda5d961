# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the Python peers share: the listed cases, the timing and the rows.

A peer is a script with a table from case to a function that sets the case up,

  setup(torch, shape, dtype) -> (call, fault)

`shape` is a dictionary of the numbers in the row's shape. `call` is timed. `fault` looks at the
result and returns what is wrong with it, or an empty text.
"""
import argparse
import json
import re
import statistics
import sys
import time

REPETITIONS = 11
SECONDS_PER_REPETITION = 0.05


def measure(call):
    """Median and least nanoseconds of a call over the repetitions."""
    call()
    count = 1
    while True:
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        spent = time.perf_counter_ns() - start
        if spent >= 1e9 * SECONDS_PER_REPETITION:
            break
        count = max(count + 1, int(1.2e9 * SECONDS_PER_REPETITION * count / max(spent, 1)))
        count = min(count, 100 * 2**20)
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter_ns()
        for _ in range(count):
            call()
        times.append((time.perf_counter_ns() - start) / count)
    return statistics.median(times), min(times)


def blas_version(torch):
    """The BLAS behind torch, with the kernel that OpenBLAS chose."""
    found = re.search(r"Math Kernel Library Version ([\d.]+)", torch.__config__.show())
    if torch.backends.mkl.is_available() and found:
        return "MKL " + found.group(1)
    import threadpoolctl
    for library in threadpoolctl.threadpool_info():
        # numpy carries an OpenBLAS of its own, which torch does not use.
        if library["internal_api"] == "openblas" and "numpy" not in library["filepath"]:
            return "OpenBLAS %s (%s)" % (library["version"], library["architecture"])
    return "BLAS unknown"


def product_fault(torch, dtype):
    """Looks whether a product is right, by a sum that no BLAS computes."""
    a, b = torch.randn(331, 517, dtype=dtype), torch.randn(517, 259, dtype=dtype)
    c = (a @ b).to(torch.float64)
    wide_a, wide_b = a.to(torch.float64), b.to(torch.float64)
    expected = torch.stack([(wide_a * wide_b[:, j]).sum(1) for j in range(b.shape[1])], 1)
    error = float((c - expected).norm() / expected.norm())
    if error < 1e-5:
        return ""
    return "%s multiplies two matrices of %s with a relative error of %.1e" % (
        blas_version(torch), dtype, error)


def orthonormality_fault(torch, q):
    """Looks whether the columns are orthonormal to rounding, ||Q^T Q - I|| <= 30 n eps."""
    wide = q.detach().to(torch.float64)
    identity = torch.eye(q.shape[-1], dtype=torch.float64)
    error = float((wide.transpose(-1, -2) @ wide - identity).flatten(-2).norm(dim=-1).max())
    limit = 30 * q.shape[-2] * torch.finfo(q.dtype).eps
    if error <= limit:
        return ""
    return "its columns are orthonormal to %.1e only, expected %.1e" % (error, limit)


def stiefel_point(torch, shape, dtype):
    """A point and a tangent vector there, of spectral norm 1."""
    n, p = shape["n"], shape["p"]
    generator = torch.Generator().manual_seed(1)
    x = torch.linalg.qr(torch.randn(n, p, dtype=torch.float64, generator=generator))[0]
    v = torch.randn(n, p, dtype=torch.float64, generator=generator)
    inner = x.T @ v
    v -= x @ (0.5 * (inner + inner.T))
    v /= torch.linalg.matrix_norm(v, 2)
    return x.to(dtype), v.to(dtype)


def run(name, setups, version):
    """The main function of a peer; version(torch) names the library."""
    parser = argparse.ArgumentParser(description="the peer %s of bench/run.sh" % name)
    parser.add_argument("--cases", required=True, help="the rows to measure, one a line")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with open(arguments.cases, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row["case"] in setups]
    if not rows:
        return 0

    try:
        import torch
        text = version(torch)
    except (ImportError, OSError) as error:
        print("skipped %s, because it cannot be imported: %s" % (name, error), file=sys.stderr)
        return 0
    torch.set_num_threads(arguments.threads)
    for dtype in (torch.float32, torch.float64):
        fault = product_fault(torch, dtype)
        if fault:
            print("refused %s, because %s" % (name, fault), file=sys.stderr)
            return 1

    status = 0
    for row in rows:
        combination = "{case}/{shape}/{scalar}/{threads}".format(**row)
        shape = {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", row["shape"])}
        dtype = torch.float32 if row["scalar"] == "float" else torch.float64
        torch.manual_seed(0)
        call, fault_of = setups[row["case"]](torch, shape, dtype)
        call()
        fault = fault_of()
        if fault:
            print("refused %s in %s, because %s" % (name, combination, fault), file=sys.stderr)
            status = 1
            continue
        median, least = measure(call)
        row.update(impl=name, version=text, median_ns=median, min_ns=least)
        print(json.dumps(row), flush=True)
    return status
