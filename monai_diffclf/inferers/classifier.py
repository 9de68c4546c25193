# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What all of our inferers have in common, and what engines and handlers may rely on."""

from __future__ import annotations

import warnings
import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer

from .._checks import check_images, plain_tensor
from ..classification import Classification, StoppingRule, image_keys
from ..networks.class_use import check_embeddings, check_uses_classes
from ..networks.conditioning import Conditioning
from ..networks.denoiser import Denoiser
from ..networks.latent_space import GivenLatents, LatentSpace, PixelSpace, encode
from ..networks.schedulers import NoiseProcess

__all__ = ["ClassifierInferer"]

_ROUNDING = 1e-5  # relative; values of classes that differ by less may be those of a network that ignores them
_LARGEST_RMS = 5.0  # of a batch, by the largest noise; images in [-1, 1], or of variance 1, have 1 at most


class ClassifierInferer(Inferer):
    """An inferer from images and a network to class probabilities, and on request to a `Classification`."""

    process: NoiseProcess
    conditioning: Conditioning
    num_classes: int
    seed: int
    latent_space: LatentSpace
    batch_size: int | None
    amp_dtype: torch.dtype | None = None
    stopping: StoppingRule | None = None
    _accepted: Callable[[], Any] | None = None
    """Weak reference to the network that was last looked at closely and found to use classes."""

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Class probabilities [B, K] of images [B, C, *spatial].

        Further arguments go to the network: a tensor is a condition of each image, with one row an image, see
        :mod:`monai_diffclf.networks.conditioning`; anything else reaches every call as it is.
        """
        if args:
            raise ValueError(f"args: expected keyword arguments for the network only, got {len(args)} positional ones")
        return self.classify(inputs, network, **kwargs).probabilities

    @abstractmethod
    def classify(
        self, images: torch.Tensor, network: Callable[..., Any], *, error_maps: bool = False, **kwargs: Any
    ) -> Classification:
        """Classify a batch of images [B, C, *spatial]."""

    @abstractmethod
    def decide(self, values: torch.Tensor, num_elements: int) -> Classification:
        """Classify from stored values [n, K, N], without a network."""

    @property
    def num_conditions(self) -> int:
        """Rows of the conditioning: one a class, unless classes have several conditions."""
        return self.num_classes

    @property
    @abstractmethod
    def num_estimates(self) -> int:
        """Values of each image and class, N."""

    def encode(self, images: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        """Checked images, or their latents [B, c, *grid], float32 or float64 as given.

        Raises:
            TypeError: when the images are no floating point tensor.
            ValueError: when the network is in training mode, or images or latents are not finite or of the wrong shape.
        """
        tokens = isinstance(self.latent_space, GivenLatents)
        return encode(self.latent_space, check_images(images, network, tokens=tokens))

    def precision(self, device: torch.device | str) -> torch.dtype | None:
        """The dtype of autocast that the network runs in on a device, None for that of the images."""
        return self.amp_dtype

    def keys(self, images: torch.Tensor, latents: torch.Tensor) -> list[bytes]:
        """What the random numbers of each image depend on [B]: its pixels, with the noise of dequantisation if any.

        Never what an encoder makes of them, whose rounding may depend on the batch.

        Args:
            images: images [B, C, *spatial] as they were given.
            latents: what `encode` made of them.
        """
        return image_keys(latents if isinstance(self.latent_space, PixelSpace) else plain_tensor(images))

    def denoiser(self, latents: torch.Tensor, network: Callable[..., Any], conditions: dict[str, Any]) -> Denoiser:
        """The network for some images' latents, with their conditions.

        Raises:
            ValueError: when the network has fewer class embeddings than there are classes.
        """
        denoiser = Denoiser(
            network,
            self.process,
            self.num_conditions,
            conditioning=self.conditioning,
            conditions=conditions,
            num_images=len(latents),
            batch_size=self.batch_size or default_batch_size(latents),
            dtype=latents.dtype,
            amp_dtype=self.precision(latents.device),
            device=latents.device,
        )
        if len(latents):
            check_embeddings(denoiser, latents)
            warn_of_scale(latents, self.process)
        return denoiser

    def check_told_apart(self, denoiser: Denoiser, latents: torch.Tensor, values: torch.Tensor) -> None:
        """Look closer where all classes have the same values, and refuse a network that ignores them.

        Costs no evaluation where any image has values of its own for any class.

        Args:
            denoiser: the network.
            latents: what was evaluated [B, C, *spatial].
            values: errors or likelihoods [B, K, N], NaN where not evaluated.

        Raises:
            ValueError: when the network does not use the class, see :func:`monai_diffclf.networks.check_uses_classes`.
        """
        network = denoiser.network
        if len(values) == 0 or (self._accepted is not None and self._accepted() is network):
            return
        first = values[:, :1]
        # Kernels may sum in another order for another place in a batch.
        apart = (values - first).abs() > _ROUNDING * first.abs()
        if not bool(apart.any()):
            check_uses_classes(denoiser, latents)
            self._accepted = _reference(network)

    def __getstate__(self) -> dict[str, Any]:
        """Without the weak reference, which cannot be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_accepted"}


def _reference(network: Any) -> Callable[[], Any] | None:
    try:
        return weakref.ref(network)
    except TypeError:  # of an object that cannot be referred to weakly: checked every time
        return None


def warn_of_scale(latents: torch.Tensor, process: NoiseProcess) -> None:
    """Warn of values, such as 0 to 255 for noise of variance 1, beside which most of the noise is nothing.

    What class such images get would mean little: at most levels the network sees no noise that it could predict.

    Args:
        latents: images, or their latents [B, C, *spatial], B >= 1.
        process: the noise process.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> process = NoiseProcess.of(DDPMScheduler(1000, schedule="cosine"))
        >>> with warnings.catch_warnings(record=True) as found:
        ...     warnings.simplefilter("always")
        ...     warn_of_scale(torch.rand(1, 1, 8, 8), process)
        ...     warn_of_scale(torch.rand(1, 1, 8, 8) * 255, process)
        >>> [str(warning.message)[:53] for warning in found]
        ['images: expected values of the size of the noise, suc']
    """
    noise = float(process.alpha_sigma(process.timesteps(torch.tensor([0.999], dtype=torch.float64)))[1])
    if float(latents.square().mean()) > (_LARGEST_RMS * noise) ** 2:
        # Without the values, so that a batch after the other is warned of once.
        warnings.warn(
            f"images: expected values of the size of the noise, such as from -1 to 1, got a root mean square above "
            f"{_LARGEST_RMS:g} times that; scale images as in training, and latents by the autoencoder's scale factor",
            stacklevel=2,
        )


def default_batch_size(latents: torch.Tensor) -> int:
    """Network evaluations in one forward call where nothing is said, by measurement.

    On a CPU calls of 64 to 128 images were faster than of 256, whose activations leave the cache; 256 fill a GPU.
    For one network and machine :func:`monai_diffclf.networks.tune_batch` measures it.
    """
    return 128 if latents.device.type == "cpu" else 256
