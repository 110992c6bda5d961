# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""registers.py [--write | --seed spill | --seed split | --seed vanish]: what ptxas makes of the
library's kernels, and what their PTX looks like.

Reads what library_test.py leaves in STIEFELX_PTX_FOLDER and compares with the table beside this
file, where nvcc is of the table's version. A kernel that only one of the two has, or that has
become worse, is a mistake: eight registers more, a larger stack, more spills, fewer wide loads and
stores, or more barriers, shuffles, calls or accesses of local memory. Functions that a kernel calls
count as its own. So is, whatever the table says, a kernel with static shared memory. What else has
changed is listed. Where nvcc has another version, a kernel that spills registers is a mistake if
the table's does not; that is all that can be said, so without a mistake the exit status is 77.

--write makes the table again. --seed makes a few kernels worse and wants to be told: registers that
have to be spilled, wide loads and stores that are split, a kernel that is not there.
"""

import gc
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from interpreter import parse
from library_test import kernels_of
from toolchain import ARCHITECTURES, FAMILIES, FOLDER, HERE, kernels_that_ran, nvcc

TABLE = HERE / "registers.txt"
# The architecture that is assembled, and the one whose PTX is taken.
TARGETS = {75: 75, 80: 75, 86: 75, 87: 75, 88: 75, 89: 75, 90: 90, 100: 90, 103: 90, 110: 90,
           120: 120}
# Each of these has a neighbour for which ptxas makes nearly the same of the same text; a family of
# many kernels shows whether it still does.
LIKE_OTHERS = (87, 88, 89, 103, 110)
ON_ALL = ("routed",)
# A family whose kernels take ptxas seconds each.
SLOW = {"points": (75, 90, 120)}
SEEDED = {"spill": "routed", "split": "routed", "vanish": "copies"}  # what --seed makes worse
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


def targets_of(family):
    """The architectures for which a family is assembled."""
    targets = SLOW.get(family, TARGETS)
    return [t for t in targets if family in ON_ALL or t not in LIKE_OTHERS]


def assembled(text, target):
    """{kernel: (registers, bytes of stack, bytes spilled, bytes of shared memory)} of PTX."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "kernels.ptx"
        path.write_text(text)
        ptxas = pathlib.Path(nvcc()).resolve().parent / "ptxas"
        out = subprocess.run([str(ptxas), "-v", f"-arch=sm_{target}", str(path), "-o",
                              f"{folder}/kernels.cubin"],
                             capture_output=True, text=True, check=True).stderr
    found = {}
    for part in re.split(r"Compiling entry function '", out)[1:]:
        name = part.split("'", 1)[0]

        def total(pattern, text=part):
            return sum(map(int, re.findall(pattern, text)))
        # Properties of the kernel, then of each function that it calls.
        found[name] = (total(r"Used (\d+) registers"), total(r"(\d+) bytes stack frame"),
                       total(r"(\d+) bytes spill (?:stores|loads)"), total(r"(\d+) bytes smem"))
    return found


def reached(module, entry):
    """A kernel and the functions that it calls, each once."""
    names = [entry]
    for name in names:
        for i in module.functions[name].code:
            names += [o for o in i.operands if i.opcode[0] == "call" and o in module.functions
                      and o not in names]
    return [module.functions[name] for name in names]


def shape(functions):
    """Counts of what the PTX of a kernel and its functions should have many or none of."""
    wide = barriers = shuffles = calls = local = 0
    for i in (i for function in functions for i in function.code):
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
        self.pool, self.assembling = ThreadPoolExecutor(os.cpu_count()), []

    def add(self, family, seed=None):
        """Looks at a family's PTX, and sets ptxas to work on it."""
        texts = {a: made_worse((FOLDER / f"{family}.{a}.ptx").read_text(), seed)
                 for a in ARCHITECTURES if (FOLDER / f"{family}.{a}.ptx").exists()}
        targets = [] if seed in ("split", "vanish") else [90] if seed else targets_of(family)
        found = {target: self.pool.submit(assembled, texts[TARGETS[target]], target)
                 for target in targets if TARGETS[target] in texts}
        names = {}
        for a, text in texts.items():
            module = parse(text)
            names[a] = {v: k for k, v in kernels_of([f.name for f in module.entries()]).items()}
            for entry, name in names[a].items():
                self.shapes.setdefault(short(name), {})[a] = shape(reached(module, entry))
        self.assembling += [(t, names[TARGETS[t]], kernels) for t, kernels in found.items()]

    def finish(self):
        """Waits for ptxas."""
        for target, names, kernels in self.assembling:
            for entry, (used, stack, spilled, shared) in kernels.result().items():
                if entry not in names:
                    continue  # CUB's, to ask for a version
                name = short(names[entry])
                text = f"{used}:{stack}:{spilled}" if stack or spilled else str(used)
                self.registers.setdefault(name, {})[target] = text
                if shared:
                    self.static.append(f"{name} has {shared} bytes of static shared memory")

    def add_launches(self, family):
        """Threads and shared memory of the cases' launches."""
        for _, threads, shared, name in kernels_that_ran(family):
            old = self.launches.get(short(name), (0, 0))
            self.launches[short(name)] = max(old, (int(shared), int(threads)))

    def rows(self):
        names = sorted(self.shapes.keys() | self.registers.keys())
        for name in names:
            shared, threads = self.launches.get(name, (0, 0))
            yield name, ([self.registers.get(name, {}).get(t, "-") for t in TARGETS]
                         + [self.shapes[name].get(a, "-") for a in ARCHITECTURES]
                         + [f"{threads}x{shared}"])


