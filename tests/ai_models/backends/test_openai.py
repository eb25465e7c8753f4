"""A text comes from the host that the site names, whole and clean, or not at all."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ai_models.backends import NetworkInput, open_backend
from ai_models.backends.openai import OpenAiBackend, clean_text, pictures
from ai_models.card import load_card
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError
from tests.ai_models.backends.fake_openai import TEXT, FakeOpenAi
from tests.ai_models.tiny_models import card_text, card_values
from tests.ports import free_port

PROMPT = "Describe the chest."


def text_folder(folder: Path, **changes: object) -> Path:
    """A model folder with a card for a text; no weights lie beside it."""
    values = {
        "task": "text",
        "output": {"prompt": PROMPT, "system_prompt": "You are careful.", "max_images": 3},
        "weights": {"licence": "Apache-2.0", "source": "test"},
        "runtime": {
            "backend": "openai",
            "endpoint": {"name": "language", "model": "radiology-8b", "seed": 11},
        },
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.yaml").write_text(card_text(card_values(**values)))
    return folder


def backend_at(
    folder: Path, url: str, *, timeout_s: float = 5.0, key_file: Path | None = None,
    **changes: object,
) -> OpenAiBackend:
    site = Site(endpoints={"language": Endpoint(url, key_file, timeout_s)})
    backend = open_backend(load_card(text_folder(folder / "m", **changes)), "cpu", site)
    assert isinstance(backend, OpenAiBackend)
    return backend


def volume_input(slices: int = 9) -> NetworkInput:
    array = np.zeros((1, slices, 4, 6), dtype=np.float32)
    array[0] += np.linspace(0, 1, slices, dtype=np.float32)[:, None, None]
    return NetworkInput(array, np.eye(4), (1.0, 1.0, 1.0))


def levels(url: str) -> np.ndarray:
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_text_of_the_host_is_the_answer(tmp_path: Path) -> None:
    with FakeOpenAi() as host:
        backend = backend_at(tmp_path, host.url)
        backend.probe()
        backend.load()
        backend.warm_up()
        answer = backend.predict(volume_input())
        backend.close()
    assert answer.text == TEXT
    assert answer.notes == (
        "radiology-8b on the host language, temperature 0, seed 11",
        "its weights lie on that host: their SHA-256 was not checked here",
    )


def test_request_holds_what_the_card_says_and_pictures_and_nothing_else(tmp_path: Path) -> None:
    with FakeOpenAi() as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        backend.predict(volume_input())
        backend.close()
    (document,) = host.documents
    system, user = document.pop("messages")
    assert document == {
        "model": "radiology-8b", "stream": False, "temperature": 0.0, "seed": 11,
        "max_tokens": 512,
    }
    assert system == {"role": "system", "content": "You are careful."}
    *images, text = user["content"]
    assert text == {"type": "text", "text": PROMPT}
    shown = [levels(one["image_url"]["url"]) for one in images]
    assert [int(one[0, 0]) for one in shown] == [32, 128, 223]  # slices 1, 4 and 7 of 0 to 8
    assert all(one.shape == (4, 6) and one.dtype == np.uint8 for one in shown)


def test_radiograph_is_one_picture(tmp_path: Path) -> None:
    with FakeOpenAi() as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        backend.predict(NetworkInput(np.full((1, 4, 6), 0.5, dtype=np.float32)))
        backend.close()
    *images, _ = host.documents[0]["messages"][1]["content"]
    (image,) = images
    assert levels(image["image_url"]["url"]).tolist() == [[128] * 6] * 4


def test_url_may_already_end_in_v1(tmp_path: Path) -> None:
    with FakeOpenAi() as host:
        backend = backend_at(tmp_path, f"{host.url}/v1")
        backend.load()
        assert backend.predict(volume_input()).text == TEXT
        backend.close()


def test_host_without_a_list_of_models_is_asked_all_the_same(tmp_path: Path) -> None:
    with FakeOpenAi(lists_models=False) as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        assert backend.predict(volume_input()).text == TEXT
        backend.close()


def test_host_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    with FakeOpenAi("busy_once") as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        assert backend.predict(volume_input()).text == TEXT
        backend.close()
    assert len(host.documents) == 2


@pytest.mark.parametrize(("mode", "retry_after", "asked"), [
    ("429", "0", 3), ("429", "3600", 1), ("429", "tomorrow", 1),
    ("429", "Wed, 21 Oct 2015 07:28:00 GMT", 3), ("500", "", 1), ("cut", "", 1),
])
def test_host_in_trouble_is_left_to_a_later_attempt(
    tmp_path: Path, mode: str, retry_after: str, asked: int,
) -> None:
    with FakeOpenAi(mode, retry_after=retry_after) as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        with pytest.raises(ModelError) as caught:
            backend.predict(volume_input())
        backend.close()
    assert caught.value.reason == "worker.endpoint_unavailable"
    assert len(host.documents) == asked


def test_host_that_does_not_answer_in_time_is_left_to_a_later_attempt(tmp_path: Path) -> None:
    with FakeOpenAi("slow") as host:
        backend = backend_at(tmp_path, host.url, timeout_s=0.3)
        backend.load()
        with pytest.raises(ModelError, match=r"within 0\.3 s") as caught:
            backend.predict(volume_input())
        backend.close()
    assert caught.value.reason == "worker.endpoint_unavailable"


def test_host_that_is_not_there_is_left_to_a_later_attempt(tmp_path: Path) -> None:
    backend = backend_at(tmp_path, f"http://127.0.0.1:{free_port()}")
    backend.probe()
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        backend.load()
    assert caught.value.reason == "worker.endpoint_unavailable"


@pytest.mark.parametrize(("mode", "words"), [
    ("malformed", "no JSON"), ("truncated", "cut off"), ("filtered", "filter"),
    ("refused", "refused"), ("empty", "empty"), ("no_choice", "without a choice"),
    ("huge", "more than"), ("compressed", "compressed"),
])
def test_answer_that_is_no_whole_text_is_refused(tmp_path: Path, mode: str, words: str) -> None:
    with FakeOpenAi(mode) as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        with pytest.raises(ModelError, match=words) as caught:
            backend.predict(volume_input())
        backend.close()
    assert caught.value.reason == "model.wrong_output"


def test_text_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    with FakeOpenAi(text="a" * 50_001) as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        with pytest.raises(ModelError, match="50001 characters") as caught:
            backend.predict(volume_input())
        backend.close()
    assert caught.value.reason == "model.wrong_output"


def test_redirect_is_not_followed(tmp_path: Path) -> None:
    with FakeOpenAi("redirect") as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        with pytest.raises(ModelError, match="redirect") as caught:
            backend.predict(volume_input())
        backend.close()
    assert caught.value.reason == "model.endpoint_refused"
    assert not any(one.path == "/elsewhere" for one in host.asked)


def test_proxy_of_the_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with FakeOpenAi() as host:
        backend = backend_at(tmp_path, host.url)
        backend.load()
        assert backend.predict(volume_input()).text == TEXT
        backend.close()


def test_model_that_the_host_does_not_serve_is_named(tmp_path: Path) -> None:
    with (
        FakeOpenAi(model="another") as host,
        pytest.raises(ModelError, match="radiology-8b: it has another") as caught,
    ):
        backend_at(tmp_path, host.url).load()
    assert caught.value.reason == "model.endpoint_refused"


def test_key_goes_to_the_host_and_is_read_anew_at_each_load(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("first\n")
    with FakeOpenAi(key="second") as host:
        backend = backend_at(tmp_path, host.url, key_file=key_file)
        with pytest.raises(ModelError, match="401") as caught:
            backend.load()
        assert caught.value.reason == "model.endpoint_refused"
        key_file.write_text("second")
        backend.load()
        assert backend.predict(volume_input()).text == TEXT
        backend.close()


def test_key_that_a_host_repeats_is_not_in_the_message(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("sk-very-secret")
    with FakeOpenAi("500", key="sk-very-secret") as host:
        backend = backend_at(tmp_path, host.url, key_file=key_file)
        backend.load()
        with pytest.raises(ModelError, match=r"broken \*\*\*") as caught:
            backend.predict(volume_input())
        backend.close()
    assert "secret" not in f"{caught.value} {backend!r}"


@pytest.mark.parametrize("content", [b"", b"two words", b"k" * 5000, b"\xff\xfe"])
def test_key_file_that_holds_no_key_is_refused_without_its_content(
    tmp_path: Path, content: bytes,
) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(content)
    with pytest.raises(ModelError, match="something else") as caught:
        backend_at(tmp_path, "http://127.0.0.1:1", key_file=key_file).probe()
    assert caught.value.reason == "model.endpoint_key"
    assert "words" not in str(caught.value)


def test_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="missing-key") as caught:
        backend_at(tmp_path, "http://127.0.0.1:1", key_file=tmp_path / "missing-key").probe()
    assert caught.value.reason == "model.endpoint_key"


def test_host_that_wants_a_key_says_so(tmp_path: Path) -> None:
    with FakeOpenAi(key="k") as host, pytest.raises(ModelError, match="api_key_file") as caught:
        backend_at(tmp_path, host.url).load()
    assert caught.value.reason == "model.endpoint_refused"


def test_language_model_over_grpc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="over HTTP") as caught:
        backend_at(tmp_path, "grpc://127.0.0.1:1").probe()
    assert caught.value.reason == "model.endpoint_wrong"


def test_predict_before_load_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="before load") as caught:
        backend_at(tmp_path, "http://127.0.0.1:1").predict(volume_input())
    assert caught.value.reason == "model.not_loaded"


@pytest.mark.parametrize(("text", "cleaned"), [
    ("a\r\nb\rc\td", "a\nb\nc d"),
    ("\x00a\x1b[31mb\x7f\u0085", "a[31mb"),
    ("left\u202eright\u200b\ud800", "leftright"),
    ("  Röntgen: 10 µm \n", "Röntgen: 10 µm"),
])
def test_text_is_cleaned_of_what_cannot_be_read(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


@pytest.mark.parametrize(("slices", "at_most", "chosen"), [
    (9, 1, [4]), (10, 2, [2, 7]), (3, 8, [0, 1, 2]), (1, 4, [0]),
])
def test_slices_are_taken_from_the_middle_of_equal_parts(
    slices: int, at_most: int, chosen: list[int],
) -> None:
    array = np.arange(slices, dtype=np.float32).reshape(1, slices, 1, 1)
    shown = pictures(array, (0.0, 255.0), at_most)
    assert [int(one[0, 0]) for one in shown] == chosen


def test_three_channels_are_a_colour_picture() -> None:
    array = np.stack([np.full((2, 4, 5), level, np.float32) for level in (-1.0, 0.0, 1.0)])
    (shown,) = pictures(array, (-1.0, 1.0), 1)
    assert shown.shape == (4, 5, 3)
    assert shown[0, 0].tolist() == [0, 128, 255]


def test_values_outside_of_the_shown_range_are_clipped() -> None:
    (shown,) = pictures(np.array([[[-9.0, 9.0]]], dtype=np.float32), (0.0, 1.0), 1)
    assert shown.tolist() == [[0, 255]]


def test_two_channels_are_no_picture() -> None:
    with pytest.raises(ModelError, match="one channel or three") as caught:
        pictures(np.zeros((2, 4, 4), dtype=np.float32), (0.0, 1.0), 1)
    assert caught.value.reason == "model.wrong_input"


def test_input_that_is_not_finite_is_not_shown() -> None:
    with pytest.raises(ModelError, match="NaN") as caught:
        pictures(np.full((1, 4, 4), np.nan, dtype=np.float32), (0.0, 1.0), 1)
    assert caught.value.reason == "input.not_finite"
