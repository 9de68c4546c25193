"""Classes with a known density, and the denoiser that is optimal for them: the truth to test classifiers with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from monai_diffclf.networks.schedulers import NoiseProcess, RectifiedFlowProcess


class Mixture:
    """A mixture of Gaussians with diagonal covariances: the images of one class.

    Args:
        means: means [J, C, *spatial].
        stds: standard deviations, the same shape.
        weights: weights of the components [J].
    """

    def __init__(self, means: torch.Tensor, stds: torch.Tensor, weights: Sequence[float] = (1.0,)) -> None:
        self.means, self.stds = means.double(), stds.double()
        self.log_weights = torch.tensor(weights, dtype=torch.float64).log()

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        """log p(x) [B]."""
        return self._log_joint(x.double(), 1.0, 0.0).logsumexp(1)

    def epsilon(self, z: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """E[epsilon | z] for z = alpha x + sigma epsilon [B, C, *spatial]; alpha and sigma are columns."""
        spread = alpha[:, None] ** 2 * self.stds**2 + sigma[:, None] ** 2
        each = sigma[:, None] * (z[:, None] - alpha[:, None] * self.means) / spread
        if len(self.means) == 1:
            return each[:, 0]
        share = self._log_joint(z, alpha[:, None], sigma[:, None]).softmax(1)
        return (share.reshape(*share.shape, *[1] * (z.ndim - 1)) * each).sum(1)

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Images [count, C, *spatial], float32."""
        part = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=generator)
        noise = torch.randn(count, *self.means.shape[1:], generator=generator, dtype=torch.float64)
        return (self.means[part] + self.stds[part] * noise).float()

    def _log_joint(self, z: torch.Tensor, alpha: torch.Tensor | float, sigma: torch.Tensor | float) -> torch.Tensor:
        """Log weight plus log density under each component [B, J], of z = alpha x + sigma epsilon."""
        spread = alpha**2 * self.stds**2 + sigma**2
        log = -0.5 * ((z[:, None] - alpha * self.means) ** 2 / spread + (2 * math.pi * spread).log())
        return self.log_weights + log.flatten(2).sum(2)


class ExactDenoiser(torch.nn.Module):
    """The optimal denoiser of some classes, in what the scheduler's networks predict; a pixel's arithmetic is float64.

    Args:
        process: the noise process.
        classes: the classes.
    """

    def __init__(self, process: NoiseProcess, classes: Sequence[Mixture]) -> None:
        super().__init__()
        self.process, self.classes = process, classes
        self.calls: list[int] = []
        self.eval()

    def forward(self, x, timesteps, context=None, class_labels=None):
        """Predict for classes given as labels or as one-hot context."""
        if class_labels is None:
            class_labels = context[:, 0].argmax(1)
        self.calls.append(len(x))
        z = x.double().cpu()
        alpha, sigma = (f.reshape(-1, *[1] * (z.ndim - 1)) for f in self.process.alpha_sigma(timesteps.cpu()))
        epsilon = torch.empty_like(z)
        for k, law in enumerate(self.classes):
            mine = class_labels.cpu() == k
            epsilon[mine] = law.epsilon(z[mine], alpha[mine], sigma[mine])
        sample = (z - sigma * epsilon) / alpha
        kind = self.process.prediction_type
        if kind == "epsilon":
            out = epsilon
        elif kind == "score":
            out = -epsilon / sigma
        elif kind == "sample":
            out = sample
        else:
            flow = getattr(self.process, "rectified_flow", isinstance(self.process, RectifiedFlowProcess))
            out = sample - epsilon if flow else alpha * epsilon - sigma * sample
        return out.to(x)


def posterior(classes: Sequence[Mixture], x: torch.Tensor) -> torch.Tensor:
    """Exact class probabilities [B, K] under equal priors."""
    return torch.stack([law.log_density(x) for law in classes], 1).softmax(1)


def make_classes(kind: str, shape: Sequence[int] = (1, 4, 4), *, gap: float = 0.35) -> list[Mixture]:
    """Overlapping classes: "gaussian" (2), "mixture" (2, one of them a mixture), or "three".

    Args:
        kind: which classes.
        shape: shape of an image.
        gap: standard deviation over the pixels of the means' differences.
    """
    generator = torch.Generator().manual_seed(17)

    def rand(components: int) -> torch.Tensor:
        return torch.randn(components, *shape, generator=generator, dtype=torch.float64)

    def std(components: int) -> torch.Tensor:
        return 0.5 + 0.4 * torch.rand(components, *shape, generator=generator, dtype=torch.float64)

    common = std(1)
    first, second = Mixture(gap * rand(1), common), Mixture(gap * rand(1), common)
    if kind == "gaussian":
        return [first, second]
    if kind == "mixture":
        return [first, Mixture(1.5 * gap * rand(2), common.expand(2, *shape) * 0.95, (0.3, 0.7))]
    return [first, second, Mixture(gap * rand(1), common)]


def make_images(classes: Sequence[Mixture], each: int, seed: int = 0) -> torch.Tensor:
    """Images of all classes, ``each`` of every one, float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([law.sample(each, generator) for law in classes])
