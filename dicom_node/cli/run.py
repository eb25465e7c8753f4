"""``dicom-node run MODEL PATH... --output DIR``: one model on files, without a network."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dicom_node
from dicom_node.cli.opened import named_card, open_config
from dicom_node.cli.output import tell_skipped
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.records import PRIOR

_WITHIN_THE_MODEL = (("load", "loading it"), ("infer", "inference"))

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ai_models.card import Card
    from ai_models.drafting.impression import Writer
    from ai_models.types import ClassificationPrediction
    from dicom_node.cli.series_roles import Together
    from dicom_node.config import Config
    from dicom_node.pipeline.analysis import Analysis, Writing
    from dicom_node.pipeline.follow_up import Earlier
    from dicom_node.pipeline.inference import InferencePool


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("run", help="one model on files, without a network")
    parser.add_argument("model", metavar="MODEL",
                        help="a model, ID@VERSION, or the folder of a card")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files or folders")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
                        help="where objects, pictures and predictions.json go")
    parser.add_argument("--input", action="append", default=[], metavar="ROLE=PATH",
                        help="a further series that the model takes, by its role in the card "
                        "(else the one of its modality in the same frame of reference); "
                        "phases=PATH has the other series that the phases are in, prior=PATH an "
                        "earlier examination to compare with")
    parser.add_argument("--impression", type=Path, metavar="DIR",
                        help="the folder of a writer.yaml, which drafts the impression; none: "
                        "nobody does, whatever results.impression says")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write DICOM objects, ``predictions.json`` and overlay pictures for every series found.

    A model that takes several series is given each with those that belong to it.
    Exit 1 when no series was analysed.
    """
    config = open_config(arguments)
    card = named_card(config, arguments)
    from ai_models.trust import why_refused
    from dicom_node.cli.series_roles import found_in, together
    from dicom_node.node_models import site_of

    refusal = why_refused(card, site_of(config))
    if refusal:
        raise ConfigurationError(refusal, key_path="models.site_use")
    series, skipped = found_in(arguments.paths)
    tell_skipped(skipped)
    named = _named(arguments.input)
    earlier = _earlier(named)
    shown = together(series, card.input, named)
    arguments.output.mkdir(parents=True, exist_ok=True)
    writer = _writer(arguments.impression or config.results.impression, config)
    entries = _run_all(card, config, shown, arguments.output, earlier, writer)
    document = {
        "model": {"id": card.id, "version": card.version, "weights_sha256": card.weights_sha256,
                  "demonstration": card.demonstration},
        "software_version": dicom_node.__version__,
        "series": entries,
        "skipped": [{"path": str(path), "reason": reason} for path, reason in skipped],
    }
    (arguments.output / "predictions.json").write_text(json.dumps(document, indent=2) + "\n")
    objects = [name for entry in entries for name in entry["objects"]]
    print(f"written to {arguments.output}: {', '.join([*objects, 'predictions.json'])}")
    return 0 if any(entry["outcome"] != "declined" for entry in entries) else 1


def _named(given: Sequence[str]) -> dict[str, dict[str, list[Path]]]:
    """Series that were given for a role."""
    from dicom_node.cli.series_roles import found_in

    named: dict[str, dict[str, list[Path]]] = {}
    for one in given:
        role, separator, path = one.partition("=")
        if not separator or not path:
            raise ConfigurationError(
                f"ROLE=PATH expected, found {one!r}", key_path="--input"
            )
        named[role], _ = found_in([Path(path)])
    return named


def _earlier(named: dict[str, dict[str, list[Path]]]) -> Earlier | None:
    """The earlier examination, taken out of what was given for a role."""
    from dicom_node.pipeline.follow_up import Earlier

    series = named.pop(PRIOR, None)
    if series is None:
        return None
    if len(series) != 1:
        raise ConfigurationError(
            f"one series expected, found {len(series)}", key_path=f"--input {PRIOR}"
        )
    return Earlier(next(iter(series.values())))


