"""Benchmarks and tools can be run, and every text names them as they are run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [
    path.relative_to(ROOT)
    for folder in ("benchmarks", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.name != "__init__.py"
]
PATTERNS = ("*.md", "docs/*.md", "docs/*.html", "bundles/*/docs/*.md", "notebooks/*.ipynb", "monai_diffclf/**/*.py")
TEXTS = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))] + [ROOT / path for path in SCRIPTS]
PLACEHOLDERS = {"benchmarks.FOLDER.NAME", "tools.NAME"}
# Files that a script writes when it is first run.
NOT_RUN = {
    "benchmarks/results/evidence/chosen.json",
    "benchmarks/results/served_training.json",
}


def module(path: Path) -> str:
    """The name to run it by."""
    return ".".join(path.with_suffix("").parts)


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_imports_and_says_how_it_is_run(path):
    script = importlib.import_module(module(path))
    if hasattr(script, "main"):
        assert f"python -m {module(path)} " in script.__doc__.replace("\n", " ")


def test_texts_name_scripts_that_are_there():
    commands, files = set(), set()
    for text in TEXTS:
        content = text.read_text(encoding="utf-8")
        commands |= set(re.findall(r"python -m ((?:benchmarks|tools)\.[\w.]*\w)", content))
        files |= set(re.findall(r"\b((?:benchmarks|tools)/[a-z0-9_/]+\.(?:py|json|log))", content))
        assert not re.search(r"python (\S*/)?(benchmarks|tools)/", content), text
    assert len(commands) > 20 and len(files) > 10
    assert not sorted(commands - {module(path) for path in SCRIPTS} - PLACEHOLDERS)
    assert not sorted(file for file in files - NOT_RUN if not (ROOT / file).exists())


def test_runs_from_the_root_alone():
    """Without the tests' own search path."""
    command = [sys.executable, "-m", "benchmarks.accuracy.subgroups", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "--table" in done.stdout
