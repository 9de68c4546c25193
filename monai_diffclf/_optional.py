# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Packages that only some parts need."""

from __future__ import annotations

from importlib import util

__all__ = ["require"]


def require(module: str, *, argument: str, purpose: str, extra: str | None = None, command: str | None = None) -> None:
    """Refuse what needs a package that is not installed, and say how to install it.

    Args:
        module: the package's name in Python.
        argument: the argument that asked for it.
        purpose: what needs it.
        extra: the extra of this package that brings it along.
        command: what installs it where no extra does.

    Raises:
        ValueError: when it is missing.

    Example:
        >>> require("no_such_package", argument="encoder", purpose="an example", command="pip install no-such-package")
        Traceback (most recent call last):
        ValueError: encoder: an example needs the package no_such_package; install it with: pip install no-such-package
    """
    if util.find_spec(module) is None:
        install = command or f"pip install 'monai-diffclf[{extra}]'"
        raise ValueError(f"{argument}: {purpose} needs the package {module}; install it with: {install}")