def _writer(folder: Path | str | None, config: Config) -> Writer | None:
    """Who drafts the impression; of the word ``none`` nobody does."""
    if not isinstance(folder, Path) or folder == Path("none"):
        return None
    from ai_models.drafting.folder_writer import open_writer
    from ai_models.drafting.writer_card import load_writer_card
    from ai_models.types import ModelError
    from dicom_node.node_models import site_of

    try:
        return open_writer(load_writer_card(folder), site_of(config))
    except ModelError as error:
        raise ConfigurationError(str(error), key_path="--impression") from error


def _run_all(
    card: Card, config: Config, shown: Sequence[Together], output: Path, earlier: Earlier | None,
    writer: Writer | None,
) -> list[dict[str, Any]]:
    from dicom_node.events import Events, configure_logging
    from dicom_node.node_models import site_of
    from dicom_node.pipeline.inference import InferencePool, resolve_devices

    configure_logging("warning", "console")
    entries = []
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as scratch:
        pool = InferencePool(
            resolve_devices(config.models.devices), site_of(config), Path(scratch),
            Events(),
        )
        try:
            for number, one in enumerate(shown, start=1):
                stem = "" if len(shown) == 1 else f"{number:03d}-"
                entries.append(_run_one(card, config, pool, one, output, stem, earlier, writer))
        finally:
            pool.close()
    return entries


def _run_one(
    card: Card,
    config: Config,
    pool: InferencePool,
    shown: Together,
    output: Path,
    stem: str,
    earlier: Earlier | None = None,
    writer: Writer | None = None,
) -> dict[str, Any]:
    from ai_models.conformance.spacing_order import spacing_doubt
    from dicom_node.pipeline.analysis import Writing, analyse
    from dicom_node.results.equipment import node_equipment

    writing = Writing(
        node_equipment(config.node.ae_title, dicom_node.__version__), datetime.now(UTC),
        config.results.language, writer=writer,
    )
    deadline_s = min(config.models.deadline_s, card.runtime.deadline_s)
    uid, paths = shown.uid, list(shown.paths)
    try:
        analysis = analyse(
            paths, card,
            lambda card, source: pool.predict(card, source, deadline_s=deadline_s),
            writing, companions=shown.companions, missing=shown.missing, earlier=earlier,
        )
    except NodeError as error:
        print(f"series {uid}: {error.reason}: {error}", file=sys.stderr)
        return {"series_instance_uid": uid, "instances": len(paths), "outcome": "declined",
                "reason": error.reason, "message": str(error),
                "objects": _write_answer(error, paths, card, writing, output, stem)}
    written = write_objects(analysis, output, stem)
    pictures = write_pictures(analysis, output, stem)
    doubt = spacing_doubt(card, analysis.loaded.model_input)
    described = describe(analysis)
    described["notes"] += [doubt] if doubt else []
    print_analysis(uid, analysis, described["notes"])
    return {
        "series_instance_uid": uid,
        "instances": len(paths),
        "outcome": analysis.outcome,
        **_taken(analysis),
        **described,
        "objects": [path.name for path in written],
        "pictures": [path.name for path in pictures],
    }


def _taken(analysis: Analysis) -> dict[str, Any]:
    """The further series that the model was given, and why others were not there; by role."""
    loaded = analysis.loaded
    if not loaded.companions and not loaded.missing:
        return {}
    return {
        "companions": {
            one.role: {
                "series_instance_uid": str(one.source_images[0].SeriesInstanceUID),
                "instances": len(one.source_images),
            }
            for one in loaded.companions
        },
        "missing": dict(loaded.missing),
    }


def _write_answer(
    error: NodeError, paths: list[Path], card: Card, writing: Writing, output: Path, stem: str
) -> list[str]:
    """The report that the series was not analysed, as the node would send it."""
    from dicom_node.errors import NotUnderstood
    from dicom_node.imaging.reading import read_header
    from dicom_node.pipeline.answers import build_answer, not_analysed_request

    headers = []
    for path in paths:
        # What cannot be read is part of the reason, and cannot be named by its UID.
        with contextlib.suppress(NotUnderstood):
            headers.append(read_header(path).dataset)
    digests = {str(one.SOPInstanceUID): "" for one in headers}
    request = not_analysed_request(headers, card.algorithm(), digests, writing)
    try:
        report = build_answer(request, f"{error.reason}: {error}")
    except NodeError as why:
        print(f"  without a report that says so: {why.reason}: {why}", file=sys.stderr)
        return []
    return [path.name for path in _write([("not analysed report", report)], output, stem)]


