"""A report has an impression whatever a writer does, and nothing that was found is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.guard import DraftSentence
from ai_models.drafting.impression import (
    TemplateWriter,
    WriterIdentity,
    Written,
    impression,
)
from ai_models.types import ModelError
from tests.ai_models.drafting.written_scenes import CHEST

TOLD = EvidenceList(tuple(
    replace(one, told=f"{one.finding}: as the template says.", group=f"1.2.{number}")
    for number, one in enumerate(CHEST, start=1)
))
SCRIPTED = WriterIdentity("scripted", "1.0", "Scripted", "llama", "ab" * 32)


@dataclass
class Scripted:
    """A writer that hands in what it is told to."""

    sentences: tuple[DraftSentence, ...] = ()
    problem: ModelError | None = None
    identity: WriterIdentity = SCRIPTED

    def write(self, evidence: EvidenceList, language: str) -> Written:
        if self.problem is not None:
            raise self.problem
        return Written(self.sentences, ("a note",))


def test_template_writes_where_there_is_no_writer() -> None:
    made = impression(TOLD, None, "de")
    assert [one.text for one in made.sentences][:2] == [
        "Pneumothorax: as the template says.", "Pleural effusion: as the template says.",
    ]
    assert (made.writer.id, made.fallback, made.is_drafted) == ("template", "", False)
    assert made.sentences == impression(TOLD, TemplateWriter(), "en").sentences


def test_what_is_kept_cites_the_measurement_groups_and_names_its_writer() -> None:
    made = impression(
        TOLD, Scripted((DraftSentence("Pleural effusion and consolidation are present.",
                                      ("E2", "E4")),)), "en",
    )
    first = made.sentences[0]
    assert first.evidence == ("E2", "E4")
    assert first.groups == ("1.2.2", "1.2.4")
    assert first.source == "writer"
    assert made.is_drafted
    assert (made.writer.id, made.writer.model, made.notes) == ("scripted", "llama", ("a note",))


def test_findings_that_the_draft_leaves_out_are_told_by_the_template() -> None:
    made = impression(TOLD, Scripted((DraftSentence("Pleural effusion is present.", ("E2",)),)),
                      "en")
    assert [(one.text, one.source) for one in made.sentences] == [
        ("Pleural effusion is present.", "writer"),
        ("Cardiomegaly: as the template says.", "template"),
        ("Consolidation: as the template says.", "template"),
        ("Lung lesion: as the template says.", "template"),
    ]


def test_struck_sentence_is_recorded_and_what_it_was_about_is_told() -> None:
    wrong = DraftSentence("No pleural effusion.", ("E2",))
    right = DraftSentence("Consolidation is present.", ("E4",))
    made = impression(TOLD, Scripted((wrong, right)), "en")
    assert [one.sentence for one in made.struck] == [wrong]
    assert ("Pleural effusion: as the template says.", "template") in [
        (one.text, one.source) for one in made.sentences
    ]


def test_template_takes_the_place_of_a_draft_that_is_not_there() -> None:
    template = impression(TOLD, None, "en").sentences
    failed = ModelError("nobody answers", reason="worker.endpoint_unavailable")
    lied = (DraftSentence("Pneumothorax is present.", ("E1",)),)
    for writer, reason in (
        (Scripted(problem=failed), "worker.endpoint_unavailable"), (Scripted(), "empty"),
        (Scripted(lied), "all_struck"),
    ):
        made = impression(TOLD, writer, "en")
        assert made.sentences == template
        assert (made.fallback, made.is_drafted) == (reason, False)


def test_draft_in_a_language_that_the_guard_does_not_read_is_not_asked_for() -> None:
    made = impression(TOLD, Scripted(problem=ModelError("asked all the same")), "de")
    assert (made.fallback, made.writer.id) == ("language", "scripted")
