# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peers pymanopt-cg and pymanopt-tr: its conjugate gradients and its trust region.

  with_pymanopt.py --impl IMPL --cases FILE [--threads N]

IMPL is pymanopt-cg, pymanopt-tr, or one of them with -grassmann: the same cost on its Grassmann
manifold, which leaves out the rotations that do not change it. Cost, gradient and Hessian are
written by hand; the product with the matrix is found once a point.
"""
import sys

import eigenspace


def optimizer(impl, bound):
    from pymanopt.optimizers import ConjugateGradient, TrustRegions
    method = ConjugateGradient if "-cg" in impl else TrustRegions
    return method(min_gradient_norm=bound, max_iterations=10000, max_time=eigenspace.SECONDS,
                  min_step_size=1e-16, verbosity=0, log_verbosity=0)


def setup(impl):
    def make(numpy, a, norm, accuracy):
        import pymanopt
        n, p = eigenspace.N, eigenspace.P
        kind = pymanopt.manifolds.Grassmann if "grassmann" in impl else pymanopt.manifolds.Stiefel
        manifold = kind(n, p)
        known = {"x": None, "ax": None}

        def product(x):
            if known["x"] is not x:
                known["x"], known["ax"] = x, a @ x
            return known["ax"]

        @pymanopt.function.numpy(manifold)
        def cost(x):
            return -0.5 * numpy.vdot(x, product(x))

        @pymanopt.function.numpy(manifold)
        def gradient(x):
            return -product(x)

        @pymanopt.function.numpy(manifold)
        def hessian(x, v):
            return -(a @ v)

        problem = pymanopt.Problem(manifold, cost, euclidean_gradient=gradient,
                                   euclidean_hessian=hessian)
        solver = optimizer(impl, accuracy * norm)
        return lambda start: solver.run(problem, initial_point=start).point
    return make


def version():
    import pymanopt
    return "pymanopt " + pymanopt.__version__


if __name__ == "__main__":
    sys.exit(eigenspace.run("--impl", setup, version))
