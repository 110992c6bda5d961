# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""library_test.py FAMILY RECORD [--names | --spoil]: the library's kernels as nvcc compiles them.

RECORD is the program of cases/FAMILY.cpp and recording.cpp; it runs the cases on the fake device
and writes down every copy and launch. Here the same launches run as PTX, on the same memory, and
what they give is compared with numpy and with the fake device.

--names lists kernels that no case runs. --spoil changes a bit of every result and wants to be told
of each.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
from interpreter import Fault, GlobalMemory, Launch, Unsupported, parse
from oracles import ORACLES
from toolchain import ARCHITECTURES, HERE, make_ptx

DTYPES = {"f": "f4", "d": "f8", "i": "i4", "h": "f2", "b": "u2"}
PRECISION = {"f": 2.0 ** -24, "d": 2.0 ** -53, "h": 2.0 ** -11, "b": 2.0 ** -8, "i": 0.0}
CUDA_INCLUDES = ["-I/usr/include/eigen3"]


def plain_name(text):
    """A demangled name without what compilers write differently."""
    return re.sub(r"\s+", "", text).replace("(anonymousnamespace)::", "")


def kernels_of(module):
    """PTX entries by the functor that they run."""
    names = [f.name for f in module.entries()]
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                           check=True).stdout.splitlines()
    found = {}
    for name, text in zip(names, plain):
        inside = re.search(r"run_kernel<(.*)>\(", text)
        if inside:
            found[plain_name(inside.group(1))] = name
    return found


def matrix(letter, rows, cols, content):
    a = np.frombuffer(content, DTYPES[letter]).reshape(cols, rows).T
    return ((a.astype("u4") << 16).view("f4") if letter == "b" else a).astype("f8")


class Replay:
    """The events of one recording with the kernels of one module."""

    def __init__(self, module, spoil=False):
        self.spoil = spoil
        self.module, self.kernels = module, kernels_of(module)
        self.memory = GlobalMemory()
        self.count, self.ran = Counter(), Counter()
        self.given, self.case = {}, ""
        self.mistakes, self.wrong_results = [], 0

    def run(self, lines):
        """All events; a case that is stopped is over, the others go on."""
        stopped = False
        for line in lines:
            event, rest = line.rstrip("\n").split(" ", 1)
            stopped = stopped and event != "case_name"
            if stopped and event in ("launch", "founds", "givens", "copy"):
                continue
            try:
                getattr(self, event)(rest)
            except (Fault, Unsupported) as fault:
                stopped = True
                self.mistakes.append(f"case {self.case}: {fault}")

    def allocate(self, rest):
        at, size = (int(v) for v in rest.split())
        self.memory.allocate(f"allocation {len(self.memory.names)}", size, at)

    def release(self, rest):
        self.memory.release(int(rest))

    def store(self, rest):
        at, content = rest.split()
        self.memory.store(int(at), bytes.fromhex(content))

    def copy(self, rest):
        to, from_, size = (int(v) for v in rest.split())
        self.memory.move(to, from_, size)

    def launch(self, rest):
        x, y, threads, shared, arguments, name = rest.split(" ", 5)
        if "serial_loop<" in name:
            return  # Thrust's own kernel on a device; the stores that follow have its results.
        key = plain_name(name)
        if key not in self.kernels:
            raise Unsupported(f"no PTX of the kernel {name}; there are {sorted(self.kernels)}")
        launch = Launch(self.module, self.kernels[key], self.memory, (int(x), int(y)),
                        (int(threads),), bytes.fromhex(arguments), int(shared))
        self.count += launch.run()
        self.ran[self.kernels[key]] += 1
        if launch.count["atomics on floats"]:
            self.mistakes.append(f"{name} has atomics on floats")

    def case_name(self, rest):
        self.case, self.given = rest, {}

    def values(self, rest, spoil=False):
        name, letter, rows, cols, stride, at, content = rest.split(" ")
        rows, cols, stride, at = int(rows), int(cols), int(stride), int(at)
        size = np.dtype(DTYPES[letter]).itemsize
        if spoil:
            last = at + ((cols - 1) * stride + rows) * size - 1
            self.memory.store(last, bytes([self.memory.load(last, 1, "u1")[0] ^ 1]))
        ours = b"".join(self.memory.load(at + j * stride * size, rows, DTYPES[letter]).tobytes()
                        for j in range(cols))
        return (name, letter, matrix(letter, rows, cols, ours),
                matrix(letter, rows, cols, bytes.fromhex(content)))

    def givens(self, rest):
        name, _, ours, theirs = self.values(rest)
        assert (ours == theirs).all(), (self.case, name)
        self.given[name] = theirs

    def founds(self, rest):
        name, letter, ours, theirs = self.values(rest, self.spoil)
        kind = self.case.removesuffix(" double").removesuffix(" float")
        oracle = ORACLES.get((kind, name.rstrip("0123456789")))
        finite = np.isfinite(theirs)
        scale = np.abs(theirs[finite]).max(initial=1)
        if oracle:
            magnitude = {k: np.abs(v) for k, v in self.given.items()} | {
                "ids": self.given.get("ids")}
            exact, scale = oracle(self.given, name), np.maximum(1, np.abs(oracle(magnitude, name)))
            self.compare(name, "numpy", letter, ours, exact, scale)
        same = self.compare(name, "the fake device", letter, ours, theirs, scale)
        self.wrong_results += not same
        self.count["results"] += 1
        self.count["results with a numpy oracle"] += oracle is not None

    def compare(self, name, whom, letter, ours, theirs, scale):
        bound = 32 * PRECISION[letter] * scale
        same = (ours == theirs) | np.isnan(ours) & np.isnan(theirs)
        bad = ~same & ~(np.abs(ours - theirs) <= bound)  # a NaN against a number is bad, too
        if bad.any():
            at = tuple(int(v) for v in np.argwhere(bad)[0])
            self.mistakes.append(f"case {self.case}, {name}{at}: PTX {ours[at]!r}, {whom} "
                                 f"{theirs[at]!r}; {int(bad.sum())} of {bad.size} entries differ")
        return not bad.any()


