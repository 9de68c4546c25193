# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``python -m monai_diffclf.demo``, another name of ``monai-diffclf demo``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import commands

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        arguments: the command line, without the program's name; None takes that of the process.

    Returns:
        the exit status, see ``docs/running.md``.
    """
    return commands.main(["demo", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
