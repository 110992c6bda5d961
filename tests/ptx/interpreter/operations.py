# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The table of instructions that compute: opcode to types and a function of arrays.

`operation(opcode, count)` gives the Operation of an opcode with `count` sources. What its builder
does not know raises Unsupported, so that no modifier is dropped in silence.
"""

import functools
from typing import Callable, NamedTuple

import numpy as np

from .faults import Unsupported
from .parser import SIZES

RAW = {1: np.dtype("u1"), 2: np.dtype("u2"), 4: np.dtype("u4"), 8: np.dtype("u8")}
ROUNDINGS = ("rn", "rz", "rm", "rp")


class Operation(NamedTuple):
    """Types of results and sources, and what computes the results. `picky` ones see live lanes
    alone, because values of other lanes could stop them."""
    results: tuple
    sources: tuple
    compute: Callable
    picky: bool = False


def dtype_of(kind):
    """numpy's type for values of a PTX type; bits where numpy has none."""
    if kind == "pred":
        return np.dtype(bool)
    if kind in ("f16", "f32", "f64"):
        return np.dtype(f"f{SIZES[kind]}")
    if kind[0] == "s" and "x" not in kind:
        return np.dtype(f"i{SIZES[kind]}")
    return RAW[SIZES[kind]]


BUILDERS = {}


def instruction(*names):
    """Registers a builder: opcode parts and number of sources to an Operation."""
    def enter(builder):
        for name in names:
            BUILDERS[name] = builder
        return builder
    return enter


def known(modifiers, allowed, opcode):
    """Raises Unsupported unless all modifiers are among the allowed ones."""
    for m in modifiers:
        if m not in allowed:
            raise Unsupported(f"modifier .{m} of {'.'.join(opcode)}")


@functools.lru_cache(maxsize=None)
def built(opcode, count):
    """What many lines share."""
    return BUILDERS[opcode[0]](list(opcode), count)


def operation(opcode, count):
    if opcode[0] not in BUILDERS:
        raise Unsupported(f"instruction {'.'.join(opcode)}")
    return built(tuple(opcode), count)


def packed(element, lanes=2):
    """A function of whole registers from one of their parts of type `element`."""
    part = RAW[SIZES[element]]

    def widen(function):
        def compute(*sources):
            parts = [np.ascontiguousarray(s).view(part).reshape(-1, lanes).T for s in sources]
            done = [np.ascontiguousarray(function(*[np.ascontiguousarray(p[k]).view(
                dtype_of(element)) for p in parts])).view(part) for k in range(lanes)]
            return np.ascontiguousarray(np.stack(done, 1)).view(RAW[lanes * part.itemsize])[:, 0]
        return compute
    return widen


PACKED = {"f16x2": "f16", "bf16x2": "bf16", "u16x2": "u16", "s16x2": "s16", "f32x2": "f32"}


def uniform(kind, count, function, **more):
    """An Operation whose sources and result are of one type, packed ones part by part."""
    if kind in PACKED:
        function = packed(PACKED[kind])(function)
    return Operation((kind,), (kind,) * count, function, **more)
