"""Workspaces that were made before datastores get the store that new ones come with."""

from typing import Any

from django.db import migrations


def make_stores(apps: Any, schema_editor: Any) -> None:
    workspace_model, store_model = apps.get_model("accounts", "Workspace"), apps.get_model("datasets", "Datastore")
    for workspace in workspace_model.objects.exclude(datastores__builtin=True).iterator():
        other = store_model.objects.filter(workspace=workspace, is_default=True).exists()
        store_model.objects.create(
            workspace=workspace,
            name="workspaceblobstore",
            kind="workspace",
            config={"workspace": workspace.pk},
            is_default=not other,
            builtin=True,
            created_by_id=workspace.created_by_id,
        )


class Migration(migrations.Migration):
    dependencies = [("datasets", "0001_initial")]

    operations = [migrations.RunPython(make_stores, migrations.RunPython.noop)]
