# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""library_test.py FAMILY RECORD [--spoil]: the library's kernels as nvcc compiles them.

RECORD is the program of cases/FAMILY.cpp and recording.cpp; it runs the cases on the fake device
and writes down every copy and launch. Here the same launches run as PTX, on the same memory. What a
launch of team text leaves is compared with the same text run by one lane, an item after the other;
what a case finds with numpy and with the fake device. The architecture says whether small items
have teams of one warp, as with run_batch(), or of two, whose lanes meet in shared memory.

Kernels that ran are listed for complete_test.py. --spoil changes a number of every result and wants
to be told of each.
"""

import functools
import gc
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
from toolchain import ARCHITECTURES, HERE, LEAST_LANES, keep, make_ptx

DTYPES = {"f": "f4", "d": "f8", "i": "i4", "h": "f2", "b": "u2"}
PRECISION = {"f": 2.0 ** -24, "d": 2.0 ** -53, "h": 2.0 ** -11, "b": 2.0 ** -8, "i": 0.0}
CUDA_INCLUDES = ["-I/usr/include/eigen3"]


def plain_name(text):
    """A demangled name without what compilers write differently."""
    return re.sub(r"\s+", "", text).replace("(anonymousnamespace)::", "")


# How Thrust's loop of CCCL 3 calls a functor: 256 threads, two calls each.
LOOP_THREADS, LOOP_CALLS = 256, 2


def first_argument(text):
    """The first of some template arguments."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "<([") - (c in ">)]")
        if depth < 0 or depth == 0 and c == ",":
            return text[:i]
    return text


def functor_of(text):
    """The functor that a demangled kernel runs, Thrust's loop as the host's loop; or None."""
    inside = re.search(r"run_kernel<(.*)>\(", text)
    if inside:
        return plain_name(inside.group(1))
    inside = re.search(r"for_each::static_kernel<.*?op_wrapper_t<long, (.*)", text)
    if inside:
        return plain_name(f"stiefelx::cuda::detail::serial_loop<{first_argument(inside.group(1))}>")
    return None


def kernels_of(names):
    """PTX entries by the functor that they run."""
    plain = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                           check=True).stdout.splitlines()
    functors = zip(map(functor_of, plain), names)
    return {functor: name for functor, name in functors if functor}


def spoiled(content):
    """Bytes whose last number has another size."""
    return content[:-1] + bytes([content[-1] ^ 0x41])


def matrix(letter, rows, cols, content):
    a = np.frombuffer(content, DTYPES[letter]).reshape(cols, rows).T
    return ((a.astype("u4") << 16).view("f4") if letter == "b" else a).astype("f8")


