"""What npm has to bring: the OHIF viewer and dcmjs, once, into a folder that git ignores.

Run as a program before the private network of the other tools is entered, where npm finds nobody.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from tests import peers
from tests.conformance.validators import ToolMissing, find_tool

OHIF = "3.13.2"
DCMJS = "0.52.2"
CACHE = Path(__file__).resolve().parents[3] / ".cache" / "compatibility"


def ohif() -> Path:
    """Folder of the built viewer (``index.html`` and all it loads)."""
    folder = CACHE / f"ohif-{OHIF}"
    built = folder / "package" / "dist"
    if not (built / "index.html").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _npm("pack", "--silent", f"@ohif/app@{OHIF}", folder=folder)
        for archive in folder.glob("*.tgz"):
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            archive.unlink()
    return built


def dcmjs() -> Path:
    """The ``node_modules`` folder that holds dcmjs; its install scripts do not run."""
    folder = CACHE / f"dcmjs-{DCMJS}"
    modules = folder / "node_modules"
    if not (modules / "dcmjs" / "package.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}')
        _npm("install", "--ignore-scripts", "--no-audit", f"dcmjs@{DCMJS}", folder=folder)
    return modules


def _npm(*arguments: str, folder: Path) -> None:
    if peers.in_private_network():
        raise ToolMissing(f"{arguments[-1]} was not downloaded: make compatibility")
    program = find_tool("npm")
    print(f"npm {' '.join(arguments)}")
    try:
        subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)
    except subprocess.CalledProcessError as failure:
        said = failure.stderr.decode(errors="replace").strip().splitlines()
        raise ToolMissing(f"npm {' '.join(arguments)} failed: {said[-1:]}") from failure


def main() -> None:
    """Get what can be had; what cannot is told, and its column is left out of the matrix."""
    for download in (ohif, dcmjs):
        try:
            print(download())
        except ToolMissing as why:
            print(why)


if __name__ == "__main__":
    main()
