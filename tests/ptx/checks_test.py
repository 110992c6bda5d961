# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the checks stop and what they let pass, in PTX of a few lines."""

import unittest

from interpreter import Fault, Unsupported
from ptx_text import launch


class Checks(unittest.TestCase):
    """Seeded mistakes in a few lines; the compiled ones lie in tests/must_fail."""

    def stopped(self, check, body, **more):
        with self.assertRaises(Fault) as caught:
            launch(body, **more)
        self.assertEqual(caught.exception.check, check, str(caught.exception))

    def test_neighbours_in_shared_memory_race_within_a_warp(self):
        body = "mov.u32 %r4, s;\nadd.u32 %r4, %r4, %r3;\nst.shared.u32 [%r4], %r1;\n{} {}"
        read = "ld.shared.u32 %r5, [%r4+{}];\nst.global.u32 [%rd3], %r5;\n"
        launch(body.format("", read.format(0)), shared=128)
        rest = "setp.eq.u32 %p1, %r1, {};\n@%p1 bra END;\n"
        self.stopped("race", body.format(rest.format(31), read.format(4)) + "END:", shared=128)
        synchronized = "bar.warp.sync -1;\n" + rest
        launch(body.format(synchronized.format(31), read.format(4)) + "END:", shared=128)
        self.stopped("race", body.format(synchronized.format(63), read.format(4)) + "END:",
                     shared=256, threads=64)

    def test_global_memory_races_between_blocks_and_not_within_one_after_a_barrier(self):
        swap = "st.global.u32 [%rd3], %r1;\nbar.sync 0;\nxor.b32 %r4, %r1, 33;\n" \
            "mul.wide.u32 %rd4, %r4, 4;\nadd.s64 %rd5, %rd1, %rd4;\nld.global.u32 %r5, [%rd5];\n"
        launch(swap, threads=64)
        self.stopped("race", swap.replace("bar.sync 0;", ""), threads=64)
        self.stopped("race", swap, threads=64, blocks=2)
        turns = "setp.eq.u32 %p1, %r2, {};\n@%p1 st.global.u32 [%rd3], %r1;\n"
        self.stopped("race", turns.format(0) + "bar.sync 0;\n" + turns.format(1), blocks=2)

    def test_bytes_beside_each_other_do_not_race(self):
        out = launch("cvt.u64.u32 %rd4, %r1;\nadd.s64 %rd5, %rd1, %rd4;\nst.global.u8 [%rd5], %r1;")
        self.assertEqual(out[:8].view("u1").tolist(), list(range(32)))

    def test_atomics_do_not_race_with_each_other_and_do_with_writes(self):
        self.assertEqual(launch("atom.global.add.u32 %r4, [%rd1], 2;", threads=64)[0], 128)
        self.stopped("race", "atom.global.add.u32 %r4, [%rd1], 2;\nst.global.u32 [%rd1], 1;",
                     threads=64)

    def test_generic_addresses_reach_their_space(self):
        out = launch("mov.u32 %r4, s;\ncvt.u64.u32 %rd4, %r4;\ncvta.shared.u64 %rd5, %rd4;\n"
                     "add.s64 %rd6, %rd5, %rd2;\nsetp.lt.u32 %p1, %r1, 16;\n"
                     "selp.b64 %rd7, %rd6, %rd3, %p1;\nst.u32 [%rd7], %r1;\nld.u32 %r6, [%rd7];\n"
                     "st.global.u32 [%rd3], %r6;", shared=128)
        self.assertEqual(out[:32].tolist(), list(range(32)))

    def test_bounds_alignment_and_unwritten_memory(self):
        self.stopped("out of bounds", "ld.global.u32 %r4, [%rd3+4];", size=128)
        self.stopped("out of bounds", "ld.global.u32 %r4, [%rd3+-4];")
        self.stopped("out of bounds", "mov.u32 %r4, s;\nst.shared.u32 [%r4+128], %r1;", shared=128)
        self.stopped("misaligned", "ld.global.u64 %rd4, [%rd3];")
        self.stopped("misaligned", "ld.global.v2.u32 {%r4, %r5}, [%rd3];")
        self.stopped("uninitialized", "mov.u32 %r4, s;\nld.shared.u32 %r5, [%r4];", shared=128)
        self.stopped("uninitialized", ".local .b8 d[16];\nmov.u64 %rd4, d;\n"
                     "st.local.u16 [%rd4], 1;\nld.local.u32 %r4, [%rd4];")

    def test_diverged_lanes_meet_at_a_shuffle_in_their_mask(self):
        text = ("setp.lt.u32 %p1, %r1, 16;\n@%p1 bra LOW;\nmov.u32 %r4, 5;\nbra MEET;\n"
                "LOW: mov.u32 %r4, 3;\nMEET: shfl.sync.bfly.b32 %r5|%p2, %r4, 16, 31, -1;\n"
                "st.global.u32 [%rd3], %r5;")
        self.assertEqual(launch(text)[:32].tolist(), [5] * 16 + [3] * 16)
        alone = "setp.ge.u32 %p1, %r1, 16;\n@%p1 bra END;\n" \
            "shfl.sync.idx.b32 %r5, %r1, {}, 31, {};\nEND:"
        launch(alone.format(3, 0xFFFF))
        self.stopped("missing lanes", alone.format(3, -1))
        self.stopped("missing lanes", alone.format(20, 0xFFFF))

    def test_barriers_need_every_thread_at_one_line(self):
        self.stopped("divergent barrier", "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra LOW;\nbar.sync 0;\n"
                     "bra END;\nLOW: bar.sync 0;\nEND:", threads=64)
        self.stopped("divergent barrier", "setp.lt.u32 %p1, %r1, 5;\n@%p1 bar.sync 0;")

    def test_lines_that_nobody_reaches_are_known_too(self):
        like = "add.u32 %r4, %r5, %r6;\nsetp.lt.u32 %p1, %r4, 1;\nselp.u32 %r4, %r5, %r6, %p1;\n" \
            "and.pred %p1, %p2, 1;\nld.param.u64 %rd4, [p];\n"
        launch(like + "bra END;\nadd.u32 %r7, %r8, 5;\nselp.u32 %r4, 3, 4, 1;\nEND:")
        for line in ("add.u32 %r7, %p1, %r8;", "add.u32 %r7, %r8, nobody;",
                     "add.u32 %p1, %r4, %r5;", "add.u32 %r7, %r8, 08;", "bra NOWHERE;",
                     "selp.u32 %r4, %r5, %r6, 2;", "bar.sync 1;", "ld.param.u64 %rd4, [q];",
                     "@%p9 fns.b32 %r4, %r5, 1, 1;"):
            with self.assertRaises(Unsupported, msg=line):
                launch(f"{like}bra END;\n{line}\nEND:")

    def test_a_loop_without_end_and_a_trap_are_stopped(self):
        self.stopped("trap", "trap;")
        self.stopped("no end", "AGAIN: add.u32 %r4, %r4, 1;\nbra AGAIN;", limit=1000)


if __name__ == "__main__":
    unittest.main()
