# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peers geoopt-rsgd and geoopt-radam on the case leading_eigenspace_1e-3.

  with_geoopt_minimize.py --impl IMPL --cases FILE [--threads N]

Both have steps of fixed length, so they take part at the coarse accuracy alone. The gradient is
written by hand; its length is looked at every ten steps.
"""
import sys

import eigenspace


def setup(impl):
    def make(numpy, a, norm, accuracy):
        if accuracy < 1e-3:
            return None
        import geoopt
        import torch
        torch.set_num_threads(1)
        matrix = torch.from_numpy(a)
        manifold = geoopt.EuclideanStiefel()

        def solve(start):
            x = geoopt.ManifoldParameter(torch.from_numpy(start), manifold=manifold)
            if impl == "geoopt-rsgd":
                optimizer = geoopt.optim.RiemannianSGD([x], lr=0.5, momentum=0.9)
            else:
                optimizer = geoopt.optim.RiemannianAdam([x], lr=3e-2)
            rates = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.998)
            for step in range(5000):
                with torch.no_grad():
                    x.grad = -(matrix @ x)
                    inner = x.T @ x.grad
                    if step % 10 == 0:
                        gradient = x.grad - x @ (0.5 * (inner + inner.T))
                        if float(gradient.norm()) <= accuracy * norm:
                            break
                optimizer.step()
                if impl == "geoopt-radam":
                    rates.step()
            return x.detach().numpy()
        return solve
    return make


def version():
    import geoopt
    import torch
    return "geoopt %s, torch %s" % (geoopt.__version__, torch.__version__)


if __name__ == "__main__":
    sys.exit(eigenspace.run("--impl", setup, version))
