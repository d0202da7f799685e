"""Workspaces that were made before datasets get a version of AzureML-Tutorial that can read them; the old one stays."""

from typing import Any

from django.db import migrations

NAME = "AzureML-Tutorial"
PACKAGES = ["duckdb", "joblib", "matplotlib", "numpy", "pandas", "pyarrow", "scikit-learn"]
TEXT = "scikit-learn, pandas, NumPy, joblib, Matplotlib, and DuckDB and pyarrow to read datasets."


def add_versions(apps: Any, schema_editor: Any) -> None:
    from compute.environments import Recipe, content_hash

    model = apps.get_model("compute", "Environment")
    recipe = Recipe(kind="pip", packages=PACKAGES)
    digest = content_hash(recipe)
    newest: dict[int, Any] = {}
    for known in model.objects.filter(name=NAME, curated=True).order_by("version").iterator():
        newest[known.workspace_id] = known
    for known in newest.values():
        if known.content_hash == digest:
            continue
        model.objects.create(
            workspace_id=known.workspace_id,
            name=NAME,
            version=known.version + 1,
            recipe=recipe.to_dict(),
            content_hash=digest,
            curated=True,
            description=TEXT,
        )


class Migration(migrations.Migration):
    dependencies = [("compute", "0002_data_transfers")]

    operations = [migrations.RunPython(add_versions, migrations.RunPython.noop)]
