"""The names of what is kept: a UID becomes a name here and nowhere else."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

from dicom_node.errors import PermanentError

INSTANCES, OUTBOX = "instances", "outbox"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def uid_to_name(uid: str) -> str:
    """The file or directory name of a UID.

    A UID of PS3.5 section 9.1's characters and length is its own name; any other text, so also
    any that could climb out of a directory, becomes ``x-`` and its SHA-256.
    """
    if len(uid) <= 64 and _UID.fullmatch(uid):
        return uid
    return "x-" + hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()


def instance_path(study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str) -> str:
    """Where an instance is kept, relative to the spool."""
    study, series = uid_to_name(study_instance_uid), uid_to_name(series_instance_uid)
    return f"{INSTANCES}/{study}/{series}/{uid_to_name(sop_instance_uid)}.dcm"


def result_path(job_id: str, sop_instance_uid: str) -> str:
    """Where a result of a job waits for delivery, relative to the spool."""
    job = job_id if _JOB.fullmatch(job_id) else uid_to_name(job_id)
    return f"{OUTBOX}/{job}/{uid_to_name(sop_instance_uid)}.dcm"


def host_folder(host: str) -> str:
    """The folder name of a host."""
    return host if _HOST.fullmatch(host) else uid_to_name(host)


def outside() -> PermanentError:
    """What is raised for a path that leads out of the spool."""
    return PermanentError("a path outside the spool was asked for", reason="spool.outside")


def check_inside(relative: str) -> None:
    """Refuse a path that may lead out of the spool (`PermanentError`)."""
    path = PurePosixPath(relative)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise outside()
