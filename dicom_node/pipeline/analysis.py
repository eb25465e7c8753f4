"""One series through one model: input, prediction, objects, gate. No network, no ledger.

``dicom-node run`` does this on files and `dicom_node.pipeline.process` does it for a job, so
what a person tries by hand is what the node does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_models.card import Card, ClassificationCard, SegmentationCard
from ai_models.card_outputs import Calibration
from ai_models.types import (
    ClassificationPrediction,
    Image,
    JointInput,
    ModelInput,
    Prediction,
    RegressionPrediction,
    TextPrediction,
)
from dicom_node.imaging.decoded import Decoded
from dicom_node.imaging.unreadable import LEFT_OUT
from dicom_node.pipeline.beforehand import beforehand
from dicom_node.pipeline.companions import LACKING, load_together
from dicom_node.pipeline.description import Findings, describe, findings_in
from dicom_node.pipeline.follow_up import Earlier, follow_up
from dicom_node.pipeline.impressions import takes_a_draft, with_impressions
from dicom_node.pipeline.loading import Loaded
from dicom_node.results import report
from dicom_node.results.equipment import Equipment
from dicom_node.results.follow_up import FollowUp
from dicom_node.results.forms import Source
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.tracked_parts import tracked_parts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ai_models.drafting.impression import Impression, Writer

# Of whom and of what a result says that it is, as far as archives keep it alike.
_SUBJECT = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip

# What is written in another way is another object: raised when objects change their content.
_FORM = 5
# What a result is not the same with, and no card says: what a worker did otherwise because memory
# did not suffice, and which version of its model another host has.
_BESIDE_THE_CARD = ("fall_back", "served_version")

Predict = Callable[[Card, ModelInput], Prediction]


@dataclass(frozen=True)
class Writing:
    """How results are written, whatever the model: by whom, when, in which language.

    ``predecessors`` are the reports on an earlier version of the series. A ``writer`` drafts the
    impression of a report; without one there is none.
    """

    equipment: Equipment
    created_at: datetime
    language: str = "en"
    predecessors: tuple[Reference, ...] = ()
    writer: Writer | None = None


@dataclass(frozen=True)
class Analysis:
    """What one model made of one series.

    ``objects`` are (kind, data set) in the order in which they must be sent: a report comes
    after the segmentation that it cites. ``request`` is what all objects were built from.
    ``impression`` is what a writer drafted and the guard kept, where one was asked.
    """

    outcome: str
    objects: tuple[tuple[str, Dataset], ...]
    loaded: Loaded
    prediction: Prediction
    findings: Findings
    seconds_by_stage: dict[str, float]
    request: ResultRequest
    impression: Impression | None = None

    def source(self) -> Source:
        """What forms of the objects are made from."""
        source = source_of(self.loaded, self.request.equipment)
        return replace(source, repaired=self.request.repaired)


def source_of(loaded: Loaded, equipment: Equipment) -> Source:
    """Headers of a series, and its images in grey when they are asked for."""
    return Source(loaded.source_images, loaded.frame_numbers, loaded.display, equipment)


def analyse(
    paths: Sequence[Path], card: Card, predict: Predict, writing: Writing,
    ahead: Decoded | None = None, *, companions: Mapping[str, Sequence[Path]] | None = None,
    missing: Mapping[str, str] | None = None, earlier: Earlier | None = None,
    made_ready: Loaded | None = None,
) -> Analysis:
    """Run the model of ``card`` on the series in ``paths`` and describe what it found.

    Images that lie in ``ahead`` are not read again. ``companions`` are the files of further
    series by their role in the card, ``missing`` says of a role why there are none.
    What is found is put beside what is in the ``earlier`` examination. ``made_ready`` is the
    series as it was read before.

    Raises
    ------
    UnsuitableInput
        The model must not be run on this series; ``reason`` says why.
    StorageFailed, WorkerLost
        The images could not be read just now.
    ModelFailed, WorkerLost, DeadlineExceeded
        As ``predict`` raises them.
    GateRefused
        A built object, read back, does not say what the model computed.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        loaded = made_ready or load_together(
            paths, card.input, companions or {}, missing or {}, ahead
        )
    with _timed(seconds, "model"), beforehand(loaded):
        prediction = predict(card, loaded.model_input)
    with _timed(seconds, "measure"):
        findings = findings_in(prediction, card, loaded)
    followed = None
    if earlier is not None:
        with _timed(seconds, "follow up"):
            followed = follow_up(earlier, card, predict, loaded, findings, identity_of)
    with _timed(seconds, "describe"):
        request = _request(card, loaded, prediction, findings, writing, followed)
        objects = describe(prediction, findings, request, loaded)
    analysis = Analysis(
        outcome="no_finding" if objects[0][0] == "negative report" else "result",
        objects=objects,
        loaded=loaded,
        prediction=prediction,
        findings=findings,
        seconds_by_stage=seconds,
        request=request,
    )
    return with_draft(analysis, writing.writer)


