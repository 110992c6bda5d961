# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""must_fail.py MISTAKE: runs a kernel that is wrong on purpose.

Exits 0 if the check that this mistake belongs to, and no other, stops it on every architecture, and
if nothing stops the corrected kernel.
"""

import struct
import sys

import numpy as np
from interpreter import Fault, GlobalMemory, parse, run
from toolchain import ARCHITECTURES, ROOT, make_ptx

CHECKS = {
    "missing_barrier": "race", "missing_double_buffer": "race", "blocks_that_meet": "race",
    "misaligned_vector": "misaligned", "divergent_barrier": "divergent barrier",
    "early_exit": "divergent barrier", "out_of_bounds_by_one": "out of bounds",
    "unwritten_output": "unwritten output", "unwritten_shared": "uninitialized",
    "missing_lanes": "missing lanes",
}
SIZE = 64


def fault_of(module):
    """The Fault of a launch of two warps (of two blocks where blocks may meet), or None."""
    memory = GlobalMemory()
    x = memory.put("x", np.arange(SIZE, dtype=np.float32))
    y = memory.allocate("y", 4 * SIZE)
    blocks = 2 if sys.argv[1] == "blocks_that_meet" else 1
    try:
        run(module, "mistake", memory, (blocks,), (SIZE,), struct.pack("@PPi0P", x, y, SIZE), 512)
        memory.load(y, SIZE, np.float32)
    except Fault as fault:
        return fault
    return None


def main():
    name = sys.argv[1]
    source = ROOT / "tests/must_fail/ptx" / f"{name}.cu"
    wrong = 0
    for architecture in ARCHITECTURES:
        fault = fault_of(parse(make_ptx(source, architecture)))
        print(f"caught by tier D, sm_{architecture}: {fault}" if fault else f"sm_{architecture}: nothing stopped it")
        wrong += fault is None or fault.check != CHECKS[name]
    fault = fault_of(parse(make_ptx(source, ARCHITECTURES[0], ["-DSTIEFELX_CORRECTED"])))
    print(f"corrected: {fault or 'runs to its end'}")
    return 1 if wrong or fault else 0


if __name__ == "__main__":
    sys.exit(main())
