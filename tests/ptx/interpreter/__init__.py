# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Runs the PTX that nvcc makes, on the CPU, with numpy, and checks what a GPU would not.

A lane stands for a CUDA thread; registers are vectors over the lanes of all blocks. `faults` says
what stops a run, `parser` reads PTX, `rounding`, `arithmetic`, `bits` and `conversions` compute,
`memory` and `races` keep what is stored and who stored it, `execution` runs a launch.
"""

from .execution import Launch, run
from .faults import Fault, Unsupported
from .memory import GlobalMemory
from .parser import parse

__all__ = ["Fault", "GlobalMemory", "Launch", "Unsupported", "parse", "run"]
