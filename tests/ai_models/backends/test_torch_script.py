"""A TorchScript file computes: it opens no file and calls no host, whoever wrote it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from ai_models.backends.inspection_torch import inspect_torchscript
from ai_models.backends.torch_script import check_script
from ai_models.predictor import Predictor
from ai_models.types import ModelError
from tests.pipeline.odd_models import Holding, write_torchscript


class Plain(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], dim=1)


def scripted(tmp_path: Path, body: str) -> bytes:
    """A file whose program has this line more, put in by hand as an attacker would."""
    write_torchscript(tmp_path / "plain", Plain())
    written = io.BytesIO()
    old = zipfile.ZipFile(tmp_path / "plain" / "w.ts")
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith(".py"):
                assert b"    _0 =" in content
                content = content.replace(b"    _0 =", f"    {body}\n    _0 =".encode(), 1)
            new.writestr(entry.filename, content)
    return written.getvalue()


@pytest.mark.parametrize("body", [
    'torch.save(image, "PLACE")',
    'image.save("PLACE")',
    'torch.save  (image, "PLACE")',
    '_1 = (torch.save # (\n      (image, "PLACE"))',
    'ops.aten.save(image, "PLACE")',
    '_1 = torch.fill_(torch.from_file("PLACE", True, 4), 1.0)',
])
def test_a_program_that_writes_a_file_is_refused_before_it_runs(
    tmp_path: Path, body: str
) -> None:
    kept = tmp_path / "ledger.db"
    kept.write_bytes(b"of all patients here")
    content = scripted(tmp_path, body.replace("PLACE", str(kept)))
    with pytest.raises(ModelError, match="reaches files") as caught:
        check_script(content, "w.ts")
    assert caught.value.reason == "model.code"


@pytest.mark.parametrize("body", [
    'ops.image.write_file("PLACE", image)', "ops.c10d.barrier(image)",
    "_1 = __torch__.torch.classes.dist_c10d.FileStore",
    '_1 = rpc_async("other", image)',
])
def test_a_program_that_calls_libraries_beyond_computing_is_refused(
    tmp_path: Path, body: str
) -> None:
    with pytest.raises(ModelError, match="only computes"):
        check_script(scripted(tmp_path, body), "w.ts")


def test_what_a_card_names_is_looked_at_before_it_is_loaded(tmp_path: Path) -> None:
    class Saver(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            torch.save(image, "/nowhere/at/all")
            return torch.cat([0.5 - image, image - 0.5], dim=1)

    predictor = Predictor(write_torchscript(tmp_path / "saver", Saver()))
    with pytest.raises(ModelError, match="calls save"):
        predictor.load()


def test_a_file_is_looked_at_before_a_card_is_made_of_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"patients")
    (tmp_path / "network.ts").write_bytes(scripted(tmp_path, f'torch.save(image, "{kept}")'))
    with pytest.raises(ModelError, match="calls save"):
        inspect_torchscript(tmp_path / "network.ts")
    assert kept.read_bytes() == b"patients"


def test_a_network_that_only_computes_is_let_through(tmp_path: Path) -> None:
    for number, module in enumerate((Plain(), Holding(1))):
        folder = tmp_path / str(number)
        write_torchscript(folder, module)
        check_script((folder / "w.ts").read_bytes(), "w.ts")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_torchscript(tmp_path / "plain", Plain())
    written = io.BytesIO((tmp_path / "plain" / "w.ts").read_bytes())
    with zipfile.ZipFile(written, "a") as archive:
        name = next(one for one in archive.namelist() if one.endswith(".py"))
        archive.writestr(name.upper(), "")
    with pytest.raises(ModelError, match="two files of one name"):
        check_script(written.getvalue(), "w.ts")


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no file of torch\.jit\.save") as caught:
        check_script(b"PK but not really", "w.ts")
    assert caught.value.reason == "model.load_failed"
