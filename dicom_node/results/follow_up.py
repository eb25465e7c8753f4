"""What became of findings since an earlier examination: for reports and for tracking.

A volume counts as changed when it has changed by a quarter at least: below that the error of
measurement explains it (British Thoracic Society 2015, Thorax 70 Suppl 2; NELSON). A doubling time
is told of what has grown by that much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ai_models.array.growth import volume_doubling_time_d
from ai_models.types import Label
from dicom_node.results.identity import ResultIdentity, TrackedIdentity
from dicom_node.results.report_numbers import ml_text
from dicom_node.results.request import Reference
from dicom_node.results.segmentation_segments import finding_of

if TYPE_CHECKING:
    from sr_templates.narrative import Narrator

CHANGED_BY = 0.25
DOUBLING_TIME = "volume_doubling_time_d"
Change = Literal["grown", "shrunk", "steady"]


@dataclass(frozen=True)
class EarlierFinding:
    """A finding of the earlier examination; ``kind`` is `kind_of` its label."""

    name: str
    kind: str
    tracking_uid: str
    volume_ml: float
    centroid_lps_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Followed:
    """A finding that was there before, and its volume now."""

    earlier: EarlierFinding
    volume_ml: float

    @property
    def ratio(self) -> float:
        """Volume now to volume then."""
        return self.volume_ml / self.earlier.volume_ml

    @property
    def change(self) -> Change:
        """What can be said of it."""
        if self.ratio >= 1 + CHANGED_BY:
            return "grown"
        return "shrunk" if self.ratio <= 1 - CHANGED_BY else "steady"


@dataclass(frozen=True)
class FollowUp:
    """The present findings beside those of an earlier examination.

    Attributes
    ----------
    days
        Between the two acquisitions.
    followed
        By label value, what was there before.
    new, beyond_earlier
        Label values of findings that were not there, and of those whose place the earlier images
        do not show.
    gone, beyond_present
        Earlier findings that are not there now, and those whose place the present images do not
        show.
    references
        The images of the earlier examination.
    basis
        JSON values that stand for the earlier examination in the identity of results.
    problem
        Why nothing could be compared; then all else is empty.
    """

    days: int = 0
    followed: Mapping[int, Followed] = field(default_factory=dict)
    new: tuple[int, ...] = ()
    beyond_earlier: tuple[int, ...] = ()
    gone: tuple[EarlierFinding, ...] = ()
    beyond_present: tuple[EarlierFinding, ...] = ()
    references: tuple[Reference, ...] = ()
    basis: tuple[Any, ...] = ()
    problem: str = ""

    def numbers(self, label_value: int) -> dict[str, float]:
        """Numbers of a label for the report, by their names in the template."""
        doubling_d = self.doubling_time_d(label_value)
        return {} if doubling_d is None else {DOUBLING_TIME: doubling_d}

    def doubling_time_d(self, label_value: int) -> float | None:
        """Days in which the volume doubles, of a finding that has grown."""
        one = self.followed.get(label_value)
        if one is None or one.change != "grown" or self.days < 1:
            return None
        return volume_doubling_time_d(one.volume_ml, one.earlier.volume_ml, self.days)

    def tracked(self, identity: ResultIdentity, labels: Sequence[Label]) -> ResultIdentity:
        """``identity`` of results that depend on the earlier examination as well.

        A finding that was there before keeps its Tracking UID.
        """
        known = dict(identity.tracking_uids) if isinstance(identity, TrackedIdentity) else {}
        for label in labels:
            if label.value in self.followed:
                known[finding_of(label)] = self.followed[label.value].earlier.tracking_uid
        stands_for = list(self.basis) or [self.problem]
        configuration = {**identity.effective_configuration, "earlier": stands_for}
        return TrackedIdentity(
            identity.input_digests, identity.model_id, identity.model_version,
            identity.weights_sha256, configuration, known,
        )

    def told(
        self, narrator: Narrator, labels: Sequence[Label], named: Callable[[str], str]
    ) -> list[str]:
        """The sentences of a report on ``labels``; ``named`` puts a name into its language."""
        if self.problem:
            return [narrator.follow_up("not_compared", reason=self.problem.rstrip("."))]
        days = str(self.days)
        sentences = [narrator.follow_up("compared", days=days)]
        for value, name in ((label.value, named(label.name)) for label in labels):
            if value in self.followed:
                one = self.followed[value]
                sentences.append(narrator.follow_up(
                    one.change, name=name, days=days, before=ml_text(one.earlier.volume_ml),
                    after=ml_text(one.volume_ml), percent=f"{abs(one.ratio - 1) * 100:.0f}",
                ))
            elif value in self.new:
                sentences.append(narrator.follow_up("new", name=name, days=days))
            elif value in self.beyond_earlier:
                sentences.append(narrator.follow_up("beyond_earlier", name=name, days=days))
        for key, several in (("gone", self.gone), ("beyond_present", self.beyond_present)):
            sentences += [
                narrator.follow_up(
                    key, name=named(one.name), days=days, before=ml_text(one.volume_ml)
                )
                for one in several
            ]
        return sentences

    def document(self) -> dict[str, Any]:
        """The same as JSON values, without patient data."""
        if self.problem:
            return {"problem": self.problem}
        return {
            "days": self.days,
            "followed": [
                {
                    "value": value, "earlier": one.earlier.name, "change": one.change,
                    "tracking_uid": one.earlier.tracking_uid,
                    "earlier_volume_ml": round(one.earlier.volume_ml, 6),
                    "volume_ml": round(one.volume_ml, 6),
                    DOUBLING_TIME: _rounded(self.doubling_time_d(value)),
                }
                for value, one in self.followed.items()
            ],
            "new": list(self.new),
            "beyond_earlier": list(self.beyond_earlier),
            "gone": [_gone(one) for one in self.gone],
            "beyond_present": [_gone(one) for one in self.beyond_present],
        }


def _gone(one: EarlierFinding) -> dict[str, Any]:
    return {
        "name": one.name, "tracking_uid": one.tracking_uid, "volume_ml": round(one.volume_ml, 6),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
