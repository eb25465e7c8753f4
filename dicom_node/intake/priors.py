"""Finds the earlier examination that a job asks for, and fetches it from a peer where it must.

    PriorSearch.want(job, ...)  ->  C-FIND by the patient's ID  ->  C-MOVE or C-GET  ->  the ledger

What is found is told to ``ledger.inputs`` once it is complete here, and so is that there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.config_rules import RuleInput
    from dicom_node.records import Job, Series


class PriorSearch:
    """Searches for earlier examinations in the background."""

    def want(
        self, job: Job, study_instance_uid: str, series_instance_uid: str, rule_input: RuleInput
    ) -> None:
        """Look for an examination before that of the series; queues the question, never waits.

        May be called as often as the job is looked at: a search that is under way goes on, and
        one whose answer the ledger has is not begun again by the same process.
        """

    def is_prior(self, series: Series) -> bool:
        """Whether a series is here only because a search fetched it: no rule may run on it."""
        return False
