# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Logic, shifts, fields of bits, permutations of bytes."""

import numpy as np

from .faults import Unsupported
from .operations import Operation, dtype_of, instruction, known, uniform


@instruction("and", "or", "xor", "not", "cnot")
def logic(opcode, count):
    name, kind = opcode[0], opcode[-1]
    known(opcode[1:-1], (), opcode)
    if name == "cnot":
        return uniform(kind, count, lambda a: (a == 0).astype(a.dtype))
    table = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
             "not": np.invert}
    return uniform(kind, count, table[name])


@instruction("lop3")
def logic_of_three(opcode, _):
    known(opcode[1:], ("b32",), opcode)

    def compute(a, b, c, table):
        out = np.zeros(a.shape, np.uint32)
        chosen = table.astype(np.uint32)
        for k in range(8):
            term = (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
            out |= np.where((chosen >> np.uint32(k)) & np.uint32(1), term, np.uint32(0))
        return out
    return Operation(("b32",), ("b32", "b32", "b32", "b32"), compute)


@instruction("shl", "shr")
def shift(opcode, _):
    name, kind = opcode[0], opcode[-1]
    known(opcode[1:-1], (), opcode)
    bits, to = 8 * dtype_of(kind).itemsize, dtype_of(kind)

    def compute(a, amount):
        far = amount >= bits
        if not np.count_nonzero(far):
            return a << amount.astype(to) if name == "shl" else a >> amount.astype(to)
        by = np.where(far, np.uint32(bits - 1), amount).astype(to)
        out = a << by if name == "shl" else a >> by
        # Beyond its width a number with a sign shifts in copies of it; bits-1 places do the same.
        return out if kind[0] == "s" and name == "shr" else np.where(far, to.type(0), out)
    return Operation((kind,), (kind, "u32"), compute)


@instruction("shf")
def funnel_shift(opcode, _):
    known(opcode[1:], ("l", "r", "wrap", "clamp", "b32"), opcode)
    wrap, left = "wrap" in opcode, "l" in opcode

    def compute(low, high, amount):
        n = (amount & np.uint32(31)) if wrap else np.minimum(amount, np.uint32(32))
        both = (high.astype(np.uint64) << np.uint64(32)) | low
        n = n.astype(np.uint64)
        if left:
            return ((both << n) >> np.uint64(32)).astype(np.uint32)
        return (both >> n).astype(np.uint32)
    return Operation(("b32",), ("b32", "b32", "u32"), compute)


@instruction("bfe")
def extract_field(opcode, _):
    kind = opcode[-1]
    known(opcode[1:-1], (), opcode)
    bits = 8 * dtype_of(kind).itemsize
    unsigned = np.dtype(f"u{bits // 8}")
    one, top = unsigned.type(1), bits - 1

    def compute(a, start, length):
        start, length = start & np.uint32(255), length & np.uint32(255)
        word = a.view(unsigned)
        ones = np.where(length >= bits, ~unsigned.type(0),
                        (one << np.minimum(length, np.uint32(top)).astype(unsigned)) - one)
        low = np.where(start < bits, word >> np.minimum(start, np.uint32(top)).astype(unsigned),
                       unsigned.type(0)) & ones
        if kind[0] == "s":
            at = np.minimum(start.astype(np.int64) + length - 1, top).clip(0).astype(unsigned)
            negative = (((word >> at) & one) == 1) & (length > 0)
            # What lies above the word's own top repeats its sign.
            have = np.minimum(length.astype(np.int64), np.maximum(bits - start.astype(np.int64), 0))
            kept = np.where(have >= bits, ~unsigned.type(0),
                            (one << np.minimum(have, top).astype(unsigned)) - one)
            low = np.where(negative, low | ~kept, low)
        return low.view(a.dtype)
    return Operation((kind,), (kind, "u32", "u32"), compute)


@instruction("bfi")
def insert_field(opcode, _):
    kind = opcode[-1]
    known(opcode[1:-1], (), opcode)
    to = dtype_of(kind)
    bits, one = 8 * to.itemsize, to.type(1)

    def compute(a, b, start, length):
        start, length = start & np.uint32(255), length & np.uint32(255)
        ones = np.where(length >= bits, ~to.type(0),
                        (one << np.minimum(length, np.uint32(bits - 1)).astype(to)) - one)
        by = np.minimum(start, np.uint32(bits - 1)).astype(to)
        mask = np.where(start < bits, ones << by, to.type(0))
        return (b & ~mask) | ((a << by) & mask)
    return Operation((kind,), (kind, kind, "u32", "u32"), compute)


def ones_in(a):
    return np.unpackbits(np.ascontiguousarray(a).view(np.uint8).reshape(len(a), -1),
                         axis=1).sum(1, dtype=np.uint32)


def spread_right(a):
    """All bits below the highest one set, too."""
    n, bits = 1, 8 * a.dtype.itemsize
    while n < bits:
        a = a | (a >> a.dtype.type(n))
        n *= 2
    return a


@instruction("popc", "clz")
def count_bits(opcode, _):
    kind = opcode[-1]
    if opcode[0] == "popc":
        return Operation(("u32",), (kind,), ones_in)
    bits = 8 * dtype_of(kind).itemsize
    return Operation(("u32",), (kind,), lambda a: np.uint32(bits) - ones_in(spread_right(a)))


@instruction("bfind")
def find_highest(opcode, _):
    kind = opcode[-1]
    known(opcode[1:-1], ("shiftamt",), opcode)
    bits = 8 * dtype_of(kind).itemsize

    def compute(a):
        word = (np.where(a < 0, ~a, a) if kind[0] == "s" else a).view(np.dtype(f"u{bits // 8}"))
        at = ones_in(spread_right(word)) - np.uint32(1)
        if "shiftamt" in opcode:
            return np.where(at == 0xFFFFFFFF, at, np.uint32(bits - 1) - at)
        return at
    return Operation(("u32",), (kind,), compute)


@instruction("brev")
def reverse(opcode, _):
    kind = opcode[-1]

    def compute(a):
        each = np.unpackbits(np.ascontiguousarray(a).view(np.uint8).reshape(len(a), -1), axis=1,
                             bitorder="little")
        return np.packbits(each[:, ::-1], axis=1, bitorder="little").view(a.dtype)[:, 0]
    return uniform(kind, 1, compute)


@instruction("prmt")
def permute_bytes(opcode, _):
    if opcode != ["prmt", "b32"]:
        raise Unsupported(".".join(opcode))

    def compute(a, b, choice):
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        out = np.zeros(a.shape, np.uint32)
        for k in range(4):
            c = (choice >> np.uint32(4 * k)) & np.uint32(15)
            place = np.uint64(8) * (c & np.uint32(7)).astype(np.uint64)
            byte = ((both >> place) & np.uint64(255)).astype(np.uint32)
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            out |= np.where(c & np.uint32(8), sign, byte) << np.uint32(8 * k)
        return out
    return Operation(("b32",), ("b32", "b32", "b32"), compute)
