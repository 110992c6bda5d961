# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Exchanges adapter folders with the Python package peft.

    peft_folders.py PROGRAM

PROGRAM is peft_exchange.cpp, built: it reads a folder that peft writes, and peft loads the one that
it writes. Exits 1 and names what differs; 77 (skipped) where a package is missing.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import peft
    import torch
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped, because the Python package {missing.name} is not installed")
    sys.exit(77)


class Experts(torch.nn.Module):
    """Three experts' weights as one parameter."""

    def __init__(self):
        super().__init__()
        self.up_proj = torch.nn.Parameter(torch.randn(3, 5, 4, dtype=torch.float64))

    def forward(self, x):
        return torch.stack([x @ w.T for w in self.up_proj]).sum(0)


class TwoParameters(torch.nn.Module):
    """Three experts of two weights each."""

    def __init__(self):
        super().__init__()
        self.up_proj = torch.nn.Parameter(torch.randn(3, 5, 4, dtype=torch.float64))
        self.down_proj = torch.nn.Parameter(torch.randn(3, 3, 5, dtype=torch.float64))

    def forward(self, x):
        return torch.stack([x @ u.T @ d.T for u, d in zip(self.up_proj, self.down_proj)]).sum(0)


class Modules(torch.nn.ModuleList):
    """Three experts that are modules."""

    def __init__(self):
        super().__init__(torch.nn.Linear(4, 5).double() for _ in range(3))

    def forward(self, x):
        return sum(expert(x) for expert in self)


class Model(torch.nn.Module):
    def __init__(self, experts=Experts):
        super().__init__()
        self.q = torch.nn.Linear(4, 6).double()
        self.block = torch.nn.ModuleDict({"up": torch.nn.Linear(6, 4).double()})
        self.experts = experts()

    def forward(self, x):
        return self.experts(self.block["up"](self.q(x)))


PLAIN = {"target_modules": ["q", "block.up"]}
CASES = {
    "plain": PLAIN,
    "patterns": {**PLAIN, "rank_pattern": {"up": 4}, "alpha_pattern": {"^q": 5.5}},
    "rank_stabilized": {**PLAIN, "use_rslora": True},
    "magnitudes": {**PLAIN, "use_dora": True},
    "fused": {"target_modules": ["q"], "target_parameters": ["experts.up_proj"]},
    # In the order in which the module has them, which is not that of the alphabet.
    "two": {"target_modules": ["q"],
            "target_parameters": ["experts.up_proj", "experts.down_proj"]},
    "modules": {"target_modules": ["q", "experts.0", "experts.1", "experts.2"]},
}
EXPERTS = {"two": TwoParameters, "modules": Modules}


def expect(holds, what):
    if not holds:
        sys.exit(f"peft_folders.py: {what}")


def updates(model):
    """s B A of every adapted module, of every expert of a fused one."""
    found = {}
    for name, module in model.base_model.model.named_modules():
        if not hasattr(module, "get_delta_weight"):
            continue
        delta = module.get_delta_weight("default").detach()
        for e, part in enumerate(delta if delta.ndim == 3 else delta[None]):
            found[f"{name}/{e}"] = part
    return found


def magnitudes(model):
    return {name: value.detach() for name, value in model.named_parameters() if "magnitude" in name}


def exchange(program, folder, name, options):
    torch.manual_seed(7)
    experts = EXPERTS.get(name, Experts)
    base = Model(experts)
    state = {key: value.clone() for key, value in base.state_dict().items()}
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, lora_alpha=6, **options))
    for key, value in adapted.named_parameters():
        if "lora_" in key:
            value.data = torch.randn_like(value, dtype=torch.float64)
    source, target = folder / f"{name}.in", folder / f"{name}.out"
    adapted.save_pretrained(source)
    target.mkdir()
    done = subprocess.run([program, source, target], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{name}: {done.stderr.strip()}")

    expected = updates(adapted)
    found = load_file(target / "deltas.safetensors")
    expect(found.keys() == expected.keys(), f"{name}: {sorted(found)}, expected {sorted(expected)}")
    for key, delta in expected.items():
        expect(torch.allclose(found[key], delta, rtol=1e-12, atol=1e-12), f"{name}: {key} differs")

    fresh = Model(experts)
    fresh.load_state_dict(state)
    loaded = peft.PeftModel.from_pretrained(fresh, target, autocast_adapter_dtype=False)
    again = updates(loaded)
    expect(again.keys() == expected.keys(), f"{name}: peft finds {sorted(again)}")
    for key, delta in expected.items():
        expect(torch.allclose(again[key].double(), delta, rtol=1e-12, atol=1e-12),
               f"{name}: {key} differs after peft loaded it")
    expect(all(torch.equal(value, magnitudes(loaded)[key])
               for key, value in magnitudes(adapted).items()), f"{name}: magnitudes differ")
    x = torch.randn(3, 4, dtype=torch.float64)
    expect(torch.allclose(adapted(x), loaded(x), rtol=1e-10, atol=1e-10), f"{name}: outputs differ")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: peft_folders.py PROGRAM")
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        for case, options in CASES.items():
            exchange(program, pathlib.Path(name), case, options)
    print(f"peft {peft.__version__}: {len(CASES)} folders in both directions")


if __name__ == "__main__":
    main()
