# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""nvcc, and the PTX that it makes."""

import os
import pathlib
import shutil
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ARCHITECTURES = (75, 90, 120)
# Lanes that a team has at least: two warps, or one where the item is small and run_batch() says so.
LEAST_LANES = {75: 64, 90: 64, 120: 32}
# Where PTX is left for registers.py, and the kernels that ran for complete_test.py.
KEPT = os.environ.get("STIEFELX_PTX_FOLDER")
FOLDER = pathlib.Path(KEPT or ".")
FAMILIES = sorted(path.stem for path in (HERE / "cases").glob("*.cpp"))
INCLUDES = [f"-I{ROOT / 'include'}", f"-I{ROOT / 'tests'}", f"-I{ROOT}"]


def nvcc():
    """The path of nvcc, or None."""
    given = os.environ.get("STIEFELX_NVCC")
    return shutil.which(given or "nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def nvcc_command(architecture, flags=()):
    return [nvcc(), "-std=c++20", f"-arch=sm_{architecture}", "-Werror", "all-warnings",
            "--expt-relaxed-constexpr", *INCLUDES, *flags]


def keep(name, text):
    """Leaves a file for other tests."""
    if KEPT:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)


def kernels_that_ran(family):
    """(architecture, threads, shared bytes, functor) of what library_test.py has run, as texts."""
    listed = FOLDER / f"{family}.ran"
    lines = listed.read_text().splitlines() if listed.exists() else []
    return [line.split(" ", 3) for line in lines]


def make_ptx(source, architecture, flags=()):
    """The text of the PTX of a .cu file."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "kernels.ptx"
        done = subprocess.run([*nvcc_command(architecture, flags), "-x", "cu", "-ptx", str(source),
                               "-o", str(out)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"nvcc does not compile {source}:\n{done.stderr}")
        text = out.read_text()
    keep(f"{pathlib.Path(source).stem}.{architecture}.ptx", text)
    return text
