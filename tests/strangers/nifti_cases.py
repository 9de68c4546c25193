"""NIfTI files in every orientation, with what a viewer shows: patient's right at the left, front or head at the top."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import partial
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from nibabel.testing import data_path

from monai_diffclf.image_io import read_image_file

from .cases import Case, ramp

Array = npt.NDArray[Any]
RAS = axcodes2ornt("RAS")
# A plane, its axis of one voxel in (right, front, head), and what a canonical array of it looks like on the screen.
PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}


def _canonical(image: Array, plane: str) -> Array:
    """From the screen [rows, columns] to an array [x, y, z] along right, front, head."""
    upright = image[::-1, ::-1].T  # columns run to the left or the back, rows to the back or the feet
    return np.expand_dims(upright, PLANES[plane])


def _stored(canonical: Array, codes: str, oblique: float = 0.0) -> tuple[Array, Array]:
    """The same voxels in the order and direction of some axis codes, and the affine that says so."""
    change = ornt_transform(RAS, axcodes2ornt(codes))
    array = nibabel.apply_orientation(canonical, change)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(oblique), -np.sin(oblique)], [np.sin(oblique), np.cos(oblique)]]
    affine = turn @ np.diag([2.0, 2.0, 2.0, 1.0]) @ inv_ornt_aff(change, canonical.shape)
    return array, affine


def _save(array: Array, affine: Array | None, name: str, folder: Path, kind: Any = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(array, affine), folder / name)
    return folder / name


def _codes() -> Iterator[str]:
    for axes in permutations(("RL", "AP", "SI")):
        for choice in product(*axes):
            yield "".join(choice)


def orientation_cases() -> Iterator[Case]:
    """One plane in all 48 orders and directions of its axes; volumes in 12; obliques."""
    image = np.rint(ramp() * 255).astype(np.uint8)
    for number, codes in enumerate(_codes()):
        plane = list(PLANES)[number % 3]
        array, affine = _stored(_canonical(image, plane), codes)
        write = partial(_save, array, affine, "n.nii.gz")
        yield Case(f"NIfTI {plane} {codes}", write, read_image_file, image / 255)
    for codes in ("RAS", "LPS", "PIR", "ASL", "SAR", "IPL"):
        volume = np.stack([image, np.roll(image, 3, axis=0), np.roll(image, 5, axis=1)], axis=-1)
        canonical = volume[::-1, ::-1].swapaxes(0, 1)
        array, affine = _stored(canonical, codes)
        yield Case(f"NIfTI volume {codes}", partial(_save, array, affine, "v.nii"), read_image_file, volume / 255)
    for codes in ("RAS", "PLS", "LPS", "ARI"):
        array, affine = _stored(_canonical(image, "axial"), codes, oblique=0.4)
        yield Case(f"NIfTI oblique {codes}", partial(_save, array, affine, "o.nii"), read_image_file, image / 255)


def other_cases() -> Iterator[Case]:
    """Types, shapes, headers; what is damaged; bombs; nibabel's own files."""
    image = ramp()
    array, affine = _stored(_canonical(image, "axial"), "LPS")

    def case(name: str, values: Array, shown: Array | None, kind: Any = nibabel.Nifti1Image, **more: Any) -> Case:
        more |= {} if shown is not None else {"named": "n.nii"}
        return Case(f"NIfTI {name}", partial(_save, values, affine, "n.nii", kind=kind), read_image_file, shown, **more)

    for type_ in (np.int16, np.uint16, np.int32, np.float32, np.float64, np.int8):
        # Stretched from its own smallest to its largest value, as NIfTI says nothing of a range.
        yield case(
            type_.__name__,
            (array * 100).astype(type_),
            np.floor(image * 100) / 100 if type_().dtype.kind != "f" else image,
        )
    yield case("4 dimensions, the last ones 1", array[..., None], image)
    yield case("in NIfTI-2", array.astype(np.float32), image, kind=nibabel.Nifti2Image)
    yield case("constant", np.full_like(array, 7), np.zeros_like(image))
    yield case("with NaN", np.where(array > 0.7, np.nan, array), None)
    yield case("with infinity", np.where(array > 0.7, np.inf, array), None)
    yield case("of four volumes", np.stack([array] * 4, axis=-1), None)
    yield case("complex", array.astype(np.complex64), None)
    colour = np.zeros(array.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, factor in zip("RGB", (1.0, 0.5, 0.25), strict=True):
        colour[name] = np.rint(array * 255 * factor)
    yield case("RGB", colour, np.stack([image, image / 2, image / 4], axis=-1))
    yield Case("NIfTI of 2 GB in 2 MB", _bomb, read_image_file, named="bomb.nii.gz")
    small = partial(_save, (array * 100).astype(np.int16), affine, "n.nii")
    yield Case("NIfTI cut short", partial(_cut, small, 600), read_image_file, named="n.nii")
    yield Case("NIfTI header only", partial(_cut, small, 352), read_image_file, named="n.nii")
    yield Case("NIfTI of 100 bytes", partial(_cut, small, 100), read_image_file, named="n.nii")
    yield Case("text called .nii.gz", lambda f: _text(f, "a.nii.gz"), read_image_file, named="a.nii.gz")
    yield Case("text called .nii", lambda f: _text(f, "a.nii"), read_image_file, named="a.nii")
    for name in (
        "anatomical.nii",
        "example4d.nii.gz",
        "example_nifti2.nii.gz",
        "functional.nii",
        "nifti1.hdr",
        "analyze.hdr",
    ):
        yield Case(
            f"nibabel's {name}", partial(_nibabels, name), read_image_file, _viewed(name), named=name, or_refused=True
        )


def _cut(write: Any, size: int, folder: Path) -> Path:
    path: Path = write(folder)
    path.write_bytes(path.read_bytes()[:size])
    return path


def _text(folder: Path, name: str) -> Path:
    (folder / name).write_text("no image\n" * 100)
    return folder / name


def _bomb(folder: Path) -> Path:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((2048, 1024, 1024))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = folder / "bomb.nii.gz"
    zeros = bytes(2**20)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(64):  # fewer bytes than said: whoever trusts the header waits for memory, not for them
            file.write(zeros)
    return path


def _nibabels(name: str, folder: Path) -> Path:
    return Path(data_path, name)


def _viewed(name: str) -> Array | None:
    """What nibabel's canonical array looks like on the screen; None of what is no volume."""
    try:
        file = nibabel.as_closest_canonical(nibabel.load(Path(data_path, name)))
    except Exception:  # a header without its image, say
        return None
    values = np.asarray(file.dataobj, dtype=np.float64)
    if values.ndim != 3:
        return None
    values = (values - values.min()) / np.ptp(values)
    return values[::-1, ::-1].swapaxes(0, 1)


def nifti_cases() -> list[Case]:
    """All of them."""
    return [*orientation_cases(), *other_cases()]
