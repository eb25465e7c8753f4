"""The statement says what the node really does, and changes with its settings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import sop_class
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.ae import ApplicationEntity

from bench.raw_scu import RawScu
from dicom_node.config import Config
from dicom_node.delivery.status import classify
from dicom_node.errors import SUCCESS
from dicom_node.intake import header, quota, sources, store, walker
from dicom_node.operations.conformance import build_statement
from dicom_node.operations.conformance_facts import Context, Facts
from dicom_node.operations.document import Section, Table, to_markdown
from tests.intake.serving import serving_node

PEERS = {
    "pacs": {"ae_title": "ARCHIVE", "host": "pacs.example.org", "port": 4242},
    "web": {
        "dicomweb": {
            "url": "https://web.example.org/dicom-web",
            "token_file": "/run/secrets/token-of-web",
            "ca_file": "/etc/private/ca-of-web.pem",
        }
    },
}
CONTEXTS_AT_MOST = 128
Pair = tuple[str, str]


def statement(facts: Facts, **settings: Any) -> Section:
    return build_statement(Config.model_validate({"peers": PEERS, **settings}), facts)


def every(document: Section) -> Iterator[Section]:
    yield document
    for section in document.sections:
        yield from every(section)


def section(document: Section, title: str) -> Section:
    (found,) = [one for one in every(document) if one.title == title]
    return found


def tables(document: Section) -> dict[str, Table]:
    return {
        block.title: block
        for one in every(document)
        for block in one.blocks
        if isinstance(block, Table)
    }


def stated_pairs(document: Section, title: str) -> set[Pair]:
    """SOP class and transfer syntax of every presentation context in the tables of that title."""
    found = tables(document)
    lists = {
        name.rsplit(" ", 1)[1]: [row[1] for row in one.rows]
        for name, one in found.items()
        if name.startswith(f"{title}: transfer syntaxes ")
    }
    return {(row[1], uid) for row in found[title].rows for uid in lists[row[2]]}


def accepted_pairs(port: int, pairs: Sequence[Pair]) -> set[Pair]:
    """Those of ``pairs`` that a listener accepts, each asked for in a context of its own."""
    found = set()
    for start in range(0, len(pairs), CONTEXTS_AT_MOST):
        asked = {
            2 * number + 1: pair
            for number, pair in enumerate(pairs[start : start + CONTEXTS_AT_MOST])
        }
        scu = RawScu(port, [(number, uid, [syntax]) for number, (uid, syntax) in asked.items()])
        found |= {asked[number] for number, result in scu.accepted.items() if result == 0}
        scu.release()
    return found


def test_what_a_running_listener_accepts_is_what_the_statement_says(
    facts: Facts, tmp_path: Path
) -> None:
    document = statement(facts)
    stated = set().union(
        *(
            stated_pairs(document, f"Presentation contexts accepted for {what}")
            for what in ("storage", "verification", "DIMSE-N")
        )
    )
    others = [
        uid
        for name in dir(sop_class)
        if name.endswith("_CLASSES") and name not in ("_SERVICE_CLASSES", "_STORAGE_CLASSES")
        for uid in getattr(sop_class, name).values()
    ]
    plain = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50")
    asked = [(uid, syntax) for uid in dict.fromkeys(others) for syntax in plain]
    asked += [
        (uid, syntax) for uid in sop_class._STORAGE_CLASSES.values()
        if uid.startswith("1.2.840.10008.") for syntax in ALL_TRANSFER_SYNTAXES
    ]  # fmt: skip
    assert stated < set(asked)
    with serving_node(tmp_path, "streamed") as node:
        assert accepted_pairs(node.port, asked) == stated


def test_a_client_of_another_maker_is_accepted_for_every_class_that_is_stated(
    facts: Facts, tmp_path: Path
) -> None:
    every_class = [*facts.accepted.storage, *facts.accepted.verification]
    accepted = set()
    with serving_node(tmp_path, "streamed") as node:
        for start in range(0, len(every_class), CONTEXTS_AT_MOST):
            client = ApplicationEntity("CLIENT")
            for one in every_class[start : start + CONTEXTS_AT_MOST]:
                client.add_requested_context(one.sop_class_uid, list(one.transfer_syntax_uids))
            association = client.associate("127.0.0.1", node.port, ae_title="DICOMNODE")
            assert association.is_established
            assert association.rejected_contexts == []
            accepted |= {str(one.abstract_syntax) for one in association.accepted_contexts}
            association.release()
    assert accepted == {one.sop_class_uid for one in every_class}


def test_of_several_transfer_syntaxes_the_first_of_the_list_is_accepted(
    facts: Facts, tmp_path: Path
) -> None:
    listed = facts.accepted.storage[0].transfer_syntax_uids
    with serving_node(tmp_path, "streamed") as node:
        for first, *others in (listed, listed[5:], listed[-2:]):
            scu = RawScu(node.port, [(1, facts.accepted.storage[0].sop_class_uid,
                                      [*reversed(others), first])])
            assert scu.transfer_syntax[1] == first
            scu.release()


def test_private_class_that_is_configured_is_stated_and_counted() -> None:
    from dicom_node.cli.conformance_facts import collect

    config = Config.model_validate({"intake": {"private_sop_classes": ["1.3.12.2.1107.5.9.1"]}})
    document = build_statement(config, collect(config))
    storage = "Presentation contexts accepted for storage"
    assert "1.3.12.2.1107.5.9.1" in {row[1] for row in tables(document)[storage].rows}
    assert "1 of them private" in to_markdown(document)


def raised_errors() -> set[str]:
    """Names of the errors that the receiving of an instance raises on purpose."""
    found = {"OutOfSpace", "StorageFailed"}
    for module in (store, header, sources, quota, walker):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                found.add(ast.unparse(node.exc.func))
    return found - {"storage_error"}


def test_every_error_of_receiving_has_its_status_in_the_statement(facts: Facts) -> None:
    stated = [row[0] for row in tables(statement(facts))["Response to C-STORE, as SCP"].rows]
    known = {**vars(store), **vars(header), **vars(sources), **vars(quota), **vars(walker)}
    errors = {known[name] for name in raised_errors() - {"OutOfSpace", "StorageFailed"}}
    codes = {f"0x{error.status:04X}" for error in errors} | {"0xA700", "0xA701"}
    assert set(stated) == codes | {f"0x{SUCCESS:04X}"}
    assert len(stated) == len(set(stated))


@pytest.mark.parametrize("status", [0x0000, 0x0110, 0x0122, 0xA700, 0xA7FF, 0xA900, 0xB007, 0xC123])
def test_what_is_done_upon_an_answer_is_what_delivery_does(facts: Facts, status: int) -> None:
    rows = tables(statement(facts))["Response to C-STORE"].rows
    covering = [
        row
        for row in rows
        for span in row[0].split(", ")
        if span != "Any other" and int(span[:6], 16) <= status <= int(span[-6:], 16)
    ]
    (row,) = covering
    meaning = classify(status)
    assert row[1] == (meaning.reason or "success")
    assert row[2].startswith("Counts as stored") == meaning.stored
    assert (row[2] == "Sent again later") == meaning.transient


def test_statement_names_the_node_as_it_is_configured(facts: Facts) -> None:
    text = to_markdown(statement(facts, node={"ae_title": "LUNGNODE", "port": 104}))
    assert "AE LUNGNODE" in text
    assert "port 104" in text
    assert "DICOMNODE" not in text


def test_peers_are_listed_and_a_dicomweb_peer_makes_the_node_a_user_agent(facts: Facts) -> None:
    found = tables(statement(facts, rules=[]))
    pacs, web = found["Remote applications"].rows
    assert pacs[:4] == ("pacs", "ARCHIVE", "pacs.example.org:4242", "Yes")
    assert web[:4] == ("web", "-", "https://web.example.org/dicom-web", "No")
    services = [row[0] for row in found["Network services"].rows]
    assert any("STOW-RS" in name for name in services)
    alone = tables(statement(facts, peers={"pacs": PEERS["pacs"]}))["Network services"]
    assert not any("STOW-RS" in row[0] for row in alone.rows)


def commitment_row(document: Section) -> tuple[str, ...]:
    (row,) = [
        row for row in tables(document)["Network services"].rows if "Commitment" in row[0]
    ]
    return row


def test_commitment_that_is_off_is_not_asked_for_and_still_answered(facts: Facts) -> None:
    asking = statement(facts)
    silent = statement(facts, delivery={"storage_commitment": "off"})
    assert commitment_row(asking)[2:] == ("Yes", "Yes")
    assert commitment_row(silent)[2:] == ("No", "Yes")
    assert section(asking, "Ask for storage commitment")
    assert "Ask for storage commitment" not in {one.title for one in every(silent)}


@pytest.mark.parametrize(
    "is_open, is_checked, text",
    [
        (False, True, "Only the calling AE titles of the configured peers are accepted."),
        (True, True, "Any calling AE title is accepted."),
        (False, False, "Any called AE title is accepted."),
    ],
)
def test_access_is_stated_as_configured(
    facts: Facts, is_open: bool, is_checked: bool, text: str
) -> None:
    access = {"accept_unknown_callers": is_open, "check_called_ae_title": is_checked}
    assert text in section(statement(facts, access=access), "Association level").blocks


def test_no_secret_and_no_path_of_the_host_is_told(facts: Facts) -> None:
    text = to_markdown(
        statement(
            facts,
            node={"data_dir": "/srv/data-of-node"},
            database={"url": "postgresql://node:hunter2@db.example.org/ledger"},
        )
    )
    for secret in ("hunter2", "db.example.org", "token-of-web", "ca-of-web", "/srv/", "/run/"):
        assert secret not in text


def test_every_table_is_whole_and_stands_alone(facts: Facts) -> None:
    lines = to_markdown(statement(facts)).splitlines()
    columns = 0
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.startswith("|"):
            columns = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        if columns == 0:
            assert before == ""
            columns = cells
        assert cells == columns, line


def test_section_that_others_refer_to_is_the_acceptance_policy(facts: Facts) -> None:
    assert "#### 4.1.4 Association acceptance policy\n" in to_markdown(statement(facts))


def test_no_conformance_with_a_profile_is_claimed(facts: Facts) -> None:
    text = " ".join(map(str, section(statement(facts), "IHE integration profiles").blocks))
    assert text.startswith("No conformance with an IHE integration profile is claimed.")


def test_what_destinations_are_asked_for_is_what_the_annex_describes(facts: Facts) -> None:
    proposed = {one.sop_class_uid for one in facts.proposed.storage}
    assert {one.sop_class_uid for one in facts.objects} == proposed


def test_every_class_and_transfer_syntax_has_a_name(facts: Facts) -> None:
    contexts: list[Context] = [*facts.accepted.storage, *facts.accepted.services,
                               *facts.proposed.storage, *facts.proposed.query]  # fmt: skip
    assert [one.sop_class_uid for one in contexts if one.name == one.sop_class_uid] == []


def test_codes_of_every_report_template_are_listed(facts: Facts) -> None:
    from sr_templates.template import FOLDER, NOT_TEMPLATES

    names = {path.stem for path in FOLDER.glob("*.yaml")} - NOT_TEMPLATES
    assert names <= {one.template for one in facts.concepts}
    volume = [one for one in facts.concepts if (one.value, one.scheme) == ("118565006", "SCT")]
    assert volume
