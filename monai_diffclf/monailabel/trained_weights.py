# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The weights that were trained on a server's labels: kept one after the other, one of them served."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from ..storage.atomic_file import replace_text
from ..storage.folder_lock import FolderLock
from .names import check_name, resolve_inside

__all__ = ["BUNDLE", "MODELS", "TrainedWeights", "file_hash"]

MODELS = "models"
BUNDLE = "bundle"
"""Name of the weights that the bundle came with."""

NOTE, SERVED, RUNNING, WEIGHTS = "training.json", "served.json", "running", "model.pt"


class TrainedWeights:
    """The weights of one model that were trained on the labels of a folder of studies.

    They lie in ``STUDIES/models/MODEL/0001``, ``0002`` and so on, each a folder that comes into being at once when its
    training has ended; ``served.json`` names the one that is served. What a training writes before lies in ``running``
    and is never served. `lock` keeps the trainings of other servers out, see `begin`.

    Args:
        studies: the folder of the images.
        model: name of the model.

    Raises:
        ValueError: when a link leads out of the folder.
    """

    def __init__(self, studies: Path, model: str) -> None:
        self.folder = Path(studies) / MODELS / check_name(model, "model")
        self.running = self.folder / RUNNING
        self.lock = FolderLock(self.folder)
        for path in (self.folder.parent, self.folder, self.running, self.folder / SERVED):
            resolve_inside(path, [studies], "models")

    def versions(self) -> list[str]:
        """The trained weights, the oldest first."""
        if not self.folder.is_dir():
            return []
        found = [
            each.name for each in self.folder.iterdir() if re.fullmatch(r"\d{4}", each.name) and not each.is_symlink()
        ]
        return sorted(name for name in found if (self.folder / name / NOTE).is_file())

    def served(self) -> str:
        """The weights that are served: a version, or ``"bundle"``.

        Raises:
            ValueError: when ``served.json`` names none.
        """
        file = self.folder / SERVED
        if not file.is_file():
            return BUNDLE
        try:
            name = json.loads(file.read_text(encoding="utf-8"))["weights"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"weights: {file} cannot be read ({error!r}); remove it to serve the bundle's own"
            ) from None
        return self._known(name)

    def run_of(self, version: str) -> Path | None:
        """The folder of a version, whose weights were found to be whole; None for the bundle's own.

        Raises:
            ValueError: when there is no such version, or its weights are other than those that were trained.
        """
        if self._known(version) == BUNDLE:
            return None
        folder = self.folder / version
        expected = self.note(version).get("weights", {}).get("sha256")
        resolve_inside(folder / WEIGHTS, [self.folder], "weights")
        if not (folder / WEIGHTS).is_file() or file_hash(folder / WEIGHTS) != expected:
            raise ValueError(
                f"weights: {folder / WEIGHTS} is not what {NOTE} beside it says; serve another version, or remove "
                f"{self.folder / SERVED} to serve the bundle's own"
            )
        return folder

    def select(self, version: str) -> None:
        """Name the weights that are served from now on; raises as `run_of`."""
        self.run_of(version)
        replace_text(self.folder / SERVED, json.dumps({"weights": version}) + "\n")

    def note(self, version: str) -> dict[str, Any]:
        """What is known of a version: settings, labels, result."""
        try:
            note = json.loads((self.folder / self._known(version) / NOTE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            file = self.folder / version / NOTE
            raise ValueError(
                f"weights: {file} cannot be read: {error}; put a copy of it back, or remove the folder {file.parent}, "
                "whose weights cannot be served without it"
            ) from None
        return note if isinstance(note, dict) else {}

    def begin(self) -> Path:
        """An empty folder for a training; what one before left behind goes.

        No other training of these weights begins until `end`, in whatever process. A training's own process takes the
        lock along (``pass_fds=[weights.lock.fileno()]``), as it may outlive the server that began it.

        Raises:
            ValueError: when another one runs.
        """
        try:
            self.lock.acquire()
        except ValueError:
            raise ValueError(
                f"train: {self.folder.name} is being trained by another server of {self.folder.parent.parent}, or by "
                "one that has just ended; wait for it, or stop it there: DELETE /train/"
            ) from None
        shutil.rmtree(self.running, ignore_errors=True)
        self.running.mkdir(parents=True)
        return self.running

    def end(self) -> None:
        """Let the next training begin; does nothing where none has begun."""
        self.lock.release()

    def add(self, trained: Path, note: dict[str, Any]) -> str:
        """Keep what a training made, all at once.

        Args:
            trained: folder of the run, with ``model.pt``.
            note: what is known of it; version and hash of the weights are added.

        Returns:
            its version.
        """
        version = f"{int((self.versions() or ['0'])[-1]) + 1:04d}"
        note = {
            "version": version,
            **note,
            "weights": {**note.get("weights", {}), "sha256": file_hash(trained / WEIGHTS)},
        }
        replace_text(trained / NOTE, json.dumps(note, indent=1) + "\n")
        shutil.rmtree(self.folder / version, ignore_errors=True)  # one without its note
        os.replace(trained, self.folder / version)
        return version

    def _known(self, version: Any) -> str:
        known = [BUNDLE, *self.versions()]
        if version not in known:
            raise ValueError(f"weights: expected one of {known}, got {version!r}")
        return str(version)


def file_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder that of the names and SHA-256 of its files."""
    digest = hashlib.sha256()
    if path.is_dir():
        for each in sorted(path.iterdir()):
            digest.update(f"{each.name}\0{file_hash(each)}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
