# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The record of an evaluation that is under way: images done, one row each, and their errors."""

from __future__ import annotations

import json
import os
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import torch

from .._moved import renamed_arguments
from .atomic_file import replace_text, replaced
from .errors_file import list_differences
from .folder_lock import FolderLock

__all__ = ["ErrorsJournal", "remove_journal_of_others"]

_HEADER = "image,block,predicted,network_evaluations,decided,crc32\n"
_ROWS = re.compile(r"rows_rank_(\d+)\.csv")


class Recorded(NamedTuple):
    """What the journal keeps of n images: errors [n, K, N], network evaluations [n], whether they were decided [n]."""

    values: torch.Tensor
    network_evaluations: torch.Tensor
    decided: torch.Tensor

    @property
    def evaluations(self) -> torch.Tensor:
        """Old name of `network_evaluations`."""
        warnings.warn("evaluations is now network_evaluations", DeprecationWarning, stacklevel=2)
        return self.network_evaluations


class _Row(NamedTuple):
    """An image's row: where its errors are, and what is known besides."""

    rank: int
    block: int
    evaluations: int
    decided: bool
    started: int
    """CRC-32 of the row's text, on which that of its errors goes on."""
    checksum: int


class ErrorsJournal:
    """Append-only record of the images whose errors are computed; a killed evaluation goes on where it was.

    The folder holds ``journal.json`` (what makes the errors, and their shape), and for each process
    ``rows_rank_R.csv`` (one row an image: key of its pixels, block of its errors, predicted class, network evaluations,
    whether it was decided, CRC-32 of row and errors) and ``errors_rank_R.f32`` (the errors, blocks of K x N
    little-endian float32, NaN where not evaluated; of ``f64`` float64). Log-likelihoods of N probes are kept the same
    way, in float64.

    Opening reads the files of all processes, so that another number of them can go on. Rows that a crash damaged are
    removed with a warning that says how many; their images count as not done. One evaluation writes at a time: its
    first process locks the folder, and the lock ends with it.

    Args:
        folder: the folder, made if absent.
        provenance: names and JSON values of all that the errors depend on, see
            :func:`monai_diffclf.inferers.provenance`.
        num_classes: number of classes K.
        num_draws: number of draws N.
        rank: number of this process; it appends to its own files only.
        double: whether to keep float64 instead of float32.
        num_ranks: number of processes. Each repairs its own files and a share of those that no process has now.

    Raises:
        ValueError: when the folder holds the record of another evaluation, or another is writing there.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> settings = {"provenance": {"seed": 0}, "num_classes": 2, "num_draws": 3}
        >>> with ErrorsJournal(folder.name, **settings) as journal:
        ...     journal.append(["00ff"], torch.ones(1, 2, 3), predicted=[1], network_evaluations=[6], decided=[True])
        >>> with ErrorsJournal(folder.name, **settings) as journal:
        ...     len(journal), "00ff" in journal, journal.get(["00ff"]).values.shape
        (1, True, torch.Size([1, 2, 3]))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        provenance: Mapping[str, Any],
        num_classes: int,
        num_draws: int,
        double: bool = False,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        if not 0 <= rank < num_ranks:
            raise ValueError(f"rank: expected 0 to num_ranks - 1 = {num_ranks - 1}, got {rank}")
        self.folder, self.rank = Path(folder), rank
        self.shape = (num_classes, num_draws)
        self._dtype = np.dtype("<f8" if double else "<f4")
        self._block_bytes = self._dtype.itemsize * num_classes * num_draws
        self._images: dict[str, _Row] = {}
        self._files = ExitStack()
        self._readers: dict[int, BinaryIO] = {}
        self._lock = FolderLock(self.folder)
        if rank == 0:
            self._lock.acquire()
        try:
            self._check({**provenance, "num_classes": num_classes, "num_draws": num_draws})
            own = self._rows_path(rank)
            if not own.exists() or b"\n" not in own.read_bytes():
                replace_text(own, _HEADER)
            for other in self._ranks():
                self._read(other, repair=other % num_ranks == rank)
            self._errors = self._open(self._errors_path(rank), "ab")
            self._rows = self._open(self._rows_path(rank), "ab")
        except BaseException:
            self.close()
            raise
        self._num_blocks = self._errors.tell() // self._block_bytes

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, key: object) -> bool:
        return key in self._images

    def __enter__(self) -> ErrorsJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, keys: Sequence[str]) -> Recorded:
        """What was recorded of images, on the CPU.

        Raises:
            KeyError: when an image is not in the record.
            ValueError: when its errors are no longer what was recorded.
        """
        rows = [self._images[key] for key in keys]
        values = np.empty((len(keys), *self.shape), dtype=self._dtype.newbyteorder("="))
        for value, row in zip(values, rows, strict=True):
            block = self._read_block(row.rank, row.block)
            if zlib.crc32(block, row.started) != row.checksum:
                raise ValueError(
                    f"folder: {self._errors_path(row.rank)} was changed while it was in use; run the same command "
                    "again, which repairs it"
                )
            value[:] = np.frombuffer(block, dtype=self._dtype).reshape(self.shape)
        evaluations = torch.tensor([row.evaluations for row in rows], dtype=torch.int64)
        return Recorded(torch.from_numpy(values), evaluations, torch.tensor([row.decided for row in rows]))

    @renamed_arguments(evaluations="network_evaluations")
    def append(
        self,
        keys: Sequence[str],
        values: torch.Tensor,
        *,
        predicted: Sequence[int],
        network_evaluations: Sequence[int],
        decided: Sequence[bool],
    ) -> None:
        """Record images; when this returns, a kill of the process does not lose them.

        Args:
            keys: hexadecimal key of each image's pixels [n], see :func:`monai_diffclf.classification.image_keys`.
            values: errors [n, K, N].
            predicted: predicted class of each image [n].
            network_evaluations: network evaluations of each image [n].
            decided: whether each image was decided [n].

        Raises:
            ValueError: when the shape of the errors is another one.
        """
        if tuple(values.shape) != (len(keys), *self.shape):
            raise ValueError(f"values: expected shape {[len(keys), *self.shape]}, got {list(values.shape)}")
        blocks = values.detach().cpu().numpy().astype(self._dtype)
        # Errors first: a row then always has its errors. Flushing hands the bytes to the operating system, which keeps
        # them when the process is killed; only a power cut could still lose them, and opening would notice.
        self._errors.write(blocks.tobytes())
        self._errors.flush()
        rows: dict[str, _Row] = {}
        lines: list[str] = []
        for key, block, label, count, done in zip(keys, blocks, predicted, network_evaluations, decided, strict=True):
            place = self._num_blocks + len(lines)
            text = f"{key},{place},{int(label)},{int(count)},{int(done)},"
            started = zlib.crc32(text.encode())
            checksum = zlib.crc32(block.tobytes(), started)
            rows[key] = _Row(self.rank, place, int(count), bool(done), started, checksum)
            lines.append(f"{text}{checksum:08x}\n")
        self._rows.write("".join(lines).encode())
        self._rows.flush()
        self._num_blocks += len(lines)
        self._images.update(rows)

    def close(self) -> None:
        """Close all files, and let others write."""
        self._files.close()
        self._lock.release()

    def remove(self) -> None:
        """Close and delete the record, when its results are stored elsewhere; other files in the folder stay."""
        self._files.close()
        # Before the lock is given back: nobody else's record may be deleted.
        for rank in self._ranks():
            self._rows_path(rank).unlink(missing_ok=True)
            self._errors_path(rank).unlink(missing_ok=True)
        self._about_path.unlink(missing_ok=True)
        self.close()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    @property
    def _about_path(self) -> Path:
        return self.folder / "journal.json"

    def _rows_path(self, rank: int) -> Path:
        return self.folder / f"rows_rank_{rank}.csv"

    def _errors_path(self, rank: int) -> Path:
        return self.folder / f"errors_rank_{rank}.f{8 * self._dtype.itemsize}"

    def _open(self, path: Path, mode: str) -> BinaryIO:
        return self._files.enter_context(cast(BinaryIO, open(path, mode)))

    def _ranks(self) -> list[int]:
        """The processes that left rows."""
        matches = (_ROWS.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def _check(self, about: dict[str, Any]) -> None:
        """Write down what makes the errors, or compare it with what is written."""
        path = self._about_path
        if not path.exists():
            replace_text(path, json.dumps(about, indent=2, allow_nan=False) + "\n")
            return
        fix = f"name another folder, or delete {self.folder} to start anew"
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"folder: {path} is no record of an evaluation ({error!r}); {fix}") from error
        if differences := list_differences(about, found):
            raise ValueError(f"folder: {self.folder} holds the record of another evaluation: {differences}; {fix}")

    def _read(self, rank: int, *, repair: bool) -> None:
        """Learn where a process put which image; remove what is damaged."""
        self._errors_path(rank).touch()
        self._readers[rank] = self._open(self._errors_path(rank), "rb")
        rows = self._rows_path(rank).read_bytes().splitlines(keepends=True)[1:]
        intact = {row: parsed for row in rows if (parsed := self._parse(row, rank))}
        self._images.update(intact.values())
        kept = max((row.block + 1 for _, row in intact.values()), default=0) * self._block_bytes
        found = self._errors_path(rank).stat().st_size
        if repair and (len(intact) < len(rows) or found > kept):
            # Rows first: errors without a row do no harm.
            with replaced(self._rows_path(rank)) as temporary:
                temporary.write_bytes(b"".join([_HEADER.encode(), *intact]))
            os.truncate(self._errors_path(rank), kept)
            damaged = [row.decode("ascii", errors="replace").split(",")[0].strip() for row in rows if row not in intact]
            warnings.warn(
                f"{self._rows_path(rank)}: kept {len(intact)} images; dropped {len(damaged)} bad rows {damaged[:5]} "
                f"and {found - kept} bytes of errors without a row, left by a crash. Their images are computed anew.",
                stacklevel=3,
            )

    def _parse(self, line: bytes, rank: int) -> tuple[str, _Row] | None:
        """An image's key and row, None if anything in the row or its errors is damaged."""
        try:
            text, checksum = line.decode("ascii").rsplit(",", 1)
            key, block, _, evaluations, decided = text.split(",")
            started = zlib.crc32(f"{text},".encode())
            found = zlib.crc32(self._read_block(rank, int(block)), started)
            row = _Row(rank, int(block), int(evaluations), bool(int(decided)), started, found)
            # The line's end counts: a row whose end is missing was cut.
            intact = checksum == f"{found:08x}\n"
        except (ValueError, OSError):  # not a number; a place before the file
            return None
        return (key, row) if intact else None

    def _read_block(self, rank: int, block: int) -> bytes:
        file = self._readers[rank]
        file.seek(block * self._block_bytes)
        return file.read(self._block_bytes)


def remove_journal_of_others(folder: str | os.PathLike[str], network: str) -> None:
    """Delete the record of an evaluation of another network; other files in the folder stay.

    Args:
        folder: folder of a journal.
        network: hash of the network whose record may stay.

    Raises:
        ValueError: when an evaluation is writing there.
    """
    folder = Path(folder)
    about = folder / "journal.json"
    try:
        if json.loads(about.read_text(encoding="utf-8")).get("network") in (None, network):
            return
    except (OSError, ValueError, AttributeError):
        return  # none, or nothing that could be told
    with FolderLock(folder):
        for pattern in ("rows_rank_*.csv", "errors_rank_*.f32", "errors_rank_*.f64"):
            for path in folder.glob(pattern):
                path.unlink()
        about.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
