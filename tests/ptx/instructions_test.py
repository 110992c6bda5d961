# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Single instructions against numpy and the whole numbers of Python."""

import unittest

import numpy as np
from interpreter import Fault, Unsupported
from interpreter.parser import SIZES
from ptx_text import dtype, execute

RANDOM = np.random.default_rng(11)
SPECIAL32 = np.array([0, 0x80000000, 1, 0x80000001, 0x007FFFFF, 0x00800000, 0x3F800000, 0xBF800000,
                      0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x4B000001, 0x3F000000,
                      0xCF000000, 0x4F000000], np.uint32).view(np.float32)


def floats(n=64):
    return np.concatenate([SPECIAL32, (RANDOM.standard_normal(n - 16)
                                       * 10.0 ** RANDOM.integers(-30, 30, n - 16))]).astype("f4")


def words(n=64, size=4):
    return np.frombuffer(RANDOM.bytes(n * size), f"u{size}").copy()


class Integers(unittest.TestCase):
    def check(self, line, result, expected, *sources):
        found = execute(line, result, *sources)
        bits = 8 * SIZES["u32" if result == "pred" else result]
        wanted = [int(e) & ((1 << bits) - 1) for e in expected]
        self.assertEqual([int(f) & ((1 << bits) - 1) for f in found], wanted, line)

    def test_sums_and_products_of_several_words_carry(self):
        for kind in ("u32", "s32"):
            a, b, c = (words() for _ in range(3))
            b[:8], c[:4] = 0xFFFFFFFF, 0xFFFFFFFF
            signed = (lambda x: int(np.uint32(x).view(np.int32))) if kind == "s32" else int
            s = [(kind, a), (kind, b), (kind, c)]
            rows = list(zip(map(int, a), map(int, b), map(int, c)))
            self.check(f"add.cc.{kind} {{d}}, {{a}}, {{b}}; addc.{kind} {{d}}, {{b}}, 7;", kind,
                       [y + 7 + (x + y >> 32) for x, y, _ in rows], *s[:2])
            self.check(f"sub.cc.{kind} {{d}}, {{a}}, {{b}}; subc.cc.{kind} {{d}}, {{b}}, {{a}};"
                       f" addc.{kind} {{d}}, {{d}}, 0;", kind,
                       [(y - x - (x < y)) % 2 ** 32 + (y < x + (x < y)) for x, y, _ in rows],
                       *s[:2])
            self.check(f"mad.lo.cc.{kind} {{d}}, {{a}}, {{b}}, {{c}};"
                       f" madc.hi.{kind} {{d}}, {{a}}, {{b}}, {{c}};", kind,
                       [(signed(x) * signed(y) >> 32) + z
                        + ((signed(x) * signed(y) % 2 ** 32) + z >> 32) for x, y, z in rows], *s)
        with self.assertRaises(Unsupported):
            self.check("add.cc.u64 {d}, {a}, {b};", "u64", [], ("u64", words(size=8)),
                       ("u64", words(size=8)))

    def test_sums_and_products_wrap(self):
        for size, kind in ((4, "s32"), (8, "u64"), (2, "u16")):
            a, b, c = (words(size=size) for _ in range(3))
            ints = [(int(x), int(y), int(z)) for x, y, z in zip(a, b, c)]
            s = [(kind, a), (kind, b), (kind, c)]
            self.check(f"add.{kind} {{d}}, {{a}}, {{b}};", kind, [x + y for x, y, _ in ints],
                       *s[:2])
            self.check(f"sub.{kind} {{d}}, {{a}}, {{b}};", kind, [x - y for x, y, _ in ints],
                       *s[:2])
            self.check(f"mul.lo.{kind} {{d}}, {{a}}, {{b}};", kind,
                       [x * y for x, y, _ in ints], *s[:2])
            self.check(f"mad.lo.{kind} {{d}}, {{a}}, {{b}}, {{c}};", kind,
                       [x * y + z for x, y, z in ints], *s)

    def test_upper_halves_and_wide_products_have_the_sign_of_their_type(self):
        for size, bits in ((4, 32), (8, 64)):
            a, b = words(size=size), words(size=size)
            signed = [(int(x), int(y)) for x, y in zip(a.view(f"i{size}"), b.view(f"i{size}"))]
            self.check(f"mul.hi.s{bits} {{d}}, {{a}}, {{b}};", f"s{bits}",
                       [x * y >> bits for x, y in signed], (f"s{bits}", a.view(f"i{size}")),
                       (f"s{bits}", b.view(f"i{size}")))
            self.check(f"mul.hi.u{bits} {{d}}, {{a}}, {{b}};", f"u{bits}",
                       [int(x) * int(y) >> bits for x, y in zip(a, b)], (f"u{bits}", a),
                       (f"u{bits}", b))
        a, b, c = words().view("i4"), words().view("i4"), words(size=8).view("i8")
        self.check("mad.wide.s32 {d}, {a}, {b}, {c};", "s64",
                   [int(x) * int(y) + int(z) for x, y, z in zip(a, b, c)], ("s32", a), ("s32", b),
                   ("s64", c))

    def test_quotients_go_toward_zero(self):
        a, b = words().view("i4"), np.maximum(1, words() >> 20).view("i4") * np.where(
            np.arange(64) % 2, 1, -1).astype("i4")
        pairs = [(int(x), int(y)) for x, y in zip(a, b)]
        q = [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in pairs]
        self.check("div.s32 {d}, {a}, {b};", "s32", q, ("s32", a), ("s32", b))
        self.check("rem.s32 {d}, {a}, {b};", "s32", [x - y * k for (x, y), k in zip(pairs, q)],
                   ("s32", a), ("s32", b))
        with self.assertRaises(Fault):
            execute("div.u32 {d}, {a}, 0;", "u32", ("u32", words()))

    def test_shifts_beyond_the_width_give_zeros_or_signs(self):
        a, n = words(), (np.arange(64) * 3).astype("u4")
        pairs = list(zip(a.tolist(), n.tolist()))
        self.check("shl.b32 {d}, {a}, {b};", "u32", [x << k if k < 32 else 0 for x, k in pairs],
                   ("u32", a), ("u32", n))
        self.check("shr.u32 {d}, {a}, {b};", "u32", [x >> k for x, k in pairs], ("u32", a),
                   ("u32", n))
        self.check("shr.s32 {d}, {a}, {b};", "s32", [x >> k for x, k in zip(a.view("i4").tolist(),
                                                                            n.tolist())],
                   ("s32", a.view("i4")), ("u32", n))
        b = words()
        self.check("shf.l.wrap.b32 {d}, {a}, {b}, {c};", "u32",
                   [((h << 32 | l) << (k & 31)) >> 32 for l, h, k in zip(a.tolist(), b.tolist(),
                                                                        n.tolist())],
                   ("u32", a), ("u32", b), ("u32", n))
        self.check("shf.r.clamp.b32 {d}, {a}, {b}, {c};", "u32",
                   [(h << 32 | l) >> min(k, 32) for l, h, k in zip(a.tolist(), b.tolist(),
                                                                   n.tolist())],
                   ("u32", a), ("u32", b), ("u32", n))

    def test_fields_of_bits(self):
        a, b = words(), words()
        start, length = (np.arange(64) % 37).astype("u4"), (np.arange(64) * 5 % 36).astype("u4")
        table = list(zip(a.tolist(), b.tolist(), start.tolist(), length.tolist()))

        def signed_field(x, s, n):
            """As the manual defines it: bits beyond the word repeat the field's uppermost one."""
            sign = 0 if n == 0 else x >> min(s + n - 1, 31) & 1
            return sum((x >> (s + k) & 1 if k < n and s + k <= 31 else sign) << k
                       for k in range(32))
        self.check("bfe.u32 {d}, {a}, {b}, {c};", "u32",
                   [(x >> s) & ((1 << n) - 1) for x, _, s, n in table], ("u32", a), ("u32", start),
                   ("u32", length))
        self.check("bfe.s32 {d}, {a}, {b}, {c};", "u32",
                   [signed_field(x, s, n) for x, _, s, n in table], ("u32", a), ("u32", start),
                   ("u32", length))
        self.check("bfi.b32 {d}, {a}, {b}, {c}, {e};", "u32",
                   [y & ~(((1 << n) - 1) << s) | (x & ((1 << n) - 1)) << s
                    if s < 32 else y for x, y, s, n in table],
                   ("u32", a), ("u32", b), ("u32", start), ("u32", length))

    def test_counts_and_permutations_of_bits(self):
        for size, bits in ((4, 32), (8, 64)):
            a = words(size=size) >> (np.arange(64) % bits).astype(f"u{size}")
            a[:2] = 0, ~a[0] | a[0]
            values = a.tolist()
            self.check(f"popc.b{bits} {{d}}, {{a}};", "u32", [x.bit_count() for x in values],
                       (f"u{bits}", a))
            self.check(f"clz.b{bits} {{d}}, {{a}};", "u32", [bits - x.bit_length() for x in values],
                       (f"u{bits}", a))
            self.check(f"bfind.u{bits} {{d}}, {{a}};", "u32", [x.bit_length() - 1 for x in values],
                       (f"u{bits}", a))
            self.check(f"brev.b{bits} {{d}}, {{a}};", f"u{bits}",
                       [int(format(x, f"0{bits}b")[::-1], 2) for x in values], (f"u{bits}", a))

    def test_logic_of_three(self):
        a, b, c = words(), words(), words()
        for table, f in ((0xE8, lambda x, y, z: x & y | x & z | y & z),
                         (0x96, lambda x, y, z: x ^ y ^ z),
                         (0xCA, lambda x, y, z: x & y | ~x & z)):
            self.check(f"lop3.b32 {{d}}, {{a}}, {{b}}, {{c}}, {table};", "u32",
                       [f(x, y, z) for x, y, z in zip(a.tolist(), b.tolist(), c.tolist())],
                       ("u32", a), ("u32", b), ("u32", c))

    def test_narrow_integers_are_extended_with_their_sign(self):
        a = words(size=1)
        self.check("cvt.s32.s8 {d}, {a};", "s32", a.view("i1").tolist(), ("u8", a))
        self.check("cvt.u32.u8 {d}, {a};", "u32", a.tolist(), ("u8", a))
        b = words()
        self.check("cvt.sat.s8.s32 {d}, {a};", "s16", np.clip(b.view("i4"), -128, 127).tolist(),
                   ("s32", b.view("i4")))
        self.check("cvt.sat.u16.s32 {d}, {a};", "u16", np.clip(b.view("i4"), 0, 65535).tolist(),
                   ("s32", b.view("i4")))


