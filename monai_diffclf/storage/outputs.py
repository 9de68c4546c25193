# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which files of a folder were written by us, so that those of an earlier run can be removed, and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .atomic_file import replace_text

__all__ = ["Outputs"]


class Outputs:
    """A list of the files that a step wrote into a folder, kept there as ``.outputs.jsonl``.

    A file is listed before it is written: whatever kills a process, nothing of its is left unknown. What is listed can
    be removed when the same step begins anew; what the user put into the folder is never listed, and stays.

    Args:
        folder: the folder, which need not be there yet.
        step: what writes, such as ``"inference"`` or ``"evaluation test"``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     outputs = Outputs(folder, "inference")
        ...     outputs.add(["predictions.csv"])
        ...     for name in ("predictions.csv", "notes.txt"):
        ...         _ = Path(folder, name).write_text("...")
        ...     outputs.remove()
        ...     sorted(os.listdir(folder))
        ['notes.txt']
    """

    def __init__(self, folder: str | os.PathLike[str], step: str) -> None:
        self.folder, self.step = Path(folder), step
        self._known: set[str] | None = None  # what is listed, once it was looked up: a list may grow long

    def add(self, names: Iterable[str | os.PathLike[str]]) -> None:
        """List files about to be written.

        Args:
            names: their paths from the folder, or whole ones inside it.

        Raises:
            ValueError: when one lies outside.
        """
        if self._known is None:
            self._known = set(self.names())
            self._end_line()
        new = [name for name in dict.fromkeys(self._inside(name) for name in names) if name not in self._known]
        self._append({"step": self.step, "file": name} for name in new)
        self._known.update(new)

    def names(self) -> list[str]:
        """The files listed for this step, by their paths from the folder."""
        return list(dict.fromkeys(line["file"] for line in self._lines() if "file" in line and self._own(line)))

    def remove(self) -> None:
        """Delete the files of this step, and folders that this leaves empty; forget what made them."""
        self._known = None
        for name in self.names():
            path = self.folder / name
            if path.is_file() or path.is_symlink():
                path.unlink()
            parent = path.parent
            while parent != self.folder and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
                parent = parent.parent
        rest = [line for line in self._lines() if not self._own(line)]
        if rest:
            replace_text(self._path, "".join(json.dumps(line) + "\n" for line in rest))
        else:
            self._path.unlink(missing_ok=True)

    @classmethod
    def steps(cls, folder: str | os.PathLike[str]) -> list[Outputs]:
        """All steps that the list of a folder names."""
        return [cls(folder, step) for step in dict.fromkeys(str(line.get("step")) for line in cls(folder, "")._lines())]

    @property
    def made_by(self) -> Any:
        """What the files were made by, as `begin` was told last; None where nothing is known."""
        found = [line["made_by"] for line in self._lines() if "made_by" in line and self._own(line)]
        return found[-1] if found else None

    def begin(self, made_by: Any = None) -> bool:
        """Begin the step: remove what an earlier run left that was made by something else.

        Args:
            made_by: JSON values of all that the files depend on; None is equal to nothing, so that all is removed.

        Returns:
            whether files of the very same making were left in place.
        """
        made_by = json.loads(json.dumps(made_by))
        same = made_by is not None and self.made_by == made_by
        if not same:
            self.remove()
            self.note(made_by)
        return same

    def note(self, made_by: Any) -> None:
        """Say anew what the files were made by, which stay."""
        self._end_line()
        self._append([{"step": self.step, "made_by": json.loads(json.dumps(made_by))}])

    @property
    def _path(self) -> Path:
        return self.folder / ".outputs.jsonl"

    def _own(self, line: dict[str, Any]) -> bool:
        return line.get("step") == self.step

    def _append(self, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        if text:
            self.folder.mkdir(parents=True, exist_ok=True)
            # One write of whole lines, handed to the operating system before the files are written.
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(text)

    def _end_line(self) -> None:
        """End the last line, which a kill may have cut."""
        if self._path.is_file() and self._path.read_bytes()[-1:] not in (b"", b"\n"):
            with open(self._path, "a", encoding="utf-8") as file:
                file.write("\n")

    def _lines(self) -> list[dict[str, Any]]:
        """What is listed; lines that a kill cut are left out, their files were not begun."""
        if not self._path.is_file():
            return []
        found = []
        for text in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                if isinstance(line, dict) and ("file" not in line or self._inside(line["file"])):
                    found.append(line)
            except (ValueError, TypeError):
                continue
        return found

    def _inside(self, name: str | os.PathLike[str]) -> str:
        """A path from the folder; one that leads out of it is refused, as it may not be ours."""
        relative = Path(os.path.relpath(Path(name) if os.path.isabs(name) else self.folder / name, self.folder))
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ValueError(f"names: expected files in {self.folder}, got {os.fspath(name)}")
        return relative.as_posix()
