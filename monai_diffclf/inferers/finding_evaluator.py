# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The errors of L findings of an image: two questions each, which share its noise and equal answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch

from ..networks.conditioning import Conditioning, image_parameters
from ..networks.findings import UNKNOWN
from .draw_evaluator import DrawEvaluator

__all__ = ["FindingEvaluator", "StatesOfQuestions", "question_states"]


def question_states(questions: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """States [n, L] of questions [n]: question 2 i + s says that finding i is in state s, the others as given [n, L].

    Example:
        >>> question_states(torch.tensor([0, 3]), torch.tensor([[2, 2], [1, 2]])).tolist()
        [[0, 2], [1, 1]]
    """
    return given.scatter(1, (questions // 2)[:, None], (questions % 2)[:, None])


class StatesOfQuestions:
    """A conditioning by questions [n] and what is given of each one's image [n, L], from one by states [n, L]."""

    def __init__(self, conditioning: Conditioning) -> None:
        self.conditioning = conditioning
        names = ["questions", "given", *image_parameters(conditioning)]
        # Read by `image_parameters`: further conditions of images go to the conditioning by states.
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )

    def __call__(self, questions: torch.Tensor, given: torch.Tensor, **of_images: torch.Tensor) -> dict[str, Any]:
        """The network's arguments."""
        return self.conditioning(question_states(questions, given), **of_images)


@dataclass
class FindingEvaluator(DrawEvaluator):
    """The denoiser's 2 L "classes" are questions, and what is evaluated are B L "images" of two classes.

    "Image" b L + i is finding i of image b. A pair of image and draw is noised once for all its questions, and where
    two of them ask for the same states, as they may if findings are given, the network is asked once.

    Args:
        given: state of each finding that the questions about the others take [B, L].
    """

    given: torch.Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        count, num_findings = len(self.images), self.denoiser.num_classes // 2
        given = torch.full((count, num_findings), UNKNOWN) if self.given is None else self.given.cpu()
        questions = torch.arange(2 * num_findings).repeat(count)
        states = question_states(questions, given.repeat_interleave(2 * num_findings, 0))
        states = states.reshape(count, 2 * num_findings, num_findings)
        equal = (states[:, :, None] == states[:, None]).all(3)
        self.num_findings = num_findings
        self.first = equal.int().argmax(2).to(self.images.device)
        """Of each question the first one that asks for the same states [B, 2 L]."""
        self.spent = torch.zeros(count, dtype=torch.int64, device=self.images.device)
        """Network evaluations made for each image [B]."""

    def evaluations(self, classes: torch.Tensor) -> torch.Tensor:
        """None beside those in ``spent`` [P], for bool [P, 2]."""
        return torch.zeros(len(classes), dtype=torch.int64, device=classes.device)

    @torch.no_grad()
    def evaluate(
        self,
        image: torch.Tensor,
        draw: torch.Tensor,
        classes: torch.Tensor,
        *,
        maps: torch.Tensor | None = None,
        map_weights: torch.Tensor | None = None,
        full_precision: bool = False,
    ) -> torch.Tensor:
        """Errors of some pairs of "image" and draw [P, 2], maps [B, 2 L, ...]; see :meth:`DrawEvaluator.evaluate`."""
        device, count = self.images.device, len(self.draws)
        image, draw, classes = image.to(device), draw.to(device), classes.to(device)
        pairs, group = torch.unique(image // self.num_findings * count + draw, return_inverse=True)
        images = pairs // count
        wanted = self._asked(images, group, image % self.num_findings, classes)
        self.spent.index_add_(0, images, wanted.sum(1))
        options: dict[str, Any] = {"maps": maps, "map_weights": map_weights, "full_precision": full_precision}
        values = super().evaluate(images, pairs % count, wanted, **options)[..., None]
        return self._answers(values, images, group, image % self.num_findings, classes)[..., 0]

    @torch.no_grad()
    def grid(
        self,
        images: torch.Tensor,
        draws: torch.Tensor,
        classes: torch.Tensor,
        *,
        maps: torch.Tensor | None = None,
        map_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Errors of "images" [b] and draws [n] [b, 2, n], see :meth:`DrawEvaluator.grid`; maps are [B, 2 L, ...]."""
        device = self.images.device
        images, classes = images.to(device), classes.to(device)
        every, group = torch.unique(images // self.num_findings, return_inverse=True)
        wanted = self._asked(every, group, images % self.num_findings, classes)
        self.spent.index_add_(0, every, wanted.sum(1) * len(draws))
        values = super().grid(every, draws, wanted, maps=maps, map_weights=map_weights)
        return self._answers(values, every, group, images % self.num_findings, classes)

    def whole_maps(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps [B, 2 L, *spatial] to which each state was added once, with those of the questions that share it."""
        first = self.first.reshape(*self.first.shape, *[1] * (maps.ndim - 2))
        return maps.gather(1, first.expand(-1, -1, *maps.shape[2:]))

    def _asked(
        self, images: torch.Tensor, group: torch.Tensor, finding: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Which questions the network is asked [g, 2 L], for classes [b, 2] of findings [b] of images [g]."""
        questions = torch.zeros(len(images), self.num_findings, 2, dtype=torch.int64, device=classes.device)
        questions[group, finding] = classes.long()
        asked = torch.zeros(len(images), 2 * self.num_findings, dtype=torch.int64, device=classes.device)
        return asked.scatter_reduce(1, self.first[images], questions.flatten(1), "amax").bool()

    def _answers(
        self,
        values: torch.Tensor,
        images: torch.Tensor,
        group: torch.Tensor,
        finding: torch.Tensor,
        classes: torch.Tensor,
    ) -> torch.Tensor:
        """Values of the questions asked [g, 2 L, n] as those of classes [b, 2, n]; NaN for those not asked for."""
        shared = values.gather(1, self.first[images][..., None].expand(-1, -1, values.shape[2]))
        own = shared.reshape(len(images), self.num_findings, 2, values.shape[2])[group, finding]
        return torch.where(classes[..., None], own, torch.nan)
