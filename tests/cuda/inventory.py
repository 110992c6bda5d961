# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""inventory.py [--write]: which public functions and classes run on which tier without a GPU.

Writes docs/guide/device_functions.md from the sources, or, without --write, exits 1 where that page
is not what they say or where something public for the device is executed by no test.
"""

import difflib
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/guide/device_functions.md"
LIBRARY = ROOT / "include/stiefelx"
# What a device program is made of; the host's backend has the same names and is left out.
PARTS = ("core", "team", "element", "cuda", "cuda/kernels", "orth", "manifold", "optim", "nn")
ALGORITHMS = ("orth", "manifold", "optim", "nn")
INTRODUCTION = """\
# Device functions and the tiers that execute them {#guide_device_functions}

Written by `python3 tests/cuda/inventory.py --write`; the test `cuda.inventory` fails when it is out of
date, or something for the device has no tier B. \\ref guide_device says what the tiers are.

A cell names a test file. A plain name: the file, or a header of its folder, calls the function or
names the class. In parentheses, with a name or not: tests call something of the library whose text
does, directly or through others. Both are read off the sources: a call may stand in a branch that a
test never takes, and overloads of one name are not told apart.

- **B**: tests/cuda/NAME_test.cpp, or a typed test of the library that runs on the device too.
- **C**: a suite of `STIEFELX_CUDA_RACES` in tests/cuda/CMakeLists.txt.
- **D**: tests/ptx/cases/NAME.cpp, for what launches a kernel or is called in one.
- **E**: `registers` where a kernel of it is in tests/ptx/registers.txt. nvcc and clang compile every
  header besides (`cuda.E.umbrella`, `cuda.E.clang`).
- **F**: a program of tests/gpu/run.sh, without the cases that need the fake device.
"""
SECOND = """
## Algorithms

The same text as the host's. Up to three typed tests that run on the device (tests/cuda/typed_tests.cmake)
and call something of a header; a file may also have cases for the host alone.
"""


def code_of(text):
    """A file without comments, strings, directives and what nvcc alone compiles."""
    text = re.sub(r"^#if defined\(__CUDACC__\)\n(?:(?!#).*\n)*", "", text, flags=re.M)
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', " ", text, flags=re.S)
    return re.sub(r"^\s*#(?:\\\n|.)*$", "", text, flags=re.M)


def test_code(path, shown=pathlib.Path.read_text):
    """A test file, as `shown` gives it, with those headers of its folder that it includes."""
    text = code_of(shown(path))
    for name in re.findall(r'#include [<"](?:\w+/)?(\w+\.hpp)[>"]', path.read_text()):
        if (path.parent / name).exists():
            text += test_code(path.parent / name)
    return text


def on_a_gpu(path):
    """What tests/gpu/run.sh compiles of a test: cases that do not look behind the fake device."""
    return subprocess.run(["awk", "-f", ROOT / "tests/gpu/device_cases.awk", path], check=True,
                          capture_output=True, text=True).stdout


def skip(text, at, opening, closing):
    """The place behind the bracket that closes the one at `at`."""
    depth = 0
    while at < len(text):
        depth += (text[at] == opening) - (text[at] == closing)
        at += 1
        if depth == 0:
            break
    return at


def without_clauses(head):
    """A declaration's head without template<...>, requires(...) and attributes."""
    head = re.sub(r"\[\[.*?\]\]", " ", head)
    for word, (opening, closing) in {"template": "<>", "requires": "()", "alignas": "()"}.items():
        while found := re.search(rf"\b{word}\s*\{opening}", head):
            head = head[:found.start()] + " " + head[skip(head, found.end() - 1, opening, closing):]
    return head


