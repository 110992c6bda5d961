# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A layer with a frozen product and a mixture of LoRA experts, as torch code writes it.

Rows are tokens. The router is softmax, top k, renormalized. Outputs are added to in place, so that
no form pays for copies that it could avoid.
"""


class Layer:
    """Weights, tokens and a gradient of the output, and the forms of the layer."""

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
        self.up = normal(experts, rank, width, size=rank**-0.5)
        self.router = normal(width, experts, size=width**-0.5)
        # What the part without router and frozen product takes as given.
        with torch.no_grad():
            self.ids, self.weights = self.route()
        self.weights.requires_grad_()
        self.output = normal(tokens, width, learned=False)

    def route(self):
        """The chosen experts of each token and their weights, T x k."""
        gates = (self.x @ self.router).softmax(-1)
        weights, ids = gates.topk(self.chosen, -1)
        return ids, weights / weights.sum(-1, keepdim=True)

    def add_dense(self, y, ids, weights):
        """All experts at once, gated in rank space: two products, no gather."""
        experts, rank, width = self.down.shape
        gates = self.x.new_zeros(len(self.x), experts).scatter(1, ids, weights)
        h = (self.x @ self.down.view(experts * rank, width).T).view(-1, experts, rank)
        h = h * (self.scaling * gates).unsqueeze(-1)
        return y.addmm_(h.view(-1, experts * rank), self.up.view(experts * rank, width))

    def add_loop(self, y, ids, weights):
        """A Python loop over the experts, each on the tokens that chose it."""
        for expert in range(len(self.down)):
            token, place = self.torch.where(ids == expert)
            out = (self.x[token] @ self.down[expert].T) @ self.up[expert]
            y.index_add_(0, token, self.scaling * weights[token, place, None] * out)
        return y

    def add_orthogonal(self, y, ids, weights):
        """The same loop; the outputs of a token are then orthogonalized, one after the other."""
        outputs = self.x.new_empty(len(self.x), self.chosen, self.frozen.shape[0])
        for expert in range(len(self.down)):
            token, place = self.torch.where(ids == expert)
            out = (self.x[token] @ self.down[expert].T) @ self.up[expert]
            outputs[token, place] = self.scaling * out
        residuals = []
        for place in range(self.chosen):
            v = outputs[:, place]
            for u in residuals:
                v = v - (v * u).sum(-1, keepdim=True) / (u * u).sum(-1, keepdim=True) * u
            residuals.append(v)
            y = y + weights[:, place, None] * v
        self.residuals = residuals
        return y

    def part(self, add):
        """The adapters alone: what y holds is added to, and so is every gradient."""
        return add(self.output.detach(), self.ids, self.weights)

    def whole(self, add):
        """Router, frozen product and adapters."""
        return add(self.x @ self.frozen.T, *self.route())

    def forward(self, form, add):
        with self.torch.no_grad():
            form(add)

    def part_step(self, add):
        self.part(add).backward(self.dy)

    def whole_step(self, add):
        for learned in (self.x, self.down, self.up, self.router):
            learned.grad = None
        self.whole(add).backward(self.dy)

    def fault(self):
        """Whether the two plain forms of the layer agree."""
        with self.torch.no_grad():
            a, b = self.whole(self.add_dense), self.whole(self.add_loop)
        error = float((a - b).norm() / b.norm())
        return "" if error < 1e-4 else "two forms of the layer differ by %.1e" % error


def setups(form):
    """The plain cases; form(layer) is the way to add the adapters."""
    def case(call):
        def setup(torch, shape, dtype):
            layer = Layer(torch, shape, dtype)
            return lambda: call(layer, form(layer)), layer.fault
        return setup

    return {
        "moe_lora_part_forward": case(lambda layer, add: layer.forward(layer.part, add)),
        "moe_lora_part_forward_backward": case(lambda layer, add: layer.part_step(add)),
        "moe_lora_forward": case(lambda layer, add: layer.forward(layer.whole, add)),
        "moe_lora_forward_backward": case(lambda layer, add: layer.whole_step(add)),
    }
