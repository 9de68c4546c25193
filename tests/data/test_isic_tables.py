"""ISIC 2018, 2019 and 2020 as they are distributed, and melanoma or benign of the last two."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from monai_diffclf.data import (
    NoSplitError,
    compare_with_id_rule,
    find_classes,
    id_rule,
    load_datalist,
    load_isic2018,
    load_isic2019,
    load_isic2020,
    load_isic_melanoma,
)
from monai_diffclf.data import isic_melanoma as module
from monai_diffclf.data.isic_tables import CLASSES
from tests.data import isic_trees as trees

SPLITS = ("train", "validation", "test")


def test_2018_has_official_splits_and_lesions(tmp_path):
    rows = [(f"ISIC_{24306 + n:07d}", name) for n, name in enumerate(CLASSES[2018])]
    for part in ("Training", "Validation", "Test"):
        trees.table_2018(tmp_path, part, rows)
    lesions = "image,lesion_id,diagnosis_confirm_type\n" + "".join(f"{key},HAM_{key[-3:]},histo\n" for key, _ in rows)
    (tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text(lesions)
    items = load_isic2018(tmp_path, "train")
    assert [item["label"] for item in items] == list(range(7)) and items[0]["patient"] == "HAM_306"
    assert load_datalist(tmp_path, "train", classes=CLASSES[2018]) == items
    assert len(load_isic2018(tmp_path, "test")) == 7
    assert find_classes(tmp_path) == list(CLASSES[2018])


def test_2019_splits_lesions_and_leaves_out_the_unknown(tmp_path):
    rows = [(f"ISIC_{n:07d}", CLASSES[2019][n % 8], f"BCN_{n // 2:07d}") for n in range(120)]
    rows[3] = ("ISIC_0000003_downsampled", "AK", "MSK4_0011169")
    trees.table_2019(tmp_path, rows)
    trees.table_2019(tmp_path, [("ISIC_0900000", "SCC", ""), ("ISIC_0900001", "UNK", "")], "Test")
    splits = {split: load_isic2019(tmp_path, split) for split in SPLITS}
    assert len(splits["train"]) + len(splits["validation"]) == 120 and len(splits["validation"]) > 0
    assert not {i["patient"] for i in splits["train"]} & {i["patient"] for i in splits["validation"]}
    assert [(i["key"], i["label"], i["source"]) for i in splits["test"]] == [("ISIC_0900000", 7, "2019 unknown")]
    every = {item["key"]: item for split in SPLITS[:2] for item in splits[split]}
    assert every["ISIC_0000003_downsampled"]["source"] == "2019 MSK" and every["ISIC_0000000"]["source"] == "2019 BCN"
    assert every["ISIC_0000000"]["age"] == "55.0" and Path(every["ISIC_0000000"]["image"]).is_file()
    assert load_datalist(tmp_path, "test", classes=CLASSES[2019]) == splits["test"]


def test_2020_splits_patients(tmp_path):
    rows = [(f"ISIC_{15719 + n:07d}", int(n % 9 == 0), f"IP_{n // 3:07d}") for n in range(90)]
    trees.table_2020(tmp_path, rows)
    splits = {split: load_isic2020(tmp_path, split) for split in SPLITS}
    found = [{item["patient"] for item in items} for items in splits.values()]
    assert sum(map(len, splits.values())) == 90 and len(set.union(*found)) == sum(map(len, found)) == 30
    assert load_datalist(tmp_path, "test", classes=["benign", "melanoma"]) == splits["test"]


@pytest.mark.parametrize("year", [2018, 2019, 2020])
def test_absent_tables_and_images_say_where_to_get_them(year, tmp_path):
    load = {2018: load_isic2018, 2019: load_isic2019, 2020: load_isic2020}[year]
    with pytest.raises(ValueError, match=rf"GroundTruth.csv in .* missing; ISIC {year} .*CC BY-NC 4.0"):
        load(tmp_path, "train")
    if year == 2018:
        trees.table_2018(tmp_path, "Training", [("ISIC_0000001", "MEL")], images=False)
    elif year == 2019:
        trees.table_2019(tmp_path, [("ISIC_0000001", "MEL", "")], images=False)
    else:
        trees.table_2020(tmp_path, [("ISIC_0000001", 1, "IP_1")], images=False)
    with pytest.raises(ValueError, match=r"1 of 1 images are not there: .*ISIC_0000001.jpg; ISIC .*challenge.isic"):
        load(tmp_path, "train")
    if year < 2020:
        with pytest.raises(NoSplitError, match="Test_GroundTruth.csv"):
            load(tmp_path, "test")


def test_contradictions_are_named(tmp_path):
    trees.table_2019(tmp_path, [("ISIC_0000001", "MEL", "")])
    table = tmp_path / "ISIC_2019_Training_GroundTruth.csv"
    table.write_text(table.read_text().replace("1.0", "0.0"))
    with pytest.raises(ValueError, match="line 2: expected one of MEL, .* to be 1.0"):
        load_isic2019(tmp_path, "train")


def test_the_compilation_has_the_counts_of_favero_et_al_and_the_rule_solves_it(tmp_path, monkeypatch):
    """4,522 melanomas of 2019 and 584 of 2020: all 10,212 images, of whose test split the rule gets nine in ten."""
    monkeypatch.setattr(module, "present_images", lambda items, **_: list(items))
    trees.table_2019(tmp_path, [(f"ISIC_{n:07d}", "MEL", f"BCN_{n:07d}") for n in range(4522)], images=False)
    later = [(f"ISIC_{100_000 + n:07d}", int(n < 584), f"IP_{n:07d}") for n in range(33_126)]
    trees.table_2020(tmp_path, later, images=False)
    with pytest.warns(UserWarning, match=r"id below 100000 is a melanoma.* 93.8 % .*no evidence"):
        splits = {"train": load_isic_melanoma(tmp_path, "train")}
    splits |= {split: load_isic_melanoma(tmp_path, split) for split in SPLITS[1:]}
    assert [len(splits[split]) for split in SPLITS] == [8170, 1021, 1021]
    assert sum(item["label"] for items in splits.values() for item in items) == 5106
    # Right on all but the 584 melanomas of 2020: 94.3 % of all, a few more or fewer of the 1,021.
    assert id_rule([item for items in splits.values() for item in items])["accuracy"] == pytest.approx(1 - 584 / 10212)
    assert 0.92 < id_rule(splits["test"])["accuracy"] < 0.965


def test_the_rule_cannot_solve_the_split_within_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "present_images", lambda items, **_: list(items))
    trees.melanoma_tree(tmp_path, ill=200, benign=400, images=False)
    splits = {split: load_isic_melanoma(tmp_path, split, protocol="within_source") for split in SPLITS}
    for items in splits.values():
        assert id_rule(items) == {"accuracy": 0.5, "balanced_accuracy": 0.5}
        by_source = Counter((item["source"], item["label"]) for item in items)
        assert all(by_source[source, 0] == by_source[source, 1] for source, _ in by_source)
    assert {item["source"] for item in splits["train"]} == {"2019 HAM", "2019 BCN", "2020"}
    found = [{item["patient"] for item in items} for items in splits.values()]
    assert len(set.union(*found)) == sum(map(len, found))


def test_the_evaluation_prints_the_rule_beside_the_model(tmp_path, capsys):
    items = [{"key": f"ISIC_{n * 150_000:07d}", "label": n % 2} for n in range(4)]
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"test": {"diffusion_vote": {"balanced_accuracy": {"value": 0.75}}}}))
    text = compare_with_id_rule(items, results)
    assert "0.250  an id below 100000 is a melanoma" in text and "0.750  diffusion_vote" in text
    assert capsys.readouterr().out == text + "\n"
    with pytest.raises(ValueError, match="expected results of 'validation'"):
        compare_with_id_rule(items, results, "validation")
    with pytest.raises(ValueError, match="expected an id such as ISIC_0024306, got 'a'"):
        id_rule([{"key": "a", "label": 1}])


def test_one_year_alone_is_refused(tmp_path):
    trees.table_2019(tmp_path, [("ISIC_0000001", "MEL", "")])
    with pytest.raises(ValueError, match="expected the tables of ISIC 2019 and of ISIC 2020 .*CC BY-NC"):
        load_isic_melanoma(tmp_path, "train")
    with pytest.raises(ValueError, match="protocol: expected one of compiled, within_source"):
        load_isic_melanoma(tmp_path, "train", protocol="all")


def test_58_000_rows_are_read_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "present_images", lambda items, **_: list(items))
    rows = [(f"ISIC_{n:07d}", "MEL" if n % 5 == 0 else "NV", f"BCN_{n:07d}") for n in range(25_331)]
    trees.table_2019(tmp_path, rows, images=False)
    trees.table_2020(tmp_path, [(f"ISIC_{10**5 + n:07d}", int(n < 584), "IP_1") for n in range(33_126)], images=False)
    start = time.process_time()
    load_isic_melanoma(tmp_path, "test")
    assert time.process_time() - start < 5
