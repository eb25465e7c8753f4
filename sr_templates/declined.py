"""The report that images were not analysed: why, in a code and in words (``declined.yaml``)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from sr_templates.contradictions import placeholder_contradictions
from sr_templates.entries import CodeField, Entry, Language, Wording
from sr_templates.report_template import Answer
from sr_templates.template import FOLDER
from sr_templates.yaml_file import TemplateFile

_PLACEHOLDERS = {
    "not_analysed": frozenset({"algorithm", "version"}),
    "because": frozenset({"reason"}),
    "technical_detail": frozenset({"code", "detail"}),
    "technical_reason": frozenset({"code"}),
}


class Reason(Entry):
    """One reason, as the standard codes it (PS3.16 CID 9300) and as the reader is told."""

    value: CodeField
    text: Wording


class DeclinedTemplate(Entry):
    """``reasons`` maps the beginning of a reason code of the node to what it means."""

    title: CodeField
    procedure_reported: dict[str, CodeField]
    procedure_unknown: CodeField
    answer: Answer
    reason_concept: CodeField
    not_analysed: Wording
    because: Wording
    technical_detail: Wording
    technical_reason: Wording
    reasons: dict[str, Reason]
    other: Reason

    def reason_of(self, code: str) -> Reason:
        """The reason with the longest beginning of ``code``, or ``other``."""
        known = [beginning for beginning in self.reasons if code.startswith(beginning)]
        return self.reasons[max(known, key=len)] if known else self.other

    def sentences(
        self, code: str, detail: str, algorithm: str, version: str, language: Language
    ) -> list[str]:
        """What the reader is told; ``detail`` is a technical message free of patient data."""
        words = self.reason_of(code).text.in_language(language)
        detail = detail.rstrip(".")
        technical = self.technical_detail if detail else self.technical_reason
        return [
            self.not_analysed.in_language(language).format(algorithm=algorithm, version=version),
            self.because.in_language(language).format(reason=words),
            technical.in_language(language).format(code=code, detail=detail),
        ]


@cache
def load_declined() -> DeclinedTemplate:
    """Read ``declined.yaml``.

    Raises
    ------
    TemplateError
        It does not have this form.
    """
    file = TemplateFile(FOLDER / "declined.yaml")
    template = file.checked(DeclinedTemplate)
    for key_path, message in _contradictions(template):
        raise file.error(key_path, message)
    return template


def _contradictions(template: DeclinedTemplate) -> Iterator[tuple[str, str]]:
    for key, allowed in _PLACEHOLDERS.items():
        yield from placeholder_contradictions(getattr(template, key), key, allowed)
    for beginning, reason in template.reasons.items():
        yield from placeholder_contradictions(reason.text, f"reasons.{beginning}", frozenset())
