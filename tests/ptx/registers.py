# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""registers.py [--write | --seed spill | --seed split]: what ptxas makes of the library's kernels,
and what their PTX looks like.

Reads what library_test.py leaves in STIEFELX_PTX_FOLDER and compares with the table beside this
file, where nvcc is of the table's version. A kernel that the table does not have, or that has
become worse, is a mistake: eight registers more, a larger stack, more spills, fewer wide loads and
stores, or more barriers, shuffles, calls or accesses of local memory. So is, whatever the table
says, a kernel with static shared memory. What else has changed is listed.

--write makes the table again. --seed makes a few kernels worse and wants to be told: registers that
have to be spilled, or wide loads and stores that are split.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from interpreter import parse
from library_test import kernels_of
from toolchain import ARCHITECTURES, FEWER, HERE, nvcc

TABLE = HERE / "registers.txt"
# The architecture that is assembled, and the one whose PTX is taken.
TARGETS = {75: 75, 80: 75, 86: 75, 89: 75, 90: 90, 100: 90, 120: 120}
SEEDED = "routed"  # what --seed makes worse: it has wide loads and stores
HEAD = """# Kernels as {version} compiles them. Two lines a kernel:
# registers a thread, or registers:stack:spilled in bytes, for sm_{targets}
# wide loads and stores/barriers/shuffles/calls/accesses of local memory, PTX for sm_{sources}
# threads and bytes of shared memory of a block in the cases
"""


