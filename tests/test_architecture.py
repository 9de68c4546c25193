"""Who may import whom: the table of ``docs/architecture.md``, "The rooms", holds for the code, and says no more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture import LAZY, PLAIN, ROOT_ROW, TYPES, Room, faults, find_imports, read_rooms, room_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "monai_diffclf"
ROOMS = read_rooms((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))

TABLE = """
## Before

| `other` | a table | of something else |

## The rooms

| room | what it holds | what it may import |
| --- | --- | --- |
| `*.py` | helpers | nothing of ours |
| `low/` | low | nothing of ours |
| `mid/` | mid | `low.part`; types only: `high` |
| `high/` | high | `low`; inside functions: `mid` |
| `main.py` | main | `high` |

## After
"""
CODE = {
    "__init__.py": "__version__ = '1'",
    "_help.py": "import os",
    "low/__init__.py": "from .part import thing",
    "low/part.py": "from .. import __version__\nfrom .._help import os\nthing = 1",
    "mid/__init__.py": "from typing import TYPE_CHECKING\nfrom ..low.part import thing\n"
    "if TYPE_CHECKING:\n    from ..high import other\n",
    "high/__init__.py": "import pkg.low\ndef f():\n    from ..mid import thing\n    from .. import _help\nother = 2",
    "main.py": "from .high import other",
}


@pytest.fixture
def write(tmp_path):
    """Writes a package of some files, in which all is allowed that the table above allows."""

    def write_package(more: Mapping[str, str]) -> Path:
        for name, text in (CODE | more).items():
            path = tmp_path / "pkg" / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
        return tmp_path / "pkg"

    return write_package


def test_arrows_are_those_of_the_table():
    found = faults(PACKAGE, ROOMS)
    assert not found, "\n".join(["docs/architecture.md, The rooms, does not agree with the code:", *found])


def test_every_folder_has_a_row_and_every_row_a_folder():
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert folders == {name for name in ROOMS if not name.endswith(".py")}
    assert {name for name in ROOMS if name.endswith(".py")} - {ROOT_ROW} <= {path.name for path in PACKAGE.glob("*.py")}


def test_rooms_stand_above_those_that_import_them():
    names = list(ROOMS)
    for place, room in enumerate(ROOMS.values()):
        below = {entry for kind in (PLAIN, LAZY) for entry in room.allowed.get(kind, ())}
        assert {entry.split(".")[0] for entry in below} <= set(names[:place]), room.name
    assert not ROOMS[ROOT_ROW].entries


def test_rooms_import_one_another_in_no_circle():
    arrows: dict[str, set[str]] = {}
    for found in find_imports(PACKAGE):
        if found.module.split(".")[0] == PACKAGE.name and found.kind != TYPES:
            here = room_name(PACKAGE, ".".join(found.file.with_suffix("").parts), ROOMS)
            arrows.setdefault(here, set()).add(room_name(PACKAGE, found.module, ROOMS))
    order = list(TopologicalSorter({here: there - {here} for here, there in arrows.items()}).static_order())
    assert order.index("classification") < order.index("inferers") < order.index("handlers")


def test_every_folder_is_a_package():
    """Without an ``__init__.py`` a folder works in a checkout and is missing from what is installed."""
    assert not [path for path in PACKAGE.glob("**/*.py") if not (path.parent / "__init__.py").is_file()]


def test_nothing_outside_is_imported():
    outside = ("benchmarks", "tools", "tests", "bundles", "notebooks")
    assert not [found for found in find_imports(PACKAGE) if found.module.split(".")[0] in outside]


def test_no_module_is_imported_by_a_string():
    """Such an import would be no arrow that is seen; ``_moved.py`` looks names up at their new places, and the command
    line imports modules of its own room."""
    call = re.compile(r"(?:import_module|__import__)\((?!\"(?!monai_diffclf))")
    found = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if call.search(path.read_text())]
    assert sorted(found) == ["_moved.py", "commands/group.py"]


def test_table_is_read():
    rooms = read_rooms(TABLE)
    assert list(rooms) == ["*.py", "low", "mid", "high", "main.py"]
    assert rooms["mid"] == Room("mid", {PLAIN: ("low.part",), TYPES: ("high",)})
    assert str(rooms["high"]) == "low; inside functions: mid" and str(rooms["low"]) == "nothing of ours"


@pytest.mark.parametrize("cell", ["low", "`low` and `mid`", "all above", "lazily: `low`", "", "`low` `mid`"])
def test_refuses_a_cell_that_it_does_not_understand(cell):
    with pytest.raises(ValueError, match="The rooms: expected"):
        read_rooms(TABLE.replace("`high` |\n\n## After", f"{cell} |\n\n## After"))


def test_what_is_allowed_is_no_fault(write):
    assert faults(write({}), read_rooms(TABLE)) == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("low/more.py", "\nfrom ..mid import a", ":2: imports pkg.mid (at the top), but low may import nothing of"),
        ("low/more.py", "import pkg.high", ":1: imports pkg.high (at the top)"),
        ("low/more.py", "from pkg import mid", ":1: imports pkg.mid (at the top)"),
        ("low/more.py", "try:\n    from .. import main\nfinally: pass", ":2: imports pkg.main (at the top)"),
        ("_more.py", "from .low import part", ":1: imports pkg.low.part (at the top), but *.py may import nothing"),
        ("mid/more.py", "from .. import low", ":1: imports pkg.low (at the top), but mid may import low.part; types"),
        ("mid/more.py", "from ..high import a, b", ":1: imports pkg.high (at the top), but mid"),
        ("high/more.py", "from ..mid import a", ":1: imports pkg.mid (at the top), but high may import low; inside"),
        ("main.py", "from .high import a\ndef f():\n    import pkg.low", ":3: imports pkg.low (inside functions)"),
        ("new/more.py", "from ..low import part", ": new has no row in the table"),
        ("main.py", "", ": the table allows high, which it does not import"),
        ("mid/__init__.py", "from ..low.part import thing", ": the table allows high, which it does not import"),
    ],
)
def test_faults_are_named(write, file, text, fault):
    (found,) = faults(write({file: text}), read_rooms(TABLE))
    assert re.sub(r"^(pkg/)?[\w./]+(?=:)", "", found).startswith(fault)
    assert found.startswith((f"pkg/{file}", f"{Path(file).parts[0]}: "))