def declarations(text):
    """(name, kind, inside of namespace detail, text) of what a namespace holds."""
    at, start, spaces = 0, 0, []
    while at < len(text):
        c = text[at]
        if c not in ";{}":
            at = skip(text, at, "(", ")") if c == "(" else at + 1
            continue
        head = text[start:at]
        if c == "{" and (space := re.search(r"\bnamespace\s*([\w:]*)\s*$", head)):
            spaces.append(space[1])
        elif c == "}" and spaces:
            spaces.pop()
        else:
            if c == "{":
                end = skip(text, at, "{", "}")
            else:
                end = at + 1
            plain = without_clauses(head)
            hidden = any(s in ("", "detail") or s.endswith("::detail") for s in spaces)
            kind = re.match(r"\s*(class|struct|using)\s+(\w+)", plain)
            member = re.search(r"(\w+)::(?:\w+::)*~?\w+\s*\(", plain.split("(")[0] + "(")
            function = re.search(r"(\w+)\s*\(", plain)
            if kind and (kind[1] != "using" or "=" in plain):
                yield kind[2], "alias" if kind[1] == "using" else "class", hidden, text[start:end]
            elif member:
                yield member[1], "class", True, text[start:end]
            elif function and not re.search(r"=|operator|concept", plain[:function.start()]):
                verb = re.match(r"\s*(?:\w+::)*(?:context|Ctx)\s*&", plain[function.end():])
                yield function[1], "verb" if verb else "function", hidden, text[start:end]
            at = end - 1
        at += 1
        start = at


class Inventory:
    def __init__(self):
        self.texts, self.kinds = {}, {}  # of a name: all texts that define it, and as what
        self.public = {}                 # of a header: its public names
        for part in PARTS:
            for path in sorted((LIBRARY / part).glob("*.hpp")):
                names = self.public.setdefault(str(path.relative_to(LIBRARY)), {})
                for name, kind, hidden, text in declarations(code_of(path.read_text())):
                    self.texts[name] = self.texts.get(name, "") + text
                    self.kinds.setdefault(name, set()).add(kind)
                    if not hidden and kind != "alias":
                        names[name] = kind
        word = "|".join(sorted(self.kinds, key=len, reverse=True))
        self.pattern = re.compile(rf"(?<![\w.>~])(?:(\w+)::)?({word})\b(?=\s*(.{{0,6}}))"
                                  r"(?=(?:\s*<[^;{}()]*>)?\s*(?:\(\s*([\w.]*))?)", re.S)
        self.uses = {name: self.named(text) - {name} for name, text in self.texts.items()}
        # What has text for a lane: kernels, and what they are made of.
        self.kernels = {n for n, t in self.texts.items() if "STIEFELX_HD" in t}

    def named(self, text):
        """What of the library a text calls or names."""
        found = set()
        for space, name, after, argument in self.pattern.findall(text):
            if space not in ("", "cuda", "device", "stiefelx", "detail"):
                continue
            kinds = self.kinds[name]
            call = re.match(r"\(|<", after)
            if ("verb" in kinds and call and argument.rstrip(".").split(".")[-1] in ("ctx", "context", "first")
                    or "function" in kinds and call or "alias" in kinds and after.startswith("<")
                    or "class" in kinds and re.match(r"[<{(&*\w]|::", after)):
                found.add(name)
        return found

    def reached(self, names):
        """The names and what their texts use, and so on."""
        found, todo = set(names), list(names)
        while todo:
            for name in self.uses[todo.pop()] - found:
                found.add(name)
                todo.append(name)
        return found

    def tier(self, paths, shown=pathlib.Path.read_text):
        """(label, names, names reached) of each test file."""
        rows = []
        for path in paths:
            names = self.named(test_code(path, shown))
            folder = "" if path.parent.name in ("cuda", "cases") else path.parent.name + "/"
            label = folder + path.stem.removesuffix("_test")
            rows.append((label, names, self.reached(names)))
        return rows


def cell(name, header, tier, callers):
    """The file that stands for a tier: that of the header's name, or the one that asks for most."""
    def rank(row):
        return row[0] == pathlib.PurePath(header).stem, "/" not in row[0], len(row[1] & callers)

    for place, form in ((1, "{}"), (2, "({})")):
        # What a typed test calls like a kernel's class is something of its own.
        if rows := [row for row in tier if name in row[place] and
                    (place == 2 or "/" not in row[0] or "kernels/" not in header)]:
            best = max(rows, key=rank)
            # Of many tests that get there through others none stands for the rest.
            return form.format(best[0] if place == 1 or rank(best)[0] else "yes")
    return ""


