"""The settings of models as `ai_models` knows them, and what a model must be to be run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ai_models.card import Card
from ai_models.drafting.endpoint_writer import EndpointWriter
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.folder_writer import open_writer
from ai_models.drafting.impression import Writer, WriterIdentity, Written
from ai_models.drafting.writer_card import check_folders, load_writer_card
from ai_models.trust import Endpoint, Site, why_refused
from ai_models.types import ModelError
from ai_models.weights import verify_weights
from dicom_node.config import Config
from dicom_node.errors import ConfigurationError
from dicom_node.events import Events
from dicom_node.pipeline.punctual_writer import PunctualWriter
from dicom_node.pipeline.writer_process import WriterProcess

if TYPE_CHECKING:
    from dicom_node.pipeline.inference import InferencePool


def site_of(config: Config) -> Site:
    """What this site allows its models."""
    models = config.models
    return Site(
        use=models.site_use,
        trusted_folders=tuple(models.trusted_folders),
        endpoints={
            name: Endpoint(one.url, one.api_key_file, one.timeout_s)
            for name, one in models.endpoints.items()
        },
    )


@dataclass(frozen=True)
class AbsentWriter:
    """A writer that the settings name and that cannot write: the template takes its place."""

    problem: ModelError
    identity: WriterIdentity = field(default_factory=lambda: WriterIdentity("absent"))

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """Raise why it cannot."""
        raise self.problem


def writer_of(config: Config) -> Writer | None:
    """Who drafts the impression of reports (``results.impression``); ``None``: nobody.

    A card that is wrong, or that this site refuses, stops no node: it gives an `AbsentWriter`.
    """
    return open_writers(config)[0]


def writers_of(config: Config) -> dict[str, Writer | None]:
    """Who drafts by each rule, by its name: the rule's own, or that of ``results``."""
    return open_writers(config)[1]


def open_writers(
    config: Config, pool: InferencePool | None = None, events: Events | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[Writer | None, dict[str, Writer | None]]:
    """Who drafts the impression of reports, and who does by each rule, by its name.

    A folder has one writer, who keeps no job longer than the time-out of its host, or of its card.
    Weights that lie in it are loaded beside those of models (`WriterProcess`), on a device of the
    ``pool``; without one, by who asks. A draft ends when the node is ``stopping``.
    """
    made: dict[object, Writer | None] = {}

    def writer_in(folder: Path | Literal["none"] | None) -> Writer | None:
        if folder not in made:
            made[folder] = _writer_in(folder, config, pool, events, stopping)
        return made[folder]

    of_all = config.results.impression
    return writer_in(of_all), {
        rule.name: writer_in(of_all if rule.impression is None else rule.impression)
        for rule in config.rules
    }


def wrong_writers(config: Config) -> list[tuple[str, ModelError]]:
    """The settings that name a writer that cannot write, by key path, and why it cannot."""
    named = [("results.impression", config.results.impression)]
    named += [
        (f"rules[{position}].impression", rule.impression)
        for position, rule in enumerate(config.rules)
    ]
    problems = {folder: _problem_of(folder, config) for _, folder in named}
    return [(key_path, problem) for key_path, folder in named
            if (problem := problems[folder]) is not None]


def _problem_of(folder: Path | Literal["none"] | None, config: Config) -> ModelError | None:
    """Why the writer in a folder cannot write: its weights are read, its library is tried."""
    writer = _writer_in(folder, config)
    if isinstance(writer, AbsentWriter):
        return writer.problem
    if isinstance(folder, Path):
        try:
            card = load_writer_card(folder)
            check_folders(card, content=True)
            if card.writer == "huggingface":
                # Costs seconds: here alone, where somebody asks whether all is well.
                from ai_models.backends.huggingface_folder import check_library

                check_library()
        except ModelError as problem:
            return problem
    return None


def _writer_in(
    folder: Path | Literal["none"] | None, config: Config, pool: InferencePool | None = None,
    events: Events | None = None, stopping: Callable[[], bool] = lambda: False,
) -> Writer | None:
    if not isinstance(folder, Path):
        return None
    site = site_of(config)
    try:
        card = load_writer_card(folder)
        check_folders(card)
        if card.writer == "huggingface" and pool is not None:
            return WriterProcess(
                card, site, pool, events or Events(), idle_s=config.results.writer_idle_s,
                heartbeat_s=config.jobs.heartbeat_s, stopping=stopping,
            )
        writer = open_writer(card, site)
    except ModelError as error:
        return AbsentWriter(error)
    if isinstance(writer, EndpointWriter):
        return PunctualWriter(writer, writer.within_s, stopping=stopping)
    return writer


def check_model(card: Card, site: Site) -> None:
    """Refuse a model whose every job would die here.

    Raises
    ------
    ModelError
        ``model.refused``: this site does not allow it. ``model.weights_missing``,
        ``model.hash_mismatch``: its weights are not those of the card. ``model.report``: its
        report is none for what it answers.
    """
    refusal = why_refused(card, site)
    if refusal:
        raise ModelError(refusal, reason="model.refused")
    verify_weights(card)
    check_report(card)


def check_report(card: Card) -> None:
    """Refuse a model whose report is none for what it answers.

    Raises
    ------
    ModelError
        ``model.report``
    """
    from dicom_node.results.report import check_template

    try:
        check_template(
            card.report, card.folder, card.task, card.output_names, card.conditional_names
        )
    except ConfigurationError as error:
        raise ModelError(f"{card.id}: {error}", reason="model.report") from error
