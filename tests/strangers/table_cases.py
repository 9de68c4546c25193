"""Tables and folders of labels as strangers keep them: the labels that they mean, or a refusal that names the place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_diffclf.data import find_images, load_datalist

from .cases import Case

CLASSES = ("normal", "pneumonia")
HEAD = "image,label,split\n"
ROWS = "a.png,normal,train\nb.png,pneumonia,train\n"
MEANT = [("a.png", 0), ("b.png", 1)]


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG" if path.suffix in (".jfif", ".jpg") else None)


def _table(content: bytes, folder: Path) -> Path:
    for seed, name in enumerate(("a.png", "b.png", "c.png", "d.png", "Ü.png")):
        _picture(folder / name, seed)
    (folder / "table.csv").write_bytes(content)
    return folder / "table.csv"


def _read(
    source: Path, *, classes: Sequence[Any] = CLASSES, split: str = "train", **options: Any
) -> list[tuple[str, int]]:
    return sorted((item["key"], item["label"]) for item in load_datalist(source, split, classes=classes, **options))


def _case(
    name: str, text: str | bytes, meant: Any, *, or_refused: bool = False, named: str = "table.csv", **options: Any
) -> Case:
    content = text if isinstance(text, bytes) else text.encode()
    read = partial(_read, **options)
    return Case(f"table: {name}", partial(_table, content), read, meant, or_refused=or_refused, named=named)


def good_tables() -> Iterator[Case]:
    """Tables that say what they mean, in the spellings that exist."""
    plain = HEAD + ROWS
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"):
        text = HEAD + "Ü.png,normal,train\nb.png,pneumonia,train\n"
        yield _case(
            f"in {encoding}",
            text.encode(encoding),
            [("b.png", 1), ("Ü.png", 0)],
            or_refused=encoding.startswith("utf-16-"),
        )
    for delimiter in (";", "\t", "|"):
        yield _case(f"delimiter {delimiter!r}", plain.replace(",", delimiter), MEANT)
    yield _case("CRLF", plain.replace("\n", "\r\n"), MEANT)
    yield _case("CR only", plain.replace("\n", "\r"), MEANT, or_refused=True)
    yield _case("no newline at the end", plain[:-1], MEANT)
    yield _case("blank lines", plain.replace("\n", "\n\n"), MEANT)
    yield _case("quoted", 'image,label,split\n"a.png","normal","train"\n"b.png","pneumonia","train"\n', MEANT)
    yield _case(
        "a note with a delimiter",
        'image,label,split,note\na.png,normal,train,"one, two"\nb.png,pneumonia,train,x\n',
        MEANT,
    )
    yield _case(
        "a note with a line break",
        'image,label,split,note\na.png,normal,train,"one\ntwo"\nb.png,pneumonia,train,x\n',
        MEANT,
    )
    yield _case(
        "decimal commas between semicolons",
        "image;label;split;age\na.png;normal;train;1,5\nb.png;pneumonia;train;2,5\n",
        MEANT,
    )
    yield _case(
        "spaces around names",
        "image , label , split\na.png , normal , train\nb.png , pneumonia , train\n",
        MEANT,
        or_refused=True,
    )
    yield _case("capital headings", plain.replace("image,label,split", "Image,Label,Split"), MEANT, or_refused=True)
    for column in ("file", "path", "filename"):
        yield _case(f"column {column}", plain.replace("image", column, 1), MEANT, or_refused=column != "file")
        yield _case(f"--image_column {column}", plain.replace("image", column, 1), MEANT, image_column=column)
    for split, names in {
        "train": ("train", "training"),
        "validation": ("val", "valid", "dev", "validation"),
        "test": ("test", "testing"),
    }.items():
        for name in names:
            text = plain.replace("train", name)
            yield _case(f"split {name}", text, MEANT, split=split, or_refused=name == "testing")
            yield _case(f"split {name.upper()}", text.replace(name, name.upper()), MEANT, split=split, or_refused=True)
    yield _case(
        "numbers as names", HEAD + "a.png,1,train\nb.png,0,train\n", [("a.png", 0), ("b.png", 1)], classes=[1, 0]
    )
    yield _case(
        "numbers from 1",
        HEAD + "a.png,1,train\nb.png,2,train\nc.png,3,train\n",
        [("a.png", 0), ("b.png", 1), ("c.png", 2)],
        classes=[1, 2, 3],
    )
    yield _case(
        "True and False",
        HEAD + "a.png,True,train\nb.png,False,train\n",
        [("a.png", 1), ("b.png", 0)],
        classes=[False, True],
    )
    yield _case("names with zeros", HEAD + "a.png,01,train\nb.png,02,train\n", MEANT, classes=["01", "02"])
    yield _case(
        "a class called None",
        HEAD + "a.png,None,train\nb.png,pneumonia,train\n",
        MEANT,
        classes=[None, "pneumonia"],
        or_refused=True,
        named="",
    )
    yield _case("one image twice, same label", plain + "a.png,normal,train\n", MEANT, or_refused=True)


def bad_tables() -> Iterator[Case]:
    """Tables that contradict themselves, are damaged, or hold something else."""
    bad = {
        "unclosed quote": HEAD.replace("\n", ",note\n")
        + 'a.png,normal,train,"3 cm\nb.png,pneumonia,train,x\nc.png,normal,train,x\n',
        "quote in the middle": HEAD.replace("\n", ",note\n") + 'a.png,normal,train,"x" y\nb.png,pneumonia,train,z\n',
        "a column twice": "image,label,split,label\na.png,normal,train,pneumonia\n",
        "two labels": HEAD + "a.png,normal,train\na.png,pneumonia,train\nb.png,normal,train\n",
        "two labels in two splits": HEAD + "a.png,normal,train\na.png,pneumonia,test\nb.png,pneumonia,train\n",
        "one image in two splits": HEAD + ROWS + "a.png,normal,test\n",
        "two labels by another path": HEAD + "a.png,normal,train\n./a.png,pneumonia,train\nb.png,pneumonia,train\n",
        "a patient in two splits": HEAD.replace("\n", ",patient\n")
        + "a.png,normal,train,P1\nb.png,pneumonia,train,P2\nc.png,normal,test,P1\n",
        "unknown class": HEAD + ROWS + "c.png,covid,train\n",
        "label empty": HEAD + ROWS + "c.png,,train\n",
        "image empty": HEAD + ROWS + ",normal,train\n",
        "unknown split": HEAD + ROWS + "c.png,normal,holdout\n",
        "split empty": HEAD + ROWS + "c.png,normal,\n",
        "too few fields": HEAD + ROWS + "c.png,normal\n",
        "too many fields": HEAD + ROWS + "c.png,normal,train,x\n",
        "no header": ROWS,
        "header only": HEAD,
        "empty": "",
        "NUL bytes": HEAD + ROWS + "c\0.png,normal,train\n",
        "no such image": HEAD + ROWS + "zzz.png,normal,train\n",
        "index as label": HEAD + "a.png,0,train\nb.png,1,train\n",
        "one class": HEAD + "a.png,normal,train\nb.png,normal,train\n",
        "a workbook": b"PK\x03\x04" + bytes(200),
        "binary": bytes(range(256)) * 4,
        "HTML": "<!DOCTYPE html><html><body>404</body></html>\n",
        "a pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    }
    for name, text in bad.items():
        yield _case(name, text, None)
    for classes in (["normal", "normal"], ["normal", ""], ["normal"], [], ["Normal", "normal"], "normal"):
        yield _case(f"classes {classes}", HEAD + ROWS, None, classes=classes, named="classes")


def _tree(files: Sequence[str], folder: Path) -> Path:
    for seed, name in enumerate(files):
        _picture(folder / name, seed)
    return folder


def folder_cases() -> Iterator[Case]:
    """Class folders and split folders."""

    def case(name: str, files: Sequence[str], meant: Any, *, named: str = "", **options: Any) -> Case:
        if meant is not None and not isinstance(meant, list):
            read: Callable[[Any], Any] = lambda source: len(_read(source, **options))  # noqa: E731
        else:
            read = partial(_read, **options)
        return Case(f"folder: {name}", partial(_tree, files), read, meant, named=named)

    both = [f"{split}/{name}/{n}.png" for split in ("train", "test") for name in CLASSES for n in range(3)]
    yield case("train and test", both, 6)
    more = [
        f"train/{CLASSES[1]}/w{n}{suffix}"
        for n, suffix in enumerate((".webp", ".jfif", ".gif", ".pgm", ".bmp", ".tif"))
    ]
    yield case("further suffixes", both + more, 12)
    yield case("capital suffixes", [name.replace(".png", ".PNG") for name in both], 6)
    for name in ("val", "valid", "validation", "dev"):
        yield case(f"split folder {name}", both + [f"{name}/{c}/v.png" for c in CLASSES], 2, split="validation")
    two = both + [f"{split}/{c}/v.png" for split in ("val", "validation") for c in CLASSES]
    yield case("val and validation", two, None, split="validation", named="val")
    masks = [f"{c}/{kind}/{c}-{n}.png" for c in CLASSES for kind in ("images", "masks") for n in range(6)]
    yield case("class/images beside class/masks", masks, None, named="masks")
    yield case("masks in split folders", [*both, "train/normal/masks/0.png"], None, named="masks")
    yield case(
        "one class in train",
        ["train/normal/a.png", "test/normal/b.png", "test/pneumonia/c.png"],
        None,
        named="pneumonia",
    )
    yield case("no class folder", ["cats/a.png", "dogs/b.png"], None, named="normal")
    numbers = [f"train/{c}/{n}.png" for c in ("0", "1", "10") for n in range(2)]
    meant = sorted((f"train/{c}/{n}.png", i) for i, c in enumerate(("10", "0", "1")) for n in range(2))
    yield case("folders called by numbers", numbers, meant, classes=[10, 0, 1])
    yield Case("folder: dangling link", partial(_linked, both), lambda source: len(_read(source)), 6, warns="gone.png")
    yield Case(
        "folder: a text among them", partial(_with_text, both), lambda source: len(_read(source)), 6, warns="notes.txt"
    )
    yield Case(
        "images: a text among them",
        partial(_with_text, both),
        lambda source: len(find_images(source)),
        12,
        warns="notes.txt",
    )
    for path in (2024, 1e5, True, ("a", "b"), None):
        yield Case(f"source {path!r}", lambda folder, path=path: path, _read, named="source")
        yield Case(f"images in {path!r}", lambda folder, path=path: path, find_images, named="")


def _linked(files: Sequence[str], folder: Path) -> Path:
    _tree(files, folder)
    os.symlink(folder / "nowhere.png", folder / "train" / "normal" / "gone.png")
    return folder


def _with_text(files: Sequence[str], folder: Path) -> Path:
    _tree(files, folder)
    (folder / "train" / "normal" / "notes.txt").write_text("read me\n")
    return folder


def table_cases() -> list[Case]:
    """All of them."""
    return [*good_tables(), *bad_tables(), *folder_cases()]
