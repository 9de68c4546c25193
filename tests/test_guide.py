"""Every command of docs/your-own-images.md runs, in its order, on six small classes of example scans."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "your-own-images.md"

# What makes the commands quick, by options that their --help has.
SMALLER = {
    "example_scans": ["--images", "240", "--size", "16"],
    "new-bundle": ["--image-size", "16"],
    "train": ["--epochs", "1"],
    "evaluate": ["--draws", "2"],
}


def guide_commands(path: Path = GUIDE) -> list[list[str]]:
    """The command lines of the guide's bash blocks, as words without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def smaller(words: list[str]) -> list[str]:
    """The same command with less to do: options that it lacks, and lower numbers."""
    (name,) = (name for name in (*SMALLER, "classify", "fit", "report") if any(name in word for word in words[:4]))
    options = SMALLER.get(name, [])
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option not in words:
            words = [*words, option, value]
    return words


def run(words: list[str], folder: Path) -> str:
    """Run a command line in a folder; returns what it printed."""
    program = [sys.executable, "-m", "monai_diffclf"] if words[0] == "monai-diffclf" else [sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*program, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_guide_and_readme_name_the_same_commands() -> None:
    def names(path: Path) -> list[str]:
        found = [words[1] for words in guide_commands(path) if words[0] == "monai-diffclf"]
        return list(dict.fromkeys(found))

    steps = ["new-bundle", "train", "evaluate", "fit", "report", "classify"]
    assert names(GUIDE) == steps
    assert [name for name in names(ROOT / "README.md") if name != "demo"] == steps
