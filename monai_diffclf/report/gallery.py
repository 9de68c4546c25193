# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The gallery of a report: which images it shows, and one card for each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from ..classification import DenoisingClassification
from .curves import vote_uncertainty
from .data import ReportData
from .figures import CLASS_COLOURS

__all__ = [
    "choose_images",
    "class_difference",
    "film_picture",
    "make_cards",
    "mask_outline",
    "overlay_picture",
    "picture_size",
]

FloatArray = NDArray[np.float64]

_MOST_NAMED = 4  # classes whose votes a card spells out


def choose_images(labels: NDArray[Any], result: DenoisingClassification, *, count: int = 6) -> dict[str, list[int]]:
    """Choose the images to show: surely right (classes in turn), most uncertain, and wrong (the surest first).

    Among equal votes, the mean errors decide: the wider apart they are, the surer. No image is shown twice.

    Returns:
        at most `count` indices under each of "sure", "uncertain" and "wrong".
    """
    mean = result.mean_error.sort(1).values
    gap = ((mean[:, 1] - mean[:, 0]) / mean[:, 0].clamp(min=1e-12)).numpy()
    order = np.lexsort((-gap, vote_uncertainty(result)))
    correct = result.predicted.numpy() == labels
    wrong = [int(i) for i in order if not correct[i]][:count]
    uncertain = [int(i) for i in order[::-1] if i not in wrong][:count]
    right = [[int(i) for i in order if correct[i] and labels[i] == k and i not in uncertain] for k in np.unique(labels)]
    longest = max(len(indices) for indices in right)
    sure = [indices[rank] for rank in range(longest) for indices in right if rank < len(indices)][:count]
    return {"sure": sure, "uncertain": uncertain, "wrong": wrong}


def class_difference(maps: NDArray[Any], result: DenoisingClassification) -> FloatArray:
    """Where the called class explains an image better than the runner-up does [B, H, W]."""
    best, second = result.mean_error.argsort(1)[:, :2].T.numpy()
    called = result.predicted.numpy()
    rival = np.where(called == best, second, best)
    rows = np.arange(len(maps))
    return np.asarray(maps[rows, rival] - maps[rows, called], dtype=np.float64)


