"""A program as a model: it gets its files and nothing else, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ai_models.backends import open_backend
from ai_models.backends.command import CommandBackend
from ai_models.backends.protocol import Answer, NetworkInput, is_out_of_memory
from ai_models.card import load_card
from ai_models.card_provenance import Trust
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.command_models import (
    BRIGHT,
    make_environment,
    open_command,
    write_command,
)

# Slices to Superior, rows to Posterior, columns to Left, turned by ten degrees about z.
COS, SIN = np.cos(np.radians(10)), np.sin(np.radians(10))
AFFINE = np.array([
    [0, -2 * SIN, 2 * COS, -40.0], [0, 2 * COS, 2 * SIN, 25.0], [3, 0, 0, -500.0], [0, 0, 0, 1],
])


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs get their folders: empty again after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def volume() -> NetworkInput:
    array = np.random.default_rng(5).random((1, 4, 5, 6), dtype=np.float32)
    return NetworkInput(array, AFFINE, (3.0, 2.0, 2.0))


def radiograph() -> NetworkInput:
    return NetworkInput(volume().array[:, 0])


def answer(folder: Path, image: NetworkInput | None = None) -> Answer:
    return open_command(folder).predict(image or volume())


def reason(folder: Path, image: NetworkInput | None = None) -> str:
    with pytest.raises(ModelError) as refused:
        answer(folder, image)
    return f"{refused.value.reason}: {refused.value}"


def test_a_program_labels_a_volume_on_its_grid_and_leaves_nothing(
    tmp_path: Path, python: Path, temporary: Path
) -> None:
    got = answer(write_command(tmp_path / "m", python, BRIGHT))
    assert got.label_map is not None
    assert got.label_map.dtype == np.uint8
    np.testing.assert_array_equal(got.label_map, volume().array[0] > 0.5)
    assert got.notes[0] == "program python, cpu"
    assert list(temporary.iterdir()) == []


def test_the_table_of_back_ends_knows_programs(tmp_path: Path, python: Path) -> None:
    folder = write_command(tmp_path / "m", python, BRIGHT)
    backend = open_backend(load_card(folder), "cpu", Site(trusted_folders=(tmp_path,)))
    backend.load()
    backend.warm_up()
    assert backend.predict(volume()).label_map is not None
    backend.close()
    with pytest.raises(ModelError, match="predict before load"):
        backend.predict(volume())


def test_the_image_lies_where_the_patient_is_and_is_described(tmp_path: Path, python: Path) -> None:
    kept = tmp_path / "kept"
    copy = f"import shutil; shutil.copytree(source, {str(kept)!r})\n"
    answer(write_command(tmp_path / "m", python, copy + BRIGHT))
    image = nibabel.load(kept / "image-0.nii.gz")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), volume().array[0])
    lps = AFFINE @ [1, 2, 3, 1]
    np.testing.assert_allclose(
        image.affine @ [1, 2, 3, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-4
    )
    told = json.loads((kept / "input.json").read_text())
    assert told["axes"] == ["S", "P", "L"]
    assert told["spacing_mm"] == [3.0, 2.0, 2.0]
    assert told["labels"] == [{"value": 1, "name": "Bright"}]
    np.testing.assert_allclose(told["affine_lps"], AFFINE)


def test_the_program_is_alone_in_its_own_environment(tmp_path: Path, python: Path) -> None:
    """Its own Python, no variable of ours, nothing on stdin, and no way out."""
    body = """