def write_objects(analysis: Analysis, output: Path, stem: str) -> list[Path]:
    """Each object as a Part 10 file named after its kind."""
    return _write(analysis.objects, output, stem)


def _write(objects: Sequence[tuple[str, Dataset]], output: Path, stem: str) -> list[Path]:
    written = []
    for kind, dataset in objects:
        path = output / f"{stem}{kind.replace(' ', '-')}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def write_pictures(analysis: Analysis, output: Path, stem: str) -> list[Path]:
    """What is marked in a volume, in three planes; or where a classifier looked."""
    from ai_models.types import ClassificationPrediction, Volume
    from dicom_node.imaging.display import displayed
    from dicom_node.results.overlay import write_overlays

    if isinstance(analysis.prediction, ClassificationPrediction):
        return _write_maps(analysis, analysis.prediction, output, stem)
    volume, label_map = analysis.loaded.reference, analysis.findings.grid_label_map
    if label_map is None or not isinstance(volume, Volume):
        return []
    labels = analysis.findings.labels
    display = displayed(volume.array, volume.unit, analysis.loaded.source_images[0], labels)
    return write_overlays(
        volume, display, label_map, labels, output, f"{stem}overlay",
        demonstration=analysis.prediction.algorithm.demonstration,
    )


def _write_maps(
    analysis: Analysis, prediction: ClassificationPrediction, output: Path, stem: str
) -> list[Path]:
    from ai_models.types import Volume
    from dicom_node.results.saliency_pictures import write_saliency

    loaded = analysis.loaded
    maps = {
        name: loaded.to_source_grid(values if values.ndim == 3 else values[None])
        for name, values in prediction.saliency.items()
    }
    source = loaded.reference
    # Of a volume the slices are shown as its own grid has them, which its sources' rows follow.
    steps = source.spacing_mm[1:] if isinstance(source, Volume) else source.pixel_spacing_mm
    row, column = steps or (1.0, 1.0)
    return write_saliency(
        loaded.display(()), maps, prediction.scores, output, f"{stem}saliency",
        row_to_column=row / column, method=prediction.saliency_method,
        demonstration=prediction.algorithm.demonstration,
    ) if maps else []


def describe(analysis: Analysis) -> dict[str, Any]:
    """What was found, notes and times as plain JSON values."""
    from dicom_node.pipeline.summary import summary

    stages = {**_stages(analysis), **{
        f"model.{stage}": s for stage, s in analysis.prediction.seconds_by_stage.items()
    }}
    return {
        **summary(analysis),
        **_drafted(analysis),
        "notes": [note.text for note in analysis.loaded.notes] + list(analysis.prediction.notes),
        "seconds_by_stage": {stage: round(seconds, 4) for stage, seconds in stages.items()},
    }


def _drafted(analysis: Analysis) -> dict[str, Any]:
    """The impression, who wrote it and what was struck of it."""
    if analysis.impression is None:
        return {}
    from dicom_node.results.report_impression import impression_document

    return {"impression": impression_document(analysis.impression)}


def _stages(analysis: Analysis) -> dict[str, float]:
    """Seconds by stage; reading the images is called so, for a model is loaded as well."""
    return {
        "read" if stage == "load" else stage: s for stage, s in analysis.seconds_by_stage.items()
    }


def print_analysis(uid: str, analysis: Analysis, notes: Sequence[str]) -> None:
    """What was found, and times, for a person."""
    from dicom_node.pipeline.summary import lines

    print(f"series {uid}: {analysis.outcome}")
    for line in lines(analysis):
        print(line)
    for note in notes:
        print(f"  note: {note}")
    if analysis.impression is not None:
        from dicom_node.results.draft_record import draft_record, record_lines

        for line in record_lines(draft_record(analysis.impression)):
            print(f"  {line}")
    inner = analysis.prediction.seconds_by_stage
    within = ", ".join(
        f"{words} {inner[stage]:.2f}" for stage, words in _WITHIN_THE_MODEL if stage in inner
    )
    print("  seconds: " + ", ".join(
        f"{stage} {s:.2f}" + (f" ({within})" if stage == "model" and within else "")
        for stage, s in _stages(analysis).items()
    ))
