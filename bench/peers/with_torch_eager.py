# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The peer torch-eager: Python loops over torch operations, as published layers are written."""
import sys

import moe_layer
import peer


def orthonormal_columns(columns):
    """Modified Gram-Schmidt of columns[:, 0], columns[:, 1], ... for all tokens at once."""
    done = []
    for place in range(columns.shape[1]):
        v = columns[:, place]
        for q in done:
            v = v - (v * q).sum(-1, keepdim=True) * q
        done.append(v / v.norm(dim=-1, keepdim=True))
    return done


def gram_schmidt(torch, shape, dtype):
    columns = torch.randn(shape["T"], shape["k"], shape["d"], dtype=dtype)
    state = {}

    @torch.no_grad()
    def call():
        state["q"] = torch.stack(orthonormal_columns(columns), 1)
    return call, lambda: peer.orthonormality_fault(torch, state["q"].transpose(1, 2))


def expert_gram_schmidt(torch, shape, dtype):
    outputs = torch.randn(shape["T"], shape["k"], shape["d"], dtype=dtype)
    weights = torch.rand(shape["T"], shape["k"], 1, dtype=dtype)
    state = {}

    @torch.no_grad()
    def call():
        y, done = 0, orthonormal_columns(outputs)
        for place, q in enumerate(done):
            y = y + weights[:, place] * q
        state["q"], state["y"] = done, y
    return call, lambda: peer.orthonormality_fault(torch, torch.stack(state["q"], 2))


def omoe(torch, shape, dtype):
    layer = moe_layer.Layer(torch, shape, dtype)

    def fault():
        first, second = layer.residuals[0].detach(), layer.residuals[1].detach()
        cosines = torch.nn.functional.cosine_similarity(first, second).abs()
        largest = float(cosines.max())
        return "" if largest < 1e-3 else "residuals have a cosine of %.1e" % largest
    return lambda: layer.whole_step(layer.add_orthogonal), fault


SETUPS = {
    "gram_schmidt": gram_schmidt,
    "expert_gram_schmidt": expert_gram_schmidt,
    "omoe_forward_backward": omoe,
}

if __name__ == "__main__":
    sys.exit(peer.run("torch-eager", SETUPS,
                      lambda torch: "torch %s, %s" % (torch.__version__,
                                                      peer.blas_version(torch))))
