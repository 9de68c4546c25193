# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Slices as one volume: in which order they lie, and what keeps them from being one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import numpy.typing as npt

from .dicom_header import field as tag

__all__ = ["Slice", "Stack", "stack_slices"]

Array = npt.NDArray[np.float64]

SAME_AXES = 1e-3  # direction cosines are written with 6 digits, and rounded by some to 3
# Positions are rounded by some to a tenth of a millimetre; a missing slice doubles the distance.
SAME_DISTANCE, ROUNDED, MOST = 0.05, 0.1, 0.25


@dataclass(frozen=True, eq=False)
class Slice:
    """What the header says of one slice.

    Args:
        name: what messages call it: its file, or its frame.
        size: rows and columns.
        spacing: distance of rows and of columns, mm.
        axes: direction of increasing columns, then of increasing rows [6]; DICOM's axes (left, back, head).
        position: of its first pixel [3], mm.
        marks: what tells acquisitions apart, by its keyword: AcquisitionNumber and the like.
        apart: distance of slices as the header has it, mm; None where it does not.
    """

    name: str
    size: tuple[int, int]
    spacing: tuple[float, float]
    axes: Array
    position: Array
    marks: Mapping[str, str] = field(default_factory=dict)
    apart: float | None = None


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume made of slices.

    Args:
        order: places of the slices, in the order of their positions along the normal of the plane.
        affine: voxel (column, row, slice) -> millimetres in DICOM's axes [4, 4].
        doubts: what to mind, in words.
    """

    order: tuple[int, ...]
    affine: Array
    doubts: tuple[str, ...] = ()


def stack_slices(slices: Sequence[Slice]) -> Stack:
    """Order slices along the normal of their plane; DICOM PS3.3, C.7.6.2.1.1.

    Slices that are shifted evenly against each other (a tilted gantry) give an affine with a shear.

    Raises:
        ValueError: naming what was found, when there is one slice, or slices differ in size, spacing or orientation,
            are of several acquisitions, lie at one place, have a gap, or unequal distances.

    Example:
        >>> axial = np.array([1.0, 0, 0, 0, 1, 0])
        >>> slices = [Slice(f"{z}.dcm", (4, 4), (1.0, 1.0), axial, np.array([0.0, 0, z])) for z in (5, 0, 10)]
        >>> stack_slices(slices).order
        (1, 0, 2)
        >>> stack_slices(slices[:2] + [Slice("f.dcm", (4, 4), (1.0, 1.0), axial, np.array([0.0, 0, 20]))])
        Traceback (most recent call last):
        ValueError: expected slices at equal distances, got a gap of 15 mm between 5.dcm and f.dcm, where others lie ...
    """
    if len(slices) < 2:
        raise ValueError("expected a series of two slices or more, got one, which is a plane image")
    _check_alike(slices)
    axes = slices[0].axes
    normal = np.cross(axes[:3], axes[3:])
    positions = np.stack([one.position for one in slices])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    ordered = [slices[n] for n in order]
    doubts = _check_marks(ordered, along[order])
    _check_distances(ordered, along[order])
    step = (positions[order[-1]] - positions[order[0]]) / (len(slices) - 1)
    doubts += _check_line(ordered, positions[order], step, normal)
    doubts += _thinned(slices[0].apart, float(step @ normal))
    rows, columns = slices[0].spacing
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = axes[:3] * columns, axes[3:] * rows
    affine[:3, 2], affine[:3, 3] = step, positions[order[0]]
    return Stack(tuple(int(n) for n in order), affine, doubts)


def _check_alike(slices: Sequence[Slice]) -> None:
    """Refuse slices of several sizes, orientations or spacings."""
    for one in slices:
        lengths = np.linalg.norm(one.axes.reshape(2, 3), axis=1)
        if not np.allclose(lengths, 1, atol=0.01) or abs(one.axes[:3] @ one.axes[3:]) > 0.01:
            raise ValueError(
                f"{tag('ImageOrientationPatient')}: expected two perpendicular directions of length 1, got "
                f"{[round(float(n), 4) for n in one.axes]} in {one.name}; write the right ones"
            )
    if len(sizes := Counter(f"{one.size[0]} x {one.size[1]}" for one in slices)) > 1:
        raise ValueError(
            f"expected slices of one size, got {_counted(sizes)}; take out those that are not of this scan"
        )
    first = slices[0]
    turned = [one for one in slices if not np.allclose(one.axes, first.axes, atol=SAME_AXES)]
    if turned:
        raise ValueError(
            f"expected slices of one orientation ({tag('ImageOrientationPatient')}), got {len(turned)} of "
            f"{len(slices)} turned against the first, such as {turned[0].name}; take out localizers, and other planes"
        )
    spacings = Counter(f"{one.spacing[0]:g} x {one.spacing[1]:g} mm" for one in slices)
    if not all(np.allclose(one.spacing, first.spacing, rtol=1e-3) for one in slices):
        raise ValueError(
            f"expected slices of one {tag('PixelSpacing')}, got {_counted(spacings)}; put those of each scan into a "
            "folder of their own"
        )


def _check_marks(ordered: Sequence[Slice], along: Array) -> tuple[str, ...]:
    """Refuse slices of several acquisitions: their headers say so, or two lie at one place."""
    # To a hundredth of a millimetre, below which positions differ by their rounding.
    same = np.flatnonzero(np.diff(along) < 0.01)
    names = dict.fromkeys(name for one in ordered for name in one.marks)
    differing, doubts = {}, []
    for name in names:
        marks = [one.marks.get(name, "none") for one in ordered]
        values = Counter(marks)
        if not len(same) and name == "AcquisitionNumber" and len(values) > 2 and _in_blocks(marks):
            # A rotation of the scanner at each place of the table, with some slices each.
            doubts.append(f"slices of {len(values)} acquisitions lie one after the other; taken as one scan")
        elif 1 < len(values) < len(ordered):  # a number of its own for each slice counts slices
            differing[name] = values
    fix = "put the slices of each into a folder of its own"
    if differing:
        told = "; ".join(f"{tag(name)} {_counted(values)}" for name, values in differing.items())
        places = f", {len(same)} of them at the place of another," if len(same) else ""
        raise ValueError(f"expected one acquisition, got slices{places} that differ in {told}; {fix}")
    if len(same):
        first, second = ordered[same[0]].name, ordered[same[0] + 1].name
        raise ValueError(
            f"expected one slice at each place, got {len(same)} at the place of another, such as {first} and {second}, "
            f"and nothing in their headers tells acquisitions apart; remove copies, or {fix}"
        )
    return tuple(doubts)


def _in_blocks(marks: Sequence[str]) -> bool:
    """Whether equal marks stand together.

    Example:
        >>> _in_blocks("aabbc"), _in_blocks("abab")
        (True, False)
    """
    return len(list(groupby(marks))) == len(set(marks))


def _check_distances(ordered: Sequence[Slice], along: Array) -> None:
    """Refuse gaps and unequal distances."""
    apart = np.diff(along)
    step = float(np.median(apart))
    allowed = min(max(SAME_DISTANCE * step, ROUNDED), MOST * step)
    wrong = np.flatnonzero(np.abs(apart - step) > allowed)
    even = along[0] + np.linspace(0, along[-1] - along[0], len(along))
    drift = float(np.abs(along - even).max())
    if not len(wrong) and drift <= MOST * step:
        return
    if not len(wrong):
        raise ValueError(
            f"expected slices at equal distances, got distances from {apart.min():g} to {apart.max():g} mm, by which a "
            f"slice lies {drift:.2g} mm off; resample the scan to equal distances"
        )
    # A gap shows beside the usual distance.
    place = int(wrong[np.argmax(apart[wrong])])
    missing = round(float(apart[place]) / step) - 1
    between = f"{ordered[place].name} and {ordered[place + 1].name}"
    if missing >= 1:
        more = "" if len(wrong) == 1 else f" ({len(wrong)} such places)"
        raise ValueError(
            f"expected slices at equal distances, got a gap of {apart[place]:g} mm between {between}, where others lie "
            f"{step:g} mm apart{more}: {missing} missing; copy all slices of the series"
        )
    raise ValueError(
        f"expected slices at equal distances, got distances from {apart.min():g} to {apart.max():g} mm, such as "
        f"{apart[place]:g} mm between {between}; take out slices that are not of this scan, or resample it"
    )


def _check_line(ordered: Sequence[Slice], positions: Array, step: Array, normal: Array) -> tuple[str, ...]:
    """Refuse slices that are shifted unevenly in their plane; say so where they are shifted evenly."""
    line = positions[0] + np.arange(len(positions))[:, None] * step
    off = np.linalg.norm(positions - line, axis=1)
    worst, half = int(off.argmax()), min(ordered[0].spacing) / 2
    # Along the normal they may be off by the tolerance of distances.
    allowed = max(half, MOST * float(step @ normal))
    if off[worst] > allowed:
        raise ValueError(
            f"expected the first pixels of all slices on one line, got {ordered[worst].name} {off[worst]:.3g} mm off; "
            f"write the right {tag('ImagePositionPatient')}, or take out slices of other scans"
        )
    shift = float(np.linalg.norm(step - (step @ normal) * normal))
    if shift * (len(positions) - 1) > half:
        return (f"each slice is shifted by {shift:.3g} mm against the last (a tilted gantry); the affine has a shear",)
    return ()


def _thinned(stated: float | None, apart: float) -> tuple[str, ...]:
    """Say so where slices lie a few times as far apart as their header says: with every other one missing none is odd.

    More than a few times is no sign: some scanners write the gap between slices in place of their distance.

    Example:
        >>> _thinned(2.5, 5.0)
        ('slices lie 5 mm apart, and 2.5 mm by SpacingBetweenSlices (0018,0088): only every 2nd may be here',)
        >>> _thinned(2.5, 2.51), _thinned(0.5, 5.5), _thinned(None, 5.0)
        ((), (), ())
    """
    times = apart / abs(stated) if stated else 1.0
    if not 1.5 <= times <= 4.5 or abs(times - round(times)) > 0.1:
        return ()
    nth = {2: "2nd", 3: "3rd", 4: "4th"}[round(times)]
    return (
        f"slices lie {apart:.4g} mm apart, and {abs(stated or 0):g} mm by {tag('SpacingBetweenSlices')}: only every "
        f"{nth} may be here",
    )


def _counted(values: Mapping[str, int]) -> str:
    """Values with the number of slices of each, as words.

    Example:
        >>> _counted({"1": 24, "2": 24})
        '1 (24 slices), 2 (24 slices)'
    """
    shown = [f"{value} ({count} slice{'' if count == 1 else 's'})" for value, count in list(values.items())[:5]]
    return ", ".join(shown) + ("" if len(values) <= 5 else f" and {len(values) - 5} more")
