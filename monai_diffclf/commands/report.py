# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf report``: one page about a run that was evaluated."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..bundle import Bundle, find_bundle
from ..classification import LevelWeights
from ..fitting.fit_findings import has_findings
from ..networks import network_hash
from ..report import ReportData, write_findings_report, write_report
from ..report.run_folder import RunFolder, check_weights, read_findings, read_run
from ..report.run_report import report_of_run
from ..storage.outputs import Outputs
from .options import bundle_argument, data_option, device_option, run_option
from .report_pictures import add_pictures
from .results import command_options, finish
from .runs import Started, check_decides_by_errors, open_run, run_folder

__all__ = ["command"]

_FILES = ("train.json", "evaluate.json")


@click.command("report")
@bundle_argument
@run_option
@data_option
@device_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The page to write; default: report.html in RUN.",
)
@command_options
def command(
    bundle: str,
    run: Path | None,
    data: str | None,
    device: str | None,
    output: Path | None,
    progress: bool,
    debug: bool,
) -> None:
    """Write a page about a run that was evaluated: results, errors, uncertainty, data and settings.

    BUNDLE is the bundle that was trained. Nothing is fetched by the page, and it can be handed on as it is.
    """
    if output is not None and output.is_dir():
        raise ValueError(
            f"--output: expected a file for the page, got the folder {output}; name one in it: {output / 'report.html'}"
        )
    root = find_bundle(bundle)
    folder = run_folder(root, run)
    again = "evaluate it: " + shlex.join(
        [
            "monai-diffclf",
            "evaluate",
            bundle,
            *(["--run", str(run)] if run else []),
            *(["--data", data] if data else []),
        ]
    )
    findings = has_findings(folder)
    found = read_findings(folder, command=again) if findings else {"": read_run(folder, command=again)}
    opened = _open(root, found, data, device)
    check_decides_by_errors(opened, "report")
    for each in found.values():
        check_weights(each, network_hash(opened.network), opened.checkpoint, command=again)
    pages = {name: _page(opened, each) for name, each in found.items()}
    pages = add_pictures(pages, opened, findings=findings, needed=data is not None, progress=progress)
    target = output or folder / "report.html"
    if output is None:  # so that it goes when the run gets other weights
        Outputs(folder, "report").add([target.name])
    path = (_write_findings if findings else _write)(target, pages, opened).resolve()
    without = list(dict.fromkeys(text for page in pages.values() if page.run for text in page.run.missing))
    finish({"path": str(path), "without": without}, "\n".join([*without, str(path)]))


def _page(bundle: Bundle, found: RunFolder) -> ReportData:
    """The report of a run, or of one of its findings, without pictures."""
    settings = bundle.decision
    weighting = settings.get("weighting", "uniform")
    if not isinstance(weighting, str | LevelWeights):
        raise ValueError(
            f"weighting: expected the name of a weighting in {bundle.root}, got {type(weighting).__name__}"
        )
    title = f"{bundle.name}: {len(found.classes)} classes told apart"
    return report_of_run(found, weighting=weighting, temperature=settings.get("temperature"), title=title)


def _write(target: Path, pages: Mapping[str, ReportData], bundle: Bundle) -> Path:
    (page,) = pages.values()
    return write_report(target, page)


def _write_findings(target: Path, pages: Mapping[str, ReportData], bundle: Bundle) -> Path:
    draws = next(iter(pages.values())).errors.num_draws
    return write_findings_report(
        target,
        pages,
        title=f"{bundle.name}: {len(pages)} findings, each present or absent",
        description="A diffusion model classified test images which it had not seen in training. Of each finding it "
        f"removed noise from an image once as if it were there and once as if it were not, {draws} times, with the "
        "other findings unknown, and said under which it did better.",
        rule=str(bundle.get("rule")),
    )


def _open(root: Path, found: Mapping[str, RunFolder], data: str | None, device: str | None) -> Bundle:
    """The bundle with the run's weights, where it has some of its own, and the evaluation's draws."""
    first = next(iter(found.values()))
    classes = first.classes if first.finding is None else list(found)
    given: dict[str, Any] = {"classes": classes, "num_draws": first.stored.errors.num_draws}
    images = data or Started.of(first.folder).data
    given |= {} if images is None else {"dataset_dir": Path(images)}
    given |= {} if device is None else {"device": device}
    return open_run(root, _FILES, first.folder, **given)
