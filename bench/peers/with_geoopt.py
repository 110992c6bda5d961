# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer geoopt: its Riemannian Adam on its Stiefel manifold with the Euclidean metric."""
import sys

import peer


def riemannian_adam(torch, shape, dtype):
    import geoopt
    x, _ = peer.stiefel_point(torch, shape, dtype)
    if "b" in shape:
        x = x.expand(shape["b"], -1, -1).contiguous()
    g = torch.randn_like(x)
    parameter = geoopt.ManifoldParameter(x.clone(), manifold=geoopt.EuclideanStiefel())
    optimizer = geoopt.optim.RiemannianAdam([parameter], lr=1e-3)

    def call():
        parameter.grad = g.clone()
        optimizer.step()
    return call, lambda: peer.orthonormality_fault(torch, parameter)


def version(torch):
    import geoopt
    return "geoopt %s, torch %s, %s" % (geoopt.__version__, torch.__version__,
                                        peer.blas_version(torch))


if __name__ == "__main__":
    sys.exit(peer.run("geoopt", {"riemannian_adam": riemannian_adam}, version))
