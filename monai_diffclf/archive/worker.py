# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""One of several processes that share the blocks of an archive: ``torchrun -m monai_diffclf.archive.worker WORK``.

Each takes the next block that none has taken. A process that dies is started again by torchrun, and with it the others;
blocks that were not finished are taken anew. When the process that waits for the results dies, the workers end.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from .._command_end import describe
from .block_classifier import BlockClassifier
from .block_record import block_path, write_block
from .plan import read_plan
from .workspace import write_error

__all__ = ["main"]


def main(work: str, launch: str) -> None:
    """Classify blocks until none is left.

    Args:
        work: folder of the plan and the records, see `Workspace`.
        launch: a name for this start of all workers.
    """
    folder = Path(work)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # the process that waits has shown them
    try:
        plan = read_plan(folder / "plan.json")
        device = _own_device(plan.settings.device)
        classifier = BlockClassifier(plan.settings, plan.fingerprint, device=device)
        for number in _claimed(folder, plan.num_blocks, launch):
            record = classifier.classify(number, plan.block(number), plan.first(number))
            write_block(folder / "blocks", number, record.pack())
    except Exception as error:
        code, line = describe(error)
        write_error(folder / "error.json", code, line, traceback.format_exc())
        # No failure to torchrun, which would start all again.


def _claimed(folder: Path, num_blocks: int, launch: str) -> Iterator[int]:
    """The blocks that this process is the first to take, since the workers were last started."""
    claims = folder / f"claims_{launch}_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    claims.mkdir(exist_ok=True)
    for number in range(num_blocks):
        if (folder / "error.json").exists():
            return
        if block_path(folder / "blocks", number).exists():
            continue
        try:
            (claims / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield number


def _own_device(device: str | None) -> str | None:
    """A GPU for each process, where there are several and none is named."""
    if device in (None, "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    return None


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: what it reads from then ends."""
    # Not sys.stdin, which Python closes when the main thread ends.
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
