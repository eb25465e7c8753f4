"""Cards of models of another host, by what that host says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError
from tests.ai_models.backends.fake_open_inference import FakeOpenInference, Model
from tests.ai_models.backends.fake_openai import FakeOpenAi
from tests.ai_models.backends.served_models import HOSTS, Host, site_of
from tests.ai_models.scaffold.scaffolding import scaffolded_of_host


@pytest.fixture(params=["http-binary", "grpc-raw"])
def host(request: pytest.FixtureRequest) -> Host:
    made: Host = HOSTS[request.param]()
    return made


def test_names_and_shapes_of_a_served_network_are_on_the_card(tmp_path: Path, host: Host) -> None:
    with host:
        made = scaffolded_of_host("farm", "bright", site_of(host), tmp_path, names=("nodule",))
        from ai_models.backends import open_backend

        backend = open_backend(made.card, "cpu", site_of(host))
        backend.load()
        backend.close()
    options = made.card.runtime.endpoint
    assert options is not None
    assert (options.input, options.outputs, options.version) == ("input", ["output"], "3")
    assert made.card.runtime.backend == "open_inference"
    assert made.card.runtime.roi == [16, 16, 16]
    assert made.card.weights.path is None
    assert not host.seen


def test_a_served_classifier_is_told_from_its_output(tmp_path: Path) -> None:
    model = Model(input_shape=[-1, 3, 224, 224], outputs={"scores": ("FP32", [-1, 5])})
    with FakeOpenInference(model=model) as host:
        made = scaffolded_of_host("farm", "bright", site_of(host), tmp_path)
    assert made.card.task == "classification"
    assert made.card.input.size is not None
    assert made.card.input.size.edges == [224, 224]


def test_a_language_model_is_found_by_the_list_of_its_host(tmp_path: Path) -> None:
    with FakeOpenAi() as host:
        site = Site(endpoints={"words": Endpoint(host.url)})
        made = scaffolded_of_host("words", "radiology-8b", site, tmp_path)
        assert host.documents == []
    assert made.card.task == "text"
    assert made.card.runtime.backend == "openai"
    assert made.card.report == "draft"


def test_a_model_that_the_host_does_not_have_is_refused_with_what_it_has(tmp_path: Path) -> None:
    with FakeOpenAi() as host:
        site = Site(endpoints={"words": Endpoint(host.url)})
        with pytest.raises(ModelError, match="does not serve other: it has radiology-8b"):
            scaffolded_of_host("words", "other", site, tmp_path)


def test_only_hosts_of_the_settings_are_asked(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not in models\.endpoints") as caught:
        scaffolded_of_host("http://127.0.0.1:1", "bright", Site(), tmp_path)
    assert caught.value.reason == "model.endpoint_unknown"


def test_a_host_that_is_not_there_is_told(tmp_path: Path) -> None:
    site = Site(endpoints={"farm": Endpoint("http://127.0.0.1:9")})
    with pytest.raises(ModelError, match="cannot be reached"):
        scaffolded_of_host("farm", "bright", site, tmp_path)
