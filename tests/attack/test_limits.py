"""Objects that would take too much, or stand in places that are not theirs."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from bench.raw_scu import CT, EXPLICIT, IMPLICIT, Closed
from bench.synthetic import ct_slice, head, pixel_header, text
from dicom_node.errors import NotUnderstood, UnsuitableInput
from dicom_node.imaging import decode
from dicom_node.imaging.decode import decode_frames, limit_decoded_bytes
from dicom_node.imaging.reading import read_header
from dicom_node.intake.header import read_data_set_head
from dicom_node.intake.refusals import printable
from dicom_node.intake.sources import BytesSource, InflatedTooMuch
from dicom_node.intake.walker import NestedTooDeeply
from tests.attack.mutations import CONTEXTS, DEFLATED, implicit_slice, nested
from tests.dicom_samples import enhanced_series, radiograph, write_instance
from tests.intake.conftest import Node, slice_of
from tests.intake.test_acceptor import until

Start = Callable[..., Node]
# Well-formed in pydicom's eyes or not, none of them may become more than a name.
TITLES_AND_UIDS = ("../../../etc", "/etc/passwd", "..", ".", "", "a\0b", "x/../../y", "%2e%2e%2f",
                   "~root", "-rf", "C:\\x", "1.2\n3", "\u202e1.2", "1." * 40)  # fmt: skip


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    nodes: list[Node] = []

    def make(**settings: object) -> Node:
        nodes.append(Node(tmp_path / f"spool{len(nodes)}", **settings))
        return nodes[-1]

    yield make
    for node in nodes:
        node.listener.close(drain_s=0)


def with_nest(depth: int, *, defined: bool, late: bool = False) -> bytes:
    """A slice with so many sequences within one another, before or behind its UIDs."""
    deep = nested(depth, defined=defined)
    if late:
        deep = deep.replace(b"\x08\0\x40\x11", b"\x40\0\x60\xa0")
    data = ct_slice("1.2.3.9.1", "1.2.3.1", "1.2.3.2", 1, bytes(512))
    at = data.index(pixel_header(512) if late else text(0x00080060, "CS", "CT"))
    return data[:at] + deep + data[at:]


@pytest.mark.parametrize("receive_path", ["streamed", "stock"])
def test_an_object_beyond_the_limit_is_refused_for_good_while_it_comes(
    start: Start, receive_path: str
) -> None:
    node = start(receive_path=receive_path, max_instance_bytes=100_000)
    scu = node.scu()
    assert scu.store(CT, *slice_of(1, 99_000)) == 0
    assert scu.store(CT, *slice_of(2, 100_002)) == 0xC006
    if receive_path == "streamed":
        # Nothing of it is kept on the way either, and the association goes on.
        assert scu.store(CT, *slice_of(3, 3_000_000)) == 0xC006
        assert scu.store(CT, *slice_of(4, 1000)) == 0
    assert len(node.kept()) == (2 if receive_path == "streamed" else 1)
    assert node.half_received() == node.quarantined() == []


@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_sequences_are_nested_as_deeply_as_the_settings_say(
    start: Start, defined: bool, late: bool
) -> None:
    node = start(max_sequence_depth=32)
    scu = node.scu()
    assert scu.store(CT, "1.2.3.9.1", with_nest(32, defined=defined, late=late)) == 0
    assert scu.store(CT, "1.2.3.9.1", with_nest(33, defined=defined, late=late)) == 0xC000
    deep = with_nest(2000 if defined else 20_000, defined=defined, late=late)
    assert scu.store(CT, "1.2.3.9.1", deep) == 0xC000
    reasons = {one["reason"] for name, one in node.happened if name == "instance_refused"}
    assert reasons == {"dataset.too_deep"}


def test_depth_is_seen_in_implicit_vr_and_in_deflated_data_sets() -> None:
    plain = implicit_slice(1)
    at = plain.index(b"\x08\0\x60\0")
    for defined in (True, False):
        deep = plain[:at] + nested(33, defined=defined, implicit=True) + plain[at:]
        with pytest.raises(NestedTooDeeply):
            read_data_set_head(BytesSource(deep), IMPLICIT, most_depth=32)
        assert read_data_set_head(BytesSource(deep), IMPLICIT, most_depth=33).rows == 16
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        packed = deflate.compress(with_nest(33, defined=defined, late=True)) + deflate.flush()
        with pytest.raises(NestedTooDeeply):
            read_data_set_head(BytesSource(packed), DEFLATED, most_depth=32)


def test_a_sequence_of_known_length_may_hold_what_nobody_understands() -> None:
    """Scanners write such things; it is passed over, and what follows it is found."""
    rubbish = struct.pack("<HH2sxxL", 8, 0x1140, b"SQ", 1000) + b"\xfe\xff\x00\xe0" + b"?" * 996
    data = ct_slice("1.2.3.9.1", "1.2.3.1", "1.2.3.2", 1, bytes(8))
    at = data.index(text(0x00080060, "CS", "CT"))
    found = read_data_set_head(BytesSource(data[:at] + rubbish + data[at:]), EXPLICIT)
    assert (found.modality, found.patient_id) == ("CT", "BENCH")


def test_the_walk_of_a_data_set_takes_steps_in_proportion_to_its_length() -> None:
    class Counted(BytesSource):
        bytes_given = 0

        def window(self, offset: int, length: int) -> bytes:
            found = self._data[offset : offset + max(length, 1 << 14)]
            Counted.bytes_given += len(found)
            return found

    item = b"".join(text(0x00080060, "CS", "CT") for _ in range(2000))
    given = []
    for items in (10, 40):
        wide = nested(1, defined=False).replace(text(0x00080060, "CS", "CT"), item * items)
        data = with_nest(1, defined=False).replace(nested(1, defined=False), wide)
        Counted.bytes_given = 0
        read_data_set_head(Counted(data), EXPLICIT)
        given.append(Counted.bytes_given / len(data))
    assert max(given) < 2


@pytest.mark.parametrize("uid", TITLES_AND_UIDS)
def test_no_uid_leads_out_of_the_spool(start: Start, tmp_path: Path, uid: str) -> None:
    node = start()
    scu = node.scu()
    for place in ("sop", "study", "series"):
        uids = {"sop": "1.2.3.9.1", "study": "1.2.3.1", "series": "1.2.3.2", place: uid}
        data = head(uids["sop"], uids["study"], uids["series"], 1) + pixel_header(8) + bytes(8)
        scu.store(CT, uids["sop"] or "1.2.3", data)
    root = node.spool.root
    assert list(tmp_path.iterdir()) == [root]
    kept = [path for path in root.rglob("*") if path.is_file()]
    assert all(path.resolve().is_relative_to(root) and not path.is_symlink() for path in kept)
    instances = [path for path in kept if "instances" in path.relative_to(root).parts[:1]]
    assert all(len(path.relative_to(root).parts) == 4 for path in instances)


@pytest.mark.parametrize("title", ["../../../etc/x", "/etc/passwd", "A\nforged line", "\x1b[2J"])
def test_no_ae_title_becomes_a_path_or_a_line_of_the_log(
    start: Start, tmp_path: Path, title: str
) -> None:
    node = start()
    if title.isprintable():
        scu = node.scu(calling=title)
        assert scu.store(CT, *slice_of(1)) == 0
        scu.abort()
    else:
        with pytest.raises(Closed):
            node.scu(calling=title)
    assert list(tmp_path.iterdir()) == [node.spool.root]
    assert until(lambda: len(node.happened) > 0)
    told = [str(value) for _, one in node.happened for value in one.values()]
    assert not any(character in text for text in told for character in "\n\x1b")
    assert [printable(one) for one in ("A\nB", "\x1b[2J", "\u202eA")] == ["A?B", "?[2J", "?A"]


def test_a_deflated_bomb_is_neither_inflated_by_intake_nor_by_a_reader(
    start: Start, tmp_path: Path
) -> None:
    """A megabyte that would be a gigabyte: before the UIDs, and behind them."""
    gigabyte = 1 << 30
    filler = struct.pack("<HH2sxxL", 8, 0x1198, b"OB", gigabyte)
    before = text(0x00080005, "CS", "ISO_IR 6") + filler
    start_of = head("1.2.3.9.1", "1.2.3.1", "1.2.3.2", 1)
    behind = start_of + struct.pack("<HH2sxxL", 0x0040, 0x9999, b"OB", gigabyte)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    zeros = b"".join([*(deflate.compress(bytes(1 << 20)) for _ in range(64)), deflate.flush()])
    packed = []
    for opening in (before, behind):
        own = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        packed.append(own.compress(opening) + own.flush(zlib.Z_FULL_FLUSH) + zeros)
    with pytest.raises(InflatedTooMuch):
        read_data_set_head(BytesSource(packed[0]), DEFLATED)
    node = start()
    scu = node.scu(CONTEXTS)
    assert scu.store(CT, "1.2.3.9.1", packed[0], 7) == 0xC000
    assert scu.store(CT, "1.2.3.9.1", packed[1], 7) == 0
    kept = node.spool.resolve(node.kept()[0])
    tracemalloc.start()
    try:
        with pytest.raises((NotUnderstood, UnsuitableInput)):
            decode_frames(kept)
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("rows", "columns", "frames"), [(65535, 65535, 1), (512, 512, 2_000_000_000)]
)
def test_pictures_larger_than_the_node_decodes_are_refused_before_memory_is_taken(
    tmp_path: Path, rows: int, columns: int, frames: int
) -> None:
    claimed = radiograph()
    claimed.Rows, claimed.Columns, claimed.NumberOfFrames = rows, columns, frames
    path = write_instance(claimed, tmp_path / "claimed.dcm")
    tracemalloc.start()
    try:
        with pytest.raises(UnsuitableInput):
            decode_frames(path)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_the_limit_of_decoded_bytes_is_that_of_the_settings(tmp_path: Path) -> None:
    before = decode._most_decoded_bytes
    path = write_instance(enhanced_series((4, 16, 16)), tmp_path / "enhanced.dcm")
    assert decode_frames(path).shape == (4, 16, 16)
    try:
        limit_decoded_bytes(4 * 16 * 16 * 2 - 1)
        with pytest.raises(UnsuitableInput) as refused:
            decode_frames(path)
        assert refused.value.reason == "input.too_large"
    finally:
        limit_decoded_bytes(before)


def test_deep_sequences_in_a_file_are_an_answer_to_its_reader(tmp_path: Path) -> None:
    """Files that came another way than through the listener."""
    path = tmp_path / "deep.dcm"
    sample = write_instance(radiograph(), tmp_path / "good.dcm").read_bytes()
    at = sample.index(b"\x08\0\x16\0UI")
    path.write_bytes(sample[:at] + nested(5000, defined=False) + sample[at:])
    with pytest.raises(NotUnderstood):
        read_header(path)
    assert pydicom.dcmread(tmp_path / "good.dcm").Modality
