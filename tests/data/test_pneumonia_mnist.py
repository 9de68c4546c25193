"""PneumoniaMNIST: finding, checking and downloading the file, and splits without shared patients."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import audit_splits, find_pneumonia_mnist, image_key, load_pneumonia_mnist
from monai_diffclf.data import pneumonia_mnist as module

PATIENTS = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion" / "configs" / "patients.csv"
COUNTS = {"train": (60, 90), "val": (8, 12), "test": (5, 5)}


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A small stand-in with the right layout; the module is told to expect its content."""
    rng = np.random.default_rng(0)
    archive, content = {}, {}
    for split, counts in COUNTS.items():
        images = rng.integers(0, 256, (sum(counts), 28, 28), dtype=np.uint8)
        labels = np.repeat([0, 1], counts).astype(np.uint8)
        images[1] = images[0]
        archive[f"{split}_images"], archive[f"{split}_labels"] = images, labels[:, None]
        content[split] = (counts, module._content_digest(images, labels))
    monkeypatch.setattr(module, "_CONTENT", content)
    return archive


@pytest.fixture
def root(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    return tmp_path


@pytest.fixture
def patients(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Three images a patient; the two equal images of training carry two different patients."""
    rows = [(image_key(image), f"P{i % 50}") for i, image in enumerate(arrays["train_images"])]
    rows += [(image_key(image), f"P{i}") for i, image in enumerate(arrays["val_images"])]
    rows += [(image_key(image), f"T{i}") for i, image in enumerate(arrays["test_images"])]
    path = tmp_path / "patients.csv"
    path.write_text("key,patient\n" + "".join(f"{key},{patient}\n" for key, patient in rows))
    return path


def offer(monkeypatch: pytest.MonkeyPatch, file: Path, md5: str | None = None) -> None:
    """Let the download take a local file."""
    monkeypatch.setattr(module, "URL", file.as_uri())
    monkeypatch.setattr(module, "MD5", md5 or hashlib.md5(file.read_bytes()).hexdigest())  # noqa: S324


def test_image_key_is_sha256_of_the_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert image_key(image) == hashlib.sha256(bytes(range(12))).hexdigest()[:16]
    assert image_key(np.asfortranarray(image)) == image_key(image)
    with pytest.raises(TypeError, match="array: expected dtype uint8, got float64"):
        image_key(image.astype(float))


def test_find_in_folder_or_by_file(root):
    assert find_pneumonia_mnist(root) == root / "pneumoniamnist.npz"
    assert find_pneumonia_mnist(root / "pneumoniamnist.npz", download=False) == root / "pneumoniamnist.npz"


def test_any_order_of_the_images_is_accepted(root, arrays):
    order = np.random.default_rng(1).permutation(sum(COUNTS["train"]))
    for name in ("train_images", "train_labels"):
        arrays[name] = arrays[name][order]
    np.savez(root / "pneumoniamnist.npz", **arrays)
    assert find_pneumonia_mnist(root, download=False).is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("val_labels"), "expected the arrays val_images and val_labels, got"),
        (lambda a: a.update(test_images=a["test_images"][:, :20]), r"test_images uint8 \[10, 28, 28\].*\[10, 20, 28\]"),
        (
            lambda a: a["test_labels"].__setitem__(0, 1),
            r"expected \(5, 5\) images of classes 0 and 1 in test, got \(4, 6\)",
        ),
        (
            lambda a: a["train_images"].__setitem__((5, 3, 3), 7),
            "the train images or labels are not those of Pneumonia",
        ),
        (
            lambda a: a.update(test_labels=a["test_labels"][::-1]),
            "the test images or labels are not those of Pneumonia",
        ),
    ],
)
def test_other_content_is_refused(root, arrays, change, message):
    change(arrays)
    np.savez(root / "pneumoniamnist.npz", **arrays)
    with pytest.raises(ValueError, match=rf"pneumoniamnist\.npz: .*{message}.*; move it away, then download https://"):
        find_pneumonia_mnist(root)


def test_damaged_file_is_refused(tmp_path):
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match=r"pneumoniamnist\.npz: cannot be read as an npz file"):
        find_pneumonia_mnist(tmp_path)


def test_absent_without_download(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"does not exist; download https://zenodo.org/\S+ \(MD5 28209eda"
    ) as info:
        find_pneumonia_mnist(tmp_path, download=False)
    assert str(tmp_path / "pneumoniamnist.npz") in str(info.value)


def test_download(root, tmp_path, monkeypatch, capsys):
    offer(monkeypatch, root / "pneumoniamnist.npz")
    target = tmp_path / "new" / "folder"
    target.mkdir(parents=True)
    path = find_pneumonia_mnist(target, download=True, progress=False)
    assert path.read_bytes() == (root / "pneumoniamnist.npz").read_bytes()
    assert [file.name for file in target.iterdir()] == ["pneumoniamnist.npz"]
    assert capsys.readouterr().err == ""


def test_download_with_another_checksum_leaves_nothing(root, tmp_path, monkeypatch):
    offer(monkeypatch, root / "pneumoniamnist.npz", md5="0" * 32)
    with pytest.raises(
        FileNotFoundError, match="expected a folder to download PneumoniaMNIST into, but .*new does not"
    ):
        find_pneumonia_mnist(tmp_path / "new", download=True)
    (tmp_path / "new").mkdir()
    with pytest.raises(
        RuntimeError, match=r"the download from file://\S+ has MD5 \w{32}, expected 0{32}; it was removed"
    ):
        find_pneumonia_mnist(tmp_path / "new", download=True, progress=False)
    assert list((tmp_path / "new").iterdir()) == []


def test_download_without_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "URL", (tmp_path / "nowhere").as_uri())
    (tmp_path / "new").mkdir()
    with pytest.raises(
        RuntimeError, match=r"the download failed \(.*\); download file://\S+ \(MD5 28209eda\w+\) and save"
    ):
        find_pneumonia_mnist(tmp_path / "new", download=True, progress=False)
    assert list((tmp_path / "new").iterdir()) == []


def test_splits_share_no_patient(root, patients, arrays):
    train, validation = (load_pneumonia_mnist(root, split, patients=patients) for split in ("train", "validation"))
    assert len(train) + len(validation) == sum(COUNTS["train"])
    assert not {item["patient"] for item in train} & {item["patient"] for item in validation}
    for item in validation:
        assert int(hashlib.sha256(f"split{item['patient']}".encode()).hexdigest()[:8], 16) % 1000 < 100
    item = train[0]
    assert set(item) == {"image", "label", "key", "patient"}
    assert item["image"].shape == (28, 28)
    assert item["image"].dtype == np.uint8
    assert item["key"] == image_key(item["image"])
    assert type(item["label"]) is int
    # Equal images are both kept, on one side, with one patient, whatever the table says.
    copies = [item for item in train + validation if item["key"] == image_key(arrays["train_images"][0])]
    assert [item["patient"] for item in copies] == ["P0", "P0"]


def test_official_sets_need_no_patients(root, patients):
    assert len(load_pneumonia_mnist(root, "test")) == 10
    assert {item["patient"] for item in load_pneumonia_mnist(root, "test")} == {""}
    official = load_pneumonia_mnist(root, "validation_official", patients=patients)
    assert {item["patient"] for item in official} >= {"P2", "P19"}


def test_held_out_fraction(root, patients):
    sizes = [len(load_pneumonia_mnist(root, "train", patients=patients, held_out=share)) for share in (0, 0.1, 0.5)]
    assert sizes[0] == 150 > sizes[1] > sizes[2]
    with pytest.raises(ValueError, match="'validation' is empty with held_out=0"):
        load_pneumonia_mnist(root, "validation", patients=patients, held_out=0)
    with pytest.raises(ValueError, match=r"held_out: expected a fraction in \[0, 1\), got 1"):
        load_pneumonia_mnist(root, "train", patients=patients, held_out=1)


def test_wrong_split_and_patients(root, patients, tmp_path):
    with pytest.raises(
        ValueError, match="split: expected one of train, validation, validation_official, test, got 'val'"
    ):
        load_pneumonia_mnist(root, "val")
    with pytest.raises(
        ValueError, match=r"patients: split 'train' is made by patient and needs the CSV file .* got None"
    ):
        load_pneumonia_mnist(root, "train")
    with pytest.raises(ValueError, match=r"patients: .*none\.csv does not exist"):
        load_pneumonia_mnist(root, "train", patients=tmp_path / "none.csv")
    lines = patients.read_text().splitlines()
    patients.write_text("\n".join(lines[:40]))
    with pytest.raises(
        ValueError, match=r"patients\.csv has no row with key \w{16}, an image of the official train set"
    ):
        load_pneumonia_mnist(root, "train", patients=patients)
    patients.write_text("key,person\nabc,1\n")
    with pytest.raises(ValueError, match=r"\['patient'\] is missing from \['key', 'person'\]"):
        load_pneumonia_mnist(root, "train", patients=patients)
    patients.write_text("key,patient\nabc,\n")
    with pytest.raises(ValueError, match="line 2: expected a text in 'patient', it is empty"):
        load_pneumonia_mnist(root, "train", patients=patients)


def test_real_counts(dataset):
    root = dataset("pneumoniamnist_28")
    for split, counts in (("validation_official", (135, 389)), ("test", (234, 390))):
        labels = [item["label"] for item in load_pneumonia_mnist(root, split, download=False)]
        assert (labels.count(0), labels.count(1)) == counts


def test_real_splits_share_no_patient_and_the_official_ones_do(dataset):
    root = dataset("pneumoniamnist_28")
    splits = {
        name: load_pneumonia_mnist(root, name, patients=PATIENTS, download=False)
        for name in ("train", "validation", "validation_official", "test")
    }
    official = {"train": splits["train"] + splits["validation"], "val": splits["validation_official"]}
    assert len(official["train"]) == 4708
    assert 350 < len(splits["validation"]) < 600
    audit = audit_splits({name: splits[name] for name in ("train", "validation", "test")})
    assert audit.shared_patients == dict.fromkeys(audit.shared_patients, ())
    assert audit.duplicates_across == dict.fromkeys(audit.duplicates_across, ())
    assert sum(audit.without_patient.values()) == 0
    audit = audit_splits({**official, "test": splits["test"]})
    assert len(audit.shared_patients["train", "val"]) == 190
    assert audit.shared_patients["train", "test"] == audit.shared_patients["val", "test"] == ()
    assert "train and val share 190 patients" in str(audit)
    assert audit.contradictions == {}
