"""A node on several hosts, and what it needs: a database, an archive, a host that serves a model.

    clinic      modalities that send, and know all receivers
    receiver*   serve --only intake
    worker*     serve --only work
    deliverer*  serve --only deliver
    database    PostgreSQL
    archive     DCMTK's storescp behind a wire tap that notes what came and when
    farm        serves the model by the Open Inference Protocol, as Triton would
    balancer    HAProxy before the receivers, where one is wanted: then modalities know only it

All hosts of the node mount one folder as the spool.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from bench.chaos_site import OPEN_WORK
from bench.chaos_tee import Tee
from tests import peers
from tests.ai_models.backends.fake_open_inference import FakeOpenInference, Model
from tests.ai_models.tiny_models import card_text, card_values
from tests.hosts.modality import STAT
from tests.hosts.network import Host, Switch
from tests.hosts.node_host import ARCHIVE, MODALITY, NodeHost, echoes, wait_until
from tests.postgres_server import PostgresServer

ARCHIVE_PORT = 104
_MODEL = "embolism-far"
_POSTGRES_PORT = 5432
_DATABASE_BACK_WITHIN_S = 60.0
# Found within seconds, as docs/several-hosts.md recommends for a database of a node.
_KEEP_ALIVE = {
    "tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
}


class Farm(FakeOpenInference):
    """A host of models whose answers take a fixed time, as those of a GPU do."""

    def __init__(self, address: str, answer_s: float) -> None:
        self.host = address
        self.answer_s = answer_s
        self.asked_at: list[float] = []
        self._count = threading.Lock()
        super().__init__(
            model=Model(
                name="embolism", input_shape=[-1, 1, 4, 16, 16],
                outputs={"output": ("FP32", [-1, 1])}, run=self._score,
            )
        )

    def _score(self, windows: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[Any]]:
        with self._count:
            self.asked_at.append(time.time())
        self.closing.wait(self.answer_s)
        return {"output": windows.mean(axis=(1, 2, 3, 4))[:, None]}


def _write_card(folder: Path) -> None:
    folder.mkdir(parents=True)
    values = card_values(
        id=_MODEL, name="Pulmonary embolism, served", task="classification",
        input={
            "modality": ["CT"], "size": {"edges": [4, 16, 16]},
            "intensity": {"unit": "HU", "clip": [-1000, 1000], "scale_to": [0, 1]},
        },
        output={
            "activation": "sigmoid", "channels": 1, "per": "study",
            "scores": [{"name": "pulmonary_embolism", "channel": 0}],
        },
        weights={"licence": "Apache-2.0", "source": "test"},
        runtime={
            "backend": "open_inference", "endpoint": {"name": "farm", "model": "embolism"},
        },
        report="pulmonary_embolism",
    )
    (folder / "model.yaml").write_text(card_text(values))


def _settings(
    url: str, spool: Path, models: Path, farm: Farm, archive: Host, clinic: Host
) -> dict[str, Any]:
    """What all hosts of the node share."""
    is_stat = {"StudyDescription": STAT}
    rule = {"model": _MODEL, "send_to": ["archive"]}
    return {
        "database": {"url": url},
        "storage": {"spool": str(spool), "refuse_below_free_bytes": 0},
        "peers": {
            "archive": {
                "ae_title": ARCHIVE, "host": archive.address, "port": ARCHIVE_PORT,
                "storage_commitment": "off",
            },
            "scanner": {
                "ae_title": MODALITY, "host": clinic.address, "port": 11112, "query": "off",
            },
        },
        "completeness": {"after_release_s": 2, "quiet_period_s": 12, "give_up_after_s": 300},
        "intake": {"listener_processes": 1},
        "models": {
            "devices": ["cpu"], "directories": [str(models)],
            "endpoints": {"farm": {"url": farm.url, "timeout_s": 20.0}},
        },
        "web": {"enabled": False},
        "rules": [
            {"name": "emergencies", "when": is_stat, "priority": "stat", **rule},
            {"name": "the others", "when": {"Modality": "CT", "not": is_stat}, **rule},
        ],
    }


class Site:
    """Everything, as a context manager.

    Parameters
    ----------
    folder
        For all that is written.
    receivers, workers, deliverers
        How many hosts of each there are.
    answer_s
        How long the model takes.
    balancer
        Settings of HAProxy, with ``{receiver1}`` and so on and ``{balancer}`` for addresses.
    """

    def __init__(
        self, folder: Path, *, receivers: int = 2, workers: int = 2, deliverers: int = 1,
        answer_s: float = 0.5, durable: bool = True, balancer: str = "",
    ) -> None:
        self.folder = folder
        self.balancer: Host | None = None
        self._balancer_settings = balancer
        self._stack = ExitStack()
        self._numbers = {"intake": receivers, "work": workers, "deliver": deliverers}
        self._answer_s, self._durable = answer_s, durable
        self.nodes: list[NodeHost] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def _build(self, stack: ExitStack) -> None:
        switch = stack.enter_context(Switch())
        self.clinic, self.archive = switch.host("clinic"), switch.host("archive")
        self.database, farm = switch.host("database"), switch.host("farm")
        self.postgres = PostgresServer(
            self.folder / "database", self.database.address, _POSTGRES_PORT,
            durable=self._durable, options=_KEEP_ALIVE,
        )
        self.database.run(self.postgres.__enter__)
        stack.callback(self.database.run, self.postgres.remove)
        self._open_archive(stack)
        self.farm = Farm(farm.address, self._answer_s)
        farm.run(self.farm.__enter__)
        stack.callback(farm.run, self.farm.__exit__, None, None, None)
        _write_card(self.folder / "models" / _MODEL)
        self.spool = self.folder / "spool"
        settings = _settings(
            self.postgres.url, self.spool, self.folder / "models", self.farm, self.archive,
            self.clinic,
        )
        names = (("receiver", "intake"), ("worker", "work"), ("deliverer", "deliver"))
        hosts = [
            (switch.host(f"{name}{number}"), role) for name, role in names
            for number in range(1, self._numbers[role] + 1)
        ]
        if self._balancer_settings:
            self.balancer = switch.host("balancer")
            settings["access"] = {"proxies": [f"{self.balancer.address}/32"]}
            # Each host also asks itself whether it answers.
            may_call = [self.clinic, *(host for host, _ in hosts)]
            settings["peers"]["scanner"]["addresses"] = [f"{one.address}/32" for one in may_call]
        for host, role in hosts:
            self.nodes.append(NodeHost(host, role, settings, self.folder / host.name))
        self._start_balancer()
        engine = sa.create_engine(
            sa.make_url(self.postgres.url).set(drivername="postgresql+psycopg"),
            poolclass=sa.NullPool, isolation_level="AUTOCOMMIT",
        )
        self._engine = engine

    def _start_balancer(self) -> None:
        if self.balancer is None:
            return
        addresses = {one.name: one.host.address for one in self.of_role("intake")}
        path = self.folder / "haproxy.cfg"
        path.write_text(self._balancer_settings.format(
            balancer=self.balancer.address, **addresses
        ))
        self.balancer.start(
            [peers.need_program("haproxy"), "-db", "-f", str(path)], self.folder / "haproxy.log"
        )

    def _open_archive(self, stack: ExitStack) -> None:
        self.received = self.folder / "archive"
        self.received.mkdir(parents=True)
        port = 11113
        command = [
            peers.need_program("storescp"), "--fork", "+xa", "-pm", "--bit-preserving",
            "--output-directory", str(self.received), "--aetitle", ARCHIVE, str(port),
        ]
        self.archive.start(command, self.folder / "storescp.log", {"TCP_NODELAY": "1"})
        self.tee = self.archive.run(Tee, port, self.archive.address, ARCHIVE_PORT)
        stack.callback(self.tee.close)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def of_role(self, role: str) -> list[NodeHost]:
        """Hosts that do one part of the work."""
        return [node for node in self.nodes if node.roles == role]

    def named(self, name: str) -> NodeHost:
        """One host."""
        return next(node for node in self.nodes if node.name == name)

    def start(self, nodes: Sequence[NodeHost] | None = None) -> None:
        """Start hosts (all, where none are named) at once, and wait until receivers answer."""
        chosen = self.nodes if nodes is None else nodes
        for node in chosen:
            node.start()
        for node in chosen:
            node.wait_ready()
        if self.balancer is not None:
            address = self.balancer.address
            wait_until(
                lambda: self._balancer_knows_all() and self.clinic.run(echoes, address),
                "the balancer knows that all receivers answer",
            )

    def _balancer_knows_all(self) -> bool:
        """Whether it has called no server down, or up again since."""
        last: dict[str, bool] = {}
        text = (self.folder / "haproxy.log").read_text()
        for name, state in re.findall(r"Server receivers/(\S+) is (UP|DOWN)", text):
            last[name] = state == "UP"
        return all(last.values())

    def receivers(self) -> list[tuple[str, str]]:
        """Name and address of each, as a modality is told."""
        if self.balancer is not None:
            return [(self.balancer.name, self.balancer.address)]
        return [(node.name, node.host.address) for node in self.of_role("intake")]

    def query(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the node's ledger, read from outside; while the server is away it is waited."""
        deadline = time.monotonic() + _DATABASE_BACK_WITHIN_S
        while True:
            try:
                return self.database.run(self._query, statement, parameters)
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _query(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]

    def open_work(self) -> dict[str, int]:
        """What the ledger has not brought to an end, by kind; empty when the node is quiet."""
        found = {kind: int(self.query(text)[0][0]) for kind, text in OPEN_WORK.items()}
        return {kind: number for kind, number in found.items() if number}

    def wait_quiet(self, series: int, within_s: float = 600.0) -> None:
        """Wait until so many series are known and nothing is open."""

        def is_quiet() -> bool:
            failed = [node.name for node in self.nodes if node.has_failed]
            assert not failed, f"{failed} ended"
            known = int(self.query("SELECT count(*) FROM series")[0][0])
            return known >= series and not self.open_work()

        try:
            wait_until(is_quiet, "the node is quiet", within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.open_work()}\n{self.log_tails()}") from None

    def log_tails(self) -> str:
        """The end of every host's log."""
        return "\n".join(node.log_tail() for node in self.nodes)
