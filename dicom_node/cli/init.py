"""``dicom-node init``: a commented settings file, directories, and what systemd needs. Once.

What is there is never written over: then nothing is written at all.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dicom_node.errors import ConfigurationError

USER = "dicom-node"
CONFIG_DIRECTORY, DATA_DIRECTORY = Path("/etc/dicom-node"), Path("/var/lib/dicom-node")
_CONFIG, _TOKENS = "config.yaml", "web-tokens"
_UNIT = Path("/etc/systemd/system/dicom-node.service")
_SYSTEMD = {
    "dicom-node.service": _UNIT,
    "sysusers.conf": Path("/etc/sysusers.d/dicom-node.conf"),
    "tmpfiles.conf": Path("/etc/tmpfiles.d/dicom-node.conf"),
}
_HIDDEN = ("/home/", "/root/", "/run/user/")
_PROGRAM = "/opt/dicom-node/bin/dicom-node"


@dataclass(frozen=True)
class _Plan:
    """What is to be made: files with text and mode, and directories with modes."""

    files: dict[Path, tuple[str, int]]
    directories: dict[Path, int]


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("init", help="write a settings file, directories and a unit, once")
    parser.add_argument(
        "--directory", type=Path, metavar="DIR", default=CONFIG_DIRECTORY,
        help=f"where the settings go ({CONFIG_DIRECTORY})",
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", default=DATA_DIRECTORY,
        help=f"where images, results and the ledger go ({DATA_DIRECTORY})",
    )
    parser.add_argument(
        "--unit", action="store_true", help="also the systemd unit, its user and its directories"
    )
    parser.add_argument(
        "--root", type=Path, metavar="DIR", default=Path("/"),
        help="write below this directory, for an image that is made here and run elsewhere",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit 1, with nothing written, when one of the files is there; 2 for an odd directory."""
    directory, data_dir = (_usable(path) for path in (arguments.directory, arguments.data_dir))
    plan = _plan(directory, data_dir, arguments.unit)
    there = [path for path in plan.files if _below(arguments.root, path).exists()]
    if there:
        for path in there:
            print(f"{path} is there, and is left as it is", file=sys.stderr)
        print("dicom-node: nothing was written: remove it, or choose another --directory",
              file=sys.stderr)
        return 1
    for path, mode in plan.directories.items():
        _make_directory(_below(arguments.root, path), mode)
    for path, (text, mode) in plan.files.items():
        _write(_below(arguments.root, path), text, mode)
    if arguments.root == Path("/"):
        _hand_over(data_dir, [directory, directory / _CONFIG])
    for path in (*plan.directories, *plan.files):
        print(f"wrote {path}")
    if arguments.unit and _this_program().startswith(_HIDDEN):
        print(f"\n{_this_program()} cannot run under this unit, which hides "
              f"{', '.join(_HIDDEN)}: install the node elsewhere, such as in /opt/dicom-node, "
              "and write the unit from there", file=sys.stderr)
    print()
    for number, step in enumerate(_next_steps(directory, arguments.unit), start=1):
        print(f"{number}. {step}")
    return 0


def shipped(name: str) -> str:
    """The text of a file that comes with the node."""
    return (resources.files("dicom_node") / "shipped" / name).read_text("utf-8")


def settings_text(directory: Path, data_dir: Path) -> str:
    """The commented example with these directories in it."""
    text = shipped(_CONFIG)
    for key, value in (("data_dir", data_dir), ("tokens_file", directory / _TOKENS)):
        text, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", text)
        if count != 1:
            raise AssertionError(f"the example has {count} lines {key}")
    return text


def unit_text(directory: Path, data_dir: Path, program: str) -> str:
    """The unit for this program and these directories."""
    text = shipped("dicom-node.service")
    text = text.replace(_PROGRAM, program).replace(str(CONFIG_DIRECTORY), str(directory))
    if data_dir != DATA_DIRECTORY:
        # systemd makes directories below /var/lib only; tmpfiles makes this one.
        text = re.sub(r"(?m)^StateDirectoryMode=.*\n", "", text)
        text = re.sub(r"(?m)^StateDirectory=.*$", f"ReadWritePaths={data_dir}", text)
        text = text.replace(str(DATA_DIRECTORY), str(data_dir))
    return text


def _plan(directory: Path, data_dir: Path, unit: bool) -> _Plan:
    files = {directory / _CONFIG: (settings_text(directory, data_dir), 0o640)}
    if unit:
        for name, path in _SYSTEMD.items():
            text = shipped(name).replace(str(DATA_DIRECTORY), str(data_dir))
            text = text.replace(str(CONFIG_DIRECTORY), str(directory))
            if path == _UNIT:
                text = unit_text(directory, data_dir, _this_program())
            files[path] = (text, 0o644)
    # What is below is made by the node itself: it may be another user than the one who is here.
    return _Plan(files, {directory: 0o750, data_dir: 0o750})


def _this_program() -> str:
    """The script that was called; where there is none beside the interpreter, on the PATH."""
    beside = Path(sys.executable).with_name("dicom-node")
    return str(beside) if beside.exists() else shutil.which("dicom-node") or _PROGRAM


def _usable(path: Path) -> Path:
    """With its beginning; neither YAML nor systemd reads every character as it is."""
    if not re.fullmatch(r"[\w./+@-]+", str(path)):
        raise ConfigurationError(
            f"found {str(path)!r}, expected a directory of letters, digits and . _ + @ - alone",
            key_path="--directory, --data-dir",
        )
    return path.absolute()


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _make_directory(path: Path, mode: int) -> None:
    if not path.is_dir():
        path.mkdir(parents=True)
        path.chmod(mode)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never over a file that somebody made in the meantime, nor through a link.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(fd, mode)


def _hand_over(data_dir: Path, readable: list[Path]) -> None:
    """Give data to the user of the node, and settings to its group, where there is one."""
    if os.geteuid() != 0:
        return
    with suppress(KeyError):
        user, group = pwd.getpwnam(USER).pw_uid, grp.getgrnam(USER).gr_gid
        os.chown(data_dir, user, group)
        for path in readable:
            os.chown(path, 0, group)


def _next_steps(directory: Path, unit: bool) -> list[str]:
    config = directory / _CONFIG
    named = "" if config == CONFIG_DIRECTORY / _CONFIG else f" --config {config}"
    steps = [
        f"Edit {config}: node.ae_title, peers (your PACS and scanners), rules.",
        f"dicom-node{named} web-token NAME     for each person who looks at the page; "
        f"it adds a line to {directory / _TOKENS}",
    ]
    if unit:
        steps.append("systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload")
    run_as = f"sudo -u {USER} " if unit else ""
    steps += [
        f"{run_as}dicom-node{named} check     says what is wrong, and what to do about it",
        "systemctl enable --now dicom-node" if unit else f"dicom-node{named} serve",
        "Tell the PACS and the scanners: AE title, address and port of the node, and a C-ECHO "
        "from there.",
    ]
    return steps
