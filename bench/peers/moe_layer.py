# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A layer with a frozen product and a mixture of LoRA experts, as torch code writes it.

Rows are tokens. The router is softmax, top k, renormalized.
"""


class Layer:
    """Weights, tokens and a gradient of the output; step() is forward and backward."""

    def __init__(self, torch, shape, dtype):
        tokens, width, experts = shape["T"], shape["d"], shape["E"]
        rank, self.chosen = shape["r"], shape["k"]
        self.torch, self.scaling = torch, 2.0

        def normal(*sizes, size=1.0, learned=True):
            return (size * torch.randn(*sizes, dtype=dtype)).requires_grad_(learned)

        self.x = normal(tokens, width)
        self.dy = normal(tokens, width, learned=False)
        self.frozen = normal(width, width, size=width**-0.5, learned=False)
        self.down = normal(experts, rank, width, size=width**-0.5)
        self.up = normal(experts, width, rank, size=rank**-0.5)
        self.router = normal(width, experts, size=width**-0.5)

    def route(self):
        """The chosen experts of each token and their weights, T x k."""
        gates = (self.x @ self.router).softmax(-1)
        weights, chosen = gates.topk(self.chosen, -1)
        return chosen, weights / weights.sum(-1, keepdim=True)

    def rank_gated(self):
        """All experts at once, gated in rank space: two products, no gather."""
        chosen, weights = self.route()
        experts, rank, width = self.down.shape
        gates = self.x.new_zeros(len(self.x), experts).scatter(1, chosen, weights)
        h = (self.x @ self.down.reshape(experts * rank, width).T).view(-1, experts, rank)
        h = h * (self.scaling * gates).unsqueeze(-1)
        up = self.up.permute(0, 2, 1).reshape(experts * rank, -1)
        return self.x @ self.frozen.T + h.reshape(-1, experts * rank) @ up

    def expert_loop(self):
        """A Python loop over the experts, each on the tokens that chose it."""
        chosen, weights = self.route()
        y = self.x @ self.frozen.T
        for expert in range(len(self.down)):
            token, place = self.torch.where(chosen == expert)
            out = (self.x[token] @ self.down[expert].T) @ self.up[expert].T
            y = y.index_add(0, token, self.scaling * weights[token, place, None] * out)
        return y

    def orthogonal_loop(self):
        """The same loop; the outputs of a token are then orthogonalized, one after the other."""
        chosen, weights = self.route()
        outputs = self.x.new_zeros(len(self.x), self.chosen, self.frozen.shape[0])
        for expert in range(len(self.down)):
            token, place = self.torch.where(chosen == expert)
            out = (self.x[token] @ self.down[expert].T) @ self.up[expert].T
            outputs = outputs.index_put((token, place), self.scaling * out)
        y, residuals = self.x @ self.frozen.T, []
        for place in range(self.chosen):
            v = outputs[:, place]
            for u in residuals:
                v = v - (v * u).sum(-1, keepdim=True) / (u * u).sum(-1, keepdim=True) * u
            residuals.append(v)
            y = y + weights[:, place, None] * v
        self.residuals = residuals
        return y

    def step(self, forward):
        for learned in (self.x, self.down, self.up, self.router):
            learned.grad = None
        forward().backward(self.dy)
