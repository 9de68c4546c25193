# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Run a bundle as ``python -m monai.bundle run`` does, with the same options.

What MONAI finds wrong before a configuration is read, such as a file that does not exist, ends in one line too.
"""

from __future__ import annotations

import sys

import fire
from monai.bundle import run

from . import start


def main() -> None:
    """Run a bundle."""
    start()
    words = sys.argv[1:]
    fire.Fire(run, command=words[1:] if words[:1] == ["run"] else words)


if __name__ == "__main__":
    main()
