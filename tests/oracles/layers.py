# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Layers with low-rank experts as their papers define them, in torch, with autograd.

Each topic is one layer: its parameters, an input and a target, the output and the loss, the gradient of
everything, and the parameters after ten steps of gradient descent. Rows are tokens here; what is put
into a file is transposed to columns. Sums over experts are loops, outputs are formed in full, and
Gram-Schmidt is done on them.
"""

import numpy
import torch

TOKENS, WIDTH, OUT, EXPERTS, RANK = 6, 5, 4, 3, 2
SCALING, RATE, STEPS = 1.5, 0.05, 10
torch.set_default_dtype(torch.float64)


def softmax_top(scores, k):
    """Probabilities, the k most probable experts of each token, and their probabilities."""
    p = scores.softmax(-1)
    weights, chosen = p.topk(k, -1)
    return p, chosen, weights


def balance(p, chosen, experts, nulls=0):
    """N times the sum of shares of choices times mean probabilities; null experts share alike."""
    shares = torch.stack([(chosen == e).double().mean() for e in range(experts + nulls)])
    if nulls > 0:
        shares[experts:] = shares[experts:].mean()
    return (experts + nulls) * (shares * p.mean(0)).sum()


def experts_outputs(v, x):
    """T x E x d: every expert's output for every token."""
    return torch.stack([(x @ a.T) @ b.T for a, b in zip(v["down"], v["up"])], 1)


def orthogonalized(outputs):
    """Gram-Schmidt without normalization over a token's outputs, in their order."""
    done = []
    for e in outputs.unbind(1):
        rest = e
        for v in done:
            rest = rest - (e * v).sum(-1, keepdim=True) / (v * v).sum(-1, keepdim=True) * v
        done.append(rest)
    return torch.stack(done, 1)


def pick(outputs, chosen):
    return outputs.gather(1, chosen[:, :, None].expand(-1, -1, outputs.shape[2]))


def mixed(v, x, outputs, weights):
    return x @ v["frozen"].T + SCALING * (weights[:, :, None] * outputs).sum(1)


def lora(v, x):
    return x @ v["frozen"].T + SCALING * (x @ v["down"][0].T) @ v["up"][0].T, 0


def omoe_soft(v, x):
    weights = (x @ v["router"]).softmax(-1)
    return mixed(v, x, orthogonalized(experts_outputs(v, x)), weights), 0


def omoe_top(v, x):
    _, chosen, weights = softmax_top(x @ v["router"], 2)
    weights = weights / weights.sum(-1, keepdim=True)
    outputs = orthogonalized(pick(experts_outputs(v, x), chosen))
    return mixed(v, x, outputs, weights), 0


def mola(v, x):
    p, chosen, weights = softmax_top(x @ v["router"], 2)
    weights = weights / weights.sum(-1, keepdim=True)
    loss = 0.1 * balance(p, chosen, EXPERTS)
    return mixed(v, x, pick(experts_outputs(v, x), chosen), weights), loss


# Two samples of three tokens; the first is of the type of experts 0 and 1, the second of expert 2.
SAMPLES = (slice(0, 3), slice(3, 6))
MATCHES = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def loramoe(v, x):
    p = (x @ v["router"]).softmax(-1)
    load = torch.stack([p[s].sum(0) for s in SAMPLES])
    z = load * (0.9 + 0.2 * MATCHES)
    loss = 0.1 * z.var() / (z.mean() ** 2 + 1e-10)
    return mixed(v, x, experts_outputs(v, x), p), loss


def hydralora(v, x):
    weights = (x @ v["router"]).softmax(-1)
    h = x @ v["down"][0].T
    return mixed(v, x, torch.stack([h @ b.T for b in v["up"]], 1), weights), 0


def adamoe(v, x):
    """Three true experts and two null ones, three choices a token."""
    p, chosen, weights = softmax_top(x @ v["router"], 3)
    is_true = (chosen < EXPERTS).double()
    total = (weights * is_true).sum(-1, keepdim=True)
    weights = weights * is_true / torch.where(total > 0, total, torch.ones_like(total))
    outputs = experts_outputs(v, x)
    outputs = torch.cat([outputs, torch.zeros(TOKENS, 2, OUT)], 1)
    loss = 0.1 * balance(p, chosen, EXPERTS, 2)
    return mixed(v, x, pick(outputs, chosen), weights), loss


# The tokens of two tasks.
TASKS = torch.tensor([0, 1, 1, 0, 1, 0])


def moelora(v, x):
    weights = (v["tasks"] @ v["router"]).softmax(-1)[TASKS]
    return mixed(v, x, experts_outputs(v, x), weights), 0


def stella(v, x):
    return x @ v["frozen"].T + SCALING * (x @ v["v"]) @ v["middle"].T @ v["u"].T, 0


