"""Files of weights that are none, networks that keep no contract, and fitted values that cannot be."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks import load_weights
from monai_diffclf.storage.decision_file import load_decision
from monai_diffclf.storage.uncertainty_file import load_uncertainty
from tests.tiny_unet import tiny_unet

from .cases import Case

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion"


def weight_file_cases() -> Iterator[Case]:
    """What stands where weights should be."""

    def case(name: str, write: Callable[[Path], Any], named: str = "model.pt") -> Case:
        def into(folder: Path) -> Path:
            write(folder / "model.pt")
            return folder / "model.pt"

        return Case(f"weights: {name}", into, lambda path: load_weights(tiny_unet(), path), named=named)

    def whole() -> bytes:
        buffer = io.BytesIO()
        torch.save(tiny_unet().state_dict(), buffer)
        return buffer.getvalue()

    pointer = (
        "version https://git-lfs.github.com/spec/v1\noid sha256:4cac19622fc3ada9c0fdeadb33f88f367b541f38\nsize 6431\n"
    )
    state = tiny_unet().state_dict()
    fewer = dict(list(state.items())[:-1])
    nan = {
        name: torch.full_like(value, float("nan")) if value.is_floating_point() else value
        for name, value in state.items()
    }
    yield case("empty", lambda path: path.write_bytes(b""))
    yield case("text", lambda path: path.write_text("weights\n"))
    yield case("a Git LFS pointer", lambda path: path.write_text(pointer))
    yield case("HTML", lambda path: path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>"))
    yield case("a pickle of a dict", lambda path: path.write_bytes(pickle.dumps({"a": 1})))
    yield case("a pickle that runs code", lambda path: path.write_bytes(pickle.dumps(_Malicious())))
    yield case("torch's file of a whole network", lambda path: torch.save(tiny_unet(), path))
    yield case("a list", lambda path: torch.save([1, 2], path))
    yield case("a number", lambda path: torch.save(3, path))
    yield case("half of it", lambda path: path.write_bytes(whole()[: len(whole()) // 2]))
    yield case("its first 100 bytes", lambda path: path.write_bytes(whole()[:100]))
    yield case("a picture", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)))
    yield case("a zip of something else", _zip)
    yield case("a folder", lambda path: path.mkdir())
    yield case("nothing", lambda path: None)
    yield case("another network's", lambda path: torch.save(tiny_unet(channels=3).state_dict(), path))
    yield case("of three classes", lambda path: torch.save(tiny_unet(classes=3).state_dict(), path))
    yield case("one layer short", lambda path: torch.save(fewer, path))
    for name, change in {
        "sparse": lambda value: value.to_sparse(),
        "without values": lambda value: value.to("meta"),
        "complex": lambda value: value.to(torch.complex64),
    }.items():
        other = {key: change(value) for key, value in state.items()}
        yield case(name, lambda path, other=other: torch.save(other, path))
    yield case("names that are numbers", lambda path: torch.save(dict(enumerate(state.values())), path))
    yield case("JSON beside it of 100,000 brackets", lambda path: _with_note(path, "[" * 100_000), "model.json")
    for note in ("[1]", "3", '{"model": null}', '{"weights": 5}'):
        yield case(f"JSON beside it: {note}", lambda path, note=note: _with_note(path, note), "model.json")
    yield case("NaN", lambda path: torch.save(nan, path))
    yield case("a safetensors header cut short", lambda path: path.write_bytes((1000).to_bytes(8, "little") + b'{"a":'))


class _Malicious:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code of a weights file ran')",))


def _with_note(path: Path, note: str) -> None:
    torch.save(tiny_unet().state_dict(), path)
    path.with_suffix(".json").write_text(note)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no weights")


def contract_cases() -> Iterator[Case]:
    """Networks that cannot classify: all inferers say so."""
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def classify(network: torch.nn.Module, **options: Any) -> Any:
        return (
            DiffusionClassifierInferer(DDPMScheduler(100), num_draws=5, **options).classify(images, network).predicted
        )

    def case(name: str, network: Callable[[], torch.nn.Module], **options: Any) -> Case:
        return Case(f"contract: {name}", lambda folder: network(), lambda made: classify(made, **options))

    def unlabelled() -> torch.nn.Module:
        shape = {"channels": (8, 16), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 4}
        made = DiffusionModelUNet(2, 1, 1, num_head_channels=8, **shape)
        for weight in made.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        return made.eval()

    def deaf() -> torch.nn.Module:
        made = tiny_unet()
        torch.nn.init.zeros_(made.class_embedding.weight)
        return made

    yield case("no class embedding", unlabelled)
    yield case("no class embedding, a stopping rule", unlabelled, stopping=CurtailedVote())
    yield case("equal embeddings", deaf)
    yield case("2 embeddings for 4 classes", lambda: tiny_unet(classes=1), num_classes=4)
    yield case("3 embeddings for 4 classes", lambda: tiny_unet(classes=2), num_classes=4)
    yield case("in training mode", lambda: tiny_unet().train())
    yield case("no label argument", lambda: torch.nn.Conv2d(1, 1, 1).eval())
    yield case("another number of channels", lambda: tiny_unet(channels=3))


def fitted_cases() -> Iterator[Case]:
    """The shipped uncertainty.json and decision.json with one value that cannot be."""
    uncertainty = json.loads((BUNDLE / "configs" / "uncertainty.json").read_text())
    decision = json.loads((BUNDLE / "configs" / "decision.json").read_text())
    changes: list[tuple[tuple[Any, ...], Any]] = [
        *(
            (("mean", "calibration", "parameters", "temperature"), value)
            for value in (-1.0, 0.0, float("nan"), float("inf"), "1", None)
        ),
        *((("mean", "calibration", "prior"), value) for value in ([0.9, 0.9], [0.5], [-0.5, 1.5], [float("nan"), 0.5])),
        *((("mean", "conformal", "confidence"), value) for value in (0.0, 2.0, -1, float("nan"), "0.9")),
        *(
            (("mean", "conformal", "scores"), value)
            for value in ([[0.5, 0.1], [0.1, 0.5]], [[float("nan")], [0.1]], [], [[0.1]])
        ),
        (("mean", "calibration", "method"), "magic"),
        (("mean", "calibration"), None),
        (("mean",), {}),
        *((("typicality", "parts", "errors", "precision"), value) for value in ([], [[float("inf")]], [[1.0]])),
        *((("typicality", "parts", "errors", "mean"), value) for value in ([float("nan")] * 3, "text", [])),
        (("typicality", "scores"), [float("nan")]),
        (("typicality", "parts", "errors", "spread"), -4),
        (("typicality", "edges"), [3.0, 1.0, 2.0]),
    ]
    for place, value in changes:
        yield _fitted(uncertainty, "uncertainty.json", place, value, lambda path: load_uncertainty(path, "mean"))
    changes = [
        *((("mean", "model", "edges"), value) for value in ([], [3.0, 1.0, 2.0], [float("nan")] * 30, "text")),
        *((("mean", "model", "noise"), value) for value in ([], [-1.0] * 31, [float("inf")] * 31)),
        (("mean", "model"), None),
        (("mean", "network"), 5),
    ]
    for place, value in changes:
        yield _fitted(decision, "decision.json", place, value, lambda path: load_decision(path, "mean"))
    for name, text in (("empty", ""), ("no JSON", "{'a': 1}"), ("a list", "[]"), ("a number", "3")):
        yield Case(
            f"uncertainty.json {name}",
            partial(_write, "uncertainty.json", text),
            lambda path: load_uncertainty(path, "mean"),
            named="uncertainty.json",
        )
        yield Case(
            f"decision.json {name}",
            partial(_write, "decision.json", text),
            lambda path: load_decision(path, "mean"),
            named="decision.json",
        )


def _fitted(content: Any, name: str, place: tuple[Any, ...], value: Any, read: Callable[[Any], Any]) -> Case:
    changed = copy.deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return Case(
        f"{name} {'.'.join(place)} = {str(value)[:40]!r}", partial(_write, name, json.dumps(changed)), read, named=name
    )


def _write(name: str, text: str, folder: Path) -> Path:
    (folder / name).write_text(text)
    return folder / name


def weight_cases() -> list[Case]:
    """All of them."""
    return [*weight_file_cases(), *contract_cases(), *fitted_cases()]
