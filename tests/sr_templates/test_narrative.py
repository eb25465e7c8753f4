from __future__ import annotations

import pytest

from sr_templates.narrative import Narrator
from sr_templates.numbers import Measured, written
from sr_templates.sentences import Sentences
from sr_templates.template import load_template
from tests.results import samples

ENGLISH = Narrator("en", Sentences())


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(2400.25, 1, "2400.2"), (-0.04, 1, "0.0"), (-0.06, 1, "-0.1"), (3, 0, "3")],
)
def test_a_number_is_written_as_a_report_shows_it(value: float, decimals: int, text: str) -> None:
    assert written(value, decimals) == text


def test_a_name_with_braces_is_text_and_not_a_placeholder() -> None:
    assert ENGLISH.closing(["{names}"], ())[0].startswith("{names}: not found")
    assert "({name})" in ENGLISH.nothing_found(["{name}"])


def test_of_analysed_images_the_reader_is_told_that_nothing_else_was_looked_for() -> None:
    assert ENGLISH.closing(["Left lung"], ["thick"], is_analysed=True)[1:] == [
        "Nothing but what is named here was looked for.", "Technical note: thick."
    ]
    assert not any("looked for" in said for said in ENGLISH.closing((), ["thick"]))


def test_a_note_ends_with_one_stop() -> None:
    assert ENGLISH.closing((), ["tilted.", "thick"]) == [
        "Technical note: tilted.", "Technical note: thick."
    ]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "Lung: 1.5 ml, mean -800.0 HU."),
        ("de", "Lung: 1.5 ml, Mittelwert -800.0 HU."),
        ("fr", "Lung : 1.5 ml, moyenne -800.0 UH."),
        ("zh", "Lung：1.5 ml，平均 -800.0 HU。"),
    ],
)
def test_a_group_is_said_in_the_words_and_signs_of_its_language(language: str, said: str) -> None:
    quantities = load_template("lungs").quantities
    measured = [
        Measured(quantities["volume"], 1.5),
        Measured(quantities["mean_attenuation"], -800.0),
    ]
    assert Narrator(language, Sentences()).finding("Lung", measured, ()) == said


def test_that_a_part_was_left_out_is_said_before_anything_else() -> None:
    said = ENGLISH.opening(samples.ALGORITHM, is_complete=False)
    assert said[0].startswith("DEMONSTRATION")
    assert said[-1].startswith("Incomplete: ")
    assert len(ENGLISH.opening(samples.ALGORITHM)) == len(said) - 1


def test_what_was_lacking_is_said_before_the_answer_and_in_each_language() -> None:
    for language in ("en", "de", "fr", "zh"):
        said = Narrator(language, Sentences()).opening(
            samples.ALGORITHM, lacking=["without pt (there is none): from ct alone"]
        )
        assert "without pt (there is none): from ct alone" in said[-1]


def test_a_template_may_say_a_sentence_in_its_own_words() -> None:
    words = dict.fromkeys(("en", "de", "fr", "zh"), "{name}! {values}")
    own = Sentences.model_validate({"finding": words})
    volume = Measured(load_template("lungs").quantities["volume"], 1.5)
    assert Narrator("en", own).finding("Lung", [volume], ()) == "Lung! 1.5 ml"