def mixlora(v, x):
    """Experts are the frozen feed-forward block with adapters on its three products."""
    p, chosen, weights = softmax_top(x @ v["router"], 2)
    weights = weights / weights.sum(-1, keepdim=True)

    def adapted(name, e, z):
        a, b = v[f"{name}.down"][e], v[f"{name}.up"][e]
        return z @ v[f"{name}.frozen"].T + SCALING * (z @ a.T) @ b.T

    outputs = []
    for e in range(EXPERTS):
        gate, up = adapted("gate", e, x), adapted("up", e, x)
        outputs.append(adapted("down", e, torch.nn.functional.silu(gate) * up))
    outputs = pick(torch.stack(outputs, 1), chosen)
    return (weights[:, :, None] * outputs).sum(1), 0.1 * balance(p, chosen, EXPERTS)


def parameters(topic, layer):
    """Learned and frozen numbers of a layer, drawn by numpy."""

    def draw(*sizes, size=1.0):
        return torch.tensor(size * topic.random.standard_normal(sizes))

    learned, frozen = {}, {}
    if layer is mixlora:
        for name, inward, outward in (("gate", WIDTH, 3), ("up", WIDTH, 3), ("down", 3, OUT)):
            frozen[f"{name}.frozen"] = draw(outward, inward, size=inward**-0.5)
            learned[f"{name}.down"] = draw(EXPERTS, RANK, inward, size=inward**-0.5)
            learned[f"{name}.up"] = draw(EXPERTS, outward, RANK, size=0.5)
    else:
        frozen["frozen"] = draw(OUT, WIDTH, size=WIDTH**-0.5)
    if layer is stella:
        for name, rows in (("v", WIDTH), ("u", OUT)):
            q, r = numpy.linalg.qr(topic.random.standard_normal((rows, RANK)))
            learned[name] = torch.tensor(q * numpy.sign(numpy.diag(r)))
        learned["middle"] = draw(RANK, RANK)
    elif layer is not mixlora:
        experts = 1 if layer is lora else EXPERTS
        shared = 1 if layer is hydralora else experts
        learned["down"] = draw(shared, RANK, WIDTH, size=WIDTH**-0.5)
        learned["up"] = draw(experts, OUT, RANK, size=0.5)
    if layer is moelora:
        learned["tasks"] = draw(2, 3)
        learned["router"] = draw(3, EXPERTS)
    elif layer not in (lora, stella):
        learned["router"] = draw(WIDTH, EXPERTS + (2 if layer is adamoe else 0))
    return learned, frozen


def put(topic, name, value):
    """Writes a parameter as the library stores it: experts side by side, tokens as columns."""
    a = value.detach().numpy()
    if name.endswith("down"):
        a = a.reshape(-1, a.shape[-1]).T
    elif name.endswith("up"):
        a = a.transpose(0, 2, 1).reshape(-1, a.shape[1])
    elif name.endswith(("x", "y", "target", "tasks")):
        a = a.T
    topic.put(name, numpy.ascontiguousarray(a))


def evaluate(layer, learned, frozen, x, target):
    y, extra = layer({**learned, **frozen}, x)
    return y, ((y - target) ** 2).sum() / (2 * TOKENS) + extra


def stella_step(x, g):
    """Canonical gradient, a step of gradient descent, projection, polar factor."""
    step = -RATE * (g - x @ g.T @ x)
    overlap = x.T @ step
    moved = x + step - x @ (overlap + overlap.T) / 2
    u, _, vh = torch.linalg.svd(moved, full_matrices=False)
    return u @ vh


def make(topic, layer):
    learned, frozen = parameters(topic, layer)
    x = torch.tensor(topic.random.standard_normal((TOKENS, WIDTH)), requires_grad=True)
    target = torch.tensor(topic.random.standard_normal((TOKENS, OUT)))
    for name, value in {**frozen, **learned, "x": x, "target": target}.items():
        put(topic, name, value)
    for step in range(STEPS):
        for value in learned.values():
            value.requires_grad_(True)
            value.grad = None
        y, loss = evaluate(layer, learned, frozen, x, target)
        loss.backward()
        if step == 0:
            put(topic, "y", y)
            topic.put("loss", [[loss.item()]])
            for name, value in {**learned, "x": x}.items():
                put(topic, f"gradient.{name}", value.grad)
        for name, value in learned.items():
            with torch.no_grad():
                moved = (stella_step(value, value.grad) if name in ("u", "v")
                         else value - RATE * value.grad)
            learned[name] = moved.detach()
    for name, value in learned.items():
        put(topic, f"after.{name}", value)
    topic.put("loss_after", [[evaluate(layer, learned, frozen, x, target)[1].item()]])
    return topic


LAYERS = {
    "layer_lora": lora,
    "layer_omoe_soft": omoe_soft,
    "layer_omoe_top": omoe_top,
    "layer_mola": mola,
    "layer_loramoe": loramoe,
    "layer_hydralora": hydralora,
    "layer_adamoe": adamoe,
    "layer_moelora": moelora,
    "layer_stella": stella,
    "layer_mixlora": mixlora,
}


def topics(new_topic):
    """One topic a layer; new_topic(name, seed) makes an empty one."""
    return [make(new_topic(name, 100 + i), layer) for i, (name, layer) in enumerate(LAYERS.items())]
