"""What the programs of datasets say when something goes wrong: never a secret, whoever wrote the words."""

from __future__ import annotations

import json

import pytest

from studio.datasets.jobs import setting_up

QUERY = "sv=2024-01-01&se=2030-01-01&sig=Zm9vYmFy%2BbG9uZw%3D%3D"


@pytest.mark.parametrize("form", [QUERY, "Zm9vYmFy%2BbG9uZw%3D%3D", "Zm9vYmFy+bG9uZw==", "hunter2-of-ann"])
def test_errors_of_libraries_hold_no_secret(form: str) -> None:
    definition = {"source": {"kind": "files", "paths": [{"url": "https://h.test/a.csv", "signed": True}]}}
    assert setting_up.sign(definition, {"0": QUERY})["source"]["paths"][0]["url"].endswith(QUERY)
    setting_up.make_source({"s": {"kind": "http", "config": {}, "secrets": {"password": "hunter2-of-ann"}}})
    for error in (ValueError(f"GET https://h.test/a.csv?{form} failed"), OSError(5, f"bad {form}", f"/x/{form}")):
        told = setting_up.explain(error)
        assert form not in json.dumps(told) and "***" in told["message"]
