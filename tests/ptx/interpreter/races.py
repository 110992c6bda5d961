# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Who read and wrote each piece of memory last, to see accesses that nothing orders.

Two accesses of one place by different threads, one of them a write, need between them a barrier of
the block (other warps), a barrier of the warp or of the block (same warp), or a launch (other
blocks). Shuffles order no memory. Atomics of one place need nothing between them.
"""

import numpy as np

from .faults import Fault

# Numbers are kept plus one, so that tables of zeros, which cost nothing untouched, know nobody.
NOBODY, SEVERAL = 0, -1


class Threads:
    """Numbers of a launch's threads, and the barriers each of them has passed."""

    def __init__(self, block_of, warp_of, thread_of):
        self.block, self.warp, self.thread = block_of, warp_of, thread_of
        lanes = len(block_of)
        self.block_epoch = np.zeros(lanes, np.int64)
        self.warp_epoch = np.zeros(lanes, np.int64)

    def barrier(self, lanes):
        self.block_epoch[lanes] += 1
        self.warp_epoch[lanes] += 1

    def warp_barrier(self, lanes):
        self.warp_epoch[lanes] += 1


class Record:
    """One kind of access to every place: its threads and their epochs."""

    def __init__(self, name, places):
        self.name = name
        self.lane, self.warp, self.block = (np.zeros(places, np.int64) for _ in range(3))
        self.block_epoch = np.zeros(places, np.int64)
        self.warp_epoch = np.zeros(places, np.int64)
        self.used = False

    def against(self, at, lanes, threads):
        """Which of these accesses nothing orders after the recorded ones of other threads."""
        block = self.block[at]
        some = block != NOBODY
        if not some.any():
            return some
        other_block = block != threads.block[lanes] + 1
        here = self.block_epoch[at] == threads.block_epoch[lanes]
        warp = self.warp[at]
        other_warp = here & (warp != threads.warp[lanes] + 1)
        lane = self.lane[at]
        other_lane = (here & (self.warp_epoch[at] == threads.warp_epoch[lanes])
                      & (lane != lanes + 1))
        return some & (other_block | other_warp | other_lane)

    def enter(self, at, lanes, threads):
        """Adds accesses; threads that share a place in one epoch become SEVERAL."""
        self.used = True
        block, warp, lane = threads.block[lanes] + 1, threads.warp[lanes] + 1, lanes + 1
        was_block, was_warp, was_lane = self.block[at], self.warp[at], self.lane[at]
        here = self.block_epoch[at] == threads.block_epoch[lanes]
        same_block = was_block == block
        many_blocks = (was_block != NOBODY) & ~same_block
        many_warps = same_block & here & (was_warp != warp)
        many_lanes = (same_block & here & (self.warp_epoch[at] == threads.warp_epoch[lanes])
                      & (was_lane != lane))
        self.block[at], self.warp[at], self.lane[at] = block, warp, lane
        self.block_epoch[at] = threads.block_epoch[lanes]
        self.warp_epoch[at] = threads.warp_epoch[lanes]
        self.block[at[many_blocks | (self.block[at] != block)]] = SEVERAL
        self.warp[at[many_warps | (self.warp[at] != warp)]] = SEVERAL
        self.lane[at[many_lanes | (self.lane[at] != lane)]] = SEVERAL


class RaceCheck:
    """Watches one memory in places of `grain` bytes."""

    def __init__(self, name, size, grain, threads):
        self.name, self.grain, self.threads = name, grain, threads
        places = size // grain + 1
        self.reads, self.writes, self.atomics = (
            Record(n, places) for n in ("read", "write", "atomic"))

    def stop(self, bad, at, lanes, what, record, described):
        k = np.flatnonzero(bad)[0]
        other, t = int(record.lane[at[k]]) - 1, self.threads
        first = int(lanes[k])
        who = "several threads" if other < 0 else (
            f"block {t.block[other]} thread {t.thread[other]}")
        raise Fault("race", f"{self.name} memory, {described(int(at[k]) * self.grain)}: {what} by "
                    f"block {t.block[first]} thread {t.thread[first]} is not ordered "
                    f"after the {record.name} of {who}")

    def access(self, what, at, size, lanes, described):
        """what: 'read', 'write' or 'atomic' of `size` bytes at offsets `at` by these lanes."""
        own = {"read": self.reads, "write": self.writes, "atomic": self.atomics}[what]
        against = [r for r in (self.writes, self.atomics, self.reads)
                   if r.used and not (what == "read" and r is self.reads)
                   and not (what == "atomic" and r is self.atomics)]
        first = at // self.grain
        for k in range(max(size // self.grain, 1)):
            place = first + k
            for record in against:
                bad = record.against(place, lanes, self.threads)
                if bad.any():
                    self.stop(bad, place, lanes, what, record, described)
            own.enter(place, lanes, self.threads)
            if what == "write":
                bad = own.lane[place] != lanes + 1
                if bad.any():
                    self.stop(bad, place, lanes, what, own, described)
