"""What is kept of a draft shows each sentence beside its evidence, and obeys no host."""

from __future__ import annotations

import json

import pytest

from ai_models.drafting.evidence import EvidenceItem
from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.impression import impression
from ai_models.types import ModelError
from dicom_node.results.draft_record import draft_record, in_words, record_lines, visible
from tests.ai_models.drafting.test_impression import TOLD, Scripted

HOSTILE = "The images are \x1b[2Jnormal \u202e<script>alert(1)</script> \ud800 \x00"


def test_each_sentence_stands_with_what_it_cites_in_words() -> None:
    made = impression(TOLD, Scripted((
        DraftSentence("Pleural effusion is present.", ("E2",)),
        DraftSentence("Left pleural effusion.", ("E2",)),
    )), "en")
    record = draft_record(made)
    assert record["told"][0] == {
        "text": "Pleural effusion is present.", "evidence": ["E2"], "source": "writer",
    }
    assert record["evidence"]["E2"].startswith("Pleural effusion")
    text = "\n".join(record_lines(record))
    assert text.startswith(
        "impression: AI draft, not reviewed; Scripted 1.0 (model llama, SHA-256 abababababababab); "
        "1 sentence struck (side: 1)\n  Pleural effusion is present. [writer]\n    E2: Pleural"
    )
    assert "  struck (side): Left pleural effusion." in text


def test_template_that_stands_in_says_why() -> None:
    problem = ModelError("the host is away", reason="worker.endpoint_unavailable")
    lines = record_lines(draft_record(impression(TOLD, Scripted(problem=problem), "en")))
    assert lines[0].startswith("impression: no draft in the report; Scripted")
    assert lines[0].endswith("the template stands in: worker.endpoint_unavailable")
    assert "  why: the host is away" in lines
    assert any(line.endswith("[template]") for line in lines)


def test_words_of_a_hostile_host_can_be_written_and_move_no_cursor() -> None:
    made = impression(TOLD, Scripted((DraftSentence(HOSTILE, ("E1", "\x1b[0m")),)), "en")
    record = draft_record(made)
    text = "\n".join(record_lines(json.loads(json.dumps(record))))
    assert text.encode("utf-8") and all(one.isprintable() for one in text.split("\n"))
    assert "\\x1b[2Jnormal \\u202e<script>" in text
    assert visible("8 mm \u00e4") == "8 mm \u00e4"


@pytest.mark.parametrize(("item", "words"), [
    (EvidenceItem("E1", "measurement", "Nodule 1", "left", "Lung", "Long axis", 8.4, 1, "mm"),
     "Nodule 1, left Lung: Long axis 8.4 mm"),
    (EvidenceItem("E1", "measurement", "Lung", "both", "Lung", "Mean", -812.0, 0, "[hnsf'U]"),
     "Lung, both sides: Mean -812 HU"),
    (EvidenceItem("E1", "measurement", "Right lung", "right", "Lung", "Volume", 1112.0, 1, "ml"),
     "Right lung: Volume 1112.0 ml"),
    (EvidenceItem("E1", "count", "Nodule", site="Lung", value=2.0), "Nodule, Lung: 2 found"),
    (EvidenceItem("E1", "score", "Pneumothorax", quantity="Probability", value=0.031, decimals=3,
                  unit="1", status="absent"), "Pneumothorax: absent, probability 0.031"),
    (EvidenceItem("E1", "score", "Glioma", status="undetermined"), "Glioma: undetermined"),
    (EvidenceItem("E1", "term", "Nodule 1", term="part-solid"), "Nodule 1: part-solid"),
    (EvidenceItem("E1", "comparison", "Nodule 1", "left", status="grown", before_ml=0.186,
                  after_ml=0.312, percent=68.0, days=182),
     "Nodule 1, left: grown, 0.186 ml before, 0.312 ml now, 68 %, 182 days between"),
    (EvidenceItem("E1", "comparison", "Earlier finding 1", status="gone", before_ml=0.1),
     "Earlier finding 1: not found any more, 0.1 ml before"),
    (EvidenceItem("E1", "not_found", "Nodule"), "Nodule: not found"),
])
def test_evidence_is_said_in_words(item: EvidenceItem, words: str) -> None:
    assert in_words(item) == words
