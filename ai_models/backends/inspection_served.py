"""What another host says of a model that it serves; see `ai_models.backends.inspection`.

Only hosts of the settings are asked, and only for descriptions: nothing is computed there.
"""

from __future__ import annotations

from dataclasses import dataclass

from ai_models.backends.http_endpoint import HttpEndpoint, clean, import_httpx
from ai_models.backends.inspection import NetworkFacts, are_boxes, shown
from ai_models.backends.open_inference_grpc import GrpcTransport, import_grpc
from ai_models.backends.open_inference_http import HttpTransport
from ai_models.backends.open_inference_tensors import Served, Transport
from ai_models.backends.reach import address_of
from ai_models.card_entries import EndpointOptions
from ai_models.trust import Endpoint, Site
from ai_models.types import ModelError

_LARGEST_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True)
class ServedFacts:
    """A model of another host.

    Attributes
    ----------
    backend
        ``open_inference`` or ``openai``.
    facts
        Of ``open_inference``; ``None`` of a language model.
    versions
        That the host has, as far as it says.
    told
        One line for people.
    """

    backend: str
    facts: NetworkFacts | None
    versions: tuple[str, ...]
    told: str


def inspect_served(name: str, model: str, site: Site) -> ServedFacts:
    """Ask a host of the settings how it describes a model.

    A host that does not speak the Open Inference Protocol is asked for its language models.

    Raises
    ------
    ModelError
        ``model.endpoint_unknown``: the settings have no such host; ``model.endpoint_refused``,
        ``worker.endpoint_unavailable``; ``model.wrong_input``: no card can describe it.
    """
    if name not in site.endpoints:
        known = ", ".join(sorted(site.endpoints)) or "none"
        raise ModelError(
            f"{name!r} is not in models.endpoints of the settings (there: {known})",
            reason="model.endpoint_unknown",
        )
    endpoint, who = site.endpoints[name], f"the host {name}"
    if address_of(endpoint).scheme in ("http", "https") and _has_chat(endpoint, who):
        return _language_model(endpoint, who, model)
    return _network(endpoint, who, EndpointOptions(name=name, model=model))


def _has_chat(endpoint: Endpoint, who: str) -> bool:
    """Whether a host lists models as hosts of language models do, and speaks nothing else."""
    import_httpx()
    host = HttpEndpoint(endpoint, who)
    host.open()
    try:
        if host.get("/v2").status != 404:
            return False
        return host.get(_models_path(host)).status < 400
    finally:
        host.close()


def _models_path(host: HttpEndpoint) -> str:
    return "/models" if host.address.path.endswith("/v1") else "/v1/models"


def _language_model(endpoint: Endpoint, who: str, model: str) -> ServedFacts:
    host = HttpEndpoint(endpoint, who)
    host.open()
    try:
        entries = host.get(_models_path(host)).document(who).get("data")
    finally:
        host.close()
    served = [
        clean(one["id"], 64) for one in entries if isinstance(one, dict) and "id" in one
    ] if isinstance(entries, list) else []
    if model not in served:
        raise ModelError(
            f"{who} does not serve {model}: it has {', '.join(served[:20]) or 'nothing'}",
            reason="model.endpoint_refused",
        )
    return ServedFacts("openai", None, (), f"{who} serves the language model {model}")


def _network(endpoint: Endpoint, who: str, options: EndpointOptions) -> ServedFacts:
    if address_of(endpoint).scheme in ("grpc", "grpcs"):
        import_grpc()
        transport: Transport = GrpcTransport(endpoint, options, who, _LARGEST_ANSWER_BYTES)
    else:
        transport = HttpTransport(endpoint, options, who, _LARGEST_ANSWER_BYTES)
    transport.open()
    try:
        served = transport.look()
    finally:
        transport.close()
    facts = _facts(served, who)
    return ServedFacts(
        "open_inference", facts, served.versions,
        f"{who} serves {options.model} ({served.platform or 'it does not say by what'}), versions "
        f"{', '.join(served.versions) or 'not said'}: {facts.told}",
    )


def _facts(served: Served, who: str) -> NetworkFacts:
    if len(served.inputs) != 1 or not served.outputs:
        raise ModelError(
            f"{who} declares {len(served.inputs)} inputs and {len(served.outputs)} outputs: one "
            "input and an output expected", reason="model.wrong_input",
        )
    given, answered = served.inputs[0], served.outputs[0]
    names = tuple(one.name for one in served.outputs)
    boxes = are_boxes(names)
    # A detector may take one input without a batch.
    shape = list(given.shape) if not (boxes and len(given.shape) == 4) else [-1, *given.shape]
    if len(shape) not in (4, 5):
        raise ModelError(
            f"{who} declares the input {given.name} {shown(given.shape)}: batch, channels and two "
            "or three axes expected", reason="model.wrong_input",
        )
    edges = tuple(one if one > 0 else None for one in shape[2:])
    is_map = len(answered.shape) == len(shape)
    channels = answered.shape[1] if len(answered.shape) > 1 else answered.shape[-1]
    return NetworkFacts(
        max(shape[1], 1), edges, (), "boxes" if boxes else "voxels" if is_map else "numbers",
        0 if boxes else max(channels, 1), "logits", given.name,
        names if boxes else (answered.name,),
        f"takes {given.name} {shown(given.shape)}, answers "
        + "; ".join(f"{one.name} {shown(one.shape)}" for one in served.outputs),
    )
