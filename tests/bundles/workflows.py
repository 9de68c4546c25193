"""Running a bundle's configuration files from a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow


def bundle_workflow(bundle: Path, kind: str, *files: str, **overrides: Any) -> ConfigWorkflow:
    """A workflow of configuration files of a bundle."""
    configs = bundle / "configs"
    return ConfigWorkflow(
        workflow_type=kind,
        config_file=[str(configs / file) for file in files],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        bundle_root=str(bundle),
        **overrides,
    )


def run(made: ConfigWorkflow) -> None:
    """Initialise, run and finalise."""
    made.initialize()
    made.run()
    made.finalize()


def causes(error: BaseException | None) -> list[str]:
    """Messages of an error and of what caused it."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__cause__
    return messages
