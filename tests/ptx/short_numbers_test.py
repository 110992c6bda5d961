# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Conversions of 16-bit numbers, votes, and the memory of one thread, against rational numbers."""

import math
import unittest
from fractions import Fraction

import numpy as np
from ptx_text import execute, launch

# Digits of the significand, exponent of the smallest normal number and of the largest one.
FORMATS = {"f16": (11, -14, 15), "bf16": (8, -126, 127)}


def value_of(bits, kind):
    """The number with these 16 bits."""
    digits, low, high = FORMATS[kind]
    sign = -1 if bits >> 15 else 1
    exponent, rest = (bits & 0x7FFF) >> (digits - 1), bits & ((1 << (digits - 1)) - 1)
    if exponent == high - low + 2:
        return math.nan if rest else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(rest, low - digits + 1)
    return sign * math.ldexp(rest + (1 << (digits - 1)), low + exponent - digits)


def bits_of(x, kind, mode="rn"):
    """The 16 bits of a rounded number; what is no number has all bits of the significand."""
    digits, low, high = FORMATS[kind]
    if math.isnan(x):
        return 0x7FFF
    sign = 0x8000 if math.copysign(1, x) < 0 else 0
    infinite = (high - low + 2) << (digits - 1)
    if math.isinf(x):
        return sign | infinite
    if x == 0:
        return sign
    size = abs(Fraction(x))
    exponent = max(math.frexp(abs(x))[1] - 1, low)
    exact = size / Fraction(2) ** (exponent - digits + 1)
    units = {"rn": round, "rz": math.floor}[mode](exact)  # round() of fractions is to even
    if units == 1 << digits:
        units, exponent = units >> 1, exponent + 1
    if exponent > high:
        return sign | (infinite if mode == "rn" else infinite - 1)
    normal = units >> (digits - 1)
    return sign | ((exponent - low + normal) << (digits - 1) if normal else 0) | (
        units & ((1 << (digits - 1)) - 1))


def samples(kind):
    """Numbers of the format, ties between them, and what lies next to a tie, as floats."""
    random = np.random.default_rng(5)
    bits = np.concatenate([np.arange(0, 40), np.arange(0x3F0, 0x418), np.arange(0x70, 0x98),
                           0x7F70 + np.arange(16), random.integers(0, 0x7C00, 80)])
    exact = [value_of(int(b), kind) for b in bits]
    exact = [x for x in exact if math.isfinite(x)]
    ties = [float((Fraction(a) + Fraction(b)) / 2) for a, b in
            ((value_of(int(b), kind), value_of(int(b) + 1, kind)) for b in bits)
            if math.isfinite(a) and math.isfinite(b)]
    at = np.array(exact + ties, np.float32)
    at = np.concatenate([at, np.nextafter(at, np.float32(np.inf)),
                         np.nextafter(at, np.float32(-np.inf))])
    special = [math.inf, -math.inf, math.nan, -0.0, 65504, 65519.996, 65520, 1e-8, 1e-45,
               2.0 ** -25, 3e38, 3.3895314e38, 3.4028235e38]
    return np.concatenate([at, -at, np.array(special, np.float32)]).astype("f4")


class Conversions(unittest.TestCase):
    def test_the_oracle_knows_the_numbers_of_the_host(self):
        bits = np.arange(1 << 16, dtype="u2")
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(bits.view("f2").astype("f8"),
                                          [value_of(int(b), "f16") for b in bits])

    def test_floats_are_rounded_to_even_and_to_zero(self):
        for kind in FORMATS:
            x = samples(kind)
            for mode in ("rn", "rz"):
                found = execute(f"cvt.{mode}.{kind}.f32 {{d}}, {{a}};", "b16", ("f32", x))
                wanted = np.array([bits_of(float(v), kind, mode) for v in x], "u2")
                number = ~np.isnan(x)
                np.testing.assert_array_equal(found[number], wanted[number], f"{mode} {kind}")
                self.assertTrue(all(math.isnan(value_of(int(b), kind)) for b in found[~number]))

    def test_doubles_are_rounded_once(self):
        for kind in FORMATS:
            # Beside a tie by less than a float shows.
            x = samples(kind).astype("f8")
            x = np.concatenate([x * (1 + 2.0 ** -40), x * (1 - 2.0 ** -40)])
            x = x[np.isfinite(x)]
            found = execute(f"cvt.rn.{kind}.f64 {{d}}, {{a}};", "b16", ("f64", x))
            wanted = np.array([bits_of(float(v), kind) for v in x], "u2")
            np.testing.assert_array_equal(found, wanted, kind)

    def test_pairs_have_their_first_source_above(self):
        for kind in FORMATS:
            a, b = samples(kind)[:64], samples(kind)[64:128]
            found = execute(f"cvt.rn.{kind}x2.f32 {{d}}, {{a}}, {{b}};", "b32", ("f32", a),
                            ("f32", b))
            wanted = [bits_of(float(x), kind) << 16 | bits_of(float(y), kind)
                      for x, y in zip(a, b)]
            self.assertEqual(found.tolist(), wanted)

    def test_every_short_number_widens_exactly(self):
        bits = np.arange(1 << 16, dtype="u2")
        for kind in FORMATS:
            wanted = np.array([value_of(int(b), kind) for b in bits])
            for start in range(0, 1 << 16, 1 << 10):
                part = bits[start:start + (1 << 10)]
                found = execute(f"cvt.f32.{kind} {{d}}, {{a}};", "f32", ("b16", part))
                expected = wanted[start:start + (1 << 10)].astype("f4")
                np.testing.assert_array_equal(found, expected)
                np.testing.assert_array_equal(np.signbit(found)[expected == 0],
                                              np.signbit(expected)[expected == 0])

    def test_integers_become_the_nearest_short_numbers(self):
        n = np.array([0, 1, -1, 2049, 2050, 2051, 65519, 65520, -70000, 2 ** 31 - 1], "i4")
        found = execute("cvt.rn.f16.s32 {d}, {a};", "b16", ("s32", n))
        self.assertEqual(found.tolist(), [bits_of(float(v), "f16") for v in n])
        x = np.array([0x3E00, 0xBE00, 0x7C00, 0x7E00], "u2")  # 1.5, -1.5, infinity, no number
        back = execute("cvt.rni.s32.f16 {d}, {a};", "s32", ("b16", x))
        self.assertEqual(back.tolist(), [2, -2, 2 ** 31 - 1, 0])


