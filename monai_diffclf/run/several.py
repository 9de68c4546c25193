# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Run a bundle's configuration in several processes of this machine, as torchrun starts them."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args
from torch.distributed.run import run as torchrun

from .._command_end import FAULT, one_line
from ..bundle import find_bundle
from .run_bundle import option_words, settle

__all__ = ["run_in_processes"]


def run_in_processes(
    bundle: str | os.PathLike[str],
    files: Sequence[str],
    settings: Mapping[str, Any],
    num_processes: int,
    *,
    typed: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    debug: bool = False,
) -> None:
    """Run a bundle in several processes, with what its ``multi_gpu_*`` files say.

    Of the first process everything is shown; of the others, where one fails, the line in which it ended.

    Args:
        bundle: its folder, or the name of a shipped one.
        files: files of its folder ``configs``, those for several processes among them.
        settings: plain values by their ids; None is not given.
        num_processes: how many.
        typed: further values as somebody typed them.
        names: what an error calls an id, see :func:`monai_diffclf.run.run_bundle`.
        debug: whether the processes show tracebacks.

    Raises:
        ValueError: when a setting is unknown or of another kind than its default.
        SystemExit: when a process failed, with its exit code; its line has been shown.
    """
    root = find_bundle(bundle)
    given = {"bundle_root": root, **settings}
    checked = settle(root, files, given, typed or {}, names or {})
    if debug:
        checked["debug"] = True
    paths = [str(root / "configs" / name) for name in files]
    words = ["-m", "monai_diffclf.run", f"--config_file={paths!r}", *option_words(checked)]
    agent = logging.getLogger("torch.distributed.elastic")
    level = agent.level
    with tempfile.TemporaryDirectory() as logs:
        others = ",".join(f"{rank}:3" for rank in range(1, num_processes))
        options = ["--standalone", f"--nproc-per-node={num_processes}", f"--log-dir={logs}", f"--redirects={others}"]
        try:
            agent.setLevel(logging.CRITICAL)
            with _stdout_on_stderr():
                torchrun(parse_args([*options, *words]))
        except ChildFailedError as error:
            raise SystemExit(_tell_failure(error, Path(logs))) from None
        except SignalException:
            raise KeyboardInterrupt from None
        finally:
            agent.setLevel(level)


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """Within it what processes that are started print goes to stderr: stdout is for the command's own result."""
    sys.stdout.flush()
    own = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def _tell_failure(error: ChildFailedError, logs: Path) -> int:
    """Show the last line of the process that failed first, where it has not been shown; returns its exit code."""
    rank, failure = error.get_first_failure()
    code = failure.exitcode if failure.exitcode > 0 else FAULT
    if rank > 0 or failure.exitcode <= 0:
        texts = [path.read_text(errors="replace") for path in logs.rglob(f"{rank}/stderr.log")] if rank > 0 else []
        lines = [line for text in texts for line in text.splitlines() if line.startswith(("error:", "stopped"))]
        ended = f"error: process {rank} of the run ended with code {failure.exitcode}"
        print(one_line(lines[-1] if lines else ended), file=sys.stderr, flush=True)
    return code
