"""One typed method per thing that happens in the node: log, metric and audit in one place.

Nothing here takes a patient's name, ID or date. UIDs name a patient's examination, so they are
logged as a short hash (`hash_uid`), the same for the same UID, that ``dicom-node show`` accepts.
How that becomes a line is in `dicom_node.event_lines`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from dicom_node.event_lines import about_study, configure_logging, hash_uid
from dicom_node.event_sinks import Sink, Told

__all__ = ["Events", "Sink", "about_study", "configure_logging", "hash_uid"]

_log = logging.getLogger("dicom_node")


class Events(Told):
    """What the rooms of the node call when something has happened.

    Each public method is an event: a line in the log, and what the sinks are told (`Told`).
    """

    def _emit(self, level: int, event: str, **fields: object) -> None:
        _log.log(level, event, extra={"fields": fields})

    def association_accepted(
        self, association_id: str, calling_ae_title: str, *, called_ae_title: str = "",
        address: str = "", tls_identity: str = "",
    ) -> None:
        """``tls_identity`` are the names of the caller's certificate, empty without one."""
        self._emit(logging.DEBUG, "association accepted", association=association_id,
                   calling_ae_title=calling_ae_title, address=address, tls_identity=tls_identity)

    def association_refused(
        self, calling_ae_title: str, called_ae_title: str, address: str, reason: str, *,
        tls_identity: str = "",
    ) -> None:
        """Titles are empty where none was told: at the door, or in the TLS handshake."""
        self._emit(logging.WARNING, "association refused", calling_ae_title=calling_ae_title,
                   called_ae_title=called_ae_title, address=address, reason=reason,
                   tls_identity=tls_identity)

    def study_received(
        self, association_id: str, calling_ae_title: str, study_instance_uid: str,
        instances: int, *, address: str = "", patient_id: str = "",
        sop_class_uids: Mapping[str, int] = MappingProxyType({}), size_bytes: int = 0,
    ) -> None:
        """What of a study an association brought, at its end.

        ``sop_class_uids`` counts instances by class. The patient's ID is for the audit trail
        alone, which has to have it (PS3.15 A.5.3.7).
        """
        self._emit(logging.DEBUG, "study received", association=association_id,
                   calling_ae_title=calling_ae_title, study=hash_uid(study_instance_uid),
                   instances=instances, size_bytes=size_bytes)

    def certificates_changed(self, what: str, problem: str = "") -> None:
        """The files of ``security.tls`` are renewed, or cannot be used, or will end."""
        self._emit(logging.WARNING if problem else logging.INFO,
                   f"certificates of security.tls {what}", problem=problem)

    def association_ended(
        self, association_id: str, how: str, stored: int, *, refused: int = 0,
        calling_ae_title: str = "", address: str = "",
    ) -> None:  # fmt: skip
        """``stored`` and ``refused`` count instances."""
        well = how == "released" and not refused
        self._emit(logging.INFO if well else logging.WARNING, "association ended",
                   association=association_id, calling_ae_title=calling_ae_title, address=address,
                   how=how, stored=stored, refused=refused)

    def instance_stored(self, sop_instance_uid: str, size_bytes: int, outcome: str) -> None:
        if _log.isEnabledFor(logging.DEBUG):
            self._emit(logging.DEBUG, "instance stored", instance=hash_uid(sop_instance_uid),
                       size_bytes=size_bytes, outcome=outcome)

    def instances_stored(self, count: int, size_bytes: int, outcome: str) -> None:
        """What another process told of `instance_stored` in a while, added up."""
        self._emit(logging.DEBUG, "instances stored", count=count, size_bytes=size_bytes,
                   outcome=outcome)

    def events_lost(self, count: int) -> None:
        """A listener process had more to tell than the node could hear."""
        self._emit(logging.WARNING, "events of a listener were not counted", count=count)

    def instance_refused(
        self, status: int, reason: str, quarantined: bool, *, association_id: str = "",
        calling_ae_title: str = "", address: str = "", sop_class_uid: str = "",
    ) -> None:  # fmt: skip
        """``sop_class_uid`` is that of the request: what was refused may say nothing."""
        self._emit(logging.WARNING, "instance refused", status=f"0x{status:04X}", reason=reason,
                   quarantined=quarantined, calling_ae_title=calling_ae_title, address=address,
                   association=association_id)

    def series_changed(self, series_instance_uid: str, state: str, reason: str) -> None:
        self._emit(logging.INFO, "series", series=hash_uid(series_instance_uid), state=state,
                   reason=reason)

    def job_changed(self, job_id: str, state: str, reason: str, attempt: int) -> None:
        failed = state in ("failed", "dead")
        self._emit(logging.WARNING if failed else logging.INFO, "job", job=job_id, state=state,
                   reason=reason, attempt=attempt)

    def duty_changed(self, kind: str, key: str, what: str, reason: str) -> None:
        self._emit(logging.WARNING if what == "put off" else logging.INFO, "duty", duty=kind,
                   of=key, what=what, reason=reason)

    def delivery_changed(self, delivery_id: str, destination: str, state: str,
                         reason: str) -> None:
        failed = state in ("failed", "dead")
        self._emit(logging.WARNING if failed else logging.INFO, "delivery",
                   delivery=delivery_id, destination=destination, state=state, reason=reason)

    def results_sending(
        self, job_id: str, destination: str, sop_instance_uids: Sequence[str]
    ) -> None:
        self._emit(logging.DEBUG, "results go out", job=job_id, destination=destination,
                   count=len(sop_instance_uids))

    def results_sent(
        self, job_id: str, destination: str, stored: Sequence[str], failed: Sequence[str]
    ) -> None:
        """SOP Instance UIDs of what the destination took, and of what it did not."""
        self._emit(logging.DEBUG, "results went out", job=job_id, destination=destination,
                   stored=len(stored), failed=len(failed))

    def commitment_changed(self, destination: str, what: str, reason: str, count: int) -> None:
        self._emit(logging.INFO, "storage commitment", destination=destination, what=what,
                   reason=reason, count=count)

    def instances_announced(self, ae_title: str, source: str, series: int) -> None:
        self._emit(logging.INFO, "instances announced", ae_title=ae_title, source=source,
                   series=series)

    def commitment_asked(self, ae_title: str, count: int) -> None:
        self._emit(logging.INFO, "storage commitment asked of us", ae_title=ae_title, count=count)

    def commitment_answered(
        self, ae_title: str, committed: int, failed: int, answer: str
    ) -> None:
        self._emit(logging.WARNING if failed else logging.INFO, "storage commitment answered",
                   ae_title=ae_title, committed=committed, failed=failed, answer=answer)

    def commitment_reported(self, ae_title: str, status: int, reason: str) -> None:
        self._emit(logging.WARNING if status else logging.INFO, "storage commitment reported",
                   ae_title=ae_title, status=f"0x{status:04X}", reason=reason)

    def peer_asked(
        self, peer: str, ae_title: str, address: str, study_instance_uid: str,
        series_instance_uid: str,
    ) -> None:  # fmt: skip
        """A C-FIND of the node's own at a peer: how many instances a series has there."""
        self._emit(logging.DEBUG, "peer is asked", peer=peer, ae_title=ae_title,
                   study=hash_uid(study_instance_uid), series=hash_uid(series_instance_uid))

    def audit_changed(self, what: str, reason: str) -> None:
        """The audit trail, or its collector: ``away``, ``back``, ``not written``, ``written``."""
        bad = what in ("away", "not written")
        self._emit(logging.ERROR if what == "not written" else
                   logging.WARNING if bad else logging.INFO, "audit trail", what=what,
                   reason=reason)

    def service_refused(self, ae_title: str, sop_class_uid: str, reason: str) -> None:
        self._emit(logging.WARNING, "service refused", ae_title=ae_title,
                   sop_class_uid=sop_class_uid, reason=reason)

    def circuit_changed(self, destination: str, state: str, reason: str) -> None:
        self._emit(logging.WARNING if state == "open" else logging.INFO, "destination",
                   destination=destination, circuit=state, reason=reason)

    def peer_queried(self, peer: str, what: str, reason: str) -> None:
        self._emit(logging.INFO, "peer could not be asked", peer=peer, what=what, reason=reason)

    def worker_changed(self, device: str, what: str, reason: str = "") -> None:
        self._emit(logging.INFO, "inference worker", device=device, what=what, reason=reason)

    def impression_drafted(
        self, job_id: str, writer: str, fallback: str, *, kept: int, struck: Mapping[str, int]
    ) -> None:
        """What a writer, by the id of its card, did for a job.

        ``kept`` counts its sentences in the report, ``struck`` those that the guard did not pass,
        by reason. ``fallback`` is the code for which the template's sentences stand.
        """
        self._emit(logging.WARNING if fallback else logging.INFO, "impression drafted" if not
                   fallback else "impression not drafted", job=job_id, writer=writer,
                   reason=fallback, kept=kept, struck=sum(struck.values()))

    def model_changed(self, model_id: str, version: str, what: str, reason: str) -> None:
        is_bad = what in ("gone", "damaged", "canary failed", "canary ended")
        self._emit(logging.WARNING if is_bad else logging.INFO, "model", model=model_id,
                   version=version, what=what, reason=reason)

    def model_problem(self, folder: str, message: str, *, solved: bool) -> None:
        self._emit(logging.INFO if solved else logging.WARNING,
                   f"model folder {'is right again' if solved else 'cannot be used as it is'}",
                   folder=folder, problem=message)

    def rule_changed(
        self, rule: str, model_id: str, reason: str, message: str, *, served: bool
    ) -> None:
        self._emit(logging.INFO if served else logging.WARNING,
                   f"rule {'has its model again' if served else 'is without its model'}",
                   rule=rule, model=model_id, reason=reason, problem=message)

    def study_removed(
        self, study_instance_uid: str, instances: int, size_bytes: int, reason: str, *,
        patient_id: str = "",
    ) -> None:
        """``patient_id`` is for the audit trail alone (PS3.15 A.5.3.8)."""
        self._emit(logging.INFO, "study removed", study=hash_uid(study_instance_uid),
                   instances=instances, size_bytes=size_bytes, reason=reason)

    def web_action(
        self, user: str, action: str, key: str, *, study_instance_uid: str = ""
    ) -> None:
        """``key`` is fit to be logged; ``study_instance_uid`` is of a study that was looked at."""
        self._emit(logging.INFO, "web page", user=user, action=action, of=key)

    def web_sign_in(self, user: str, address: str, *, succeeded: bool) -> None:
        self._emit(logging.INFO if succeeded else logging.WARNING,
                   "web page: " + ("signed in" if succeeded else "a token that is none"),
                   user=user, address=address)

    def selftest_failed(self, model_id: str, version: str, problem: str) -> None:
        self._emit(logging.ERROR, "self-test failed: a model no longer says what it said",
                   model=model_id, version=version, problem=problem)

    def selftest_passed(self, model_id: str, version: str, is_first: bool) -> None:
        self._emit(logging.INFO, "self-test passed", model=model_id, version=version,
                   first_of_its_kind=is_first)

    def selftest_put_off(self, model_id: str) -> None:
        self._emit(logging.INFO, "self-test put off: jobs wait for a device", model=model_id)

    def shift_measured(
        self, model_id: str, version: str, scanner: str, *, inputs: int, mmd: float,
        threshold: float, silhouette: float, alarm: bool, is_new: bool,
    ) -> None:
        """``is_new``: this scanner raises the alarm for the first time, or does so no longer."""
        what = "looks unlike what the model knows" if alarm else "looks as the model knows it"
        level = logging.DEBUG if not is_new else logging.WARNING if alarm else logging.INFO
        self._emit(level, f"a scanner {what}", model=model_id, version=version, scanner=scanner,
                   inputs=inputs, mmd=mmd, threshold=threshold, silhouette=silhouette)

    def shift_not_measured(self, model_id: str, version: str, reason: str) -> None:
        self._emit(logging.WARNING, "how scanners look to a model could not be measured",
                   model=model_id, version=version, reason=reason)

    def node_changed(self, what: str, **fields: object) -> None:
        self._emit(logging.INFO, f"node {what}", **fields)

    def host_changed(
        self, host: str, what: str, roles: Sequence[str], reason: str = ""
    ) -> None:
        """A process of the node: ``is here``, ``is gone``, ``lost its place`` among the others."""
        bad = what in ("is gone", "lost its place")
        self._emit(logging.WARNING if bad else logging.INFO, f"host {what}", host=host,
                   roles=",".join(roles), reason=reason)

    def duty_taken(self, host: str, duty: str, *, taken: bool) -> None:
        """What one host of several does for all of them."""
        what = "leads" if taken else "leads no longer"
        self._emit(logging.INFO, f"host {what}", host=host, duty=duty)

    def work_moved(self, host: str, what: str, count: int) -> None:
        """What a host that is gone had begun is taken over: ``jobs``, ``associations``."""
        self._emit(logging.WARNING, "work of a host that is gone is taken over", by=host,
                   what=what, count=count)

    def ledger_rebuilt(self, reason: str, kept_as: str, salvaged: dict[str, int]) -> None:
        self._emit(logging.ERROR, "ledger was damaged and is rebuilt from the spool",
                   reason=reason, damaged_one_kept_as=kept_as, rows_taken_over=salvaged)

    def space_changed(self, refusing: bool) -> None:
        what = "refuses new associations: no room for another study" if refusing else (
            "has room for studies again"
        )
        self._emit(logging.WARNING, f"node {what}")

    def files_amiss(self, missing: int, unreadable: int) -> None:
        self._emit(logging.ERROR, "kept files are gone or cannot be read", missing=missing,
                   unreadable=unreadable)

    def unexpected(self, where: str) -> None:
        """An error that no type foresaw, at a thread or process boundary, with its traceback."""
        _log.error("unexpected error", extra={"fields": {"where": where}}, exc_info=True)
