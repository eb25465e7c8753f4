"""Pairs are read without what names a patient, and what is wrong is told by its line alone."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from ai_models.drafting.trials.scenes import scene_of
from ai_models.training.language.pairs import evidence_item, read_pairs
from ai_models.training.settings import TrainingError
from tests.ai_models.training.language.pair_files import (
    PLANTED,
    evidence_line,
    lines,
    text_line,
    with_identifiers,
    write_pairs,
)

CHANCE = random.Random(1)
LINE = text_line(1, CHANCE)
EVIDENCE = evidence_line(1, CHANCE)


def test_nothing_planted_is_in_any_pair(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "pairs", [with_identifiers(one) for one in lines(20)])
    file = read_pairs(data)
    text = "".join(one.asked + one.said + one.patient for one in file.pairs)
    assert "[NAME]" in text
    for name in (*PLANTED, "patient-"):
        assert name not in text
        assert name not in repr(file) + repr(file.pairs[0])
    assert {"name", "record", "accession", "phone", "date", "e-mail", "known"} <= set(file.removed)
    assert file.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()


def test_id_of_the_patient_is_taken_out_of_the_text(tmp_path: Path) -> None:
    line = {**LINE, "patient": "ZQ-77", "findings": "Images of zq-77 show a lesion of 77 mm."}
    (pair,) = read_pairs(write_pairs(tmp_path / "pairs", [line])).pairs
    assert pair.findings == "Images of [KNOWN] show a lesion of 77 mm."


def test_short_id_does_not_take_measurements_out(tmp_path: Path) -> None:
    line = {**LINE, "patient": "12", "findings": "A lesion of 12 mm."}
    (pair,) = read_pairs(write_pairs(tmp_path / "pairs", [line])).pairs
    assert pair.findings == "A lesion of 12 mm."


@pytest.mark.parametrize(("line", "message"), [
    ("Quillfeather", "no JSON"),
    (["Quillfeather"], "a mapping"),
    ({**LINE, "findings": ""}, "findings: text"),
    ({**LINE, "impression": ["Quillfeather"]}, "impression: text"),
    ({**LINE, "modality": "Quillfeather"}, "modality"),
    ({**LINE, "patient": ["Quillfeather"]}, "patient"),
    ({**LINE, "identifiers": "Quillfeather"}, "identifiers"),
    ({**LINE, "findings": "Quillfeather " * 2000}, "longer than"),
    ({**EVIDENCE, "impression": "Quillfeather"}, "a list of"),
    ({**EVIDENCE, "impression": [{"text": "x", "evidence": ["E9"]}]}, "cites ids"),
    ({**EVIDENCE, "evidence": [{"name": "Quillfeather"}]}, "a key"),
    ({**EVIDENCE, "evidence": [{"id": "E1", "kind": "term", "finding": "Quillfeather"}]}, "none"),
    ({**EVIDENCE, "evidence": [{"id": "E1", "kind": "not_found",
                                "finding": "Nodule of Dr Quillfeather"}]}, "identifier"),
])
def test_wrong_line_is_told_by_its_number_without_its_text(
    tmp_path: Path, line: Any, message: str,
) -> None:
    path = tmp_path / "pairs"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_text(f"{json.dumps(LINE)}\n\n{text}\n")
    with pytest.raises(TrainingError, match=f"line 3: .*{message}") as raised:
        read_pairs(path)
    assert "Quillfeather" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_evidence_of_the_node_is_read_back_as_it_was() -> None:
    for seed in range(60):
        for item in scene_of(random.Random(seed)):
            again = evidence_item({**item.document(), "decimals": item.decimals})
            assert again.document() == item.document()
            assert again.decimals == item.decimals


def test_file_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no pairs"):
        read_pairs(write_pairs(tmp_path / "pairs", []))