class Replay:
    """The events of one recording with the kernels of one module."""

    def __init__(self, module, spoil=False):
        self.spoil = spoil
        self.module, self.kernels = module, kernels_of([f.name for f in module.entries()])
        self.memory = GlobalMemory()
        self.count, self.ran = Counter(), Counter()
        self.shapes = {}  # of each functor the largest shared memory of a block, and its threads
        self.given, self.case = {}, ""
        self.mistakes, self.wrong_results = [], 0

    def run(self, lines):
        """All events; a case that is stopped is over, the others go on."""
        stopped = False
        for line in lines:
            event, rest = line.rstrip("\n").split(" ", 1)
            stopped = stopped and event != "case_name"
            if stopped and event in ("launch", "founds", "givens", "expecteds", "copy"):
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
        grid, threads, arguments = (int(x), int(y)), int(threads), bytes.fromhex(arguments)
        key = plain_name(name)
        if key not in self.kernels:
            raise Unsupported(f"no PTX of the kernel {name}; there are {sorted(self.kernels)}")
        if "serial_loop<" in key:
            # Thrust's own kernel takes the number of calls, and an iterator at 0 with the functor.
            calls, threads = int.from_bytes(arguments[:8], "little"), LOOP_THREADS
            arguments = arguments[:8] + bytes(8) + arguments[8:]
            grid = (-(-calls // (LOOP_THREADS * LOOP_CALLS)),)
        launch = Launch(self.module, self.kernels[key], self.memory, grid, (threads,), arguments,
                        int(shared))
        self.count += launch.run()
        self.ran[self.kernels[key]] += 1
        self.shapes[key] = max(self.shapes.get(key, (0, 0)), (int(shared), threads))
        if launch.count["atomics on floats"]:
            self.mistakes.append(f"{name} has atomics on floats")

    def case_name(self, rest):
        self.case, self.given = rest, {}

    def values(self, rest, spoil=False):
        name, letter, rows, cols, stride, at, content = rest.split(" ")
        rows, cols, stride, at = int(rows), int(cols), int(stride), int(at)
        size = np.dtype(DTYPES[letter]).itemsize
        ours = b"".join(self.memory.load(at + j * stride * size, rows, DTYPES[letter]).tobytes()
                        for j in range(cols))
        if spoil:
            ours = spoiled(ours)
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
            self.compare(name, "numpy", ours, exact, 32 * PRECISION[letter] * scale)
        same = self.compare(name, "the fake device", ours, theirs, 32 * PRECISION[letter] * scale)
        self.wrong_results += not same
        self.count["results"] += 1
        self.count["results with a numpy oracle"] += oracle is not None

    def expecteds(self, rest):
        """What one lane leaves; where that is nothing, the launch may leave memory unwritten."""
        bound, name, letter, rows, cols, stride, at, content = rest.split(" ")
        rows, cols, stride, at = int(rows), int(cols), int(stride), int(at)
        size = np.dtype(DTYPES[letter]).itemsize
        ours = b"".join(self.memory.raw(at + j * stride * size, rows * size).tobytes()
                        for j in range(cols))
        if self.spoil:
            ours = spoiled(ours)
        bound = 0 if letter == "i" else float.fromhex(bound)
        same = self.compare(name, "one lane", matrix(letter, rows, cols, ours),
                            matrix(letter, rows, cols, bytes.fromhex(content)), bound)
        self.wrong_results += not same
        self.count["results"] += 1
        self.count["results of one lane"] += 1

    def compare(self, name, whom, ours, theirs, bound):
        same = (ours == theirs) | np.isnan(ours) & np.isnan(theirs)
        bad = ~same & ~(np.abs(ours - theirs) <= bound)  # a NaN against a number is bad, too
        if bad.any():
            at = tuple(int(v) for v in np.argwhere(bad)[0])
            self.mistakes.append(f"case {self.case}, {name}{at}: PTX {ours[at]!r}, {whom} "
                                 f"{theirs[at]!r}; {int(bad.sum())} of {bad.size} entries differ")
        return not bad.any()


@functools.cache
def recorded(record, lanes):
    """The events of a program whose teams have so many lanes at least."""
    with tempfile.TemporaryDirectory() as folder:
        events = os.path.join(folder, "events")
        subprocess.run([record, events, str(lanes)], check=True)
        with open(events) as file:
            lines = file.readlines()
    names = {"given": "givens", "found": "founds", "case": "case_name", "expected": "expecteds"}
    return [names.get(head, head) + " " + rest for head, rest in
            (line.split(" ", 1) for line in lines)]


def main():
    family, record = sys.argv[1:3]
    if not os.path.exists(record):
        print(f"skipped: there is no program {record}")
        return 77
    # There are very many objects, and a launch that is over leaves none for the collector.
    gc.disable()
    wrong = 0
    if "--spoil" in sys.argv:
        source, architecture = HERE / "cases" / f"{family}.cpp", ARCHITECTURES[0]
        replay = Replay(parse(make_ptx(source, architecture, CUDA_INCLUDES)), True)
        replay.run(recorded(record, LEAST_LANES[architecture]))
        print(f"{replay.wrong_results} of {replay.count['results']} spoiled results are found")
        return 0 if replay.wrong_results == replay.count["results"] > 0 else 1
    ran, known = [], {}
    keep(f"{family}.ran", "")
    for architecture in ARCHITECTURES:
        start = time.monotonic()
        text = make_ptx(HERE / "cases" / f"{family}.cpp", architecture, CUDA_INCLUDES)
        compiled = time.monotonic()
        same = LEAST_LANES[architecture], re.sub(r"^\.target.*$|SM_\d+", "", text, flags=re.M)
        if same in known:
            # What ran for one architecture has run for the other.
            print(f"sm_{architecture}: the text of sm_{known[same]}, nvcc {compiled - start:.1f} s")
            ran += [line.replace(str(known[same]), str(architecture), 1) for line in ran
                    if line.startswith(f"{known[same]} ")]
            continue
        known[same] = architecture
        module = parse(text)
        replay = Replay(module)
        replay.run(recorded(record, LEAST_LANES[architecture]))
        ran += [f"{architecture} {threads} {shared} {name}\n"
                for name, (shared, threads) in replay.shapes.items()]
        print(f"sm_{architecture}: {len(replay.ran)} of {len(replay.kernels)} kernels, "
              f"{sum(replay.ran.values())} launches, {dict(replay.count)}, "
              f"nvcc {compiled - start:.1f} s, run {time.monotonic() - compiled:.1f} s")
        for mistake in replay.mistakes:
            print(f"  {mistake}")
        wrong += len(replay.mistakes) + (not replay.ran)
    keep(f"{family}.ran", "".join(ran))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
