# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""What the lanes of a warp do together: shuffles, votes, matches, sums, the barrier of the warp.

Each needs all lanes of its member mask at the same line. Actions take the lanes that arrive and
return whether all of them went on.
"""

import numpy as np

from .faults import Fault, Unsupported

ONE = np.uint32(1)


def went_on(ready, live):
    return ready is live or bool((ready | ~live).all())


def shuffle(translator, i):
    """shfl.sync.mode.b32 d{|p}, a, b, c, members."""
    launch, op = translator.launch, i.opcode
    if op[1] != "sync" or op[2] not in ("bfly", "idx", "up", "down") or op[3:] != ["b32"]:
        raise Unsupported(".".join(op))
    mode = op[2]
    results = i.operands[0].split("|")
    keep = translator.target(i, results[0], "b32")
    keep_inside = translator.target(i, results[1], "pred") if len(results) > 1 else None
    value = translator.source(i, i.operands[1], "b32")
    b, c, members = (translator.source(i, o, "u32") for o in i.operands[2:5])
    lane = launch.special["%laneid"].astype(np.int64)
    base = np.arange(launch.lanes) - lane

    def chosen():
        """The lane in the warp that each lane reads, and whether that is where it wants to."""
        by, limits = (b() & np.uint32(31)).astype(np.int64), c().astype(np.int64)
        segment, clamp = (limits >> 8) & 31, limits & 31
        low, high = lane & segment, (lane & segment) | (clamp & ~segment)
        j = {"bfly": lane ^ by, "down": lane + by, "up": lane - by,
             "idx": low | (by & ~segment)}[mode]
        inside = j >= high if mode == "up" else j <= high
        return np.where(inside, j, lane) & 31, inside
    always = chosen() if "%" not in i.operands[2] + i.operands[3] else None

    def act(live, at):
        ready = launch.together(live, at, members())
        taking_part = np.count_nonzero(ready)
        if taking_part:
            j, inside = always or chosen()
            if taking_part < launch.lanes:
                given = launch.lane_bits(ready)
                absent = ready & ((given >> j.astype(np.uint32)) & ONE == 0)
                if np.count_nonzero(absent):
                    raise Fault("missing lanes", "a shuffle reads a lane that does not take part")
            keep(value()[base + j], ready)
            if keep_inside:
                keep_inside(inside, ready)
        return went_on(ready, live)
    return act


def vote(translator, i):
    """vote.sync.{all, any, uni, ballot}.type d, p, members."""
    launch, mode = translator.launch, i.opcode[2]
    if i.opcode[1] != "sync" or mode not in ("all", "any", "uni", "ballot"):
        raise Unsupported(".".join(i.opcode))
    keep = translator.target(i, i.operands[0], "b32" if mode == "ballot" else "pred")
    value = translator.source(i, i.operands[1], "pred")
    members = translator.source(i, i.operands[2], "u32")

    def act(live, at):
        m = members()
        ready = launch.together(live, at, m)
        if ready.any():
            yes = launch.lane_bits(value() & ready) & m
            keep({"all": yes == m, "any": yes != 0, "uni": (yes == m) | (yes == 0),
                  "ballot": yes}[mode], ready)
        return went_on(ready, live)
    return act


def active_mask(translator, i):
    launch = translator.launch
    keep = translator.target(i, i.operands[0], "b32")

    def act(live, at):
        keep(launch.lane_bits(live), live)
        launch.release(live, at)
        return True
    return act


def match(translator, i):
    """match.{any, all}.sync.type d{|p}, a, members."""
    launch, mode, kind = translator.launch, i.opcode[1], i.opcode[-1]
    results = i.operands[0].split("|")
    keep = translator.target(i, results[0], "b32")
    keep_all = translator.target(i, results[1], "pred") if len(results) > 1 else None
    value = translator.source(i, i.operands[1], kind)
    members = translator.source(i, i.operands[2], "u32")

    def act(live, at):
        m = members()
        ready = launch.together(live, at, m)
        if ready.any():
            table = value().reshape(-1, 32)
            same = np.zeros(launch.lanes, np.uint32)
            for k in range(32):
                equal = (table == table[:, k:k + 1]).reshape(-1)
                same |= np.where(equal, ONE << np.uint32(k), np.uint32(0))
            same &= m & launch.lane_bits(ready)
            if mode == "any":
                keep(same, ready)
            else:
                keep(np.where(same == m, m, np.uint32(0)), ready)
                if keep_all:
                    keep_all(same == m, ready)
        return went_on(ready, live)
    return act


def reduction(translator, i):
    """redux.sync.op.type d, a, members."""
    launch, name, kind = translator.launch, i.opcode[2], i.opcode[-1]
    functions = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
                 "or": np.bitwise_or, "xor": np.bitwise_xor}
    if kind not in ("u32", "s32", "b32") or len(i.opcode) != 4:
        raise Unsupported(".".join(i.opcode))
    function = functions[name]
    keep = translator.target(i, i.operands[0], kind)
    value = translator.source(i, i.operands[1], kind)
    members = translator.source(i, i.operands[2], "u32")

    def act(live, at):
        m = members()
        ready = launch.together(live, at, m)
        if ready.any():
            values, out = value(), np.zeros(launch.lanes, value().dtype)
            groups = {}
            for lane in np.flatnonzero(ready):
                groups.setdefault((lane // 32, int(m[lane])), []).append(lane)
            for lanes in groups.values():
                out[lanes] = function.reduce(values[lanes], dtype=values.dtype)
            keep(out, ready)
        return went_on(ready, live)
    return act


def warp_barrier(translator, i):
    """bar.warp.sync members: orders the memory of a warp where all of its lanes take part."""
    launch = translator.launch
    members = translator.source(i, i.operands[0], "u32")

    def act(live, at):
        m = members()
        ready = launch.together(live, at, m)
        launch.threads.warp_barrier(ready & (m == np.uint32(0xFFFFFFFF)))
        return went_on(ready, live)
    return act


NAMES = {"shfl": shuffle, "vote": vote, "activemask": active_mask, "match": match,
         "redux": reduction}