def spills(text):
    """Whether an entry of the table says that registers are spilled."""
    return text.count(":") == 2 and not text.endswith(":0")


def is_worse(old, new):
    """Whether an entry of the table has become worse."""
    if "-" in (old, new) or "x" in new:
        return new == "-" != old
    if "/" in old:
        before, now = ([int(v) for v in t.split("/")] for t in (old, new))
        return now[0] < before[0] or any(n > b for b, n in zip(before[1:], now[1:]))
    before, now = ([int(v) for v in (t + ":0:0").split(":")[:3]] for t in (old, new))
    return now[0] > before[0] + 7 or now[1] > before[1] or now[2] > before[2]


def compare(old, new):
    """Lists what differs; the number of kernels that are worse or in one of the two alone."""
    wrong = 0
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        what = ("not in the table" if before is None else "vanished" if now is None else
                "worse" if any(map(is_worse, before, now)) else "changed")
        wrong += what != "changed"
        print(f"{what}: {name}\n  table {before}\n  now   {now}")
    return wrong


def new_spills(old, new):
    """Lists the kernels that spill registers and do not do so in the table; their number."""
    wrong = [name for name, row in new.items()
             if any(map(spills, row)) and not any(map(spills, old.get(name, [])))]
    for name in wrong:
        print(f"spills, and does not in the table: {name}")
    return len(wrong)


def table_of(path):
    """The head of a table, and its rows."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line for line in lines if not line.startswith("#")]
    head = "".join(f"{line}\n" for line in lines if line.startswith("#"))
    return head, dict(zip(rows[::2], map(str.split, rows[1::2])))


def function_that_spills():
    """PTX of a kernel that spills nothing and calls a function that does."""
    values = range(60)
    head = ".version 9.0\n.target sm_90\n.address_size 64\n"
    call = "{ .param .b64 a; st.param.b64 [a], %p; call.uni deep, (a); }\n"
    return (head + ".func deep(.param .b64 x)\n{\n.reg .b32 %r<60>;\n.reg .b64 %p;\n"
            "ld.param.u64 %p, [x];\n"
            + "".join(f"ld.volatile.global.u32 %r{k}, [%p+{4 * k}];\n" for k in values)
            + "bar.sync 0;\n"
            + "".join(f"st.volatile.global.u32 [%p+{4 * k}], %r{59 - k};\n" for k in values)
            + "ret;\n}\n.visible .entry calls(.param .u64 x)\n.maxnreg 32\n{\n.reg .b64 %p;\n"
            f"ld.param.u64 %p, [x];\n{call}ret;\n}}\n")


def finds_seed(seed, table, rows):
    """Whether kernels that were made worse are called so."""
    # Columns that the seed leaves out say nothing.
    old = {name: [v if now != "-" else "-" for v, now in zip(table[name], row)]
           for name, row in rows.items() if name in table}
    if seed == "spill":
        text = function_that_spills()
        _, _, spilled, _ = assembled(text, 90)["calls"]
        found = shape(reached(parse(text), "calls"))
        print(f"a function's {spilled} bytes of spills, shape {found}")
        if spilled == 0 or found != "0/1/0/1/0" or new_spills(old, rows) == 0:
            return False
    if seed == "vanish":
        if compare(old, rows):
            return False
        rows = dict(list(rows.items())[1:])
    return len(old) > 0 and compare(old, rows) > 0


def main():
    gc.disable()  # there are very many objects, and all of them are needed
    seed = sys.argv[2] if "--seed" in sys.argv else None
    families = [f for f in FAMILIES if any(FOLDER.glob(f"{f}.*.ptx"))]
    if not families or seed and SEEDED[seed] not in families:
        print(f"skipped: there is no PTX in {FOLDER}")
        return 77
    head = HEAD.format(version=version(), targets=" ".join(map(str, TARGETS)),
                       sources=" ".join(map(str, ARCHITECTURES)))
    old_head, old = table_of(TABLE)
    same_version = old_head.partition("\n")[0] == head.partition("\n")[0]
    if seed and not same_version:
        print(f"skipped: the table is not of {version()}")
        return 77
    if same_version and old_head != head and "--write" not in sys.argv:
        print("the table has other columns; make it again with --write")
        return 1
    table = Table()
    # What takes ptxas longest first.
    for family in [SEEDED[seed]] if seed else sorted(families, key=lambda f: f not in SLOW):
        table.add(family, seed)
    for family in families:
        table.add_launches(family)
    table.finish()
    rows = dict(table.rows())
    print(f"{len(rows)} kernels")
    for line in table.static:
        print(f"  {line}")
    for name, row in rows.items():
        for target, text in zip(TARGETS, row):
            if spills(text):
                print(f"  sm_{target} spills: {name} {text}")
    if seed:
        return 0 if finds_seed(seed, old, rows) else 1
    if "--write" in sys.argv:
        TABLE.write_text(head + "".join(f"{name}\n  {'  '.join(row)}\n"
                                        for name, row in rows.items()))
        return 1 if table.static else 0
    if not same_version:
        wrong = new_spills(old, rows) + len(table.static)
        print(f"skipped: the table is not of {version()}; nothing but spills and static shared "
              "memory is compared")
        return 1 if wrong else 77
    return 1 if compare(old, rows) + len(table.static) else 0


if __name__ == "__main__":
    sys.exit(main())
