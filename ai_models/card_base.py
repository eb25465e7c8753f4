"""What every part of a model card is made of: mappings with known keys, and bounded values."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ai_models.types import Code


def _as_in_dicom(text: str) -> str:
    """A blank at either end and a backslash do not survive there (PS3.5 table 6.2-1, SH)."""
    if text != text.strip() or any(one in text for one in "\\\n\t"):
        raise ValueError("no backslash, no line break and no blank around it expected")
    return text


Text = Annotated[str, Field(min_length=1, max_length=4000)]
LongName = Annotated[str, Field(min_length=1, max_length=64)]
ShortName = Annotated[str, Field(min_length=1, max_length=16), AfterValidator(_as_in_dicom)]
Licence = Annotated[str, Field(max_length=128)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Byte = Annotated[int, Field(ge=0, le=255)]
Count = Annotated[int, Field(ge=1)]
Channel = Annotated[int, Field(ge=0, le=4095)]
Edge = Annotated[int, Field(ge=1, le=1024)]


class Entry(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def gives(self, key: str) -> bool:
        """Whether the card says more of a key than what holds without it."""
        if key not in self.model_fields_set:
            return False
        field = type(self).model_fields[key]
        return bool(field.is_required() or getattr(self, key) != field.get_default())


class CodeEntry(Entry):
    """A coded concept (PS3.3 section 8.8: value SH, scheme SH, meaning LO)."""

    value: ShortName
    """Code Value, in quotes: ``"39607008"``."""
    scheme: ShortName
    """Coding Scheme Designator: ``SCT`` for SNOMED CT, ``DCM``, ``99MINE``."""
    meaning: LongName
    """Code Meaning, as people read it."""

    def code(self) -> Code:
        """As the plain type that results are built from."""
        return Code(self.value, self.scheme, self.meaning)
