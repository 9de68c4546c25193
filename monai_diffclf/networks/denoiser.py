# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The one place where a network is called: what it says of a noisy image, under a class, in every parameterisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from monai.networks.schedulers import Scheduler

from .._checks import check_integer
from .._text import joined, out_of_memory
from .conditioning import Conditioning, Conditions, make_conditioning
from .schedulers.noise_process import NoiseProcess

__all__ = ["Denoiser", "check_differentiable", "check_prediction", "check_refusal"]


class Denoiser:
    """A network, its noise process, the conditions of its classes and its precision.

    It answers for noisy images z at some timesteps under some classes: what the network predicts (`predict`), the noise
    (`epsilon`) and the clean image (`clean`). Guidance (Ho and Salimans 2022, equation 6) pushes a prediction from
    another class or the null class: f = (1 + w) f(z, class) - w f(z, away). The network is called the MONAI way,
    ``network(x=..., timesteps=..., **conditions)``, and whatever is not MONAI needs an adapter.

    A network that also predicts a variance, with 2 C output channels (Nichol and Dhariwal 2021), is accepted: the first
    C channels are taken, the variance is ignored.

    Args:
        network: the network; eval mode is the caller's to check.
        scheduler: the scheduler it was trained with, or a `NoiseProcess`.
        num_classes: number of classes K.
        conditioning: how a class reaches the network, see :mod:`monai_diffclf.networks.conditioning`.
        conditions: further arguments of the network, see :class:`monai_diffclf.networks.conditioning.Conditions`.
        num_images: number of images that `image` indices refer to, where conditions are the images' own.
        null_class: whether the null class, index K, is evaluated too.
        batch_size: network evaluations in one forward call.
        dtype: what the network is given; predictions come back in the dtype of the noisy images.
        amp_dtype: dtype of autocast, None for none; an autocast around it changes neither.
        device: where images and labels are.

    Example:
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> class Network(torch.nn.Module):  # knows that class k is the constant image k
        ...     def forward(self, x, timesteps, context=None, class_labels=None):
        ...         return class_labels.view(-1, 1, 1, 1).expand_as(x).float()
        >>> denoiser = Denoiser(Network(), DDPMScheduler(100, prediction_type="sample"), num_classes=2)
        >>> noisy, labels = torch.zeros(2, 1, 2, 2), torch.tensor([0, 1])
        >>> denoiser.clean(noisy, torch.tensor(50), labels).mean((1, 2, 3)).tolist()
        [0.0, 1.0]
        >>> denoiser.clean(noisy, torch.tensor(50), labels, away=1 - labels, guidance=0.5).mean((1, 2, 3)).tolist()
        [-0.5, 1.5]
    """

    def __init__(
        self,
        network: Callable[..., Any],
        scheduler: Scheduler | NoiseProcess,
        num_classes: int = 2,
        *,
        conditioning: str | Conditioning = "class_labels",
        conditions: Mapping[str, Any] | None = None,
        num_images: int | None = None,
        null_class: bool = False,
        batch_size: int = 256,
        dtype: torch.dtype = torch.float32,
        amp_dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        batch_size = check_integer(batch_size, "batch_size")
        self.network, self.process, self.num_classes = network, NoiseProcess.of(scheduler), num_classes
        self.batch_size, self.dtype, self.amp_dtype, self.device = batch_size, dtype, amp_dtype, device
        self.conditions = Conditions(
            make_conditioning(conditioning, num_classes),
            num_classes,
            device,
            extra=conditions,
            num_images=num_images,
            null_class=null_class,
        )

    def predict(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        labels: torch.Tensor,
        *,
        image: torch.Tensor | None = None,
        full_precision: bool = False,
    ) -> torch.Tensor:
        """The network's predictions [n, C, *spatial], in the dtype of ``noisy``, in calls of ``batch_size``.

        Args:
            noisy: z [n, C, *spatial].
            timesteps: timestep of each [n], or one for all.
            labels: class of each [n]; K for the null class.
            image: index of each one's image [n], for conditions of the images' own.
            full_precision: ignore ``amp_dtype``.

        Raises:
            ValueError: when a prediction has the wrong shape, or cannot be differentiated where z needs it.
        """
        every = timesteps.to(noisy.device).expand(len(noisy))
        if every.is_floating_point():
            every = every.to(self.dtype)
        x = noisy.to(self.dtype)
        parts = [slice(start, start + self.batch_size) for start in range(0, len(x), self.batch_size)]
        predictions = []
        for part in parts:
            conditions = self.conditions(labels[part], None if image is None else image[part])
            with self._autocast(full_precision):
                prediction = self._call(x[part], every[part], conditions)
            predictions.append(check_prediction(prediction, x[part]))
        whole = predictions[0] if len(predictions) == 1 else torch.cat(predictions) if predictions else x
        return whole.to(noisy.dtype)

    def epsilon(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor, *, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The noise that the network sees in z [n, C, *spatial]; can be differentiated by z. See :meth:`predict`."""
        prediction = self.predict(noisy, timesteps, labels, image=image)
        return self.process.to_epsilon(prediction, noisy, *self.process.alpha_sigma(timesteps))

    def clean(
        self,
        noisy: torch.Tensor,
        timesteps: torch.Tensor,
        labels: torch.Tensor,
        *,
        away: torch.Tensor | None = None,
        guidance: float = 0.0,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The clean image that the network sees in z, x_hat [n, C, *spatial], in the dtype of ``noisy``.

        Args:
            noisy: z [n, C, *spatial].
            timesteps: timestep of each [n], or one for all.
            labels: class of each [n].
            away: class or null class to guide away from [n]; where it is the class itself, and where ``guidance`` is 0,
                the second evaluation is not made.
            guidance: w.
            image: index of each one's image [n], for conditions of the images' own.

        Raises:
            ValueError: when a prediction has the wrong shape or is not finite.
        """
        prediction = self.predict(noisy, timesteps, labels, image=image)
        if guidance and away is not None and bool((rows := labels != away).any()):
            own = None if image is None else image[rows]
            now = timesteps[rows.to(timesteps.device)] if timesteps.ndim else timesteps
            prediction = prediction.clone()
            prediction[rows] += guidance * (prediction[rows] - self.predict(noisy[rows], now, away[rows], image=own))
        if not bool(torch.isfinite(prediction).all()):
            hint = f"; with guidance {guidance}, a smaller one may help" if guidance else ""
            raise ValueError(
                "network: expected finite predictions, got NaN or infinity at timestep "
                f"{float(timesteps.flatten()[0]):.4g}{hint}"
            )
        return self.process.predict_sample(prediction, noisy, timesteps.expand(len(noisy)))

    def _call(self, x: torch.Tensor, timesteps: torch.Tensor, conditions: dict[str, Any]) -> Any:
        try:
            return self.network(x=x, timesteps=timesteps, **conditions)
        except IndexError as error:
            raise ValueError(
                f"network: expected one that takes class labels 0 to {self.num_classes - 1}, got an error for them: "
                f"{error}; does it have a class embedding for each?"
            ) from error
        except RuntimeError as error:
            check_refusal(error, self.network, x, "images (or latents)")
            raise

    def _autocast(self, full_precision: bool) -> AbstractContextManager[Any]:
        enabled = self.amp_dtype is not None and not full_precision
        return torch.autocast(torch.device(self.device).type, dtype=self.amp_dtype, enabled=enabled)


def check_refusal(error: RuntimeError, network: Any, x: torch.Tensor, what: str) -> None:
    """Say what a network that ended in an error was given, in one line; faults of the machine are left alone.

    Raises:
        ValueError: when the error is about what it was given.
    """
    # Out of memory, faults of the device and the like are kinds of their own, or say CUDA.
    if type(error) is not RuntimeError or "CUDA" in str(error) or out_of_memory(error):
        return
    weights = _other_precision(network, x.dtype)
    remedy = (
        f"its weights are {weights}, call network.to({x.dtype})"
        if weights
        else "give both the same channels and dimensions, and a size that its levels divide"
    )
    raise ValueError(
        f"network: expected one that takes {what} of the shape {list(x.shape[1:])} and {x.dtype}, but "
        f"{type(network).__name__} refuses them: {joined(error)}; {remedy}"
    ) from error


def _other_precision(network: Any, dtype: torch.dtype) -> torch.dtype | None:
    """The precision of a network's weights where it is another."""
    if not isinstance(network, torch.nn.Module):
        return None
    kinds = (weights.dtype for weights in network.parameters() if weights.is_floating_point())
    return next((kind for kind in kinds if kind != dtype), None)


def check_prediction(prediction: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A prediction of the input's shape; of one with a variance too, the part without it.

    Raises:
        TypeError: when it is no tensor.
        ValueError: when its shape is another, or it has no graph where x has one.
    """
    if not isinstance(prediction, torch.Tensor):
        raise TypeError(
            f"network: expected a prediction that is a tensor {list(x.shape)}, got {type(prediction).__name__}; wrap "
            "the network so that it returns the prediction alone"
        )
    if prediction.shape != x.shape:
        if prediction.ndim != x.ndim or prediction.shape != (len(x), 2 * x.shape[1], *x.shape[2:]):
            raise ValueError(
                f"network: expected a prediction of the input's shape {list(x.shape)}, got {list(prediction.shape)}; "
                "one that predicts a variance too has twice the channels"
            )
        prediction = prediction[:, : x.shape[1]]
    check_differentiable(prediction, x)
    return prediction


def check_differentiable(prediction: torch.Tensor, x: torch.Tensor) -> None:
    """Refuse a prediction without a graph where x has one: its derivative would silently be taken for 0.

    Raises:
        ValueError: when the network cut the graph.
    """
    if x.requires_grad and not prediction.requires_grad:
        raise ValueError(
            "network: expected a prediction that can be differentiated by x, got one without a graph; does the network "
            "run under no_grad or inference_mode, or as a FastNetwork?"
        )
