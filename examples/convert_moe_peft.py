#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes a PEFT folder that stiefelx::peft_folder reads from a pickled adapter.

    convert_moe_peft.py FOLDER OUT

FOLDER holds adapter_config.json and adapter_model.bin, as MoE-PEFT and MixLoRA (peft_type MIXLORA,
LORAMOE or MOLA) or PEFT itself (LORA) write them. The pickle is read with weights_only, so it runs no
code. OUT, which must not exist or be empty, gets

  adapter_model.safetensors  experts of a projection fused: lora_A [E r, d_in], row e r + q, and
                             lora_B [d_out, E r], column q E + e; the metadata say
                             flat_layout:MODULE = rank_major. Routers keep their names, [E, d_in]
  adapter_config.json        peft_type LORA with ranks and alphas of the experts as patterns
  mixture_config.json        what a PEFT configuration has no place for: routing and its numbers

Needs the Python packages torch and safetensors. Exits 1 and says what is wrong with the input.
"""
import json
import os
import pathlib
import pickle
import re
import sys
import tempfile

TYPES = {"MIXLORA": "mixlora", "LORAMOE": "loramoe", "MOLA": "mola"}
# Keys of the configuration that a PEFT configuration has too.
PLAIN = ("base_model_name_or_path", "bias", "lora_alpha", "lora_dropout", "r", "target_modules",
         "task_type", "use_rslora")
FACTOR = re.compile(r"(.+)\.experts\.(0|[1-9][0-9]*)\.lora_([AB])\.weight")


class Wrong(Exception):
    """An input that is not converted, with the reason."""


def expect(holds, found, expected):
    if not holds:
        raise Wrong(f"{found}, expected {expected}")


def read_config(folder):
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Wrong(f"adapter_config.json: {error}") from error
    expect(isinstance(config, dict), "adapter_config.json without an object", "one")
    kind = config.get("peft_type")
    expect(kind == "LORA" or kind in TYPES, f"peft_type {kind!r}", "LORA, MIXLORA, LORAMOE or MOLA")
    return config


def read_tensors(folder, torch):
    path = folder / "adapter_model.bin"
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Wrong(f"adapter_model.bin: {str(error).splitlines()[0]}") from error
    named = isinstance(tensors, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in tensors.items())
    expect(named, "adapter_model.bin with other things than tensors", "names and tensors")
    return tensors


def sort_experts(tensors, prefix):
    """Factors of experts by projection, expert and letter; and the other tensors by their new name."""
    experts, others = {}, {}
    for name, value in tensors.items():
        expect(name.startswith(prefix + "."), f"tensor {name!r}", f"names that begin with {prefix}.")
        short = name[len(prefix) + 1:]
        found = FACTOR.fullmatch(short)
        if found:
            projection, number, letter = found.groups()
            experts.setdefault(projection, {}).setdefault(int(number), {})[letter] = value
        else:
            others["base_model.model." + short] = value
    return experts, others


def fuse(projection, found, count, rank, torch):
    """lora_A and lora_B of all experts of a projection, in rank-major order."""
    expect(sorted(found) == list(range(count)), f"{projection} with the experts {sorted(found)}",
           f"0 to {count - 1}")
    for e, pair in found.items():
        expect(set(pair) == {"A", "B"}, f"{projection}, expert {e}, with lora_{'/'.join(sorted(pair))}",
               "lora_A and lora_B")
    downs = [found[e]["A"] for e in range(count)]
    ups = [found[e]["B"] for e in range(count)]
    for a, b in zip(downs, ups):
        shapes = f"{projection} with factors {list(a.shape)} and {list(b.shape)}"
        expect(a.ndim == 2 and b.ndim == 2 and a.shape[0] == rank and b.shape[1] == rank, shapes,
               f"[{rank}, d_in] and [d_out, {rank}]")
        expect(a.shape == downs[0].shape and b.shape == ups[0].shape and a.dtype == downs[0].dtype
               and b.dtype == ups[0].dtype, shapes, "those of the first expert")
    # stack: [d_out, r, E], so that column q E + e belongs to rank q of expert e.
    return torch.cat(downs), torch.stack(ups, dim=2).reshape(ups[0].shape[0], count * rank)


def convert(config, tensors, torch):
    """The tensors, metadata, and two configurations of the new folder."""
    kind = config["peft_type"]
    expect(not config.get("use_dora") and not config.get("expert_lora", {}).get("use_dora"),
           "use_dora true", "false: the magnitudes are not in the file")
    if kind == "LORA":
        return dict(tensors), {}, config, None
    count = config.get("num_experts")
    expect(type(count) is int and count > 0, f"num_experts {count!r}", "a number of at least 1")
    expert = {**config, **config.get("expert_lora", {})}
    for name in ("r", "lora_alpha"):
        for values in (config, expert):
            expect(type(values.get(name)) in (int, float) and values[name] > 0,
                   f"{name} {values.get(name)!r}", "a number above 0")
    expect(bool(config.get("use_rslora")) == bool(expert.get("use_rslora")),
           "use_rslora of the experts alone", "the same for all: PEFT has one")
    experts, others = sort_experts(tensors, TYPES[kind])
    expect(experts, "no expert", "some")
    result, metadata = dict(others), {}
    plain = {name: config[name] for name in PLAIN if name in config}
    plain.update(peft_type="LORA", target_parameters=[], rank_pattern={}, alpha_pattern={})
    for projection, found in sorted(experts.items()):
        module = projection + ".experts"
        down, up = fuse(projection, found, count, expert["r"], torch)
        result[f"base_model.model.{module}.lora_A.weight"] = down
        result[f"base_model.model.{module}.lora_B.weight"] = up
        metadata["flat_layout:" + module] = "rank_major"
        plain["target_parameters"].append(module + ".weight")
        plain["rank_pattern"]["^" + module] = expert["r"]
        plain["alpha_pattern"]["^" + module] = expert["lora_alpha"]
    mixture = {name: value for name, value in config.items() if name not in PLAIN}
    return result, metadata, plain, mixture


def write(out, tensors, metadata, configs):
    """All files or none: they are written beside OUT and take its name together."""
    from safetensors.torch import save_file  # pylint: disable=import-outside-toplevel

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=out.name + ".") as work:
        made = pathlib.Path(work) / "folder"
        made.mkdir()
        save_file({name: value.contiguous().clone() for name, value in tensors.items()},
                  made / "adapter_model.safetensors", metadata={"format": "pt", **metadata})
        for name, value in configs.items():
            (made / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        try:
            os.rename(made, out)
        except OSError as error:
            raise Wrong(f"{out}: {error.strerror}") from error


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit("usage: convert_moe_peft.py FOLDER OUT")
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        sys.exit("convert_moe_peft.py: the Python package torch is not installed")
    try:
        config = read_config(folder)
        tensors, metadata, plain, mixture = convert(config, read_tensors(folder, torch), torch)
        configs = {"adapter_config.json": plain}
        if mixture is not None:
            configs["mixture_config.json"] = mixture
        write(out, tensors, metadata, configs)
    except Wrong as reason:
        sys.exit(f"convert_moe_peft.py: {folder}: {reason}")
    print(f"{out}: {len(tensors)} tensors")


if __name__ == "__main__":
    main()
