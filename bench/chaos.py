"""Chaos: a node under load meets one fault after the other, and everything is counted at the end.

    python -m bench chaos [--rounds N] [--seed N] [--series N]

Each round: DCMTK senders on 8 associations deliver small CT series to a real node that sends its
results to a real Orthanc; at a random instant one fault strikes (`bench.chaos_faults`); whatever
ended is started again. When all rounds are over and the node is quiet, `bench.chaos_check` looks
for every instance that was acknowledged and every result that is due.

The same seed gives the same series, UIDs, faults and instants.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos_check import Verdict, check
from bench.chaos_faults import FAULTS, deal, possible
from bench.chaos_load import Account, Senders, plan_round
from bench.chaos_site import Site
from bench.private_network import run_inside
from tests import peers
from tests.postgres_server import PostgresServer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
_QUIET_WITHIN_S = 900.0
_LONGEST_WAIT_S = 4.0
_PROGRESS_WITHIN_S = 10.0


@dataclass
class Run:
    """What a chaos run did, and what was found in the end."""

    seed: int
    rounds: int
    faults: Counter[str] = field(default_factory=Counter)
    account: Account = field(default_factory=Account)
    starts: int = 0
    failed_starts: int = 0
    seconds: float = 0.0
    quiet_after_s: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)

    def summary(self) -> dict[str, object]:
        """The figures, as JSON values."""
        verdict = self.verdict
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "instances": len(self.account.paths),
            "instances acknowledged": sum(1 for n in self.account.acknowledged.values() if n),
            "files sent": self.account.sent_files,
            "refused or unanswered": dict(sorted(self.account.refusals.items())),
            "series": len(self.account.series),
            "losses": len(verdict.losses),
            "duplicates": len(verdict.duplicates),
            "other findings": len(verdict.others),
            "results at the archive": verdict.results,
            "earlier versions of a series": verdict.earlier_versions,
            "stored again with the same content": verdict.sent_again,
            "faults": dict(sorted(self.faults.items())),
            "starts of the node": self.starts,
            "starts that failed": self.failed_starts,
            "seconds": round(self.seconds, 1),
            "seconds until quiet": round(self.quiet_after_s, 1),
        }


def run_chaos(site: Site, directory: Path, *, rounds: int, seed: int, new_series: int = 2) -> Run:
    """All rounds, the wait until the node is quiet, and the count.

    Raises
    ------
    AssertionError
        The node did not come back, or never became quiet; names the seed and the round.
    """
    run = Run(seed, rounds)
    started = time.monotonic()
    senders = Senders(run.account, site.node.port)
    dealt = deal(rounds, random.Random(f"{seed}"), possible(site))
    for number, name in enumerate(dealt):
        try:
            _round(run, site, senders, directory, number, name, new_series)
        except Exception as error:
            raise AssertionError(f"seed {seed}, round {number}, {name}: {error}") from error
    quiet_from = time.monotonic()
    _until_quiet(run, site, senders)
    senders.close()
    run.quiet_after_s = time.monotonic() - quiet_from
    assert site.node.stop() == 0, f"seed {seed}: the node did not stop with 0"
    run.verdict = check(site, run.account)
    run.starts, run.failed_starts = site.node.starts, site.node.failed_starts
    run.seconds = time.monotonic() - started
    return run


def _round(
    run: Run, site: Site, senders: Senders, directory: Path, number: int, name: str,
    new_series: int,
) -> None:  # fmt: skip
    chance = random.Random(f"{run.seed}:{number}")
    begun = time.monotonic()
    parcels = plan_round(run.account, directory / "series" / str(number), new_series, chance)
    wait_s = chance.uniform(0.0, chance.choice([0.5, 2.0, _LONGEST_WAIT_S]))
    if chance.random() < 0.4:
        _until_some_work_is_done(site)
    senders.start(parcels, [_offset_s(wait_s, chance) for _ in parcels])
    time.sleep(wait_s)
    FAULTS[name](site, chance)
    run.faults[name] += 1
    senders.finish()
    site.node.ensure_running()
    acknowledged = sum(1 for count in run.account.acknowledged.values() if count)
    print(
        f"round {number:3} {name:28} after {wait_s:4.1f} s, {len(parcels):2} parcels, "
        f"{acknowledged} of {len(run.account.paths)} acknowledged, open {site.open_work()}, "
        f"{time.monotonic() - begun:.1f} s",
        flush=True,
    )


def _until_some_work_is_done(site: Site) -> None:
    """Let a job come to its end first: or all faults would strike a node that only starts."""
    ended = "SELECT count(*) FROM jobs WHERE state = 'succeeded'"
    before = site.query(ended)[0][0]
    deadline = time.monotonic() + _PROGRESS_WITHIN_S
    while site.open_work().get("jobs") and time.monotonic() < deadline:
        if site.query(ended)[0][0] > before:
            return
        time.sleep(0.1)


def _offset_s(strike_s: float, chance: random.Random) -> float:
    """When a parcel leaves: before the fault, so that the fault strikes it, or while it lasts."""
    kind = chance.random()
    if kind < 0.4:
        return chance.uniform(0.0, strike_s)
    if kind < 0.8:
        return max(0.0, strike_s - chance.uniform(0.0, 0.15))
    return strike_s + chance.uniform(0.0, 1.5)


def _until_quiet(run: Run, site: Site, senders: Senders) -> None:
    """Send what is still not acknowledged, then wait until the ledger has nothing open."""
    deadline = time.monotonic() + _QUIET_WITHIN_S
    quiet_since = 0.0
    while not quiet_since or time.monotonic() - quiet_since < 3.0:
        missing = [run.account.paths[uid] for uid in run.account.open()]
        if missing:
            senders.start([missing], [0.0])
            senders.finish()
        site.node.ensure_running()
        quiet = not missing and not site.open_work()
        quiet_since = (quiet_since or time.monotonic()) if quiet else 0.0
        assert time.monotonic() < deadline, (
            f"seed {run.seed}: not quiet within {_QUIET_WITHIN_S:.0f} s: {site.open_work()}, "
            f"{len(missing)} not acknowledged\n{site.node.log_tail()}"
        )
        time.sleep(0.5)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write ``bench/results/chaos.json``; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="bench chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--series", type=int, default=2, help="new series a round")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    parser.add_argument("--keep", type=Path, help="folder to keep everything in")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if not peers.in_private_network():
        return run_inside("bench.chaos", given)
    # Whoever ends a run wants its processes ended and its disk unmounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    directory = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with contextlib.ExitStack() as stack:
            server = None
            if options.postgresql:
                server = stack.enter_context(PostgresServer(directory / "postgres"))
            site = stack.enter_context(Site(directory, server))
            run = run_chaos(
                site, directory, rounds=options.rounds, seed=options.seed,
                new_series=options.series,
            )  # fmt: skip
    finally:
        if options.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(run.summary(), indent=1))
    for finding in run.verdict.findings():
        print(f"seed {run.seed}: {finding}")
    if options.rounds >= 200:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "chaos.json").write_text(json.dumps(run.summary(), indent=1) + "\n")
    return 1 if run.verdict.findings() else 0



if __name__ == "__main__":
    sys.exit(main())
