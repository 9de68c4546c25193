"""Strategies of active learning on stored scores, behind MONAI Label's route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.monailabel.example_images import make_picture, write_png

NAMES = ["vote_entropy", "margin", "typicality", "diversity"]


@pytest.fixture
def scored(client: Any) -> Any:
    """The server, with stored scores that say another image for each strategy."""
    from monai_diffclf.monailabel.active_learning import SCORE
    from monai_diffclf.monailabel.parameters import the_app

    app = the_app()
    store, made_by = app.datastore(), app.task.model.made_by()
    rows = {
        "image0": (0.6, 0.9, 1.0, [0.0, 0.0]),
        "image1": (0.2, 0.1, 2.0, [0.1, 0.0]),
        "image2": (0.1, 0.5, 9.0, [0.0, 0.1]),
        "scan": (0.5, 0.6, 3.0, [8.0, 8.0]),
    }
    for name, (entropy, margin, unlike, features) in rows.items():
        uncertainty = {"entropy_remaining": entropy, "probability_margin": margin, "probability_entropy": entropy}
        score = {"uncertainty": uncertainty, "ood_score": unlike, "features": features, "made_by": made_by}
        store.update_image_info(name, {SCORE: score})
    return client


def ask(client: Any, strategy: str, reader: str = "") -> Any:
    """The next image."""
    return client.post(f"/activelearning/{strategy}", json={"client_id": reader} if reader else {})


def test_each_strategy_by_its_name(scored: Any) -> None:
    assert sorted(scored.get("/info/").json()["strategies"]) == sorted(["most_uncertain", "random", *NAMES])
    chosen = {name: ask(scored, name).json()["id"] for name in NAMES}
    assert chosen == {"vote_entropy": "image0", "margin": "image1", "typicality": "image2", "diversity": "image0"}
    assert ask(scored, "margin").json()["unscored"] == 0
    assert ask(scored, "surest").status_code == 404


def test_readers_at_once_get_different_images(scored: Any) -> None:
    chosen = [ask(scored, "diversity", reader).json()["id"] for reader in ("ann", "bob", "cem", "dee")]
    assert chosen[:2] == ["image0", "scan"] and len(set(chosen)) == 4, "what another holds counts as known"
    assert ask(scored, "diversity", "eve").json() == {}
    assert ask(scored, "diversity", "ann").json()["id"] == "image0", "a reader's own stays"


def test_scores_without_what_a_strategy_needs(scored: Any) -> None:
    from monai_diffclf.monailabel.active_learning import SCORE, stored_score
    from monai_diffclf.monailabel.parameters import the_app

    store, made_by = the_app().datastore(), the_app().task.model.made_by()
    score = dict(stored_score(store, "scan", made_by) or {})
    del score["ood_score"]
    store.update_image_info("scan", {SCORE: score})
    answer = ask(scored, "typicality")
    assert answer.status_code == 422 and answer.json()["detail"].startswith(
        "typicality: the scores of this model do not"
    )
    assert ask(scored, "margin").json()["id"] == "image1"


def test_scoring_stores_what_the_strategies_need(client: Any, studies: Path) -> None:
    assert ask(client, "diversity").json()["id"] == "image0", "the first one where none is scored"
    client.post("/scoring/uncertainty?run_sync=true")
    score = client.get("/datastore/image/info?image=image1").json()["diffusion_classifier"]
    assert len(score["features"]) == 6 and {"entropy_remaining", "probability_margin"} < set(score["uncertainty"])
    answers = {name: ask(client, name) for name in ("vote_entropy", "margin", "diversity")}
    assert all(answer.status_code == 200 and answer.json()["unscored"] == 0 for answer in answers.values())
    write_png(studies / "new.png", make_picture(9, (40, 50)))
    client.put("/datastore/image", files={"file": ("more.png", (studies / "new.png").read_bytes())})
    assert ask(client, "margin").json()["unscored"] >= 1


def test_training_routes(client: Any) -> None:
    assert client.get("/train/").status_code == 404 and client.delete("/train/").json() is None
    answer = client.post("/train/pneumonia", json={})
    assert answer.status_code == 422 and "there are none of ['normal', 'pneumonia']" in answer.json()["detail"]
    assert client.post("/train/other", json={}).status_code == 404
    assert client.post("/train/").json()["detail"] == "train: name a model, such as /train/pneumonia"
    listed = client.get("/train/pneumonia/weights").json()
    assert listed == {"model": "pneumonia", "served": "bundle", "weights": [{"version": "bundle"}]}
    refused = client.put("/train/pneumonia/weights?version=0001")
    assert refused.status_code == 422 and "expected one of ['bundle'], got '0001'" in refused.json()["detail"]
    assert client.put("/train/pneumonia/weights?version=..%2Fx").status_code == 422
    trainer = client.get("/info/").json()["trainers"]["pneumonia"]
    assert trainer["config"]["serve"] == ["better", "always", "never"]
