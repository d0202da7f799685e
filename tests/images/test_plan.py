"""What is built of a recipe: layers, the Python, the tag, and what a Dockerfile may say. Nothing is built here."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.environments import Recipe, content_hash, recipe_from_conda, recipe_from_dict, recipe_from_requirements
from compute.images import building, dockerfile, plan, resolve, store, transport, words
from compute.images.plan import Found, Pin
from studio.lib.errors import Invalid
from tests.stack import ROOT

FOUND = Found(python="3.11.4", interpreter="/usr/local/bin/python3", libc_version="2.36", pip=True)


def pins(text: str) -> list[Pin]:
    return resolve.read(text)


RESOLVED = """\
joblib==1.4.2             # via scikit-learn
numpy==2.1.0              # via scikit-learn, scipy
pysocks==1.7.1            # via requests
requests==2.32.0
scikit-learn==1.5.2
scipy==1.14.0             # via scikit-learn
"""


def test_each_package_gets_what_it_needs_and_no_earlier_one_has() -> None:
    found = plan.layers(["numpy", "scikit-learn>=1", "requests[socks]"], pins(RESOLVED), {})
    assert [[pin.name for pin in layer] for layer in found] == [
        ["numpy"],
        ["joblib", "scikit-learn", "scipy"],
        ["pysocks", "requests"],
    ]
    had = plan.layers(["scikit-learn", "numpy"], pins(RESOLVED), {"numpy": "2.1.0", "scipy": "1.0"})
    assert [pin.text for pin in had[0]] == ["joblib==1.4.2", "scikit-learn==1.5.2", "scipy==1.14.0"]
    assert [[pin.name for pin in layer] for layer in had[1:]] == [["pysocks", "requests"]]


names = [f"p{number}" for number in range(200)]


@given(st.integers(0, 180), st.integers(1, 60))
def test_many_packages_stay_below_the_limit_and_each_is_installed_once(count: int, most: int) -> None:
    some = [Pin(name, f"{name}==1") for name in names[:count]]
    found = plan.layers([pin.text for pin in some], some, {}, most=most)
    assert len(found) <= most
    assert [pin for layer in found for pin in layer] == some


def test_a_changed_or_added_last_package_leaves_the_layers_before_it() -> None:
    for count in (5, 39, 41, 77, 120):
        some = [Pin(name, f"{name}==1") for name in names[:count]]
        before = plan.layers([pin.text for pin in some], some, {})
        other = [*some[:-1], Pin(some[-1].name, f"{some[-1].name}==2")]
        after = plan.layers([pin.text for pin in other], other, {})
        assert before[:-1] == after[:-1] and before[-1] != after[-1]


def test_the_order_is_the_one_typed_and_the_hash_knows_none() -> None:
    one = recipe_from_requirements("scikit-learn\nnumpy")
    other = recipe_from_requirements("numpy\nscikit-learn")
    assert one.typed == ["scikit-learn", "numpy"] and one.packages == ["numpy", "scikit-learn"]
    assert one == other and content_hash(one) == content_hash(other)
    assert recipe_from_dict(one.to_dict()).typed == one.typed
    # A recipe of before has nothing new in it.
    assert not {"base_image", "dockerfile", "order"} & set(other.to_dict())


def test_images_are_in_the_hash_and_survive_their_json() -> None:
    plain = recipe_from_dict({"packages": ["numpy"]})
    based = recipe_from_dict({"packages": ["numpy"], "base_image": "python:3.12"})
    own = recipe_from_dict({"dockerfile": "FROM python:3.12\n", "conda": "dependencies: [numpy, {pip: [six]}]"})
    assert own.kind == "dockerfile" and own.typed == ["numpy", "six"]
    assert len({content_hash(one) for one in (plain, based, own)}) == 3
    for one in (based, own):
        assert recipe_from_dict(one.to_dict()) == one
    assert plan.tag("a", "b") == plan.tag("a", "b") != plan.tag("a", "c")
    assert plan.tag("a", "b").startswith("atelier-env:") and len(plan.tag("a", "b")) == len("atelier-env:") + 24


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"base_image": "Not An Image"}, "base_image"),
        ({"base_image": "python:3.11", "dockerfile": "FROM a\n"}, "base_image"),
        ({"kind": "pip", "dockerfile": "FROM a\n"}, "dockerfile"),
        ({"kind": "dockerfile"}, "dockerfile"),
        ({"kind": "dockerfile", "dockerfile": 3}, "dockerfile"),
        ({"kind": "dockerfile", "dockerfile": "FROM a\nCOPY x y\n"}, "dockerfile"),
    ],
)
def test_what_cannot_be_an_image_is_refused(data: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        recipe_from_dict(data)
    assert field in caught.value.errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "FROM a\nRUN true \\\n  && false\nCOPY train.py data/ /app/\n",
            "Line 4: COPY train.py data/ /app/: train.py data/",
        ),
        ('FROM a\nADD ["model.pkl", "/m"]\n', "Line 2: ADD"),
        ("FROM a\nONBUILD COPY . /src\n", "Line 2: ONBUILD COPY"),
        ("FROM a\nRUN --mount=type=cache,target=/x true\n", "Line 2: RUN --mount"),
        ("FROM a\nRUN <<EOF\necho\nEOF\n", "here-documents"),
        ("RUN true\n", "Line 1: RUN comes before FROM"),
        ("# only words\n", "empty"),
        ("FROM\n", "FROM needs the name"),
        ("FROM a\nRUNN x\n", "there is no instruction RUNN"),
        ("FROM a\nUSER\n", "something is missing after USER"),
        ("FROM a\nADD https://example.org/x.tgz /x\n", "Line 2: ADD"),
        ("FROM a\nADD --chown=1 http://169.254.169.254/latest/ /x\n", "would fetch http://169"),
        ('FROM a\nADD ["git@example.org:a.git", "/x"]\n', "would fetch git@"),
        ("FROM a\nONBUILD ADD http://127.0.0.1:9/x /x\n", "would fetch http://127"),
        ("FROM a\nARG FTP_PROXY\nRUN true\n", "Atelier uses FTP_PROXY"),
        ("ARG X=PROXY\nFROM a\nARG A=1 FTP_${X}\n", "Atelier uses FTP_PROXY"),
        ("FROM a\nADD $WHERE /x\n", "would have to lie beside"),
        ("# syntax=a\n# escape=`\nFROM a\nRUN true \\\nADD http://127.0.0.1/x /x\n", "has to be the first line"),
        ("\n# escape=`\nFROM a\nRUN true `\nADD http://127.0.0.1/x /x\n", "would fetch http://127"),
        ("FROM a\nRUN true \\\f\nADD http://127.0.0.1/x /x\n", "would fetch http://127"),
        ("ARG WHAT\nFROM ${WHAT:+example.org/a}\n", "give the ARG a value"),
    ],
)
def test_a_line_that_cannot_be_built_is_named(text: str, words: str) -> None:
    assert any(words in said for said in dockerfile.problems(text)), dockerfile.problems(text)


def test_a_dockerfile_that_can_be_built() -> None:
    text = (
        "ARG VERSION=3.11\n# two stages\nFROM python:${VERSION}-slim AS made\nRUN a && \\\n# in between\n    b\n"
        "FROM example.org:5000/team/base@sha256:" + "0" * 64 + "\nCOPY --from=made /a /a\n"
        "COPY --from=busybox:1 /bin/true /x\nUSER nobody\n"
    )
    assert dockerfile.problems(text) == []
    assert dockerfile.bases(text) == [
        (3, "python:3.11-slim"),
        (7, "example.org:5000/team/base@sha256:" + "0" * 64),
        (9, "busybox:1"),
    ]
    assert dockerfile.last_user(text) == "nobody"
    assert (4, "RUN", "a && b") in [(one.line, one.name, one.rest) for one in dockerfile.read(text)]


def test_an_argument_made_of_others() -> None:
    text = 'ARG V=3.11\nARG BASE=python:${V}-slim\nFROM ${BASE}\nARG WORDS="a $V"\nARG FTP_PROXYLESS\nRUN true\n'
    assert dockerfile.problems(text) == [] and dockerfile.bases(text) == [(3, "python:3.11-slim")]
    assert dockerfile.problems((ROOT / "deploy" / "images" / "base" / "Dockerfile").read_text()) == []


def test_what_an_image_adds_to_builds_on_it() -> None:
    assert dockerfile.triggers(["RUN true", "COPY . /a", "ADD a /b"], "a") == []
    assert "choose another image" in dockerfile.triggers(["ADD http://169.254.169.254/x /x"], "a")[0]


def choose(recipe: Recipe, found: Found = FOUND, strict: bool = False) -> plan.Way:
    return plan.choose(recipe, found, "python:3.11", strict=strict)


def test_no_conda_where_the_base_has_the_python() -> None:
    with_micromamba = Found(**{**FOUND.__dict__, "micromamba": "/usr/local/bin/micromamba"})
    conda = recipe_from_conda("dependencies: [python=3.11, pytorch, {pip: [six]}]")
    for found in (FOUND, with_micromamba):
        way = choose(conda, found)
        assert (way.conda, way.packages, way.problems) == (False, ("torch", "six"), ())


def test_another_python_needs_conda_or_is_said() -> None:
    with_micromamba = Found(**{**FOUND.__dict__, "micromamba": "/usr/local/bin/micromamba"})
    wanted = recipe_from_dict({"packages": ["six"], "python": "3.9"})
    way = choose(wanted, with_micromamba)
    assert (way.conda, way.conda_python, way.specs, way.packages) == (True, "3.9", (), ("six",))
    warned = choose(wanted)
    assert not warned.conda and "asks for Python 3.9; python:3.11 has 3.11.4 and no micromamba" in warned.warnings[0]
    assert choose(wanted, strict=True).problems[0]["code"] == "python"
    # Only the patch level is another: nobody waits for a Python of its own.
    nearly = recipe_from_dict({"python": "3.11.9"})
    assert not choose(nearly, with_micromamba).conda and "that is taken" in choose(nearly, with_micromamba).warnings[0]
    assert choose(nearly, with_micromamba, strict=True).conda
    # Runs need 3.8.
    old = recipe_from_conda("dependencies: ['python=3.6.2', scikit-learn]")
    assert "later, so it runs on Python 3.11.4" in choose(old, with_micromamba).warnings[0]
    assert choose(old, with_micromamba, strict=True).problems


def test_packages_that_only_conda_has() -> None:
    recipe = recipe_from_conda("channels: [c1]\ndependencies: [openjdk=17, numpy, {pip: [six]}]")
    refused = choose(recipe)
    assert refused.problems[0]["message"].startswith("openjdk: only conda has this package")
    way = choose(recipe, Found(**{**FOUND.__dict__, "micromamba": "/usr/bin/micromamba"}))
    assert (way.conda_python, way.specs, way.packages) == ("3.11", ("openjdk=17", "numpy"), ("six",))
    head = plan.head(recipe, "base:1", way)
    assert "micromamba create -y -q -p /opt/atelier/env -c c1 python=3.11 pip openjdk=17 numpy" in head
    nothing = choose(recipe_from_dict({"packages": []}), Found())
    assert "neither Python nor micromamba" in nothing.problems[0]["message"]


def test_the_dockerfile_says_whose_it_is_at_its_end() -> None:
    found = Found(**{**FOUND.__dict__, "user": "1000", "pip": False})
    whole = plan.compose(
        "FROM a\n", [[Pin("six", "six==1"), Pin("x", "x @ https://e.org/x y.whl")]], found, {"k": 'v"1'}
    )
    lines = whole.text.strip().split("\n")
    assert lines[1] == "USER root" and lines[-2:] == ["USER 1000", 'LABEL k="v\\"1"']
    assert lines[2].endswith("-m ensurepip") and whole.lines == {3: ["pip"], 4: ["six==1", "x @ https://e.org/x y.whl"]}
    assert lines[3].endswith("six==1 'x @ https://e.org/x y.whl'")
    assert plan.compose("FROM a\n", [], found, {}).text == "FROM a\n"


def test_what_pip_is_told_of_the_index() -> None:
    told = resolve.index_settings(
        {
            "UV_DEFAULT_INDEX": "https://u:p@index.example/simple",
            "UV_INDEX": "torch=https://torch.example/whl http://plain.example:81/s",
            "PIP_FIND_LINKS": "/srv/wheels https://links.example/",
        }
    )
    assert told == {
        "PIP_INDEX_URL": "https://u:p@index.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://torch.example/whl http://plain.example:81/s",
        "PIP_FIND_LINKS": "https://links.example/",
        "PIP_TRUSTED_HOST": "plain.example:81",
    }
    assert plan.carried({"B": "it's", "A": "1"}) == "A=1 B='it'\"'\"'s'"
    assert resolve.on_this_machine({"A": "http://u:p@127.0.0.1:8/x"}) and not resolve.on_this_machine(told)


@pytest.mark.parametrize(
    ("found", "platform"),
    [
        (Found(libc_version="2.36"), "x86_64-manylinux_2_36"),
        (Found(libc_version="2.29", machine="aarch64"), "aarch64-manylinux_2_28"),
        (Found(libc="musl"), "x86_64-unknown-linux-musl"),
        (Found(), "x86_64-unknown-linux-gnu"),
    ],
)
def test_the_platform_of_an_image(found: Found, platform: str) -> None:
    assert plan.platform_of(found) == platform


PLAN = plan.Plan("FROM a\nRUN apt-get\nRUN pip\n", {3: ["numpy==1.26.4", "my-pkg==2"]})


@pytest.mark.parametrize(
    ("heard", "step", "code", "package"),
    [
        ("Collecting my_pkg==2\nERROR: No matching distribution found for my-pkg==2", 3, "not-found", "my-pkg==2"),
        ("Collecting numpy==1.26.4\nCollecting setuptools\nerror: subprocess-exited-with-error", 3, "no-build",
         "numpy==1.26.4"),
        ("ERROR: Failed building wheel for my-pkg", 3, "no-build", "my-pkg==2"),
        ("WARNING: Retrying: NewConnectionError('x: Name or service not known')\nERROR: No matching distribution found "
         "for numpy==1.26.4", 3, "index-unreachable", "numpy==1.26.4"),
        ("OSError: [Errno 28] No space left on device", 3, "disk-full", ""),
        ("E: Unable to locate package", 2, "dockerfile", ""),
        ("Step 2/3 : RUN\n ---> Running in 0a\n\x1b[91mE: Unable to locate package\n\x1b[0m\n"
         "Removing intermediate container 0a", 2, "dockerfile", ""),
    ],
)  # fmt: skip
def test_what_went_wrong_in_words(heard: str, step: int, code: str, package: str) -> None:
    said = "The command '/bin/sh -c x' returned a non-zero code: 100"
    found = building.explain(said, heard.splitlines(), PLAN, [1, 2, 3], step)
    assert (found["code"], found["package"]) == (code, package)
    if step == 2:
        assert found["line"] == 2 and found["message"] == (
            "Line 2: RUN apt-get: ended with code 100. E: Unable to locate package"
        )


def test_credentials_go_to_the_registry_whose_address_fits() -> None:
    known = [
        {"address": "example.org", "username": "a", "password": "1"},
        {"address": "example.org/team", "username": "b", "password": "2"},
        {"address": "docker.io", "username": "c", "password": "3"},
        {"address": "open.example", "username": "", "password": ""},
    ]
    assert transport.credentials("example.org/team/base:1", known) == {"username": "b", "password": "2"}
    assert transport.credentials("example.org/teams:1", known) == {"username": "a", "password": "1"}
    assert transport.credentials("python:3.11", known) == {"username": "c", "password": "3"}
    assert transport.credentials("example.org.evil.example/x", known) is None
    assert transport.credentials("open.example/x", known) is None
    assert set(transport.configs(known)) == {"example.org", "https://index.docker.io/v1/"}
    assert transport.split("127.0.0.1:5000/a/b:1") == ("127.0.0.1:5000/a/b", "1")
    assert transport.split("127.0.0.1:5000/a/b") == ("127.0.0.1:5000/a/b", "latest")


def test_bytes_of_layers_are_matched_to_the_history_or_not_claimed() -> None:
    history = [
        {"Size": 100, "CreatedBy": "/bin/sh -c #(nop) ADD file:1 in / "},
        {"Size": 0, "CreatedBy": "/bin/sh -c #(nop)  CMD [\"bash\"]"},
        {"Size": 0, "CreatedBy": "/bin/sh -c mkdir /x"},
        {"Size": 7, "CreatedBy": "/bin/sh -c pip"},
        {"Size": 0, "CreatedBy": "LABEL a=b"},
    ]  # fmt: skip
    assert store.match(history, ("a", "b", "c")) == {"a": 100, "b": 0, "c": 7}
    assert store.match(history, ("a", "b-empty", "c", "d-empty")) == {"a": 100, "c": 7}
    assert store.match(history, ("a", "b", "c", "d", "e")) == {}


def test_a_pull_says_what_is_done_and_why_it_ended() -> None:
    events = [
        {"status": "Pulling from library/a", "id": "1"},
        {"status": "Downloading", "id": "x", "progressDetail": {"current": 5, "total": 10}},
        {"status": "Pull complete", "id": "x", "progressDetail": {}},
        {"status": "Digest: sha256:0"},
    ]
    assert list(transport.progress(events)) == ["x: Pull complete", "Digest: sha256:0"]
    with pytest.raises(transport.TransportFailed):
        list(transport.progress([{"error": "unauthorized: no"}]))


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("manifest for a:1 not found: manifest unknown", "absent"),
        ("pull access denied for a, repository does not exist", "refused"),
        ("unauthorized: authentication required", "refused"),
        ("Get https://a/v2/: dial tcp: lookup a: no such host", "unreachable"),
        ("dial tcp 127.0.0.1:9: connect: connection refused", "unreachable"),
        ("write /var/lib/x: no space left on device", "disk-full"),
        ("odd", "failed"),
    ],
)
def test_why_an_image_did_not_come(said: str, code: str) -> None:
    assert transport.failure(said).code == code


def test_a_build_that_says_nothing_says_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    said = threading.Event()
    with words.Patience(0.05) as patience:
        patience.where = "step 2 of 3: RUN sleep"
        for _try in range(200):
            said.wait(0.05)
            if "without a word" in capsys.readouterr().out:
                return
    raise AssertionError("nothing was said")


def test_what_is_hidden_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    words.hide("pass-of-somebody", "")
    words.say("it is pass-of-somebody")
    assert capsys.readouterr().out == "it is ***\n"
