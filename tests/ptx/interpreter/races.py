# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Who read and wrote each piece of memory last, to see accesses that nothing orders.

Two accesses of one place by different threads, one of them a write, need between them a barrier of
the block (other warps), a barrier of the warp or of the block (same warp), or a launch (other
blocks). Shuffles order no memory. Atomics of one place need nothing between them.
"""

import numpy as np

from .faults import Fault, Unsupported

# A thread's name has the numbers of its block, its warp and its lane in fields of one integer, from
# the top. They are kept plus one, so that tables of zeros, which cost nothing untouched, know
# nobody; a field of ones says that there were several.
WARP, BLOCK, TOP = 22, 42, 63
LANES, WARPS, BLOCKS = (1 << WARP) - 1, (1 << BLOCK) - (1 << WARP), (1 << TOP) - (1 << BLOCK)
# When: barriers of the block above those of the warp.
EPOCH = 1 << 32


class Threads:
    """Names of a launch's threads, and the barriers each of them has passed."""

    def __init__(self, block_of, warp_of, thread_of):
        lanes = len(block_of)
        if lanes >= min(LANES, WARPS >> WARP, BLOCKS >> BLOCK):
            raise Unsupported(f"a launch of {lanes} threads")
        self.block, self.thread = block_of, thread_of
        self.name = ((block_of + 1) << BLOCK) + ((warp_of + 1) << WARP) + np.arange(1, lanes + 1)
        self.when = np.zeros(lanes, np.int64)

    def barrier(self, lanes):
        self.when[lanes] += EPOCH + 1

    def warp_barrier(self, lanes):
        self.when[lanes] += 1


class Record:
    """One kind of access to every place: its threads and when they came."""

    def __init__(self, name, places):
        self.name = name
        self.who, self.when = (np.zeros(places, np.int64) for _ in range(2))
        self.used = False

    def against(self, at, names, when):
        """Which of these accesses nothing orders after the recorded ones of other threads, or None
        if none."""
        was = self.who[at]
        differ = np.where(was == 0, 0, was ^ names)
        if not np.count_nonzero(differ):
            return None
        passed = self.when[at] ^ when
        bad = ((differ >= 1 << BLOCK) | (passed < EPOCH) & (differ >= 1 << WARP)
               | (passed == 0) & (differ != 0))
        return bad if np.count_nonzero(bad) else None

    def enter(self, at, names, when):
        """Adds accesses; threads that share a place in one epoch become several. Returns whether
        some of these accesses share one."""
        was, before = self.who[at], self.when[at] if self.used else when
        self.used = True
        self.who[at], self.when[at] = names, when
        lost = self.who[at] ^ names
        shared = np.count_nonzero(lost) > 0
        differ = np.where(was == 0, 0, was ^ names)
        if shared or np.count_nonzero(differ):
            passed = before ^ when
            passed[differ >= 1 << BLOCK] = EPOCH
            for several, many in (
                    (BLOCKS, (differ | lost) >= 1 << BLOCK),
                    (WARPS, ((passed < EPOCH) & (differ & WARPS != 0)) | (lost & WARPS != 0)),
                    (LANES, ((passed == 0) & (differ & LANES != 0)) | (lost & LANES != 0))):
                places = at[many]
                self.who[places] |= several
        return shared


class RaceCheck:
    """Watches one memory in places of `grain` bytes."""

    def __init__(self, name, size, grain, threads):
        self.name, self.grain, self.threads = name, grain, threads
        places = size // grain + 1
        reads, writes, atomics = (Record(n, places) for n in ("read", "write", "atomic"))
        self.own = {"read": reads, "write": writes, "atomic": atomics}
        self.others = {"read": (writes, atomics), "write": (writes, atomics, reads),
                       "atomic": (writes, reads)}

    def stop(self, bad, at, names, what, record, described):
        k = np.flatnonzero(bad)[0]
        other, first = (int(n & LANES) - 1 for n in (record.who[at[k]], names[k]))
        t = self.threads
        who = "several threads" if other == LANES - 1 else (
            f"block {t.block[other]} thread {t.thread[other]}")
        raise Fault("race", f"{self.name} memory, {described(int(at[k]) * self.grain)}: {what} by "
                    f"block {t.block[first]} thread {t.thread[first]} is not ordered "
                    f"after the {record.name} of {who}")

    def access(self, what, at, size, lanes, described):
        """what: 'read', 'write' or 'atomic' of `size` bytes at offsets `at` by these lanes."""
        place, names, when = at // self.grain, self.threads.name[lanes], self.threads.when[lanes]
        count = size // self.grain
        if count > 1:
            place = (place[:, None] + np.arange(count)).reshape(-1)
            names, when = names.repeat(count), when.repeat(count)
        for record in self.others[what]:
            if record.used:
                bad = record.against(place, names, when)
                if bad is not None:
                    self.stop(bad, place, names, what, record, described)
        own = self.own[what]
        if own.enter(place, names, when) and what == "write":
            self.stop(own.who[place] != names, place, names, what, own, described)
