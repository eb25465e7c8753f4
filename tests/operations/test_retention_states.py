"""In whatever state a study is: what is not delivered is not removed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dicom_node.operations.retention import keeping_of
from dicom_node.records import DeliveryState, JobState, SeriesState
from tests.operations.retention_site import CT, D, J, S, Site

SERIES = [
    (S.RECEIVING, ""), (S.COMPLETE, ""), (S.ROUTED, ""), (S.DECLINED, "no_rule_matched"),
    (S.DECLINED, "input.slices_too_thick: x"), (S.DECLINED, "unexpected.KeyError"),
]
JOBS = [
    *((state, "produced") for state in J if state is not J.DEAD),
    (J.CANCELLED, "superseded_by_late_instances"), (J.DEAD, "input.gap: x"),
    (J.DEAD, "model.crashed: x"),
]
SENT = [
    (state, commitment, to) for state in D
    for commitment in ("", "wanted", "asked", "unanswered", "not_offered", "off")
    for to in ("pacs", "strict", "plain")
]
ENDS = st.lists(st.sampled_from(SENT), max_size=3)


def is_delivered(state: DeliveryState, commitment: str, to: str) -> bool:
    """By hand, what stands in the settings of the peers above."""
    if state in (D.COMMITTED, D.REPLACED):
        return True
    if state is not D.SENT or to == "strict":
        return False
    return to == "plain" or commitment in ("unanswered", "not_offered", "off")


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"), keep_delivered_for_h=0, keep_declined_for_h=0)
    yield made
    made.ledger.close()


def test_every_way_in_which_one_object_may_stand_decides_as_its_destination_has_it(
    one_site: Site,
) -> None:
    for end in SENT:
        study = one_site.study(
            jobs={"a": (J.SUCCEEDED, "produced")}, deliveries={"a": [end]}
        )
        keeping = keeping_of(study, one_site.ledger, one_site.config)
        # Of what was replaced alone nothing has arrived.
        may_go = is_delivered(*end) and end[0] is not D.REPLACED
        assert (keeping.removed_as == "delivered") == may_go, end
        assert (keeping.until is not None) == may_go, end


def test_every_end_of_a_job_decides_as_it_should(one_site: Site) -> None:
    for state, why in JOBS:
        study = one_site.study(
            jobs={"a": (state, why)}, deliveries={"a": [(D.COMMITTED, "", "pacs")]}
        )
        keeping = keeping_of(study, one_site.ledger, one_site.config)
        may_go = state in (J.SUCCEEDED, J.CANCELLED) or why.startswith("input.")
        may_go = may_go and not why.startswith("superseded")
        assert bool(keeping.removed_as) == may_go, (state, why)


@examples(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    series=st.sampled_from(SERIES),
    jobs=st.lists(st.tuples(st.sampled_from(JOBS), ENDS), max_size=2),
    asked=st.booleans(),
    owed=st.booleans(),
)
def test_nothing_is_removed_that_is_not_delivered(
    one_site: Site,
    series: tuple[SeriesState, str],
    jobs: list[tuple[tuple[JobState, str], list[tuple[DeliveryState, str, str]]]],
    asked: bool,
    owed: bool,
) -> None:
    site = one_site
    named = dict(zip("ab", jobs, strict=False))
    study = site.study(
        series=series[0], reason=series[1],
        jobs={name: one for name, (one, _) in named.items()},
        deliveries={name: sent for name, (_, sent) in named.items()},
    )
    now = datetime.now(UTC)
    if asked:
        items = [(CT, f"{study}.1.1")]
        site.ledger.commitment_requests.record(
            f"9.{study}", "CT01", items, now=now, report_at=now + timedelta(hours=1)
        )
    if owed and named:
        site.ledger.duties.add("answer", f"{study.removeprefix('1.2.')}-a", "job.dead")
    gone = site.retention.remove(study) is not None
    assert gone != site.is_here(study)
    ends = [end for _, sent in named.values() for end in sent]
    finished = all(
        state in (J.SUCCEEDED, J.CANCELLED) or (state is J.DEAD and why.startswith("input."))
        for (state, why), _ in named.values()
    )
    if gone:
        assert series[0] in (S.ROUTED, S.DECLINED)
        assert not series[1].startswith("unexpected")
        assert not asked
        assert not (owed and named)
        assert finished
        assert all(is_delivered(*end) for end in ends)
        for (state, _), sent in named.values():
            arrived = [end for end in sent if end[0] in (D.SENT, D.COMMITTED)]
            assert state is J.CANCELLED or arrived or any(
                end[0] in (D.SENT, D.COMMITTED) for end in ends
            )
        if not named:
            assert series == (S.DECLINED, "no_rule_matched")
    if asked:
        (request,) = site.ledger.commitment_requests.due("CT01", now + timedelta(hours=2), 1)
        site.ledger.commitment_requests.end(request, "dead", "peer.unknown", now)
