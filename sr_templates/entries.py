"""The pieces that every YAML file of this folder is made of: codes, words in four languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ai_models.types import Code

Language = Literal["en", "de", "fr", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_SHORT, _LONG = 16, 64
Text = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class TemplateError(ValueError):
    """A report template is missing or wrong: ``file:line: key.path: what was expected``."""


def _code(value: Any) -> Any:
    if isinstance(value, Code):
        return value
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, str) for v in value)):
        raise ValueError("expected [value, coding scheme, meaning], each a string")
    for part, text, limit in zip(
        ("value", "coding scheme", "meaning"), value, (_SHORT, _SHORT, _LONG), strict=True
    ):
        if text != text.strip() or not 0 < len(text) <= limit or re.search(r"[\\\x00-\x1f]", text):
            raise ValueError(
                f"the {part} of a code has 1 to {limit} characters, no backslash and no space "
                "around it (PS3.3 section 8)"
            )
    return Code(*value)


CodeField = Annotated[Code, BeforeValidator(_code)]


class Entry(BaseModel):
    """A mapping of known keys that does not change after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Wording(Entry):
    """The same words in every language that reports are written in (RFC 5646 tags)."""

    en: Text
    de: Text
    fr: Text
    zh: Text

    def in_language(self, language: Language) -> str:
        """The words in ``language``."""
        words: str = getattr(self, language)
        return words

    def wrong_placeholders(self, allowed: frozenset[str]) -> Iterator[tuple[str, str]]:
        """(language, message) for every placeholder that nothing fills."""
        for language in LANGUAGES:
            try:
                fields = list(Formatter().parse(self.in_language(language)))
            except ValueError as problem:
                yield language, f"unbalanced braces: {problem}"
                continue
            for _, name, specification, conversion in fields:
                if name is not None and (name not in allowed or specification or conversion):
                    known = ", ".join(f"{{{one}}}" for one in sorted(allowed)) or "none"
                    yield language, f"no placeholder {{{name}}} here (there are: {known})"
