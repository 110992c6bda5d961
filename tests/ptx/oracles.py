# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the cases of the library's kernels must find, from what they are given, in numpy's double.

An oracle is called with the given matrices and, for the size of the rounding errors, with their
absolute values; `ids` stays as it is.
"""

import numpy as np


# Rows and columns of the layouts in cases/entries.cpp.
LAYOUTS = {"0": np.s_[:, :], "1": np.s_[4:40, :], "2": np.s_[1:37, :], "3": np.s_[1:37, :1]}


def part_of(change):
    """An oracle whose result b has change(a, b) in the part that its name's number says."""
    def oracle(v, name):
        part, out = LAYOUTS[name[-1]], v["b"].copy()
        out[part] = change(v["a"][part], out[part])
        return out
    return oracle


def columns_times(_, b):
    factors = np.array([2, -1, 3, 0.5, 4, 5, -6, 7, 8])
    return b * factors[:b.shape[1]]


def step(v, name):
    """Moments and points of the element text with two outputs."""
    part, m, x = LAYOUTS[name[-1]], v["m"].copy(), v["x"].copy()
    m[part] = 0.5 * m[part] + v["g"][part]
    x[part] -= 0.125 * m[part]
    return m if name[0] == "m" else x


def filled(name):
    """Integers after some fills."""
    if name == "b":
        return np.repeat([[10.0], [1.0]], [4, 4], 0) + np.zeros((1, 3))
    a = np.full((7, 3), 4.0)
    a[0], a[1:6, 0] = 5, 3
    a[1:6] += 8
    return a


def experts(v, name="a"):
    """Experts' matrices d x r, their number and width."""
    a = v[name]
    count = 5
    return a.reshape(a.shape[0], count, a.shape[1] // count), count


def slots(ids):
    """(slot, token, expert) of all slots that are not empty."""
    return [(i, t, int(e)) for (i, t), e in np.ndenumerate(ids) if e >= 0]


def routed_multiply(v, _):
    a, _ = experts(v)
    r = a.shape[2]
    h = np.zeros((v["ids"].shape[0] * r, v["ids"].shape[1]))
    for i, t, e in slots(v["ids"]):
        h[i * r:(i + 1) * r, t] = a[:, e].T @ v["x"][:, t]
    return h


def routed_multiply_add(v, _):
    a, _ = experts(v)
    r = a.shape[2]
    y = v["y"].copy()
    for i, t, e in slots(v["ids"]):
        y[:, t] += 0.5 * a[:, e] @ v["h"][i * r:(i + 1) * r, t]
    return y


def routed_outer_add(v, _):
    a, count = experts(v)
    a, r = a.copy(), a.shape[2]
    for i, t, e in slots(v["ids"]):
        a[:, e] += 0.5 * np.outer(v["x"][:, t], v["h"][i * r:(i + 1) * r, t])
    return a.reshape(a.shape[0], count * r)


def routed_adjoint_outer_add(v, _):
    return routed_outer_add({**v, "a": v["b"].T}, _).T


def by_rows(oracle):
    """The oracle for experts along the rows of b."""
    return lambda v, name: oracle({**v, "a": v["b"].T}, name)


def upper_factor(v, _):
    """R of G = R^T R; for the size of rounding errors the root of the largest entry serves."""
    g = v["g"]
    try:
        return np.linalg.cholesky(g).T
    except np.linalg.LinAlgError:
        return np.full(g.shape, np.sqrt(np.abs(g).max()))


def solution(v, _):
    return np.linalg.solve(v["a"], v["b"])


def orthonormal(v, name):
    """Q or R of the two stacked matrices, with a positive diagonal."""
    out = []
    for part in np.split(v["a"], 2, axis=1):
        q, r = np.linalg.qr(part)
        sign = np.sign(np.diag(r))
        out.append(q * sign if name == "q" else sign[:, None] * r)
    return np.hstack(out)


def same(name):
    return lambda v, _: v[name]


# (case without its type, result without its number) -> oracle
ORACLES = {
    ("transpose", "b"): lambda v, _: v["a"].T,
    ("convert float to", "b"): same("a"),
    ("convert double to", "b"): same("a"),
    ("convert float16 to", "b"): same("a"),
    ("convert double to int", "b"): lambda v, _: np.trunc(v["a"]),
    ("convert float to bfloat16", "b"): same("a"),
    ("gram", "g"): lambda v, _: v["y"].T @ v["y"],
    ("axpy", "b"): part_of(lambda a, b: 0.25 * (b + 1.5 * a)),
    ("axpy_by_entry", "b"): part_of(lambda a, b: b + 0.5 * a),
    ("copy_if", "b"): part_of(lambda a, b: a),
    ("copy_if_not", "b"): part_of(lambda a, b: b),
    ("copy_if_room", "b"): lambda v, _: v["a"],
    ("fill", "b"): part_of(lambda a, b: 0.75),
    ("set_identity", "b"): part_of(lambda a, b: np.eye(*b.shape)),
    ("scale_columns", "b"): part_of(columns_times),
    ("transform", "m"): step,
    ("transform", "x"): step,
    ("fill_int", "a"): lambda v, name: filled(name),
    ("fill_int", "b"): lambda v, name: filled(name),
    ("symmetrize", "s"): lambda v, _: (v["s"] + v["s"].T) / 2,
    ("raise", "status"): lambda v, _: np.array([[23.0, 8, 0, 0, 4]]),
    ("cholesky", "r"): upper_factor,
    ("solve", "x"): solution,
    ("gram_schmidt", "q"): orthonormal,
    ("gram_schmidt", "r"): orthonormal,
    ("singular_values", "w"): lambda v, _: np.linalg.svd(v["a"])[1][None],
    ("inner", "s"): lambda v, _: np.array([[(v["a"] * v["b"]).sum()]]),
    ("inner", "n"): lambda v, _: np.array([[np.linalg.norm(v["a"])]]),
    ("inner", "mixed"): lambda v, _: np.array([[(v["a"][1:] * v["b"][:-1]).sum()]]),
    ("inner", "part"): lambda v, _: np.array([[np.linalg.norm(v["a"][1:])]]),
    ("column_inner", "w"): lambda v, _: (v["a"] * v["b"]).sum(0, keepdims=True),
    ("column_inner", "t"): lambda v, _: v["a"].sum(1, keepdims=True),
    ("routed_multiply", "h"): routed_multiply,
    ("routed_multiply_add", "y"): routed_multiply_add,
    ("routed_multiply by rows", "h"): by_rows(routed_multiply),
    ("routed_multiply_add by rows", "y"): by_rows(routed_multiply_add),
    ("routed_outer_add", "a"): routed_outer_add,
    ("routed_outer_add", "b"): routed_adjoint_outer_add,
}
