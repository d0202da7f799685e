"""Pages of compute targets and environments: who gets what, what they say, and what a list costs."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from compute import env_services
from compute.environments import recipe_from_requirements
from compute.models import Environment, EnvironmentBuild, Target, Unit
from studio.accounts.models import AuditEntry

pytestmark = pytest.mark.django_db

PEOPLE = ("anonymous", "outsider", "reader", "contributor", "owner")
# path -> the status that each of PEOPLE gets for GET, or for POST where the path starts with a plus
ACCESS = {
    "compute/": (302, 404, 200, 200, 200),
    "compute/local/": (302, 404, 200, 200, 200),
    "compute/none/": (302, 404, 404, 404, 404),
    "compute/attach/": (302, 404, 403, 403, 200),
    "compute/local/edit/": (302, 404, 403, 403, 200),
    "+compute/local/check/": (302, 404, 403, 302, 302),
    "+compute/local/host-key/": (302, 404, 403, 403, 302),
    "compute/local/delete/": (302, 404, 403, 403, 200),
    "compute/local/images/": (302, 404, 404, 404, 404),
    "settings/containers/": (302, 404, 403, 403, 200),
    "+settings/containers/registries/": (302, 404, 403, 403, 422),
    "+compute/local/delete/": (302, 404, 403, 403, 302),
    "environments/": (302, 404, 200, 200, 200),
    "environments/AzureML-Minimal/": (302, 404, 200, 200, 200),
    "environments/AzureML-Minimal/1/": (302, 404, 200, 200, 200),
    "environments/AzureML-Minimal/9/": (302, 404, 404, 404, 404),
    "environments/none/": (302, 404, 404, 404, 404),
    "environments/new/": (302, 404, 403, 200, 200),
    "+environments/check/": (302, 404, 403, 200, 200),
    "+environments/system/1/prepare/": (302, 404, 403, 302, 302),
}


def client_of(team, person: str) -> Client:
    client = Client()
    if person != "anonymous":
        client.force_login(getattr(team, person), backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.parametrize("path", ACCESS)
def test_who_gets_what(team, path):
    got = []
    for person in PEOPLE:
        client, address = client_of(team, person), "/w/main/" + path.lstrip("+")
        answer = client.post(address, {"target": "local"}) if path.startswith("+") else client.get(address)
        got.append(answer.status_code)
    assert tuple(got) == ACCESS[path]


@pytest.fixture
def owner(team) -> Client:
    return client_of(team, "owner")


def target(team, name: str = "local") -> Target:
    return Target.objects.get(workspace=team.workspace, name=name)


def unit(team, number: int, state: str = "running", **columns) -> Unit:
    columns = {"target": target(team), "workspace": team.workspace, "kind": "command", "spec": {}, **columns}
    return Unit.objects.create(key=f"{number:032x}", state=state, label=f"unit-{number}", **columns)


def test_attaching_reads_the_fields_of_the_driver(team, owner):
    assert b"Runs at the same time" in owner.get("/w/main/compute/attach/").content
    wrong = owner.post("/w/main/compute/attach/", {"driver": "local", "name": "attach", "slots": "0"})
    assert wrong.status_code == 422 and b"Choose another name" in wrong.content and b"aria-invalid" in wrong.content
    taken = owner.post("/w/main/compute/attach/", {"driver": "local", "name": "local", "slots": "2"})
    assert taken.status_code == 422 and b"exists already" in taken.content
    done = owner.post("/w/main/compute/attach/", {"driver": "local", "name": "night", "slots": "3"})
    assert done["Location"] == "/w/main/compute/night/"
    assert target(team, "night").config == {"slots": 3}
    assert AuditEntry.objects.filter(action="target.create", object_label="night").exists()
    assert owner.get("/w/main/compute/attach/?driver=teleport").status_code == 404


def test_slots_are_changed_and_the_page_says_so(team, owner):
    assert owner.post("/w/main/compute/local/edit/", {"slots": "5"}).status_code == 302
    assert target(team).config == {"slots": 5}
    assert b"of 5 slots in use" in owner.get("/w/main/compute/").content


def test_the_target_lists_what_runs_and_the_places_of_what_waits(team, owner):
    now = timezone.now()
    unit(team, 1, started_at=now)
    for number in (2, 3):
        unit(team, number, "queued", queued_at=now + timezone.timedelta(seconds=number))
    unit(team, 4, "failed", started_at=now, ended_at=now + timezone.timedelta(seconds=61))
    html = owner.get("/w/main/compute/local/").content.decode()
    assert [html.index(word) for word in ("unit-1", "next", "unit-3", "Ended lately", "unit-4", "1 min 01 s")]
    part = owner.get("/w/main/compute/local/", headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith("<div") and "every 3s" in part and "<html" not in part


def test_other_workspaces_on_the_same_machine_are_counted_and_never_named(team, owner):
    elsewhere = Target.objects.get(workspace__name="elsewhere", name="local")
    now = timezone.now()
    unit(team, 8, "queued", queued_at=now, target=elsewhere, workspace=elsewhere.workspace)
    unit(team, 9, "queued", queued_at=now + timezone.timedelta(seconds=1))
    html = owner.get("/w/main/compute/local/").content.decode()
    assert f"unit-{8}" not in html and "<td>2</td>" in html


def test_the_test_button_answers_with_the_list(team, owner):
    answer = owner.post("/w/main/compute/local/check/", headers={"HX-Request": "true"})
    assert answer.status_code == 200 and b'id="target-checks"' in answer.content and b"<html" not in answer.content
    assert target(team).checked_at is not None


def test_a_target_in_use_is_not_detached(team, owner):
    unit(team, 1)
    page = owner.post("/w/main/compute/local/delete/", follow=True)
    assert b"1 run, build or service still lives on local. Cancel it first." in page.content and target(team)
    Unit.objects.update(state="completed")
    owner.post("/w/main/compute/local/delete/")
    assert not Target.objects.filter(workspace=team.workspace).exists()
    assert b"No compute is attached" in owner.get("/w/main/compute/").content


def test_the_list_shows_the_newest_version_of_each_name_and_filters(team, owner):
    for packages in ("numpy", "numpy\npandas"):
        env_services.environment_register(
            workspace=team.workspace, name="mine", recipe=recipe_from_requirements(packages), user=team.owner
        )
    html = owner.get("/w/main/environments/").content.decode()
    assert "/environments/mine/2/" in html and "/environments/mine/1/" not in html and "AzureML-Tutorial" in html
    custom = owner.get("/w/main/environments/?kind=custom").content.decode()
    assert "/environments/mine/2/" in custom and "AzureML-Tutorial" not in custom
    assert b"Nothing fits" in owner.get("/w/main/environments/?search=zebra").content


def test_lists_are_paged_by_key_and_cost_the_same(team, owner, django_assert_num_queries, monkeypatch):
    from compute import env_selectors

    def add(count: int, start: int) -> None:
        for number in range(start, start + count):
            made = env_services.environment_register(
                workspace=team.workspace,
                name=f"e{number:03}",
                recipe=recipe_from_requirements(f"p{number}"),
                user=team.owner,
            )
            EnvironmentBuild.objects.create(content_hash=made.content_hash, target=target(team), state="ready")

    with django_assert_num_queries(2):
        add_none = env_selectors.environments_page(team.workspace)
    assert add_none.next is None
    add(6, 0)
    names, cursor = [], None
    while True:
        with django_assert_num_queries(2):
            page = env_selectors.environments_page(team.workspace, cursor=cursor, limit=4)
        names += [row.environment.name for row in page.items]
        if (cursor := page.next) is None:
            break
    curated = Environment.objects.filter(workspace=team.workspace, curated=True).order_by("name")
    assert names == [*curated.values_list("name", flat=True), *[f"e{n:03}" for n in range(6)]]


def test_page_queries_do_not_grow(team, owner, django_assert_max_num_queries):
    now = timezone.now()
    for number in range(1, 30):
        unit(team, number, "queued" if number % 2 else "completed", queued_at=now, started_at=now, ended_at=now)
    with django_assert_max_num_queries(16):
        owner.get("/w/main/compute/local/")
    with django_assert_max_num_queries(14):
        owner.get("/w/main/environments/")
    with django_assert_max_num_queries(16):
        owner.get("/w/main/environments/AzureML-Tutorial/1/")


def post_recipe(client: Client, **fields):
    return client.post("/w/main/environments/new/", {"name": "fresh", "kind": "pip", **fields})


def test_an_environment_from_a_list_and_a_file(team, owner):
    upload = SimpleUploadedFile("requirements.txt", b"pandas>=2  # tables\n")
    answer = post_recipe(owner, packages="numpy==1.26.4", requirements=upload, python="3.11", description="Ours")
    assert answer["Location"] == "/w/main/environments/fresh/1/"
    made = Environment.objects.get(workspace=team.workspace, name="fresh")
    assert made.recipe["packages"] == ["numpy==1.26.4", "pandas>=2"] and made.recipe["python"] == "3.11"
    assert made.created_by == team.owner and made.description == "Ours"
    assert b"numpy==1.26.4" in owner.get("/w/main/environments/fresh/").content
    again = owner.get("/w/main/environments/new/?from=fresh:1").content.decode()
    assert "numpy==1.26.4\npandas&gt;=2" in again and 'value="fresh"' in again


def test_an_environment_from_a_conda_file(team, owner):
    text = "channels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pytorch\n  - pip:\n    - azureml-defaults\n"
    assert post_recipe(owner, kind="conda", conda=text).status_code == 302
    recipe = Environment.objects.get(workspace=team.workspace, name="fresh").recipe
    assert recipe["kind"] == "conda" and "torch" in recipe["packages"]
    page = owner.get("/w/main/environments/fresh/1/").content.decode()
    assert "conda-forge" in page and "azureml" in page


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"packages": ""}, b"Name at least one package"),
        ({"packages": "../here\n-r other.txt"}, b"another file cannot be included"),
        ({"packages": "numpy", "python": "spam"}, b"is not a Python version"),
        ({"packages": "numpy", "name": "no spaces"}, b"Use letters, digits"),
        ({"packages": "numpy", "name": "system"}, b"comes with the studio"),
        ({"kind": "conda", "conda": ""}, b"Paste the conda file"),
        ({"kind": "conda", "conda": "a: [1"}, b"not readable YAML"),
        ({"kind": "conda", "conda_file": SimpleUploadedFile("e.yml", b"\xff\xfe\x00")}, b"not UTF-8"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_explained_beside_its_field(owner, fields, says):
    answer = post_recipe(owner, **fields)
    assert answer.status_code == 422 and says in answer.content and b"aria-invalid" in answer.content


def test_checking_names_what_is_wrong_before_anything_is_made(team, owner):
    answer = owner.post(
        "/w/main/environments/check/", {"kind": "pip", "packages": "-e ."}, headers={"HX-Request": "true"}
    )
    assert b"folder of your machine is not on the target" in answer.content and b"<html" not in answer.content
    conda = "dependencies:\n  - cudatoolkit=11\n"
    answer = owner.post("/w/main/environments/check/", {"kind": "conda", "conda": conda})
    assert b"cudatoolkit" in answer.content
    assert not Environment.objects.filter(workspace=team.workspace, curated=False).exists()


def test_a_failed_build_says_which_package_and_offers_another_try(team, owner):
    environment = Environment.objects.get(workspace=team.workspace, name="AzureML-Tutorial")
    problems = [{"message": "spam==9: no package of this name", "hint": "Check the spelling."}]
    EnvironmentBuild.objects.create(
        content_hash=environment.content_hash,
        target=target(team),
        state="failed",
        unit=unit(team, 5, "failed", kind="build"),
        detail={"python": "3.11.7", "error": "spam", "problems": problems, "warnings": ["Another Python."]},
    )
    html = owner.get("/w/main/environments/AzureML-Tutorial/").content.decode()
    assert "spam==9" in html and "Check the spelling." in html and "Try again" in html and "Another Python." in html
    reader = client_of(team, "reader").get("/w/main/environments/AzureML-Tutorial/").content.decode()
    assert "spam==9" in reader and "/prepare/" not in reader


def test_the_builds_poll_until_the_build_has_ended(team, owner):
    environment = Environment.objects.get(workspace=team.workspace, name="AzureML-Tutorial")
    build = EnvironmentBuild.objects.create(
        content_hash=environment.content_hash, target=target(team), unit=unit(team, 5, kind="build"), state="building"
    )
    path = "/w/main/environments/AzureML-Tutorial/1/"
    assert b'hx-trigger="every 2s"' in owner.get(path).content
    assert b"Building" in owner.get(path, headers={"HX-Request": "true"}).content
    EnvironmentBuild.objects.filter(pk=build.pk).update(state="ready", detail={"packages": ["numpy==1.26.4"]})
    assert owner.get(path, headers={"HX-Request": "true"})["HX-Refresh"] == "true"
    done = owner.get(path).content
    assert b"every 2s" not in done and b"numpy==1.26.4" in done


def test_preparing_starts_one_build(team, owner, django_capture_on_commit_callbacks):
    for _again in range(2):
        owner.post("/w/main/environments/AzureML-Minimal/1/prepare/", {"target": "local"})
    assert EnvironmentBuild.objects.filter(target=target(team), state="building").count() == 1
    assert owner.post("/w/main/environments/AzureML-Minimal/1/prepare/", {"target": "none"}).status_code == 404
