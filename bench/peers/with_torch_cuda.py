# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peers torch-cuda, torch-cuda-loop and torch-cuda-dense: torch on a GPU, for tests/gpu/run.sh.

  with_torch_cuda.py --cases LISTED

LISTED holds the rows of bench/cuda's programs, one JSON object a line. Times are the device's own, as
bench/cuda/suite.hpp takes them: between two events, with memory larger than any L2 written before.
"""
import argparse
import json
import re
import statistics
import sys

import moe_layer

FLUSHED_BYTES = 256 * 2**20
NANOSECONDS_OF_ROW = 0.2e9


def measure(torch, call):
    """Median and least nanoseconds of a call."""
    cache = torch.empty(FLUSHED_BYTES, dtype=torch.uint8)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once():
        cache.zero_()
        first.record()
        call()
        last.record()
        last.synchronize()
        return 1e6 * first.elapsed_time(last)
    guess = [once() for _ in range(3)][-1]
    # What takes a fifth of a second a call would take all the time that there is.
    least = 11 if guess < NANOSECONDS_OF_ROW else 3
    wanted = min(max(NANOSECONDS_OF_ROW / max(guess, 1.0), least), 201)
    times = [once() for _ in range(int(wanted) // 2 * 2 + 1)]
    return statistics.median(times), min(times)


def orthonormality_fault(torch, q):
    """Looks whether the columns are orthonormal to rounding."""
    # A stack is too large to widen at once.
    wide = q[:64].double() if q.dim() == 3 else q.double()
    gram = wide.mT @ wide - torch.eye(q.shape[-1], dtype=torch.float64)
    error = float(gram.abs().max())
    # 100 sqrt(n) eps, as bench/cuda/matrices.hpp.
    limit = 100 * q.shape[-2]**0.5 * torch.finfo(q.dtype).eps
    return "" if error <= limit else "its columns are orthonormal to %.1e, expected %.1e" % (
        error, limit)


def matrix(torch, shape, dtype):
    sizes = [shape["b"]] if "b" in shape else []
    return torch.randn(*sizes, shape["n"], shape["p"], dtype=dtype)


def positive_qr(torch, a):
    q, r = torch.linalg.qr(a)
    sign = r.diagonal(dim1=-2, dim2=-1).sign().add(0.5).sign()
    return q * sign.unsqueeze(-2)


def orthonormal(compute):
    """A case whose call gives a matrix with orthonormal columns."""
    def setup(torch, shape, dtype):
        state, call = {}, compute(torch, shape, dtype)

        @torch.no_grad()
        def run():
            state["q"] = call()
        return run, lambda: orthonormality_fault(torch, state["q"])
    return setup


def factorization(torch, shape, dtype):
    a = matrix(torch, shape, dtype)
    return lambda: positive_qr(torch, a)


def retraction(torch, shape, dtype):
    x = torch.linalg.qr(matrix(torch, shape, dtype))[0]
    v = 0.01 * matrix(torch, shape, dtype)
    inner = x.mT @ v
    v -= x @ (0.5 * (inner + inner.mT))
    return lambda: positive_qr(torch, x + v)


def cholesky_qr(torch, shape, dtype):
    a = matrix(torch, shape, dtype)

    def once(y):
        r = torch.linalg.cholesky(y.mT @ y, upper=True)
        return torch.linalg.solve_triangular(r, y, upper=True, left=False)
    # One pass loses digits with the square of the condition; the second gets them back.
    return lambda: once(once(a))


def newton_schulz(torch, shape, dtype):
    a = matrix(torch, shape, dtype)

    def compute():
        y = a / a.norm()
        for _ in range(30):
            y = torch.addmm(y, y, y.mT @ y, beta=1.5, alpha=-0.5)
        return y
    return compute


def cholesky(torch, shape, dtype):
    a = torch.randn(shape["b"], shape["n"], shape["n"], dtype=dtype)
    g = a @ a.mT + shape["n"] * torch.eye(shape["n"], dtype=dtype)
    state = {}

    def call():
        state["r"] = torch.linalg.cholesky(g, upper=True)

    def fault():
        error = float((state["r"].mT @ state["r"] - g).norm() / g.norm())
        return "" if error < 1e-5 else "r^T r differs by %.1e" % error
    return call, fault


def layer(step, form, look):
    """A case of moe_layer: step(layer, add) is timed, form(layer) adds the adapters, look(layer) tells
    what is wrong after a step."""
    def setup(torch, shape, dtype):
        made = moe_layer.Layer(torch, shape, dtype)
        return lambda: step(made, form(made)), lambda: look(made)
    return setup


def plain_fault(made):
    return made.fault()


def orthogonality_fault(made):
    """Looks whether what the last step added up is orthogonal, token by token."""
    with made.torch.no_grad():
        for place, v in enumerate(made.residuals):
            for u in made.residuals[:place]:
                cosines = (u * v).sum(-1) / (u.norm(dim=-1) * v.norm(dim=-1))
                most = float(cosines.abs().max())
                # Written so that NaN fails.
                if not most < 1e-3:
                    return "outputs of a token have a cosine of %.1e, expected 1.0e-03" % most
    return ""


def forward(made, add):
    made.forward(made.whole, add)


def forward_backward(made, add):
    made.whole_step(add)


SETUPS = {
    "torch-cuda": {
        "retract_qr": orthonormal(retraction),
        "batched_retract_qr": orthonormal(retraction),
        "householder_qr": orthonormal(factorization),
        "batched_householder_qr": orthonormal(factorization),
        "cholesky_qr": orthonormal(cholesky_qr),
        "batched_cholesky_qr": orthonormal(cholesky_qr),
        "newton_schulz": orthonormal(newton_schulz),
        "batched_cholesky": cholesky,
    },
    "torch-cuda-loop": {
        "moe_lora_forward": layer(forward, lambda made: made.add_loop, plain_fault),
        "moe_lora_forward_backward": layer(
            forward_backward, lambda made: made.add_loop, plain_fault),
        "omoe_forward": layer(forward, lambda made: made.add_orthogonal, orthogonality_fault),
        "omoe_forward_backward": layer(
            forward_backward, lambda made: made.add_orthogonal, orthogonality_fault),
    },
    "torch-cuda-dense": {
        "moe_lora_forward": layer(forward, lambda made: made.add_dense, plain_fault),
        "moe_lora_forward_backward": layer(
            forward_backward, lambda made: made.add_dense, plain_fault),
    },
}


def main():
    parser = argparse.ArgumentParser(description="torch on a GPU, a peer of tests/gpu/run.sh")
    parser.add_argument("--cases", required=True, help="the rows to measure, one a line")
    arguments = parser.parse_args()
    try:
        import torch
    except (ImportError, OSError) as error:
        print("skipped torch-cuda, because it cannot be imported: %s" % error, file=sys.stderr)
        return 0
    if not torch.cuda.is_available():
        print("skipped torch-cuda, because torch %s sees no GPU" % torch.__version__,
              file=sys.stderr)
        return 0
    with open(arguments.cases, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    torch.set_default_device("cuda")
    # As the library's products of float, unless its context says otherwise.
    torch.backends.cuda.matmul.allow_tf32 = False
    version = "torch %s, CUDA %s" % (torch.__version__, torch.version.cuda)

    status = 0
    for name, setups in SETUPS.items():
        measured = set()
        for row in rows:
            names = (row["case"], row["shape"], row["scalar"])
            # A case has several rows where the library does it in several ways.
            if row["case"] not in setups or names in measured:
                continue
            measured.add(names)
            shape = {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", row["shape"])}
            dtype = torch.float32 if row["scalar"] == "float" else torch.float64
            torch.manual_seed(0)
            try:
                call, fault_of = setups[row["case"]](torch, shape, dtype)
                call()
                fault = fault_of()
                if not fault:
                    median, least = measure(torch, call)
            except (RuntimeError, ValueError) as error:
                said = [line for line in str(error).splitlines() if line.strip()]
                fault = said[0] if said else type(error).__name__
            # What a refused row holds is given back, too: the next one may need it.
            call = fault_of = None
            torch.cuda.empty_cache()
            if fault:
                print("refused %s in %s, because %s" % (name, "/".join(names), fault),
                      file=sys.stderr)
                status = 1
                continue
            found = dict(row, impl=name, version=version, median_ns=median, min_ns=least)
            print(json.dumps(found), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
