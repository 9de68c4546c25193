# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""``monai-diffclf classify``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from .._command_end import FAULT, one_line
from .._text import printable
from ..archive import ArchiveResult, ClassifierSettings, classify_archive
from ..archive.plan import MAPS
from ..bundle import find_bundle
from ..run.run_bundle import settle
from ..zoo import ZOO, config_files
from .options import device_option, draws_option, processes_option, read_settings, run_option, set_option
from .results import command_options, finish
from .runs import Started, laid_over, run_folder

__all__ = ["command"]


_OWN = {
    "device": "--device",
    "maps": "--maps",
    "report": "--report or --no-report",
    "strict": "--strict",
    "output_dir": "--output",
    "dataset_dir": "the images as arguments",
    "checkpoint": "--run, the folder of a training,",
}
"""Settings that have an option of their own."""


@click.command("classify")
@click.argument("images", nargs=-1, required=True)
@click.option("--bundle", metavar="BUNDLE", help="Folder of a bundle, or the name of a shipped one.")
@click.option(
    "--generative-bundle",
    metavar="DIR",
    help="In its place: folder of a bundle of MONAI's model zoo that generates images, or of a diffusers pipeline.",
)
@click.option("--conditions", metavar="FILE", help="What each class is to it: prompts, numbers, labels (YAML or JSON).")
@run_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("classified"),
    show_default=True,
    metavar="DIR",
    help="Folder for the results.",
)
@click.option(
    "--maps",
    type=click.Choice(MAPS),
    default="png",
    show_default=True,
    help="Where the evidence lies: pictures, arrays in the image's size, or NIfTI in its grid.",
)
@click.option("--report/--no-report", default=True, help="Write cases.html, a page for every image.  [default: report]")
@click.option(
    "--dicom-out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for reports, maps and pictures as DICOM, of DICOM images (extra: highdicom).",
)
@click.option(
    "--positive",
    multiple=True,
    metavar="CLASS",
    help="With --dicom-out: a class that is urgent, for worklist.csv and notes of what to read first; may be repeated.",
)
@draws_option
@device_option
@processes_option
@click.option("--ray", is_flag=True, help="Share the work by Ray Data, on this machine or a cluster (extra: ray).")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Workers of --ray; default: every core or GPU."
)
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be read.")
@click.option("--replace", is_flag=True, help="Remove the results of another run from DIR.")
@set_option
@command_options
def command(
    images: tuple[str, ...],
    bundle: str | None,
    generative_bundle: str | None,
    conditions: str | None,
    run: Path | None,
    output: Path,
    maps: str,
    report: bool,
    dicom_out: Path | None,
    positive: tuple[str, ...],
    draws: int | None,
    device: str | None,
    num_processes: int,
    ray: bool,
    workers: int | None,
    strict: bool,
    replace: bool,
    settings: tuple[str, ...],
    progress: bool,
    debug: bool,
) -> int:
    """Classify IMAGES: files and folders, searched with all that is in them; slices of DICOM series one by one.

    For a bundle that reads volumes a folder, or ZIP file, of slices is one image.
    DIR gets predictions.csv and predictions.json, maps/ and cases.html. Stopped, the same command goes on.
    """
    if ray and num_processes > 1:
        raise ValueError("--num-processes: expected it without --ray, which shares the work by --workers")
    if workers is not None and not ray:
        raise ValueError("--workers: expected it with --ray; processes of this machine are --num-processes")
    root = _root(bundle, generative_bundle, conditions, run)
    configured = root if generative_bundle is None else ZOO
    names = {} if draws is None else {"num_draws": "--draws"}
    of_run = None if generative_bundle is not None else _run_of(root, run)
    started = Started() if of_run is None else Started.of(Path(of_run))
    configs = laid_over(configured, started.configs, option="--run")
    typed = {**(started.of_inference(root) if configs else {}), **read_settings(settings)}
    files = ["inference.json", *configs] if generative_bundle is None else config_files(root)
    values = settle(configured, files, {"num_draws": draws}, typed, names)
    if taken := [name for name in _OWN if name in values]:
        raise ValueError(f"--set {taken[0]}: expected {_OWN[taken[0]]} instead")
    chosen = ClassifierSettings(
        bundle=str(root),
        run=of_run,
        configs=list(configs),
        conditions=None if conditions is None else str(Path(conditions).expanduser().resolve()),
        values=values,
        device=device,
        maps=maps,
        report=report,
        strict=strict,
        positive=list(positive),
    )
    with _plain_warnings(), _as_settings():
        done = classify_archive(
            images,
            chosen,
            output,
            num_processes=num_processes,
            ray=ray,
            num_workers=workers,
            replace=replace,
            progress=progress,
            dicom_out=dicom_out,
        )
    weights = Path(chosen.run, "model.pt") if chosen.run else root / "models" / "model.pt"
    weights = weights if generative_bundle is None else Path(values.get("weights") or root)
    finish(_as_json(done), _as_text(done, weights))
    return FAULT if done.failed or done.without_dicom else 0


