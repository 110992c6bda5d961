# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Arithmetic of integers and floating numbers, comparisons and selections."""

import numpy as np

from . import rounding
from .faults import Fault, Unsupported
from .operations import PACKED, ROUNDINGS, Operation, dtype_of, instruction, known, uniform
from .rounding import F64

FLOATS = ("f16", "bf16", "f32", "f64")


def part_type(kind):
    return PACKED.get(kind, kind)


def is_float(kind):
    return part_type(kind) in FLOATS


def mode_of(opcode, default="rn"):
    return next((m for m in opcode if m in ROUNDINGS), default)


def finished(function, kind, opcode):
    """The function with .ftz, .sat and .relu of its opcode."""
    ftz, sat = "ftz" in opcode and kind != "bf16", "sat" in opcode
    relu = "relu" in opcode
    if not (ftz or sat or relu):
        return function

    def compute(*sources):
        if ftz:
            sources = [rounding.flush(s, kind) for s in sources]
        out = function(*sources)
        if ftz:
            out = rounding.flush(out, kind)
        if sat or relu:
            wide = rounding.to_f64(out, kind)
            wide = rounding.saturate(wide) if sat else np.where(wide > 0, wide, 0.0)
            out = rounding.from_f64(wide, kind)
        return out
    return compute


def float_add(kind, mode):
    if mode == "rn" and kind in ("f32", "f64"):
        return np.add
    if kind == "f64":
        def directed(a, b):
            s, e = rounding.two_sum(a, b)
            move = {"rz": (e > 0) != (s > 0), "rm": e < 0, "rp": e > 0}[mode] & (e != 0)
            up = {"rz": s < 0, "rm": np.zeros(s.shape, bool), "rp": np.ones(s.shape, bool)}[mode]
            return np.where(move & np.isfinite(s), rounding.step(s, up), s)
        return directed

    def compute(a, b):
        return rounding.from_f64(rounding.odd_sum(rounding.to_f64(a, kind),
                                                  rounding.to_f64(b, kind)), kind, mode)
    return compute


def float_multiply(kind, mode):
    if mode == "rn" and kind in ("f32", "f64"):
        return np.multiply
    if kind == "f64":
        raise Unsupported(f"mul.{mode}.f64")
    return lambda a, b: rounding.from_f64(
        rounding.to_f64(a, kind) * rounding.to_f64(b, kind), kind, mode)


def float_fma(kind, mode):
    if kind == "f64":
        if mode != "rn":
            raise Unsupported(f"fma.{mode}.f64")
        return rounding.fma64

    def compute(a, b, c):
        product = rounding.to_f64(a, kind) * rounding.to_f64(b, kind)
        return rounding.from_f64(rounding.odd_sum(product, rounding.to_f64(c, kind)), kind, mode)
    return compute


@instruction("add", "sub", "mul", "fma", "mad")
def add_and_multiply(opcode, count):
    name, kind = opcode[0], opcode[-1]
    part = part_type(kind)
    if not is_float(kind):
        return integer_arithmetic(opcode, count)
    known(opcode[1:-1], ROUNDINGS + ("ftz", "sat", "relu"), opcode)
    mode = mode_of(opcode)
    if name == "sub":
        plus = float_add(part, mode)
        function = lambda a, b: plus(a, negated(b, part))
    else:
        make = {"add": float_add, "mul": float_multiply, "fma": float_fma, "mad": float_fma}[name]
        function = make(part, mode)
    return uniform(kind, count, finished(function, part, opcode))


