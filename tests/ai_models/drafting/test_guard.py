"""A sentence is kept when the evidence that it cites says the same, and struck otherwise."""

from __future__ import annotations

import pytest

from ai_models.drafting.clauses import Unclear
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.guard import DraftSentence, Guard
from tests.ai_models.drafting import (
    tricks,
    written_again,
    written_against,
    written_against_again,
    written_by_ear,
    written_last,
    written_scenes,
)
from tests.ai_models.drafting.written_scenes import (
    CHEST,
    LUNGS,
    NODULES,
    evidence_of,
    measured,
    scored,
)

WRITTEN = (
    *written_scenes.FAITHFUL, *written_again.FAITHFUL, *written_last.FAITHFUL,
    *written_against.FAITHFUL, *written_by_ear.FAITHFUL,
)
# True, and struck all the same: listed in docs/drafted-impression.md.
STRUCK_ALL_THE_SAME = frozenset({
    "Nodules in both lungs: nodule 1 (8.4 mm) and nodule 2 (12 mm).",
    "Lung volumes are 2210 ml on the left and 2688 ml on the right.",
    "Mean attenuation is -812 HU in the left lung and -821 HU in the right lung.",
    "Pleural effusion was identified with high probability (0.884).",
    "Cardiomegaly could not be determined with certainty.",
    "The heart may be enlarged.",
    "Pulmonary embolism is very likely (94 %).",
    "Number of nodules: 2.",
    "The second nodule, in the right lung, measures 12 mm.",
    "High likelihood of pleural effusion (0.884).",
    "The probability of pneumothorax is low (0.031).",
    "The software marked two nodules.",
    "Nodule 1 occupies 0.312 ml.",
    "Since the previous examination nodule 1 has increased by 68 % in volume.",
    "Nodule 1 is larger than on the prior scan.",
    "Of the two nodules, nodule 1 has grown and nodule 2 is stable.",
    "There is a nodule of 8.4 mm in the left lung and one of 12 mm in the right lung.",
    "Consolidation together with pleural effusion.",
    "There are signs of pleural effusion and of consolidation.",
    "Whether there is a lung lesion could not be assessed.",
    "Skeletal age is 131.6 months.",
    "Borderline probability of cardiomegaly (0.51).",
    "Nodules of 8.4 mm in the left and 12 mm in the right lung.",
    "Consolidation with pleural effusion.",
    "Total lung volume is 4.9 l.",
    "Lesions 1, 2 and 3 measure 31.2 mm, 17.5 mm and 9.1 mm.",
    "Hippocampal volumes: 2.91 ml left, 3.42 ml right.",
    "Enhancing lesion of the breast without wash-out.",
})


def why_struck(evidence: EvidenceList, cited: str, text: str, language: str = "en") -> str:
    """The reason, empty where the sentence is kept."""
    try:
        Guard(evidence, language).supported(DraftSentence(text, tuple(cited.split())))
    except Unclear as problem:
        return problem.kind
    return ""


def test_sentences_that_people_write_on_evidence_are_kept() -> None:
    struck = {text for evidence, cited, text in WRITTEN if why_struck(evidence, cited, text)}
    assert struck == STRUCK_ALL_THE_SAME


@pytest.mark.parametrize("written", [
    written_scenes, written_again, tricks, written_against,
    written_against_again, written_by_ear,
])
def test_false_sentences_are_struck(written: object) -> None:
    kept = [
        text for evidence, cited, text in written.FALSE  # type: ignore[attr-defined]
        if not why_struck(evidence, cited, text)
    ]
    assert kept == []


