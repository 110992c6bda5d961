# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""A launch: lanes, program counters, branches, calls, barriers and the end.

The lanes at the lowest program counter step first, so that diverged ones meet again. Functions lie
before the kernel, so callees end before their callers go on. A lane that waits at a barrier, a
shuffle or a vote keeps its program counter there.
"""

from collections import Counter

import numpy as np

from .faults import Fault, Unsupported
from .memory import PerLane
from .races import RaceCheck, Threads
from .translation import JUMP, STEP, Translator


class Launch:
    """One kernel over a grid (x, y, z) of blocks of (x, y, z) threads."""

    def __init__(self, module, name, memory, grid, block, parameters, shared_bytes=0,
                 limit=20_000_000):
        self.module, self.memory, self.limit = module, memory, limit
        self.kernel = module.functions[name]
        self.grid, self.block = (tuple(v) + (1, 1, 1) for v in (grid, block))
        self.grid, self.block = self.grid[:3], self.block[:3]
        self.count = Counter()
        self.lay_out_lanes()
        self.lay_out_memory(parameters, shared_bytes)
        self.lines, self.starts = [], {}
        self.translator = Translator(self)
        self.translator.functions()
        self.watch()

    # --- before the run --------------------------------------------------------------------------

    def lay_out_lanes(self):
        threads = int(np.prod(self.block))
        self.block_threads, self.blocks = threads, int(np.prod(self.grid))
        self.stride = -(-threads // 32) * 32
        n = self.lanes = self.blocks * self.stride
        lane = np.arange(n)
        self.block_of, self.thread_of = lane // self.stride, lane % self.stride
        self.warp_of = lane // 32
        self.threads = Threads(self.block_of, self.warp_of, self.thread_of)
        self.absent = self.thread_of >= threads
        self.done, self.waiting = self.absent.copy(), np.zeros(n, bool)
        self.pc = np.zeros(n, np.int64)
        self.depth = np.zeros(n, np.int64)
        self.returns = np.zeros((16, n), np.int64)
        self.special = {}
        for name, extent, index in (("tid", self.block, self.thread_of),
                                    ("ctaid", self.grid, self.block_of)):
            self.special[f"%{name}.x"] = index % extent[0]
            self.special[f"%{name}.y"] = index // extent[0] % extent[1]
            self.special[f"%{name}.z"] = index // (extent[0] * extent[1])
            for axis, size in zip("xyz", extent):
                self.special[f"%n{name}.{axis}"] = np.full(n, size)
        lane_id = lane % 32
        ones = np.uint64(1) << lane_id.astype(np.uint64)
        self.special.update({
            "%laneid": lane_id, "%warpid": self.thread_of // 32,
            "%nwarpid": np.full(n, self.stride // 32), "WARP_SZ": np.full(n, 32),
            "%lanemask_eq": ones, "%lanemask_lt": ones - np.uint64(1),
            "%lanemask_le": ones * np.uint64(2) - np.uint64(1),
            "%lanemask_ge": ~(ones - np.uint64(1)), "%lanemask_gt": ~(ones * np.uint64(2)
                                                                     - np.uint64(1))})
        self.special = {k: v.astype(np.uint32) for k, v in self.special.items()}

    def lay_out_memory(self, parameters, shared_bytes):
        """Offsets of all variables in their spaces; the kernel's parameters get their bytes."""
        self.offset, sizes = {}, {"shared": 0, "local": 0, "param": 0}
        dynamic = []

        def place(v, name):
            space = v.space
            if space in ("global", "const"):
                if v.initial is None:
                    return
                address = self.memory.variable(name, v.size)
                self.memory.store(address, v.initial + bytes(v.size - len(v.initial)))
                self.offset[name] = address
            elif v.extern and v.space == "shared":
                dynamic.append(name)
            else:
                sizes[space] = -(-sizes[space] // v.align) * v.align
                self.offset[name] = sizes[space]
                sizes[space] += v.size

        for v in self.kernel.parameters:
            place(v, f"{self.kernel.name}/{v.name}")
        given = np.frombuffer(bytes(parameters), np.uint8)
        if len(given) != sizes["param"]:
            raise Fault("parameters", f"{self.kernel.name} takes {sizes['param']} bytes, "
                        f"{len(given)} are given")
        for v in self.module.variables.values():
            place(v, v.name)
        for f in self.module.functions.values():
            if f is not self.kernel and not f.entry:
                for v in f.parameters + f.results:
                    place(v, f"{f.name}/{v.name}")
            if f is self.kernel or not f.entry:
                for v in f.variables.values():
                    place(v, v.name)
        sizes["shared"] = -(-sizes["shared"] // 16) * 16
        for name in dynamic:
            self.offset[name] = sizes["shared"]
        if sizes["shared"] + shared_bytes > 227 * 1024:
            raise Fault("out of bounds", f"{sizes['shared'] + shared_bytes} bytes of shared memory "
                        "are asked for, there are 227 KiB")
        self.shared = PerLane("shared", self.blocks, sizes["shared"] + shared_bytes)
        self.local = PerLane("local", self.lanes, sizes["local"])
        self.parameter = PerLane("parameter", self.lanes, sizes["param"])
        if len(given):
            content, written = self.parameter.table()
            content[:, :len(given)] = given
            written[:, :len(given)] = 1

    def watch(self):
        """Race checks with places as large as the smallest access."""
        grain = {"shared": 8, "global": 8}
        for _, _, function, _ in self.translator.within:
            for space, size in function.accesses:
                for s in (space,) if space else grain:
                    grain[s] = min(grain[s], size)
        self.races = {
            "shared": RaceCheck("shared", len(self.shared.bytes.content), grain["shared"],
                                self.threads),
            "global": RaceCheck("global", len(self.memory.bytes.content), grain["global"],
                                self.threads)}

    # --- the run ---------------------------------------------------------------------------------

    def run(self):
        """Runs to the end of all lanes; returns counts of what was executed."""
        old = np.seterr(all="ignore")
        try:
            self.pc[:] = self.starts[self.kernel.name]
            while np.count_nonzero(self.done) < self.lanes:
                self.go_on()
        finally:
            np.seterr(**old)
            # Lines know the launch and the launch its lines: without them, memory is given back.
            self.lines, self.translator = [], None
        return self.count

    def go_on(self):
        """Steps the lanes at the lowest program counter until they meet others or part."""
        lines, steps = self.lines, 0
        nowhere = len(lines) + 1
        places = np.where(self.done | self.waiting, nowhere, self.pc)
        at = int(places.min())
        if at == nowhere:
            self.stuck()
        mask = places == at
        places[mask] = nowhere
        meet = int(places.min())
        size = np.count_nonzero(mask)
        whole = size == self.lanes
        while at < meet:
            line = lines[at]
            if line is None:
                line = lines[at] = self.translator.line(at)
            steps += 1
            if steps > self.limit:
                raise Fault("no end", f"{self.limit} steps were not enough")
            kind, action, guard, negated, _ = line
            if guard is None:
                live, some, every = mask, True, True
            else:
                live = np.greater(mask, guard) if negated else mask & guard
                some = np.count_nonzero(live)
                every = some == size
            try:
                if kind == STEP:
                    if some:
                        action(None if whole and every else live)
                    at += 1
                elif not some:
                    at += 1
                elif kind == JUMP:
                    if every:
                        at = action
                    else:
                        self.pc[mask] = at + 1
                        self.pc[live] = action
                        break
                else:
                    self.pc[mask] = at + 1
                    self.pc[live] = at
                    if not action(live, at) or not every:
                        break
                    at += 1
            except (Fault, Unsupported) as fault:
                if not getattr(fault, "placed", False):
                    fault.placed = True
                    fault.args = (f"{fault.args[0]}, in `{line.source.line}`",)
                raise
        else:
            self.pc[mask] = at
        self.count["steps"] += steps
        if self.count["steps"] > self.limit:
            raise Fault("no end", f"{self.limit} steps were not enough")

    def stuck(self):
        """Nobody can go on: says who waits for whom."""
        k = int(np.flatnonzero(self.waiting & ~self.done)[0])
        line = self.translator.source_of(self.pc[k])
        block = self.block_of == self.block_of[k]
        what = "divergent barrier" if line.opcode[0] in ("bar", "barrier") and (
            "warp" not in line.opcode) else "missing lanes"
        group = block if what == "divergent barrier" else self.warp_of == self.warp_of[k]
        group = group & ~self.absent
        here = group & self.waiting & (self.pc == self.pc[k])
        gone = group & self.done
        rest = group & ~here & ~gone
        others = []
        if gone.any():
            others.append(f"{int(gone.sum())} have ended")
        for at in np.unique(self.pc[rest]):
            others.append(f"{int((rest & (self.pc == at)).sum())} wait at "
                          f"`{self.translator.source_of(at).line}`")
        if what == "missing lanes" and not others:
            others.append("the mask names lanes that are not there")
        raise Fault(what, f"{int(here.sum())} threads of block {self.block_of[k]} wait at "
                    f"`{line.line}`, {', '.join(others)}")

    # --- control flow ----------------------------------------------------------------------------

    def end(self, live, _):
        self.done |= live
        return False

    def barrier(self, live, at):
        """Releases the blocks whose threads all wait at this line."""
        self.waiting |= live
        here = (self.waiting & (self.pc == at)) | self.absent
        full = here.reshape(self.blocks, -1).all(1)[self.block_of]
        self.release(full & ~self.absent, at)
        self.threads.barrier(full)
        self.count["barriers"] += int(full[::self.stride].sum())
        return bool((full | ~live).all())

    def release(self, lanes, at):
        self.waiting &= ~lanes
        self.pc[lanes] = at + 1

    def together(self, live, at, members):
        """Releases and returns the lanes at this line whose warps are there as their masks say."""
        if not np.count_nonzero(self.waiting):
            late = live & (members != self.lane_bits(live))
            if not np.count_nonzero(late):
                self.pc[live] = at + 1
                return live
        self.waiting |= live
        here = self.waiting & (self.pc == at)
        there = self.lane_bits(here)
        outside = here & ((members >> self.special["%laneid"]) & np.uint32(1) == 0)
        if outside.any():
            raise Fault("missing lanes", "a lane is not in its own member mask")
        late = here & ((members & ~there) != 0)
        if (late & ((members & self.lane_bits(self.done)) != 0)).any():
            k = np.flatnonzero(late)[0]
            raise Fault("missing lanes", f"block {self.block_of[k]} thread {self.thread_of[k]} "
                        f"names members {int(members[k]):#010x}, of which some have ended")
        warp_late = late.reshape(-1, 32).any(1)[self.warp_of]
        ready = here & ~warp_late
        self.release(ready, at)
        return ready

    def lane_bits(self, lanes):
        """For each lane the set of its warp's lanes among `lanes`, as bits."""
        packed = np.packbits(lanes.reshape(-1, 32), axis=1, bitorder="little").view(np.uint32)
        return packed[:, 0][self.warp_of]

    def enter_function(self, live, back, name):
        """Puts the lanes at the start of a function, to come back to line `back`."""
        start, end = self.starts[name], self.starts[name + "/end"]
        for d in range(int(self.depth[live].max(initial=0))):
            inside = live & (self.depth > d)
            if ((self.returns[d][inside] > start) & (self.returns[d][inside] <= end)).any():
                raise Unsupported(f"recursion of {name}")
        if start <= back <= end:
            raise Unsupported(f"recursion of {name}")
        self.returns[self.depth[live], np.flatnonzero(live)] = back
        self.depth[live] += 1
        self.pc[live] = start
        self.count["calls"] += 1

    def leave_function(self, live, _):
        self.depth[live] -= 1
        self.pc[live] = self.returns[self.depth[live], np.flatnonzero(live)]
        return False


def run(module, name, memory, grid, block, parameters, shared_bytes=0):
    """Launches the kernel whose name is, or alone contains, `name`; returns its counts."""
    if name not in module.functions:
        found = [f.name for f in module.entries() if name in f.name]
        if len(found) != 1:
            raise Unsupported(f"{len(found)} kernels are called {name}: {found}")
        name = found[0]
    return Launch(module, name, memory, grid, block, parameters, shared_bytes).run()
