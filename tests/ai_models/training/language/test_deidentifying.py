"""What names a person is replaced, and what a finding needs is left."""

from __future__ import annotations

import random

import pytest

from ai_models.drafting.trials.faithful import sentences_of
from ai_models.drafting.trials.scenes import scene_of
from ai_models.training.language.deidentifying import Deidentified

PLANTED = {
    "Discussed with Dr. Jane Quillfeather at once.": "Quillfeather",
    "DR. QUILLFEATHER WAS CALLED.": "QUILLFEATHER",
    "Seen by dr. quillfeather.": "quillfeather",
    "Mrs Anna-Maria O'Quill has pain.": "O'Quill",
    "Prof. Dr. Quillfeather agrees.": "Quillfeather",
    "QUILLFEATHER^JANE^A": "QUILLFEATHER",
    "Dictated by: J. R. Quillfeather": "Quillfeather",
    "Findings communicated to Robert J. Quillfeather.": "Quillfeather",
    "Jane Quillfeather, MD": "Quillfeather",
    "Patient name: Jane Quillfeather": "Quillfeather",
    "D\u200br. Quillfeather was told.": "Quillfeather",
    "Compared with 12.03.2019.": "12.03.2019",
    "Compared with 3/12/19.": "3/12/19",
    "Compared with 2019-03-12.": "2019-03-12",
    "Compared with March 12, 2019.": "March",
    "Compared with 12 Mar 2019.": "Mar",
    "Compared with CT of September 2018.": "2018",
    "Operated in 2007.": "2007",
    "At 14:35 the ward was told.": "14:35",
    "MRN: 483920": "483920",
    "Medical record number AB-48392": "48392",
    "Patient ID 48392": "48392",
    "Case no. 4839": "4839",
    "Patient 4839201-A was seen.": "4839201",
    "SSN 123-45-6789": "6789",
    "Accession # CR2039481": "2039481",
    "acc. no. 77-3829": "3829",
    "Call (555) 123-4567 with questions.": "4567",
    "Tel. 030 4502 1234": "4502",
    "Phone +49 30 450 52 70 12": "450",
    "pager 4411": "4411",
    "jane.q@hospital.example wrote.": "jane.q",
    "See https://pacs.example/p/77": "pacs.example",
    "Study 1.2.840.113619.2.55.3.604688119.971": "604688119",
    "A 94-year-old woman.": "94",
    "Lives at 12 Long Hill Road": "Long Hill",
    "Specimen 20193847": "20193847",
}
LEFT = (
    "A nodule in the left upper lobe measures 8.4 x 6.2 mm (was 7.1 mm).",
    "Volumes of 2010 ml and 1995 ml, from 2010 to 1995 ml.",
    "The nodule may 5 mm by estimate; 12-15 mm; T3/4; L4/5 disc; C5-6.",
    "Mean attenuation -812.5 HU, probability 0.031, 68 % in 182 days.",
    "No pneumothorax. PA view. PA Chest. A 64-year-old man, case of pneumonia.",
    "Small cell 12 mm lesion; extension 10 mm; in 3 months; segment 4a/4b.",
    "Nodule 1 has enlarged since the previous study 520 days earlier.",
    "The left lung has a volume of 2051 millilitres, from 2010 cubic millimetres, in 2000 days.",
    "Right. Left. Bilateral effusions, heart not enlarged. Patient has no fever.",
)


@pytest.mark.parametrize(("text", "name"), PLANTED.items())
def test_identifier_is_replaced_and_counted(text: str, name: str) -> None:
    cleaner = Deidentified()
    made = cleaner.clean(text)
    assert name not in made
    assert "[" in made
    assert sum(cleaner.counts.values()) >= 1


@pytest.mark.parametrize("text", LEFT)
def test_findings_are_left_as_they_are(text: str) -> None:
    cleaner = Deidentified()
    assert cleaner.clean(text) == text
    assert not cleaner.counts


def test_no_word_of_sentences_on_measurements_is_taken_for_an_identifier() -> None:
    for seed in range(60):
        evidence = scene_of(random.Random(seed))
        for item in evidence:
            for said in sentences_of(evidence, item, seed):
                assert Deidentified().clean(said.text) == said.text


@pytest.mark.parametrize(("text", "kept"), [
    ("Discussed with Dr. Quill. No nodule is seen.", "[NAME]. No nodule is seen."),
    ("Discussed with Dr. Quill No nodule is seen.", "[NAME] No nodule is seen."),
    ("DR. QUILL LEFT LUNG IS CLEAR", "[NAME] LEFT LUNG IS CLEAR"),
    ("On 12.03.2019 right effusion.", "On [DATE] right effusion."),
])
def test_negation_and_side_behind_a_name_are_kept(text: str, kept: str) -> None:
    assert kept in Deidentified().clean(text)


def test_known_words_are_taken_out_wherever_they_stand() -> None:
    made = Deidentified().clean("quill was told, QUILL left, Quills stay.", ["Quill"])
    assert made == "[KNOWN] was told, [KNOWN] left, Quills stay."


def test_cleaning_twice_is_cleaning_once() -> None:
    cleaner = Deidentified()
    for text in (*PLANTED, *LEFT):
        once = cleaner.clean(text)
        assert cleaner.clean(once) == once


def test_no_expression_runs_away_on_long_texts() -> None:
    # One that does runs into the limit of the test.
    for piece in ("1.", "A. ", "Dr. A", "a^", "12-", "Acc ", "+1 ", "@a.", "1 A ", "Ab "):
        Deidentified().clean(piece * (20_000 // len(piece)))