def high_product(a, b):
    """The upper half of the product of two integers of one type."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}8")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(bits)).astype(a.dtype)
    u, v = a.view(np.uint64), b.view(np.uint64)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    ul, uh, vl, vh = u & low, u >> shift, v & low, v >> shift
    middle = uh * vl + ((ul * vl) >> shift)
    other = ul * vh + (middle & low)
    high = uh * vh + (middle >> shift) + (other >> shift)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, v, np.uint64(0)) - np.where(b < 0, u, np.uint64(0))
    return high.view(a.dtype)


def clamp_sum(a, b, sign):
    wide = a.astype(np.int64) + sign * b.astype(np.int64)
    return np.clip(wide, -2 ** 31, 2 ** 31 - 1).astype(a.dtype)


def integer_arithmetic(opcode, count):
    name, kind = opcode[0], opcode[-1]
    if name == "fma":
        raise Unsupported(".".join(opcode))
    if name in ("add", "sub"):
        known(opcode[1:-1], ("sat",), opcode)
        if "sat" in opcode:
            sign = 1 if name == "add" else -1
            return uniform(kind, count, lambda a, b: clamp_sum(a, b, sign))
        return uniform(kind, count, np.add if name == "add" else np.subtract)
    known(opcode[1:-1], ("lo", "hi", "wide"), opcode)
    if kind in PACKED:
        raise Unsupported(".".join(opcode))
    if "wide" in opcode:
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        to = dtype_of(wide)
        if name == "mul":
            return Operation((wide,), (kind, kind), lambda a, b: a.astype(to) * b.astype(to))
        return Operation((wide,), (kind, kind, wide),
                         lambda a, b, c: a.astype(to) * b.astype(to) + c)
    times = high_product if "hi" in opcode else np.multiply
    if name == "mul":
        return uniform(kind, count, times)
    return uniform(kind, count, lambda a, b, c: times(a, b) + c)


def nonzero(b):
    if (b == 0).any():
        raise Fault("division by zero", "an integer is divided by zero")


def divided(a, b):
    """Quotient toward zero, whole lanes only."""
    nonzero(b)
    if a.dtype.kind == "u":
        return a // b
    q = a // b
    return q + ((q * b != a) & ((a < 0) != (b < 0))).astype(a.dtype)


@instruction("div", "rem")
def divide(opcode, count):
    name, kind = opcode[0], opcode[-1]
    if not is_float(kind):
        known(opcode[1:-1], (), opcode)
        if name == "div":
            return uniform(kind, count, divided, picky=True)
        return uniform(kind, count, lambda a, b: a - b * divided(a, b), picky=True)
    known(opcode[1:-1], ROUNDINGS + ("approx", "full", "ftz"), opcode)
    mode = mode_of(opcode)
    if mode != "rn":
        raise Unsupported(".".join(opcode))
    return uniform(kind, count, finished(np.divide, kind, opcode))


def of_double(function, kind):
    """A function of doubles as one of another type, rounded once."""
    return lambda a: rounding.from_f64(function(rounding.to_f64(a, kind)), kind)


def short_reciprocal(a):
    """1 / a with the lower half of the result cut off, as rcp.approx.ftz.f64 gives it."""
    bits = (1.0 / rounding.flush(a, "f64")).view(np.uint64) & np.uint64(0xFFFFFFFF00000000)
    return rounding.flush(bits.view(F64), "f64")


FUNCTIONS = {
    "rcp": lambda x: 1.0 / x, "sqrt": np.sqrt, "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "sin": np.sin, "cos": np.cos, "lg2": np.log2, "ex2": np.exp2, "tanh": np.tanh,
}


@instruction(*FUNCTIONS)
def function_of_one(opcode, count):
    name, kind = opcode[0], opcode[-1]
    known(opcode[1:-1], ("rn", "approx", "ftz"), opcode)
    part = part_type(kind)
    if name == "rcp" and kind == "f64" and "approx" in opcode:
        return uniform(kind, count, short_reciprocal)
    if name == "sqrt" and kind in ("f32", "f64"):
        function = np.sqrt
    elif name == "rcp" and kind in ("f32", "f64"):
        function = lambda a: a.dtype.type(1) / a
    else:
        function = of_double(FUNCTIONS[name], part)
    return uniform(kind, count, finished(function, part, opcode))


def sign_bit(a):
    return a.dtype.type(1 << (8 * a.dtype.itemsize - 1))


def bits_of(a):
    a = np.ascontiguousarray(a)
    return a.view(np.dtype(f"u{a.dtype.itemsize}"))


def negated(a, kind):
    if not is_float(kind):
        return np.negative(a)
    b = bits_of(a)
    return (b ^ sign_bit(b)).view(a.dtype)


def absolute(a, kind):
    if not is_float(kind):
        return np.abs(a)
    b = bits_of(a)
    return (b & ~sign_bit(b)).view(a.dtype)


@instruction("abs", "neg")
def sign(opcode, count):
    name, kind = opcode[0], opcode[-1]
    known(opcode[1:-1], ("ftz",), opcode)
    part = part_type(kind)
    change = absolute if name == "abs" else negated
    return uniform(kind, count, finished(lambda a: change(a, part), part, opcode))


@instruction("copysign")
def copy_sign(opcode, count):
    known(opcode[1:-1], (), opcode)
    return uniform(opcode[-1], count, lambda a, b: np.copysign(b, a))


def extremum(name, part, nan):
    """The smaller or larger one; a zero with a sign is below one without."""
    def two(a, b):
        if part not in FLOATS:
            return (np.minimum if name == "min" else np.maximum)(a, b)
        x, y = rounding.to_f64(a, part), rounding.to_f64(b, part)
        sx = np.signbit(x)
        first = (x < y) | ((x == y) & sx) if name == "min" else (x > y) | ((x == y) & ~sx)
        if nan:
            first = first & ~np.isnan(y) | np.isnan(x)
        else:
            first = first | np.isnan(y)
        return np.where(first, a, b)

    def many(*sources):
        out = sources[0]
        for s in sources[1:]:
            out = two(out, s)
        return out
    return many


@instruction("min", "max")
def minimum_and_maximum(opcode, count):
    name, kind = opcode[0], opcode[-1]
    known(opcode[1:-1], ("ftz", "NaN", "relu"), opcode)
    part = part_type(kind)
    if "relu" in opcode and part not in FLOATS:
        raise Unsupported(".".join(opcode))
    return uniform(kind, count, finished(extremum(name, part, "NaN" in opcode), part, opcode))


@instruction("testp")
def test_property(opcode, _):
    kind = opcode[-1]
    tiny = rounding.SMALLEST_NORMAL[kind]
    tests = {
        "finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan,
        "number": lambda a: ~np.isnan(a),
        "normal": lambda a: np.isfinite(a) & (np.abs(a) >= tiny),
        "subnormal": lambda a: (np.abs(a) < tiny) & (a != 0),
    }
    return Operation(("pred",), (kind,), tests[opcode[1]])


COMPARISONS = {
    "eq": np.equal, "ne": lambda a, b: (a < b) | (a > b), "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
    "equ": lambda a, b: ~((a < b) | (a > b)), "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b), "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b), "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: (a == a) & (b == b), "nan": lambda a, b: (a != a) | (b != b),
}
JOINS = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


@instruction("setp", "set")
def compare(opcode, _):
    """setp.cmp{.join}{.ftz}.type p{|q}, a, b{, c}; set: .dtype.type."""
    name, kind = opcode[0], opcode[-1]
    compare_ = COMPARISONS.get(opcode[1])
    rest = opcode[2:-1]
    to = rest.pop() if name == "set" else "pred"
    join = JOINS[rest.pop(0)] if rest and rest[0] in JOINS else None
    known(rest, ("ftz",), opcode)
    if compare_ is None or kind in PACKED or to in PACKED:
        raise Unsupported(".".join(opcode))
    ftz = "ftz" in rest and kind != "bf16"

    def test(a, b):
        if kind in FLOATS:
            if ftz:
                a, b = rounding.flush(a, kind), rounding.flush(b, kind)
            a, b = rounding.to_f64(a, kind), rounding.to_f64(b, kind)
        return compare_(a, b)

    def compute(a, b, c=None):
        t = test(a, b)
        p = t if join is None else join(t, c)
        if name == "setp":
            return p, (~t if join is None else join(~t, c))
        if to in FLOATS:
            return rounding.from_f64(p.astype(F64), to)
        return np.where(p, dtype_of(to).type(-1) if to[0] == "s" else
                        ~dtype_of(to).type(0), dtype_of(to).type(0))
    sources = (kind, kind) + (("pred",) if join else ())
    return Operation(("pred", "pred") if name == "setp" else (to,), sources, compute)


@instruction("selp")
def select(opcode, _):
    kind = opcode[-1]
    return Operation((kind,), (kind, kind, "pred"), lambda a, b, p: np.where(p, a, b))


@instruction("slct")
def select_by_sign(opcode, _):
    kind, by = opcode[-2], opcode[-1]
    known(opcode[1:-2], ("ftz",), opcode)
    return Operation((kind,), (kind, kind, by), lambda a, b, c: np.where(c >= 0, a, b))


@instruction("sad")
def sum_of_difference(opcode, _):
    kind = opcode[-1]
    return uniform(kind, 3, lambda a, b, c: c + np.where(a > b, a - b, b - a).astype(a.dtype))
