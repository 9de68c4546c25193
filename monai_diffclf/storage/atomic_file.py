# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Files that are replaced as a whole: a reader, a crash or a kill never meets half of one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replace_text", "replaced"]


_TORCH_WRITER = ("inline_container.cc", "PytorchStreamWriter")


@contextmanager
def replaced(path: str | os.PathLike[str], *, shared: bool = False) -> Iterator[Path]:
    """Write a temporary file beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: the file to write; its folder is made if absent.
        shared: whether other processes may write the same file at the same time. Then the temporary file has a name of
            its own, and stays behind when the process is killed; otherwise its name is fixed, and the next write
            overwrites what a kill left behind.

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
    unique = f".{secrets.token_hex(4)}" if shared else ""
    temporary = path.with_name(f".{path.name}{unique}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
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
