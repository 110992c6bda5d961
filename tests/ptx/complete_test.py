# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Every kernel of the case files has run, and every team body of the library is in one of them and
has run with more than one warp, between whose lanes nothing but a barrier makes order.

Reads what library_test.py leaves in STIEFELX_PTX_FOLDER: the PTX of each file of cases and the
kernels that ran. A kernel that one file only compiles may run in another one.
"""

import re
import sys

from library_test import kernels_of
from toolchain import ARCHITECTURES, FAMILIES, FOLDER, ROOT, kernels_that_ran

# Team text that no kernel of its own runs, and why.
APART = {
}
# Team text that never has more than one warp, and why.
ONE_WARP = {
}
WARP_LANES = 32


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
    """Names of the structs whose operator() takes a team. core/ does not know the concept: what is
    named a body there takes one."""
    call = re.compile(r"template <(Team|class) (\w+)[^>]*>\s*(?:requires[^\n]*\s*)?STIEFELX_HD"
                      r"[\s\w]*operator\(\)\(\2 const&")
    for path in sorted((ROOT / "include").rglob("*.hpp")):
        text = re.sub(r"//[^\n]*", "", path.read_text())
        for name, body in struct_bodies(text):
            found = call.search(body)
            if found and (found[1] == "Team" or name.endswith("_body")):
                yield name


def entries(path):
    return re.findall(r"\.entry\s+([\w$]+)", path.read_text())


def main():
    if not any((FOLDER / f"{f}.ran").exists() for f in FAMILIES):
        print(f"skipped: no kernels ran in {FOLDER}")
        return 77
    wrong, compiled, ran, meeting = [], {}, set(), set()
    for family in FAMILIES:
        here = kernels_that_ran(family)
        if not here:
            wrong.append(f"cuda.D.{family} has not run to its end")
        ran |= {(a, functor) for a, _, _, functor in here}
        for _, threads, _, functor in here:
            words = set(re.findall(r"\w+", functor))
            meeting |= words if int(threads) > WARP_LANES else set()
        for a in {a for a, _, _, _ in here}:
            for functor in kernels_of(entries(FOLDER / f"{family}.{a}.ptx")):
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
        if missing and name not in APART:
            wrong.append(f"team body {name} is in no case that ran for sm_{missing}")
        if name in APART and not missing:
            wrong.append(f"{name} runs and is listed as apart")
        if not missing and (name in meeting) == (name in ONE_WARP):
            wrong.append(f"team body {name} " + ("has more than one warp and is listed as having one"
                                                 if name in meeting else "ran with one warp alone"))
    wrong += [f"{name} is listed and no team body" for name in {**APART, **ONE_WARP}
              if name not in bodies]
    print(f"{len(compiled)} kernels of all architectures, {len(bodies)} team bodies, "
          f"{len(wrong)} missing")
    for mistake in wrong:
        print(f"  {mistake}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
