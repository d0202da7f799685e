"""``InferenceConfig``: code of one's own around a model."""

from __future__ import annotations

from typing import Any

from atelier.exceptions import UserErrorException


class InferenceConfig:
    """Refused: this studio serves models without code."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise UserErrorException(
            "InferenceConfig: this studio serves no scoring scripts of your own. What works: register a scikit-learn "
            "model with model_framework=Model.Framework.SCIKITLEARN and call Model.deploy(ws, name, [model]) "
            "without inference_config."
        )
