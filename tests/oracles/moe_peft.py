# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Converts pickled mixtures with examples/convert_moe_peft.py and reads the result.

    moe_peft.py PROGRAM

PROGRAM is moe_peft_read.cpp, built. Exits 1 and names what differs; 77 (skipped) where a package is
missing.
"""
import contextlib
import importlib.util
import io
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped, because the Python package {missing.name} is not installed")
    sys.exit(77)

CONVERTER = pathlib.Path(__file__).parents[2] / "examples" / "convert_moe_peft.py"
COUNT, WIDTH, HIDDEN, RANK = 3, 6, 5, 2
ROUTING = {"num_experts": COUNT, "top_k": 2, "routing_strategy": "mixlora"}
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "bias": "none",
        "target_modules": ["q_proj", "up_proj", "down_proj"]}
EXPERT = {"expert_lora": {"r": RANK, "lora_alpha": 6, "lora_dropout": 0.1}}
CASES = {
    "mixlora": {**LORA, **ROUTING, **EXPERT, "peft_type": "MIXLORA", "act_fn": "silu"},
    "mola": {**LORA, **ROUTING, "peft_type": "MOLA", "r": RANK, "lora_alpha": 5, "use_rslora": True},
}


def expect(holds, what):
    if not holds:
        sys.exit(f"moe_peft.py: {what}")


def run(*words):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def load_converter():
    spec = importlib.util.spec_from_file_location("convert_moe_peft", CONVERTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def convert(source, target):
    """What the program says when it refuses, nothing when it is done; torch is loaded once."""
    words, sys.argv = sys.argv, ["convert_moe_peft.py", str(source), str(target)]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            load_converter().main()
        return ""
    except SystemExit as end:
        return str(end.code)
    finally:
        sys.argv = words


def put(folder, config, tensors):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(tensors, folder / "adapter_model.bin")
    return folder


def scaling(config):
    return config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])


def mixture(kind, config):
    """The tensors of a layer under the trainer's names, and what a reader has to find."""
    torch.manual_seed(3)
    prefix = kind + ".layers.0."
    expert = {**config, **config.get("expert_lora", {})}
    tensors, expected = {}, {}

    def add(module, d_in, d_out, options, name):
        a = torch.randn(options["r"], d_in, dtype=torch.float32)
        b = torch.randn(d_out, options["r"], dtype=torch.float32)
        # A view with other strides, as a trainer may hold it.
        tensors[prefix + module + ".lora_A.weight"] = a.T.contiguous().T
        tensors[prefix + module + ".lora_B.weight"] = b
        expected["layers.0." + name] = scaling(options) * (b.double() @ a.double())

    def add_gate(module, d_in):
        gate = torch.randn(COUNT, d_in)
        tensors[prefix + module + ".weight"] = gate
        expected["base_model.model.layers.0." + module + ".weight"] = gate.double()

    for module, d_in, d_out in (("mlp.up_proj", WIDTH, HIDDEN), ("mlp.down_proj", HIDDEN, WIDTH)):
        for e in range(COUNT):
            add(f"{module}.experts.{e}", d_in, d_out, expert, f"{module}.experts/{e}")
        if kind == "mola":
            add_gate(module + ".moe_gate", d_in)
    if kind == "mixlora":
        add("self_attn.q_proj", WIDTH, WIDTH, config, "self_attn.q_proj/0")
        add_gate("mlp.moe_gate", WIDTH)
    return tensors, expected


def check(program, work, kind, config):
    tensors, expected = mixture(kind, config)
    source, target = put(work / kind, config, tensors), work / (kind + ".converted")
    refused = run(program, source, COUNT, work / "none")
    expect(refused.returncode == 1 and "convert_moe_peft.py" in refused.stderr,
           f"{kind}: the trainer's own folder is read: {refused.stderr}")
    refused = convert(source, target)
    expect(refused == "", f"{kind}: {refused}")
    done = run(program, target, COUNT, work / "found")
    expect(done.returncode == 0, f"{kind}: {done.stderr}")
    found = load_file(work / "found")
    expect(found.keys() == expected.keys(), f"{kind}: {sorted(found)}, expected {sorted(expected)}")
    for name, value in expected.items():
        expect(torch.allclose(found[name], value, rtol=1e-12, atol=1e-12), f"{kind}: {name} differs")
    routing = json.loads((target / "mixture_config.json").read_text(encoding="utf-8"))
    expect(all(routing[name] == value for name, value in ROUTING.items()), f"{kind}: {routing}")
    expect(convert(source, target) != "", f"{kind}: a folder with files is overwritten")


def check_plain(program, work):
    """What PEFT itself pickles keeps its names."""
    a, b = torch.randn(4, WIDTH), torch.randn(HIDDEN, 4)
    stem = "base_model.model.layers.0.q_proj.lora_"
    source = put(work / "plain", {**LORA, "peft_type": "LORA"},
                 {stem + "A.weight": a, stem + "B.weight": b})
    refused = run(program, source, 1, work / "none")
    expect("pickled" in refused.stderr and "convert_moe_peft.py" in refused.stderr,
           f"plain: {refused.stderr}")
    done = run(sys.executable, CONVERTER, source, work / "plain.converted")
    expect(done.returncode == 0, f"plain: {done.stderr}")
    done = run(program, work / "plain.converted", 1, work / "found")
    expect(done.returncode == 0, f"plain: {done.stderr}")
    found = load_file(work / "found")["layers.0.q_proj/0"]
    expect(torch.allclose(found, 2 * (b.double() @ a.double()), rtol=1e-12, atol=1e-12),
           "plain: the update differs")


class Call:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (pathlib.Path.touch, (self.path,))


def check_refusals(work):
    config = CASES["mixlora"]
    tensors, _ = mixture("mixlora", config)
    stem = "mixlora.layers.0.mlp.up_proj.experts.1.lora_"

    def without(name):
        return {key: value for key, value in tensors.items() if key != name}

    defects = {
        "lora_B": (config, without(stem + "A.weight")),
        "0 to 2": (config, {k: v for k, v in tensors.items() if "up_proj.experts.1" not in k}),
        "[2, d_in]": (config, {**tensors, stem + "A.weight": torch.zeros(3, WIDTH)}),
        "num_experts": ({**config, "num_experts": "3"}, tensors),
        "magnitudes": ({**config, "use_dora": True}, tensors),
        "mixlora.": (config, {**tensors, "other": torch.zeros(1)}),
        "LOHA": ({**config, "peft_type": "LOHA"}, tensors),
        "tensors": (config, {**tensors, "mixlora.step": 3}),
    }
    for number, (named, (options, values)) in enumerate(defects.items()):
        source = put(work / f"defect{number}", options, values)
        refused = convert(source, work / "defect.out")
        expect(named in refused, f"{named}: {refused}")
        expect(not (work / "defect.out").exists(), f"{named}: a folder is left")
    source, trace = put(work / "call", config, tensors), work / "trace"
    (source / "adapter_model.bin").write_bytes(pickle.dumps({"mixlora.x": Call(trace)}, 2))
    expect("adapter_model.bin" in convert(source, work / "defect.out"), "a call is converted")
    expect(not trace.exists(), "a pickle runs code")
    return len(defects) + 1


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: moe_peft.py PROGRAM")
    program = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        for kind, config in CASES.items():
            check(program, work, kind, config)
        check_plain(program, work)
        refused = check_refusals(work)
    print(f"torch {torch.__version__}: {len(CASES) + 1} folders converted, {refused} refused")


if __name__ == "__main__":
    main()
