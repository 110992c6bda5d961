# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Correctly rounded results in every floating type and rounding mode.

Sums and products are formed in double, rounded to odd: such a value rounds once more, to a format
two or more bits shorter, as the exact one does. The 16-bit bfloat is kept as its bits.
"""

import numpy as np

F64, I64, U64 = np.dtype("f8"), np.dtype("i8"), np.dtype("u8")


def step(x, up):
    """The neighbour of x above where `up`, else the one below."""
    return np.nextafter(x, np.where(up, np.inf, -np.inf).astype(x.dtype))


def toward_odd(sum_, error):
    """The sum rounded to odd, from its nearest double and the error of that."""
    if not np.count_nonzero(error):
        return sum_
    even = (np.ascontiguousarray(sum_).view(U64) & np.uint64(1)) == 0
    move = (error != 0) & even & np.isfinite(sum_) & np.isfinite(error)
    return np.where(move, step(sum_, error > 0), sum_) if np.count_nonzero(move) else sum_


def two_sum(a, b):
    """The nearest double to a + b and what is missing."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def two_product(a, b):
    """The nearest double to a b and what is missing, for factors below 2^900."""
    p = a * b
    t = a * 134217729.0
    ah = t - (t - a)
    t = b * 134217729.0
    bh = t - (t - b)
    al, bl = a - ah, b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def odd_sum(a, b):
    return toward_odd(*two_sum(a, b))


def fma64(a, b, c):
    """a b + c in double with one rounding."""
    p, e = two_product(a, b)
    s, t = two_sum(c, e)
    v, w = two_sum(p, s)
    out = v + toward_odd(*two_sum(w, t))
    size = np.abs(p)
    largest = np.maximum(np.maximum(np.abs(a), np.abs(b)), np.maximum(np.abs(c), size))
    if np.minimum.reduce(size) >= 1e-230 and np.maximum.reduce(largest) <= 1e270:
        return out
    simple = (a == 0) | (b == 0) | ~np.isfinite(a) | ~np.isfinite(b) | ~np.isfinite(c)
    if np.count_nonzero(simple):
        out = np.where(simple, p + c, out)
    doubtful = ~simple & ((size < 1e-230) | (largest > 1e270))
    if np.count_nonzero(doubtful):
        out = out.copy()
        for i in np.flatnonzero(doubtful):
            out[i] = fma_by_fractions(float(a[i]), float(b[i]), float(c[i]))
    return out


def fma_by_fractions(a, b, c):
    """One fused multiply-add of finite doubles by rational numbers."""
    from fractions import Fraction
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c
    try:
        return exact.numerator / exact.denominator
    except OverflowError:
        return np.inf if exact > 0 else -np.inf


def directed(y, x, mode):
    """y, the nearest of its type to x, moved to where mode rz, rm or rp wants it."""
    if mode == "rn":
        return y
    back = y.astype(F64)
    if mode == "rz":
        wrong, up = np.abs(back) > np.abs(x), back < 0
    elif mode == "rm":
        wrong, up = back > x, np.zeros(y.shape, bool)
    else:
        wrong, up = back < x, np.ones(y.shape, bool)
    return np.where(wrong, step(y, up), y)


def odd_to_f32(x):
    """Double to float, rounded to odd."""
    y = x.astype(np.float32)
    back = y.astype(F64)
    even = (y.view(np.uint32) & np.uint32(1)) == 0
    return np.where((back != x) & even & np.isfinite(x) & np.isfinite(y), step(y, x > back), y)


def bf16_to_f64(bits):
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(F64)


def f64_to_bf16(x, mode="rn"):
    y = odd_to_f32(x)
    bits = y.view(np.uint32)
    high, low = bits >> np.uint32(16), bits & np.uint32(0xFFFF)
    if mode == "rn":
        up = (low > 0x8000) | ((low == 0x8000) & ((high & np.uint32(1)) == 1))
    elif mode == "rz":
        up = np.zeros(x.shape, bool)
    else:
        up = (low != 0) & (np.signbit(y) == (mode == "rm"))
    finite = np.isfinite(y)
    out = np.where(finite & up, high + np.uint32(1), high)
    # Beyond the largest float a rounding to nearest has become infinite before it came here.
    out = np.where(np.isnan(x), np.uint32(0x7FFF), out)
    return out.astype(np.uint16)


def to_f64(x, kind):
    """Values of a floating type as doubles, exactly."""
    return bf16_to_f64(x) if kind == "bf16" else x.astype(F64)


def from_f64(x, kind, mode="rn"):
    """Doubles (rounded to odd where they are not exact) to a floating type."""
    if kind == "f64":
        return x
    if kind == "bf16":
        return f64_to_bf16(x, mode)
    return directed(x.astype(np.float32 if kind == "f32" else np.float16), x, mode)


SMALLEST_NORMAL = {"f32": 2.0 ** -126, "f16": 2.0 ** -14, "f64": 2.0 ** -1022}


def flush(x, kind):
    """Subnormal numbers to zeros of their sign."""
    tiny = x.dtype.type(SMALLEST_NORMAL[kind])
    return np.where(np.abs(x) < tiny, np.copysign(x.dtype.type(0), x), x)


def saturate(x):
    """Into [0, 1]; what is no number becomes zero."""
    one, zero = x.dtype.type(1), x.dtype.type(0)
    return np.where(x > zero, np.where(x < one, x, one), zero)
