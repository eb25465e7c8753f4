"""ROUGE-L of known strings, and drafts with what nothing supports."""

from __future__ import annotations

import json
import random

import pytest

from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.guard import DraftSentence
from ai_models.training.language.pairs import Pair, evidence_item
from ai_models.training.language.prompts import answer_of
from ai_models.training.language.scores import (
    answered,
    figures,
    judged,
    rouge_l,
    unsupported_sentences,
)
from ai_models.types import ModelError
from tests.ai_models.training.language.pair_files import evidence_line

LINE = evidence_line(1, random.Random(1))
ITEMS = EvidenceList(tuple(evidence_item(one) for one in LINE["evidence"]))
WITH_EVIDENCE = Pair(
    "", ITEMS, (DraftSentence(LINE["impression"][0]["text"], ("E1",)),), "CT", "",
)
TEXTS = Pair(
    "A lesion of 8.4 mm in the left lung. No effusion.", None,
    (DraftSentence("Left lung lesion of 8.4 mm."),), "MR", "",
)


@pytest.mark.parametrize(("said", "reference", "expected"), [
    # Lin 2004, section 3.1: three of four words in order on each side; two of four.
    ("police kill the gunman", "police killed the gunman", 0.75),
    ("the gunman kill police", "police killed the gunman", 0.5),
    ("A small nodule.", "a SMALL nodule", 1.0),
    ("a b c d e f", "a c e", 2 / 3),
    ("nothing", "in common", 0.0),
    ("", "in common", 0.0),
])
def test_rouge_l_of_known_strings(said: str, reference: str, expected: float) -> None:
    assert rouge_l(said, reference) == pytest.approx(expected)


@pytest.mark.parametrize(("said", "wrong"), [
    ("Left lung lesion of 8.4 mm.", 0),
    ("Left lung lesion of 8.5 mm.", 1),
    ("Right lung lesion of 8.4 mm.", 1),
    ("Bilateral lesions. No effusion.", 1),
    ("No effusion.", 0),
])
def test_number_or_side_that_the_findings_have_not_is_unsupported(said: str, wrong: int) -> None:
    assert unsupported_sentences(said, TEXTS.findings)[0] == wrong


def test_both_sides_named_one_by_one_are_both() -> None:
    assert unsupported_sentences("Bilateral effusions.", "Left effusion. Right effusion.") == (0, 1)
    assert unsupported_sentences("Left effusion.", "Bilateral effusions.") == (0, 1)


def test_guard_judges_drafts_that_cite_evidence() -> None:
    good = judged(WITH_EVIDENCE, answer_of(WITH_EVIDENCE))
    assert (good.rouge, good.unsupported, good.sentences) == (1.0, 0, 1)
    side = "left" if "right" in WITH_EVIDENCE.said else "right"
    wrong = [{"text": f"Nodule 2 is in the {side} lung.", "evidence": ["E1"]}]
    assert judged(WITH_EVIDENCE, json.dumps({"impression": wrong})).unsupported == 1
    assert not judged(WITH_EVIDENCE, "Some text.").readable


def test_figures_are_by_modality_and_have_no_text() -> None:
    answers = {"CT": answer_of(WITH_EVIDENCE), "MR": "Right lung lesion of 8.4 mm."}
    drafts = answered([WITH_EVIDENCE, TEXTS], lambda one: answers[one.modality])
    made = figures(drafts, lambda those: [0.5] * len(those))
    assert made["CT"]["guard"] == {"sentences": 1, "unsupported": 0, "rate": 0.0}
    assert made["CT"]["numbers_and_sides"] is None
    assert made["MR"]["numbers_and_sides"]["rate"] == 1.0
    assert made["all"]["drafts"] == 2
    assert made["all"]["bert_score_f1"] == 0.5
    assert "lesion" not in json.dumps(made)
    assert figures(drafts)["all"]["bert_score_f1"] is None


def test_draft_that_is_cut_off_is_not_readable_and_other_errors_are_raised() -> None:
    def cut_off(_: Pair) -> str:
        raise ModelError("cut off", reason="model.wrong_output")

    def broken(_: Pair) -> str:
        raise ModelError("gone", reason="model.not_loaded")

    assert figures(answered([TEXTS], cut_off))["all"]["unreadable"] == 1
    with pytest.raises(ModelError, match="gone"):
        answered([TEXTS], broken)
