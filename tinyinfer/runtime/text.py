"""The text of a generated function: names, lines that are not too long, and what stands above it."""

import re
from collections import Counter
from contextlib import contextmanager
from keyword import iskeyword, softkwlist

from ..graph.graph import free_name
from ..kernels import written
from ..kernels.native import full_name
from ..kernels.recorded import NotNative

WIDTH = 100  # of a line
DEEPEST = (
    8  # of ifs and loops in one another: Python reads no more than 20 blocks, and an if is two
)
ODD = "inf", "nan"  # numbers that Python writes by name
TAKEN = (
    "arena",
    "callback",
    "constants",
    "native",
    "np",
    "range",
    "run",
    "Static",
    *ODD,
    *softkwlist,
)


class Text:
    """Lines of a function's body are written to it; `finished` is the whole file."""

    def __init__(self):
        self.lines, self.margin = [], 1
        self.kernels, self.statics, self.modules = {}, {}, set()
        self.taken = {*written.__all__, *TAKEN}

    def write(self, text=""):
        self.lines += wrapped("    " * self.margin + text) if text else [""]

    @contextmanager
    def inside(self, head):
        if self.margin > DEEPEST:
            raise NotNative("it is deep in others")
        self.write(head)
        self.margin += 1
        yield
        self.margin -= 1

    # ---- names -------------------------------------------------------------------------------------

    def free(self, wanted) -> str:
        """A name of Python's that nothing else has."""
        wanted = re.sub(r"\W", "_", wanted)
        wanted = wanted if wanted.isidentifier() and not iskeyword(wanted) else f"v{wanted}"
        return free_name(wanted, self.taken)

    def kernel(self, f) -> str:
        self.module(f)
        if f not in self.kernels:
            self.kernels[f] = self.free(full_name(f).replace(".", "_"))
        return self.kernels[f]

    def static(self, t) -> str:
        text = repr(t)
        if text not in self.statics:
            self.statics[text] = self.free(f"T{len(self.statics)}")
        return self.statics[text]

    def record(self, x) -> str:
        """Numbers with names: direct.Geometry(images=1, ...)"""
        return f"{self.module(type(x))}.{x!r}"

    def module(self, x) -> str:
        """That it is from; two may have the same names in them."""
        path, _, name = x.__module__.rpartition(".")
        called = next((c for p, n, c in self.modules if (p, n) == (path, name)), None)
        if called is None:
            called = self.free(name)
            self.modules.add((path, name, called))
        return called

    # ---- the file ----------------------------------------------------------------------------------

    def finished(self, name, about, addresses) -> str:
        body = "\n".join(with_forms_used(self.lines))
        words = {*WORD.findall(body)}
        used = words & {*written.__all__}
        words.update(*map(WORD.findall, self.statics))
        odd = ", ".join(word for word in ODD if word in words)
        modules = [n if n == called else f"{n} as {called}" for _, n, called in self.modules]
        imports = {
            "tinyinfer.kernels": sorted(modules),
            "tinyinfer.kernels.native": ["native"],
            "tinyinfer.kernels.static": ["Static"],
            "tinyinfer.kernels.written": sorted(used | {"there", "whole"}),
        }
        taken = ", ".join(addresses)
        lines = [
            f'"""{name}: {about}\n"""\n',
            *([f"from math import {odd}\n"] if odd else []),
            *(["import numpy as np\n"] if "np." in body else []),
            *(text for module, names in imports.items() for text in imported(module, names)),
            "",
            *(f"{called} = there({self.path(f)})" for f, called in self.kernels.items()),
            "",
            *(text for t, called in self.statics.items() for text in wrapped(f"{called} = {t}")),
            "\n",
            "@whole",
            *wrapped(f"def {name}({taken}):"),
            body or "    pass",
            "\n",
            "@native",
            *wrapped(f"def run({taken}):"),
            *wrapped(f"    {name}({taken})"),
        ]
        return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines) + "\n")

    def path(self, f) -> str:
        return f"{self.module(f)}.{f.__name__}"


def imported(module, names) -> list[str]:
    text = f"from {module} import {', '.join(names)}"
    if len(text) > WIDTH:
        return wrapped(f"from {module} import ({', '.join(names)})")
    return [text] if names else []


def wrapped(text) -> list[str]:
    """In lines that are not too long: broken behind commas."""
    bare = text.lstrip()
    margin = len(text) - len(bare)
    lines, rest = [], text
    more = " " * margin + ("#     " if bare.startswith("#") else "    ")
    while len(rest) > WIDTH and (end := rest.rfind(", ", margin + 4, WIDTH) + 1):
        lines.append(rest[:end])
        rest = more + rest[end:].lstrip()
    return [*lines, rest]


WORD = re.compile(r"\w+")
FORM = re.compile(r" +(\w+) = \w+(\(.*\))?")


def with_forms_used(lines) -> list[str]:
    """Without those which give an array a form, `x = float32(x, 3)`, that nobody asks for."""
    words = lambda text: WORD.findall(text.partition("#")[0])
    every = Counter(word for text in lines for word in words(text))
    found = [(text, FORM.fullmatch(text)) for text in lines]
    return [text for text, form in found if not form or every[form[1]] > words(text).count(form[1])]
