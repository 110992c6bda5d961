# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Loads, stores and atomics of every state space, with their checks."""

import re

import numpy as np

from . import rounding
from .arithmetic import COMPARISONS, FLOATS, extremum
from .faults import Fault, Unsupported
from .memory import GLOBAL, WINDOW
from .operations import RAW, dtype_of
from .parser import SIZES, split_list

SPACES = ("global", "shared", "local", "param", "const")
# By the number of its window; all above is global.
WINDOWS = ("global", "shared", "local", "param")
WINDOW_BITS = WINDOW.bit_length() - 1
PLAIN = {"weak", "volatile", "nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "unified", "v2", "v4",
         "v8"}


def window_of(addresses):
    w = addresses.view(np.int64) >> WINDOW_BITS
    return np.where((w >= 1) & (w <= 3), w, 0)


def checked_modifiers(i, extra=()):
    """The state space of a transfer; Unsupported for what is not understood."""
    space = "generic"
    for m in i.opcode[1:-1]:
        base = m.split("::")[0]
        if base in SPACES and m in (base, "shared::cta", "param::entry", "param::func"):
            space = base
        elif not (m in PLAIN or m in extra or base in ("L1", "L2", "level")):
            raise Unsupported(f"modifier .{m} of {'.'.join(i.opcode)}")
    return space


class Access:
    """Moves values between registers and one state space, for the lanes that are given."""

    def __init__(self, launch, line):
        self.launch, self.line = launch, line

    def place(self, space, addresses, size, what, lanes):
        """The bytes and the offsets in them; checks alignment and bounds."""
        bad = addresses & (size - 1)
        if np.count_nonzero(bad):
            k = np.flatnonzero(bad)[0]
            where = f"{int(addresses[k]):#x}"
            if space == "global":
                where = self.launch.memory.place(addresses[k])
            raise Fault("misaligned", f"{what} of {size} bytes of {space} memory at {where}")
        launch = self.launch
        try:
            if space in ("global", "const"):
                return (launch.memory.bytes,
                        launch.memory.translate(addresses.astype(np.int64).view(np.uint64), size,
                                                what))
            memory = {"shared": launch.shared, "local": launch.local,
                      "param": launch.parameter}[space]
            owner = launch.block_of[lanes] if space == "shared" else lanes
            return memory.bytes, memory.translate(addresses, size, what, owner)
        except Fault as fault:
            lane = lanes[fault.index]
            raise Fault(fault.check, f"{fault.text}, by block {launch.block_of[lane]} thread "
                        f"{launch.thread_of[lane]}") from None

    def described(self, space, at, addresses):
        """A function that puts a place of this memory into words."""
        if space != "global":
            stride = max(self.launch.shared.stride, 1)
            return lambda place: f"byte {place % stride}"

        def words(place):
            k = np.argmin(np.abs(at - place))
            return self.launch.memory.place(int(addresses[k]) + place - int(at[k]))
        return words

    def spaces(self, space, addresses, lanes):
        """Splits generic addresses by their window: (space, addresses, lanes, index)."""
        if space != "generic":
            yield space, addresses, lanes, slice(None)
            return
        if int(np.minimum.reduce(addresses, initial=GLOBAL)) >= GLOBAL:
            yield "global", addresses, lanes, slice(None)
            return
        window = window_of(addresses)
        if np.count_nonzero(window == window[0]) == len(window):
            yield WINDOWS[window[0]], addresses - int(window[0]) * WINDOW, lanes, slice(None)
            return
        for w in np.unique(window):
            index = np.flatnonzero(window == w)
            yield (WINDOWS[w], addresses[index] - int(w) * WINDOW, lanes[index], index)

    def race(self, what, space, at, size, lanes, addresses):
        if space in ("shared", "global"):
            self.launch.races[space].access(what, at, size, lanes,
                                            self.described(space, at, addresses))

    def load(self, space, addresses, size, count, lanes):
        """`count` vectors of raw values, whole for the given lanes."""
        out = None
        for own, a, who, index in self.spaces(space, addresses, lanes):
            bytes_, at = self.place(own, a, size * count, "read", who)
            self.race("read", own, at, size * count, who, a)
            values, missing = bytes_.read(at, size, count)
            if missing is not None:
                k, j = np.argwhere(missing.reshape(count, -1))[0]
                where = (self.launch.memory.place(int(a[j]) + k * size) if own == "global"
                         else f"byte {int(a[j]) + k * size}")
                raise Fault("uninitialized", f"read of {size} bytes of {own} memory, {where}, "
                            f"by block {self.launch.block_of[who[j]]} thread "
                            f"{self.launch.thread_of[who[j]]}")
            if len(who) == len(lanes):
                return values.reshape(count, -1)
            if out is None:
                out = np.zeros((count, len(lanes)), RAW[size])
            out[:, index] = values
        return out

    def store(self, space, addresses, values, lanes):
        size = values[0].dtype.itemsize
        for own, a, who, index in self.spaces(space, addresses, lanes):
            if own == "const":
                raise Fault("out of bounds", "a write of constant memory")
            bytes_, at = self.place(own, a, size * len(values), "write", who)
            self.race("write", own, at, size * len(values), who, a)
            for k, v in enumerate(values):
                bytes_.write(at + k * size, np.ascontiguousarray(v[index]))


