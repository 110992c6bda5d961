# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""roofline_test.py [--write] [RECORD]: whether the pages that predict times hold all kernels.

Every team body, and every functor of include/stiefelx/cuda that is in registers.txt, has a row in
docs/guide/roofline.md or roofline_bodies.md, and every row a figure for both devices. A row of a
table with formulas has the figures that these give; --write brings them up to date. Where
cuda.D.tokens has left its PTX and RECORD, its program, is there, bodies of that file run once more,
and the bytes of device memory that they touch are what their rows say.
"""

import functools
import os
import re
import sys

import numpy as np
from complete_test import struct_bodies
from interpreter import parse, transfers
from library_test import Replay, plain_name, recorded
from toolchain import FOLDER, LEAST_LANES, ROOT

RATES, BODIES = (ROOT / "docs/guide" / name for name in ("roofline.md", "roofline_bodies.md"))
FORMULAS = ["teams x lanes", "bytes", "flops", "steps", "H100, µs", "H200, µs", "what binds"]
ARCHITECTURE = 90
# A multiprocessor: lanes and blocks at once, lanes that its rate wants, whole numbers of float's.
LANES, BLOCKS, BUSY, WHOLE = 2048, 32, 1024, 1 / 4
# Letters of the launches of cases/tokens.cpp; for a body others, and bytes that its row leaves out.
SIZES = {"T": 40, "d": 4, "k": 3, "r": 4, "E": 6, "V": 6, "m": 3, "b": 3}
WEIGHTS = 4 * SIZES["T"]  # a row is of tokens that all count
UNNAMED = -4 * SIZES["E"] * 10  # tokens of no task
COUNTED = {
    "spread_slots_body": {}, "sum_slots_body": {}, "stack_slots_body": {}, "unstack_slots_body": {},
    "share_slots_body": {}, "sum_shared_slots_body": {}, "scale_slots_body": {}, "gain_body": {},
    "gain_backward_body": {}, "add_column_body": {}, "spread_scores_body": {},
    "gather_scores_body": {"also": UNNAMED}, "dropout_body": {"d": 6}, "magnitude_body": {"d": 1},
    "magnitude_backward_body": {"d": 20}, "token_level_body": {},
    "given_list_body": {"also": WEIGHTS}, "inverse_sum_body": {}, "token_weight_body": {},
    "cross_entropy_body": {}, "z_loss_body": {"also": WEIGHTS},
    "score_variance_body": {"also": WEIGHTS}, "probability_sums_body": {"also": WEIGHTS},
    "token_entropy_body": {"also": WEIGHTS}, "variation_body": {},
    "type_factor_body": {"E": 5, "m": 4}, "router_orthogonality_body": {},
    "cross_orthogonality_body": {},
}
# Empty slots and dropped entries are not read, and a list that a body wrote it reads again.
NEARLY = 1 / 6


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text):
    """(heads, rows) of every table; a row is (number of its line, cells)."""
    lines = text.splitlines()
    for k, line in enumerate(lines):
        if re.fullmatch(r"\|( --- \|)+", line):
            rows = []
            for n in range(k + 1, len(lines)):
                if not lines[n].startswith("|"):
                    break
                rows.append((n, cells(lines[n])))
            yield cells(lines[k - 1]), rows


def calculated(formula, letters):
    """The value of a formula; what stands side by side is multiplied."""
    found = re.findall(r"\d+\.?\d*|[A-Za-z]+|[-+*/^()]|\S", formula)
    text = ""
    for before, token in zip(["(", *found], found):
        if re.fullmatch(r"[\w.]+|\(", token) and re.fullmatch(r"[\w.]+|\)", before):
            text += "*"
        if token.isalpha():
            token = repr(letters.get(token, token))
        text += {"^": "**"}.get(token, token)
    if not re.fullmatch(r"[-+*/().\de]*", text):
        raise ValueError(f"no formula: {formula}")
    return float(eval(text))  # numbers and signs alone


def pair(cell):
    """Both values of a cell, for the smaller and the larger d."""
    values = cell.split(" / ")
    return [float(values[0]), float(values[-1])]


def two_of(values):
    figures = [f"{v:.0f}" if v >= 99.5 else f"{v:.2g}" if v >= 0.095 else "< 0.1" for v in values]
    return figures[0] if figures[0] == figures[1] else " / ".join(figures)


class Model:
    """The rates, letters and steps of both pages."""

    def __init__(self, rates, bodies):
        rows = {row[0]: row for heads, table in tables(rates) if heads[0] == "rate"
                for _, row in table}

        def rate(name, column):
            """A number of the table, where a device has none of its own that of the other."""
            found = [re.match(r"[\d.]+", rows[name][k]) for k in (column, 1)]
            return float((found[0] or found[1])[0])

        self.processors = rate("multiprocessors; clock", 1)
        self.devices = [{"memory": rate("memory", column), "L2": rate("L2", column),
                         "float": rate("float, no tensor cores", column),
                         "double": rate("double, no tensor cores", column),
                         "whole": rate("float, no tensor cores", column) * WHOLE}
                        for column in (1, 2)]
        self.letters, self.steps = {}, {}
        for heads, table in tables(bodies):
            for _, row in table:
                if heads[0] == "letter" and row[1][0].isdigit():
                    self.letters[row[0]] = pair(row[1])
                elif heads[0] == "step":
                    self.steps[row[0]] = float(row[1])

    def time(self, row, device, which):
        """(µs, what binds) of a row's formulas on a device, for one of both d."""
        teams_text, lanes_text = row[1].split(" x ")
        letters = {name: v[which] for name, v in self.letters.items()} | self.steps
        lanes = letters["l"] = pair(lanes_text)[which]
        teams = calculated(teams_text, letters)
        flops, kind = re.fullmatch(r"(.*?)(?: (float|double|whole))?", row[3]).groups("float")
        here = self.devices[device]
        part = here["L2"] * teams / self.processors
        rate = here[kind] * min(1, teams * lanes / (self.processors * BUSY))
        rounds = -(-teams // (self.processors * min(LANES // lanes, BLOCKS)))
        times = {"memory" if part > here["memory"] else "L2":
                     calculated(row[2], letters) / min(part, here["memory"]) / 1e6,
                 "arithmetic": calculated(flops, letters) / rate / 1e6,
                 "steps": calculated(row[4], letters) * rounds}
        binds = max(times, key=times.get)
        return times[binds], binds

    def figures(self, row):
        """The cells of both devices, and what binds for the larger d."""
        both = [[self.time(row, device, which) for which in (0, 1)] for device in (0, 1)]
        return [two_of([t for t, _ in device]) for device in both], both[0][1][1]


def rewritten(model, text):
    """The page with the figures that its formulas give."""
    lines = text.splitlines()
    for heads, table in tables(text):
        if heads[1:] != FORMULAS:
            continue
        for n, row in table:
            figures, binds = model.figures(row)
            note = re.sub(r"^(memory|L2|arithmetic|steps)(: |$)", "", row[7])
            row[5:] = *figures, binds + (note and ": " + note)
            lines[n] = f"| {' | '.join(row)} |"
    return "\n".join(lines) + "\n"


@functools.cache
def structs():
    """(name, whether it needs a row) of the library's structs: team bodies do, and what
    registers.txt shows of include/stiefelx/cuda."""
    listed = set(re.findall(r"\w+", (ROOT / "tests/ptx/registers.txt").read_text()))
    found = []
    for path in sorted((ROOT / "include/stiefelx").rglob("*.hpp")):
        text = re.sub(r"//[^\n]*", "", path.read_text())
        for name, body in struct_bodies(text):
            needed = False
            if re.search(r"STIEFELX_HD[\w\s]*operator\(\)\(", body):
                kernel = path.is_relative_to(ROOT / "include/stiefelx/cuda") and name in listed
                needed = kernel or bool(re.search(r"operator\(\)\(\w+ const& team\b", body))
            found.append((name, needed))
    return found


def mistakes_of(rates, bodies):
    """What is wrong with the text of both pages."""
    wrong, rows, found = [], set(), structs()
    for page in (rates, bodies):
        if "No kernel of this page has run on a GPU" not in page:
            wrong.append("a page does not say that nothing has run on a GPU")
        for heads, table in tables(page):
            timed = [k for k, head in enumerate(heads) if re.search("H[12]00", head)]
            if not timed or heads[0] == "rate":
                continue
            for _, row in table:
                rows |= set(re.findall(r"\w+", row[0]))
                if not all(re.search(r"\d|of the body|the same", row[k]) for k in timed) or not all(
                        any(name in heads[k] for k in timed) for name in ("H100", "H200")):
                    wrong.append(f"no figure for both devices: {row[0]}")
    wrong += [f"no row for {name}" for name in sorted({n for n, needed in found if needed} - rows)]
    wrong += [f"a row for {name}, which is not in the library"
              for name in sorted(rows - {n for n, _ in found})
              if re.search(r"_(body|item|element|term)$", name)]
    exact = rewritten(Model(rates, bodies), bodies)
    wrong += [f"the formulas give: {after}"
              for before, after in zip(bodies.splitlines(), exact.splitlines()) if before != after]
    return wrong


class CountedAccess(transfers.Access):
    """Keeps the addresses of device memory that are read and written."""
    seen = {"read": [], "written": []}

    def keep(self, what, space, addresses, size):
        if space == "generic":
            addresses = addresses[transfers.window_of(addresses) == 0]
        if space in ("generic", "global"):
            self.seen[what] += [addresses.astype(np.int64) + k for k in range(size)]

    def load(self, space, addresses, size, count, lanes):
        self.keep("read", space, addresses, size * count)
        return super().load(space, addresses, size, count, lanes)

    def store(self, space, addresses, values, lanes):
        self.keep("written", space, addresses, values[0].dtype.itemsize * len(values))
        super().store(space, addresses, values, lanes)


class Counting(Replay):
    """Runs the first launch of each of some bodies."""

    def __init__(self, module, bodies):
        super().__init__(module)
        self.left, self.bytes = set(bodies), {}

    def launch(self, rest):
        name = re.search(r"batch_kernel<(?:\w+::)*(\w+)", plain_name(rest))
        if name and name[1] in self.left:
            self.left.discard(name[1])
            CountedAccess.seen = {"read": [], "written": []}
            super().launch(rest)
            self.bytes[name[1]] = sum(len(np.unique(np.concatenate(a))) if a else 0
                                      for a in CountedAccess.seen.values())

    def founds(self, _):
        """Launches before are left out, so there is nothing to compare."""

    givens = expecteds = founds


def counted(record):
    """The bytes of each body of COUNTED, and what stopped a case."""
    transfers.Access = CountedAccess
    replay = Counting(parse((FOLDER / f"tokens.{ARCHITECTURE}.ptx").read_text()), COUNTED)
    replay.run(recorded(record, LEAST_LANES[ARCHITECTURE]))
    return replay.bytes, replay.mistakes


def other_bytes(bodies, bytes_):
    """What formulas say other than the interpreter has counted."""
    rows = {name: row for heads, table in tables(bodies) if heads[1:] == FORMULAS
            for _, row in table for name in re.findall(r"\w+", row[0])}
    for name, letters in COUNTED.items():
        if name not in rows:
            yield f"{name}: no formulas"
            continue
        formula = calculated(rows[name][2], SIZES | letters) + letters.get("also", 0)
        if not abs(bytes_.get(name, 0) - formula) <= NEARLY * formula:
            yield f"{name}: {bytes_.get(name, 0)} bytes are counted, its formula says {formula:.0f}"


def main():
    rates, bodies = RATES.read_text(), BODIES.read_text()
    if "--write" in sys.argv:
        bodies = rewritten(Model(rates, bodies), bodies)
        BODIES.write_text(bodies)
    wrong = mistakes_of(rates, bodies)
    # A name, a figure and a formula that are not right would be seen.
    for old, new, said in (("| z_loss_body |", "| loss |", "no row for z_loss_body"),
                           (" | steps: ", "1 | steps: ", "the formulas give: "),
                           ("No kernel of this page", "A kernel", "a page does not say")):
        if not any(m.startswith(said) for m in mistakes_of(rates, bodies.replace(old, new))):
            wrong.append(f"nobody would see {new} in place of {old}")
    record = next((a for a in sys.argv[1:] if a != "--write"), "")
    if os.path.exists(record) and (FOLDER / f"tokens.{ARCHITECTURE}.ptx").exists():
        bytes_, stopped = counted(record)
        wrong += stopped + list(other_bytes(bodies, bytes_))
        if len(list(other_bytes(bodies.replace("| 4 ", "| 5 "), bytes_))) < 5:
            wrong.append("nobody would see other bytes")
        print(f"the bytes of {len(bytes_)} bodies are counted")
    else:
        print("bytes are not counted: cuda.D.tokens has left no PTX, or there is no program")
    needed = sum(needs for _, needs in structs())
    print(f"{needed} kernels and team bodies, {len(wrong)} mistakes")
    for mistake in wrong:
        print(f"  {mistake}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
