"""Count lines, functions and names, and list what is over the limits: ``python -m tools.count``."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE_LINES = 2600  # code lines of sdlearn without BESIDE
BESIDE = ("training", "measure", "judge", "chapters", "world", "web")  # counted apart
LONGEST = 50  # lines of a function, its docstring included
POSITIONAL = 6
# Who may import whom: a module imports from its own row or from rows above it.
ROWS = (
    ("__init__", "quick", "notebooks", "world", "noising", "models", "memory", "folders", "inputs"),
    ("hub",),
    ("compression", "text"),
    ("judge",),
    ("prediction",),
    ("sampling", "cascade", "distillation"),
    ("editing",),
    ("plots",),
    ("widgets", "checks"),
    ("chapters", "training", "measure", "web", "doctor"),
    ("__main__",),
)
DOORS = {"hub", "models"}  # the only modules that import diffusers and transformers


def sources(folder: Path = ROOT / "sdlearn") -> list[Path]:
    """The package's modules."""
    return sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


def room(path: Path) -> str:
    """A module's place in :data:`ROWS`: its own name, or its folder's."""
    return path.relative_to(ROOT / "sdlearn").parts[0].removesuffix(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank line, no comment, no docstring."""
    text = path.read_text(encoding="utf-8")
    layout = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    skip = {tokenize.COMMENT, *layout}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            lines |= set(range(token.start[0], token.end[0] + 1))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree(path)):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def public(path: Path) -> list[str]:
    """Functions and classes that a module offers; ``main`` is every command's."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in tree(path).body if isinstance(node, kinds)]
    return [name for name in names if not name.startswith("_") and name != "main"]


def long_functions(paths: list[Path]) -> list[str]:
    found = [(p, f, f.end_lineno - f.lineno + 1) for p in paths for f in functions(p)]
    return [f"{p.relative_to(ROOT)}: {f.name}: {n} lines" for p, f, n in found if n > LONGEST]


def many_positional(paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        for f in functions(path):
            names = [a.arg for a in (*f.args.posonlyargs, *f.args.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            if count > POSITIONAL:
                found.append(f"{path.relative_to(ROOT)}: {f.name}: {count} positional arguments")
    return found


def untyped(paths: list[Path]) -> list[str]:
    """Public functions, and public methods of public classes, that leave a type out."""
    found = []
    for path in paths:
        at = f"{path.relative_to(ROOT)}: "
        for node in tree(path).body:
            inner = node.body if isinstance(node, ast.ClassDef) else ()
            if not getattr(node, "name", "_").startswith("_"):
                found += [at + f.name for f in (node, *inner) if _leaves_out(f)]
    return found


def _leaves_out(f: ast.stmt) -> bool:
    if not isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    if f.name.startswith("_") and f.name != "__init__":
        return False
    args = [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]
    given = [a for a in args if a.arg not in ("self", "cls")]
    typed = all(a.annotation for a in given) and (f.returns or f.name == "__init__")
    return not typed


def twice(paths: list[Path]) -> list[str]:
    """Public names that two modules offer."""
    where = Counter(name for path in paths for name in public(path))
    return sorted(name for name, count in where.items() if count > 1)


def imports(path: Path) -> Iterator[str]:
    """What a module imports, in full: "sdlearn.hub", "torch.nn"."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(ROOT).parts[:-1]
            base = package[: len(package) - node.level + 1] if node.level else ()
            whole = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{whole}.{alias.name}" for alias in node.names)


def upward(paths: list[Path]) -> list[str]:
    """Imports that run against :data:`ROWS`, or past the doors to diffusers and transformers."""
    row = {name: i for i, names in enumerate(ROWS) for name in names}
    found = []
    for path in paths:
        own = room(path)
        if own not in row:
            found.append(f"{path.relative_to(ROOT)} has no row in tools/count.py")
            continue
        for name in imports(path):
            top, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if top == "sdlearn" and row.get(other, -1) > row[own]:
                found.append(f"{path.relative_to(ROOT)} imports {name}, which stands above it")
            if top in ("diffusers", "transformers") and own not in DOORS:
                found.append(f"{path.relative_to(ROOT)} imports {name} past hub.py")
    return found


def core(paths: list[Path]) -> list[Path]:
    return [path for path in paths if room(path) not in BESIDE]


def main() -> int:
    paths = sources()
    rooms = Counter()
    for path in paths:
        rooms[room(path)] += code_lines(path)
    for name, lines in rooms.most_common():
        print(f"{lines:6} {name}")
    inner = core(paths)
    count = sum(map(code_lines, inner))
    print(
        f"{count:6} core, of at most {CORE_LINES}; {sum(rooms.values())} in all; "
        f"{sum(1 for p in paths for _ in functions(p))} functions, "
        f"{sum(len(public(p)) for p in paths)} public names"
    )
    found = [*long_functions(paths), *many_positional(paths), *upward(paths)]
    found += [f"{where}: types are left out" for where in untyped(paths)]
    found += [f"public in two modules: {name}" for name in twice(paths)]
    print("\n".join(found) or "Nothing is over a limit.")
    return 1 if found or count > CORE_LINES else 0


if __name__ == "__main__":
    sys.exit(main())
