# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""PTX of a few lines around what a test is about.

It passes through the parser, the registers and the memory as a compiled kernel does.
"""

import numpy as np
from interpreter import GlobalMemory, Launch, parse, run
from interpreter.parser import SIZES

HEADER = ".version 9.0\n.target sm_90\n.address_size 64\n"


def dtype(kind):
    if kind in ("f16", "f32", "f64"):
        return np.dtype(f"f{SIZES[kind]}")
    return np.dtype(f"{'i' if kind in ('s16', 's32', 's64', 's8') else 'u'}{SIZES[kind]}")


def storage(kind):
    return "b16" if SIZES[kind] == 1 else f"b{8 * SIZES[kind]}"


def execute(line, result, *sources):
    """Results of `line`, with operands {d} {a} {b} {c} {e}; a source is (type, array). For 'pred'
    results {d} is a predicate, and the answer 0 or 1."""
    n = len(sources[0][1])
    kind = "u32" if result == "pred" else result
    names = "abce"
    text = HEADER + ".visible .entry k(.param .u64 out" + "".join(
        f", .param .u64 in{k}" for k in range(len(sources))) + ")\n{\n"
    text += ".reg .b64 %rd<9>;\n.reg .b32 %r<3>;\n.reg .pred %p, %q;\n"
    for k, (t, _) in enumerate(sources):
        text += f".reg .{storage(t)} %{names[k]};\n"
    text += f".reg .{storage(kind)} %d;\n mov.u32 %r0, %tid.x;\n"
    for k, (t, _) in enumerate(sources):
        text += (f"ld.param.u64 %rd1, [in{k}];\nmul.wide.u32 %rd2, %r0, {SIZES[t]};\n"
                 f"add.s64 %rd1, %rd1, %rd2;\nld.global.{t if SIZES[t] < 2 else storage(t)} "
                 f"%{names[k]}, [%rd1];\n")
    slots = {name: f"%{name}" for name in "abce"}
    slots["d"] = "%p" if result == "pred" else "%d"
    text += line.format(**slots) + "\n"
    if result == "pred":
        text += "selp.u32 %d, 1, 0, %p;\n"
    text += (f"ld.param.u64 %rd1, [out];\nmul.wide.u32 %rd2, %r0, {SIZES[kind]};\n"
             f"add.s64 %rd1, %rd1, %rd2;\nst.global.{kind} [%rd1], %d;\nret;\n}}\n")
    memory = GlobalMemory()
    out = memory.allocate("out", n * SIZES[kind])
    at = [out] + [memory.put(f"in{k}", np.ascontiguousarray(v, dtype(t)))
                  for k, (t, v) in enumerate(sources)]
    run(parse(text), "k", memory, (1,), (n,), np.array(at, np.uint64).tobytes())
    return memory.load(out, n, dtype(kind))


def launch(body, threads=32, shared=0, blocks=1, size=4096, limit=100_000):
    """Runs a body whose %rd1 is the address of `size` bytes of memory; returns these as u32."""
    text = HEADER + (".extern .shared .align 16 .b8 s[];\n.visible .entry k(.param .u64 p)\n{\n"
                     ".reg .b64 %rd<20>;\n.reg .b32 %r<30>;\n.reg .f32 %f<9>;\n.reg .pred %p<9>;\n"
                     "ld.param.u64 %rd1, [p];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, %ctaid.x;\n"
                     "mul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\nshl.b32 %r3, %r1, 2;\n"
                     ) + body + "\nret;\n}\n"
    memory = GlobalMemory()
    at = memory.put("memory", np.zeros(size // 4, np.uint32))
    Launch(parse(text), "k", memory, (blocks,), (threads,), np.array([at], np.uint64).tobytes(),
           shared, limit).run()
    return memory.load(at, size // 4, np.uint32)
