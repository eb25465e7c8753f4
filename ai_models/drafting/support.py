"""Whether evidence says what a statement says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ai_models.drafting.clauses import Unclear
from ai_models.drafting.evidence import EvidenceItem
from ai_models.drafting.number_support import Known, check_number, quantity_of
from ai_models.drafting.numbers_said import TIMES
from ai_models.drafting.reading import Entity, Reader, stems_of
from ai_models.drafting.statements import Statement

_THERE = frozenset({"grown", "shrunk", "steady", "new", "beyond_earlier"})


def check(
    statement: Statement, reader: Reader, cited: Sequence[EvidenceItem]
) -> list[Entity]:
    """The entities that a statement is about, whose cited evidence says the same.

    Raises
    ------
    Unclear
        It does not; ``kind`` says what is wrong, ``not_cited`` where other evidence would say it.
    """
    named = _of_name(statement, reader)
    with_evidence = [
        Known(one, tuple(item for item in cited if item in one.items)) for one in named
    ]
    try:
        return _among(statement, [one for one in with_evidence if one.cited], reader, cited)
    except Unclear as problem:
        try:
            whole = [Known(one, one.items) for one in named]
            _among(statement, whole, reader, reader.evidence.items)
        except Unclear:
            raise problem from None
        raise Unclear("not_cited", f"not what the cited evidence says ({problem})") from problem


def _of_name(statement: Statement, reader: Reader) -> list[Entity]:
    named = [
        one for one in reader.entities
        if one.base == statement.base and statement.ordinal in (None, one.ordinal)
    ]
    if not named and not any(
        item.kind == "count" and stems_of(item.finding) == statement.base
        for item in reader.evidence
    ):
        name = " ".join(statement.base)
        raise Unclear("finding", f"there is no {name} {statement.ordinal or ''} in the evidence")
    return named


def _among(
    statement: Statement, known: Sequence[Known], reader: Reader, cited: Sequence[EvidenceItem]
) -> list[Entity]:
    if not known:
        return _only_counted(statement, reader, cited)
    sides = set(statement.sides)
    if (sides == {"left", "right"} and statement.is_plural) or len(sides) == 3:
        sides = {"both"}
    if "both" in sides and len(sides) == 2:
        raise Unclear("side", "both sides and one of them are said")
    if "both" in sides:
        return _both_sides(statement, known, reader, cited)
    failed: list[Unclear] = []
    good = []
    for one in known:
        try:
            _check_one(statement, one, is_one_of_several=statement.is_plural and len(known) > 1)
            good.append(one)
        except Unclear as problem:
            failed.append(problem)
    if not good or (statement.is_plural and failed):
        raise failed[0]
    if statement.is_plural:
        _check_enough(statement, good)
        _check_all_numbers(statement, good)
    _check_counts(statement, good, reader, cited)
    _check_side_is_said(statement, reader, good)
    return [one.entity for one in good]


def _only_counted(
    statement: Statement, reader: Reader, cited: Sequence[EvidenceItem]
) -> list[Entity]:
    """A statement on how many there are, with no evidence of any one of them cited."""
    counted = [
        one for one in cited
        if one.kind == "count" and stems_of(one.finding) == statement.base
    ]
    said_more = (
        statement.numbers or statement.terms or statement.changes or statement.sides
        or statement.quantities or statement.relation
        or set(statement.sites) - {word for one in counted for word in _site_words(one)}
    )
    if not counted or statement.ordinal is not None or said_more:
        raise Unclear("finding", f"nothing that is cited is about {' '.join(statement.base)}")
    if statement.status != "present" or not counted[0].value:
        raise Unclear("status", "that is not what the count says")
    _check_counts(statement, [], reader, cited)
    return []


def _site_words(item: EvidenceItem) -> set[str]:
    words = stems_of(item.site)
    return {*words, " ".join(words)}


def _both_sides(
    statement: Statement, known: Sequence[Known], reader: Reader, cited: Sequence[EvidenceItem]
) -> list[Entity]:
    whole = [one for one in known if one.entity.side == "both"]
    halves = {side: [one for one in known if one.entity.side == side] for side in ("left", "right")}
    bare = replace(statement, sides=())
    if whole and not statement.terms:
        for one in whole:
            _check_one(bare, one)
        return [one.entity for one in whole]
    if not halves["left"] or not halves["right"]:
        raise Unclear("side", "the evidence does not say that it is on both sides")
    if statement.numbers:
        raise Unclear("number", "one number is told of both sides")
    for side in ("left", "right"):
        for one in halves[side]:
            _check_one(bare, one)
    return [one.entity for side in ("left", "right") for one in halves[side]]


def _check_one(statement: Statement, known: Known, *, is_one_of_several: bool = False) -> None:
    entity = known.entity
    for side in statement.sides:
        if side != entity.side:
            raise Unclear("side", f"{side} is said, the evidence says {entity.side or 'no side'}")
    for site in statement.sites:
        if site not in entity.sites:
            raise Unclear("anatomy", f"{site} is not where the evidence has it")
    _check_status(statement, known)
    for change in statement.changes:
        if change not in {one.status for one in known.of("comparison")}:
            raise Unclear("comparison", f"{change} is not what became of it")
    for term in statement.terms:
        if term not in {" ".join(stems_of(one.term)) for one in known.of("term")}:
            raise Unclear("term", f"{term} is not what the evidence says")
    if not is_one_of_several:
        for number in statement.numbers:
            check_number(number, statement, known)
    for quantity in statement.quantities:
        _check_quantity(quantity, statement, known)
    bounds = any(one.role == "bound" or one.quantity == "threshold" for one in statement.numbers)
    if statement.relation and not bounds and "threshold" not in statement.quantities and not (
        statement.relation == "above" and any(one.unit in TIMES for one in statement.numbers)
    ):
        raise Unclear("comparison", f"{statement.relation} what is not said")


def _check_status(statement: Statement, known: Known) -> None:
    """Hold what is said of presence against the score where there is one, else what was found."""
    held = _held(known)
    said = statement.status
    if said == "not_found" and held == "absent":
        said = "absent"
    if said == "absent" and held == "not_found":
        raise Unclear("status", "not found is said to be absent")
    if said == "present" and held == "earlier_only" and statement.changes:
        return
    has_score = any(one.kind == "score" for one in known.entity.items)
    if said == "" and (has_score or known.of("measurement")):
        return
    if said != held:
        raise Unclear("status", f"{said or 'only a number'} is said, the evidence says {held}")
    if has_score and not known.of("score"):
        raise Unclear("not_cited", "the score that says whether it is present is not cited")
    if said in ("not_found", "not_analysed") and not known.of(said):
        raise Unclear("not_cited", "what says so is not cited")


def _held(known: Known) -> str:
    """What the evidence says of presence, whether it is cited or not."""
    items = known.entity.items
    kinds = {one.kind for one in items}
    scores = {one.status for one in items if one.kind == "score"}
    if scores:
        return scores.pop() if len(scores) == 1 else "two statuses"
    for kind in ("not_found", "not_analysed"):
        if kind in kinds:
            return kind
    if kinds == {"measurement"} and all(quantity_of(one) == "probability" for one in items):
        # A number that nothing says the meaning of: whether 0.4 is present is not for a draft.
        return "only a number"
    changes = {one.status for one in items if one.kind == "comparison"}
    return "earlier_only" if kinds == {"comparison"} and not changes & _THERE else "present"


def _check_all_numbers(statement: Statement, known: Sequence[Known]) -> None:
    """Of several findings each number must be that of one, each of another where there are more."""
    free = list(known)
    for number in statement.numbers:
        for one in free:
            try:
                check_number(number, statement, one)
            except Unclear:
                continue
            if len(statement.numbers) > 1:
                free.remove(one)
            break
        else:
            raise Unclear("number", f"{number.value:g} {number.unit} is in no cited evidence")
    if len(statement.numbers) == 1 and len(known) > 1:
        for one in known:
            check_number(statement.numbers[0], statement, one)


def _check_counts(
    statement: Statement, good: Sequence[Known], reader: Reader, cited: Sequence[EvidenceItem]
) -> None:
    counts = [
        item for item in reader.evidence
        if item.kind == "count" and stems_of(item.finding) == statement.base
    ]
    everything = [one for one in reader.entities if one.base == statement.base]
    present = [
        one for one in everything if not any(
            item.kind in ("not_found", "not_analysed")
            or item.status in ("absent", "undetermined", "gone", "beyond_present")
            for item in one.items
        )
    ]
    if statement.counts and not counts and any(
        item.kind == "score" for one in everything for item in one.items
    ):
        raise Unclear("count", "a score says whether, and not how many")
    total = int(counts[0].value or 0) if counts else len(present)
    for count in statement.counts:
        if count == total and (
            len(good) == total or any(one in cited for one in counts) or count == len(good)
        ):
            continue
        if count == len(good) < total and _says_more(statement):
            bare = replace(statement, counts=(), is_plural=False)
            if count == len(_satisfying(bare, everything)):
                continue
        raise Unclear("count", f"{count} is said, the evidence has {total}")
    several = statement.is_plural and statement.status == "present" and not statement.counts
    if several and max(total, len(good)) < 2:
        raise Unclear("count", "more than one is said, the evidence has one")


def _check_enough(statement: Statement, good: Sequence[Known]) -> None:
    """What is said of several must be cited of as many."""
    more = _says_more(statement) or statement.numbers or statement.quantities
    wanted = max(statement.counts, default=2)
    both = any(one.entity.side == "both" for one in good)
    if more and statement.ordinal is None and not both and len(good) < wanted:
        raise Unclear("not_cited", f"said of {wanted}, evidence of {len(good)} is cited")


def _says_more(statement: Statement) -> bool:
    return bool(statement.changes or statement.terms or statement.sides)


def _satisfying(statement: Statement, entities: Sequence[Entity]) -> list[Entity]:
    found = []
    for one in entities:
        try:
            _check_one(statement, Known(one, one.items), is_one_of_several=True)
        except Unclear:
            continue
        found.append(one)
    return found


def _check_side_is_said(
    statement: Statement, reader: Reader, good: Sequence[Known]
) -> None:
    """A lung is left or right where both are in the evidence."""
    if statement.sides or statement.is_plural or statement.ordinal is not None:
        return
    sides = {
        one.side for one in reader.entities if one.base == statement.base and one.ordinal is None
    }
    if len(sides - {""}) > 1 and all(one.entity.ordinal is None for one in good):
        raise Unclear("side", "which side is meant is not said")


def _check_quantity(quantity: str, statement: Statement, known: Known) -> None:
    """A quantity without a number of its own."""
    if quantity == "threshold":
        _check_relation(statement, known)
        return
    if quantity == "probability" and (known.of("score") or known.of("measurement")):
        return
    if quantity == "volume" and known.of("comparison"):
        return
    if quantity == "size":
        if known.of("comparison"):
            return
        quantity = "long axis"
    if not any(quantity_of(one) == quantity for one in known.of("measurement", "score")):
        raise Unclear("quantity", f"the cited evidence has no {quantity} of it")


def _check_relation(statement: Statement, known: Known) -> None:
    """Above or below the threshold, where no number says which of several."""
    wanted = {"above": "present", "below": "absent"}.get(statement.relation)
    if wanted is None or wanted not in {one.status for one in known.of("score")}:
        raise Unclear("status", "that is not where its score lies")
