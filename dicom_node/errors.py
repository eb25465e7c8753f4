"""Every error the node raises on purpose, and what each one means on the wire.

    NodeError
    ├── TransientError                   the same thing may succeed later: retried
    │   ├── OutOfSpace          0xA700   the disk is at its watermark
    │   ├── StorageFailed       0xA701   the disk refused a write, a sync or a rename
    │   │   └── StoreUnavailable 0xA700  the object store does not answer, or not as it should
    │   ├── LedgerUnavailable   0xA702   the database did not answer in time
    │   │   └── LedgerDamaged   0xA702   the database is malformed: the next start rebuilds it
    │   ├── PeerUnavailable     0xA702   no association with a peer, or it was aborted
    │   ├── PeerBusy            0xA702   a peer answered with a status that may pass
    │   ├── WorkerLost          0xA702   an inference worker died
    │   └── DeadlineExceeded    0xA702   an inference worker was killed at its deadline
    └── PermanentError                   the same thing will fail again: not retried
        ├── ConfigurationError  0xC001   config.yaml or a card is wrong: key path, line, expected
        │   ├── UnknownName     0xC001   a rule, peer or model that is not configured
        │   └── HostNameTaken   0xC001   another living process has this host's name
        ├── DataSetMismatch     0xA900   the data set contradicts its C-STORE request
        ├── NotUnderstood       0xC000   the bytes are not a DICOM data set
        ├── UnsuitableInput     0xC002   a readable series that a model must not be run on
        ├── ModelFailed         0xC003   the model raised, or answered off its own contract
        ├── GateRefused         0xC004   a result did not survive its own re-reading
        └── PeerRefused         0xC005   a peer will not take an object, now or later

The status is the DIMSE C-STORE status of PS3.4 table B.2-1 (0xA7xx out of resources, 0xA9xx
data set does not match SOP class, 0xCxxx cannot understand); a handler sends
``error.status`` and never a literal. ``reason`` is a stable code for the ledger, the audit
trail and the metrics: it never holds patient data.
"""

from __future__ import annotations

SUCCESS = 0x0000


class NodeError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    message
        What happened and what to do next, for a person; free of patient data.
    reason
        Stable code such as ``input.missing_slices``; defaults to the class's own.
    """

    status = 0xC000
    reason = "error"
    transient = False

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class TransientError(NodeError):
    """May succeed when tried again."""

    status = 0xA702
    reason = "transient"
    transient = True


class OutOfSpace(TransientError):
    """Free space is below the watermark, or the write met ENOSPC."""

    status = 0xA700
    reason = "storage.out_of_space"


class StorageFailed(TransientError):
    """The operating system refused to write, sync or rename."""

    status = 0xA701
    reason = "storage.failed"


class StoreUnavailable(StorageFailed):
    """The object store of ``storage.spool`` does not answer, is busy, or lets the node not in.

    "Refused: out of resources": what is missing is room that can be reached.
    """

    status = 0xA700
    reason = "store.unavailable"


class LedgerUnavailable(TransientError):
    """The database is locked, full or unreachable."""

    reason = "ledger.unavailable"


class LedgerDamaged(LedgerUnavailable):
    """The database file is malformed; the process ends, and the next start rebuilds it."""

    reason = "ledger.damaged"


class PeerUnavailable(TransientError):
    """No association could be made with a peer, or it broke off.

    ``retry_after_s`` is the pause that the peer asked for, 0 where it asked for none.
    """

    reason = "peer.unavailable"
    retry_after_s: float = 0.0


class PeerBusy(TransientError):
    """A peer answered a request with a status that may pass (0xA7xx)."""

    reason = "peer.busy"


class WorkerLost(TransientError):
    """An inference worker process ended while it held a job."""

    reason = "worker.lost"


class DeadlineExceeded(TransientError):
    """An inference worker passed its deadline and was killed."""

    reason = "worker.deadline_exceeded"


class PermanentError(NodeError):
    """Will fail again however often it is tried."""

    reason = "permanent"


class ConfigurationError(PermanentError):
    """A setting is wrong.

    Parameters
    ----------
    message
        What was found and what was expected.
    key_path
        Dotted path of the key, for example ``rules[0].when.SliceThickness``.
    line
        1-based line in the YAML file, when it is known.
    file
        The YAML file, when there is one.
    """

    status = 0xC001
    reason = "configuration"

    def __init__(
        self,
        message: str,
        *,
        key_path: str = "",
        line: int | None = None,
        file: str = "",
        reason: str | None = None,
    ) -> None:
        where = ":".join(part for part in (file, str(line) if line else "") if part)
        super().__init__(
            ": ".join(part for part in (where, key_path, message) if part), reason=reason
        )
        self.key_path = key_path
        self.line = line
        self.file = file


class UnknownName(ConfigurationError):
    """A peer, model or rule was named that does not exist."""

    reason = "configuration.unknown_name"


class HostNameTaken(ConfigurationError):
    """Another process that lives does the same under the same ``node.host_name``."""

    reason = "host.name_taken"


class DataSetMismatch(PermanentError):
    """The data set's SOP class or instance is not the one that the C-STORE request named."""

    status = 0xA900
    reason = "dataset.mismatch"


class NotUnderstood(PermanentError):
    """The bytes cannot be read as a DICOM data set with the UIDs that storing needs."""

    status = 0xC000
    reason = "dataset.not_understood"


class UnsuitableInput(PermanentError):
    """A readable series that a model must not be run on; ``reason`` is ``input.<why>``."""

    status = 0xC002
    reason = "input.unsuitable"


class ModelFailed(PermanentError):
    """The model raised, or its answer broke its own card."""

    status = 0xC003
    reason = "model.failed"


class GateRefused(PermanentError):
    """A built result, read back, does not say what the model computed."""

    status = 0xC004
    reason = "gate.refused"


class PeerRefused(PermanentError):
    """A peer refuses an object for good (no presentation context, 0xA9xx, 0xCxxx)."""

    status = 0xC005
    reason = "peer.refused"
