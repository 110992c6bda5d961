# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Whole kernels of samples.cu, as nvcc compiles them, against numpy."""

import math
import struct
import unittest

import numpy as np
from interpreter import Fault, GlobalMemory, Unsupported, parse, run
from toolchain import ARCHITECTURES, HERE, make_ptx

TYPES = {"If": np.float32, "Id": np.float64}


def arguments(layout, *values):
    """Bytes of a functor whose members have these letters of `struct`."""
    return struct.pack(f"@{layout}0P", *values)


class Kernels:
    architecture = 0

    @classmethod
    def setUpClass(cls):
        cls.module = parse(make_ptx(HERE / "samples.cu", cls.architecture))

    def setUp(self):
        self.random = np.random.default_rng(7)

    def run_kernel(self, *rest):
        return run(self.module, *rest)

    def near(self, found, expected, condition=1.0):
        eps = np.finfo(found.dtype).eps
        scale = np.abs(expected).max() * condition
        self.assertLess(np.abs(found - expected).max(), 8 * eps * scale)

    def test_saxpy_of_many_blocks_with_a_ragged_end(self):
        for letter, dtype in TYPES.items():
            memory = GlobalMemory()
            x, y = (self.random.standard_normal(1000).astype(dtype) for _ in range(2))
            at = memory.put("x", x), memory.put("y", y)
            layout = "fPPi" if letter == "If" else "dPPi"
            self.run_kernel("saxpy" + letter, memory, (8,), (128,),
                            arguments(layout, 2.5, *at, 1000))
            self.near(memory.load(at[1], 1000, dtype), y + dtype(2.5) * x)

    def test_sums_of_blocks_by_shuffles_and_shared_memory(self):
        for letter, dtype in TYPES.items():
            memory = GlobalMemory()
            x = self.random.standard_normal((5, 300)).astype(dtype)
            at, out = memory.put("x", x), memory.allocate("sums", 5 * x.itemsize)
            count = self.run_kernel("sum_rows" + letter, memory, (5,), (96,),
                                    arguments("PPi", at, out, 300), 64)
            self.assertEqual(count["barriers"], 10)
            self.near(memory.load(out, 5, dtype), x.astype("f8").sum(1), 10)

    def test_gram_schmidt_in_shared_memory_gives_orthonormal_columns(self):
        for letter, dtype in TYPES.items():
            memory = GlobalMemory()
            a = self.random.standard_normal((6, 70)).astype(dtype)
            at = memory.put("a", a)
            self.run_kernel("gram_schmidt" + letter, memory, (1,), (64,),
                            arguments("Pii", at, 70, 6), (32 + 420) * a.itemsize)
            q = memory.load(at, a.shape, dtype)
            self.near(q @ q.T, np.eye(6, dtype=dtype), 10)
            self.near(a @ q.T @ q, a, 10)

    def test_cholesky_factors_of_several_blocks(self):
        for letter, dtype in TYPES.items():
            memory = GlobalMemory()
            x = self.random.standard_normal((2, 17, 40))
            a = (x @ x.transpose(0, 2, 1)).astype(dtype)
            at = memory.put("a", a)
            self.run_kernel("cholesky" + letter, memory, (2,), (32,), arguments("Pi", at, 17),
                17 * 17 * a.itemsize)
            lower = memory.load(at, a.shape, dtype).transpose(0, 2, 1)
            self.near(lower, np.linalg.cholesky(a.astype("f8")), 10)

    def test_half_numbers_are_rounded_once(self):
        memory = GlobalMemory()
        a, b, c = (self.random.standard_normal(64).astype("f2") for _ in range(3))
        wide = self.random.standard_normal(64).astype("f4") * 1000
        at = [memory.put("abc"[k], v) for k, v in enumerate((a, b, c))]
        out, rounded = memory.allocate("out", 256), memory.allocate("rounded", 128)
        at += [out, memory.put("wide", wide), rounded]
        self.run_kernel("short_numbersI6__half", memory, (1,), (64,), arguments("6P", *at))
        found = memory.load(out, 64, "f2")
        exact = a.astype("f8") * b.astype("f8") + c.astype("f8")
        np.testing.assert_array_equal(found, exact.astype("f2"))
        np.testing.assert_array_equal(memory.load(rounded, 64, "f2"), wide.astype("f2"))
        if self.architecture < 80:
            return
        found = memory.load(out + 128, 64, "f2")
        square = (b.astype("f8") * b.astype("f8")).astype("f2")
        # nvcc may join a product and a sum; both answers are correct.
        sums = a.astype("f8") + square.astype("f8")
        joined = a.astype("f8") + b.astype("f8") ** 2
        self.assertTrue(np.all((found == sums.astype("f2")) | (found == joined.astype("f2"))))

    def test_bfloat_numbers_are_within_half_a_unit(self):
        memory = GlobalMemory()
        def short(v):
            return (v.astype("f4").view("u4") >> 16).astype("u2")

        def value(bits):
            return (bits.astype("u4") << 16).view("f4").astype("f8")
        a, b, c, wide = (self.random.standard_normal(64).astype("f4") for _ in range(4))
        at = [memory.put("abc"[k], short(v)) for k, v in enumerate((a, b, c))]
        out, rounded = memory.allocate("out", 256), memory.allocate("rounded", 128)
        at += [out, memory.put("wide", wide), rounded]
        self.run_kernel("short_numbersI13__nv_bfloat16", memory, (1,), (64,), arguments("6P", *at))
        exact = value(short(a)) * value(short(b)) + value(short(c))
        # sm_75 has no such instruction and forms the sum in float first.
        for bits, x in ((memory.load(out, 64, "u2"), exact),
                        (memory.load(rounded, 64, "u2"), wide.astype("f8"))):
            unit = 2.0 ** (np.floor(np.log2(np.abs(x))) - 7)
            self.assertLessEqual((np.abs(value(bits) - x) / unit).max(), 0.5 + 1e-4)

    def test_calls_tables_of_jumps_local_arrays_and_slow_ways(self):
        memory = GlobalMemory()
        x = self.random.uniform(0.1, 3.0, 64).astype("f4")
        choice = (np.arange(64) * 7 % 9).astype("i4")
        at = memory.put("x", x), memory.allocate("y", 512), memory.put("choice", choice)
        count = self.run_kernel("detours", memory, (1,), (64,), arguments("3P", *at))
        v = x.astype("f8")
        ways = [1 + v * (2 + v * (3 + v * 4)), np.sin((np.float32(1e5) * x).astype("f8")),
                np.exp(v), np.log(1 + v), np.array([math.erf(t) for t in v]), v + v * v,
                1 / np.sqrt(v), v ** 2.5, v ** 2.5]
        expected = np.choose(choice, ways) + (choice + 1) % 6 * v
        error = np.abs(memory.load(at[1], 64, "f8") - expected) / np.maximum(1, expected)
        self.assertLess(error.max(), 1e-6)
        self.assertGreater(count["calls"], 0)

    def test_lanes_of_a_warp_do_together_what_the_manual_says(self):
        memory = GlobalMemory()
        x = self.random.integers(0, 12, 64).astype("u4")
        at = [memory.put("x", x), memory.allocate("out", 9 * 256),
              memory.put("histogram", np.zeros(8, "i4")), memory.put("sum", np.zeros(1, "f4"))]
        count = self.run_kernel("together", memory, (1,), (64,), arguments("4P", *at))
        out = memory.load(at[1], (9, 64), "u4")
        lane = np.arange(64) % 32
        base = np.arange(64) - lane

        def bits(table):
            return (table.astype("u8") << np.arange(32, dtype="u8")).sum(-1)
        warps = x.reshape(2, 32)
        np.testing.assert_array_equal(out[0], np.repeat(bits(warps & 1), 32))
        same = warps[:, :, None] == warps[:, None, :]
        np.testing.assert_array_equal(out[1], bits(same).reshape(-1))
        np.testing.assert_array_equal(out[2], x[np.where(lane < 3, lane, lane - 3) + base])
        j = np.where(lane % 8 + 5 > 7, lane, lane + 5)
        np.testing.assert_array_equal(out[3], x[j + base])
        np.testing.assert_array_equal(out[4], x[lane // 16 * 16 + 2 + base])
        for k, v in enumerate(int(t) for t in x):
            text = format(v, "032b")
            first = text[::-1].find("1") + 1
            self.assertEqual(out[5, k], v.bit_count() + 100 * (32 - v.bit_length())
                             + 10000 * first)
            both = v.to_bytes(4, "little") + (0x12345678).to_bytes(4, "little")
            chosen = [both[7], both[1], 255 if both[2] > 127 else 0, both[5]]
            self.assertEqual(out[6, k], int(text[::-1], 2) ^ int.from_bytes(chosen, "little"))
            mixed = ((((~v & 0xFFFFFFFF) << 32 | v) << 7) >> 32) & 0xFFFFFFFF
            self.assertEqual(out[7, k], ((v * 0x9e3779b9 >> 32) + mixed) & 0xFFFFFFFF)
        np.testing.assert_array_equal(out[8], np.repeat((warps == 3).any(1) + 2, 32))
        np.testing.assert_array_equal(memory.load(at[2], 8, "i4"), np.bincount(x % 8,
                                                                                minlength=8))
        self.assertEqual(memory.load(at[3], 1, "f4")[0], 32)
        self.assertEqual(count["atomics on floats"], 64)

    def test_a_kernel_too_small_for_its_arguments_is_refused(self):
        with self.assertRaises(Fault):
            self.run_kernel("saxpyIf", GlobalMemory(), (1,), (32,), b"1234")
        with self.assertRaises(Unsupported):
            self.run_kernel("saxpy", GlobalMemory(), (1,), (32,), b"")


for sm in ARCHITECTURES:
    globals()[f"Sm{sm}"] = type(f"Sm{sm}", (Kernels, unittest.TestCase), {"architecture": sm})


if __name__ == "__main__":
    unittest.main()
