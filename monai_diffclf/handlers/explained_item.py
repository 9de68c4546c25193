# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What handlers that show explanations take from an evaluator: one image, its map, and its counterfactuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.utils import CommonKeys
from numpy.typing import NDArray

from ..engines import DiffusionClassifierEvaluator
from ..explain import decision_map, rival_class, upright_volume
from ..inferers import DiffusionClassifierInferer
from ..keys import OutputKeys
from ..report.case import CounterfactualPair, NearImage
from ..report.case_volume import strongest_voxel

__all__ = [
    "ExplainedItem",
    "FindNearest",
    "MakeCounterfactuals",
    "add_counterfactuals",
    "add_nearest",
    "check_explains",
    "check_makes",
    "make_item",
    "warnings_of",
]

# Called as f(images, network, source=, target=, inferer=); returns something like `explain.Counterfactuals`.
MakeCounterfactuals = Callable[..., Any]
# Called as f(images, network, target=); returns the neighbours of each image, and has picture(neighbour), such as
# `representations.Retrieval`.
FindNearest = Any

_CHUNK = 32  # images given to the generator at a time
_DRIFTED = (
    "The factual has drifted from the image: what the counterfactual changes is in part the painting, not the class."
)


@dataclass(frozen=True)
class ExplainedItem:
    """One image of an evaluation, on the CPU.

    Args:
        image: the image or volume [C, *spatial].
        probabilities: class probabilities [K].
        predicted: the class called.
        rival: the class that the map compares with; without a map, the most probable other class.
        decision_map: see :func:`monai_diffclf.explain.decision_map` [*spatial], None without error maps.
        voxel: of a volume the voxel that stands for it, upright (row, column, slice): where the map is strongest, else
            the middle; None for a plane.
        affine: of a volume, voxel -> millimetres, RAS [4, 4]; None where it is not known.
        pair: its counterfactual, where there is one.
        nearest: training images near it in the representation, where they were looked for.
    """

    image: torch.Tensor
    probabilities: torch.Tensor
    predicted: int
    rival: int
    decision_map: torch.Tensor | None
    voxel: tuple[int, ...] | None = None
    affine: torch.Tensor | None = None
    pair: CounterfactualPair | None = None
    nearest: Sequence[NearImage] = ()

    def plane(self, values: torch.Tensor) -> NDArray[Any]:
        """What is shown in one picture, as an array: of a volume the axial slice through `voxel`, upright."""
        array = np.asarray(values.detach().float().cpu())
        return array if self.voxel is None else upright_volume(array, self.affine)[0][..., self.voxel[-1]]


def make_item(result: dict[str, Any]) -> ExplainedItem:
    """Take one item of a decollated output.

    Raises:
        ValueError: when ``pred`` are no probabilities [K].
    """
    # Copies: a view would keep its batch, and on a GPU its memory.
    given = torch.as_tensor(result[CommonKeys.IMAGE])
    image = torch.as_tensor(np.array(given.detach().float().cpu()))
    scores = torch.as_tensor(np.array(torch.as_tensor(result[CommonKeys.PRED]).detach().float().cpu()))
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(
            f"pred: expected class probabilities [K], got shape {list(scores.shape)}; where metrics need classes, copy "
            "pred first (CopyItemsd) and make classes of the copy"
        )
    predicted = int(scores.argmax())
    others = scores.clone()
    others[predicted] = -torch.inf
    rival, difference = int(others.argmax()), None
    if OutputKeys.ERROR_MAPS in result:
        maps = torch.as_tensor(result[OutputKeys.ERROR_MAPS]).detach().float().cpu()
        rival = int(rival_class(maps[None], torch.tensor([predicted])))
        difference = decision_map(maps[None], torch.tensor([predicted]))[0]
    if image.ndim < 4:
        return ExplainedItem(image, scores, predicted, rival, difference)
    affine = given.affine.clone() if isinstance(given, MetaTensor) else None
    shape = upright_volume(image, affine)[0].shape[1:]
    voxel = strongest_voxel(shape, None if difference is None else upright_volume(difference, affine)[0])
    return ExplainedItem(image, scores, predicted, rival, difference, voxel, affine)


