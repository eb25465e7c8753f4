"""Rules: which series go through which model, with which further series, and where results go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from dicom_node import config_problems, input_roles, records
from dicom_node.config_conditions import Condition, ConditionError, parse_condition
from dicom_node.config_peers import Seconds, Settings, Text, Whole
from dicom_node.records import Priority

PRIOR = records.PRIOR
"""The role of an earlier examination of the same patient; every other role is of the same study."""
PHASES = input_roles.PHASES
"""The role of further series of the same place at other times; the only one of several series."""


def _name(value: str) -> str:
    if value != value.strip() or not 1 <= len(value) <= 100 or not value.isprintable():
        raise PydanticCustomError(
            "name", "a name of 1 to 100 printable characters without outer spaces"
        )
    return value


def _condition(value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    try:
        return parse_condition(value)
    except ConditionError as error:
        raise PydanticCustomError(
            config_problems.AT_PATH, "{text}", {"path": error.path, "text": str(error)}
        ) from error


def _writer(value: object) -> object:
    if value is None or isinstance(value, Path) or (isinstance(value, str) and value.strip()):
        return value
    raise PydanticCustomError("writer", "the folder of a writer.yaml, or none")


Name = Annotated[Text, AfterValidator(_name)]
When = Annotated[
    Condition,
    PlainValidator(_condition),
    PlainSerializer(lambda condition: dict(condition.written), return_type=dict[str, Any]),
    WithJsonSchema({"type": "object", "minProperties": 1}),
]
Role = Annotated[Text, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


WriterFolder = Annotated[Literal["none"] | Path | None, BeforeValidator(_writer)]
"""Of a writer.yaml; ``"none"``: nobody drafts."""


class RuleInput(Settings):
    """A further series that a job takes, by its role in the model's card.

    Of the same study and frame of reference; ``prior`` is of an earlier study of the patient, back
    to ``within_d`` days: the peer ``fetch_from`` is asked whatever the node has, and the latest
    study counts. ``phases`` are ``series`` further ones in which the other phases lie.
    """

    when: When
    fetch_from: Text | None = None
    within_d: Annotated[Whole, Field(ge=1, le=36_500)] = 1095
    series: Annotated[Whole, Field(ge=1, le=63)] | None = None


class Rule(Settings):
    """Series that match ``when`` go through ``model``; the results go to ``send_to``.

    The job waits for its further ``inputs`` for at most ``wait_s``. Its report's impression is
    drafted by the writer in the folder ``impression``, by nobody where that is ``none``, and by
    that of ``results`` where it is absent.
    """

    name: Name
    when: When
    model: Name
    send_to: Annotated[list[Text], Field(min_length=1)]
    priority: Priority = Priority.ROUTINE
    inputs: dict[Role, RuleInput] = {}
    wait_s: Annotated[Seconds, Field(le=86_400)] = 900
    impression: WriterFolder = None

    def anchored(self, base: Path) -> Rule:
        """The same with a relative folder of its writer below ``base``."""
        if not isinstance(self.impression, Path):
            return self
        return self.model_copy(update={"impression": base / self.impression})
