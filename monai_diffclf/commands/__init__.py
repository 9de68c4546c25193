# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The command line, one command a module; each module has a click command called ``command``."""

from __future__ import annotations

from .group import COMMANDS, cli, main
from .results import command_options, finish

__all__ = ["COMMANDS", "cli", "command_options", "finish", "main"]
