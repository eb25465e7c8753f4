"""The AE specification of the conformance statement (PS3.2): associations begun and accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_node.operations.conformance_names import (
    asks_for_commitment,
    context_tables,
    status_table,
)
from dicom_node.operations.document import Section, Table, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_node.config import Config
    from dicom_node.operations.conformance_facts import Context, Facts

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_NONE = "None"
_SCP_ROLE = "SCP/SCU role selection, SCP"


def application_entity(config: Config, facts: Facts) -> Section:
    """The node as one application entity."""
    return Section(
        f"AE {config.node.ae_title}",
        (),
        (
            _sop_classes(),
            _policies(config, facts),
            Section("Association initiation policy", (), tuple(_initiation(config, facts))),
            Section("Association acceptance policy", (), tuple(_acceptance(config, facts))),
        ),
    )


def _sop_classes() -> Section:
    return Section(
        "SOP classes",
        (
            "Standard conformance to the SOP classes of the overview, in the roles that it names. "
            "The tables below say in which presentation contexts.",
        ),
    )


def _policies(config: Config, facts: Facts) -> Section:
    most = sum(peer.associations for peer in config.peers.values() if peer.speaks_dimse)
    negotiation = facts.negotiation
    identity = table(
        "Implementation identifying information",
        ("Item", "Value"),
        [
            ("Implementation Class UID", negotiation.implementation_class_uid),
            ("Implementation Version Name", negotiation.implementation_version_name),
        ],
    )
    return Section(
        "Association policies",
        (),
        (
            Section(
                "General",
                (
                    f"Application context: {_APPLICATION_CONTEXT}. Maximum PDU length received: "
                    f"{config.intake.max_pdu_bytes} bytes as acceptor, "
                    f"{negotiation.initiator_maximum_pdu_bytes} as initiator of storage.",
                ),
            ),
            Section(
                "Number of associations",
                (
                    f"Accepted at a time: {config.access.max_associations}; more are rejected for "
                    f"the moment. Initiated at a time, for results: {most}, as configured for each "
                    "peer; besides, one to each peer for storage commitment, its reports and "
                    "queries.",
                ),
            ),
            Section(
                "Asynchronous nature",
                ("Asynchronous operations are not negotiated: one operation at a time.",),
            ),
            Section("Implementation identifying information", (identity,)),
        ),
    )


def _initiation(config: Config, facts: Facts) -> list[Section]:
    proposed = facts.proposed
    activities = [
        _activity(
            "Store results",
            [
                "Each object goes in the best form that the destination takes, as found out by "
                "an association that proposes what the table lists and sends nothing; it is "
                "repeated at the start, when a destination comes back, daily, and by "
                "`dicom-node check`. An object is proposed in its own transfer syntax and in "
                "those that it can be turned into without loss, one context each, at most "
                f"{proposed.contexts_at_most} in an association. `dicom-node send` proposes "
                "whatever the given files are.",
            ],
            context_tables("Presentation contexts proposed for results", proposed.storage, _NONE),
            [
                status_table("Response to C-STORE", proposed.store_statuses),
                _waits_table("Time limits as storage SCU", facts.waits.storage),
            ],
        ),
    ]  # fmt: skip
    if any(asks_for_commitment(config, peer) for peer in config.peers.values()):
        activities.append(_commitment_request(config, facts))
    activities += [_commitment_report(config, facts), *_queries(facts), _verification(facts)]
    return activities


def _activity(
    title: str,
    about: Sequence[str],
    contexts: Sequence[str | Table],
    specific: Sequence[str | Table],
) -> Section:
    return Section(
        title,
        (),
        (
            Section("Description and sequencing", tuple(about)),
            Section("Presentation contexts", tuple(contexts)),
            Section("SOP specific conformance", tuple(specific)),
        ),
    )


def _commitment_request(config: Config, facts: Facts) -> Section:
    delivery = config.delivery
    return _activity(
        "Ask for storage commitment",
        [
            "One N-ACTION lists what one destination owes for all jobs. The association stays open "
            f"for {delivery.commitment_wait_s:g} seconds; a report may come on it, or on a new "
            "association to the node, with or without role selection.",
        ],
        context_tables(
            "Presentation contexts proposed for storage commitment", facts.proposed.commitment,
            _NONE,
        ),
        [
            "Without a report within "
            f"{delivery.commitment_within_s:g} seconds it is asked again. Where commitment is "
            "`auto` and not offered, the answer to C-STORE counts; where it is `required`, a "
            f"delivery is dead after {delivery.retry_for_h:g} hours without it. Objects in the "
            "Failed SOP Sequence of a report are sent again.",
        ],
    )  # fmt: skip


def _commitment_report(config: Config, facts: Facts) -> Section:
    return _activity(
        "Report storage commitment",
        [
            "When the AE that asked has released, the report goes out on a new association to the "
            "configured address of that AE title; again with growing pauses while it fails.",
        ],
        context_tables(
            "Presentation contexts proposed for reports", facts.proposed.commitment_report,
            _SCP_ROLE,
        ),
        [
            "Event type 1 when all instances are committed, 2 with a Failed SOP Sequence "
            "otherwise. An instance is committed when its file is in the spool, under the SOP "
            "class that was asked for. The node is no archive: it keeps the study at least until "
            "its results are delivered, and until "
            f"{config.storage.keep_committed_for_d:g} days after the report.",
        ],
    )  # fmt: skip


def _queries(facts: Facts) -> list[Section]:
    waits = _waits_table("Time limits of queries and retrievals", facts.waits.query)
    keys = table(
        "Keys of C-FIND, Study Root",
        ("Level", "Keys matched", "Keys returned"),
        [
            ("STUDY", "Patient ID, Study Date (a range)",
             "Study Instance UID, Issuer of Patient ID"),
            ("SERIES", "Study Instance UID, Series Instance UID",
             "Number of Series Related Instances; of an earlier study also Modality, Series "
             "Description and what the rule's condition names"),
            ("IMAGE", "Study Instance UID, Series Instance UID", "SOP Instance UID, SOP Class UID"),
        ],
    )  # fmt: skip
    return [
        _activity(
            "Ask how many images a series has",
            [
                "Of the AE that sends a series, where it is a peer with `query: auto`: at the "
                "SERIES level, and at the IMAGE level when the count is missing or higher than "
                "what has arrived.",
                "Where a rule has an input `prior` with `fetch_from`, that peer is asked at the "
                "STUDY level for earlier studies of the patient, and at the SERIES level for what "
                "is in them; the series that is chosen, and Segmentations of its study, are "
                "fetched as missing images are.",
            ],
            context_tables("Presentation contexts proposed for queries", facts.proposed.query,
                           _NONE),
            [keys, waits],
        ),
        _activity(
            "Fetch missing images",
            [
                "By C-MOVE to the node's own AE title, or by C-GET; `retrieve` of the peer says "
                "which. `dicom-node fetch` does the same by hand, for studies and series.",
            ],
            [
                *context_tables("Presentation contexts proposed for retrieval",
                                facts.proposed.retrieve, _NONE),
            ],
            [
                "With C-GET, the storage SOP classes of the series are proposed besides (those of "
                "section 4.1.4 when they are not known, as many as fit), as SCP by role "
                "selection, in the transfer syntaxes that the node accepts.",
            ],
        ),
    ]  # fmt: skip


def _verification(facts: Facts) -> Section:
    return _activity(
        "Verify a connection",
        ["`dicom-node check` and `dicom-node echo` send C-ECHO to peers."],
        context_tables(
            "Presentation contexts proposed for verification", facts.proposed.verification, _NONE
        ),
        ["A status other than success counts as no answer."],
    )


def _acceptance(config: Config, facts: Facts) -> list[Section]:
    accepted = facts.accepted
    return [
        _activity(
            "Receive images",
            [
                "A C-STORE is answered when the file and its directory entry are on disk. One "
                "association may carry any number of series.",
                "An association of an AE that wants to store is rejected for the moment when the "
                "disk would not hold a study of the usual size of that AE.",
            ],
            _storage_contexts(config, accepted.storage),
            [
                "Storage level 2 (full): no attribute is discarded, coerced or checked against "
                "its IOD. An instance that is sent again with other bytes replaces the former "
                "file, which goes to quarantine.",
                status_table("Response to C-STORE, as SCP", accepted.store_statuses),
            ],
        ),
        _activity(
            "Answer a verification",
            ["A C-ECHO is answered with success."],
            context_tables(
                "Presentation contexts accepted for verification", accepted.verification, _NONE
            ),
            ["Standard conformance."],
        ),
        _activity(
            "Storage commitment, procedure steps and available instances",
            [
                "A modality may ask the node to commit to what it has stored, and a destination "
                "reports on what the node has asked. Modality Performed Procedure Steps and "
                "Instance Availability Notifications tell how many instances a series has; the "
                "node waits for them, and keeps nothing else of the step.",
            ],
            context_tables(
                "Presentation contexts accepted for DIMSE-N", accepted.services,
                "SCP/SCU role selection, either role",
            ),
            [
                table(
                    "Requests served", ("SOP class", "Request"),
                    list(accepted.requests),
                ),
                status_table("Response to DIMSE-N, as SCP", accepted.service_statuses),
                "The report on a storage commitment follows on the same association (seconds "
                f"after the request: {config.intake.commitment_report_after_s:g}), or on a new "
                "one when the AE has released.",
                status_table("Failure Reason in the report", accepted.commitment_failures),
            ],
        ),
    ]  # fmt: skip


def _storage_contexts(config: Config, storage: Sequence[Context]) -> list[Table | str]:
    private = len(config.intake.private_sop_classes)
    named = f", {private} of them private and configured" if private else ""
    return [
        f"{len(storage)} storage SOP classes{named}. When one context offers several transfer "
        "syntaxes, the first of the list below is accepted.",
        *context_tables("Presentation contexts accepted for storage", storage, _NONE),
    ]


def _waits_table(title: str, waits: Sequence[tuple[str, float]]) -> Table:
    return table(title, ("Wait for", "Seconds"), [(what, f"{wait_s:g}") for what, wait_s in waits])