def shape_of(i, operand):
    """Type, registers and their number of a load or store."""
    names = split_list(operand.strip("{}"))
    count = next((int(m[1:]) for m in i.opcode if re.fullmatch(r"v[248]", m)), 1)
    if len(names) != count:
        raise Unsupported(f"{len(names)} registers for {'.'.join(i.opcode)}")
    return i.opcode[-1], names, count


def load(translator, i):
    launch = translator.launch
    space = checked_modifiers(i)
    kind, names, count = shape_of(i, i.operands[0])
    address = translator.address(i, i.operands[1])
    size = SIZES[kind]
    stores = [translator.target(i, n, kind) for n in names]
    access, every, dtype = Access(launch, i), np.arange(launch.lanes), dtype_of(kind)

    def step(mask):
        if mask is None:
            lanes, at = every, address()
        else:
            lanes = mask.nonzero()[0]
            at = address()[lanes]
        values = access.load(space, at, size, count, lanes).view(dtype)
        for store, v in zip(stores, values):
            store(v, mask, lanes)
    return step


def store(translator, i):
    launch = translator.launch
    space = checked_modifiers(i)
    kind, names, count = shape_of(i, i.operands[1])
    address = translator.address(i, i.operands[0])
    raw = f"b{8 * SIZES[kind]}"
    sources = [translator.source(i, n, kind if n[:2] in ("0f", "0d") else raw) for n in names]
    access, every, word = Access(launch, i), np.arange(launch.lanes), RAW[SIZES[kind]]

    def step(mask):
        lanes = every if mask is None else mask.nonzero()[0]
        values = [s()[lanes].view(word) for s in sources]
        access.store(space, address()[lanes], values, lanes)
    return step


def float_sum(kind):
    if kind not in FLOATS:
        return lambda a, b: a + b
    return lambda a, b: rounding.from_f64(rounding.odd_sum(
        rounding.to_f64(a, kind), rounding.to_f64(b, kind)), kind) if kind != "f64" else a + b


def atomic_function(name, kind):
    """old, operands to the new value."""
    one = dtype_of(kind).type(1)
    zero = dtype_of(kind).type(0)
    table = {
        "add": float_sum(kind), "exch": lambda a, b: b,
        "min": extremum("min", kind, False), "max": extremum("max", kind, False),
        "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
        "inc": lambda a, b: np.where(a >= b, zero, a + one),
        "dec": lambda a, b: np.where((a == 0) | (a > b), b, a - one),
        "cas": lambda a, b, c: np.where(COMPARISONS["eq"](a, b), c, a),
    }
    return table[name]


ATOMIC_ORDERS = ("relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "noftz")


def atomic(translator, i):
    """One lane after the other, in their order."""
    launch, returns = translator.launch, i.opcode[0] == "atom"
    names = ("add", "exch", "min", "max", "and", "or", "xor", "inc", "dec", "cas")
    space = checked_modifiers(i, ATOMIC_ORDERS + names)
    kind = i.opcode[-1]
    if kind not in SIZES or "x" in kind:
        raise Unsupported(".".join(i.opcode))
    name = next(m for m in i.opcode if m in names)
    size, function = SIZES[kind], atomic_function(name, kind)
    operands = list(i.operands)
    keep = translator.target(i, operands.pop(0), kind) if returns else None
    address = translator.address(i, operands[0])
    sources = [translator.source(i, o, kind) for o in operands[1:]]
    access, every, dtype = Access(launch, i), np.arange(launch.lanes), dtype_of(kind)

    def step(mask):
        lanes = every if mask is None else np.flatnonzero(mask)
        old = np.zeros(launch.lanes, dtype)
        values = [s() for s in sources]
        for own, a, who, _ in access.spaces(space, address()[lanes], lanes):
            bytes_, at = access.place(own, a, size, "atomic", who)
            access.race("atomic", own, at, size, who, a)
            for place, lane in zip(at, who):
                spot = np.array([place])
                now, missing = bytes_.read(spot, size)
                if missing is not None:
                    raise Fault("uninitialized", f"atomic on unwritten {own} memory")
                old[lane] = now.view(dtype)[0]
                new = function(now.view(dtype), *[v[lane:lane + 1] for v in values])
                bytes_.write(spot, np.ascontiguousarray(new).astype(dtype))
        launch.count["atomics on floats" if kind in FLOATS else "atomics"] += len(lanes)
        if keep:
            keep(old, mask)
    return step


NAMES = {"ld": load, "ldu": load, "st": store, "atom": atomic, "red": atomic}
