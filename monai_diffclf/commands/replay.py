# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf replay``: ask stored errors what each stopping rule would have spent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..fitting import replay_file
from .results import command_options, finish

__all__ = ["command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("replay")
@click.argument("errors", type=_FILE)
@click.option(
    "--alpha", type=float, default=0.01, show_default=True, help="How rarely a rule may miss the class of all draws."
)
@click.option(
    "--fit", type=_FILE, metavar="ERRORS", help="Validation errors to fit the model of the predictive rule to."
)
@click.option(
    "--orders", type=click.IntRange(min=1), default=20, show_default=True, help="Random orders of the sequential rule."
)
@command_options
def command(errors: Path, alpha: float, fit: Path | None, orders: int, progress: bool, debug: bool) -> None:
    """Ask stored errors what each stopping rule would have spent, and how often it gives the class of all draws.

    ERRORS is a file that evaluate wrote, evaluation/errors_test_seed_0.npz of a run. No network is needed.
    """
    report = replay_file(errors, alpha=alpha, fit=fit, orders=orders)
    finish(report, _table(report))


def _table(report: Mapping[str, Any]) -> str:
    lines = [f"{'stopping rule':20s}{'decides by':12s}{'evaluations':>12s}{'fewer':>9s}{'agrees':>10s}{'differ':>9s}"]
    for name, by_rule in report.items():
        for rule, entry in by_rule.items():
            share = entry["evaluations_ratio"]
            lines.append(
                f"{name:20s}{rule:12s}{100 * share:10.1f} %{1 / share:7.1f} x{100 * entry['agreement']:8.2f} %"
                f"{entry['differ']:9.2f}"
            )
    images = next(iter(next(iter(report.values())).values()))["images"]
    return "\n".join([*lines, f"of {images} images; agrees: with the class of all draws"])
