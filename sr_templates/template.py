"""Report templates: what a report on one kind of finding measures, codes and says.

A template is a YAML file in this folder, or beside the card of the model that it belongs to,
named as the card's ``report`` field says. It is data: no expression in it is evaluated, and what
cannot be is refused at load with file, line and key path. docs/reports.md shows how to write one.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache, lru_cache
from pathlib import Path

from sr_templates.contradictions import sentence_contradictions, template_contradictions
from sr_templates.entries import TemplateError
from sr_templates.report_template import ReportTemplate
from sr_templates.sentences import AllSentences
from sr_templates.yaml_file import TemplateFile, read_content

FOLDER = Path(__file__).resolve().parent
# YAML of this folder that is no report template.
NOT_TEMPLATES = frozenset({"sentences", "declined"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

__all__ = ["FOLDER", "NOT_TEMPLATES", "TemplateError", "load_sentences", "load_template"]


def load_template(name: str, folder: Path | None = None) -> ReportTemplate:
    """Load ``name``.yaml of ``folder``, a model's own, or else of this folder.

    Raises
    ------
    TemplateError
        There is no such template, or it does not have this form.
    """
    folders = [*([folder] if folder is not None else []), FOLDER]
    if _NAME.fullmatch(name) and name not in NOT_TEMPLATES:
        for one in folders:
            if (one / f"{name}.yaml").is_file():
                path = one / f"{name}.yaml"
                return _load(path, read_content(path))
    known = ", ".join(
        sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in NOT_TEMPLATES)
    )
    places = " or ".join(str(one) for one in folders)
    raise TemplateError(f"there is no report template {name!r} in {places}; built in are: {known}")


@lru_cache(maxsize=64)
def _load(path: Path, content: bytes) -> ReportTemplate:
    """Kept by what the file says: that of a model may be replaced while the node runs."""
    file = TemplateFile(path, content)
    template = file.checked(ReportTemplate)
    if template.name != path.stem:
        raise file.error("name", f"must be that of the file, {path.stem!r}")
    for key_path, message in template_contradictions(template):
        raise file.error(key_path, message)
    template._fingerprint = hashlib.sha256(file.content).hexdigest()
    return template


@cache
def load_sentences() -> AllSentences:
    """The sentences that every report has, of ``sentences.yaml``."""
    file = TemplateFile(FOLDER / "sentences.yaml")
    sentences = file.checked(AllSentences)
    for key_path, message in sentence_contradictions(sentences):
        raise file.error(key_path, message)
    return sentences
