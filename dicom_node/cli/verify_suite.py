"""The conformance suite in its order: the card, the model alone, its answers, its objects, its end.

Nothing of the model runs in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ai_models.card import Card, load_card
from ai_models.conformance import companions, geometry, inputs, quality, repeating
from ai_models.conformance.check import Check, failed, judged, not_applicable, passed
from ai_models.conformance.scene import Scene, scene_for, scene_of
from ai_models.conformance.spacing_order import spacing_doubt
from ai_models.prediction.quality import without_quality
from ai_models.trust import Site, why_refused
from ai_models.types import ModelInput, Prediction
from ai_models.weights import verify_weights
from dicom_node.cli import verify_objects, verify_workers
from dicom_node.cli.series_roles import Together, loaded_together
from dicom_node.cli.verify_laboratory import checks_in_laboratory
from dicom_node.cli.verify_model import VerifiedModel, WorkerEvents
from dicom_node.errors import NodeError
from dicom_node.node_models import check_report
from dicom_node.pipeline.inference import InferencePool

CARD, SITE, WEIGHTS, REPORT, SERIES, ANSWER = (
    "card", "site", "weights", "report", "series", "answer",
)


@dataclass(frozen=True)
class Bench:
    """What the suite runs with.

    Attributes
    ----------
    device, site
        What runs the model, and what this site allows it.
    scratch
        A folder for the suite alone.
    deadline_s
        Of one job.
    given
        A series to show in the place of what is generated, with those that belong to it.
    quick
        Smaller volumes, and fewer of them.
    keep
        Where what is drawn stays as a DICOM series.
    """

    device: str
    site: Site
    scratch: Path
    deadline_s: float
    given: Together | None = None
    quick: bool = False
    keep: Path | None = None


def run_suite(card: Card, bench: Bench) -> Iterator[Check]:
    """Every check as it is done; where one makes the rest pointless, the rest is left out."""
    gates = list(_gates(card, bench.site))
    yield from gates
    if any(one.outcome == "failed" for one in gates):
        return
    try:
        scene = _scene(card, bench)
    except NodeError as error:
        yield failed(SERIES, f"{error.reason}: {error}")
        return
    besides = _kept(card, scene, bench) + _order(card, scene, bench)
    yield passed(SERIES, f"{scene.what} is shown{besides}")
    alone = []
    for check in checks_in_laboratory(
        without_quality(card), bench.device, bench.site, scene.reference,
        bench.scratch / "laboratory",
    ):
        alone.append(check)
        yield check
    if not alone or alone[0].outcome == "failed":
        return
    events, scratch = WorkerEvents(), bench.scratch / "arrays"
    pool = InferencePool([bench.device], bench.site, scratch, events)
    try:
        bare = without_quality(card)
        model = VerifiedModel(bare, pool, events, scratch, bench.deadline_s)
        yield from _of_model(model, scene, bench)
        yield quality.check_quality(card, lambda source: model.predict_as(card, source), scene)
        series = verify_objects.SeriesMaker(card, bench.scratch / "parts")
        yield verify_objects.check_part(card, scene, series)
    finally:
        pool.close()


def _gates(card: Card, site: Site) -> Iterator[Check]:
    def is_allowed() -> Check:
        refusal = why_refused(card, site)
        return failed(SITE, refusal) if refusal else passed(SITE, f"allowed for {site.use}")

    def has_its_weights() -> Check:
        verify_weights(card)
        if card.weights.path is None:
            return not_applicable(WEIGHTS, "another host has them: their SHA-256 is not checked")
        return passed(WEIGHTS, f"as the card says ({card.weights_sha256})")

    def has_a_report() -> Check:
        check_report(card)
        return passed(REPORT, f"{card.report} fits a {card.task}")

    yield judged(CARD, lambda: passed(CARD, f"{load_card(card.folder).id} {card.version}"))
    yield judged(SITE, is_allowed)
    yield judged(WEIGHTS, has_its_weights)
    yield judged(REPORT, has_a_report)


def _scene(card: Card, bench: Bench) -> Scene:
    if bench.given is None:
        return scene_for(card, quick=bench.quick)
    return scene_of(loaded_together(bench.given, card.input).model_input)


def _kept(card: Card, scene: Scene, bench: Bench) -> str:
    if bench.keep is None or bench.given:
        return ""
    series = verify_objects.SeriesMaker(card, bench.keep)
    if series.modality is None:
        return f"; not kept: no series of {', '.join(card.modality)} is generated here"
    series.write(scene.reference, series.modality, "phantom")
    return f"; kept in {bench.keep / 'phantom'}"


def _order(card: Card, scene: Scene, bench: Bench) -> str:
    doubt = spacing_doubt(card, scene.reference if bench.given else None)
    return f"; look at this: {doubt}" if doubt else ""


def _of_model(model: VerifiedModel, scene: Scene, bench: Bench) -> Iterator[Check]:
    card, source = model.card, scene.reference
    answers: list[Prediction] = []

    def answer() -> Check:
        answers.append(model.predict(source))
        notes = answers[0].notes
        return passed(ANSWER, f"in {model.seconds:.1f} s: {'; '.join(notes) or 'no notes'}")

    answered = judged(ANSWER, answer)
    yield answered
    if answered.outcome == "failed":
        return
    reference, predict = answers[0], model.predict
    yield geometry.check_flips(card, predict, scene, reference, quick=bench.quick)
    yield geometry.check_axes(card, predict, scene, reference)
    # A series that was given is as fine as it is.
    is_small = bench.quick and not bench.given
    yield geometry.check_oblique(card, predict, scene, reference, quick=is_small)
    yield geometry.check_spacing(card, predict, scene, reference, quick=is_small)
    for look in (
        inputs.check_empty, inputs.check_not_finite, inputs.check_slices, inputs.check_unit,
        inputs.check_kind,
    ):
        yield look(card, predict, scene)
    if card.input.is_joint:
        yield companions.check_turned_companions(card, predict, scene, reference)
        yield companions.check_missing_companions(card, predict, scene)
        yield companions.check_unknown_patient(card, predict, scene)
    yield repeating.check_determinism(predict, scene, reference)
    yield repeating.check_precision(card, _in_full(model), scene, reference)
    yield from _of_objects(model, scene, reference, bench)
    yield verify_workers.check_deadline(model, source, reference)
    yield verify_workers.check_lost_worker(model, source, reference)


def _in_full(model: VerifiedModel) -> Callable[[ModelInput], Prediction]:
    def predict(source: ModelInput) -> Prediction:
        card = repeating.in_full_precision(model.card)
        return model.predict_as(card or model.card, source)

    return predict


def _of_objects(
    model: VerifiedModel, scene: Scene, reference: Prediction, bench: Bench
) -> Iterator[Check]:
    card = model.card
    series = verify_objects.SeriesMaker(card, bench.scratch / "series")
    shown = bench.given
    if shown is None and series.modality is not None:
        shown = series.write(scene.reference, series.modality, "phantom")
    yield verify_objects.check_objects(card, model.ask, scene, reference, shown)
    yield verify_objects.check_nothing_found(card, model.ask, scene, reference, series)
    yield verify_objects.check_modality(card, scene, series)
