# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Files that are replaced as a whole: a reader, a crash or a kill never meets half of one."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

__all__ = ["begun_beside", "replace_text", "replaced"]


_TORCH_WRITER = ("inline_container.cc", "PytorchStreamWriter")
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
_STARTED = time.time()  # of this process, nearly


@contextmanager
def replaced(path: str | os.PathLike[str], *, shared: bool = False) -> Iterator[Path]:
    """Write a temporary file beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: the file to write; its folder is made if absent.
        shared: whether other processes may write the same file at the same time. Then the temporary file has a name of
            its own, and what killed processes left of such files is removed; otherwise its name is fixed, and the next
            write overwrites what a kill left behind.

    Yields:
        the temporary file's path. After an error it is removed, and ``path`` is as it was.

    Raises:
        OSError: also where torch could not write, whose own error names neither the file nor the reason.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replaced(folder + "/new/numbers.txt") as temporary:
        ...         _ = temporary.write_text("1 2 3")
        ...     [(file.name, file.read_text()) for file in Path(folder, "new").iterdir()]
        [('numbers.txt', '1 2 3')]
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if shared:
        with begun_beside(path) as temporary, _whole_or_not(temporary, path):
            yield temporary
    else:
        temporary = path.with_name(f".{path.name}.tmp")
        with _whole_or_not(temporary, path):
            yield temporary


@contextmanager
def begun_beside(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Make an empty file or folder ``.NAME.HEX.tmp`` beside ``path``, which no other process takes for left behind.

    Those of the same ``path`` that killed processes left are removed first: they are older than this process, and
    nobody holds their lock, which the operating system gives back when a process ends.

    Args:
        path: what it is to become; its folder exists.
        folder: whether to make a folder.

    Yields:
        its path; who asked moves it to ``path``, or removes it.
    """
    _remove_left_behind(path)
    begun = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if folder:
            begun.mkdir()
        held = os.open(begun, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        error.filename = os.fspath(path)  # the user knows nothing of the other
        raise
    try:
        with suppress(OSError):  # without locks, as on some network drives, nothing is taken for left behind
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield begun
    finally:
        os.close(held)


def _remove_left_behind(path: Path) -> None:
    """Remove what killed processes have begun of a file or folder."""
    for name in _old_temporaries(path.parent):
        begun = path.with_name(name)
        if _TEMPORARY.fullmatch(name)[1] != path.name or not _is_old(begun):  # type: ignore[index]
            continue
        with suppress(OSError):  # another process was faster, or still writes it
            held = os.open(begun, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(begun) if begun.is_dir() else begun.unlink()
            finally:
                os.close(held)


@lru_cache(maxsize=64)  # none is added to what is older than this process, and folders may be large
def _old_temporaries(folder: Path) -> tuple[str, ...]:
    """Names of temporary files and folders that were there before this process."""
    with suppress(OSError):  # a folder that may be written, but not read
        names = [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]
        return tuple(name for name in names if _is_old(folder / name))
    return ()


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return path.lstat().st_mtime < _STARTED
    return False


@contextmanager
def _whole_or_not(temporary: Path, path: Path) -> Iterator[None]:
    """A temporary file takes the place of ``path`` when the block ends, or is removed after an error."""
    try:
        yield
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and os.fsdecode(error.filename) == os.fspath(temporary):
            error.filename = os.fspath(path)  # the user knows nothing of the other
        raise
    except RuntimeError as error:
        if not any(part in str(error) for part in _TORCH_WRITER):
            raise
        why = "no space left, or the file would be larger than allowed"
        raise OSError(f"could not write {path}: {why}; make room") from error
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file in one step; other processes may do so at the same time, the last one counts.

    What UTF-8 does not have, such as bytes of a file name in another encoding, becomes a question mark.
    """
    with replaced(path, shared=True) as temporary:
        temporary.write_bytes(text.encode(errors="replace"))
