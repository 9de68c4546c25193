# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How what a run keeps of each of several findings is called: by number, as a finding's name is text."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["finding_file", "finding_folder", "finding_paths"]

_BEGIN = "finding_"


def finding_folder(parent: str | os.PathLike[str], number: int) -> Path:
    """The folder of a finding, numbered from 0.

    Example:
        >>> finding_folder("evaluation", 2).as_posix()
        'evaluation/finding_2'
    """
    return Path(parent) / f"{_BEGIN}{number}"


def finding_file(parent: str | os.PathLike[str], number: int) -> Path:
    """The file of what was fitted for a finding.

    Example:
        >>> finding_file("findings", 0).as_posix()
        'findings/finding_0.json'
    """
    return Path(parent) / f"{_BEGIN}{number}.json"


def finding_paths(parent: str | os.PathLike[str]) -> list[Path]:
    """The files or folders of all findings in a folder that may not be there, in the findings' order."""
    numbered = {path.stem.removeprefix(_BEGIN): path for path in Path(parent).glob(f"{_BEGIN}*")}
    return [numbered[number] for number in sorted((name for name in numbered if name.isdecimal()), key=int)]
