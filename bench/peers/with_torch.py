# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer torch: the shortest torch code that calls one library routine for the whole case."""
import sys

import peer


def signs(diagonal):
    return diagonal.sign().add(0.5).sign()


def positive_qr(torch, a):
    q, r = torch.linalg.qr(a)
    sign = signs(r.diagonal(dim1=-2, dim2=-1))
    return q * sign.unsqueeze(-2), r * sign.unsqueeze(-1)


def gemm(torch, shape, dtype):
    a = torch.randn(shape["n"], shape["p"], dtype=dtype)
    b, c = torch.randn(shape["p"], shape["p"], dtype=dtype), torch.empty_like(a)
    return lambda: torch.mm(a, b, out=c), lambda: ""


def low_rank_product(torch, shape, dtype):
    a = torch.randn(shape["n"], shape["p"], dtype=dtype)
    b, c = torch.randn_like(a), torch.empty(shape["n"], shape["n"], dtype=dtype)
    return lambda: torch.mm(a, b.T, out=c), lambda: ""


def gram(torch, shape, dtype):
    a = torch.randn(shape["n"], shape["p"], dtype=dtype)
    g = torch.empty(shape["p"], shape["p"], dtype=dtype)
    return lambda: torch.mm(a.T, a, out=g), lambda: ""


def orthonormal(make):
    """A case whose call gives a matrix with orthonormal columns."""
    def setup(torch, shape, dtype):
        state, compute = {}, make(torch, shape, dtype)

        @torch.no_grad()
        def call():
            state["q"] = compute()
        return call, lambda: peer.orthonormality_fault(torch, state["q"])
    return setup


def retract_qr(torch, shape, dtype):
    x, v = peer.stiefel_point(torch, shape, dtype)
    return lambda: positive_qr(torch, x + v)[0]


def batched_retract_qr(torch, shape, dtype):
    # Each matrix column by column, as LAPACK takes it.
    x, v = (a.T.expand(shape["b"], -1, -1).contiguous().transpose(1, 2)
            for a in peer.stiefel_point(torch, shape, dtype))
    return lambda: positive_qr(torch, x + v)[0]


def retract_polar(torch, shape, dtype):
    x, v = peer.stiefel_point(torch, shape, dtype)

    def compute():
        u, _, vh = torch.linalg.svd(x + v, full_matrices=False)
        return u @ vh
    return compute


def retract_cayley(torch, shape, dtype):
    x, v = peer.stiefel_point(torch, shape, dtype)
    identity = torch.eye(2 * shape["p"], dtype=dtype)

    def compute():
        d = v - 0.5 * x @ (x.T @ v)
        left, right = torch.cat([d, x], 1), torch.cat([x, -d], 1)
        inner = right.T @ left
        return x + left @ torch.linalg.solve(identity - 0.5 * inner, right.T @ x)
    return compute


def householder_qr(torch, shape, dtype):
    a = torch.randn(shape["n"], shape["p"], dtype=dtype)
    return lambda: positive_qr(torch, a)[0]


def cholesky_qr(torch, shape, dtype):
    a = torch.randn(shape["n"], shape["p"], dtype=dtype)

    def compute():
        r = torch.linalg.cholesky(a.T @ a, upper=True)
        return torch.linalg.solve_triangular(r, a, upper=True, left=False)
    return compute


def riemannian_adam(torch, shape, dtype):
    x, _ = peer.stiefel_point(torch, shape, dtype)
    if "b" in shape:
        # Each matrix column by column, as LAPACK takes it.
        x = x.T.expand(shape["b"], -1, -1).contiguous().transpose(1, 2)
    g = torch.randn_like(x)
    # One number a matrix.
    v = torch.zeros(*x.shape[:-2], 1, 1, dtype=dtype)
    state = {"x": x, "m": torch.zeros_like(x), "v": v, "t": 0}

    def project(at, z):
        inner = at.mT @ z
        return z - at @ (0.5 * (inner + inner.mT))

    def compute():
        state["t"] += 1
        r = project(state["x"], g)
        state["m"].mul_(0.9).add_(r, alpha=0.1)
        state["v"].mul_(0.999).add_((r * r).sum(dim=(-2, -1), keepdim=True), alpha=0.001)
        root = (state["v"] / (1 - 0.999**state["t"])).sqrt() + 1e-8
        y = positive_qr(torch, state["x"] - 1e-3 / (1 - 0.9**state["t"]) * state["m"] / root)[0]
        state["m"], state["x"] = project(y, state["m"]), y
        return y
    return compute


def gram_schmidt(torch, shape, dtype):
    columns = torch.randn(shape["T"], shape["k"], shape["d"], dtype=dtype)
    return lambda: positive_qr(torch, columns.transpose(1, 2))[0]


def expert_gram_schmidt(torch, shape, dtype):
    outputs = torch.randn(shape["T"], shape["k"], shape["d"], dtype=dtype)
    weights = torch.rand(shape["T"], shape["k"], 1, dtype=dtype)
    state = {}

    def compute():
        q = positive_qr(torch, outputs.transpose(1, 2))[0]
        state["y"] = q @ weights
        return q
    return compute


SETUPS = {
    "gemm": gemm,
    "low_rank_product": low_rank_product,
    "gram": gram,
    "retract_qr": orthonormal(retract_qr),
    "batched_retract_qr": orthonormal(batched_retract_qr),
    "retract_polar": orthonormal(retract_polar),
    "retract_cayley": orthonormal(retract_cayley),
    "householder_qr": orthonormal(householder_qr),
    "cholesky_qr": orthonormal(cholesky_qr),
    "riemannian_adam": orthonormal(riemannian_adam),
    "gram_schmidt": orthonormal(gram_schmidt),
    "expert_gram_schmidt": orthonormal(expert_gram_schmidt),
}

if __name__ == "__main__":
    sys.exit(peer.run("torch", SETUPS,
                      lambda torch: "torch %s, %s" % (torch.__version__,
                                                      peer.blas_version(torch))))
