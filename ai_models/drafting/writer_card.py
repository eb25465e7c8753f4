"""The card of a writer: one ``writer.yaml`` says who drafts impressions, and under what terms.

It is to a writer what ``model.yaml`` is to a model: data, never code; unknown keys are refused; a
host is named and stands in the settings of the node; weights load by their SHA-256.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationError

from ai_models.card_base import Digest, Entry, Licence, LongName, Text
from ai_models.drafting.impression import WriterIdentity
from ai_models.trust import Site, why_not_clinical
from ai_models.types import CardError, ModelError
from ai_models.weights import folder_sha256
from ai_models.yaml_lines import read_content, read_yaml

WRITER_CARD_NAME = "writer.yaml"


class WriterWeights(Entry):
    """The folder of a language model beside the card."""

    path: Text | None = None
    """A Hugging Face folder with safetensors; absent where another host serves the model."""
    sha256: Digest | None = None
    """Of the folder, as of a model's card."""
    licence: Licence
    """Of the weights. Empty where there is none."""
    source: Text
    """Where they are from."""


class WriterAdapter(Entry):
    """A LoRA adapter for that folder, as peft writes it."""

    path: Text
    """A folder beside the card."""
    sha256: Digest
    """Of the folder."""


class WriterEndpoint(Entry):
    """A host that speaks the protocol of OpenAI: vLLM, TGI, llama.cpp, Ollama."""

    name: LongName
    """A key of ``models.endpoints`` in the settings of the node: no other host is asked."""
    model: LongName
    """As that host calls it."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0 takes the likeliest word each time."""
    seed: int = 0
    """The same again for the same evidence, where the host keeps to it."""
    stream: bool = False
    """Ask for the answer piece by piece: a proxy between may cut a silence short."""