@pytest.mark.parametrize(("cited", "text", "reason"), [
    ("", "Nodule 1 measures 8.4 mm.", "citation"),
    ("E99", "Nodule 1 measures 8.4 mm.", "citation"),
    ("E2 E8", "Nodule 1 measures 8.4 mm.", "citation"),
    ("E3", "Nodule 1 measures 8.4 mm.", "not_cited"),
    ("E2", "Nodule 1 measures 8.4 cm.", "number"),
    ("E2", "Nodule 1 measures 8.", "number"),
    ("E2", "Nodule 1 in the right lung measures 8.4 mm.", "side"),
    ("E2", "Nodule 1 in the liver measures 8.4 mm.", "anatomy"),
    ("E2", "Nodule 7 measures 8.4 mm.", "finding"),
    ("E2", "Nodule 1 is not seen.", "status"),
    ("E2", "Nodule 1 is not not seen.", "negation"),
    ("E6", "Nodule 1 is stable.", "comparison"),
    ("E1", "Three nodules are seen.", "count"),
    ("E2", "Nodule 1 measures 8.4 mm and is malignant.", "overclaim"),
    ("E2", "Nodule 1 is spiculated.", "unknown_word"),
    ("E2", "Nodule 1 measures 8.4 mm <b>", "unwritable"),
    ("E2", f"Nodule 1 measures {'about ' * 80}8.4 mm.", "unwritable"),
    ("E6 E10", "Nodule 1 is unchanged, as nodule 2.", "ambiguous"),
])
def test_reason_says_what_is_wrong(cited: str, text: str, reason: str) -> None:
    assert why_struck(NODULES, cited, text) == reason


def test_number_may_be_rounded_by_a_tenth_of_itself_and_no_more() -> None:
    small = evidence_of(measured("Nodule 1", "Long axis", 1.4, "mm"))
    assert why_struck(small, "E1", "Nodule 1 measures 1 mm.") == "number"
    assert why_struck(NODULES, "E2", "Nodule 1 measures 8 mm.") == ""
    assert why_struck(NODULES, "E2", "Nodule 1 measures 9 mm.") == "number"
    assert why_struck(NODULES, "E2", "Nodule 1 measures 8.3 mm.") == "number"


def test_lengths_may_be_told_in_centimetres() -> None:
    assert why_struck(NODULES, "E8", "Nodule 2 measures 1.2 cm.") == ""
    assert why_struck(NODULES, "E8", "Nodule 2 measures 0.12 cm.") == "number"


def test_ids_that_stand_in_the_sentence_are_citations_and_leave_it() -> None:
    kept = Guard(NODULES).supported(DraftSentence("Nodule 1 measures 8.4 mm [E2].", ()))
    assert kept == DraftSentence("Nodule 1 measures 8.4 mm.", ("E2",))


def test_other_languages_keep_nothing_but_the_words_of_the_template() -> None:
    told = "Rundherd 1: lange Achse 8.4 mm."
    evidence = evidence_of(measured("Nodule 1", "Long axis", 8.4, "mm", told=told))
    assert why_struck(evidence, "E1", told, "de") == ""
    assert why_struck(evidence, "E1", "Rundherd 1 misst 8.4 mm.", "de") == "language"


def test_guard_records_what_it_strikes_and_keeps_the_order() -> None:
    sentences = [
        DraftSentence("Pleural effusion is present.", ("E2",)),
        DraftSentence("Pneumothorax is present.", ("E1",)),
        DraftSentence("No fracture.", ("E5",)),
    ]
    guarded = Guard(CHEST).guarded(sentences)
    assert [one.text for one in guarded.kept] == ["Pleural effusion is present.", "No fracture."]
    (struck,) = guarded.struck
    assert (struck.sentence, struck.reason) == (sentences[1], "status")
    assert struck.why == "present is said, the evidence says absent"


def test_one_of_two_sides_must_be_named() -> None:
    assert why_struck(LUNGS, "E1", "The lung has a volume of 2210 ml.") == "side"


def test_name_that_is_a_term_of_another_finding_is_read_as_that_term() -> None:
    evidence = evidence_of(
        scored("Brain tumour", "Brain", 0.9, "present"),
        {"kind": "term", "finding": "Brain tumour", "term": "Meningioma", "site": "Brain"},
        measured("Meningioma", "Probability", 0.4, "1", 3),
        measured("Glioma", "Probability", 0.2, "1", 3),
    )
    assert why_struck(evidence, "E1 E2", "The brain tumour is classified as a meningioma.") == ""
    assert why_struck(evidence, "E1 E2", "Brain tumour: meningioma.") == ""
    assert why_struck(evidence, "E1 E2", "Brain tumour: glioma.")
    assert why_struck(evidence, "E3", "Meningioma is present.") == "status"
    assert why_struck(evidence, "E3", "The probability of meningioma is 0.4.") == ""
