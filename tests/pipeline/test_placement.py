"""Where a job goes: the rules of the module, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.pipeline.placement import Candidate, place, place_ahead


def device(number: int, name: str = "", **changes: Any) -> Candidate:
    told = {"is_idle": True, "is_warm": False, "need_mib": 4000.0, "budget_mib": 16000.0, **changes}
    return Candidate(number, name or f"cuda:{number}", **told)


def chosen(*candidates: Candidate, **options: Any) -> int | None:
    found = place(candidates, **options)
    return None if found is None else found.number


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        pytest.param([device(0)], 0, id="the only one"),
        pytest.param([device(0), device(1)], 0, id="the first of equals"),
        pytest.param([device(0), device(1, is_warm=True)], 1, id="where the model is warm"),
        pytest.param(
            [device(0), device(1, is_warm=True, held_mib=15000.0)], 1, id="warm before room"
        ),
        pytest.param(
            [device(0, held_mib=9000.0), device(1, held_mib=2000.0)], 1, id="where most room is"
        ),
        pytest.param([device(0, budget_mib=3000.0), device(1)], 1, id="only where it fits"),
        pytest.param(
            [device(0, budget_mib=3000.0, is_warm=True), device(1)], 1, id="fitting before warm"
        ),
        pytest.param(
            [device(0, need_mib=20000.0), device(1, need_mib=9000.0)], 1,
            id="what another kind of device needs is another figure",
        ),
        pytest.param([device(0, held_mib=16000.0)], 0, id="warm models are no hindrance"),
        pytest.param([device(0, is_idle=False), device(1)], 1, id="an idle one, not the busy"),
        pytest.param(
            [device(0, is_idle=False, is_warm=True), device(1)], 1, id="idle before warm and busy"
        ),
        pytest.param([device(0, is_idle=False), device(1, is_idle=False)], None, id="all busy"),
        pytest.param(
            [device(0, is_idle=False), device(1, budget_mib=3000.0)], None,
            id="it waits for the busy one that fits",
        ),
        pytest.param(
            [device(0, budget_mib=1000.0), device(1, budget_mib=3000.0)], 1,
            id="what fits nowhere goes to the largest",
        ),
        pytest.param(
            [device(0, budget_mib=1000.0), device(1, budget_mib=3000.0, is_idle=False)], 0,
            id="or to the largest that is idle",
        ),
        pytest.param(
            [device(0, budget_mib=1000.0, is_idle=False)], None, id="or waits when none is idle"
        ),
        pytest.param([device(0), device(1, budget_mib=None)], 1, id="an unknown one may be empty"),
        pytest.param([device(0, "cpu"), device(1)], 1, id="an accelerator before the processor"),
        pytest.param(
            [device(0, "cpu", is_warm=True, budget_mib=99000.0), device(1, "MIG-1")], 1,
            id="however warm and large the processor",
        ),
        pytest.param(
            [device(0, "cpu"), device(1, is_idle=False)], 0, id="the processor if all else is busy"
        ),
    ],
)
def test_a_job_goes(devices: list[Candidate], expected: int | None) -> None:
    assert chosen(*devices) == expected


@pytest.mark.parametrize(
    ("devices", "avoid", "expected"),
    [
        ([device(0, is_warm=True), device(1)], {0}, 1),
        ([device(0), device(1, is_idle=False)], {0}, None),
        ([device(0)], {0}, 0),
        ([device(0), device(1)], {0, 1}, 0),
        ([device(0), device(1, "cpu")], {0}, 1),
        ([device(0), device(1, budget_mib=100.0)], {0}, 1),
    ],
)
def test_a_job_goes_elsewhere_than_it_was_lost(
    devices: list[Candidate], avoid: set[int], expected: int | None
) -> None:
    assert chosen(*devices, avoid=avoid) == expected


def test_a_model_that_another_host_serves_leaves_the_accelerators_to_others() -> None:
    devices = [device(0, is_warm=True, need_mib=0.0), device(1, "cpu", need_mib=0.0)]
    assert chosen(*devices, on_processor=True) == 1
    assert chosen(devices[0], on_processor=True) == 0


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([device(0), device(1, held_mib=9000.0)], 0),
        ([device(0, is_idle=False), device(1)], 1),
        ([device(0, held_mib=15000.0)], None),
        ([device(0, budget_mib=1000.0)], None),
        ([device(0, is_idle=False)], None),
        ([device(0), device(1, is_warm=True, is_idle=False)], None),
        ([device(0, budget_mib=None)], 0),
    ],
)
def test_a_model_is_loaded_ahead_only_where_nothing_stands_in_its_way(
    devices: list[Candidate], expected: int | None
) -> None:
    found = place_ahead(devices)
    assert (None if found is None else found.number) == expected