def words(path, pattern):
    return re.search(pattern, path.read_text(), re.S)[1].split()


def typed_tests():
    """What typed_tests.cmake selects."""
    host_only = words(ROOT / "tests/cuda/typed_tests.cmake", r"host_only([^)]*)\)")
    for folder in ("core", "orth", "manifold", "optim", "nn", "testing"):
        for path in sorted((ROOT / "tests" / folder).glob("*_test.cpp")):
            if f"{folder}/{path.stem.removesuffix('_test')}" not in host_only:
                if re.search(r"(real|complex|double)_cases[)]", path.read_text()):
                    yield path


def page():
    """The text of the page, and what is missing."""
    own = ROOT / "tests/cuda"
    library = Inventory()
    races = words(own / "CMakeLists.txt", r"set\(STIEFELX_CUDA_RACES([^)]*?)\s+CACHE")
    # What is called in misuse_test.cpp refuses.
    suites = sorted(set(own.glob("*_test.cpp")) - {own / "misuse_test.cpp"})
    of_the_fake = words(ROOT / "tests/gpu/run.sh", r'\bof_the_fake="([^"]*)"')
    on_gpu = [p for p in [*suites, *typed_tests()] if "TEST_CASE" in on_a_gpu(p) and
              p.stem.removesuffix("_test") not in of_the_fake and
              not re.search(r"include <?\"?(examples|stiefelx/(host/|stiefelx\.hpp))", p.read_text())]
    typed = library.tier(typed_tests())
    tiers = {"B": library.tier(suites) + typed,
             "C": library.tier(own / f"{n}_test.cpp" for n in races),
             "D": library.tier(sorted((ROOT / "tests/ptx/cases").glob("*.cpp"))),
             "F": library.tier(on_gpu, on_a_gpu)}
    listed = set(re.findall(r"[a-z_]\w+", (ROOT / "tests/ptx/registers.txt").read_text()))
    reached = {name: library.reached([name]) for name in library.uses}
    text, missing = INTRODUCTION, []
    for header, names in library.public.items():
        if not header.startswith("cuda/") or not names:
            continue
        text += f"\n## {header}\n\n| | B | C | D | E | F |\n| --- | --- | --- | --- | --- | --- |\n"
        for name, kind in sorted(names.items()):
            callers = {n for n in reached if name in reached[n]}
            cells = {t: cell(name, header, rows, callers) for t, rows in tiers.items()}
            if "launch" not in reached[name] and name not in library.kernels:
                cells["D"] = ""
            in_table = cells["D"] and reached[name] & library.kernels & listed
            cells["E"] = "registers" if in_table else ""
            text += f"| `{name}{'' if kind == 'class' else '()'}` | " + \
                " | ".join(cells[t] for t in "BCDEF") + " |\n"
            if not cells["B"]:
                missing.append(f"{header}: {name}")
    text += SECOND + "\n| header | tests on the device |\n| --- | --- |\n"
    for header, names in library.public.items():
        if header.split("/")[0] not in ALGORITHMS:
            continue
        # Names of few headers say most: `inner` is on every manifold.
        homes = {n: sum(n in other for other in library.public.values()) for n in names}
        own_names = {n for n in names if homes[n] == min(homes.values())}
        direct = [row[0] for row in typed if row[1] & own_names]
        within = [f"({row[0]})" for row in typed if row[2] & own_names]
        found = direct or within or ["none" if names else "nothing public"]
        text += f"| {header} | {', '.join(found[:3])} |\n"
    return text, missing


def main():
    text, missing = page()
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(text)
    held = PAGE.read_text() if PAGE.exists() else ""
    sys.stdout.writelines(difflib.unified_diff(held.splitlines(True), text.splitlines(True),
                                               "the page", "the sources", n=0))
    for name in missing:
        print(f"no test of tier B executes {name}")
    print("python3 tests/cuda/inventory.py --write brings the page up to date"
          if held != text else f"{text.count(chr(10))} lines, up to date")
    return 1 if missing or held != text else 0


if __name__ == "__main__":
    sys.exit(main())