def version():
    text = subprocess.run([nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + re.search(r"V([\d.]+)", text).group(1)


def short(name):
    """A functor's name without namespaces."""
    return re.sub(r"(stiefelx|cuda|detail|std)::", "", name)


def assembled(text, target):
    """{kernel: (registers, bytes of stack, bytes spilled, bytes of shared memory)} of PTX."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "kernels.ptx"
        path.write_text(text)
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
                       number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
                       number(r"(\d+) bytes smem"))
    return found


def shape(function):
    """Counts of what the PTX of a kernel should have many or none of."""
    wide = barriers = shuffles = calls = local = 0
    for i in function.code:
        op = i.opcode
        if op[0] in ("ld", "st"):
            lanes = 4 if "v4" in op else 2 if "v2" in op else 1
            wide += "param" not in op and lanes * int(re.sub(r"\D", "", op[-1])) >= 128
            local += "local" in op
        barriers += op[0] in ("bar", "barrier") and "warp" not in op
        shuffles += op[0] == "shfl"
        calls += op[0] == "call"
    return f"{wide}/{barriers}/{shuffles}/{calls}/{local}"


def made_worse(text, seed):
    """PTX with few registers a thread, or with wide loads and stores of half of their width."""
    if seed == "spill":
        return re.sub(r"\.minnctapersm\s+\d+", ".maxnreg 32", text)
    return re.sub(r"\.v4\.(\w+)", r".v2.\1", text) if seed == "split" else text


class Table:
    """What is found of some families' kernels."""

    def __init__(self):
        self.registers, self.shapes, self.launches, self.static = {}, {}, {}, []

    def add(self, folder, family, seed=None):
        texts = {a: (folder / f"{family}.{a}.ptx").read_text() for a in ARCHITECTURES
                 if (folder / f"{family}.{a}.ptx").exists()}
        names = {}
        for a, text in texts.items():
            module = parse(made_worse(text, seed))
            names[a] = {v: k for k, v in kernels_of([f.name for f in module.entries()]).items()}
            for entry, name in names[a].items():
                self.shapes.setdefault(short(name), {})[a] = shape(module.functions[entry])
        if seed == "split":
            return
        pairs = [(target, source) for target, source in TARGETS.items()
                 if source in texts and target in FEWER.get(family, TARGETS)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            all_found = pool.map(
                lambda pair: assembled(made_worse(texts[pair[1]], seed), pair[0]), pairs)
        for (target, source), kernels in zip(pairs, all_found):
            for entry, found in kernels.items():
                if entry not in names[source]:
                    continue  # CUB's, to ask for a version
                used, stack, spilled, shared = found
                name = short(names[source][entry])
                text = f"{used}:{stack}:{spilled}" if stack or spilled else str(used)
                self.registers.setdefault(name, {})[target] = text
                if shared:
                    self.static.append(f"{name} has {shared} bytes of static shared memory")

    def add_launches(self, folder, family):
        """Threads and shared memory of the cases' launches."""
        listed = folder / f"{family}.ran"
        for line in listed.read_text().splitlines() if listed.exists() else []:
            _, threads, shared, name = line.split(" ", 3)
            old = self.launches.get(short(name), (0, 0))
            self.launches[short(name)] = max(old, (int(shared), int(threads)))

    def rows(self):
        names = sorted(self.shapes.keys() | self.registers.keys())
        for name in names:
            shared, threads = self.launches.get(name, (0, 0))
            yield name, ([self.registers.get(name, {}).get(t, "-") for t in TARGETS]
                         + [self.shapes[name].get(a, "-") for a in ARCHITECTURES]
                         + [f"{threads}x{shared}"])


def is_worse(old, new):
    """Whether an entry of the table has become worse."""
    if "-" in (old, new) or "x" in new:
        return False
    if "/" in old:
        before, now = ([int(v) for v in t.split("/")] for t in (old, new))
        return now[0] < before[0] or any(n > b for b, n in zip(before[1:], now[1:]))
    before, now = ([int(v) for v in (t + ":0:0").split(":")[:3]] for t in (old, new))
    return now[0] > before[0] + 7 or now[1] > before[1] or now[2] > before[2]


def compare(old, new):
    """Lists what differs; the number of kernels that are worse or not in the table."""
    wrong = 0
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        bad = now is not None and (before is None or any(map(is_worse, before, now)))
        wrong += bad
        print(f"{'worse: ' if bad and before else 'missing: ' if bad else 'changed: '}{name}\n"
              f"  table {before}\n  now   {now}")
    return wrong


def main():
    folder = pathlib.Path(os.environ.get("STIEFELX_PTX_FOLDER", "."))
    seed = sys.argv[2] if "--seed" in sys.argv else None
    families = sorted({p.name.split(".")[0] for p in folder.glob("*.ptx")}
                      & {p.stem for p in (HERE / "cases").glob("*.cpp")})
    if not families or seed and SEEDED not in families:
        print(f"skipped: there is no PTX in {folder}")
        return 77
    table = Table()
    for family in [SEEDED] if seed else families:
        table.add(folder, family, seed)
    for family in families:
        table.add_launches(folder, family)
    rows = dict(table.rows())
    head = HEAD.format(version=version(), targets=" ".join(map(str, TARGETS)),
                       sources=" ".join(map(str, ARCHITECTURES)))
    print(f"{len(rows)} kernels")
    for line in table.static:
        print(f"  {line}")
    for name, row in rows.items():
        for target, text in zip(TARGETS, row):
            if text.count(":") == 2 and not text.endswith(":0"):
                print(f"  sm_{target} spills: {name} {text}")
    if "--write" in sys.argv:
        TABLE.write_text(head + "".join(f"{name}\n  {'  '.join(row)}\n"
                                        for name, row in rows.items()))
        return 1 if table.static else 0
    if not TABLE.exists() or TABLE.read_text().splitlines()[0] != head.splitlines()[0]:
        print("there is no table of this version of nvcc to compare with")
        return 77 if seed else 1 if table.static else 0
    lines = TABLE.read_text().splitlines()[len(head.splitlines()):]
    old = dict(zip(lines[::2], (line.split() for line in lines[1::2])))
    if seed:
        old = {name: row for name, row in old.items() if name in rows}
        return 0 if old and compare(old, rows) > 0 else 1
    return 1 if compare(old, rows) + len(table.static) else 0


if __name__ == "__main__":
    sys.exit(main())
