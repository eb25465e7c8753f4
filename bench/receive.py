"""Receiving beside its peers and the physical limit, in one run with interleaved rounds.

    python -m bench.receive [--seconds N] [--rounds N] [--quick]

Everything runs in a network namespace of its own (DCMTK binds every address). One process a
association sends prebuilt PDUs; CPU is that of the receiver alone. Results go to
``bench/results/receive.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.raw_scu import CT, EXPLICIT, RawScu, pdu, store_command, value
from bench.receivers import Receiver, receivers
from bench.senders import KINDS, run_senders
from bench.synthetic import head, pixel_header

RESULTS = Path(__file__).parent / "results"


def measure(receiver: Receiver, kind: str, seconds: float) -> dict[str, float]:
    """One round: 4 senders for `seconds`; MB/s, instances/s, CPU s/GB, growth of memory."""
    before_cpu_s, before_mb = receiver.cpu_s(), receiver.rss_mb()
    sent = run_senders(receiver, kind, seconds)
    time.sleep(0.3)
    cpu_s = receiver.cpu_s() - before_cpu_s
    size_mb = sent.instances * KINDS[kind] / 1e6
    return {
        "mb_per_s": size_mb / sent.seconds,
        "instances_per_s": sent.instances / sent.seconds,
        "cpu_s_per_gb": cpu_s / (size_mb / 1e3),
        "rss_growth_mb": receiver.rss_mb() - before_mb,
    }


def rounds(scratch: Path, seconds: float, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Interleaved rounds over all receivers and kinds; medians."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(count):
        for kind in KINDS:
            for receiver in receivers(scratch / f"{turn}{kind}"):
                with receiver:
                    run_senders(receiver, kind, 0.3)
                    one = measure(receiver, kind, seconds)
                found.setdefault(receiver.name, {}).setdefault(kind, []).append(one)
                print(
                    f"{turn} {kind} {receiver.name:28} {one['mb_per_s']:7.0f} MB/s "
                    f"{one['instances_per_s']:7.0f}/s {one['cpu_s_per_gb']:6.2f} s/GB "
                    f"{one['rss_growth_mb']:+6.1f} MB",
                    flush=True,
                )
            shutil.rmtree(scratch / f"{turn}{kind}", ignore_errors=True)
    return {
        name: {
            kind: {key: statistics.median(one[key] for one in many) for key in many[0]}
            for kind, many in kinds.items()
        }
        for name, kinds in found.items()
    }


def memory(scratch: Path, size_bytes: int, instances: int) -> dict[str, float]:
    """Listener memory (MB) before, after `instances` small ones, after one large one, at peak."""
    ours = next(iter(receivers(scratch / "memory")))
    with ours:
        run_senders(ours, "C", 1.0)
        start_mb = ours.rss_mb()
        sent = 0
        while sent < instances:
            sent += run_senders(ours, "C", 2.0).instances
        after_many_mb = ours.rss_mb()
        seconds = send_large(ours.port, size_bytes)
        after_large_mb = ours.rss_mb()
        peak_mb = ours.peak_mb()
    shutil.rmtree(scratch / "memory", ignore_errors=True)
    return {
        "start_mb": start_mb,
        "instances": sent,
        "after_instances_mb": after_many_mb,
        "large_object_bytes": size_bytes,
        "large_object_seconds": seconds,
        "after_large_object_mb": after_large_mb,
        "peak_mb": peak_mb,
    }


def send_large(port: int, size_bytes: int) -> float:
    """One multi-frame object, its pixels generated as they go."""
    scu = RawScu(port, [(1, CT, [EXPLICIT])], timeout_s=300)
    start = head("1.2.3.77", "1.2.3.1", "1.2.3.2", 1) + pixel_header(size_bytes)
    begun = time.monotonic()
    scu.send(pdu(4, value(1, 3, store_command(CT, "1.2.3.77"))) + pdu(4, value(1, 0, start)))
    frame = bytes(131072 - 12)
    left = size_bytes
    while left:
        fragment = frame[: min(left, len(frame))]
        left -= len(fragment)
        scu.send(pdu(4, value(1, 0 if left else 2, fragment)))
    if scu.status():
        raise SystemExit("the large object was refused")
    seconds = time.monotonic() - begun
    scu.release()
    return seconds


def machine() -> str:
    model = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the end"
    )


def report(result: dict[str, object]) -> str:
    lines = [
        "# Receive",
        "",
        f"{result['machine']}. {result['conditions']}",
        "",
        "| receiver | kind | MB/s | instances/s | CPU s/GB | memory growth MB |",
        "|---|---|---|---|---|---|",
    ]
    table: dict[str, dict[str, dict[str, float]]] = result["receivers"]  # type: ignore[assignment]
    lines += [
        f"| {name} | {kind} | {one['mb_per_s']:.0f} | {one['instances_per_s']:.0f} "
        f"| {one['cpu_s_per_gb']:.2f} | {one['rss_growth_mb']:+.1f} |"
        for name, kinds in table.items()
        for kind, one in kinds.items()
    ]
    used: dict[str, float] = result["memory"]  # type: ignore[assignment]
    lines += [
        "",
        f"Listener memory: {used['start_mb']:.0f} MB at first, {used['after_instances_mb']:.0f} MB "
        f"after {used['instances']:.0f} instances, {used['after_large_object_mb']:.0f} MB "
        f"after one object of {used['large_object_bytes'] / 1e9:.1f} GB "
        f"({used['large_object_seconds']:.1f} s), {used['peak_mb']:.0f} MB at peak.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round, small objects")
    parser.add_argument("--only", default="", help="receivers whose name holds this")
    options = parser.parse_args(arguments)
    if not os.environ.get("BENCH_NAMESPACE"):
        raise SystemExit(_in_namespace())
    seconds, count = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    os.environ["BENCH_ONLY"] = options.only
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_SCRATCH")) as scratch:
        table = rounds(Path(scratch), seconds, count)
        used = memory(Path(scratch), 150_000_000 if options.quick else 1_500_000_000, 5000)
    result: dict[str, object] = {
        "machine": machine(),
        "conditions": f"4 associations, {count} interleaved rounds of {seconds:g} s, medians; "
        f"A is {KINDS['A']} bytes, C is {KINDS['C']} bytes an instance.",
        "receivers": table,
        "memory": used,
    }
    text = report(result)
    print(text)
    if not options.only:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "receive.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "receive.md").write_text(text)


def _in_namespace() -> int:
    command = 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"'
    environment = {**os.environ, "BENCH_NAMESPACE": "1"}
    arguments = [sys.executable, "-m", "bench.receive", *sys.argv[1:]]
    return subprocess.run(
        ["unshare", "-n", "sh", "-c", command, "sh", *arguments], env=environment, check=False
    ).returncode


if __name__ == "__main__":
    main()