class WriterCard(Entry):
    """A writer of impressions."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    """The name in rules and results."""
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    """In quotes where it looks like a number."""
    name: LongName
    """As people read it."""
    intended_use: Text
    """For what it was made."""
    demonstration: bool
    """Whether it is only for show."""
    licence: Licence
    """Of the code, by its SPDX name."""
    writer: Literal["openai", "huggingface"]
    """A host, or a folder beside this card."""
    weights: WriterWeights
    """Where they lie and what identifies them."""
    adapter: WriterAdapter | None = None
    """Of ``huggingface``."""
    endpoint: WriterEndpoint | None = None
    """Required of ``openai``."""
    max_tokens: Annotated[int, Field(ge=16, le=8192)] = 1024
    """A draft that ends here and not by itself is refused."""
    precision: Literal["fp32", "bf16", "fp16", "nf4"] = "fp32"
    """Of ``huggingface``; ``nf4`` is 4 bit with double quantisation (Dettmers et al. 2023), on a
    GPU and with the bitsandbytes package."""

    deadline_s: Annotated[float, Field(gt=0, le=3600)] = 300.0
    """Of ``huggingface``: seconds for one draft, loading included, after which its process is
    ended. A host has the ``timeout_s`` of its endpoint."""
    device_memory_mib: Annotated[int, Field(ge=1)] | None = None
    """Of ``huggingface``: what it takes of a device until that was measured; null: as its weights
    let expect."""

    _folder: Path = PrivateAttr(default=Path())
    _content: bytes = PrivateAttr(default=b"")

    @property
    def folder(self) -> Path:
        """Where the card lies."""
        return self._folder

    @property
    def content(self) -> bytes:
        """The bytes of the card."""
        return self._content

    @property
    def identity(self) -> WriterIdentity:
        """For the provenance of a report."""
        model = self.endpoint.model if self.endpoint is not None else self.weights.path or ""
        digests = [self.weights.sha256 or "", self.adapter.sha256 if self.adapter else ""]
        here = self.writer == "huggingface"
        return WriterIdentity(
            self.id, self.version, self.name, model, "+".join(filter(None, digests)) if here else ""
        )


def load_writer_card(folder: Path, content: bytes | None = None) -> WriterCard:
    """Read and check ``folder/writer.yaml``; nothing else is opened.

    ``content`` is taken in place of the file.

    Raises
    ------
    CardError
        ``file:line: key.path: message`` of the first thing wrong.
    """
    path = folder / WRITER_CARD_NAME
    if content is None:
        content = read_content(path)
    values, lines = read_yaml(content, path)
    if not isinstance(values, dict):
        raise CardError("a card is a mapping of keys", file=str(path), line=1)
    try:
        card = WriterCard.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key_path = ".".join(str(part) for part in first["loc"])
        message = {"extra_forbidden": "unknown key", "missing": "required and absent"}.get(
            first["type"], first["msg"]
        )
        raise CardError(
            message, key_path=key_path, line=lines.get(key_path), file=str(path)
        ) from error
    for key_path, message in _contradictions(card, folder):
        raise CardError(message, key_path=key_path, line=lines.get(key_path), file=str(path))
    card._folder = folder
    card._content = content
    return card


def _contradictions(card: WriterCard, folder: Path) -> list[tuple[str, str]]:
    found = []
    if card.writer == "openai":
        if card.endpoint is None:
            found.append(("endpoint", "required of openai: who serves the model is said here"))
        if card.weights.path is not None:
            found.append(("weights.path", "another host has the weights: no path"))
        if card.adapter is not None:
            found.append(("adapter", "of huggingface: another host puts its adapters on itself"))
        if card.precision != "fp32":
            found.append(("precision", "of huggingface: another host settles that itself"))
        found += [
            (key, "of huggingface: a host has the timeout_s of models.endpoints, and its memory")
            for key in ("deadline_s", "device_memory_mib") if key in card.model_fields_set
        ]
    else:
        if card.endpoint is not None:
            found.append(("endpoint", "of openai: a huggingface writer asks nobody"))
        if card.weights.path is None or card.weights.sha256 is None:
            found.append(("weights", "path and sha256 expected of huggingface"))
        places = [("weights.path", card.weights.path)]
        places += [("adapter.path", card.adapter.path)] if card.adapter is not None else []
        for key_path, place in places:
            inside = place is not None and (folder / place).resolve().is_relative_to(
                folder.resolve()
            )
            if place is not None and (Path(place).is_absolute() or not inside):
                found.append((key_path, "must lie in the folder of the card"))
    return found


def check_folders(card: WriterCard, *, content: bool = False) -> None:
    """Refuse a card whose folders are not there, or with ``content`` are others than it says.

    Raises
    ------
    ModelError
        ``model.weights_missing``, ``model.hash_mismatch``
    """
    folders = [(card.weights.path, card.weights.sha256)]
    folders += [(card.adapter.path, card.adapter.sha256)] if card.adapter is not None else []
    for name, sha256 in folders:
        if name is None:
            continue
        folder = card.folder / name
        if not folder.is_dir():
            raise ModelError(f"no folder of weights at {folder}", reason="model.weights_missing")
        if content and (found := folder_sha256(folder)) != sha256:
            raise ModelError(
                f"{name} has the SHA-256 {found}, its card says {sha256}",
                reason="model.hash_mismatch",
            )


def why_writer_refused(card: WriterCard, site: Site) -> str | None:
    """Why this site must not let the writer write; ``None`` where it may."""
    if site.use == "clinical":
        if card.demonstration:
            return f"{card.id} is a demonstration, not for clinical use"
        for where, licence in (("code", card.licence), ("weights", card.weights.licence)):
            if (why := why_not_clinical(licence)) is not None:
                return f"{card.id}: the licence of its {where} {why}"
    if card.endpoint is not None and card.endpoint.name not in site.endpoints:
        known = ", ".join(sorted(site.endpoints)) or "none"
        return (
            f"{card.id} is served by {card.endpoint.name!r}, which is not in models.endpoints "
            f"(there: {known})"
        )
    return None
