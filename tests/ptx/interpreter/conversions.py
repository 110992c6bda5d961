# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""cvt: between integers, between floating types, and from one to the other."""

import numpy as np

from . import rounding
from .arithmetic import FLOATS
from .faults import Unsupported
from .operations import ROUNDINGS, Operation, dtype_of, instruction, known

WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def between_integers(to, sat):
    target = dtype_of(to)
    if not sat:
        return lambda a: a.astype(target)
    low, high = np.iinfo(target).min, np.iinfo(target).max

    def compute(a):
        own = np.iinfo(a.dtype)
        return np.clip(a, max(low, own.min), min(high, own.max)).astype(target)
    return compute


def to_integer(kind, to, whole, ftz):
    """Clamped to the range of the result; what is no number becomes what the manual says."""
    target = dtype_of(to)
    info = np.iinfo(target)
    wide = kind == "f64" or target.itemsize == 8
    nan = (info.min if target.kind == "i" else 1 << 63 if target.itemsize == 8 else 1 << 31) \
        if wide else 0
    top = 2.0 ** (8 * target.itemsize - (target.kind == "i"))

    def compute(a):
        x = whole(rounding.to_f64(rounding.flush(a, kind) if ftz else a, kind))
        inside = (x >= float(info.min)) & (x < top)
        out = np.where(inside, x, 0.0).astype(target)
        out = np.where(x >= top, target.type(info.max), out)
        out = np.where(x < float(info.min), target.type(info.min), out)
        return np.where(np.isnan(x), target.type(nan), out)
    return compute


def from_integer(kind, to, mode):
    target = np.dtype(np.float32 if to == "f32" else np.float64)
    if to in ("f32", "f64") and mode == "rn":
        return lambda a: a.astype(target)
    if dtype_of(kind).itemsize == 8:
        raise Unsupported(f"cvt.{mode}.{to}.{kind}")
    return lambda a: rounding.from_f64(a.astype(np.float64), to, mode)


def between_floats(kind, to, mode, opcode):
    whole = next((WHOLE[m] for m in opcode if m in WHOLE), None)
    ftz, sat, relu = "ftz" in opcode, "sat" in opcode, "relu" in opcode

    def compute(a):
        if ftz and kind == "f32":
            a = rounding.flush(a, kind)
        x = rounding.to_f64(a, kind)
        if whole:
            x = np.copysign(whole(x), x)
        if sat:
            x = rounding.saturate(x)
        if relu:
            x = np.where(np.isnan(x) | (x > 0), x, 0.0)
        out = rounding.from_f64(x, to, mode)
        return rounding.flush(out, to) if ftz and to == "f32" else out
    return compute


@instruction("cvt")
def convert(opcode, count):
    to, kind = opcode[-2], opcode[-1]
    known(opcode[1:-2], ROUNDINGS + tuple(WHOLE) + ("ftz", "sat", "relu"), opcode)
    mode = next((m for m in opcode if m in ROUNDINGS), "rn")
    if to in ("f16x2", "bf16x2") and kind == "f32" and count == 2:
        one = between_floats(kind, to[:-2], mode, opcode)

        def pair(high, low):
            h, l = (one(v).view(np.uint16).astype(np.uint32) for v in (high, low))
            return (h << np.uint32(16)) | l
        return Operation((to,), (kind, kind), pair)
    plain = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64") + FLOATS
    if to not in plain or kind not in plain or count != 1:
        raise Unsupported(".".join(opcode))
    if kind in FLOATS and to in FLOATS:
        compute = between_floats(kind, to, mode, opcode)
    elif kind in FLOATS:
        whole = next((WHOLE[m] for m in opcode if m in WHOLE), np.trunc)
        compute = to_integer(kind, to, whole, "ftz" in opcode and kind == "f32")
    elif to in FLOATS:
        compute = from_integer(kind, to, mode)
        if "sat" in opcode:
            raise Unsupported(".".join(opcode))
    else:
        compute = between_integers(to, "sat" in opcode)
    return Operation((to,), (kind,), compute)
