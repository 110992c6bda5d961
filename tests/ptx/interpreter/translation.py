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
STEP, JUMP, STOP, LATER = range(4)


class Line(NamedTuple):
    """An instruction ready to run. STEP: action(mask); JUMP: target; STOP: action(mask, at); LATER:
    what translate_line() needs."""
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
            for name, kind in f.registers.items():
                dtype = bool if kind == "pred" else RAW[SIZES[kind]] if kind in SIZES else None
                if dtype is None:
                    raise Unsupported(f"register of type {kind}")
                self.registers[name] = np.zeros(self.launch.lanes, dtype)
            within = f, {label: start + at for label, at in f.labels.items()}
            # The first launch of a function finds what is unknown in it, also where it does not come.
            known = f.name in self.module.translated
            for i in f.code:
                guard = self.registers[i.guard] if i.guard else None
                line = Line(LATER, within, guard, i.negated, i)
                self.launch.lines.append(line if known else self.translate_line(line))
            self.module.translated.add(f.name)
            self.launch.starts[f.name + "/end"] = len(self.launch.lines)

    def translate_line(self, line):
        """A line of functions() with what it does."""
        self.function, self.labels = line.action
        i = line.source
        try:
            kind, action = self.translate(i)
        except (KeyError, IndexError, ValueError) as error:
            raise Unsupported(f"{type(error).__name__} {error} in `{i.line}`") from error
        except Unsupported as error:
            raise Unsupported(f"{error}, in `{i.line}`") from error
        return line._replace(kind=kind, action=action)

    # --- operands --------------------------------------------------------------------------------

    def register(self, i, text):
        """The array of a register, or None."""
        name = i.names.get(text)
        return self.registers.get(name) if name is not None else None

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
        """A function that stores values of a type in a register, for a mask of lanes or all."""
        if text == "_":
            return lambda values, mask: None
        r = self.register(i, text)
        if r is None:
            raise Unsupported(f"result {text}")
        dtype = dtype_of(kind)
        if (r.dtype == bool) != (dtype == bool) or r.dtype.itemsize < dtype.itemsize:
            raise Unsupported(f"result {text} as {kind}")
        if r.dtype.itemsize == dtype.itemsize:
            view = r.view(dtype)

            def store(values, mask):
                if mask is None:
                    view[...] = values
                else:
                    np.copyto(view, values, where=mask)
            return store
        # A wider register takes the sign of the value along, or zeros.
        wide = np.dtype(f"{'i' if dtype.kind == 'i' else 'u'}{r.dtype.itemsize}")
        view = r.view(wide)

        def store_wide(values, mask):
            if dtype.kind == "f":
                values = np.ascontiguousarray(values).view(RAW[dtype.itemsize])
            np.copyto(view, values.astype(wide), where=True if mask is None else mask)
        return store_wide

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
                whole = np.stack([v() for v in values], 1)
                store(np.ascontiguousarray(whole).view(RAW[size])[:, 0], mask)
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
