"""The card of a network that takes windows, from what it takes and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ai_models.scaffold.draft import Draft, Wishes, put_input, settle
from ai_models.scaffold.structures import label_entries, without_background
from ai_models.types import ModelError

if TYPE_CHECKING:
    from ai_models.backends.inspection import NetworkFacts

_WINDOW, _SLICE, _WHOLE = 96, 512, 224
_ANY_NUMBER = 1e6
_TASKS_OF = {
    "voxels": ("segmentation",), "numbers": ("classification", "regression"),
    "boxes": ("detection",),
}


def describe_network(draft: Draft, wishes: Wishes, facts: NetworkFacts) -> None:
    """Task, input, output and windows of a network.

    Raises
    ------
    ModelError
        ``model.task``: it cannot have the task that was asked for; ``model.wrong_input``,
        ``model.wrong_output``: as many names as channels are needed.
    """
    possible = _TASKS_OF[facts.answers]
    if wishes.task is not None and wishes.task not in possible:
        raise ModelError(
            f"the network answers {facts.answers}: its task is {' or '.join(possible)}, not "
            f"{wishes.task}", reason="model.task",
        )
    task = wishes.task or possible[0]
    guessed = len(possible) > 1 and wishes.task is None
    draft.put("task", task, "classification or regression (--task)" if guessed else "")
    put_input(draft, wishes, axes=len(facts.edges), channels=facts.channels)
    if task == "segmentation":
        put_labels(draft, wishes, facts.answered, looks=facts.looks)
    elif task == "detection":
        _put_findings(draft, wishes)
    elif task == "classification":
        put_scores(draft, wishes, facts.answered, looks=facts.looks)
    else:
        put_quantities(draft, wishes, facts.answered)
    _put_windows(draft, facts)
    settle(draft)


def put_labels(
    draft: Draft, wishes: Wishes, channels: int, *, looks: str = "logits",
    names: tuple[str, ...] = (),
) -> None:
    """``output`` of a segmentation whose network answers so many channels.

    ``names`` are what the source calls its channels.
    """
    given = wishes.names or tuple(without_background(names))
    overlapping = len(given) == channels
    if not given:
        overlapping = channels == 1
        count = channels if overlapping else channels - 1
        given = tuple(f"Structure {number + 1}" for number in range(count))
    if len(given) not in (channels, channels - 1):
        raise ModelError(
            f"{len(given)} names for {channels} channels: one for each, or for each but the "
            "background", reason="model.wrong_output",
        )
    activation = "sigmoid" if overlapping else "none" if looks == "exclusive" else "softmax"
    draft.put("output.activation", activation, _activation_check(activation, looks))
    if overlapping and channels > 1:
        draft.put("output.overlapping", True, "whether labels may share voxels")
    put_named_labels(draft, given, are_guessed=not (wishes.names or names))


def put_named_labels(draft: Draft, names: tuple[str, ...], *, are_guessed: bool = False) -> None:
    """``output.labels`` from names."""
    entries = label_entries(names)
    draft.put("output.labels", [entry for entry, _ in entries])
    for place, (_, why) in enumerate(entries):
        if are_guessed:
            draft.check(f"output.labels[{place}].name", "what this channel marks")
        draft.check(f"output.labels[{place}].type", why)


def put_scores(
    draft: Draft, wishes: Wishes, channels: int, *, looks: str = "logits",
    names: tuple[str, ...] = (), activation: str = "",
) -> None:
    """``output`` of a classification with so many channels."""
    given = [identifier(one, f"finding_{place + 1}") for place, one in enumerate(
        _named(wishes, names, channels, "finding"))]
    found = activation or (
        "none" if looks in ("exclusive", "independent") else "sigmoid" if channels == 1
        else "softmax"
    )
    draft.put("output.activation", found, _activation_check(found, looks))
    if draft.get("input.kind") == "volume" and draft.get("input.ndim") == 2:
        draft.put("output.per", "slice")
        draft.put("output.aggregate", "max", "max, mean or noisy_or of the slices")
    draft.put("output.channels", channels)
    draft.put("output.scores", [
        {"name": name, "channel": channel} for channel, name in enumerate(_unique(given))
    ])
    if not (wishes.names or names):
        for channel in range(channels):
            draft.check(f"output.scores[{channel}].name", "what this number says")


def put_quantities(
    draft: Draft, wishes: Wishes, channels: int, names: tuple[str, ...] = ()
) -> None:
    """``output`` of a regression with so many channels."""
    given = [identifier(one, f"quantity_{place + 1}") for place, one in enumerate(
        _named(wishes, names, channels, "quantity"))]
    draft.put("output.channels", channels)
    draft.put("output.quantities", [
        {"name": name, "channel": channel, "unit": "1", "minimum": -_ANY_NUMBER,
         "maximum": _ANY_NUMBER}
        for channel, name in enumerate(_unique(given))
    ])
    for channel in range(channels):
        where = f"output.quantities[{channel}]"
        draft.check(f"{where}.unit", "in UCUM: mo, mm, %")
        draft.check(f"{where}.maximum", "what can be: an answer beyond is refused")


def identifier(name: str, otherwise: str) -> str:
    """A name as scores have it: small letters, digits and ``_``."""
    plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in name.lower())
    plain = "_".join(part for part in plain.split("_") if part)[:64]
    return plain if plain[:1].isalpha() else otherwise


def _named(
    wishes: Wishes, names: tuple[str, ...], channels: int, what: str
) -> tuple[str, ...]:
    return as_many(
        wishes.names or names or tuple(f"{what}_{n + 1}" for n in range(channels)), channels
    )


def as_many(names: tuple[str, ...], channels: int) -> tuple[str, ...]:
    """The names. ModelError ``model.wrong_output`` where they are not one for each channel."""
    if len(names) != channels:
        raise ModelError(
            f"{len(names)} names for {channels} channels: one for each expected",
            reason="model.wrong_output",
        )
    return names


def _unique(names: list[str]) -> list[str]:
    return [
        name if name not in names[:place] else f"{name[:58]}_{place + 1}"
        for place, name in enumerate(names)
    ]


def _activation_check(activation: str, looks: str) -> str:
    if looks == "exclusive":
        return "its answers to noise sum to 1: it seems to end in a softmax"
    if looks == "independent" and activation == "none":
        return "its answers to noise lie in 0..1: it seems to end in a sigmoid or softmax"
    if looks == "independent":
        return "its answers to noise lie in 0..1: export it without its last sigmoid"
    return "softmax of exclusive, sigmoid of independent channels"


def _put_findings(draft: Draft, wishes: Wishes) -> None:
    draft.put("output.box_format", "corners", "two corners, or center_size")
    draft.put("output.min_score", 0.5, "below it nothing is reported")
    names = wishes.names or ("Finding 1",)
    put_named_labels(draft, names, are_guessed=not wishes.names)
    draft.put("output.first_label", 0, "what the network calls the first label: 0 or 1")


def _put_windows(draft: Draft, facts: NetworkFacts) -> None:
    task, edges, flat = draft.get("task"), facts.edges, len(facts.edges) == 2
    is_fixed = None not in edges
    if task == "detection":
        if is_fixed:
            draft.put("runtime.roi", list(edges))
        return
    if task == "segmentation" and not flat:
        free = max(_WINDOW, *(facts.tried or (0,)))
        draft.put(
            "runtime.roi", [edge or free for edge in edges],
            "" if is_fixed else "the windows it was trained with",
        )
        return
    otherwise = _SLICE if task == "segmentation" else _WHOLE if flat else _WINDOW
    size: dict[str, Any] = {"edges": [edge or otherwise for edge in edges], "fit": "pad"}
    why = "pad, stretch or crop: as in training"
    draft.put("input.size", size, why if is_fixed else f"edges of training; {why}")
