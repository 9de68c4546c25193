"""An archive is classified: its outputs, the order of its rows, going on after a stop, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.archive import ClassifierSettings, classify_archive, processes
from monai_diffclf.archive.block_classifier import BlockClassifier
from monai_diffclf.archive.block_record import block_path
from monai_diffclf.archive.workspace import Workspace
from monai_diffclf.bundle import find_bundle, open_bundle
from monai_diffclf.storage.folder_lock import FolderLock
from tests.archive.conftest import contents, stop_after_one, write_pictures
from tests.bundles.workflows import bundle_workflow, run


def classify(images, settings, output, **options):
    return classify_archive([images], settings, output, progress=False, **options)


def read_table(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def whole(pictures, settings, tmp_path):
    """What an undisturbed run writes."""
    classify(pictures, settings, tmp_path / "whole")
    return contents(tmp_path / "whole")


def test_outputs(pictures, settings, tmp_path):
    done = classify(pictures, settings, tmp_path / "out")
    rows = read_table(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["key"] for row in rows] == sorted(path.name for path in pictures.iterdir())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.csv",
        "predictions.json",
        "cases.html",
        "maps",
    }
    assert found["classes"] == ["clear", "lesion"] and found["images"] == done.images == 20
    assert sum(done.counts.values()) == 20 and not done.failed
    for row, item in zip(rows, found["predictions"], strict=True):
        assert list(row) == list(item)
        assert float(row["probability_lesion"]) == item["probability_lesion"]
        assert int(row["network_evaluations"]) == item["network_evaluations"] == 4
        assert item["decided"] is True and item["error"] is None
        assert (tmp_path / "out" / row["map"]).read_bytes()[:4] == b"\x89PNG"
    assert [row["map"] for row in rows[:2]] == ["maps/000000_scan_0.png", "maps/000001_scan_1.png"]


def test_table_is_that_of_the_bundles_own_inference(pictures, settings, tmp_path, device):
    classify(pictures, settings, tmp_path / "out")
    overrides = {"dataset_dir": str(pictures), "output_dir": str(tmp_path / "inference"), "num_draws": 2}
    run(
        bundle_workflow(
            find_bundle(settings.bundle),
            "inference",
            "inference.json",
            **overrides,
            progress=False,
            device=torch.device(device),
        )
    )
    ours, theirs = read_table(tmp_path / "out"), read_table(tmp_path / "inference")
    assert list(ours[0]) == list(theirs[0])
    for own, other in zip(ours, theirs, strict=True):
        assert {**own, "map": ""} == {**other, "map": ""}


def test_goes_on_where_it_was_stopped(pictures, settings, tmp_path, monkeypatch, whole):
    write = processes.write_block
    written = stop_after_one(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        classify(pictures, settings, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    monkeypatch.setattr(processes, "write_block", lambda *given: (written.append(given[1]), write(*given)))
    classify(pictures, settings, tmp_path / "out")
    assert written == [0, 1]  # each block once
    assert contents(tmp_path / "out") == whole


def test_is_done_when_it_was_done_before(pictures, settings, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(processes, "BlockClassifier", None)
    done = classify(pictures, settings, tmp_path / "whole")
    assert done.done_before and sum(done.counts.values()) == 20
    assert contents(tmp_path / "whole") == whole


def test_a_damaged_record_is_made_anew(pictures, settings, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(Workspace, "publish", lambda self: None)
    classify(pictures, settings, tmp_path / "out")
    (work,) = (tmp_path / "out").glob(".classify_*")
    path = block_path(work / "blocks", 1)
    path.write_bytes(path.read_bytes()[:-40])
    monkeypatch.undo()
    classify(pictures, settings, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("place", ["maps", "cases.html", "predictions.csv", "predictions.json"])
def test_goes_on_after_a_kill_while_results_were_put_in_place(pictures, settings, tmp_path, monkeypatch, whole, place):
    move = os.replace

    def stop_before(source, target):
        if str(target) == str(tmp_path / "out" / place):
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr("monai_diffclf.archive.workspace.os.replace", stop_before)
    with pytest.raises(KeyboardInterrupt):
        classify(pictures, settings, tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out" / "predictions.json").exists()
    classify(pictures, settings, tmp_path / "out")
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize("change", ["images", "settings", "weights"])
def test_results_of_another_run_are_refused_or_replaced_whole(pictures, settings, tmp_path, change, whole):
    if change == "images":
        (pictures / "scan 7.png").unlink()
    elif change == "settings":
        settings = replace(settings, maps="none")
    else:
        bundle = tmp_path / "bundle"
        shutil.copytree(settings.bundle, bundle)
        weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
        next(iter(weights.values())).mul_(1.01)
        torch.save(weights, bundle / "models" / "model.pt")
        (bundle / "models" / "model.json").unlink(missing_ok=True)
        settings = replace(settings, bundle=str(bundle))
    with pytest.raises(ValueError, match=rf"results of another run \(.*other {change}.*--replace"):
        classify(pictures, settings, tmp_path / "whole")
    assert contents(tmp_path / "whole") == whole
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classify(pictures, settings, tmp_path / "whole", replace=True)
        classify(pictures, settings, tmp_path / "new")
    assert contents(tmp_path / "whole") == contents(tmp_path / "new") != whole


def test_the_beginning_of_another_run_is_refused(pictures, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "write_block", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        classify(pictures, settings, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"the beginning of another run \(other settings\)"):
        classify(pictures, replace(settings, maps="npy"), tmp_path / "out")


def test_files_of_somebody_else_are_left_alone(pictures, settings, tmp_path):
    (tmp_path / "out" / "maps").mkdir(parents=True)
    (tmp_path / "out" / "maps" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"holds maps, which is not of this run; name another --output"):
        classify(pictures, settings, tmp_path / "out")
    with pytest.raises(ValueError, match=r"it holds mine\.png; move it"):
        classify(pictures, settings, tmp_path / "out", replace=True)
    assert (tmp_path / "out" / "maps" / "mine.png").read_bytes() == b"mine"


def test_a_folder_has_one_writer(pictures, settings, tmp_path):
    with FolderLock(tmp_path / "out"), pytest.raises(ValueError, match="is being written by another process"):
        classify(pictures, settings, tmp_path / "out")


def test_no_output_into_a_bundles_own_folders(pictures, settings):
    with pytest.raises(ValueError, match="where the bundle keeps what it was shipped with"):
        classify(pictures, settings, f"{settings.bundle}/models/out")


def test_unreadable_images_have_rows_in_their_places(pictures, settings, tmp_path):
    (pictures / "scan 1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for n in range(12, 20):  # all of a batch
        (pictures / f"scan {n}.png").write_bytes(b"")
    done = classify(pictures, settings, tmp_path / "out")
    rows = read_table(tmp_path / "out")
    assert [bool(row["error"]) for row in rows] == [row["key"] in dict(done.failed) for row in rows]
    assert len(rows) == 20 and len(done.failed) == 9 and sum(done.counts.values()) == 11
    assert all(not row["predicted"] and not row["map"] for row in rows if row["error"])
    with pytest.raises(ValueError, match=r"scan 1\.png"):
        classify(pictures, replace(settings, strict=True), tmp_path / "strict")
    assert not (tmp_path / "strict" / "predictions.csv").exists()


def blocks_made(monkeypatch) -> list[int]:
    """The numbers of the blocks that are classified from now on."""
    made: list[int] = []
    classify_block = BlockClassifier.classify

    def classify_one(self, number, *given):
        made.append(number)
        return classify_block(self, number, *given)

    monkeypatch.setattr(BlockClassifier, "classify", classify_one)
    return made


@pytest.mark.parametrize("change", ["mended", "not strict"])
def test_a_refused_image_costs_no_other_block(change, pictures, settings, tmp_path, monkeypatch):
    strict = replace(settings, strict=True)
    last, good = pictures / "scan 9.png", (pictures / "scan 9.png").read_bytes()  # of the second block
    last.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"scan 9\.png cannot be read"):
            classify(pictures, strict, tmp_path / "out")
    made, next_settings = blocks_made(monkeypatch), settings
    if change == "mended":
        last.write_bytes(good)
        next_settings = strict
    classify(pictures, next_settings, tmp_path / "out")
    assert made == [1]
    classify(pictures, next_settings, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_records_that_hold_for_no_other_run_are_not_taken(pictures, settings, tmp_path, monkeypatch):
    (pictures / "scan 9.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scan 9\.png cannot be read"):
        classify(pictures, replace(settings, strict=True), tmp_path / "out")
    write_pictures(pictures, 1, seed=3, name="scan 0.png")  # of the first block
    made = blocks_made(monkeypatch)
    classify(pictures, settings, tmp_path / "out")
    assert made == [0, 1]


def test_a_damaged_plan_begins_anew(pictures, settings, tmp_path, monkeypatch):
    stop_after_one(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        classify(pictures, settings, tmp_path / "out")
    monkeypatch.undo()
    (plan,) = (tmp_path / "out").glob(".classify_*/plan.json")
    plan.write_bytes(plan.read_bytes()[:100])
    classify(pictures, settings, tmp_path / "out")
    classify(pictures, settings, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ["predictions.csv", "predictions.json", "cases.html"])
def test_results_that_were_cut_are_not_taken_for_whole(name, pictures, settings, tmp_path):
    classify(pictures, settings, tmp_path / "out")
    path = tmp_path / "out" / name
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(ValueError, match=r"holds results of another run \(files gone or changed\); .* add --replace"):
        classify(pictures, settings, tmp_path / "out")
    assert not classify(pictures, settings, tmp_path / "out", replace=True).done_before


def test_nothing_but_unreadable_images(settings, tmp_path):
    write_pictures(tmp_path / "images", 1)[0].write_bytes(b"")
    done = classify(tmp_path / "images", settings, tmp_path / "out")
    (row,) = read_table(tmp_path / "out")
    assert done.counts == {} and "empty" in row["error"] and "probability_lesion" in row
    assert done.report is None and done.maps is None


def test_names_of_all_kinds(settings, tmp_path):
    names = ["=cmd|'x'.png", "Röntgen ñ 影.png", "a\nb.png", "$import os.png", "@x.png", "-5.png", "x" * 200 + ".png"]
    folder = tmp_path / "im#ges @::1"
    for name in names:
        write_pictures(folder, 1, name=name.replace("{", "{{"))
    classify(folder, settings, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert sorted(item["key"] for item in found) == sorted(names)
    for row in read_table(tmp_path / "out"):
        assert not row["key"].startswith(("=", "@"))
        assert (tmp_path / "out" / row["map"]).is_file()


def test_equal_names_do_not_collide(settings, tmp_path):
    for n in range(2):
        write_pictures(tmp_path / f"{n}", 1, seed=n, name="same.png")
    classify_archive([tmp_path / "0", tmp_path / "1"], settings, tmp_path / "out", progress=False)
    rows = read_table(tmp_path / "out")
    assert [row["key"] for row in rows] == ["0/same.png", "1/same.png"]
    first, second = ((tmp_path / "out" / row["map"]).read_bytes() for row in rows)
    assert first != second


def test_arrays_are_in_the_images_own_size(pictures, settings, tmp_path):
    classify(pictures, replace(settings, maps="npy", report=False), tmp_path / "out")
    (row, *_) = read_table(tmp_path / "out")
    values = np.load(tmp_path / "out" / row["map"])
    assert values.dtype == np.float32 and values.shape == (36, 40) and np.abs(values[:, 2:38]).max() > 0
    assert (values[:, :2] == 0).all()  # what was cropped
    assert not (tmp_path / "out" / "cases.html").exists()


def test_nifti_is_in_the_grid_of_its_file(settings, tmp_path):
    affine = np.diag([-0.7, 0.7, 3.0, 1.0])
    pixels = np.random.default_rng(0).random((40, 36, 1), np.float32)
    (tmp_path / "images").mkdir()
    nibabel.save(nibabel.Nifti1Image(pixels, affine), tmp_path / "images" / "plane.nii.gz")
    classify(tmp_path / "images", replace(settings, maps="nifti"), tmp_path / "out")
    image = nibabel.load(tmp_path / "out" / "maps" / "000000_plane.nii.gz")
    assert image.shape == (40, 36, 1) and image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)


def test_series_are_named_in_the_table(settings, tmp_path, write_dicom):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (36, 36), dtype=np.uint8)
    for name, number in (("a", 2), ("b", 1)):
        write_dicom(tmp_path / "images" / f"{name}.dcm", pixels, SeriesInstanceUID="1.2", InstanceNumber=number)
    Image.fromarray(pixels).save(tmp_path / "images" / "c.png")
    classify(tmp_path / "images", settings, tmp_path / "out")
    rows = read_table(tmp_path / "out")
    assert [(row["key"], row["series"], row["slice"]) for row in rows] == [
        ("b.dcm", "1.2", "1"),
        ("a.dcm", "1.2", "2"),
        ("c.png", "", ""),
    ]


def test_report_shows_the_least_sure_images(pictures, settings, tmp_path):
    with pytest.warns(UserWarning, match="the report shows the 3 least sure"):
        classify(pictures, replace(settings, max_cases=3), tmp_path / "out")
    items = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    html = (tmp_path / "out" / "cases.html").read_text()
    assert "the 3 least sure of 20 images" in html
    unsure = sorted(items, key=lambda item: -item["vote_entropy"])[:3]
    assert min(item["vote_entropy"] for item in unsure) >= sorted(item["vote_entropy"] for item in items)[-3]
    assert html.count('"thumbnail"') == 3


def test_images_unlike_those_of_the_validation_are_told(tmp_path, device):
    """The bundle's own test of a shift sees all images, whoever classified them."""
    write_pictures(tmp_path / "noise", 20)
    settings = ClassifierSettings(
        str(find_bundle("pneumonia_xray_diffusion")), device=device, report=False, maps="none"
    )
    with pytest.warns(UserWarning, match="differ"):
        classify(tmp_path / "noise", settings, tmp_path / "out")
    # Each image is told, too, whether maps are made or not.
    rows = read_table(tmp_path / "out")
    assert all(float(row["ood_p_value"]) < 0.01 for row in rows)
    with pytest.warns(UserWarning, match="differ"):
        classify(tmp_path / "noise", replace(settings, maps="npy"), tmp_path / "with_maps")
    with_maps = read_table(tmp_path / "with_maps")
    assert [row["ood_score"] for row in rows] == [row["ood_score"] for row in with_maps]


def test_report_is_that_of_the_bundle(pictures, settings, tmp_path):
    classify(pictures, settings, tmp_path / "out")
    title = open_bundle(settings.bundle).get("title")
    assert f"<h1>{title}</h1>" in (tmp_path / "out" / "cases.html").read_text()
