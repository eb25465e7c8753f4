"""The ledger: everything the node knows, in one place, on disk.

It is the truth about series, jobs, results and deliveries; about instances the spool is, and
the ledger's index of them can be rebuilt from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import sqlalchemy as sa

from dicom_node.ledger import rows, tables
from dicom_node.ledger.announcements import Announcements
from dicom_node.ledger.answers import Answers
from dicom_node.ledger.canaries import Canaries
from dicom_node.ledger.circuits import Circuits
from dicom_node.ledger.claims import Claims
from dicom_node.ledger.commitment_requests import CommitmentRequests
from dicom_node.ledger.commitments import Commitments
from dicom_node.ledger.database import Database, sqlite_url
from dicom_node.ledger.decisions import Decisions
from dicom_node.ledger.deliveries import Deliveries
from dicom_node.ledger.drafts import Drafts
from dicom_node.ledger.duties import Duties
from dicom_node.ledger.encoder_features import EncoderFeatures
from dicom_node.ledger.files import Files
from dicom_node.ledger.hosts import Hosts
from dicom_node.ledger.job_inputs import JobInputs
from dicom_node.ledger.jobs import Jobs
from dicom_node.ledger.measures import Measures
from dicom_node.ledger.model_stages import ModelStages
from dicom_node.ledger.notes import Notes
from dicom_node.ledger.outbox import Outbox
from dicom_node.ledger.overview import Overview
from dicom_node.ledger.places import Places
from dicom_node.ledger.predictions import Agreements, Predictions
from dicom_node.ledger.priors import FetchedPriors
from dicom_node.ledger.procedure_steps import ProcedureSteps
from dicom_node.ledger.profiles import Profiles
from dicom_node.ledger.pruning import Pruning
from dicom_node.ledger.receipts import Receipts
from dicom_node.ledger.removals import Removals
from dicom_node.ledger.replanning import Replanning
from dicom_node.ledger.versions import Versions
from dicom_node.records import Association, Instance, Transition


class Ledger:
    """One open ledger, safe to use from several threads and several processes.

    Attributes
    ----------
    receipts, jobs, deliveries
        The three books: what arrived, what is computed, what is sent.
    priors
        Which series were fetched as earlier examinations.
    inputs
        Which series jobs take beside their own.
    files
        The index of kept files, for the comparison with the disk.
    outbox
        Which result objects lie on disk.
    versions
        Which results on one series follow each other.
    answers
        What was answered of jobs that have no result.
    notes
        What happened to the node itself.
    decisions
        What an operator decides about jobs.
    announcements
        What others say about how much should have arrived.
    procedure_steps
        What modalities say they are doing.
    commitments
        What destinations were asked to keep for good.
    commitment_requests
        What others asked the node to keep for good.
    profiles
        What destinations take.
    replanning
        What follows when they take other things than was thought.
    duties
        What the node owes beyond the first results of its jobs.
    drafts
        Which jobs wait for nothing but their draft.
    stages
        Which version of each model runs.
    predictions, agreements
        What models said, and how two versions of one compare.
    features
        How inputs looked to models, by scanner.
    removals
        Which studies were removed.
    pruning
        The end of what is remembered of them.
    measures
        How much there is of everything, and what happened since the last look.
    canaries
        What canaries could not do.
    overview
        The latest studies with all that became of them, for people.
    hosts, claims
        Which processes share the ledger, and which job is whose.
    places
        Which spool belongs to it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.receipts = Receipts(database)
        self.files = Files(database)
        self.jobs = Jobs(database)
        self.inputs = JobInputs(database)
        self.priors = FetchedPriors(database)
        self.deliveries = Deliveries(database)
        self.outbox = Outbox(database)
        self.versions = Versions(database)
        self.answers = Answers(database)
        self.notes = Notes(database)
        self.places = Places(database)
        self.decisions = Decisions(database)
        self.circuits = Circuits(database)
        self.announcements = Announcements(database)
        self.procedure_steps = ProcedureSteps(database)
        self.commitments = Commitments(database)
        self.commitment_requests = CommitmentRequests(database)
        self.profiles = Profiles(database)
        self.replanning = Replanning(database)
        self.duties = Duties(database)
        self.drafts = Drafts(database)
        self.stages = ModelStages(database)
        self.predictions = Predictions(database)
        self.agreements = Agreements(database)
        self.features = EncoderFeatures(database)
        self.removals = Removals(database)
        self.pruning = Pruning(database)
        self.measures = Measures(database)
        self.canaries = Canaries(database)
        self.overview = Overview(database)
        self.hosts = Hosts(database)
        self.claims = Claims(database)

    @classmethod
    def open(cls, url_or_path: str | Path, *, read_only: bool = False) -> Ledger:
        """Open, and where it is new create, the ledger at a database URL or SQLite file.

        With ``read_only`` nothing is created, brought up to date or locked.

        Raises
        ------
        ConfigurationError
            When a SQLite file would lie on a network file system.
        LedgerUnavailable
            When the database cannot be opened.
        """
        text = str(url_or_path)
        url = text if "://" in text else sqlite_url(Path(text))
        return cls(Database(url, read_only=read_only))

    @property
    def url(self) -> str:
        """The database URL."""
        return self._database.url

    def check_sound(self) -> None:
        """Raise `LedgerDamaged` when some process of the node has met damage in the ledger."""
        self._database.check_sound()

    def check_answers(self) -> None:
        """Begin a transaction that writes, and end it; raises `LedgerUnavailable` if it cannot."""
        with self._database.write():
            pass

    def keep_time(self) -> None:
        """Set this process's ledger clock by the database, where several hosts may share it.

        Raises
        ------
        LedgerUnavailable
        """
        self._database.keep_time()

    def condemn(self, found: str) -> None:
        """Leave word that the ledger is damaged: every process of the node ends on it."""
        self._database.condemn(found)

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()

    def index(
        self,
        instances: Sequence[Instance],
        associations: Sequence[Association] = (),
        *,
        is_there: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Record received instances: see `Receipts.index`."""
        self.receipts.index(instances, associations, is_there=is_there)

    def paths_known(self, relative_paths: Iterable[str]) -> set[str]:
        """Which of these spool paths are indexed."""
        return self.receipts.paths_known(relative_paths)

    def files_after(self, path: str, limit: int) -> list[tuple[str, str]]:
        """Path and fingerprint of indexed files: see `Files.after`."""
        return self.files.after(path, limit)

    def forget_files(self, paths: Sequence[str]) -> int:
        """Drop files that are gone from the disk: see `Files.forget`."""
        return self.files.forget(paths)

    def history(self, kind: str, key: str) -> list[Transition]:
        """Every change of state of a ``series``, ``job`` or ``delivery``, oldest first."""
        t = tables.transitions
        query = sa.select(t).where(t.c.kind == kind, t.c.key == key).order_by(t.c.id)
        with self._database.read() as connection:
            return [rows.to_transition(row) for row in connection.execute(query)]
