"""Workspaces that were made before get the curated environments that came with containers."""

from typing import Any

from django.db import migrations

CURATED = [
    ("AzureML-sklearn", "scikit-learn, pandas, NumPy and joblib.", ["joblib", "numpy", "pandas", "scikit-learn"]),
    (
        "AzureML-PySpark",
        "PySpark, pandas and pyarrow. Spark needs Java 17 or later where it runs.",
        ["pandas", "pyarrow", "pyspark"],
    ),
]


def add(apps: Any, schema_editor: Any) -> None:
    from compute.environments import Recipe, content_hash

    workspaces = apps.get_model("accounts", "Workspace")
    model = apps.get_model("compute", "Environment")
    for workspace in workspaces.objects.order_by("pk").iterator():
        for name, text, packages in CURATED:
            known = model.objects.filter(workspace=workspace, name=name)
            if known.exists():  # somebody's own of that name stays theirs
                continue
            recipe = Recipe(kind="pip", packages=packages)
            model.objects.create(
                workspace=workspace,
                name=name,
                version=1,
                recipe=recipe.to_dict(),
                content_hash=content_hash(recipe),
                curated=True,
                description=text,
            )


class Migration(migrations.Migration):
    dependencies = [("compute", "0004_containers"), ("accounts", "0001_initial")]

    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
