"""Who imports whom: read from the code, and from the table of ``docs/architecture.md``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PLAIN, LAZY, TYPES = "at the top", "inside functions", "types only"
ROOT_ROW = "*.py"
NOTHING = "nothing of ours"


@dataclass(frozen=True)
class Room:
    """A row of the table: what a folder, or a module at the root, may import, and how."""

    name: str
    allowed: dict[str, tuple[str, ...]]

    @property
    def entries(self) -> tuple[str, ...]:
        """All that may be imported, however."""
        return sum(self.allowed.values(), ())

    def allows(self, module: str, kind: str) -> str | None:
        """The entry that allows to import ``networks.layers.haar``; for its types alone any entry does."""
        entries = self.entries if kind == TYPES else self.allowed.get(kind, ())
        return next((entry for entry in entries if f"{module}.".startswith(f"{entry}.")), None)

    def __str__(self) -> str:
        parts = [f"{kind}: {', '.join(entries)}" for kind, entries in self.allowed.items() if entries]
        return "; ".join(parts).removeprefix(f"{PLAIN}: ") or NOTHING


def read_rooms(text: str) -> dict[str, Room]:
    """The rows of the section "The rooms" by their names, from top to bottom.

    Raises:
        ValueError: when a row cannot be read.
    """
    (section,) = re.findall(r"^## The rooms\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rooms = {}
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 3 or not re.fullmatch(r"`[\w*.]+/?`", cells[0]):
            raise ValueError(f"The rooms: expected | `folder/` | what it holds | what it may import |, got {line}")
        name = cells[0].strip("`").rstrip("/")
        rooms[name] = Room(name, read_allowed(cells[2]))
    return rooms


def read_allowed(cell: str) -> dict[str, tuple[str, ...]]:
    """``"`a`, `b.c`; types only: `d`"`` -> {"at the top": ("a", "b.c"), "types only": ("d",)}."""
    allowed: dict[str, tuple[str, ...]] = {}
    for part in cell.split(";"):
        kind, colon, names = part.strip().rpartition(": ")
        known = not colon or kind in (LAZY, TYPES)
        if not known or not (names == NOTHING or re.fullmatch(r"`[\w.]+`(, `[\w.]+`)*", names)):
            raise ValueError(f"The rooms: expected `a`, `b`; {LAZY}: `c`; {TYPES}: `d`, or {NOTHING!r}, got {cell!r}")
        allowed[kind or PLAIN] = tuple(re.findall(r"`([\w.]+)`", names))
    return allowed


@dataclass(frozen=True)
class Import:
    """One imported name: where, the module that it is or is in (``package.networks.layers.haar``), and how."""

    file: Path
    line: int
    module: str
    kind: str


def find_imports(package: Path) -> Iterator[Import]:
    """All imports of a package's modules, wherever they stand."""
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package.parent)
        for node, kind in _walk(ast.parse(file.read_text(encoding="utf-8")), PLAIN):
            for name in _names(node, place.with_suffix("").parts):
                yield Import(place, node.lineno, _module(package, name), kind)


def _walk(node: ast.AST, kind: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Import statements below a node, each with how it stands there."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, kind
        elif isinstance(child, ast.If) and ast.unparse(child.test).removeprefix("typing.") == "TYPE_CHECKING":
            yield from _walk(ast.Module(child.body, []), TYPES)
            yield from _walk(ast.Module(child.orelse, []), kind)
        else:
            inside = kind == PLAIN and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _walk(child, LAZY if inside else kind)


def _names(node: ast.Import | ast.ImportFrom, place: tuple[str, ...]) -> list[str]:
    """Full names that a statement of the module ``place`` imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = [*(place[: len(place) - node.level] if node.level else ()), *([node.module] if node.module else [])]
    return [".".join([*base, alias.name]) for alias in node.names]


def _module(package: Path, name: str) -> str:
    """The module of the package that a full name is or is in; other names stay as they are."""
    parts = name.split(".")
    if parts[0] != package.name:
        return name
    while len(parts) > 1:
        path = package.parent.joinpath(*parts)
        if path.is_dir() or path.with_suffix(".py").is_file():
            break
        parts.pop()
    return ".".join(parts)


def room_name(package: Path, module: str, rooms: Mapping[str, Room]) -> str:
    """The room of a module of the package: its folder, or at the root the row of its own or that of all others."""
    top = f"{module}.".split(".")[1]
    if top and (package / top).is_dir():
        return top
    return f"{top}.py" if f"{top}.py" in rooms else ROOT_ROW


def faults(package: Path, rooms: Mapping[str, Room]) -> list[str]:
    """A line for each import that the table does not allow, and for each entry of the table that no import needs."""
    lines, needed = [], set()
    for found in find_imports(package):
        if found.module.split(".")[0] != package.name:
            continue
        here = room_name(package, ".".join(found.file.with_suffix("").parts), rooms)
        there = room_name(package, found.module, rooms)
        if here not in rooms:
            lines.append(f"{found.file}: {here} has no row in the table")
        elif there not in (here, ROOT_ROW):
            entry = rooms[here].allows(found.module.partition(".")[2], found.kind)
            needed.add((here, entry))
            if entry is None:
                where = f"{found.file}:{found.line}"
                lines.append(f"{where}: imports {found.module} ({found.kind}), but {here} may import {rooms[here]}")
    unused = [
        f"{room.name}: the table allows {entry}, which it does not import"
        for room in rooms.values()
        for entry in room.entries
        if (room.name, entry) not in needed
    ]
    return [*dict.fromkeys(lines), *unused]  # a statement may import several names of a module
