"""Report templates: what a report on one kind of finding measures, codes and says.

A template is a YAML file in this folder, named as a model card's ``report`` field says. It is
data: no expression in it is evaluated, and a placeholder that does not exist is refused at load.
"""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ai_models.types import Code

_FOLDER = Path(__file__).resolve().parent
_PLACEHOLDERS = {
    "demonstration": frozenset[str](),
    "computed": frozenset({"algorithm", "version"}),
    "not_found": frozenset({"label"}),
    "nothing_found": frozenset({"labels"}),
    "input_note": frozenset({"note"}),
}


class TemplateError(ValueError):
    """A report template is missing or wrong: the message names the file and the key."""


def _code(value: Any) -> Any:
    if isinstance(value, Code):
        return value
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, str) for v in value):
        return Code(*value)
    raise ValueError("expected [value, coding scheme, meaning], each a string")


CodeField = Annotated[Code, BeforeValidator(_code)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeasurementTemplate(_Strict):
    """One NUM of a measurement group (PS3.16 TID 300)."""

    measurement: str
    concept: CodeField
    unit: CodeField
    derivation: CodeField | None = None
    decimals: int = Field(ge=0, le=6)


class TotalTemplate(_Strict):
    """The group of all segments together."""

    name: str
    type: CodeField
    laterality: CodeField | None = None


class NothingFoundTemplate(_Strict):
    """The coded answer when nothing was found."""

    concept: CodeField
    value: CodeField


class NarrativeTemplate(_Strict):
    """Sentences; placeholders are the names in braces, filled with text and nothing else."""

    demonstration: str
    computed: str
    finding: str
    section: str
    not_found: str
    nothing_found: str
    input_note: str


class ReportTemplate(_Strict):
    """One report: TID 1500 with volumetric groups, planar groups and sentences."""

    name: str
    title: CodeField
    language: CodeField
    procedure_reported: dict[str, CodeField]
    volumetric: tuple[MeasurementTemplate, ...]
    total: TotalTemplate | None = None
    planar: tuple[MeasurementTemplate, ...] = ()
    nothing_found: NothingFoundTemplate
    narrative: NarrativeTemplate

    @model_validator(mode="after")
    def _placeholders_exist(self) -> ReportTemplate:
        known = dict(_PLACEHOLDERS)
        known["finding"] = frozenset({"label", *(m.measurement for m in self.volumetric)})
        known["section"] = frozenset({"label", *(m.measurement for m in self.planar)})
        for sentence, names in known.items():
            text = getattr(self.narrative, sentence)
            for _, name, specification, conversion in string.Formatter().parse(text):
                if name is not None and (name not in names or specification or conversion):
                    raise ValueError(f"narrative.{sentence}: no placeholder {{{name}}} here")
        return self


@cache
def load_template(name: str, folder: Path = _FOLDER) -> ReportTemplate:
    """Load ``name``.yaml of ``folder``.

    Raises
    ------
    TemplateError
        There is no such template, or it does not have this form.
    """
    path = folder / f"{name}.yaml"
    if not name.isidentifier() or not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.yaml")))
        raise TemplateError(f"there is no report template {name!r} in {folder}; there are: {known}")
    try:
        return ReportTemplate.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as problem:
        raise TemplateError(f"{path}: {problem}") from problem
