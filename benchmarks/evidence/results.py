"""Result files: one a data set, split, method, condition and seed, with the probabilities of every image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.data import Images
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.protocol import RESULTS, protocol_hash
from monai_diffclf.storage.atomic_file import replace_text, replaced


@dataclass(frozen=True)
class Result:
    """What a run wrote.

    Args:
        record: data, split, method, condition, seed, settings, facts, the opening, hashes of protocol and keys.
        probabilities: of the test images [N, K].
        validation: of the validation images [M, K].
        unlikeness: of the test images [N], or empty.
        kinds: kind of other images -> their unlikeness.
        draws: of a diffusion classifier of few draws, see ``FittedBundle.few_draws``: classes and evaluations [N].
    """

    record: dict[str, Any]
    probabilities: NDArray[np.float64]
    validation: NDArray[np.float64]
    unlikeness: NDArray[np.float64]
    kinds: dict[str, NDArray[np.float64]]
    draws: dict[str, NDArray[np.float64]]


def result_path(data: str, split: str, method: str, condition: str, seed: int, folder: Path = RESULTS) -> Path:
    """Where a result lies."""
    return folder / "predictions" / data / split / method / condition.replace("/", "_") / f"seed_{seed}.npz"


def write_result(
    record: dict[str, Any],
    test: Prediction,
    validation: Prediction,
    images: tuple[Images, Images],
    kinds: Mapping[str, NDArray[np.float64]] | None = None,
    draws: Mapping[str, NDArray[np.float64]] | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Write a result and, where they are not yet there, the keys, labels and groups of its images.

    Args:
        record: see `Result`; the hashes are added.
        test: what the method says of the test images.
        validation: what it says of the validation images.
        images: test and validation images.
        kinds: unlikeness of images of other kinds.
        draws: classes and evaluations of few draws.
        folder: folder of the results.
    """
    names = ("data", "split", "method", "condition", "seed")
    path = result_path(*(record[name] for name in names), folder)
    content = {**record, "protocol": protocol_hash(), "test": images[0].digest, "validation": images[1].digest}
    for part in images:
        _write_images(part, folder)
    unlikeness = np.empty(0) if test.unlikeness is None else test.unlikeness
    arrays = {f"kind_{name}": values.astype(np.float32) for name, values in (kinds or {}).items()}
    arrays |= {f"draws_{name}": values.astype(np.float32) for name, values in (draws or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            record=np.asarray(json.dumps(content)),
            probabilities=test.probabilities.astype(np.float32),
            validation=validation.probabilities.astype(np.float32),
            unlikeness=unlikeness.astype(np.float32),
            **arrays,
        )
    return path


def read_result(path: Path) -> Result:
    """A result as `write_result` wrote it."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    record = json.loads(str(arrays.pop("record")))
    kinds, draws = (
        {name.removeprefix(kind): arrays[name].astype(np.float64) for name in arrays if name.startswith(kind)}
        for kind in ("kind_", "draws_")
    )
    first, second, third = (arrays[name].astype(np.float64) for name in ("probabilities", "validation", "unlikeness"))
    return Result(record, first, second, third, kinds, draws)


def results_of(data: str, method: str, condition: str, split: str = "test", folder: Path = RESULTS) -> list[Result]:
    """The results of all seeds, by seed.

    Raises:
        ValueError: when they are of other images or settings than each other.
    """
    place = result_path(data, split, method, condition, 0, folder).parent
    found = [read_result(path) for path in sorted(place.glob("seed_*.npz"))]
    for name in ("test", "validation"):
        if len({result.record[name] for result in found}) > 1:
            raise ValueError(f"{place}: expected the same {name} images for all seeds; remove what is of others")
    return sorted(found, key=lambda result: int(result.record["seed"]))


def read_images(digest: str, folder: Path = RESULTS) -> dict[str, NDArray[Any]]:
    """Keys, labels and groups of the images of a digest."""
    content = json.loads((folder / "images" / f"{digest}.json").read_text(encoding="utf-8"))
    return {name: np.asarray(content[name]) for name in ("keys", "labels", "groups")}


def all_results(folder: Path = RESULTS) -> Iterator[Path]:
    """The files of all results, by name."""
    yield from sorted((folder / "predictions").glob("**/seed_*.npz"))


def _write_images(images: Images, folder: Path) -> None:
    path = folder / "images" / f"{images.digest}.json"
    if not path.is_file():
        content = {"keys": images.keys.tolist(), "labels": images.labels.tolist(), "groups": images.groups.tolist()}
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(content, separators=(",", ":")) + "\n")
