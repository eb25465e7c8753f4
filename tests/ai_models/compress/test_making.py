"""Smaller versions are made, measured beside the model, and refused where they answer worse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ai_models.adapt.verdict import check_gated
from ai_models.card import Card, load_card
from ai_models.card_runtime import Network
from ai_models.compress import making
from ai_models.compress.making import Comparison, Row, Wish, compress
from ai_models.compress.slimming import slimmer
from ai_models.compress.versions import written
from ai_models.networks.res_att_unet import ResAttUNet
from ai_models.prediction.cropping import Cropper
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.types import ModelError, SegmentationPrediction, Volume
from tests.ai_models.prediction.test_cropping import chest, write_cropped
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.ai_models.training.tiny_cases import ball, nifti_folder

BITS = ("fp16", "int8-static")


def bright_card(folder: Path, weights: bytes | None = None, **changes: Any) -> Card:
    """Marks what is brighter than -400 HU: a ball of the cases has 0, all else -800."""
    if weights is None:
        weights = threshold_onnx(0.3, roi=(24, 24, 24))
    return load_card(write_model(
        folder, weights, **{"runtime__roi": [24, 24, 24], "runtime__batch": 1, **changes}))


def rows_of(comparison: Comparison) -> dict[str, Row]:
    return {row.variant: row for row in comparison.rows}


def test_versions_that_answer_the_same_are_written_with_cards_of_their_own(tmp_path: Path) -> None:
    card = bright_card(tmp_path / "model")
    before = (card.folder / "weights.onnx").read_bytes(), (card.folder / "model.yaml").read_bytes()
    comparison = compress(
        card, nifti_folder(tmp_path / "cases", 4), Wish(BITS, output=tmp_path / "out"),
        tmp_path / "scratch")
    rows = rows_of(comparison)
    itself = rows["onnx (this version)"]
    assert itself.figures["Dice of Bright"] > 0.95
    for variant in BITS:
        assert rows[variant].refused == ""
        assert rows[variant].drop <= 0.01
        assert rows[variant].seconds > 0
        made = load_card(Path(rows[variant].folder))
        assert (made.id, made.version) == ("bright", f"1.0-{variant}")
        assert "not validated" in made.evidence.validated_on
        assert made.weights_path.stat().st_size == rows[variant].bytes
        record = json.loads((made.folder / "compression.json").read_text())
        assert {one["variant"] for one in record["versions"]} == set(rows)
        predictor = Predictor(made)
        predictor.load()
        hu, mask, _ = ball(9)
        answer = predictor.predict(Volume(hu, np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]]))
        assert isinstance(answer, SegmentationPrediction)
        assert (answer.label_map.astype(bool) == mask.astype(bool)).mean() > 0.99
    after = (card.folder / "weights.onnx").read_bytes(), (card.folder / "model.yaml").read_bytes()
    assert before == after
    assert not list((tmp_path / "scratch").glob("cases"))


def test_a_smaller_version_of_an_adapted_one_asks_the_gate_as_that_does(tmp_path: Path) -> None:
    live = bright_card(tmp_path / "live")
    adapted = bright_card(tmp_path / "model", version="2.0", adaptation={
        "from_version": live.version, "from_weights_sha256": live.weights_sha256,
        "method": "head", "cases": 9})
    (adapted.folder / "verdict.json").write_text(json.dumps({
        "candidate_weights_sha256": adapted.weights_sha256,
        "candidate_card_sha256": adapted.fingerprint,
        "live_weights_sha256": live.weights_sha256, "passed": False}))
    made = written(
        adapted, "fp16", adapted.weights_path, tmp_path / "out",
        {"measured_on": "cases", "versions": [{"variant": "fp16", "figures": {"Dice": 1.0}}]})
    assert made.adaptation == adapted.adaptation
    assert not (made.folder / "verdict.json").exists()
    with pytest.raises(ModelError, match="has not been through the gate"):
        check_gated(made, live)


def test_a_version_beyond_the_bound_is_refused_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(source: Path, target: Path) -> None:
        target.write_bytes(threshold_onnx(0.9, roi=(24, 24, 24)))

    monkeypatch.setattr(making, "to_fp16", blind)
    card = bright_card(tmp_path / "model", compression={"max_drop": 0.05})
    comparison = compress(
        card, nifti_folder(tmp_path / "cases", 2), Wish(("fp16",), output=tmp_path / "out"),
        tmp_path / "scratch")
    row = rows_of(comparison)["fp16"]
    assert row.refused.startswith("Dice of Bright falls by")
    assert "0.05 is allowed (compression.max_drop)" in row.refused
    assert row.folder == ""
    assert not (tmp_path / "out").exists()


def test_without_cases_answers_to_something_drawn_are_compared(tmp_path: Path) -> None:
    hu, _, _ = ball(1)
    drawn = Volume(hu, np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])
    comparison = compress(
        bright_card(tmp_path / "model"), None, Wish(BITS, drawn=(drawn,), what="a ball"),
        tmp_path / "scratch")
    assert comparison.measured_on == "a ball"
    assert [row.refused for row in comparison.rows] == ["", "", ""]
    assert rows_of(comparison)["fp16"].figures["agreement with this version"] > 0.99


def test_a_cropped_model_is_calibrated_by_the_rectangle_that_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card(write_cropped(tmp_path / "model"))
    shown: list[Any] = []

    def kept(source: Path, target: Path, inputs: Iterable[Any]) -> None:
        shown.extend(inputs)
        shutil.copyfile(source, target)

    monkeypatch.setattr(making, "to_int8_static", kept)
    comparison = compress(
        card, None, Wish(("int8-static",), drawn=(chest(),), what="a chest"), tmp_path / "scratch")
    assert [row.refused for row in comparison.rows] == ["", ""]
    cropper = Cropper(card)
    cropper.load()
    expected = prepare(chest(), card, cropper.find(chest()).window).image.array
    assert np.array_equal(shown[0], expected[None])
    assert abs(expected.mean() - prepare(chest(), card).image.array.mean()) > 0.1


def test_what_cannot_be_made_says_why_and_the_others_are_made(tmp_path: Path) -> None:
    comparison = compress(
        bright_card(tmp_path / "model"), nifti_folder(tmp_path / "cases", 2),
        Wish(("int8-dynamic", "slim", "fp16")), tmp_path / "scratch")
    rows = rows_of(comparison)
    assert "has none of MatMul, Gemm, LSTM" in rows["int8-dynamic"].refused
    assert "compression.torch" in rows["slim"].refused
    assert rows["fp16"].refused == ""
    assert not rows["slim"].was_made


def test_beside_a_model_that_finds_nothing_nothing_is_measured(tmp_path: Path) -> None:
    card = bright_card(tmp_path / "model", threshold_onnx(0.9, roi=(24, 24, 24)))
    hu, _, _ = ball(1)
    drawn = Volume(hu, np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])
    for cases in (None, nifti_folder(tmp_path / "cases", 2)):
        with pytest.raises(ModelError, match="no version could be worse"):
            compress(card, cases, Wish(BITS, drawn=(drawn,)), tmp_path / "scratch")


def test_a_link_beside_the_card_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the site")
    card = bright_card(tmp_path / "model")
    (card.folder / "notes").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="notes is a link") as refused:
        compress(card, None, Wish(BITS), tmp_path / "scratch")
    assert refused.value.reason == "model.cannot_compress"


def test_other_back_ends_are_not_made_smaller(tmp_path: Path) -> None:
    card = load_card(write_model(
        tmp_path / "m", b"x", weights__path="w.ts", runtime__backend="torchscript"))
    with pytest.raises(ModelError, match="onnx and state_dict are made smaller"):
        compress(card, None, Wish(), tmp_path / "scratch")


def test_a_slim_network_has_a_fifth_of_the_parameters() -> None:
    wide = Network(name="ResAttUNet", arguments={"channels": [16, 32, 64, 128]})
    slim = slimmer(wide)
    counts = [
        sum(one.numel() for one in ResAttUNet(**each.arguments).parameters())
        for each in (wide, slim)
    ]
    assert slim.arguments == {"channels": [7, 14, 28, 57]}
    assert counts[0] == 1_912_305
    assert 0.79 < 1 - counts[1] / counts[0] < 0.82


def test_of_a_network_that_is_not_known_nothing_is_made_narrower() -> None:
    with pytest.raises(ModelError, match="not known what makes monai.ViT narrower"):
        slimmer(Network(name="monai.ViT"))
    with pytest.raises(ModelError, match="as narrow as it can be"):
        slimmer(Network(name="ResAttUNet", arguments={"channels": [2, 2]}))


@pytest.mark.long
def test_a_network_of_torch_is_exported_quantised_and_slimmed(tmp_path: Path) -> None:
    from safetensors.torch import save

    torch.manual_seed(0)
    network = ResAttUNet(channels=(4, 8))
    optimiser = torch.optim.Adam(network.parameters(), 2e-2)
    for step in range(40):
        hu, mask, _ = ball(step % 8)
        image = torch.from_numpy((hu.clip(-1000, 1000) + 1000) / 2000.0).float()[None, None]
        loss = torch.nn.functional.cross_entropy(
            network(image), torch.from_numpy(mask).long()[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    card = bright_card(
        tmp_path / "model", save(network.eval().state_dict()), weights__path="w.safetensors",
        runtime__backend="state_dict", compression={"max_drop": 0.3},
        runtime__network={"name": "ResAttUNet", "arguments": {"channels": [4, 8]}})
    comparison = compress(
        card, nifti_folder(tmp_path / "cases", 6),
        Wish(("onnx", "fp16", "int8-static", "slim"), steps=120, output=tmp_path / "out"),
        tmp_path / "scratch")
    rows = rows_of(comparison)
    assert rows["onnx"].figures["agreement with this version"] > 0.999
    assert rows["fp16"].bytes < 0.75 * rows["onnx"].bytes
    for variant in ("onnx", "fp16", "int8-static", "slim"):
        assert rows[variant].refused == "", rows[variant]
        assert load_card(Path(rows[variant].folder)).version == f"1.0-{variant}"
    slim = load_card(Path(rows["slim"].folder))
    assert slim.runtime.network is not None
    assert slim.runtime.network.arguments["channels"] == [2, 3]