def with_draft(analysis: Analysis, writer: Writer | None) -> Analysis:
    """``analysis`` with the impression that ``writer`` drafts in its report.

    As it was without a writer, or a report to draft for.
    """
    if writer is None or not takes_a_draft(analysis.objects):
        return analysis
    seconds = dict(analysis.seconds_by_stage)
    with _timed(seconds, "draft"):
        objects, impression = with_impressions(
            analysis.objects, analysis.findings, analysis.request, writer
        )
    return replace(
        analysis, objects=objects, impression=impression, seconds_by_stage=seconds
    )


def identity_of(
    card: Card, loaded: Loaded, language: str = "en",
    parameters: Mapping[str, str] | None = None,
) -> ResultIdentity:
    """What the UIDs of the results are derived from: everything that can change the results."""
    configuration: dict[str, Any] = {
        "input": card.input.model_dump(mode="json"),
        # Asking for probabilities makes one more object and changes none of the others.
        "output": card.output.model_dump(mode="json", exclude={"probabilities"}),
        "runtime": card.runtime.model_dump(
            mode="json",
            include={"roi", "overlap", "precision", "network", "bundle", "nnunet", "command",
                     "endpoint", "channels_last", "compile", "tensorrt"},
        ),
        "report": [card.report, report.template_sha256(card.report, card.folder)],
        "language": language,
        "form": _FORM,
    }
    # The report tells what its card says of the model.
    configuration["told"] = [card.evidence.validated_on, *card.not_for]
    if card.explanation is not None:
        configuration["explanation"] = card.explanation.model_dump(mode="json")
    if card.monitor is not None and card.monitor.reference is not None:
        # The report tells of an input unlike the reference.
        configuration["monitor"] = card.monitor.model_dump(mode="json")
    for name in _BESIDE_THE_CARD:
        if value := (parameters or {}).get(name):
            configuration[name] = value
    # The report names what was left out: the same images without that remark are other objects.
    left_out = [note.text for note in loaded.notes if note.code == LEFT_OUT]
    if left_out:
        configuration["left_out"] = left_out
    # So is the same series with other companions, and what the report says of those it lacks.
    if isinstance(loaded.model_input, JointInput):
        configuration["joint"] = {
            "roles": {
                one.role: sorted(one.loaded.content_digests) for one in loaded.companions
            },
            "clinical": dict(loaded.model_input.clinical),
        }
    elif isinstance(loaded.model_input, Image) and loaded.model_input.clinical:
        configuration["clinical"] = dict(loaded.model_input.clinical)
    lacking = _lacking(loaded)
    if lacking:
        configuration["lacking"] = lacking
    # A corrected patient or another study makes other objects: those that are there name the old.
    source = loaded.source_images[0]
    configuration["subject"] = [str(source.get(one, "")).rstrip(" ^") for one in _SUBJECT]
    return ResultIdentity(
        input_digests=loaded.all_digests,
        model_id=card.id,
        model_version=card.version,
        weights_sha256=card.weights_sha256,
        effective_configuration=configuration,
    )


