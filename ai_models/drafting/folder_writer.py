"""A writer whose language model lies in a folder beside its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ai_models.drafting.asking import messages, sentences_in
from ai_models.drafting.evidence import EvidenceList
from ai_models.drafting.impression import Writer, WriterIdentity, Written
from ai_models.drafting.writer_card import WriterCard, why_writer_refused
from ai_models.trust import Site
from ai_models.types import ModelError

if TYPE_CHECKING:
    from ai_models.backends.causal_language import CausalLanguageModel


class FolderWriter:
    """Lets a language model of this machine write; it is loaded with the first draft."""

    def __init__(self, card: WriterCard, site: Site, device: str = "cpu") -> None:
        """``ModelError`` ``model.refused`` where the site does not take it."""
        if (why := why_writer_refused(card, site)) is not None:
            raise ModelError(why, reason="model.refused")
        self._card = card
        self._device = device
        self._model: CausalLanguageModel | None = None

    @property
    def identity(self) -> WriterIdentity:
        """See `Writer.identity`."""
        return self._card.identity

    def write(self, evidence: EvidenceList, language: str) -> Written:
        """See `Writer.write`; raises as `answer` does, and ``model.wrong_output``."""
        answer, notes = self.answer(messages(evidence, language))
        return Written(sentences_in(answer), notes)

    def answer(self, asked: Sequence[Mapping[str, str]]) -> tuple[str, tuple[str, ...]]:
        """What the model says to the messages of a chat, and sentences on how that was done.

        Raises
        ------
        ModelError
            As `CausalLanguageModel` does; ``worker.out_of_memory``.
        """
        with self._memory_told():
            model = self._loaded()
            return model.answer(asked, self._card.max_tokens), model.notes

    def load(self) -> None:
        """Have the model loaded; raises as `answer`."""
        with self._memory_told():
            self._loaded()

    @contextmanager
    def _memory_told(self) -> Iterator[None]:
        from ai_models.backends.protocol import is_out_of_memory

        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.close()
            raise ModelError(
                f"too little memory for {self._card.id}", reason="worker.out_of_memory"
            ) from error

    def close(self) -> None:
        """Let go of the weights."""
        if self._model is not None:
            self._model.close()
        self._model = None

    def _loaded(self) -> CausalLanguageModel:
        if self._model is not None:
            return self._model
        from ai_models.backends.causal_language import CausalLanguageModel, LanguageFolder

        card = self._card
        adapter = card.adapter
        model = CausalLanguageModel(
            LanguageFolder(card.folder / (card.weights.path or ""), card.weights.sha256 or ""),
            None if adapter is None else LanguageFolder(card.folder / adapter.path, adapter.sha256),
            precision=card.precision, device=self._device,
        )
        model.load()
        self._model = model
        return model


def open_writer(card: WriterCard, site: Site, device: str = "cpu") -> Writer:
    """The writer that a card describes. ModelError where the site does not take it."""
    from ai_models.drafting.endpoint_writer import EndpointWriter

    if card.writer == "openai":
        return EndpointWriter(card, site)
    return FolderWriter(card, site, device)
