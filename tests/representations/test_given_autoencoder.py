"""An autoencoder that a bundle does not hold: what is written of it, and what is refused in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monai_diffclf.networks import AutoencoderSpace
from monai_diffclf.representations import given_autoencoder, load_space, prepare_space
from tests.representations.test_autoencoder_bundle import plain_images, write_autoencoder

ORIGIN = "TINY of example.org"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, AutoencoderSpace]:
    """A space on an autoencoder, and its file."""
    encoder = given_autoencoder(write_autoencoder(tmp_path / "first"), ORIGIN)
    path, images = tmp_path / "representation.pt", plain_images()
    space = prepare_space(path, encoder, images, num_components=4, grid=[2, 2], progress=False)  # type: ignore[arg-type]
    assert isinstance(space, AutoencoderSpace)
    return path, space


def test_its_file_names_no_folder_and_reads_it_wherever_it_lies(
    made: tuple[Path, AutoencoderSpace], tmp_path: Path
) -> None:
    path, space = made
    content = torch.load(path, weights_only=True)
    assert content["encoder"]["source"] == {"name": "given", "origin": ORIGIN}
    assert str(tmp_path) not in repr(content) and path.stat().st_size < 10_000
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    again = load_space(path, given_autoencoder(tmp_path / "elsewhere", ORIGIN))
    images = torch.stack([item["image"] for item in plain_images()])
    assert again.version == space.version and torch.equal(again.encode(images), space.encode(images))


def test_a_space_is_not_read_without_it(made: tuple[Path, AutoencoderSpace]) -> None:
    with pytest.raises(ValueError, match=rf"^encoder: expected {ORIGIN}, which .* does not hold; give load_space"):
        load_space(made[0])


def test_another_in_its_place_is_refused(made: tuple[Path, AutoencoderSpace], tmp_path: Path) -> None:
    other = given_autoencoder(write_autoencoder(tmp_path / "other", seed=1), ORIGIN)
    with pytest.raises(ValueError, match="^encoder: expected the autoencoder that .* was made with") as refused:
        load_space(made[0], other)
    said = str(refused.value)
    assert f"got another in {tmp_path / 'other'}" in said and f"take {ORIGIN} and put it into" in said
    assert "--set autoencoder=FOLDER" in said and "\n" not in said


@pytest.mark.parametrize("folder", [None, "no-such-folder", "empty"])
def test_what_is_no_autoencoder_is_refused_in_one_line(folder: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    place = None if folder is None else tmp_path / folder
    with pytest.raises(ValueError, match=rf"^autoencoder: expected .*{ORIGIN}") as refused:
        given_autoencoder(place, ORIGIN)
    said = str(refused.value)
    assert "--set autoencoder=FOLDER" in said and "models/autoencoder" in said and "\n" not in said
