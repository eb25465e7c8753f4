"""Checks, one after the other or beside each other, each with its time."""

from __future__ import annotations

import threading

from dicom_node.errors import ConfigurationError
from dicom_node.operations.doctor import Check, examine, ok, warning


def test_a_text_is_well_and_an_error_of_the_node_is_a_failure() -> None:
    def wrong() -> str:
        raise ConfigurationError("is not there", key_path="node.port")

    well, bad = examine([Check("a", lambda: "fine"), Check("b", wrong, "mend it")])
    assert (well.outcome, well.found, well.todo) == ("ok", "fine", "")
    assert (bad.outcome, bad.todo) == ("failed", "mend it") and "node.port" in bad.found


def test_a_check_that_hangs_is_given_up_and_the_others_go_on() -> None:
    never = threading.Event()

    def hang() -> str:
        never.wait()
        return ""

    late, well = examine([Check("a", hang, "look", within_s=0.1), Check("b", lambda: "fine")])
    assert late.outcome == "failed" and late.found == "no answer within 0 s"
    assert well.outcome == "ok"
    never.set()


def test_a_check_that_breaks_says_only_what_kind_of_error_it_was() -> None:
    def broken() -> str:
        raise ValueError("DOE^JOHN")

    (found,) = examine([Check("a", broken, "look")])
    assert found.outcome == "failed" and found.found == "could not be looked at: ValueError"


def test_those_that_wait_do_so_beside_each_other_and_are_told_in_their_order() -> None:
    together = threading.Barrier(3, timeout=20)

    def meet() -> str:
        together.wait()
        return "met"

    checks = [Check(name, meet, beside=True) for name in "abc"]
    found = examine([*checks[:2], Check("alone", lambda: [ok("x", "1"), warning("y", "2", "3")]),
                     checks[2]])
    assert [one.check for one in found] == ["a", "b", "x", "y", "c"]
    assert {one.found for one in found} == {"met", "1", "2"}
