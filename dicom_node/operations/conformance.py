"""The DICOM Conformance Statement (PS3.2) of a node, from its settings and its code.

    facts     `conformance_facts`     what intake, delivery, results and templates know
    objects   `conformance_objects`   which attributes results hold, found out by building them
    here      the frame of the statement; its larger parts are `conformance_entity` (the AE
              specification), `conformance_settings` and `conformance_annexes`
    document  `document`              Markdown and JSON

No password, token or path of this host gets into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dicom_node.operations.conformance_annexes import annexes
from dicom_node.operations.conformance_entity import application_entity
from dicom_node.operations.conformance_names import asks_for_commitment
from dicom_node.operations.conformance_settings import (
    character_sets,
    configuration,
    network_interfaces,
    security,
)
from dicom_node.operations.document import Section, table

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.operations.conformance_facts import Facts

_DATA_FLOW = """```
images           remote AE  -- C-STORE -->                     node: spool and ledger
completeness     remote AE  <-- C-FIND, C-MOVE, C-GET --       node: what is there, what is missing
priors           remote AE  <-- C-FIND, C-MOVE, C-GET --       node: earlier studies of the patient
                 remote AE  -- N-CREATE, N-SET -->             node: MPPS, available instances
analysis         node: series complete -> rule -> model -> objects, checked by reading them again
results          remote AE  <-- C-STORE or STOW-RS --          node
commitment       remote AE  <-- N-ACTION --                    node, for results
                 remote AE  -- N-EVENT-REPORT -->              node
                 remote AE  -- N-ACTION -->                    node, for received images
                 remote AE  <-- N-EVENT-REPORT --              node
```"""


def build_statement(config: Config, facts: Facts) -> Section:
    """The statement of a node with these settings."""
    return Section(
        "DICOM Conformance Statement: DICOM Node",
        (
            f"Product: DICOM Node, version {facts.version}. `dicom-node conformance` prints this "
            "document from the running configuration, in the layout of DICOM PS3.2.",
        ),
        (
            _overview(config, facts),
            _introduction(),
            _implementation_model(config),
            Section("AE specifications", (), (application_entity(config, facts),)),
            network_interfaces(config),
            configuration(config),
            Section("Media interchange", ("The node neither reads nor writes exchange media.",)),
            character_sets(),
            security(config, facts),
            *annexes(facts),
            _profiles(),
            _limitations(),
        ),
    )


def _overview(config: Config, facts: Facts) -> Section:
    services = table(
        "Network services",
        ("SOP class", "UID", "User of service (SCU)", "Provider of service (SCP)"),
        list(_services(config, facts)),
    )
    return Section(
        "Conformance statement overview",
        (
            "DICOM Node has no user interface. It receives images, keeps them, notices when a "
            "series is complete, runs the models that rules choose for it, and stores "
            "segmentations and structured reports in archives.",
            services,
            "DICOM media services: none.",
        ),
    )


def _services(config: Config, facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    """One line per SOP class; what the settings turn off does not count."""
    proposed, accepted = facts.proposed, facts.accepted
    peers = config.peers.values()
    used = [*proposed.verification, *proposed.storage]
    if any(asks_for_commitment(config, peer) for peer in peers):
        used += proposed.commitment
    used += [*proposed.query, *proposed.retrieve]
    services = [*accepted.verification, *accepted.services]
    as_user = {one.sop_class_uid for one in used}
    as_provider = {one.sop_class_uid for one in (*services, *accepted.storage)}
    names = {one.sop_class_uid: one.name for one in (*services, *used)}
    for uid, name in names.items():
        yield (
            name, uid, "Yes" if uid in as_user else "No", "Yes" if uid in as_provider else "No"
        )
    number = len(accepted.storage)
    yield f"All {number} storage SOP classes of section 4.1.4", "", "By hand only", "Yes"
    if any(not peer.speaks_dimse for peer in peers):
        yield "DICOMweb STOW-RS (PS3.18 section 10.5)", "", "Yes (user agent)", "No"


def _introduction() -> Section:
    terms = table(
        "Terms",
        ("Term", "Meaning"),
        [
            ("AE", "Application entity: whoever speaks DICOM under one AE title"),
            ("Destination", "A configured peer that a rule sends results to"),
            ("Ledger", "The database of the node: every series, job, result and delivery"),
            ("Peer", "An AE or DICOMweb service that the configuration names"),
            ("Rule", "A condition on the attributes of a series, a model and destinations"),
            ("SCU, SCP", "Service class user and provider (PS3.4)"),
            ("Spool", "The folder that holds received files and results"),
        ],
    )
    return Section(
        "Introduction",
        (
            "For those who connect the node with an archive, a modality or a workstation. A "
            "conformance statement alone does not ensure that two applications work together: "
            "test the connection with `dicom-node check`, `dicom-node echo` and a study.",
            terms,
        ),
    )


def _implementation_model(config: Config) -> Section:
    return Section(
        "Implementation model",
        (),
        (
            Section("Application data flow", (_DATA_FLOW,)),
            Section(
                "Functional definition",
                (
                    f"One application entity, {config.node.ae_title}, receives and sends. Its "
                    "listener processes share one port. What was answered with success is on disk "
                    "and survives a power cut; results are sent until the destination has taken "
                    f"them, for {config.delivery.retry_for_h:g} hours.",
                ),
            ),
            Section(
                "Sequencing of real-world activities",
                (
                    "1. A remote AE stores the images of a series, over one or more associations.",
                    "2. The node finds that the series is complete: by announced counts, by the "
                    "remote AE's answer to a query, or because nothing has come for "
                    f"{config.completeness.quiet_period_s:g} seconds "
                    f"({config.completeness.after_release_s:g} after a release).",
                    "3. Rules choose models. Each job ends in objects: results, or a report that "
                    "says why there are none.",
                    "4. The objects are stored at each destination, cited objects before those "
                    "that cite them.",
                    "5. The node asks destinations that offer storage commitment for it.",
                    "A late image opens its series again and leads to a new version of the "
                    "results, whose reports name those that they replace.",
                ),
            ),
        ),
    )


def _profiles() -> Section:
    return Section(
        "IHE integration profiles",
        (
            "No conformance with an IHE integration profile is claimed. The project's "
            "documentation compares the node with the Evidence Creator of AI Results (AIR) line "
            "by line (`docs/ihe-air.md`) and says what is met, what is not, and what could not be "
            "checked.",
        ),
    )


def _limitations() -> Section:
    limits = (
        "The node negotiates no user identity.",
        "It is no query or retrieve SCP: what it keeps cannot be queried.",
        "It takes no images by DICOMweb.",
        "Received images are not coerced, and not deleted by this version.",
        "It is not a medical device.",
    )
    return Section("Limitations", tuple(f"- {limit}" for limit in limits))
