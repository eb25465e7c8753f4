"""Collects what the node knows of itself for its conformance statement; nothing is opened."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import dicom_node
from dicom_node.cli.conformance_samples import created_objects
from dicom_node.operations.conformance_facts import (
    Accepted,
    Concept,
    Context,
    Facts,
    Negotiation,
    Proposed,
    Status,
    Waits,
)

if TYPE_CHECKING:
    from ai_models.types import Code
    from dicom_node.config import Config
    from dicom_node.delivery.status import StatusMeaning


def collect(config: Config) -> Facts:
    """What this configuration of the node accepts, proposes and makes."""
    from dicom_node.delivery.associate_request import OUR_MAXIMUM_PDU_BYTES
    from dicom_node.delivery.association import Timeouts
    from dicom_node.intake.query import Limits

    return Facts(
        version=dicom_node.__version__,
        negotiation=Negotiation(
            dicom_node.IMPLEMENTATION_CLASS_UID,
            dicom_node.IMPLEMENTATION_VERSION_NAME,
            OUR_MAXIMUM_PDU_BYTES,
        ),
        waits=Waits(_seconds(Timeouts()), _seconds(Limits())),
        accepted=_accepted(config),
        proposed=_proposed(),
        objects=created_objects(),
        concepts=tuple(_concepts()),
    )


def _seconds(limits: Any) -> tuple[tuple[str, float], ...]:
    return tuple(
        (field.name.removesuffix("_s").replace("_", " "), float(getattr(limits, field.name)))
        for field in dataclasses.fields(limits)
    )


def _accepted(config: Config) -> Accepted:
    from dicom_node.intake import access, commitment, commitment_scp, normalised, notifications
    from dicom_node.intake.contexts import VERIFICATION, SupportedContexts
    from dicom_node.intake.normalised import SERVED

    services: dict[str, list[str]] = {}
    for uid, kind in SERVED:
        services.setdefault(uid, []).append(kind.__name__.replace("_", "-"))
    offered = SupportedContexts(config.intake.private_sop_classes, services).all()
    by_class = {str(context.abstract_syntax): context for context in offered}
    storage = [one for uid, one in by_class.items() if uid not in {VERIFICATION, *services}]
    return Accepted(
        verification=_contexts([by_class[VERIFICATION]], "SCP"),
        storage=_contexts(storage, "SCP"),
        services=tuple(
            # Who is reported to is the SCU.
            _context(by_class[uid], "SCU/SCP" if "N-EVENT-REPORT" in requests else "SCP")
            for uid, requests in services.items()
        ),
        requests=tuple((_name(uid), ", ".join(found)) for uid, found in services.items()),
        rejections=tuple(
            (one.reason, one.result, one.source, one.diagnostic)
            for one in vars(access).values()
            if isinstance(one, access.Refusal)
        ),
        store_statuses=tuple(_store_statuses()),
        service_statuses=tuple(_named(normalised, notifications, commitment_scp)),
        commitment_failures=tuple(_named(commitment)),
    )


def _proposed() -> Proposed:
    from dicom_node.delivery.association import MAX_CONTEXTS
    from dicom_node.delivery.capabilities import PROPOSED
    from dicom_node.delivery.n_action import CONTEXTS
    from dicom_node.delivery.sender import VERIFICATION
    from dicom_node.intake.commitment_reports import report_context
    from dicom_node.intake.query import FIND, MOVE, query_context
    from dicom_node.intake.retrieval import GET

    return Proposed(
        verification=(_single(VERIFICATION.sop_class_uid, [VERIFICATION.transfer_syntax_uid]),),
        storage=tuple(_single(uid, syntaxes) for uid, syntaxes in PROPOSED.items()),
        commitment=(
            _single(CONTEXTS[0].sop_class_uid, [one.transfer_syntax_uid for one in CONTEXTS]),
        ),
        commitment_report=_contexts([report_context()], "SCP"),
        query=_contexts([query_context(FIND)], "SCU"),
        retrieve=_contexts([query_context(MOVE), query_context(GET)], "SCU"),
        store_statuses=tuple(_answered_statuses()),
        contexts_at_most=MAX_CONTEXTS,
    )  # fmt: skip


def _single(sop_class_uid: str, transfer_syntax_uids: Iterable[str]) -> Context:
    return Context(_name(sop_class_uid), sop_class_uid, tuple(transfer_syntax_uids), "SCU")


def _contexts(contexts: Iterable[Any], role: str) -> tuple[Context, ...]:
    """Of presentation contexts of pynetdicom, which only intake and delivery know."""
    return tuple(_context(one, role) for one in contexts)


def _context(context: Any, role: str) -> Context:
    uid = str(context.abstract_syntax)
    return Context(_name(uid), uid, tuple(map(str, context.transfer_syntax or ())), role)


def _name(sop_class_uid: str) -> str:
    """By PS3.6 annex A, where a library knows it; the UID otherwise."""
    from pydicom.uid import UID

    from dicom_node.intake.contexts import storage_keywords

    name = str(UID(sop_class_uid).name)
    if name != sop_class_uid or not sop_class_uid.startswith("1.2.840.10008."):
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", storage_keywords().get(sop_class_uid, name))


def _code(status: int) -> str:
    return f"0x{status:04X}"


def _store_statuses() -> Iterator[Status]:
    """What the node answers to C-STORE: the errors that receiving raises, by their own words."""
    from dicom_node import errors
    from dicom_node.intake.store import (
        QUARANTINED,
        InstanceTooLarge,
        NotAskedFor,
        SopClassNotSupported,
    )

    kept = "File and directory entry are on disk for good"
    yield Status(_code(errors.SUCCESS), kept, "The instance is indexed and processed")
    raised: tuple[type[errors.NodeError], ...] = (
        errors.OutOfSpace, errors.StorageFailed, *QUARANTINED, SopClassNotSupported,
        InstanceTooLarge, NotAskedFor,
    )  # fmt: skip
    for error in raised:
        words = (error.__doc__ or "").split("\n")[0].rstrip(".")
        if error is errors.OutOfSpace:
            words += "; or the caller has sent as much as its limits allow"
        action = "Nothing is kept; the same may succeed later" if error.transient else ""
        if error in QUARANTINED:
            action = "Kept in quarantine for a person, and not processed"
        yield Status(_code(error.status), words, action or "Nothing is kept")


def _named(*modules: ModuleType) -> Iterator[Status]:
    """The statuses that these modules answer with, by the names of PS3.7 annex C."""
    names = {
        value: name.replace("_", " ").capitalize()
        for module in modules
        for name, value in vars(module).items()
        if type(value) is int and name.isupper() and not name.startswith("_")
    }
    for value, name in sorted(names.items()):
        yield Status(_code(value), name)


def _answered_statuses() -> Iterator[Status]:
    """What the node does upon every status of a C-STORE response."""
    from dicom_node.delivery.status import classify

    ranges: dict[StatusMeaning, list[list[int]]] = {}
    for status in range(0x10000):
        found = ranges.setdefault(classify(status), [])
        if found and found[-1][1] == status - 1:
            found[-1][1] = status
        else:
            found.append([status, status])
    for meaning, of_this in ranges.items():
        codes = ", ".join(
            _code(first) if first == last else f"{_code(first)}-{_code(last)}"
            for first, last in of_this
        )
        action = "Sent again later" if meaning.transient else "Not sent again"
        if meaning.stored:
            action = "Counts as stored" + (", with its warning on record" * bool(meaning.reason))
        yield Status(
            "Any other" if meaning == classify(0xFFFF) else codes, meaning.reason or "success",
            action,
        )  # fmt: skip


def _concepts() -> Iterator[Concept]:
    """The codes of every report template, and those that all reports have."""
    from ai_models.types import Code
    from sr_templates import codes
    from sr_templates.template import FOLDER, NOT_TEMPLATES, load_template

    for name, value in vars(codes).items():
        for code in value if isinstance(value, tuple) else (value,):
            if isinstance(code, Code):
                yield _concept(code, "all reports", name.lower().replace("_", " "))
    for template in sorted({path.stem for path in FOLDER.glob("*.yaml")} - NOT_TEMPLATES):
        for path, code in _codes_in(load_template(template), ""):
            yield _concept(code, template, path)


def _concept(code: Code, template: str, place: str) -> Concept:
    return Concept(code.value, code.scheme, code.meaning, template, place)


def _codes_in(value: Any, path: str) -> Iterator[tuple[str, Code]]:
    from ai_models.types import Code

    if isinstance(value, Code):
        yield path, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _codes_in(one, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for position, one in enumerate(value, start=1):
            yield from _codes_in(one, f"{path} {position}")
    elif hasattr(value, "__dict__"):
        yield from _codes_in(vars(value), path)