def _root(bundle: str | None, generative: str | None, conditions: str | None, run: Path | None) -> Path:
    """The bundle's folder.

    Raises:
        ValueError: when there is none, or the options do not go together.
    """
    if (bundle is None) == (generative is None):
        got = "neither" if bundle is None else "both"
        raise ValueError(f"--bundle: expected it, or --generative-bundle in its place, got {got}")
    if bundle is not None:
        if conditions is not None:
            raise ValueError(
                "--conditions: expected it with --generative-bundle; the classes of a --bundle are its own"
            )
        return find_bundle(bundle)
    if conditions is None:
        raise ValueError(
            "--conditions: expected a file that says what each class is to the generative bundle, got none"
        )
    if run is not None:
        raise ValueError(
            "--run: expected it with --bundle; a generative bundle says itself where its weights are, and those of a "
            "pipeline that were trained are --set weights=FILE"
        )
    return Path(str(generative)).expanduser().resolve()


def _run_of(bundle: Path, run: Path | None) -> str | None:
    """The training whose weights are taken: the one named, else the bundle's first, else none: its own weights."""
    if run is not None:
        return str(run.expanduser().resolve())
    first = run_folder(bundle)
    return str(first) if (first / "model.pt").is_file() else None


@contextmanager
def _as_settings() -> Iterator[None]:
    """Within it an error that speaks of an option of MONAI's command speaks of ours."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace("--calibrated False", "--set calibrated=False")) from error


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Within it warnings for users are plain lines on stderr; those for programmers are not shown."""

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, UserWarning):
            tqdm.write(one_line(f"warning: {message}"), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _as_json(done: ArchiveResult) -> dict[str, Any]:
    return {
        "path": str(done.folder),
        "table": str(done.table),
        "results": str(done.results),
        "report": None if done.report is None else str(done.report),
        "maps": None if done.maps is None else str(done.maps),
        "images": done.images,
        "classified": sum(done.counts.values()),
        "classes": {name: done.count(name) for name in done.classes},
        "not_read": [{"key": key, "error": error} for key, error in done.failed],
        "weights": done.weights,
        "calibrated": done.calibrated,
        "notes": list(done.notes),
        "dicom": None if done.dicom is None else str(done.dicom),
        "without_dicom": [{"key": key, "error": error} for key, error in done.without_dicom],
        "done_before": done.done_before,
    }


def _as_text(done: ArchiveResult, weights: Path) -> str:
    called = ", ".join(f"{done.count(name):,} {name}" for name in done.classes)
    lines = [f"{sum(done.counts.values()):,} of {done.images:,} images classified: {called}"]
    if done.done_before:
        lines[0] += "; an earlier run had done it"
    lines.append(f"by the weights {weights}")
    if done.failed:
        key, error = done.failed[0]
        lines.append(f"{len(done.failed):,} could not be read, see the column error; the first is {key}: {error}")
    if done.without_dicom:
        key, error = done.without_dicom[0]
        lines.append(f"{len(done.without_dicom):,} have no DICOM results, see dicom.json; the first is {key}: {error}")
    files = [done.table, done.results, done.maps, done.report, done.dicom]
    return printable("\n".join([*lines, *(str(path) for path in files if path is not None)]), keep="\n")
