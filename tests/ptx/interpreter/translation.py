# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Instructions to functions of a mask of lanes, bound to the registers of a launch."""

import re
from typing import NamedTuple

import numpy as np

from . import arithmetic, bits, carries, conversions, transfers, warps  # noqa: F401
from .faults import Fault, Unsupported
from .memory import LOCAL, PARAMETER, SHARED
from .operations import RAW, dtype_of, operation
from .parser import SIZES, number, split_list

# Nothing to compute: caches are not modelled, and an order of memory is that of the barriers.
IGNORED = {"prefetch", "prefetchu", "membar", "fence", "discard", "applypriority", "nanosleep",
           "pmevent", "setmaxnreg"}
STEP, JUMP, STOP = range(3)
# What depends on more of its operands than their kinds.
SINGULAR = {"bra", "brx", "call", "result", "bar", "barrier"}
WORD = re.compile(r"[%\w$.]+")
# 0 and 1 are values of predicates, too.
NUMBER = re.compile(r"0[xX][\da-fA-F]+|[2-9]|[1-9]\d+")


class Line(NamedTuple):
    """An instruction ready to run. STEP: action(mask); JUMP: target; STOP: action(mask, at)."""
    kind: int
    action: object
    guard: object
    negated: bool
    source: object


class Translator:
    """Turns the functions of a launch into its lines."""

    def __init__(self, launch):
        self.launch, self.module = launch, launch.module
        self.registers, self.labels = {}, {}
        self.within = []
        self.carry = np.zeros(launch.lanes, np.int64)
        self.function = None

    def functions(self):
        """Device functions that are reached come before the functions that call them."""
        order, seen = [], set()

        def visit(function):
            if function.name in seen:
                return
            seen.add(function.name)
            for i in function.code:
                if i.opcode[0] == "call":
                    for o in i.operands:
                        if o in self.module.functions:
                            visit(self.module.functions[o])
            order.append(function)
        visit(self.launch.kernel)
        for f in order:
            start = self.launch.starts[f.name] = len(self.launch.lines)
            self.launch.lines += [None] * len(f.code)
            end = self.launch.starts[f.name + "/end"] = len(self.launch.lines)
            self.within.append((start, end, f, {label: start + at
                                                for label, at in f.labels.items()}))
            # The first launch finds what is unknown in a function, also where it does not come.
            if f.name not in self.module.translated:
                self.check(f, start)
                self.module.translated.add(f.name)

    def check(self, function, start):
        """Translates a line of each kind: one whose operands are of the same kinds as those of
        another line is translated where it does."""
        for kind in set(function.registers.values()):
            if kind != "pred" and kind not in SIZES:
                raise Unsupported(f"register of type {kind}")
        for at, i in enumerate(function.code, start):
            kinds = self.kinds(function, i)
            if kinds is None or kinds not in self.module.kinds:
                self.launch.lines[at] = self.line(at)
                self.module.kinds.add(kinds)

    def kinds(self, function, i):
        """A line with what its translation depends on in place of registers and numbers; None for
        lines whose operands are looked at by themselves."""
        if i.opcode[0] in SINGULAR:
            return None
        registers, names = function.registers, i.names

        def kind(found):
            word = found[0]
            name = names.get(word)
            if name is not None:
                return registers.get(name, name)
            return "number" if NUMBER.fullmatch(word) else word
        return WORD.sub(kind, i.line)

    def source_of(self, at):
        """The instruction of a line."""
        return next(f.code[at - start] for start, end, f, _ in self.within if start <= at < end)

    def line(self, at):
        """The line at a place with what it does."""
        start, _, self.function, self.labels = next(w for w in self.within if w[0] <= at < w[1])
        i = self.function.code[at - start]
        try:
            guard = self.named(i.guard) if i.guard else None
            kind, action = self.translate(i)
        except (KeyError, IndexError, ValueError) as error:
            raise Unsupported(f"{type(error).__name__} {error} in `{i.line}`") from error
        except Unsupported as error:
            raise Unsupported(f"{error}, in `{i.line}`") from error
        return Line(kind, action, guard, i.negated, i)

    # --- operands --------------------------------------------------------------------------------

    def register(self, i, text):
        """The array of a register, or None."""
        name = i.names.get(text)
        if name is None:
            return None
        r = self.registers.get(name)
        return self.named(name) if r is None and name in self.function.registers else r

    def named(self, name):
        """The array of a register of this function, there from its first use on."""
        r = self.registers.get(name)
        if r is None:
            kind = self.function.registers[name]
            r = self.registers[name] = np.zeros(self.launch.lanes,
                                                bool if kind == "pred" else RAW[SIZES[kind]])
        return r

    def offset(self, i, text):
        """Place of a variable in its own space, or None."""
        for name in (i.names.get(text), f"{self.function.name}/{text}", text):
            if name in self.launch.offset:
                return self.launch.offset[name]
        return None

    def source(self, i, text, kind):
        """A function without arguments that gives an operand's values as a type."""
        dtype = dtype_of(kind)
        if kind == "pred" and text[0] == "!":
            inner = self.source(i, text[1:], kind)
            return lambda: ~inner()
        r = self.register(i, text)
        if r is None:
            r = self.launch.special.get(text)
        if r is None:
            constant = self.constant(i, text, kind)
            return lambda: constant
        if r.dtype == dtype:
            return lambda: r
        if r.dtype == bool or dtype == bool:
            raise Unsupported(f"predicate {text} among numbers")
        if r.dtype.itemsize == dtype.itemsize:
            view = r.view(dtype)
            return lambda: view
        raw = RAW[dtype.itemsize]
        return lambda: r.astype(raw).view(dtype)

    def constant(self, i, text, kind):
        dtype = dtype_of(kind)
        if kind == "pred":
            values = {"1": True, "0": False, "-1": True, "true": True, "false": False}
            return np.full(self.launch.lanes, values[text])
        if text[:2] in ("0f", "0F") and len(text) == 10:
            value = np.array([int(text[2:], 16)], np.uint32).view(np.float32)
        elif text[:2] in ("0d", "0D") and len(text) == 18:
            value = np.array([int(text[2:], 16)], np.uint64).view(np.float64)
        else:
            at = self.offset(i, text)
            if at is None and not re.fullmatch(r"-?(0[xX][\da-fA-F]+|\d+)U?", text):
                raise Unsupported(f"operand {text}")
            bits = number(text) if at is None else at
            size = dtype.itemsize
            value = np.array([bits & (1 << 8 * size) - 1], RAW[size]).view(dtype)
            return np.full(self.launch.lanes, value[0], dtype)
        if value.dtype.itemsize != dtype.itemsize:
            raise Unsupported(f"operand {text} as {kind}")
        return np.full(self.launch.lanes, value.view(dtype)[0], dtype)

    def target(self, i, text, kind):
        """A function that stores values of a type in a register, for a mask of lanes or all; values
        of the mask's lanes alone come with the numbers of these."""
        if text == "_":
            return lambda values, mask, lanes=None: None
        r = self.register(i, text)
        if r is None:
            raise Unsupported(f"result {text}")
        dtype = dtype_of(kind)
        if (r.dtype == bool) != (dtype == bool) or r.dtype.itemsize < dtype.itemsize:
            raise Unsupported(f"result {text} as {kind}")
        # A wider register takes the sign of the value along, or zeros.
        wide = np.dtype(f"{'i' if dtype.kind == 'i' else 'u'}{r.dtype.itemsize}")
        same = r.dtype.itemsize == dtype.itemsize
        view = r.view(dtype if same else wide)

        def store(values, mask, lanes=None):
            if mask is None:
                view[...] = values
            elif lanes is not None:
                view[lanes] = values
            else:
                np.copyto(view, values, where=mask)

        def store_wide(values, mask, lanes=None):
            if dtype.kind == "f":
                values = np.ascontiguousarray(values).view(RAW[dtype.itemsize])
            store(values.astype(wide), mask, lanes)
        return store if same else store_wide

    def address(self, i, text):
        """A function that gives the addresses of an operand in brackets, as 64-bit integers."""
        inside = re.fullmatch(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+)\s*)?\]", text)
        if not inside:
            raise Unsupported(f"address {text}")
        base, plus = inside.groups()
        plus = number(plus) if plus else 0
        r = self.register(i, base)
        if r is None:
            at = self.offset(i, base)
            at = number(base) if at is None else at
            fixed = np.full(self.launch.lanes, at + plus, np.int64)
            return lambda: fixed
        if r.dtype.itemsize == 8:
            signed = r.view(np.int64)
            return (lambda: signed + plus) if plus else (lambda: signed)
        return lambda: r.astype(np.int64) + plus

    # --- instructions ----------------------------------------------------------------------------

    def translate(self, i):
        name = i.opcode[0]
        if name in IGNORED:
            return STEP, lambda mask: None
        special = {"bra": self.branch, "brx": self.branch_by_table, "call": self.call,
                   "result": self.take_result, "ret": self.ret, "exit": self.exit,
                   "trap": self.trap, "brkpt": self.trap,
                   "mov": self.move, "cvta": self.to_space, "bar": self.barrier,
                   "barrier": self.barrier, "isspacep": self.is_space}
        if name in special:
            return special[name](i)
        if carries.is_carried(i.opcode):
            return STEP, carries.carried(self, i)
        if name in transfers.NAMES:
            return STEP, transfers.NAMES[name](self, i)
        if name in warps.NAMES:
            return STOP, warps.NAMES[name](self, i)
        return STEP, self.compute(i)

    def compute(self, i):
        sources = i.operands[1:]
        op = operation(i.opcode, len(sources))
        if len(sources) != len(op.sources):
            raise Unsupported(f"{len(sources)} sources")
        values = [self.source(i, s, t) for s, t in zip(sources, op.sources)]
        results = i.operands[0].split("|")
        targets = [self.target(i, r.strip(), t) for r, t in zip(results, op.results)]
        if len(results) > len(op.results):
            raise Unsupported(f"{len(results)} results")
        compute = op.compute
        if op.picky:
            def picky(mask):
                lanes = np.arange(self.launch.lanes) if mask is None else np.flatnonzero(mask)
                out = np.zeros(self.launch.lanes, dtype_of(op.results[0]))
                out[lanes] = compute(*[v()[lanes] for v in values])
                targets[0](out, mask)
            return picky
        if len(op.results) == 1:
            store = targets[0]
            if len(values) == 1:
                one, = values
                return lambda mask: store(compute(one()), mask)
            if len(values) == 2:
                first, second = values
                return lambda mask: store(compute(first(), second()), mask)
            return lambda mask: store(compute(*[v() for v in values]), mask)

        def several(mask):
            for store, out in zip(targets, compute(*[v() for v in values])):
                store(out, mask)
        return several

    def branch(self, i):
        return JUMP, self.labels[i.operands[0]]

    def branch_by_table(self, i):
        table = np.array([self.labels[t] for t in self.function.tables[i.operands[1]]])
        index = self.source(i, i.operands[0], "u32")

        def go(live, _):
            k = index()[live]
            if (k >= len(table)).any():
                raise Fault("out of bounds", f"branch {int(k.max())} of {len(table)}")
            self.launch.pc[live] = table[k]
            return False
        return STOP, go

    def exit(self, i):
        return STOP, self.launch.end

    def ret(self, i):
        return STOP, self.launch.end if self.function.entry else self.launch.leave_function

    def trap(self, i):
        def stop(mask):
            raise Fault("trap", "the program stops itself")
        return STEP, stop

    def call(self, i):
        """call{.uni} (result), name, (arguments): parameter memory is copied in and, at the end of
        the function, out."""
        operands = list(i.operands)
        result = operands.pop(0).strip("()") if operands[0][0] == "(" else None
        name = operands.pop(0)
        if name not in self.module.functions:
            raise Unsupported(f"call of {name}")
        function = self.module.functions[name]
        given = split_list(operands[0].strip("()")) if operands else []
        launch = self.launch
        copies = [(launch.offset[i.names[a]], launch.offset[f"{name}/{p.name}"], p.size)
                  for a, p in zip(given, function.parameters, strict=True)]

        def enter(live, at):
            launch.parameter.copy(live, copies)
            launch.enter_function(live, at + 1, name)
            return False
        return STOP, enter

    def take_result(self, i):
        """What follows a call: the function's result becomes the caller's."""
        if i.operands[0][0] != "(":
            return STEP, lambda mask: None
        function = self.module.functions[i.operands[1]]
        to = self.launch.offset[i.names[i.operands[0].strip("()")]]
        result = function.results[0]
        copies = [(self.launch.offset[f"{function.name}/{result.name}"], to, result.size)]
        return STEP, lambda mask: self.launch.parameter.copy(mask, copies)

    def barrier(self, i):
        op = i.opcode
        if "warp" in op:
            return STOP, warps.warp_barrier(self, i)
        if "sync" not in op or any(m not in ("bar", "barrier", "sync", "cta", "aligned")
                                   for m in op):
            raise Unsupported(".".join(op))
        if i.operands[0] != "0" or len(i.operands) > 1 and (
                number(i.operands[1]) != self.launch.block_threads):
            raise Unsupported(f"barrier of a part of the block or with a number: {i.line}")
        return STOP, self.launch.barrier

    def move(self, i):
        kind = i.opcode[-1]
        to, from_ = i.operands
        size = SIZES.get(kind)
        if to[0] == "{":
            parts = split_list(to.strip("{}"))
            part = size // len(parts)
            value = self.source(i, from_, f"b{8 * size}")
            stores = [self.target(i, p, f"b{8 * part}") for p in parts]

            def unpack(mask):
                whole = np.ascontiguousarray(value()).view(RAW[part]).reshape(-1, len(parts)).copy()
                for k, store in enumerate(stores):
                    store(whole[:, k], mask)
            return STEP, unpack
        if from_[0] == "{":
            parts = split_list(from_.strip("{}"))
            part = size // len(parts)
            values = [self.source(i, p, f"b{8 * part}") for p in parts]
            store = self.target(i, to, f"b{8 * size}")

            def pack(mask):
                whole = np.empty((self.launch.lanes, len(parts)), RAW[part])
                for k, value in enumerate(values):
                    whole[:, k] = value()
                store(whole.view(RAW[size])[:, 0], mask)
            return STEP, pack
        value, store = self.source(i, from_, kind), self.target(i, to, kind)
        return STEP, lambda mask: store(value(), mask)

    def to_space(self, i):
        """cvta: the windows of shared, local and parameter memory are added or taken away."""
        kind = i.opcode[-1]
        base = {"global": 0, "const": 0, "shared": SHARED, "local": LOCAL, "param": PARAMETER}
        space = next((s for s in i.opcode if s in base), None)
        if space is None or any(m.startswith("shared::cl") for m in i.opcode):
            raise Unsupported(i.line)
        plus = np.uint64(base[space])
        value, store = self.source(i, i.operands[1], kind), self.target(i, i.operands[0], kind)
        if "to" in i.opcode:
            return STEP, lambda mask: store(value() - plus, mask)
        return STEP, lambda mask: store(value() + plus, mask)

    def is_space(self, i):
        value, store = self.source(i, i.operands[1], "u64"), self.target(i, i.operands[0], "pred")
        wanted = transfers.WINDOWS.index(i.opcode[1])
        return STEP, lambda mask: store(transfers.window_of(value()) == wanted, mask)
