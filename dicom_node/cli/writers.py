"""Who drafts the impressions of which rules, as `check` and `explain` say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_node.operations.doctor import Finding, ok, warning

if TYPE_CHECKING:
    from dicom_node.config import Config

_NAME = "impressions"
_NOBODY = "nobody drafts the impression"


def impressions(config: Config) -> list[Finding]:
    """Who drafts by which rules, and whether a draft could be read at all.

    A writer that cannot write is told by the check of models.
    """
    from ai_models.drafting.guard import LANGUAGES

    told = drafting_by_rule(config)
    if not told:
        return []
    language = config.results.language
    if language not in LANGUAGES:
        return [warning(
            _NAME, f"no writer is asked: the guard reads {', '.join(LANGUAGES)}, and "
            f"results.language is {language}; reports have the sentences of their templates",
            "results.language: en, or no results.impression and rules[].impression",
        )]
    by_text: dict[str, list[str]] = {}
    for rule, text in told.items():
        by_text.setdefault(text, []).append(repr(rule))
    found = "; ".join(f"{text}, by {', '.join(rules)}" for text, rules in by_text.items())
    if any(text.startswith(_NOBODY) for text in by_text):
        return [warning(_NAME, found, "mend the writer, as the check of models says; until then "
                        "reports have the sentences of their templates")]
    return [ok(_NAME, found)]


def drafting_by_rule(config: Config) -> dict[str, str]:
    """In words who drafts by each rule that has a writer, or why that one does not."""
    if not any([config.results.impression, *(one.impression for one in config.rules)]):
        return {}
    from ai_models.drafting.guard import LANGUAGES
    from dicom_node.node_models import AbsentWriter, writers_of

    language = config.results.language
    found: dict[str, str] = {}
    for rule, writer in writers_of(config).items():
        if writer is None:
            continue
        if isinstance(writer, AbsentWriter):
            found[rule] = f"{_NOBODY}: {writer.problem.reason}: {writer.problem}"
        elif language not in LANGUAGES:
            found[rule] = f"{_NOBODY}: the guard does not read {language}"
        else:
            who = writer.identity
            found[rule] = f"{who.name or who.id} {who.version} drafts the impression"
    return found
