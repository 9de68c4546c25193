# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One writer at a time: a lock on a folder that ends with the process that holds it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

__all__ = ["FolderLock"]


class FolderLock:
    """A lock on a folder, of the operating system (``flock``): a process that is killed leaves none behind.

    Args:
        folder: the folder, made if absent; the lock is a file ``.lock`` in it, which is removed with the lock.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, FolderLock(folder):
        ...     FolderLock(folder).acquire()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: output folder: ... is being written by another process; wait for it, or name another folder
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        # Not of one thread: who waits for the end of what was begun may be another.
        self._lock = FileLock(self.folder / ".lock", timeout=0, thread_local=False)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ValueError: when another process, or another lock of this one, has it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"output folder: {self.folder} is being written by another process; wait for it, or name another folder"
            ) from None

    def release(self) -> None:
        """Give the lock back; does nothing without one."""
        if self._lock.is_locked:
            # While it is held: whoever waits for the file then sees that it is gone and makes a new one.
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def fileno(self) -> int:
        """The open file of a lock that is held, for ``pass_fds``: a process that has it holds the lock too.

        The lock ends with `release`, or with the last process that has the file.
        """
        # filelock has no public name for it.
        descriptor: int = self._lock._context.lock_file_fd  # type: ignore[assignment]
        return descriptor

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