class Floats(unittest.TestCase):
    def same(self, found, expected):
        both = np.isnan(found) & np.isnan(expected)
        bits = f"u{found.dtype.itemsize}"
        different = (found.view(bits) != expected.view(bits)) & ~both
        self.assertFalse(different.any(), (found[different], expected[different]))

    def test_rounding_modes_bracket_the_exact_sum(self):
        a, b = floats()[16:], floats()[16:]
        exact = a.astype("f8") + b.astype("f8")
        for mode, test in (("rm", lambda f: f <= exact), ("rp", lambda f: f >= exact),
                           ("rz", lambda f: np.abs(f) <= np.abs(exact))):
            f = execute(f"add.{mode}.f32 {{d}}, {{a}}, {{b}};", "f32", ("f32", a), ("f32", b))
            self.assertTrue(test(f.astype("f8")).all(), mode)
            near = (a + b)
            self.assertTrue((np.abs(f - near) <= np.spacing(np.abs(near))).all())

    def test_basic_arithmetic_is_that_of_ieee(self):
        a, b = floats(), RANDOM.permutation(floats())
        with np.errstate(all="ignore"):
            for name, e in (("add", a + b), ("sub", a - b), ("mul", a * b), ("div.rn", a / b)):
                found = execute(f"{name}.f32 {{d}}, {{a}}, {{b}};", "f32", ("f32", a), ("f32", b))
                self.same(found, e)
            self.same(execute("sqrt.rn.f32 {d}, {a};", "f32", ("f32", a)), np.sqrt(a))
            self.same(execute("rcp.rn.f64 {d}, {a};", "f64", ("f64", a)), 1 / a.astype("f8"))

    def test_fused_products_are_rounded_once(self):
        from fractions import Fraction
        a, b = (RANDOM.standard_normal(200) for _ in range(2))
        c = -a * b * np.where(np.arange(200) % 2, 1, 1 + 1e-13)
        c[::5] = RANDOM.standard_normal(40) * 1e-300
        a[::25], b[::25] = 3e-160, 5e-155
        for kind in ("f32", "f64"):
            x, y, z = (v.astype(dtype(kind)) for v in (a, b, c))
            found = execute(f"fma.rn.{kind} {{d}}, {{a}}, {{b}}, {{c}};", kind, (kind, x),
                            (kind, y), (kind, z))
            for f, u, v, w in zip(found, x, y, z):
                exact = Fraction(float(u)) * Fraction(float(v)) + Fraction(float(w))
                gap = abs(Fraction(float(f)) - exact)
                self.assertLessEqual(gap, Fraction(float(np.spacing(np.abs(f)))) / 2)

    def test_minimum_and_maximum_of_zeros_and_of_no_numbers(self):
        a = np.array([0, -0.0, np.nan, 1, np.nan, -1], "f4")
        b = np.array([-0.0, 0, 1, np.nan, np.nan, 2], "f4")
        s = ("f32", a), ("f32", b)
        self.same(execute("min.f32 {d}, {a}, {b};", "f32", *s),
                  np.array([-0.0, -0.0, 1, 1, np.nan, -1], "f4"))
        self.same(execute("max.f32 {d}, {a}, {b};", "f32", *s),
                  np.array([0, 0, 1, 1, np.nan, 2], "f4"))
        self.same(execute("max.NaN.f32 {d}, {a}, {b};", "f32", *s),
                  np.array([0, 0, np.nan, np.nan, np.nan, 2], "f4"))

    def test_flushing_saturating_and_signs(self):
        a = floats()
        tiny = np.abs(a) < 2.0 ** -126
        flushed = np.where(tiny, np.copysign(np.float32(0), a), a)
        one = ("f32", np.ones_like(a))
        self.same(execute("mul.ftz.f32 {d}, {a}, {b};", "f32", ("f32", a), one), flushed)
        with np.errstate(all="ignore"):
            expected = np.where(np.isnan(a), np.float32(0), np.clip(a, 0, 1)) + np.float32(0)
        self.same(execute("cvt.sat.f32.f32 {d}, {a};", "f32", ("f32", a)), expected)
        self.same(execute("neg.f32 {d}, {a};", "f32", ("f32", a)), -a)
        self.same(execute("copysign.f32 {d}, {a}, {b};", "f32", ("f32", a), one),
                  np.copysign(one[1], a))

    def test_comparisons_of_no_numbers(self):
        a = np.array([1, np.nan, 2, np.nan], "f4")
        b = np.array([1, 1, np.nan, np.nan], "f4")
        for name, expected in (("eq", [1, 0, 0, 0]), ("equ", [1, 1, 1, 1]), ("ne", [0, 0, 0, 0]),
                               ("neu", [0, 1, 1, 1]), ("num", [1, 0, 0, 0]), ("nan", [0, 1, 1, 1]),
                               ("geu", [1, 1, 1, 1]), ("lt", [0, 0, 0, 0])):
            found = execute(f"setp.{name}.f32 {{d}}, {{a}}, {{b}};", "pred", ("f32", a), ("f32", b))
            self.assertEqual(found.tolist(), expected, name)
            answer = execute(f"set.{name}.u32.f32 {{d}}, {{a}}, {{b}};", "u32", ("f32", a),
                             ("f32", b))
            self.assertEqual(answer.tolist(), [0xFFFFFFFF * e for e in expected], name)

    def test_conversions_to_integers_are_clamped(self):
        a = np.array([1.5, 2.5, -1.5, 1e20, -1e20, np.nan, np.inf, -0.7, 2147483648.0], "f4")
        big, small = 2 ** 31 - 1, -2 ** 31
        for mode, expected in (("rni", [2, 2, -2, big, small, 0, big, -1, big]),
                               ("rzi", [1, 2, -1, big, small, 0, big, 0, big]),
                               ("rmi", [1, 2, -2, big, small, 0, big, -1, big]),
                               ("rpi", [2, 3, -1, big, small, 0, big, 0, big])):
            found = execute(f"cvt.{mode}.s32.f32 {{d}}, {{a}};", "s32", ("f32", a))
            self.assertEqual(found.tolist(), expected, mode)
        wide = np.array([np.nan, -1e30, 1e30, -2.5], "f8")
        self.assertEqual(execute("cvt.rzi.s64.f64 {d}, {a};", "s64", ("f64", wide)).tolist(),
                         [-2 ** 63, -2 ** 63, 2 ** 63 - 1, -2])
        self.assertEqual(execute("cvt.rzi.u64.f64 {d}, {a};", "u64", ("f64", wide)).tolist(),
                         [2 ** 63, 0, 2 ** 64 - 1, 0])
        top = 2 ** 32 - 1
        self.assertEqual(execute("cvt.rzi.u32.f32 {d}, {a};", "u32", ("f32", a)).tolist(),
                         [1, 2, 0, top, 0, 0, top, 0, 2 ** 31])

    def test_conversions_between_floating_types(self):
        a = floats()
        with np.errstate(all="ignore"):
            self.same(execute("cvt.rn.f16.f32 {d}, {a};", "f16", ("f32", a)), a.astype("f2"))
        self.same(execute("cvt.f64.f32 {d}, {a};", "f64", ("f32", a)), a.astype("f8"))
        d = RANDOM.standard_normal(64)
        self.same(execute("cvt.rn.f32.f64 {d}, {a};", "f32", ("f64", d)), d.astype("f4"))
        down = execute("cvt.rz.f32.f64 {d}, {a};", "f32", ("f64", d))
        self.assertTrue((np.abs(down.astype("f8")) <= np.abs(d)).all())
        s = words(size=8).view("i8")
        self.same(execute("cvt.rn.f32.s64 {d}, {a};", "f32", ("s64", s)), s.astype("f4"))

    def test_bfloat_is_the_upper_half_of_float_rounded_to_even(self):
        bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7FFFFF, 0x80000000,
                         0xFF800000], "u4")
        expected = [0x3F80, 0x3F82, 0x3F81, 0x3F80, 0x7F80, 0x8000, 0xFF80]
        found = execute("cvt.rn.bf16.f32 {d}, {a};", "b16", ("u32", bits))
        self.assertEqual(found.tolist(), expected)
        pair = execute("cvt.rn.bf16x2.f32 {d}, {a}, {b};", "b32", ("u32", bits), ("u32", bits))
        self.assertEqual(pair.tolist(), [e << 16 | e for e in expected])
        back = execute("cvt.f32.bf16 {d}, {a};", "u32", ("b16", np.array(expected, "u2")))
        self.assertEqual(back.tolist(), [e << 16 for e in expected])

    def test_approximations_are_the_nearest_numbers(self):
        a = np.abs(floats()[16:])
        for name, f in (("rcp", lambda x: 1 / x), ("rsqrt", lambda x: 1 / np.sqrt(x)),
                        ("lg2", np.log2), ("sqrt", np.sqrt)):
            self.same(execute(f"{name}.approx.f32 {{d}}, {{a}};", "f32", ("f32", a)),
                      f(a.astype("f8")).astype("f4"))


