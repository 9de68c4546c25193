# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The output folder: the results of one run, or of none; and the records of one that is under way."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage.atomic_file import replace_text
from .block_record import block_path
from .earlier_work import known_plan, take_over
from .plan import ArchivePlan

__all__ = ["Workspace", "read_results", "write_error"]

TABLE, RESULTS, REPORT, MAPS = "predictions.csv", "predictions.json", "cases.html", "maps"
_WORK = ".classify_"
_REFUSED = "refused"  # in a folder of records, whose run ended with an error that the user is to mend
_MAP = re.compile(r"\d{6,}_.*\.(png|npy|nii\.gz)")
# Of a bundle's own inference.
_OTHER_MAP = re.compile(r"map_\d{5}\.png")
END = "\n]}\n"
"""What the results end with."""
_HEAD = 1 << 20  # bytes of the results in which their first line is


class Workspace:
    """The output folder of a plan.

    Results are made in a folder of their own, ``.classify_FINGERPRINT``, and put in place when they are complete, the
    file that says whose they are, ``predictions.json``, last. A run that was killed goes on from there; another run's
    files are never beside them.

    Args:
        folder: the output folder; the caller holds its lock.
        plan: what is to be done.
    """

    def __init__(self, folder: Path, plan: ArchivePlan) -> None:
        self.folder, self.plan = folder, plan
        self.work = folder / f"{_WORK}{plan.fingerprint}"
        self.plan_path, self.error_path = self.work / "plan.json", self.work / "error.json"
        self.blocks, self.staged = self.work / "blocks", self.work / "results"

    def prepare(self, *, replace: bool = False, again: bool = False) -> bool:
        """Make the folder ready; go on with what an earlier run of the same plan has left there.

        Args:
            replace: remove the results of another run.
            again: whether more is to be made than this folder holds, so that results that are complete count as
                another run's.

        Returns:
            whether all is done already.

        Raises:
            ValueError: when the folder holds another run's results, or files that are nobody's.
        """
        if self._is_done() and not again:
            shutil.rmtree(self.work, ignore_errors=True)
            return True
        if self.work.is_dir() and known_plan(self.plan_path) is None:  # damaged, as by a disk
            shutil.rmtree(self.work)
        if not self.work.is_dir():
            refused = [path for path in self._works() if (path / _REFUSED).exists()]
            others = [path for path in self._of_others() if path not in refused]
            if others and not replace:
                raise ValueError(self._refusal(others))
            self._remove(others)
            # Whole or not at all, so that a folder of this name always has its plan.
            begun = self.folder / f"{_WORK}new_{secrets.token_hex(4)}"
            (begun / "blocks").mkdir(parents=True)
            for work in refused:
                self.plan = take_over(work, self.plan, begun / "blocks")
            self.plan.save(begun / "plan.json")
            os.replace(begun, self.work)
        (self.work / _REFUSED).unlink(missing_ok=True)
        for old in self.folder.glob(f"{_WORK}*"):
            if old != self.work:
                shutil.rmtree(old, ignore_errors=True)
        self.error_path.unlink(missing_ok=True)
        return False

    def missing(self) -> list[int]:
        """The blocks that are not recorded yet."""
        done = set(os.listdir(self.blocks))
        return [number for number in range(self.plan.num_blocks) if block_path(self.blocks, number).name not in done]

    def publish(self) -> None:
        """Put the results in place."""
        for name in (MAPS, REPORT, TABLE):
            place = self.folder / name
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            if (self.staged / name).exists():
                os.replace(self.staged / name, place)
        os.replace(self.staged / RESULTS, self.folder / RESULTS)
        shutil.rmtree(self.work, ignore_errors=True)

    def give_up(self) -> None:
        """End a run that was refused: the folder is free for another, which takes what records hold for it too."""
        if list(self.blocks.glob("*.zip")):
            (self.work / _REFUSED).touch()
        else:
            shutil.rmtree(self.work, ignore_errors=True)

    def _is_done(self) -> bool:
        head = _read_head(self.folder / RESULTS)
        if head is None or head.get("run") != self.plan.fingerprint or not _is_whole(self.folder / RESULTS):
            return False
        sizes = head.get("bytes", {})
        paths = {name: self.folder / name for name in head.get("files", [])}
        return all(
            path.exists() and sizes.get(name, path.stat().st_size) == path.stat().st_size
            for name, path in paths.items()
        )

    def _of_others(self) -> list[Path]:
        """What is in the folder and not of this plan."""
        names = [self.folder / name for name in (TABLE, RESULTS, REPORT, MAPS, f"{TABLE}.part")]
        found = [path for path in names if os.path.lexists(path)]
        if self.folder.is_dir():
            found += sorted(path for path in self.folder.iterdir() if _OTHER_MAP.fullmatch(path.name))
            found += self._works()
        return found

    def _works(self) -> list[Path]:
        """Folders of runs that are not finished."""
        return sorted(self.folder.glob(f"{_WORK}{'[0-9a-f]' * 16}"))

    def _refusal(self, others: list[Path]) -> str:
        fix = "name another --output, or add --replace to remove them"
        theirs = _read_head(self.folder / RESULTS)
        unfinished = next((path for path in others if path.name.startswith(_WORK)), None)
        if theirs is None and unfinished is not None:
            plan = known_plan(unfinished / "plan.json")
            theirs = None if plan is None else {"parts": plan.parts()}
        if theirs is None:
            return f"output: {self.folder} holds {others[0].name}, which is not of this run; {fix}"
        own, parts = self.plan.parts(), theirs.get("parts", {})
        differing = [f"other {name}" for name in own if parts.get(name) != own[name]] or ["files gone or changed"]
        kind = "results" if unfinished is None else "the beginning"
        return f"output: {self.folder} holds {kind} of another run ({', '.join(differing)}); {fix}"

    def _remove(self, paths: list[Path]) -> None:
        maps = self.folder / MAPS
        strange = [path.name for path in maps.iterdir() if not _MAP.fullmatch(path.name)] if maps in paths else []
        if strange:
            raise ValueError(
                f"output: expected nothing but maps in {maps}, which would be removed, but it holds {strange[0]}; move "
                "it, or name another --output"
            )
        # What says whose the others are goes last: a kill between leaves a folder that is still known as another run's.
        for path in sorted(paths, key=lambda each: each.name == RESULTS):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def write_error(path: Path, code: int, line: str, details: str) -> None:
    """Tell the process that waits why a worker stops; the last one counts."""
    if path.parent.is_dir():
        replace_text(path, json.dumps({"code": code, "line": line, "details": details}))


def read_results(path: Path) -> dict[str, Any]:
    """All that ``predictions.json`` holds."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _is_whole(path: Path) -> bool:
    """Whether the results end as they are written."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(END)))
        return file.read() == END.encode()


def _read_head(path: Path) -> dict[str, Any] | None:
    """The first line of the results, which says whose they are."""
    try:
        with path.open(encoding="utf-8") as file:
            found = json.loads(file.readline(_HEAD).rstrip().rstrip(",") + "}")
    except (OSError, ValueError):
        return None
    return dict(found) if isinstance(found, Mapping) else None
