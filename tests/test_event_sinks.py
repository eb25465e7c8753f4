"""Who is told what happens besides the log."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping

import pytest

from dicom_node.events import Events

_SAMPLES: dict[str, object] = {
    "int": 7, "float": 7.0, "bool": True, "Mapping[str, int]": {"1.2": 7}, "Sequence[str]": ["1.2"],
}


class Notebook:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, arguments: Mapping[str, object]) -> None:
        self.told.append((event, dict(arguments)))


def events_by_name() -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in vars(Events).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


@pytest.mark.parametrize("name", sorted(events_by_name()))
def test_every_event_reaches_the_sinks_with_its_arguments_by_name(name: str) -> None:
    notebook = Notebook()
    parameters = list(events_by_name()[name].parameters.values())[1:]
    named = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
    values = {one.name: _SAMPLES.get(one.annotation, "x") for one in named}
    positional = [values[one.name] for one in named if one.kind is not one.KEYWORD_ONLY]
    keywords = {one.name: values[one.name] for one in named if one.kind is one.KEYWORD_ONLY}
    getattr(Events(notebook), name)(*positional, **keywords)
    assert notebook.told == [(name, values)]


def test_what_is_left_out_is_told_with_its_default_and_free_fields_by_their_names() -> None:
    notebook = Notebook()
    events = Events(notebook)
    events.worker_changed("cpu", "ended")
    events.node_changed("listening", port=104)
    assert notebook.told == [
        ("worker_changed", {"device": "cpu", "what": "ended", "reason": ""}),
        ("node_changed", {"what": "listening", "port": 104}),
    ]


def test_a_sink_that_raises_disturbs_nobody_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: str, arguments: Mapping[str, object]) -> None:
        raise OSError(28, "no space left on device")

    notebook = Notebook()
    events = Events(broken, notebook)
    with caplog.at_level(logging.ERROR, logger="dicom_node"):
        events.node_changed("stopped")
        events.node_changed("stopped")
    assert len(notebook.told) == 2
    assert [record.getMessage() for record in caplog.records] == ["unexpected error"]


def test_what_another_process_has_logged_is_told_and_not_logged_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notebook = Notebook()
    events = Events()
    events.add_sink(notebook)
    with caplog.at_level(logging.DEBUG, logger="dicom_node"):
        events.tell("association_accepted", {"association_id": "a", "calling_ae_title": "CT01"})
    assert [name for name, _ in notebook.told] == ["association_accepted"]
    assert caplog.records == []


def test_a_method_that_answers_is_no_event() -> None:
    class Counting(Events):
        def count(self) -> int:
            return 3

    told: list[str] = []
    assert Counting(lambda name, _: told.append(name)).count() == 3
    assert told == []
