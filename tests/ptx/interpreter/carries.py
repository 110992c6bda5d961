# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Sums that leave a carry for the next instruction, or take one: numbers of several words."""

import numpy as np

from .arithmetic import high_product
from .faults import Unsupported
from .operations import dtype_of, known

TAKING = ("addc", "subc", "madc")


def is_carried(opcode):
    return opcode[0] in TAKING or "cc" in opcode


def carried(translator, i):
    """PTX ISA, Extended-Precision Arithmetic Instructions: the carry, or for a difference what it
    borrows, is CC.CF. Nothing else writes it, so each lane has one number."""
    name, kind = i.opcode[0], i.opcode[-1]
    base = name[:3]
    if base not in ("add", "sub", "mad") or kind not in ("u32", "s32"):
        raise Unsupported(".".join(i.opcode))
    known(i.opcode[1:-1], ("cc", "lo", "hi") if base == "mad" else ("cc",), i.opcode)
    values = [translator.source(i, s, kind) for s in i.operands[1:]]
    if len(values) != (3 if base == "mad" else 2):
        raise Unsupported(f"{len(values)} sources")
    store = translator.target(i, i.operands[0], kind)
    carry, takes, leaves = translator.carry, name in TAKING, "cc" in i.opcode
    times = high_product if "hi" in i.opcode else np.multiply

    def act(mask):
        *factors, second = [v() for v in values]
        first = times(*factors) if base == "mad" else factors[0]
        a, b = (np.ascontiguousarray(x).view(np.uint32).astype(np.int64) for x in (first, second))
        if takes:
            b = b + carry
        total = a - b if base == "sub" else a + b
        if leaves:
            np.copyto(carry, (total >> 32) & 1, where=True if mask is None else mask)
        store(total.astype(np.uint32).view(dtype_of(kind)), mask)
    return act
