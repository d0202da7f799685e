"""Tags, properties, cancel, archive, delete."""

from __future__ import annotations

from typing import Any

import pytest

from compute.models import Target, Unit
from runs.models import Blob, Run, Snapshot
from runs.services import manage, places, snapshots, submit
from runs.services.events import ingest_objects
from runs.services.interactive import create_children, run_complete
from studio.accounts.models import AuditEntry
from studio.lib import storage
from studio.lib.errors import Conflict, Invalid

pytestmark = pytest.mark.django_db


def actions() -> list[str]:
    return list(AuditEntry.objects.filter(object_type="run").order_by("pk").values_list("action", flat=True))


def test_tags_and_properties(run: Run, team: Any) -> None:
    manage.run_tag(run, "a", None, user=team.owner)
    manage.run_tag(run, "a", 1, user=team.owner)
    manage.run_tags_set(run, "plain", user=team.owner)
    assert dict(run.tag_rows.values_list("key", "value")) == {"a": "1", "plain": None}
    manage.run_untag(run, "a", user=team.owner)
    manage.run_untag(run, "never", user=team.owner)
    manage.run_add_properties(run, {"p": 1}, user=team.owner)
    with pytest.raises(Conflict, match="cannot be changed once it is written: p"):
        manage.run_add_properties(run, {"q": 2, "p": 1}, user=team.owner)
    assert dict(run.property_rows.values_list("key", "value")) == {"p": "1"}
    with pytest.raises(Invalid):
        manage.run_tag(run, "x" * 300)
    assert actions() == ["run.start", "run.tag", "run.tag", "run.tag", "run.untag", "run.properties"]


def test_notes_name_archive(run: Run, team: Any) -> None:
    manage.run_set_notes(run, "a\tb\n", user=team.owner)
    manage.run_rename(run, " best ", user=team.owner)
    manage.run_archive(run, user=team.owner)
    run.refresh_from_db()
    assert (run.notes, run.name, run.archived_at is not None) == ("a\tb\n", "best", True)
    manage.run_unarchive(run, user=team.owner)
    manage.experiment_archive(run.experiment, user=team.owner)
    run.experiment.refresh_from_db()
    assert run.archived_at is None and run.experiment.archived_at is not None
    with pytest.raises(Invalid):
        manage.run_rename(run, "n" * 300)


HIDDEN = ("a\x00b", "\u202egnp.exe", "a\x1bb", "\u2066a")


@pytest.mark.parametrize("text", HIDDEN)
def test_what_people_type_holds_no_character_that_nobody_sees(run: Run, team: Any, text: str) -> None:
    attempts = {
        "name": lambda: manage.run_rename(run, text, user=team.owner),
        "notes": lambda: manage.run_set_notes(run, text, user=team.owner),
        "tags": lambda: manage.run_tags_set(run, {text: "1"}, user=team.owner),
        "properties": lambda: manage.run_add_properties(run, {"p": text}, user=team.owner),
        "description": lambda: manage.experiment_update(run.experiment, user=team.owner, description=text),
    }
    for field, attempt in attempts.items():
        with pytest.raises(Invalid, match="control character U") as caught:
            attempt()
        assert list(caught.value.errors) == [field]
    run.refresh_from_db()
    assert run.name == run.notes == "" and not run.tag_rows.exists() and not run.property_rows.exists()


def test_cancel(run: Run, team: Any, snapshot: Snapshot, target: Target) -> None:
    child = create_children(run, user=team.owner)[0]
    assert manage.run_cancel(run, user=team.owner)
    child.refresh_from_db()
    assert run.status == child.status == "Canceled"
    with pytest.raises(Conflict, match="already ended: Canceled"):
        manage.run_cancel(run, user=team.owner)
    sent = submit.run_submit(
        workspace=team.workspace, user=team.owner, experiment="e", script="train.py", arguments=[], snapshot=snapshot,
        target=target, environment=None,
    )  # fmt: skip
    manage.run_cancel(sent, user=team.owner)
    sent.refresh_from_db()
    assert sent.status == "Canceled" and sent.ended_at is not None


def test_delete_frees_what_nothing_else_holds(
    team: Any, target: Target, django_capture_on_commit_callbacks: Any
) -> None:
    def sent(files: dict[str, str]) -> Run:
        run = submit.run_submit(
            workspace=team.workspace, user=team.owner, experiment="e", script="a.py", arguments=["--lr", 1],
            snapshot=snapshots.snapshot_from_texts(team.workspace, files), target=target, environment=None,
        )  # fmt: skip
        folder = places.directory(run) / "outputs"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"0" * 1000)
        return run

    one, two = sent({"a.py": "shared", "b.py": "mine alone"}), sent({"a.py": "shared"})
    ingest_objects(one, [{"k": "metric", "n": "a", "v": 1}, {"k": "row", "n": "r", "v": {"x": 1}}])
    preview = manage.run_delete_preview([one])
    assert (preview.bytes, preview.snapshot_bytes, len(preview.blockers)) == (1000, len("mine alone"), 1)
    with pytest.raises(Conflict, match="Not ended yet"):
        manage.run_delete([one], user=team.owner)
    manage.run_cancel(one, user=team.owner)
    manage.run_cancel(two, user=team.owner)
    assert manage.run_delete_preview([one]).blockers == []
    lonely = snapshots.snapshot_path(one.snapshot, "b.py")  # type: ignore[arg-type]
    with django_capture_on_commit_callbacks(execute=True):
        assert manage.run_delete([one], user=team.owner) == 1
    assert not Run.objects.filter(pk=one.pk).exists() and not Unit.objects.filter(key=one.key).exists()
    assert not storage.unit_directory(one.key).exists() and not lonely.exists()
    assert list(Blob.objects.values_list("size", "references")) == [(len("shared"), 1)]
    assert manage.run_delete_preview([two]).snapshot_bytes == len("shared")
    with django_capture_on_commit_callbacks(execute=True):
        manage.run_delete([two], user=team.owner)
    assert not Snapshot.objects.exists() and not Blob.objects.exists()
    assert actions()[-1] == "run.delete"


def test_delete_takes_the_children(run: Run, team: Any, django_capture_on_commit_callbacks: Any) -> None:
    child = create_children(run, user=team.owner)[0]
    grandchild = create_children(child, user=team.owner)[0]
    places.directory(grandchild).mkdir(parents=True)
    run_complete(run)
    with pytest.raises(Conflict):
        manage.run_delete([run], user=team.owner)
    run_complete(child)
    run_complete(grandchild)
    with django_capture_on_commit_callbacks(execute=True):
        assert manage.run_delete([run], user=team.owner) == 3
    assert not Run.objects.exists() and not places.directory(grandchild).exists()