def warnings_of(source: Any, result: Any) -> str:
    """What to mind of an image: the item's own ``warnings``, or else those that reading it left with it.

    Args:
        source: item of the decollated batch.
        result: item of the decollated output.

    Example:
        >>> from monai.data import MetaTensor
        >>> warnings_of({"image": MetaTensor(torch.zeros(1), meta={"warnings": "one grey value"})}, {})
        'one grey value'
    """
    for item in (result, source):
        if item.get(OutputKeys.WARNINGS):
            found = item[OutputKeys.WARNINGS]
            return found if isinstance(found, str) else "; ".join(map(str, found))
    for item in (source, result):
        found = getattr(item.get(CommonKeys.IMAGE), "meta", {}).get("warnings", "")
        if found:
            return str(found)
    return ""


def check_makes(value: Any, name: str) -> None:
    """Refuse what cannot be called, before any image is classified.

    Args:
        value: what makes counterfactuals, or finds the nearest images; None for nothing.
        name: the argument.

    Raises:
        TypeError: when it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{name}: expected None or what can be called with images, got {value!r}; leave it out")


def add_counterfactuals(
    items: Sequence[ExplainedItem], engine: Engine, make_counterfactuals: MakeCounterfactuals
) -> list[ExplainedItem]:
    """Paint every image as its own class and as its rival, with the evaluator's network.

    The generator is told ``source``, the class called, and ``target``, the rival, and gets the evaluator's inferer, so
    that it can say whether the class flipped.
    """
    evaluator = cast(Any, engine)
    device, network = evaluator.state.device, evaluator.network
    inferer = evaluator.inferer if isinstance(evaluator.inferer, DiffusionClassifierInferer) else None
    done: list[ExplainedItem] = []
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        with eval_mode(network):
            made = make_counterfactuals(
                torch.stack([item.image for item in chunk]).to(device),
                network,
                source=torch.tensor([item.predicted for item in chunk], device=device),
                target=torch.tensor([item.rival for item in chunk], device=device),
                inferer=inferer,
            )
        done += [replace(item, pair=_pair(made, i, item)) for i, item in enumerate(chunk)]
    return done


def add_nearest(items: Sequence[ExplainedItem], engine: Engine, find_nearest: FindNearest) -> list[ExplainedItem]:
    """Find the training images that are near each image, as it is and edited towards its rival."""
    evaluator = cast(Any, engine)
    device, network = evaluator.state.device, evaluator.network
    done: list[ExplainedItem] = []
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        with eval_mode(network):
            found = find_nearest(
                torch.stack([item.image for item in chunk]).to(device),
                network,
                target=torch.tensor([item.rival for item in chunk], device=device),
            )
        for item, neighbours in zip(chunk, found, strict=True):
            near = [
                NearImage(
                    key=each.key,
                    label=each.label,
                    distance=each.distance,
                    picture=find_nearest.picture(each),
                    as_class=each.as_class,
                )
                for each in neighbours
            ]
            done.append(replace(item, nearest=near))
    return done


def _pair(made: Any, index: int, item: ExplainedItem) -> CounterfactualPair:
    """One image's counterfactual; what the result does not say stays unknown."""

    def known(name: str) -> Any:
        values = getattr(made, name, None)
        return None if values is None else torch.as_tensor(values)[index].item()

    drifted = known("drifted")
    return CounterfactualPair(
        factual=item.plane(made.factual[index]),
        counterfactual=item.plane(made.counterfactual[index]),
        target=int(made.target[index]),
        flipped=known("flipped"),
        flipped_baseline=known("flipped_baseline"),
        drift=known("drift"),
        warning=_DRIFTED if drifted else "",
    )


def check_explains(engine: Engine) -> None:
    """Refuse an evaluator that makes no error maps.

    Raises:
        ValueError: when it does not.
    """
    if not isinstance(engine, DiffusionClassifierEvaluator):
        return
    stopping = engine.classifier.stopping
    if not engine.explain:
        given = "explain=False" if stopping is None else f"the stopping rule {type(stopping).__name__}"
        raise ValueError(
            f"engine: expected an evaluator with explain=True and an inferer without stopping rule, got {given}; "
            "error maps need all draws"
        )
