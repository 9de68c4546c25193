"""Gaussian images with two findings: each adds a pattern of its own, and how often they come together is known."""

from __future__ import annotations

from itertools import product

import torch

from monai_diffclf.networks.schedulers import NoiseProcess
from tests.closed_form import ExactDenoiser, Mixture

POPULATIONS = {
    "independent": torch.tensor([[0.42, 0.28], [0.18, 0.12]]),
    "correlated": torch.tensor([[0.50, 0.10], [0.10, 0.30]]),
    "exclusive, nearly": torch.tensor([[0.20, 0.38], [0.38, 0.04]]),
}
"""p(y_0, y_1), the first finding's states as rows."""


class TwoFindings:
    """Images whose mean is the sum of the patterns of the findings that are present.

    Args:
        population: p(y_0, y_1) [2, 2].
        gap: standard deviation over the pixels of a pattern.
        shape: shape of an image.
    """

    def __init__(self, population: torch.Tensor, gap: float = 0.35, shape: tuple[int, ...] = (1, 4, 4)) -> None:
        generator = torch.Generator().manual_seed(23)
        patterns = gap * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        self.std = 0.5 + 0.4 * torch.rand(shape, generator=generator, dtype=torch.float64)
        self.population = population.double()
        self.means = torch.stack([y0 * patterns[0] + y1 * patterns[1] for y0, y1 in product(range(2), range(2))])

    def law(self, *states: int) -> Mixture:
        """The images of some states (0, 1, 2): a mixture over what is unknown, as it is in the population."""
        every = list(product(range(2), range(2)))
        mine = [n for n, pair in enumerate(every) if all(s in (y, 2) for s, y in zip(states, pair, strict=True))]
        weights = self.population.flatten()[mine]
        return Mixture(
            self.means[mine], self.std.expand(len(mine), *self.std.shape), (weights / weights.sum()).tolist()
        )

    def sample(self, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Images [count, C, *spatial], float32, and their findings [count, 2]."""
        generator = torch.Generator().manual_seed(seed)
        pair = torch.multinomial(self.population.flatten(), count, replacement=True, generator=generator)
        noise = torch.randn(count, *self.std.shape, generator=generator, dtype=torch.float64)
        images = (self.means[pair] + self.std * noise).float()
        return images, torch.stack([pair // 2, pair % 2], 1)

    def prior(self, given: torch.Tensor | None = None) -> torch.Tensor:
        """p(y_i = 1), given the other finding where it is [B, 2]; [2] without."""
        p = self.population
        if given is None:
            return torch.stack([p[1].sum(), p[:, 1].sum()])
        rows = []
        for first, second in given.tolist():
            of_first = p.sum(1) if second == 2 else p[:, second]
            of_second = p.sum(0) if first == 2 else p[first]
            rows.append(torch.stack([of_first[1] / of_first.sum(), of_second[1] / of_second.sum()]))
        return torch.stack(rows)

    def posterior(self, images: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        """Exact p(y_i = 1 | image, the other where it is given) [B, 2]."""
        joint = torch.stack([Mixture(m[None], self.std[None]).log_density(images) for m in self.means], 1)
        joint = (joint + self.population.flatten().log()).softmax(1).reshape(-1, 2, 2)
        answers = []
        for row, (first, second) in zip(joint, [(2, 2)] * len(joint) if given is None else given.tolist(), strict=True):
            of_first = row.sum(1) if second == 2 else row[:, second]
            of_second = row.sum(0) if first == 2 else row[first]
            answers.append(torch.stack([of_first[1] / of_first.sum(), of_second[1] / of_second.sum()]))
        return torch.stack(answers)

    def denoiser(self, process: NoiseProcess) -> ExactDenoiser:
        """The optimal denoiser under every combination of states, see `conditioning`."""
        return ExactDenoiser(process, [self.law(*states) for states in product(range(3), range(3))])

    @staticmethod
    def conditioning(states: torch.Tensor) -> dict[str, torch.Tensor]:
        """States [n, 2] as the number of their combination."""
        return {"class_labels": 3 * states[:, 0] + states[:, 1]}
