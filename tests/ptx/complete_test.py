# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every kernel of the case files has run, and every team body of the library is in one of them.

Reads what library_test.py leaves in STIEFELX_PTX_FOLDER: the PTX of each file of cases and the
kernels that ran. A kernel that one file only compiles may run in another one.
"""

import os
import pathlib
import re
import sys

from library_test import kernels_of
from toolchain import ARCHITECTURES, FEWER, HERE, ROOT

# Team text that no kernel of its own runs, and why.
APART = {
}


def struct_bodies(text):
    """(name, text between the braces) of every struct that begins a line."""
    for found in re.finditer(r"^(?:struct|class) (\w+)[^;{]*\{", text, re.M):
        depth = 0
        for end in range(found.end() - 1, len(text)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                yield found.group(1), text[found.end():end]
                break


def team_bodies():
    """Names of the structs whose operator() takes a team."""
    call = re.compile(r"template <Team (\w+)[^>]*>\s*(?:requires[^\n]*\s*)?STIEFELX_HD[\s\w]*"
                      r"operator\(\)\(\1 const&")
    for path in sorted((ROOT / "include").rglob("*.hpp")):
        text = re.sub(r"//[^\n]*", "", path.read_text())
        for name, body in struct_bodies(text):
            if call.search(body):
                yield name


def entries(path):
    return re.findall(r"\.entry\s+([\w$]+)", path.read_text())


def main():
    folder = pathlib.Path(os.environ.get("STIEFELX_PTX_FOLDER", "."))
    families = sorted(p.stem for p in (HERE / "cases").glob("*.cpp"))
    if not any((folder / f"{f}.ran").exists() for f in families):
        print(f"skipped: no kernels ran in {folder}")
        return 77
    wrong, compiled, ran, few = [], {}, set(), set()
    for family in families:
        listed = folder / f"{family}.ran"
        lines = listed.read_text().splitlines() if listed.exists() else []
        if not lines:
            wrong.append(f"cuda.D.{family} has not run to its end")
        here = [line.split(" ", 3) for line in lines]  # architecture, threads, shared bytes, name
        ran |= {(a, functor) for a, _, _, functor in here}
        for _, _, _, functor in here:
            few |= set(re.findall(r"\w+", functor)) if family in FEWER else set()
        for a in {a for a, _, _, _ in here}:
            for functor in kernels_of(entries(folder / f"{family}.{a}.ptx")):
                compiled.setdefault((a, functor), family)
    for (a, functor), family in sorted(compiled.items()):
        if (a, functor) not in ran:
            wrong.append(f"{family}: compiled and not run for sm_{a}: {functor}")
    for a in map(str, ARCHITECTURES):
        if not any(other == a for other, _ in ran):
            wrong.append(f"nothing ran for sm_{a}")
    words = {a: set(re.findall(r"\w+", " ".join(k for b, k in ran if b == str(a))))
             for a in ARCHITECTURES}
    bodies = list(team_bodies())
    for name in bodies:
        missing = [a for a in ARCHITECTURES if name not in words[a]]
        if name in few:
            missing = [a for a in missing if any(a in these for these in FEWER.values())]
        if missing and name not in APART:
            wrong.append(f"team body {name} is in no case that ran for sm_{missing}")
        if name in APART and not missing:
            wrong.append(f"{name} runs and is listed as apart")
    wrong += [f"{name} is listed as apart and no team body" for name in APART if name not in bodies]
    print(f"{len(compiled)} kernels of all architectures, {len(bodies)} team bodies, "
          f"{len(wrong)} missing")
    for mistake in wrong:
        print(f"  {mistake}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
