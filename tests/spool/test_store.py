"""An object store that is slow, busy, full, closed to us, or hangs up: nothing is lost by it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pydicom.filereader import read_file_meta_info

from dicom_node.config_storage import S3Settings
from dicom_node.errors import ConfigurationError, NodeError, OutOfSpace, StoreUnavailable
from dicom_node.spool import cache as cache_module
from dicom_node.spool.store import Body
from tests.s3_server import Environ, ObjectStore, hang_up, is_put
from tests.spool.conftest import Place, part_of
from tests.spool.test_forms import PATH, UIDS, incoming

ROOT = Path(__file__).parents[2]


def refused(place: Place) -> NodeError:
    """What a receiver answers with; half a file must not stay."""
    spool = place.host()
    with pytest.raises(NodeError) as caught:
        spool.commit(part_of(spool, b"data"), *UIDS)
    assert incoming(spool) == []
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (503, "SlowDown", "store.busy"),
        (500, "InternalError", "store.failed"),
        (403, "InvalidAccessKeyId", "store.refused"),
        (403, "SignatureDoesNotMatch", "store.refused"),
        (403, "RequestTimeTooSkewed", "store.clock"),
        (404, "NoSuchBucket", "store.no_bucket"),
        (507, "XMinioStorageFull", "store.full"),
        (403, "QuotaExceeded", "store.full"),
    ],
)
def test_what_the_store_refuses_is_refused_for_the_moment(
    stored: Place, server: ObjectStore, status: int, code: str, reason: str
) -> None:
    server.faults.append(lambda environ: (status, code) if is_put(environ) else None)
    error = refused(stored)
    assert (error.status, error.reason, error.transient) == (0xA700, reason, True)
    assert "data" not in str(error)
    server.faults.clear()
    assert list(stored.host().stored()) == []
    spool = stored.host()
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "new"


def test_a_store_that_is_busy_for_a_moment_is_asked_again(
    stored: Place, server: ObjectStore
) -> None:
    answers = [(503, "SlowDown"), (500, "InternalError")]
    server.faults.append(
        lambda environ: answers.pop() if is_put(environ) and answers else None
    )
    spool = stored.host()
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "new"
    assert answers == []


def test_an_answer_that_is_lost_costs_nothing(stored: Place, server: ObjectStore) -> None:
    lost: list[str] = []

    def lose(environ: Environ) -> None:
        if is_put(environ) and not lost:
            lost.append(environ["PATH_INFO"])
            hang_up(environ)

    server.after.append(lose)
    spool = stored.host()
    kept = spool.commit(part_of(spool, b"data"), *UIDS)
    assert lost and kept.outcome == "identical"
    assert spool.resolve(PATH).read_bytes().endswith(b"data")
    assert [one.key for one in server.store(stored.bucket).list("quarantine/")] == []


def test_a_store_that_always_hangs_up_keeps_nothing_for_acknowledged(
    stored: Place, server: ObjectStore
) -> None:
    server.faults.append(lambda environ: hang_up(environ) if is_put(environ) else None)
    assert refused(stored).reason == "store.unreachable"


def test_nobody_listens(
    stored: Place, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "url", "http://127.0.0.1:9")
    assert refused(stored).reason == "store.unreachable"


def test_a_store_that_does_not_answer_in_time(
    stored: Place, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(server, "settings", lambda: S3Settings(
        endpoint_url=server.url, timeout_s=0.2
    ))
    server.faults.append(lambda environ: may_end.wait(30) and None if is_put(environ) else None)
    try:
        assert refused(stored).reason == "store.timeout"
    finally:
        may_end.set()


def test_bytes_that_are_damaged_on_their_way_are_not_acknowledged(
    stored: Place, server: ObjectStore
) -> None:
    def damage(environ: Environ) -> None:
        if is_put(environ):
            environ["wsgi.input"].getbuffer()[-1] ^= 1

    server.faults.append(damage)
    assert refused(stored).reason == "store.damaged"
    server.faults.clear()
    assert not stored.host().has(PATH)


def test_bytes_that_come_back_otherwise_are_read_again_and_never_handed_out(
    stored: Place, server: ObjectStore
) -> None:
    spool, other = stored.host("a"), stored.host("b")
    spool.commit(part_of(spool, b"data"), *UIDS)
    key = f"node/{PATH}"
    from moto.s3.models import s3_backends

    held = s3_backends["123456789012"]["aws"].get_object(stored.bucket, key)
    held._value_buffer.seek(0)
    content = held._value_buffer.read()
    held._value_buffer.seek(0)
    held._value_buffer.write(content[:-1] + b"!")
    with pytest.raises(StoreUnavailable) as caught:
        other.resolve(PATH)
    assert caught.value.reason == "store.damaged"
    held._value_buffer.seek(0)
    held._value_buffer.write(content)
    assert other.resolve(PATH).read_bytes() == content


def test_a_store_that_overwrites_whatever_it_is_told_is_not_used(
    stored: Place, server: ObjectStore
) -> None:
    server.store(stored.bucket).check_conditions()

    def forget_the_condition(environ: Environ) -> None:
        environ.pop("HTTP_IF_NONE_MATCH", None)

    server.faults.append(forget_the_condition)
    with pytest.raises(ConfigurationError) as caught:
        server.store(stored.bucket).check_conditions()
    assert caught.value.reason == "store.no_conditions"
    server.faults.clear()
    assert list(server.store(stored.bucket).list("")) == []


def test_credentials_are_read_again_when_they_are_refused(
    stored: Place, server: ObjectStore, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = %s\n")

    write("OLD")
    server.faults.append(
        lambda environ: (403, "InvalidAccessKeyId")
        if "Credential=OLD" in environ["HTTP_AUTHORIZATION"] else None
    )
    store = server.store(stored.bucket, credentials_file=file)
    with pytest.raises(StoreUnavailable):
        store.put("a", Body.of(b"a"))
    write("NEW")
    with pytest.raises(StoreUnavailable):
        store.put("a", Body.of(b"a"))
    assert store.put("a", Body.of(b"a"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"), ("nonsense", "no credentials file"),
        ("[default]\naws_access_key_id = a\n", "found no"),
    ],
)
def test_credentials_that_are_not_there_are_said(
    stored: Place, server: ObjectStore, tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "credentials"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        server.store(stored.bucket, credentials_file=file).put("a", Body.of(b"a"))
    assert caught.value.key_path == "storage.s3.credentials_file"
    assert "nonsense" not in str(caught.value)


def test_nothing_of_this_users_settings_leads_elsewhere(
    stored: Place, server: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:9\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    for name in ("HTTP_PROXY", "http_proxy", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert server.store(stored.bucket).put("a", Body.of(b"a"))


def test_encryption_is_asked_for_with_every_object(stored: Place, server: ObjectStore) -> None:
    seen: list[str] = []
    server.faults.append(
        lambda environ: seen.append(environ.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION", ""))
    )
    store = server.store(stored.bucket, server_side_encryption="aws:kms", kms_key_id="a-key")
    store.put("a", Body.of(b"a"))
    assert seen == ["aws:kms"]


def test_a_process_that_is_killed_before_it_answers_has_kept_nothing_or_all(
    stored: Place, server: ObjectStore, tmp_path: Path
) -> None:
    """Its sender sends again, and finds the image identical."""
    code = (
        "import sys; from pathlib import Path\n"
        "from dicom_node.spool import SpoolPlace\n"
        "from tests.spool.conftest import part_of\n"
        "place = SpoolPlace(sys.argv[1], bucket=sys.argv[2], prefix='node',"
        " s3={'endpoint_url': sys.argv[3]})\n"
        "spool = place.open()\n"
        "spool.commit(part_of(spool, b'data'), '1.1', '1.2', '1.3')\n"
        "print('acknowledged')\n"
    )
    has_put, may_answer = threading.Event(), threading.Event()

    def hold(environ: Environ) -> None:
        if is_put(environ):
            has_put.set()
            may_answer.wait(30)

    server.after.append(hold)
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a"), stored.bucket, server.url], cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert has_put.wait(60)
    child.kill()
    said, _ = child.communicate()
    may_answer.set()
    server.after.clear()
    assert said == b""
    spool = stored.host("a")
    assert spool.clean_incoming() == 1 and incoming(spool) == []
    assert list(spool.stored()) == [PATH]
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "identical"


def test_a_full_disk_of_the_copies_lets_go_of_what_nobody_uses(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, other = stored.host("a"), stored.host("b")
    for series in ("1", "2"):
        spool.commit(part_of(spool, b"data"), "1.1", series, "1.3")
    first = other.resolve("instances/1.1/1/1.3.dcm")
    real, is_full = cache_module.Cache.adopt, [True]

    def full(self: cache_module.Cache, relative: str, etag: str, source: Path) -> Path:
        if is_full.pop() if is_full else False:
            raise OSError(28, "No space left on device")
        return real(self, relative, etag, source)

    monkeypatch.setattr(cache_module.Cache, "adopt", full)
    monkeypatch.setattr(cache_module, "_IN_USE_AT_LEAST_S", 0.0)
    assert other.resolve("instances/1.1/2/1.3.dcm").exists()
    assert not first.exists()
    is_full += [True, True]
    with pytest.raises(OutOfSpace):
        other.resolve("instances/1.1/1/1.3.dcm")
    assert other.resolve("instances/1.1/1/1.3.dcm").exists()


def test_an_image_that_is_kept_needs_no_copy(
    stored: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.Cache, "adopt", full)
        spool = stored.host()
        assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "new"
    assert spool.resolve(PATH).read_bytes().endswith(b"data")


def test_what_was_copied_into_the_bucket_from_a_folder_is_known_again(
    stored: Place, server: ObjectStore, tmp_path: Path
) -> None:
    folder = Place(tmp_path / "folder", "folder", server).host()
    folder.commit(part_of(folder, b"data", sender="LONGER"), *UIDS)
    server.store(stored.bucket).put(PATH, Body.of(folder.resolve(PATH).read_bytes()))
    spool = stored.host()
    assert spool.commit(part_of(spool, b"data"), *UIDS).outcome == "identical"
    assert spool.commit(part_of(spool, b"DATA"), *UIDS).outcome == "replaced"


def test_what_was_removed_and_comes_again_is_another_version_and_a_valid_file(
    stored: Place,
) -> None:
    spool = stored.host()
    first = spool.commit(part_of(spool, b"data"), *UIDS)
    meta = read_file_meta_info(spool.resolve(PATH))
    assert len(meta.PrivateInformation) == 16
    assert meta.PrivateInformationCreatorUID == meta.ImplementationClassUID
    assert first.size_bytes == 132 + 12 + meta.FileMetaInformationGroupLength + len(b"data")
    spool.remove(PATH)
    second = spool.commit(part_of(spool, b"data"), *UIDS)
    assert second.outcome == "new" and second.fingerprint != first.fingerprint
