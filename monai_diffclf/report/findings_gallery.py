# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The gallery of a report of several findings: an image a row, and where each finding is seen, a column a finding."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

from .curves import classify, predicted, probabilities
from .data import ReportData
from .figures import CLASS_COLOURS
from .gallery import choose_images, film_picture, mask_outline, overlay_picture, picture_size

__all__ = ["choose_of_findings", "findings_gallery"]

_ROWS = 8  # images at most
Findings = Mapping[str, ReportData]


def choose_of_findings(findings: Findings) -> list[str]:
    """Names of the images that a report of several findings shows: of each finding those of `choose_images`."""
    chosen = dict[str, None]()
    for data in findings.values():
        for group in _chosen(data).values():
            chosen |= dict.fromkeys(list(data.keys or [])[i] for i in group)
    return list(chosen)


def findings_gallery(findings: Findings, rule: str) -> str:
    """Some images with the map of each finding; nothing where no maps are at hand.

    Args:
        findings: name -> its report, all with the same pictures.
        rule: the rule whose probabilities and calls are named.
    """
    if any(data.images is None or data.error_maps is None or data.keys is None for data in findings.values()):
        return ""
    rows = "".join(_row(findings, rule, key) for key in _most_telling(findings))
    heads = "".join(f"<th>{escape(name)}</th>" for name in findings)
    return f"""<section><h2>Where is each finding seen?</h2>
<p>An image a row, a finding a column. The place speaks for <b class="c1">the finding</b>, or for
<b class="c0">its absence</b>: there the model, taking the finding for present, removed the noise better than taking it
for absent, or the reverse. The stronger the colour, the larger the difference, on one scale for all findings of all
images. Each column shows a finding that was found, one that is doubtful and one that was called wrongly, where there
are some.</p>
<div class="scroll"><table class="maps"><tr><th>Image</th>{heads}</tr>{rows}</table></div></section>"""


def _chosen(data: ReportData) -> dict[str, list[int]]:
    return choose_images(data.labels, classify(data.errors, next(iter(data.rules)), data.weighting))


def _most_telling(findings: Findings) -> list[str]:
    """Of each finding the surest image with it, the most doubtful one, and the surest wrong one, in turn."""
    by_kind = list[list[str]]()
    for data in findings.values():
        chosen, keys = _chosen(data), list(data.keys or [])
        found = [i for i in chosen["sure"] if data.labels[i] == 1][:1]
        picks = [*found, *chosen["uncertain"][:1], *chosen["wrong"][:1]]
        by_kind.append([keys[i] for i in picks if data.place(i) is not None])
    longest = max(map(len, by_kind), default=0)
    return list(dict.fromkeys(keys[r] for r in range(longest) for keys in by_kind if r < len(keys)))[:_ROWS]


def _row(findings: Findings, rule: str, key: str) -> str:
    """The image, and its map for each finding with what was called and what is true."""
    film, cells = "", ""
    scale = _scale(findings)
    for data in findings.values():
        keys = list(data.keys or [])
        if key not in keys or (place := data.place(keys.index(key))) is None:
            cells += "<td>not known</td>"
            continue
        index, images, maps = keys.index(key), np.asarray(data.images), np.asarray(data.error_maps)
        height, width = images.shape[2:]
        size = picture_size(width, height)
        window = np.quantile(images, [0.001, 0.999]).tolist()
        film = f'<image href="{film_picture(images[place], (window[0], window[1]))}" {size}/>'
        difference = _difference(maps)[place] / scale
        outline = ""
        if data.masks is not None and data.masks[place].any():
            outline = f'<path class="outline" d="{mask_outline(data.masks[place, 0])}"/>'
        painted = f'<image href="{overlay_picture(difference, (CLASS_COLOURS[1], CLASS_COLOURS[0]))}" {size}/>'
        cells += f"<td>{_svg(film + painted + outline, height, width)}{_said(data, rule, index)}</td>"
    picture = _svg(film, height, width) if film else ""
    return f'<tr><td>{picture}<p class="fine">{escape(key)}</p></td>{cells}</tr>'


def _svg(content: str, height: int, width: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}">{content}</svg>'


def _said(data: ReportData, rule: str, index: int) -> str:
    """Probability of the finding, by which it was called, and whether that is right."""
    values = probabilities(data, rule)
    called, true = int(predicted(data, rule)[index]), int(data.labels[index])
    verdict = "right" if called == true else "wrong"
    states = ("absent", "present")
    words = f"is {states[true]}, called {states[called]}"
    return f'<p class="fine"><span>{100 * values[index, 1]:.0f} %</span> <span class="{verdict}">{words}</span></p>'


def _difference(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the finding is seen [S, H, W]: the error if absent less that if present."""
    return np.asarray(maps[:, 0] - maps[:, 1], dtype=np.float64)


def _scale(findings: Findings) -> float:
    """The difference that has the full colour."""
    largest = [np.quantile(np.abs(_difference(np.asarray(data.error_maps))), 0.99) for data in findings.values()]
    return max(*map(float, largest), 1e-12)