def mask_outline(mask: NDArray[Any]) -> str:
    """SVG path along the pixel edges where a mask [H, W] begins and ends."""
    padded = np.pad(mask > 0, 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return "".join(f"M{x} {y}v1" for y, x in upright) + "".join(f"M{x} {y}h1" for y, x in level)


def _png(pixels: NDArray[np.uint8]) -> str:
    """PNG data address of pixels [H, W], [H, W, 3] or [H, W, 4], enlarged to about 128 pixels if they are fewer."""
    picture = Image.fromarray(pixels)
    factor = max(1, round(128 / max(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def film_picture(image: NDArray[Any], window: tuple[float, float]) -> str:
    """The image [C, H, W] as a PNG address, grey values from the window."""
    low, high = window
    scaled = np.clip((image.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)
    pixels = (255 * scaled).round().astype(np.uint8)
    return _png(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))


def overlay_picture(difference: FloatArray, colours: tuple[str, str]) -> str:
    """PNG address of a difference in [-1, 1]: the first colour where positive, the second where negative."""
    pixels = np.empty((*difference.shape, 4))
    positive = (difference > 0)[..., None]
    pixels[..., :3] = np.where(positive, to_rgb(colours[0]), to_rgb(colours[1]))
    pixels[..., 3] = 0.8 * np.clip(np.abs(difference), 0, 1)
    return _png((255 * pixels).round().astype(np.uint8))


def _colours(result: DenoisingClassification, index: int, true: int) -> dict[int, int]:
    """Class -> number of its colour: its own, or where classes outnumber the colours one for each that matters here."""
    num_classes = result.mean_error.shape[1]
    if num_classes <= len(CLASS_COLOURS):
        return {k: k for k in range(num_classes)}
    called = int(result.predicted[index])
    matter = dict.fromkeys([called, _rival(result, index), true])
    return {k: number for number, k in enumerate(matter)}


def _rival(result: DenoisingClassification, index: int) -> int:
    """The class that explains an image best but for the one called."""
    called = int(result.predicted[index])
    return next(int(k) for k in result.mean_error[index].argsort().tolist() if k != called)


def _votes(result: DenoisingClassification, index: int, class_names: Sequence[str], colours: dict[int, int]) -> str:
    """How the votes split, as a bar and in words."""
    share = result.vote_share[index].tolist()
    cast = result.errors.evaluated[index].any(0).sum().item()
    parts = "".join(
        f'<span style="width:{100 * p:.1f}%;background:{_variable(colours.get(k))}"></span>'
        for k, p in enumerate(share)
    )
    ranked = sorted((k for k, p in enumerate(share) if p > 0), key=lambda k: -share[k])
    shown = sorted(ranked[:_MOST_NAMED])
    words = " · ".join(f"{share[k] * cast:.3g} {escape(class_names[k])}" for k in shown)
    if rest := sum(share[k] for k in ranked[_MOST_NAMED:]):
        words += f" · {rest * cast:.3g} others"
    return f'<div class="votes" role="img" aria-label="Votes: {words}">{parts}</div><p class="split">{words}</p>'


def _variable(colour: int | None) -> str:
    return "var(--muted)" if colour is None else f"var(--class-{colour})"


def make_cards(data: ReportData, result: DenoisingClassification, chosen: dict[str, list[int]]) -> dict[str, str]:
    """The cards of the chosen images, as HTML; an image that is not at hand has a card without a picture."""
    window = (0.0, 1.0) if data.images is None else tuple(np.quantile(data.images, [0.001, 0.999]).tolist())
    indices = [i for group in chosen.values() for i in group]
    maps: dict[int, FloatArray] = {}
    places = {i: place for i in indices if (place := data.place(i)) is not None}
    if data.error_maps is not None and places:
        differences = class_difference(data.error_maps[list(places.values())], _pick(result, list(places)))
        # One scale for all cards: a faint map is a small difference.
        differences /= max(float(np.quantile(np.abs(differences), 0.99)), 1e-12)
        maps = dict(zip(places, differences, strict=True))
    uncertainty = vote_uncertainty(result)
    return {
        name: "".join(_card(data, result, i, window, maps.get(i), float(uncertainty[i])) for i in group)
        for name, group in chosen.items()
    }


def _pick(result: DenoisingClassification, indices: list[int]) -> DenoisingClassification:
    names = ("predicted", "mean_error", "vote_share")
    return replace(result, **{name: getattr(result, name)[indices] for name in names})


def _card(
    data: ReportData,
    result: DenoisingClassification,
    index: int,
    window: tuple[float, ...],
    difference: FloatArray | None,
    uncertainty: float,
) -> str:
    """One image: film with outline, class differences beside it, classes, votes and uncertainty."""
    true, called = int(data.labels[index]), int(result.predicted[index])
    name = escape(data.keys[index]) if data.keys is not None else f"image {index}"
    verdict = "right" if true == called else "wrong"
    colours = _colours(result, index, true)
    classes = [f'<b class="c{colours[k]}">{escape(data.class_names[k])}</b>' for k in (true, called)]
    return f"""<figure class="card">
{_pictures(data, result, index, window, difference, colours)}
<figcaption>
<p class="verdict"><span>truth {classes[0]}, called {classes[1]}</span><span class="{verdict}">{verdict}</span></p>
{_votes(result, index, data.class_names, colours)}
<p class="fine"><span>{name}</span><span>uncertainty {100 * uncertainty:.0f} %</span></p>
</figcaption></figure>
"""


def _pictures(
    data: ReportData,
    result: DenoisingClassification,
    index: int,
    window: tuple[float, ...],
    difference: FloatArray | None,
    numbers: dict[int, int],
) -> str:
    """The image and, where there are maps, the class differences over it, as one SVG element."""
    place = data.place(index)
    if data.images is None or place is None:
        return ""
    height, width = data.images.shape[2:]
    gap = width / 32
    name, size = f"{data.anchor}film-{index}", picture_size(width, height)
    film = f'<image id="{name}" href="{film_picture(data.images[place], (window[0], window[1]))}" {size}/>'
    outline = ""
    if data.masks is not None and data.masks[place].any():
        outline = f'<path class="outline" d="{mask_outline(data.masks[place, 0])}"/>'
    if difference is None:
        return f'<svg viewBox="0 0 {width} {height}">{film}{outline}</svg>'
    called, rival = int(result.predicted[index]), _rival(result, index)
    colours = (CLASS_COLOURS[numbers[called]], CLASS_COLOURS[numbers[rival]])
    overlay = f'<image href="{overlay_picture(difference, colours)}" {size}/>'
    return (
        f'<svg viewBox="0 0 {2 * width + gap:g} {height}">{film}{outline}'
        f'<g transform="translate({width + gap:g} 0)"><use href="#{name}"/>{overlay}{outline}</g></svg>'
    )


def picture_size(width: int, height: int) -> str:
    """The attributes of a picture that fills so many units of an SVG element."""
    return f'width="{width}" height="{height}" preserveAspectRatio="none"'