def _request(
    card: Card, loaded: Loaded, prediction: Prediction, findings: Findings, writing: Writing,
    followed: FollowUp | None = None,
) -> ResultRequest:
    parameters = prediction.algorithm.parameters
    identity = identity_of(card, loaded, writing.language, parameters)
    told = {**parameters, "configuration_sha256": identity.configuration_sha256}
    notes = tuple(one.text for one in loaded.notes if one.code not in LACKING)
    notes += (*_clinical_told(card, loaded), *_told(prediction, loaded))
    detected = findings.detected
    series_uid = str(loaded.source_images[0].SeriesInstanceUID)
    if isinstance(card, SegmentationCard) and card.output.instances:
        identity = tracked_parts(identity, findings.labels, findings.measurements, series_uid)
    if detected is not None:
        identity = detected.tracked(identity, series_uid)
        notes += (detected.note,) if detected.note else ()
        told |= detected.parameters
    if followed is not None:
        identity = followed.tracked(identity, findings.labels)
    return ResultRequest(
        source_images=loaded.source_images,
        frame_numbers=loaded.frame_numbers,
        labels=findings.labels or card.labels,
        algorithm=replace(prediction.algorithm, parameters=told),
        identity=identity,
        equipment=writing.equipment,
        created_at=writing.created_at,
        template=card.report,
        template_folder=card.folder,
        language=_language(prediction, writing),
        outputs=_outputs(prediction),
        undetermined=getattr(prediction, "undetermined", {}),
        by_slice=getattr(prediction, "by_slice", {}),
        absence=_absence(card),
        calibrated=_is_calibrated(card),
        evidence=card.evidence.validated_on,
        not_for=tuple(card.not_for),
        predecessors=writing.predecessors,
        follow_up=followed,
        input_notes=notes,
        lacking=_lacking(loaded),
        is_complete=loaded.is_complete,
        further_images=loaded.further_images,
        repaired=loaded.repaired,
    )


def _absence(card: Card) -> str:
    """The score whose lowest slice answers for the series with all of its scores."""
    if isinstance(card, ClassificationCard) and card.output.aggregate == "decisive":
        return card.output.absence or ""
    return ""


def _is_calibrated(card: Card) -> bool | None:
    if not isinstance(card, ClassificationCard):
        return None
    return all(one.calibration != Calibration() for one in card.output.scores)


def _clinical_told(card: Card, loaded: Loaded) -> tuple[str, ...]:
    """What of the patient entered the answer, as the images state it."""
    clinical: Mapping[str, float | None] = getattr(loaded.model_input, "clinical", {})
    words = {one.name: {number: word for word, number in one.values.items()}
             for one in card.input.clinical}
    return tuple(
        f"{name} as the images state it entered the answer: "
        f"{words.get(name, {}).get(value, f'{value:g}')}"
        for name, value in clinical.items() if value is not None
    )


def _lacking(loaded: Loaded) -> tuple[str, ...]:
    """What the model takes and was not given, in words that stand before the answer."""
    return tuple(one.text for one in loaded.notes if one.code in LACKING)


def _told(prediction: Prediction, loaded: Loaded) -> tuple[str, ...]:
    """Notes of the prediction, without those on what is said to be lacking before the answer."""
    explained = {f"without {role}" for role in loaded.missing}
    clinical: Mapping[str, float | None] = getattr(loaded.model_input, "clinical", {})
    explained |= {f"{name} is not known" for name, value in clinical.items() if value is None}
    return tuple(note for note in prediction.notes if note not in explained)


def _language(prediction: Prediction, writing: Writing) -> str:
    """Sentences stand in the language of the text that they are about."""
    return prediction.language if isinstance(prediction, TextPrediction) else writing.language


def _outputs(prediction: Prediction) -> dict[str, float]:
    if isinstance(prediction, ClassificationPrediction):
        return prediction.scores
    return prediction.values if isinstance(prediction, RegressionPrediction) else {}


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - started