class Together(unittest.TestCase):
    """Lanes 3, 5 and 8 of a warp say yes."""

    YES = "setp.eq.u32 %p1, %r1, 3;\nsetp.eq.or.u32 %p2, %r1, 5, %p1;\n" \
        "setp.eq.or.u32 %p3, %r1, 8, %p2;\n"

    def found(self, body):
        return launch(self.YES + body + "\nst.global.u32 [%rd3], %r5;")[:32].tolist()

    def test_a_ballot_has_a_bit_for_every_lane_that_says_yes(self):
        self.assertEqual(self.found("vote.sync.ballot.b32 %r5, %p3, -1;"), [0x128] * 32)
        self.assertEqual(self.found("vote.sync.ballot.b32 %r5, !%p3, -1;"), [0xFFFFFED7] * 32)
        halves = "setp.lt.u32 %p4, %r1, 8;\n@%p4 bra LOW;\n" \
            "vote.sync.ballot.b32 %r5, %p3, 0xffffff00;\nbra MEET;\n" \
            "LOW: vote.sync.ballot.b32 %r5, %p3, 0xff;\nMEET:"
        self.assertEqual(self.found(halves), [0x28] * 8 + [0x100] * 24)

    def test_votes_say_whether_all_or_any_or_alike(self):
        for mode, predicate, answer in (("any", "%p3", 1), ("all", "%p3", 0), ("uni", "%p3", 0),
                                        ("all", "1", 1), ("any", "0", 0), ("uni", "0", 1)):
            line = f"vote.sync.{mode}.pred %p5, {predicate}, -1;\nselp.u32 %r5, 1, 0, %p5;"
            self.assertEqual(self.found(line), [answer] * 32, line)

    def test_sums_and_extrema_of_a_warp(self):
        for name, answer in (("add", 496), ("min", 0), ("max", 31), ("or", 31), ("and", 0),
                             ("xor", 0)):
            kind = "b32" if name in ("or", "and", "xor") else "u32"
            self.assertEqual(self.found(f"redux.sync.{name}.{kind} %r5, %r1, -1;"), [answer] * 32)

    def test_lanes_with_the_same_number_know_each_other(self):
        line = "and.b32 %r6, %r1, 3;\nmatch.any.sync.b32 %r5, %r6, -1;"
        self.assertEqual(self.found(line), [0x11111111 << k % 4 for k in range(32)])
        line = "match.all.sync.b32 %r5|%p4, {}, -1;"
        self.assertEqual(self.found(line.format("7")), [0xFFFFFFFF] * 32)
        self.assertEqual(self.found(line.format("%r1")), [0] * 32)


class OwnMemory(unittest.TestCase):
    LOCAL = ".local .align 8 .b8 d[24];\nmov.u64 %rd4, d;\n"

    def test_local_memory_is_a_lane_s_own(self):
        out = launch(self.LOCAL + "st.local.u32 [%rd4+8], %r1;\nbar.sync 0;\n"
                     "ld.local.u32 %r4, [%rd4+8];\nst.global.u32 [%rd3], %r4;", threads=64)
        self.assertEqual(out[:64].tolist(), list(range(64)))

    def test_local_memory_has_a_generic_address(self):
        out = launch(self.LOCAL + "cvta.local.u64 %rd5, %rd4;\nst.u32 [%rd5+4], %r1;\n"
                     "ld.local.u32 %r4, [%rd4+4];\ncvta.to.local.u64 %rd6, %rd5;\n"
                     "st.local.u16 [%rd6+4], 7;\nld.u32 %r5, [%rd5+4];\nadd.u32 %r6, %r4, %r5;\n"
                     "isspacep.local %p1, %rd5;\nisspacep.global %p2, %rd3;\n"
                     "isspacep.local %p3, %rd3;\n@!%p1 mov.u32 %r6, 99;\n@!%p2 mov.u32 %r6, 98;\n"
                     "@%p3 mov.u32 %r6, 97;\nst.global.u32 [%rd3], %r6;")
        self.assertEqual(out[:32].tolist(), [k + 7 for k in range(32)])

    def test_generic_addresses_of_one_load_may_lie_in_different_spaces(self):
        out = launch(self.LOCAL + "cvta.local.u64 %rd5, %rd4;\nst.local.u32 [%rd4], 5;\n"
                     "st.global.u32 [%rd3+128], 6;\nadd.s64 %rd7, %rd3, 128;\n"
                     "setp.lt.u32 %p1, %r1, 9;\nselp.b64 %rd8, %rd5, %rd7, %p1;\n"
                     "ld.u32 %r4, [%rd8];\nst.global.u32 [%rd3], %r4;")
        self.assertEqual(out[:32].tolist(), [5] * 9 + [6] * 23)


if __name__ == "__main__":
    unittest.main()