class Selections(unittest.TestCase):
    def test_selp_slct_and_predicates(self):
        a, b = words(), words()
        c = words().view("i4")
        self.assertEqual(execute("slct.b32.s32 {d}, {a}, {b}, {c};", "u32", ("u32", a), ("u32", b),
                                 ("s32", c)).tolist(), np.where(c >= 0, a, b).tolist())
        line = ("setp.lt.and.u32 %q|%p, {a}, {b}, 1;\n@%q mov.u32 {d}, 7;\n@!%q mov.u32 {d}, 9;\n"
                "selp.b32 {d}, {d}, {a}, %p;")
        self.assertEqual(execute(line, "u32", ("u32", a), ("u32", b)).tolist(),
                         np.where(a < b, a, 9).tolist())

    def test_vectors_are_taken_apart_and_put_together(self):
        a = words(size=8)
        line = ("{{ .reg .b32 lo, hi; mov.b64 {{lo, hi}}, {a}; mov.b64 {d}, {{hi, lo}}; }}")
        self.assertEqual(execute(line, "b64", ("b64", a)).tolist(),
                         [(x >> 32) | (x << 32) & (1 << 64) - 1 for x in a.tolist()])

    def test_unknown_instructions_are_named(self):
        for line in ("fns.b32 {d}, {a}, 1, 1;", "add.cc.sat.u32 {d}, {a}, {a};",
                     "mma.sync {d}, {a}, {a};", "cvt.rn.tf32.f32 {d}, {a};",
                     "ld.global.future.u32 {d}, [%rd1];", "add.u32 {d}, {a}, %r99;"):
            with self.assertRaises(Unsupported) as caught:
                execute(line, "u32", ("u32", words()))
            self.assertIn(line.split()[0], str(caught.exception))


if __name__ == "__main__":
    unittest.main()