import socket
def reached():
    try:
        socket.create_connection(("192.0.2.1", 9), timeout=3)
    except OSError as error:
        return str(error)
    return "reached"
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
(target / "text.txt").write_text(json.dumps({
    "prefix": sys.prefix, "variables": sorted(os.environ), "device": device,
    "home": os.environ["HOME"] == str(source.parent / "home"), "stdin": sys.stdin.read(),
    "mine": os.environ["MINE"], "reached": reached(),
}))
"""
    os.environ["SECRET_OF_THE_NODE"] = "x"
    folder = write_command(tmp_path / "m", python, body, task="text")
    card = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(
        card.replace("  command:\n", "  command:\n    environment: {MINE: '{folder}/weights'}\n")
    )
    got = answer(folder)
    del os.environ["SECRET_OF_THE_NODE"]
    told = json.loads(got.text or "")
    assert told["prefix"] == str(python.parents[1])
    assert set(told["variables"]) <= {
        "PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES", "MINE", "LC_CTYPE"
    }
    assert told["home"] and told["stdin"] == "" and told["device"] == "cpu"
    assert told["mine"] == str(folder.resolve() / "weights")
    if len(got.notes) > 1:
        assert "did not allow to take the network" in got.notes[1]
    else:
        assert "unreachable" in told["reached"]


def test_a_program_runs_only_where_card_and_site_trust_it(tmp_path: Path, python: Path) -> None:
    plain = load_card(write_command(tmp_path / "a", python, BRIGHT))
    plain = plain.model_copy(update={"trust": Trust()})
    with pytest.raises(ModelError, match="does not ask for trust.program") as refused:
        CommandBackend(plain, "cpu", Site(trusted_folders=(tmp_path,))).probe()
    assert refused.value.reason == "model.program_untrusted"
    asking = load_card(write_command(tmp_path / "b", python, BRIGHT))
    with pytest.raises(ModelError, match="trusted_folders") as refused:
        CommandBackend(asking, "cpu", Site(trusted_folders=(tmp_path / "a",))).load()
    assert refused.value.reason == "model.program_untrusted"


def test_a_changed_program_is_not_run(tmp_path: Path, python: Path) -> None:
    folder = write_command(tmp_path / "m", python, BRIGHT)
    with (folder / "weights/program.py").open("a") as file:
        file.write("print(1)\n")
    assert "model.hash_mismatch" in reason(folder)


@pytest.mark.parametrize("first", ["/nowhere/python", "bin/python", "no-such-program-anywhere"])
def test_a_program_that_is_not_there_is_told_at_once(
    tmp_path: Path, python: Path, first: str
) -> None:
    folder = write_command(tmp_path / "m", python, "", runtime__command={"run": [first]})
    assert "model.program_missing" in reason(folder)


def test_a_program_with_a_slash_is_looked_for_in_the_folder_of_the_card(
    tmp_path: Path, python: Path
) -> None:
    run = ["environment/bin/python", "{folder}/weights/program.py", "{input}", "{output}", "x"]
    folder = write_command(tmp_path / "m", python, BRIGHT, runtime__command={"run": run})
    (folder / "environment").symlink_to(python.parents[1])
    assert answer(folder).label_map is not None


def test_a_failing_program_is_quoted_without_the_names_of_our_folders(
    tmp_path: Path, python: Path, temporary: Path
) -> None:
    body = "print('x' * 9000, source, file=sys.stderr); sys.exit('\\x1b[31mno weights')"
    said = reason(write_command(tmp_path / "m", python, body))
    assert said.startswith("model.failed: the program of bright ended with exit status 1: ")
    assert said.endswith(".../input\n[31mno weights")
    assert len(said) < 2200
    assert list(temporary.iterdir()) == []


def test_a_program_ended_by_a_signal_is_told_so(tmp_path: Path, python: Path) -> None:
    said = reason(write_command(tmp_path / "m", python, "print('so far'); os.abort()"))
    assert "was ended by signal 6 (Aborted)" in said


def test_what_is_no_program_is_told_so(tmp_path: Path, python: Path) -> None:
    folder = write_command(tmp_path / "m", python, "", runtime__command={"run": ["bin/thing"]})
    (folder / "bin").mkdir()
    (folder / "bin/thing").write_bytes(b"\x00\x01")
    (folder / "bin/thing").chmod(0o755)
    assert "model.failed: " in reason(folder) and "cannot be started" in reason(folder)


def test_exhausted_memory_of_a_device_sends_the_program_to_the_cpu(
    tmp_path: Path, python: Path
) -> None:
    body = "if device != 'cpu': sys.exit('torch.OutOfMemoryError: CUDA out of memory')\n" + BRIGHT
    got = open_command(write_command(tmp_path / "m", python, body), "cuda:0").predict(volume())
    assert got.label_map is not None
    assert got.notes == ("program python, cpu", "memory of cuda:0 did not suffice: ran on the CPU")
    folder = write_command(tmp_path / "n", python, body, runtime__fallbacks=[])
    with pytest.raises(ModelError, match="CUDA out of memory") as lacking:
        open_command(folder, "cuda:0").predict(volume())
    assert is_out_of_memory(lacking.value)


def test_a_program_sees_the_device_of_its_worker_only(
    tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "(target / 'text.txt').write_text(os.environ['CUDA_VISIBLE_DEVICES'] + '|' + device)"
    folder = write_command(tmp_path / "m", python, body, task="text")
    assert answer(folder).text == "|cpu"
    assert open_command(folder, "cuda:1").predict(volume()).text == "1|cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,MIG-b")
    assert open_command(folder, "cuda:1").predict(volume()).text == "MIG-b|cuda:0"
    with pytest.raises(ModelError, match="no cuda:2"):
        open_command(folder, "cuda:2").predict(volume())


def test_a_file_beyond_the_limit_ends_the_program(
    tmp_path: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ai_models.backends.command_process.LARGEST_FILE_BYTES", 100_000)
    body = "(target / 'text.txt').write_bytes(b'x' * 200_000)"
    assert "File too large" in reason(write_command(tmp_path / "m", python, body, task="text"))


WAITING = """
import subprocess
Path(NAMES).write_text(str(os.getpid()))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         start_new_session=True)
Path(NAMES).write_text(f"{os.getpid()} {child.pid}")
"""
WORKER = """
import sys
from tests.ai_models.backends.command_models import open_command
from tests.ai_models.backends.test_command import volume
from pathlib import Path
open_command(Path(sys.argv[1])).predict(volume())
"""


def pids(names: Path, count: int = 2) -> list[int]:
    for _ in range(300):
        found = names.read_text().split() if names.exists() else []
        if len(found) == count:
            return [int(pid) for pid in found]
        time.sleep(0.05)
    raise AssertionError("the program did not start")


def wait_until_gone(processes: list[int], folder: Path) -> None:
    for _ in range(300):
        alive = [pid for pid in processes if Path(f"/proc/{pid}").exists()]
        if not alive and not list(folder.iterdir()):
            return
        time.sleep(0.05)
    raise AssertionError(f"left: {alive}, {list(folder.iterdir())}")


@pytest.mark.parametrize("whom", ["the worker", "its group"])
def test_a_killed_worker_takes_the_program_its_children_and_the_images_along(
    tmp_path: Path, python: Path, temporary: Path, whom: str
) -> None:
    names = tmp_path / "pids"
    body = f"NAMES = {str(names)!r}\n{WAITING}\ntime.sleep(600)"
    folder = write_command(tmp_path / "m", python, body)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)], start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    processes = pids(names)
    assert list(temporary.iterdir()) != []
    kill = os.kill if whom == "the worker" else os.killpg
    kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_until_gone(processes, temporary)


def test_what_a_program_leaves_running_ends_with_it(
    tmp_path: Path, python: Path, temporary: Path
) -> None:
    names = tmp_path / "pids"
    body = f"NAMES = {str(names)!r}\n{WAITING}\n(source / 'x').mkdir(mode=0)\n{BRIGHT}"
    assert answer(write_command(tmp_path / "m", python, body)).label_map is not None
    wait_until_gone(pids(names), temporary)
