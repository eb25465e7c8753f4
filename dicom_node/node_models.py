"""The settings of models as `ai_models` knows them."""

from __future__ import annotations

from ai_models.trust import Endpoint, Site
from dicom_node.config import Config


def site_of(config: Config) -> Site:
    """What this site allows its models."""
    models = config.models
    return Site(
        use=models.site_use,
        trusted_folders=tuple(models.trusted_folders),
        endpoints={
            name: Endpoint(one.url, one.api_key_file, one.timeout_s)
            for name, one in models.endpoints.items()
        },
    )
