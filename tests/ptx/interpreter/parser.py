# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Text of PTX to functions, variables and instructions. Nothing is interpreted here.

Names of registers and of parameter variables are made unique by their scope, so that blocks of
inline assembly and of calls can reuse theirs: the third scope of function f knows %p as `f/3/%p`.
"""

import functools
import re
from dataclasses import dataclass, field, replace

from .faults import Unsupported

SIZES = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
         "b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4, "u16x2": 4, "s16x2": 4,
         "b64": 8, "u64": 8, "s64": 8, "f64": 8, "f32x2": 8}


@dataclass
class Variable:
    """Memory with a name: its state space, alignment, size in bytes, and the first bytes."""
    name: str
    space: str
    align: int
    size: int
    initial: bytes = b""
    extern: bool = False


@dataclass
class Instruction:
    """One statement: @negated guard, opcode split at its dots, operands as text, which `rest` has
    in one."""
    opcode: list
    rest: str
    guard: str = ""
    negated: bool = False
    line: str = ""
    names: dict = field(default_factory=dict)

    @functools.cached_property
    def operands(self):
        return split_list(self.rest)


@dataclass
class Function:
    """A .entry or .func with its code. `labels` give positions, `tables` the targets of brx.idx."""
    name: str
    entry: bool
    parameters: list
    results: list
    registers: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    code: list = field(default_factory=list)
    labels: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)

    @functools.cached_property
    def accesses(self):
        """(state space or "", bytes of a value) of the loads, stores and atomics."""
        return {(next((s for s in ("shared", "global") if s in i.opcode), ""),
                 min(SIZES.get(i.opcode[-1], 1), 8))
                for i in self.code if i.opcode[0] in ("ld", "st", "atom", "red", "ldu")}


@dataclass
class Module:
    """A file of PTX. `translated` names the functions of which a launch has known every line,
    `kinds` says what these lines were like."""
    functions: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    translated: set = field(default_factory=set)
    kinds: set = field(default_factory=set)

    def entries(self):
        return [f for f in self.functions.values() if f.entry]


BRACKET = re.compile(r"[\[({]")
PART = re.compile(r"(?:[^,\[({\])}]|[\[({][^\[({\])}]*[\])}])+")
PARTS = re.compile(rf"{PART.pattern}(?:,{PART.pattern})*")


def split_list(text):
    """Parts between the commas that stand outside of all brackets."""
    if not BRACKET.search(text):
        parts = [part.strip() for part in text.split(",")]
        return parts if parts[-1] else parts[:-1]
    if PARTS.fullmatch(text):
        return [part.strip() for part in PART.findall(text)]
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "{[(") - (c in "}])")
        if c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    return parts + [last] if last else parts


def number(text):
    """An integer literal of PTX."""
    text = text.strip().rstrip("U")
    if re.fullmatch(r"-?0[0-7]+", text):
        return int(text, 8)
    return int(text, 0)


def initial_bytes(text, kind):
    """The bytes of an initializer `{1, 2}` or `1`; None where it has addresses in it."""
    out = b""
    for part in split_list(text.strip().strip("{}")):
        try:
            if part[:2] in ("0f", "0F"):
                out += int(part[2:], 16).to_bytes(4, "little")
            elif part[:2] in ("0d", "0D"):
                out += int(part[2:], 16).to_bytes(8, "little")
            else:
                size = SIZES[kind]
                out += (number(part) & (1 << 8 * size) - 1).to_bytes(size, "little")
        except ValueError:
            return None
    return out


DECLARATION = re.compile(
    r"\.(param|local|shared|global|const)\s+(?:\.align\s+(\d+)\s+)?(?:\.attribute\([^)]*\)\s+)?"
    r"\.(\w+)\s+(?:\.ptr\s*(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?([%\w$]+)\s*((?:\[\d*\])*)")


def variable(text):
    """A declaration of memory, or None for other text."""
    found = DECLARATION.search(text)
    if not found:
        return None
    space, align, kind, name, extents = found.groups()
    size = SIZES[kind]
    align = int(align or size)
    for extent in re.findall(r"\[(\d*)\]", extents):
        size *= int(extent or 0)
    initial = initial_bytes(text.split("=", 1)[1], kind) if "=" in text else b""
    return Variable(name, space, align, size, initial, ".extern" in text)


STATEMENT = re.compile(r"""\s*(?:(?P<scope>[{}]) | (?P<label>[$%\w]+)\s*:(?!:)
                           | \.(?:loc|file)\b[^\n;]*\n | (?P<text>[^;]*);)""", re.X)


def statements(body):
    """Yields '{' and '}' of scopes, 'label:' and the text of each statement."""
    at = 0
    while found := STATEMENT.match(body, at):
        at = found.end()
        kind = found.lastgroup
        if kind == "text":
            yield found["text"].rstrip()
        elif kind == "scope":
            yield found["scope"]
        elif kind == "label":
            yield found["label"] + ":"
    if body[at:].strip():
        raise Unsupported(f"text after the last statement: {body[at:].strip()}")


INSTRUCTION = re.compile(r"(?:@(!?)([%\w$]+)\s+)?([\w.:]+)\s*(.*)")


@functools.lru_cache(maxsize=None)
def opcode_of(text):
    """The parts of an opcode, one list for all lines that have it."""
    return text.split(".")


class BodyParser:
    """Fills a Function from the text between its braces."""

    def __init__(self, function):
        self.function = function
        self.scopes = [{}]
        self.opened = 0
        self.label = None
        for v in function.parameters + function.results:
            self.declare(v.name, v.name)

    def declare(self, name, unique):
        self.scopes[-1][name] = unique

    def unique(self, name):
        scope = f"{self.opened}/" if len(self.scopes) > 1 else ""
        return f"{self.function.name}/{scope}{name}"

    def names(self):
        known = {}
        for scope in self.scopes:
            known.update(scope)
        return known

    def register(self, text):
        kind, rest = re.match(r"\.reg\s+\.(\w+)\s+(.*)", text, re.S).groups()
        for name in split_list(rest):
            many = re.fullmatch(r"(%?[\w$]+)<(\d+)>", name)
            names = [f"{many.group(1)}{k}" for k in range(int(many.group(2)))] if many else [name]
            for n in names:
                unique = self.unique(n)
                self.declare(n, unique)
                self.function.registers[unique] = kind

    def run(self, body):
        f = self.function
        frozen = None
        for text in statements(body):
            if text == "{":
                self.opened += 1
                self.scopes.append({})
                frozen = None
            elif text == "}":
                self.scopes.pop()
                frozen = None
            elif text.endswith(":"):
                self.label = text[:-1]
                f.labels[self.label] = len(f.code)
            elif text.startswith(".reg"):
                self.register(text)
                frozen = None
            elif text.startswith(".branchtargets"):
                f.tables[self.label] = split_list(text[len(".branchtargets"):])
            elif not text:
                continue
            elif text.startswith("."):
                if re.match(r"\.(pragma|callprototype|loc|file)\b", text):
                    continue
                v = variable(text)
                if v is None:
                    raise Unsupported(f"declaration {text}")
                plain, v.name = v.name, self.unique(v.name)
                self.declare(plain, v.name)
                f.variables[v.name] = v
                frozen = None
            else:
                frozen = frozen or self.names()
                f.code.append(self.instruction(text, frozen))
                if f.code[-1].opcode[0] == "call":
                    call = f.code[-1]
                    f.code.append(replace(call, opcode=["result"]))

    @staticmethod
    def instruction(text, names):
        line = " ".join(text.split())
        found = INSTRUCTION.match(line)
        if not found:
            raise Unsupported(f"statement {line}")
        negated, guard, opcode, rest = found.groups()
        return Instruction(opcode_of(opcode), rest, names.get(guard, guard) or "",
                           bool(negated), line, names)


def matching(text, start):
    """Position of the brace that closes the one at `start`."""
    depth = 0
    for brace in re.compile("[{}]").finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return brace.start()
    raise Unsupported("a brace is never closed")


HEAD = re.compile(r"\.(entry|func)\s*(?:\((?P<results>[^)]*)\)\s*)?(?P<name>[\w$]+)\s*"
                  r"(?:\((?P<parameters>[^)]*)\))?", re.S)


def parse(text):
    """The Module of a text of PTX."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"^\s*\.(version|target|address_size)\b[^\n]*", "", text, flags=re.M)
    module, at = Module(), 0
    while text[at:].strip():
        end = text.find(";", at)
        brace = text.find("{", at)
        head = text[at:brace] if 0 <= brace and (brace < end or end < 0) else text[at:end]
        found = HEAD.search(head)
        if found and 0 <= brace and (brace < end or end < 0):
            close = matching(text, brace)
            parameters = [variable(p) for p in split_list(found["parameters"] or "")]
            results = [variable(p) for p in split_list(found["results"] or "")]
            if None in parameters or None in results:
                raise Unsupported(f"parameters of {found['name']}")
            function = Function(found["name"], found.group(1) == "entry", parameters, results)
            BodyParser(function).run(text[brace + 1:close])
            module.functions[function.name] = function
            at = close + 1
        else:
            if end < 0:
                raise Unsupported(f"text after the last function: {text[at:].strip()[:60]}")
            if not found:
                v = variable(text[at:end])
                if v:
                    module.variables[v.name] = v
            at = end + 1
    return module