def main():
    family, record = sys.argv[1:3]
    if not os.path.exists(record):
        print(f"skipped: there is no program {record}")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        events = os.path.join(folder, "events")
        subprocess.run([record, events], check=True)
        with open(events) as file:
            lines = file.readlines()
    names = {"given": "givens", "found": "founds", "case": "case_name"}
    lines = [names.get(head, head) + " " + rest for head, rest in
             (line.split(" ", 1) for line in lines)]
    wrong = 0
    if "--spoil" in sys.argv:
        source = HERE / "cases" / f"{family}.cpp"
        replay = Replay(parse(make_ptx(source, ARCHITECTURES[0], CUDA_INCLUDES)), True)
        replay.run(lines)
        print(f"{replay.wrong_results} of {replay.count['results']} spoiled results are found")
        return 0 if replay.wrong_results == replay.count["results"] > 0 else 1
    for architecture in ARCHITECTURES:
        start = time.monotonic()
        module = parse(make_ptx(HERE / "cases" / f"{family}.cpp", architecture, CUDA_INCLUDES))
        compiled = time.monotonic()
        replay = Replay(module)
        replay.run(lines)
        unused = sorted(set(replay.kernels.values()) - set(replay.ran))
        print(f"sm_{architecture}: {len(replay.ran)} kernels, {sum(replay.ran.values())} launches, "
              f"{dict(replay.count)}, nvcc {compiled - start:.1f} s, run "
              f"{time.monotonic() - compiled:.1f} s")
        if unused:
            print(f"  compiled and not run: {len(unused)}")
        for kernel in unused if "--names" in sys.argv else ():
            print(f"    {kernel}")
        for mistake in replay.mistakes:
            print(f"  {mistake}")
        wrong += len(replay.mistakes) + (not replay.ran)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
