# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""registers.py [--write]: what ptxas makes of the library's kernels, and what their PTX looks like.

Reads the PTX that library_test.py leaves in STIEFELX_PTX_FOLDER and compares with the table beside
this file, where nvcc is of the table's version. A kernel that has become worse is a mistake: eight
registers more, a larger stack, more spills, fewer wide loads and stores, or more barriers, calls or
accesses of local memory. What else has changed is listed. --write makes the table again.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from interpreter import parse
from library_test import kernels_of
from toolchain import ARCHITECTURES, HERE, nvcc

TABLE = HERE / "registers.txt"
# The architecture that is assembled, and the one whose PTX is taken.
TARGETS = {75: 75, 80: 75, 86: 75, 89: 75, 90: 90, 100: 90, 120: 120}
HEAD = """# Kernels as {version} compiles them. Two lines a kernel:
# registers a thread, or registers:stack:spilled in bytes, for sm_{targets}
# loads and stores of 16 bytes/barriers/calls/accesses of local memory in the PTX for sm_{sources}
"""


def version():
    text = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + re.search(r"V([\d.]+)", text).group(1)


def short(name):
    """A functor's name without namespaces."""
    return re.sub(r"(stiefelx|cuda|detail|std)::", "", name)


def assembled(path, target):
    """{kernel: (registers, bytes of stack, bytes spilled)} of a file of PTX."""
    with tempfile.TemporaryDirectory() as folder:
        ptxas = pathlib.Path(nvcc()).resolve().parent / "ptxas"
        out = subprocess.run([str(ptxas), "-v", f"-arch=sm_{target}", str(path), "-o",
                              f"{folder}/kernels.cubin"], capture_output=True, text=True,
                             check=True).stderr
    found = {}
    for part in re.split(r"Compiling entry function '", out)[1:]:
        name = part.split("'", 1)[0]

        def number(pattern, text=part):
            match = re.search(pattern, text)
            return int(match.group(1)) if match else 0
        found[name] = (number(r"Used (\d+) registers"), number(r"(\d+) bytes stack frame"),
                       number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"))
    return found


def shape(function):
    """Counts of what the PTX of a kernel should have many or none of."""
    wide = barriers = calls = local = 0
    for i in function.code:
        op = i.opcode
        if op[0] in ("ld", "st"):
            lanes = 4 if "v4" in op else 2 if "v2" in op else 1
            wide += "param" not in op and lanes * int(re.sub(r"\D", "", op[-1])) >= 128
            local += "local" in op
        barriers += op[0] in ("bar", "barrier") and "warp" not in op
        calls += op[0] == "call"
    return f"{wide}/{barriers}/{calls}/{local}"


def main():
    folder = pathlib.Path(os.environ.get("STIEFELX_PTX_FOLDER", "."))
    families = sorted({p.name.split(".")[0] for p in folder.glob("*.ptx")}
                      & {p.stem for p in (HERE / "cases").glob("*.cpp")})
    if not families:
        print(f"skipped: there is no PTX in {folder}")
        return 77
    registers, shapes = {}, {}
    for family in families:
        modules = {a: parse((folder / f"{family}.{a}.ptx").read_text()) for a in ARCHITECTURES}
        names = {a: {v: k for k, v in kernels_of(m).items()} for a, m in modules.items()}
        for a, m in modules.items():
            for entry, name in names[a].items():
                shapes.setdefault(short(name), {})[a] = shape(m.functions[entry])
        for target, source in TARGETS.items():
            for entry, found in assembled(folder / f"{family}.{source}.ptx", target).items():
                if entry in names[source]:  # the others are Thrust's own
                    used, stack, spilled = found
                    text = f"{used}:{stack}:{spilled}" if stack or spilled else str(used)
                    registers.setdefault(short(names[source][entry]), {})[target] = text
    rows = {name: [registers[name].get(t, "-") for t in TARGETS]
            + [shapes[name].get(a, "-") for a in ARCHITECTURES] for name in sorted(registers)}
    head = HEAD.format(version=version(), targets=" ".join(map(str, TARGETS)),
                       sources=" ".join(map(str, ARCHITECTURES)))
    print(f"{len(rows)} kernels")
    for name, row in rows.items():
        for target, text in zip(TARGETS, row):
            if text.count(":") == 2 and not text.endswith(":0"):
                print(f"  sm_{target} spills: {name} {text}")
    if "--write" in sys.argv:
        TABLE.write_text(head + "".join(f"{name}\n  {'  '.join(row)}\n"
                                        for name, row in rows.items()))
        return 0
    if not TABLE.exists() or TABLE.read_text().splitlines()[0] != head.splitlines()[0]:
        print("there is no table of this version of nvcc to compare with")
        return 0
    lines = TABLE.read_text().splitlines()[len(head.splitlines()):]
    return compare(dict(zip(lines[::2], (line.split() for line in lines[1::2]))), rows)


def is_worse(old, new):
    """Whether an entry of the table has become worse."""
    if "-" in (old, new):
        return False
    if "/" in old:
        before, now = ([int(v) for v in t.split("/")] for t in (old, new))
        return now[0] < before[0] or any(n > b for b, n in zip(before[1:], now[1:]))
    before, now = ([int(v) for v in (t + ":0:0").split(":")[:3]] for t in (old, new))
    return now[0] > before[0] + 7 or now[1] > before[1] or now[2] > before[2]


def compare(old, new):
    """Lists what differs; 1 if something is worse."""
    worse = 0
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        bad = bool(before and now and any(is_worse(b, n) for b, n in zip(before, now)))
        worse |= bad
        print(f"{'worse: ' if bad else 'changed: '}{name}\n  table {before}\n  now   {now}")
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
