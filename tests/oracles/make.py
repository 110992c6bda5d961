#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Reference values of geometry and layers, by SciPy, PyTorch, pymanopt and geoopt.

    python tests/oracles/make.py [FOLDER | --compare]

writes one text file a topic, by default beside this script; with --compare it writes nothing and
fails if a file beside this script says something else, beyond rounding. The versions that were used
stand in each file. bash bench/peers/install.sh makes an environment with them. A file holds matrices: a line `name rows cols real|complex`, then a line a row, complex
numbers as two numbers each. Where a formula is written out here it is the dense one, with n x n
matrices, that the library avoids.
"""

import pathlib
import sys

import geoopt
import numpy
import pymanopt
import scipy
import scipy.integrate
import scipy.linalg
import torch

import layers

VERSIONS = (
    f"numpy {numpy.__version__}, scipy {scipy.__version__}, torch {torch.__version__}, "
    f"pymanopt {pymanopt.__version__}, geoopt {geoopt.__version__}"
)


class Topic:
    """The matrices of one file, in the order in which they are given."""

    def __init__(self, name, seed):
        self.name = name
        self.random = numpy.random.default_rng(seed)
        self.lines = []

    def put(self, name, matrix):
        matrix = numpy.asarray(matrix)
        matrix = numpy.atleast_2d(matrix) if matrix.ndim < 2 else matrix
        is_complex = numpy.iscomplexobj(matrix)
        rows, cols = matrix.shape
        self.lines.append(f"{name} {rows} {cols} {'complex' if is_complex else 'real'}")
        for row in matrix:
            numbers = [part for entry in row for part in ((entry.real, entry.imag) if is_complex
                                                          else (entry,))]
            self.lines.append(" ".join(repr(float(number)) for number in numbers))
        return matrix

    def normal(self, rows, cols, is_complex=False):
        matrix = self.random.standard_normal((rows, cols))
        return matrix + 1j * self.random.standard_normal((rows, cols)) if is_complex else matrix

    def frame(self, rows, cols, is_complex=False):
        return positive_qr(self.normal(rows, cols, is_complex))[0]

    def write(self, folder):
        text = f"# Made by make.py: {VERSIONS}.\n" + "\n".join(self.lines) + "\n"
        (folder / f"{self.name}.txt").write_text(text)


def adjoint(matrix):
    return matrix.conj().T


def symmetric(matrix):
    return (matrix + adjoint(matrix)) / 2


def positive_qr(matrix):
    q, r = numpy.linalg.qr(matrix)
    phases = numpy.diag(r) / abs(numpy.diag(r))
    return q * phases, numpy.conj(phases)[:, None] * r


def tangent(x, z):
    return z - x @ symmetric(adjoint(x) @ z)


def orthogonalization():
    topic = Topic("orthogonalization", 1)
    for kind, is_complex in (("real", False), ("complex", True)):
        left, right = topic.frame(12, 4, is_complex), topic.frame(4, 4, is_complex)
        a = topic.put(f"{kind}.a", left * [1, 0.1, 0.01, 0.001] @ right)
        q, r = positive_qr(a)
        topic.put(f"{kind}.q", q)
        topic.put(f"{kind}.r", r)
        topic.put(f"{kind}.polar", scipy.linalg.polar(a)[0])
        topic.put(f"{kind}.singular_values", scipy.linalg.svdvals(a))
        m = topic.put(f"{kind}.m", 3 * numpy.eye(4) + topic.normal(4, 4, is_complex))
        c = topic.put(f"{kind}.c", topic.normal(4, 4, is_complex))
        topic.put(f"{kind}.lyapunov", scipy.linalg.solve_continuous_lyapunov(m, c))
        skew = topic.normal(5, 5, is_complex)
        skew = topic.put(f"{kind}.skew", 0.6 * (skew - adjoint(skew)) / 2)
        topic.put(f"{kind}.skew_exponential", scipy.linalg.expm(skew))
    return topic


def torch_gradient(function, inputs, cotangents):
    """Gradients of sum Re<cotangent, output> with respect to the inputs."""
    inputs = [torch.tensor(each, requires_grad=True) for each in inputs]
    loss = 0
    for cotangent, output in zip(cotangents, function(*inputs)):
        loss = loss + torch.sum((torch.tensor(cotangent).conj() * output).real)
    loss.backward()
    return [each.grad.numpy() for each in inputs]


def torch_positive_qr(a):
    q, r = torch.linalg.qr(a)
    diagonal = torch.diagonal(r)
    phases = (diagonal / diagonal.abs()).detach()
    return q * phases, phases.conj()[:, None] * r


def torch_polar(a):
    u, _, v = torch.linalg.svd(a, full_matrices=False)
    return (u @ v,)


def torch_cayley(x, v):
    d = v - x @ (x.mH @ v) / 2
    w = d @ x.mH - x @ d.mH
    identity = torch.eye(len(x), dtype=x.dtype)
    return (torch.linalg.solve(identity - w / 2, (identity + w / 2) @ x),)


def reverse_rules():
    topic = Topic("reverse_rules", 2)
    for kind, is_complex in (("real", False), ("complex", True)):
        for shape, rows, cols in (("tall", 7, 3), ("square", 4, 4), ("wide", 3, 5)):
            short = min(rows, cols)
            a = topic.put(f"{kind}.{shape}.a", topic.normal(rows, cols, is_complex))
            dq = topic.put(f"{kind}.{shape}.dq", topic.normal(rows, short, is_complex))
            dr = numpy.triu(topic.normal(short, cols, is_complex))
            # R's diagonal is real.
            numpy.fill_diagonal(dr, dr.diagonal().real)
            topic.put(f"{kind}.{shape}.dr", dr)
            (da,) = torch_gradient(torch_positive_qr, [a], [dq, dr])
            topic.put(f"{kind}.{shape}.da", da)
        a = topic.put(f"{kind}.polar.a", topic.normal(7, 3, is_complex))
        dq = topic.put(f"{kind}.polar.dq", topic.normal(7, 3, is_complex))
        (da,) = torch_gradient(torch_polar, [a], [dq])
        topic.put(f"{kind}.polar.da", da)
        x = topic.put(f"{kind}.cayley.x", topic.frame(7, 3, is_complex))
        v = topic.put(f"{kind}.cayley.v", tangent(x, 0.5 * topic.normal(7, 3, is_complex)))
        dy = topic.put(f"{kind}.cayley.dy", topic.normal(7, 3, is_complex))
        dx, dv = torch_gradient(torch_cayley, [x, v], [dy])
        topic.put(f"{kind}.cayley.dx", dx)
        topic.put(f"{kind}.cayley.dv", dv)
    return topic


def dense_geodesic(x, v, alpha):
    """Geodesic of the alpha metric after unit time, and its velocity there."""
    a = adjoint(x) @ v
    factor = 1 / (alpha + 1)
    w = v @ adjoint(x) - x @ adjoint(v) + (factor - 2) * x @ a @ adjoint(x)
    rotation, twist = scipy.linalg.expm(w), scipy.linalg.expm(alpha * factor * a)
    y = rotation @ x @ twist
    return y, rotation @ (w @ x + x @ (alpha * factor * a)) @ twist


def christoffel(x, u, v, alpha):
    """The symmetric bilinear term of the geodesic equation x'' + G(x', x') = 0."""
    c = (2 * alpha + 1) / (alpha + 1)

    def quadratic(d):
        normal = d - x @ (adjoint(x) @ d)
        return x @ (adjoint(d) @ d) + c * normal @ (adjoint(d) @ x)

    return (quadratic(u + v) - quadratic(u - v)) / 4


def dense_parallel(x, d, v, alpha):
    """Parallel transport of v along the geodesic of d for unit time, by an integrator."""
    shape = x.shape

    def rate(_, state):
        point, velocity, carried = state.reshape(3, *shape)
        return numpy.concatenate([
            velocity.ravel(),
            -christoffel(point, velocity, velocity, alpha).ravel(),
            -christoffel(point, velocity, carried, alpha).ravel(),
        ])

    start = numpy.concatenate([x.ravel(), d.ravel(), v.ravel()])
    end = scipy.integrate.solve_ivp(rate, (0, 1), start, method="DOP853", rtol=1e-13, atol=1e-14)
    y, _, carried = end.y[:, -1].reshape(3, *shape)
    geodesic = dense_geodesic(x, d, alpha)[0]
    if not numpy.allclose(y, geodesic, rtol=0, atol=1e-10):
        raise SystemExit("the geodesic equation and its closed form disagree")
    return carried


def stiefel():
    topic = Topic("stiefel", 3)
    manifold = pymanopt.manifolds.Stiefel(7, 3)
    by_polar = pymanopt.manifolds.Stiefel(7, 3, retraction="polar")
    x = topic.put("x", topic.frame(7, 3))
    z, h = topic.put("z", topic.normal(7, 3)), topic.put("h", topic.normal(7, 3))
    v = topic.put("v", manifold.projection(x, topic.normal(7, 3)))
    d = topic.put("d", 0.4 * manifold.projection(x, topic.normal(7, 3)))
    topic.put("project", manifold.projection(x, z))
    topic.put("retract.qr", manifold.retraction(x, v))
    topic.put("retract.polar", by_polar.retraction(x, v))
    topic.put("retract.cayley", torch_cayley(torch.tensor(x), torch.tensor(v))[0].numpy())
    normal = topic.put("normal", z - manifold.projection(x, z))
    topic.put("weingarten", manifold.projection(x, manifold.weingarten(x, v, normal)))
    topic.put("hessian", manifold.euclidean_to_riemannian_hessian(x, z, h, v))
    topic.put("exp.pymanopt", manifold.exp(x, d))
    topic.put("exp.geoopt",
              geoopt.EuclideanStiefelExact().expmap(torch.tensor(x), torch.tensor(d)).numpy())
    for kind, is_complex in (("real", False), ("complex", True)):
        point = topic.put(f"{kind}.x", topic.frame(6, 2, is_complex))
        step = topic.put(f"{kind}.d", tangent(point, 0.5 * topic.normal(6, 2, is_complex)))
        for name, alpha in (("euclidean", -0.5), ("canonical", 0.0), ("quarter", 0.25)):
            topic.put(f"{kind}.exp.{name}", dense_geodesic(point, step, alpha)[0])
    for name, alpha in (("euclidean", -0.5), ("canonical", 0.0), ("quarter", 0.25)):
        topic.put(f"parallel.{name}", dense_parallel(x, d, v, alpha))
    return topic


def others():
    topic = Topic("other_manifolds", 4)
    for name, manifold, is_complex in (
        ("grassmann", pymanopt.manifolds.Grassmann(7, 3), False),
        ("complex_grassmann", pymanopt.manifolds.ComplexGrassmann(7, 3), True),
        ("oblique", pymanopt.manifolds.Oblique(7, 3), False),
        ("sphere", pymanopt.manifolds.Sphere(7, 3), False),
    ):
        point = topic.normal(7, 3, is_complex)
        if name == "oblique":
            point = point / numpy.linalg.norm(point, axis=0)
        elif name == "sphere":
            point = point / numpy.linalg.norm(point)
        else:
            point = positive_qr(point)[0]
        x = topic.put(f"{name}.x", point)
        z = topic.put(f"{name}.z", topic.normal(7, 3, is_complex))
        h = topic.put(f"{name}.h", topic.normal(7, 3, is_complex))
        v = manifold.projection(x, topic.normal(7, 3, is_complex))
        v = topic.put(f"{name}.v", 0.7 * v / numpy.linalg.norm(v))
        topic.put(f"{name}.project", manifold.projection(x, z))
        topic.put(f"{name}.hessian", manifold.euclidean_to_riemannian_hessian(x, z, h, v))
        y = topic.put(f"{name}.exp", manifold.exp(x, v))
        topic.put(f"{name}.log", manifold.log(x, y))
        topic.put(f"{name}.distance", manifold.dist(x, y))
        topic.put(f"{name}.retract", manifold.retraction(x, v))
        topic.put(f"{name}.transport", manifold.transport(x, y, v))
    rotations = pymanopt.manifolds.SpecialOrthogonalGroup(4)
    x = topic.frame(4, 4)
    x[:, 0] *= numpy.sign(numpy.linalg.det(x))
    topic.put("rotations.x", x)
    v = topic.normal(4, 4)
    v = 0.3 * (v - v.T)
    topic.put("rotations.v", x @ v)
    y = topic.put("rotations.exp", rotations.exp(x, v))
    topic.put("rotations.distance", rotations.dist(x, y))
    return topic


def numbers(text):
    """The names and shapes of a file, and its numbers."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    names = [line for line in lines if line[-1] in ("real", "complex")]
    values = [float(part) for line in lines if line not in names for part in line]
    return names, numpy.array(values)


def compare(topic, folder):
    names, values = numbers((folder / f"{topic.name}.txt").read_text())
    new_names, new_values = numbers("\n".join(topic.lines))
    if names != new_names:
        raise SystemExit(f"{topic.name}.txt has other matrices than make.py")
    if not numpy.allclose(values, new_values, rtol=1e-9, atol=1e-11):
        raise SystemExit(f"{topic.name}.txt differs by {abs(values - new_values).max()}")


def main():
    beside = pathlib.Path(__file__).parent
    arguments = sys.argv[1:]
    for topic in (orthogonalization(), reverse_rules(), stiefel(), others(),
                  *layers.topics(Topic)):
        if arguments == ["--compare"]:
            compare(topic, beside)
        else:
            topic.write(pathlib.Path(arguments[0]) if arguments else beside)


if __name__ == "__main__":
    main()
