"""A Hugging Face folder before anything of it is loaded: what is in it, and what it would run.

Only its JSON files are read here, and no library is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_models.backends.builds import why_no_torchvision
from ai_models.backends.offline import no_network
from ai_models.backends.protocol import is_out_of_memory
from ai_models.card import Card
from ai_models.trust import Site
from ai_models.types import ModelError

_LARGEST_JSON_BYTES = 16 << 20
_LONGEST_REASON = 600


def check_folder(card: Card, site: Site) -> None:
    """Refuse what is incomplete, and what needs more trust than it has.

    Raises
    ------
    ModelError
        ``model.weights_missing``; ``model.remote_code``; ``model.pickle``; ``model.load_failed``:
        an adapter without its model, or JSON that is none.
    """
    folder = card.weights_path
    if not (folder / "config.json").is_file():
        raise ModelError(f"no config.json in {folder}", reason="model.weights_missing")
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder.name} holds an adapter, whose model would be fetched from elsewhere: merge "
            "both into one", reason="model.load_failed",
        )
    if not runs_own_code(card, site) and (culprit := names_code(folder)):
        raise ModelError(
            f"{culprit} of {card.id} asks for code of its own: that needs trust.remote_code on the "
            "card and the folder in models.trusted_folders", reason="model.remote_code",
        )
    if not has_safetensors(folder):
        if not any(folder.glob("*.bin")):
            raise ModelError(f"no weights in {folder}", reason="model.weights_missing")
        if not (card.trust.pickle and site.trusts(card.folder)):
            raise ModelError(
                f"the weights of {card.id} are pickled: save them as safetensors, or say "
                "trust.pickle on the card and trust its folder", reason="model.pickle",
            )


def runs_own_code(card: Card, site: Site) -> bool:
    """Whether Python files of the folder may run: card and site must both say so."""
    return card.trust.remote_code and site.trusts(card.folder)


def has_safetensors(folder: Path) -> bool:
    """Whether weights are there that cannot hold a program."""
    return any(folder.glob("*.safetensors"))


def read_settings(path: Path) -> Mapping[str, Any]:
    """A JSON file of the folder; empty where there is none. ModelError ``model.load_failed``."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_JSON_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path.name} cannot be read: {error}", reason="model.load_failed"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is no mapping", reason="model.load_failed")
    return content


def names_code(folder: Path) -> str | None:
    """The file that names Python code (``auto_map``) or a compiled kernel of some hub."""
    for path in sorted(folder.rglob("*config.json")):
        settings = read_settings(path)
        for part in (settings, *(one for one in settings.values() if isinstance(one, dict))):
            kernel = part.get("attn_implementation") or part.get("_attn_implementation")
            if "auto_map" in part or "/" in str(kernel or ""):
                return path.name
    return None


def import_transformers() -> Any:
    """The library, told that there is no network. ModelError ``model.backend_missing``."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            "the transformers package is not installed", reason="model.backend_missing"
        ) from error
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    return library


def check_library() -> None:
    """Try whether the library can make a model here at all, which it tells only when it is to.

    Raises
    ------
    ModelError
        ``model.backend_missing``: it is not there, or what it builds upon is of another build.
    """
    library = import_transformers()
    try:
        _ = library.PreTrainedModel
    except ImportError as error:
        said = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ModelError(
            f"transformers can make no model: {why_no_torchvision() or said}",
            reason="model.backend_missing",
        ) from error


class FolderLoader:
    """Loads what is in a verified folder, by the library's classes and from nowhere else."""

    def __init__(self, card: Card, site: Site) -> None:
        self._library = import_transformers()
        self._card = card
        self._folder = card.weights_path
        self._own_code = runs_own_code(card, site)

    def model(self, loads: str, dtype: Any) -> Any:
        """A model by the name of its ``AutoModel`` class.

        Raises
        ------
        ModelError
            ``model.load_failed``; also where the file has not all the weights of the model: the
            library would make the missing ones up.
        """
        module, told = self.part(
            loads, dtype=dtype, output_loading_info=True, weights_only=True,
            use_safetensors=has_safetensors(self._folder),
        )
        for what in ("missing_keys", "mismatched_keys", "error_msgs"):
            if told.get(what):
                names = ", ".join(sorted(str(one) for one in told[what])[:4])
                raise ModelError(
                    f"the weights of {self._card.id} are not those of {type(module).__name__}: "
                    f"{what.replace('_', ' ')} {names}", reason="model.load_failed",
                )
        return module

    def part(self, loads: str, **options: Any) -> Any:
        """What ``from_pretrained`` of the class of this name gives. ModelError as `model`."""
        try:
            with no_network(self._card.id):
                return getattr(self._library, loads).from_pretrained(
                    str(self._folder), local_files_only=True, trust_remote_code=self._own_code,
                    **options,
                )
        except ModelError:
            raise
        except Exception as error:  # the library raises OSError, ValueError, KeyError and more
            if is_out_of_memory(error):
                raise
            said = " ".join(str(error).split())[:_LONGEST_REASON]
            # It says which of its own classes is not there, and not that torchvision is why.
            why = why_no_torchvision() if "Could not import module" in said else ""
            raise ModelError(
                f"transformers cannot load {self._folder.name}: {said}" + (why and f". {why}"),
                reason="model.backend_missing" if why else "model.load_failed",
            ) from error
