"""Images really built by the engine: layers that are taken again, failures in words, kills at any moment."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable

import docker
import pytest
from docker.errors import DockerException

from compute.images import plan
from tests.images.conftest import Done, Index, Job
from tests.stack import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

Build = Callable[..., Done]
Layers = Callable[[str], list[str]]


def test_a_changed_last_package_rebuilds_only_the_last_layer(
    build: Build, index: Index, layers: Layers, engine: docker.APIClient, base_image: str
) -> None:
    index.add("under", "1.0")
    index.add("alpha", "1.0", "under")
    index.add("beta", "1.0", "under")
    index.add("beta", "2.0", "under")
    first = build(packages=["alpha", "beta==1.0"], environ=index.environ)
    assert first.code == 0, first.log
    assert first.result["how"] == "built" and first.result["python"].startswith("3.")
    assert {"alpha==1.0", "under==1.0", "beta==1.0"} <= set(first.result["packages"])
    assert "install alpha==1.0 under==1.0" in first.log and "install beta==1.0" in first.log
    second = build(packages=["alpha", "beta==2.0"], environ=index.environ)
    assert second.code == 0, second.log
    assert "Using cache" in second.log
    before, after, below = layers(first.result["image"]), layers(second.result["image"]), layers(base_image)
    assert len(before) == len(below) + 2
    assert before[:-1] == after[:-1] and before[-1] != after[-1]
    # Nothing of the index, nor the password for it, is in the image.
    told = json.dumps([engine.inspect_image(first.result["image"]), engine.history(first.result["image"])])
    assert "127.0.0.1" not in told and "secret-of-index" not in told + first.log


def test_what_is_there_is_found_at_once(build: Build, index: Index, engine: docker.APIClient) -> None:
    index.add("gamma", "1.0")
    first = build(packages=["gamma"], environ=index.environ)
    again = build(packages=["gamma"], environ=index.environ)
    assert (first.result["how"], again.result["how"]) == ("built", "there"), again.log
    assert first.result["image"] == again.result["image"] and first.result["image_id"] == again.result["image_id"]
    assert "is already there" in again.log
    fresh = build(packages=["gamma"], environ=index.environ, options={"fresh": True})
    assert fresh.result["how"] == "built" and fresh.result["image_id"] != first.result["image_id"], fresh.log
    labels = engine.inspect_image(fresh.result["image"])["Config"]["Labels"]
    assert labels[plan.LABEL_ENVIRONMENT] == "mine:1"


def test_the_network_of_a_build_reaches_the_index_of_everybody(build: Build) -> None:
    done = build(packages=["six==1.16.0"])
    assert done.code == 0 and "six==1.16.0" in done.result["packages"], done.log


def test_a_package_that_cannot_be_had_is_named_first(build: Build, index: Index) -> None:
    index.add("alpha", "1.0")
    done = build(packages=["alpha", "nosuchthing", "alpha>=1", "beta-of-nobody"], environ=index.environ)
    assert done.code == 2 and not done.result
    assert [one["package"] for one in done.problems] == ["nosuchthing", "beta-of-nobody"], done.log
    assert "ERROR  nosuchthing: the package index has no package of this name." in done.log


def test_a_package_that_does_not_compile_is_named(build: Build, index: Index) -> None:
    index.add("alpha", "1.0")
    index.add_source("broken", "1.0", "raise SystemExit('no compiler here')\n")
    done = build(packages=["alpha", "broken"], environ=index.environ)
    assert done.code == 2, done.log
    assert done.problems[0]["package"].startswith("broken"), done.problems


def test_an_index_that_only_the_studio_sees_is_said(build: Build, index: Index) -> None:
    index.add("onlyhere", "1.0")
    environ = {**index.environ, "PIP_INDEX_URL": "http://index.invalid/simple/"}
    done = build(packages=["onlyhere"], environ=environ)
    assert done.code == 2
    assert (done.problems[0]["code"], done.problems[0]["package"]) == ("index-unreachable", "onlyhere==1.0"), done.log


def test_a_dockerfile_of_ones_own_with_packages_on_top(build: Build, index: Index, base_image: str) -> None:
    index.add("alpha", "1.0")
    text = f"FROM {base_image}\nENV GREETING=hello\nRUN echo made > /etc/made\nUSER 1000\n"
    done = build(dockerfile=text, packages=["alpha"], environ=index.environ)
    assert done.code == 0, done.log
    assert "alpha==1.0" in done.result["packages"]
    assert (
        done.result["dockerfile"].startswith(text) and done.result["dockerfile"].rstrip().split("\n")[-2] == "USER 1000"
    )


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ("RUN echo one\nRUN exit 3", "dockerfile", "Line 3: RUN exit 3: ended with code 3."),
        ("RUN echo 'No space left on device' && false", "disk-full", "no space left"),
        ("USER", "", "Line 2"),
    ],
)
def test_a_line_of_a_dockerfile_that_fails_is_named(
    build: Build, base_image: str, lines: str, code: str, words: str
) -> None:
    from studio.lib.errors import Invalid

    text = f"FROM {base_image}\n{lines}\n"
    if not code:
        with pytest.raises(Invalid, match=words):
            build(dockerfile=text)
        return
    done = build(dockerfile=text)
    assert done.code == 2, done.log
    assert done.problems[0]["code"] == code and words in done.problems[0]["message"], done.problems


def test_a_base_image_that_cannot_be_had_says_the_way_out(build: Build) -> None:
    name = f"127.0.0.1:9/nobody/{uuid.uuid4().hex[:8]}:1"
    done = build(base_image=name, packages=["six"])
    assert done.code == 2
    assert done.problems[0]["code"] == "base-missing" and name in done.problems[0]["message"]
    assert "deploy/images/base" in done.problems[0]["hint"]
    own = build(dockerfile=f"ARG X=1\nFROM {name}\nRUN true\n")
    assert own.problems[0]["line"] == 2 and own.problems[0]["message"].startswith("Line 2: the image")


def test_an_image_without_python_is_refused(build: Build, base_image: str) -> None:
    text = f"FROM {base_image}\nRUN rm -f /usr/local/bin/python*\n"
    done = build(dockerfile=text)
    assert done.code == 2 and done.problems[0]["code"] == "python", done.log


def test_a_build_that_was_killed_is_finished_by_the_next(
    start: Callable[..., Job], build: Build, index: Index, base_image: str, engine: docker.APIClient
) -> None:
    index.add("alpha", "1.0")
    mark = uuid.uuid4().hex
    text = f"FROM {base_image}\nRUN echo {mark}\nRUN sleep 20 || true\n"
    killed = start(dockerfile=text, packages=["alpha"], environ=index.environ)
    wait_until("the build is under way", lambda: _runs(engine, "sleep 20"), 60, 0.2)
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    # The engine ends what nobody waits for.
    wait_until("the engine has ended the step", lambda: not _runs(engine, "sleep 20"), 60, 0.2)
    done = build(dockerfile=text.replace("sleep 20", "sleep 0"), packages=["alpha"], environ=index.environ)
    assert done.code == 0, done.log
    assert "Using cache" in done.log  # the step before the kill


def test_a_canceled_build_ends_in_the_engine_too(
    start: Callable[..., Job], base_image: str, engine: docker.APIClient
) -> None:
    mark = uuid.uuid4().hex
    job = start(dockerfile=f"FROM {base_image}\nRUN echo {mark} && sleep 40\n")
    wait_until("the build is under way", lambda: _runs(engine, mark), 60, 0.2)
    os.killpg(job.process.pid, signal.SIGTERM)
    done = job.finish()
    assert done.code == 143 and not done.result
    wait_until("the engine has ended the step", lambda: not _runs(engine, mark), 60, 0.2)


def _runs(engine: docker.APIClient, words: str) -> bool:
    return any(words in str(one.get("Command")) + _whole(engine, one["Id"]) for one in engine.containers())


def _whole(engine: docker.APIClient, container: str) -> str:
    try:
        return " ".join(engine.inspect_container(container)["Config"]["Cmd"] or [])
    except (DockerException, KeyError):
        return ""


def test_two_builders_of_one_tag_do_not_disturb_each_other(start: Callable[..., Job], index: Index) -> None:
    index.add("delta", "1.0")
    jobs = [start(packages=["delta"], environ=index.environ) for _ in range(2)]
    ends = [job.finish() for job in jobs]
    assert [end.code for end in ends] == [0, 0], [end.log for end in ends]
    assert len({end.result["image_id"] for end in ends}) == 1


def test_an_image_that_is_taken_as_it_is(build: Build, base_image: str) -> None:
    done = build(kind="system", options={"mode": "base"})
    assert done.code == 0, done.log
    assert (done.result["image"], done.result["how"]) == (base_image, "base")
    assert done.result["interpreter"].endswith("python3")


FAKE = """#!/bin/sh
echo "$@" >> /var/log/micromamba
case "$1" in create) ;; *) exit 0;; esac
while [ "$1" != "-p" ]; do shift; done
case "$*" in *no-such-thing*) echo "error  nothing provides no-such-thing" >&2; exit 1;; esac
exec /usr/local/bin/python3 -m venv "$2"
"""


def _with_fake(base_image: str) -> str:
    """A Dockerfile of an image whose micromamba writes down what it is asked and makes a virtual environment."""
    words = FAKE.replace("\\", "\\\\").replace("\n", "\\n").replace("'", "'\\''").replace("%", "%%")
    return (
        f"FROM {base_image}\nRUN printf '{words}' > /usr/local/bin/micromamba && chmod 755 /usr/local/bin/micromamba\n"
    )


def test_packages_that_only_conda_has_come_from_micromamba(build: Build, index: Index, base_image: str) -> None:
    index.add("alpha", "1.0")
    conda = "channels: [conda-forge, bioconda]\ndependencies: ['python=3.11', samtools>=1.9, pip: [alpha]]\n"
    done = build(dockerfile=_with_fake(base_image), conda=conda, environ=index.environ)
    assert done.code == 0, done.log
    assert done.result["interpreter"].startswith(plan.PREFIX) and "alpha==1.0" in done.result["packages"]
    created = next(line for line in done.result["dockerfile"].split("\n") if "micromamba create" in line)
    assert "-c conda-forge -c bioconda python=3.11 pip 'samtools>=1.9'" in created
    plain = build(dockerfile=f"FROM {base_image}\n", conda=conda, environ=index.environ)
    assert (
        plain.code == 2 and plain.problems[0]["package"] == "samtools" and "micromamba" in plain.problems[0]["message"]
    )


def test_no_conda_where_pip_and_the_base_are_enough(build: Build, index: Index, base_image: str) -> None:
    index.add("alpha", "1.0")
    done = build(dockerfile=_with_fake(base_image), conda="dependencies: [python, alpha]\n", environ=index.environ)
    assert done.code == 0 and "micromamba create" not in done.result["dockerfile"], done.log


def test_another_python_than_the_base_has(build: Build, base_image: str) -> None:
    warned = build(python="3.9", packages=[])
    assert warned.code == 0 and "asks for Python 3.9" in warned.result["warnings"][0], warned.log
    refused = build(python="3.9", packages=[], strict=True)
    assert refused.code == 2 and refused.problems[0]["code"] == "python"
    conda = build(dockerfile=_with_fake(base_image), python="3.9", packages=[])
    assert "python=3.9 pip" in conda.result["dockerfile"], conda.log
