"""What the Workbench's command line writes into a project folder and reads from it, and Docker's options. No studio."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from atelier import attach, docker_options, tinyyaml
from atelier.cli import az, project, targets
from atelier.cli.parser import build
from atelier.compute import DockerTarget, LocalTarget, RemoteCompute
from atelier.environment import Environment
from atelier.exceptions import ComputeTargetException, ServiceException
from atelier.runconfig import DockerConfiguration, RunConfiguration
from atelier.script_run_config import ScriptRunConfig
from azureml.exceptions import UserErrorException

from tests.client.conftest import SOURCE

LOCAL = {"name": "local", "driver": "local", "containers": False, "config": {}, "state": "Succeeded"}
DOCKER = {"name": "docker", "driver": "docker", "containers": True, "config": {"memory": "2g"}, "state": "Succeeded"}


class Studio:
    """Answers as the studio's targets do, and keeps what was asked."""

    name = "main"

    def __init__(self, *targets: dict[str, Any]) -> None:
        self.targets = {one["name"]: one for one in targets}
        self.asked: list[tuple[str, str, Any]] = []

    def _list(self, path: str, **_params: Any) -> list[dict[str, Any]]:
        return list(self.targets.values())

    def _call(self, method: str, path: str, data: Any = None, **_options: Any) -> Any:
        self.asked.append((method, path, data))
        name = path.split("/")[1] if "/" in path else ""
        if method == "POST" and path == "targets":
            made = {**LOCAL, "name": data["name"], "driver": data["driver"], "config": data["config"],
                    "containers": data["driver"] != "local"}  # fmt: skip
            self.targets[data["name"]] = made
            return made
        if name not in self.targets:
            raise ServiceException("There is no such target.", 404)
        return self.targets[name]


class TestFiles:
    def test_written_by_attach(self, tmp_path: Path) -> None:
        settings = {"address": "10.0.0.4", "port": 22, "username": "azureuser"}
        compute = project.compute_write(tmp_path, "remotevm", "remotedocker", settings)
        runconfig = project.runconfig_write(tmp_path, "remotevm", "remotevm", conda=True)
        conda = project.conda_write(tmp_path)
        assert runconfig is not None and conda is not None
        assert {path.parent for path in (compute, runconfig, conda)} == {tmp_path / "aml_config"}
        found = tinyyaml.load(compute.read_text())
        assert list(found) == [
            "type", "address", "port", "username", "baseDockerImage", "sharedVolumes", "nvidiaDocker",
            "nativeSharedDirectory", "userManagedEnvironment", "pythonLocation", "sparkSubmitLocation",
        ]  # fmt: skip
        assert list(tinyyaml.load(runconfig.read_text())) == [
            "ArgumentVector", "Target", "EnvironmentVariables", "Framework", "CondaDependenciesFile",
            "PrepareEnvironment", "TrackedRun",
        ]  # fmt: skip
        loaded = RunConfiguration.load(tmp_path, "remotevm")
        assert loaded.target == "remotevm" and loaded.script is None and loaded.arguments == []
        assert loaded.environment.python.conda_dependencies.as_dict()["dependencies"] == []

    def test_what_people_edited_stays(self, tmp_path: Path) -> None:
        compute = project.compute_write(tmp_path, "vm", "remotedocker", {"address": "a"})
        compute.write_text("type: remotedocker\naddress: a\npassword: secret\nbaseDockerImage: team/base:1\n")
        compute = project.compute_write(tmp_path, "vm", "remotedocker", {"address": "b"})
        found = tinyyaml.load(compute.read_text())
        assert found["baseDockerImage"] == "team/base:1" and found["address"] == "b" and "password" not in found
        file = project.runconfig_write(tmp_path, "vm", "vm", conda=True)
        assert file is not None and project.runconfig_write(tmp_path, "vm", "other", conda=True) is None
        assert project.conda_write(tmp_path) is not None and project.conda_write(tmp_path) is None

    def test_a_compute_file_of_2017(self, tmp_path: Path) -> None:
        path = tmp_path / "docker.compute"
        path.write_text(
            'type: "docker"\nbaseDockerImage: "microsoft/mmlspark:plus-0.7.91"\nsharedVolumes: true\n'
            'nvidiaDocker: true\nnativeSharedDirectory: ~/.azureml/share/\npythonLocation: "python3"\n'
        )
        found = project.compute_read(path)
        assert found["base_docker_image"] == "microsoft/mmlspark:plus-0.7.91" and found["nvidia_docker"] is True
        path.write_text("type: docker\nbaseDokerImage: x\n")
        with pytest.raises(UserErrorException, match=r"docker.compute, line 2: .* Did you mean baseDockerImage\?"):
            project.compute_read(path)

    @pytest.mark.parametrize("name", ["a b/c", "..", "über", "-x-", "n" * 90])
    def test_the_projects_name_is_one(self, name: str) -> None:
        assert project.named(name)[0].isalnum() and len(project.named(name)) <= 64


class TestConfiguration:
    """What ``-c NAME`` means in a folder."""

    def test_a_file_and_its_compute_file(self, tmp_path: Path) -> None:
        project.runconfig_write(tmp_path, "gpu", "docker", conda=True, variables={"A": "1"})
        project.compute_write(tmp_path, "docker", "docker", {})
        path = tmp_path / "aml_config" / "docker.compute"
        text = path.read_text().replace("baseDockerImage: null", "baseDockerImage: team/base:1")
        path.write_text(text.replace("nvidiaDocker: false", "nvidiaDocker: true"))
        project.conda_write(tmp_path)
        found = project.configuration(Studio(LOCAL, DOCKER), tmp_path, "gpu")
        assert found.target == "docker" and found.environment_variables == {"A": "1"}
        assert found.environment.docker.base_image == "team/base:1" and found.environment.docker.gpu_support
        assert docker_options.asked(found)[0] == {"gpus": "all"}
        elsewhere = project.configuration(Studio(LOCAL, DOCKER), tmp_path, "gpu", "local")
        assert elsewhere.target == "local" and elsewhere.environment.docker.base_image is None

    def test_a_target_without_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "aml_config").mkdir()
        (tmp_path / "aml_config" / "conda_dependencies.yml").write_text("dependencies:\n- numpy\n")
        found = project.configuration(Studio(LOCAL, DOCKER), tmp_path, "docker")
        assert list(found.environment.python.conda_dependencies.conda_packages) == ["numpy"]
        assert "There is no aml_config/docker.runconfig" in capsys.readouterr().err
        here = project.configuration(Studio(LOCAL, DOCKER), tmp_path, "local")
        assert here.environment.python.user_managed_dependencies and not here._environment_given

    def test_docker_is_attached_where_nobody_has(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        studio = Studio(LOCAL)
        assert project.configuration(studio, tmp_path, "docker").target == "docker"
        assert ("POST", "targets", {"name": "docker", "driver": "docker", "config": {}, "secrets": {}}) in studio.asked
        assert "is attached as docker" in capsys.readouterr().err

    def test_docker_under_another_name(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        box = {**DOCKER, "name": "box"}
        assert project.configuration(Studio(LOCAL, box), tmp_path, "docker").target == "box"
        assert "box" in capsys.readouterr().err

    def test_a_compute_file_whose_target_is_not_attached(self, tmp_path: Path) -> None:
        project.compute_write(tmp_path, "vm", "remotedocker", {"address": "a.example", "username": "u"})
        with pytest.raises(UserErrorException, match="attach --name vm --type remotedocker --address a.example"):
            project.configuration(Studio(LOCAL), tmp_path, "vm")

    def test_a_password_in_a_compute_file_is_not_used(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "docker.compute").write_text("type: docker\npassword: hunter2\n")
        project.configuration(Studio(LOCAL, DOCKER), tmp_path, "docker")
        said = capsys.readouterr().err
        assert "Take it out of the file" in said and "hunter2" not in said


class TestOptions:
    def test_those_that_set_limits(self) -> None:
        given = ["--gpus", "all", "--cpus=2 -m 4g", "--shm-size", "2g", "--pids-limit=100"]
        limits = {"gpus": "all", "cpus": "2", "memory": "4g", "shm_size": "2g", "pids": "100"}
        assert docker_options.parse(given) == (limits, {})
        assert docker_options.parse(["-m4g"]) == docker_options.parse(["--memory=4g"]) == ({"memory": "4g"}, {})

    def test_variables(self) -> None:
        given = ["-e", "A=b c", "--env=B=d e", "-eC=f", "-e D=g"]
        assert docker_options.parse(given) == ({}, {"A": "b c", "B": "d e", "C": "f", "D": "g"})

    def test_a_name_alone_is_taken_from_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FROM_HERE", "x")
        assert docker_options.parse(["--env", "FROM_HERE", "-e", "NOT_SET_ANYWHERE"])[1] == {"FROM_HERE": "x"}
        assert docker_options.parse(["--runtime=nvidia"])[0] == {"gpus": "all"}

    @pytest.mark.parametrize("words", [["--privileged"], ["-v", "/a:/b"], ["--ipc=host"], ["--network", "host"]])
    def test_others_are_refused_by_name(self, words: list[str]) -> None:
        with pytest.raises(UserErrorException, match=words[0].split("=")[0]):
            docker_options.parse(["--cpus", "1", *words])

    def test_no_value(self) -> None:
        with pytest.raises(UserErrorException, match="--cpus has no value"):
            docker_options.parse(["--cpus"])


class TestPlace:
    """Where a run with Docker's settings goes."""

    def place(self, config: ScriptRunConfig, *targets: dict[str, Any]) -> Any:
        return config._place(Studio(*targets))  # type: ignore[arg-type]

    def test_use_docker_on_this_machine(self, caplog: pytest.LogCaptureFixture) -> None:
        config = ScriptRunConfig(".", "a.py", docker_runtime_config=DockerConfiguration(True, shm_size="2g"))
        with caplog.at_level(logging.WARNING, "atelier"):
            assert self.place(config, LOCAL, DOCKER) == ("docker", {"shm_size": "2g"}, {}, True)
        assert "goes to the target docker" in caplog.text
        with pytest.raises(UserErrorException, match="computetarget attach --name docker --type localdocker"):
            self.place(config, LOCAL)
        with pytest.raises(UserErrorException, match="docker, second"):
            self.place(config, LOCAL, DOCKER, {**DOCKER, "name": "second"})

    def test_settings_mean_nothing_without_a_container(self) -> None:
        config = ScriptRunConfig(".", "a.py")
        config.run_config.environment.docker.shm_size = "1g"
        assert self.place(config, LOCAL, DOCKER) == ("local", {}, {}, False)
        config.run_config.resources = {"memory": "1g"}
        assert self.place(config, LOCAL) == ("local", {"memory": "1g"}, {}, False)  # the studio says what it thinks
        config.run_config.target = "docker"
        assert self.place(config, LOCAL, DOCKER)[1] == {"memory": "1g", "shm_size": "1g"}

    def test_an_image_on_this_machine(self, caplog: pytest.LogCaptureFixture) -> None:
        environment = Environment("e")
        environment.docker.base_image = "team/base:1"
        environment.python.conda_dependencies.add_pip_package("six")
        config = ScriptRunConfig(".", "a.py", environment=environment)
        with caplog.at_level(logging.WARNING, "atelier"):
            assert self.place(config, LOCAL, DOCKER)[3] is False
        assert "team/base:1 is not used on local" in caplog.text and "docker has it" in caplog.text
        assert "base_image" not in environment._recipe(images=False)
        assert environment._recipe()["base_image"] == "team/base:1" and environment._recipe()["kind"] == "conda"

    def test_no_settings_ask_nobody(self) -> None:
        studio = Studio()
        assert ScriptRunConfig(".", "a.py")._place(studio) == ("local", {}, {}, True)  # type: ignore[arg-type]


class TestRecipes:
    def test_dockerfile(self, tmp_path: Path) -> None:
        file = tmp_path / "Dockerfile"
        file.write_text("FROM a\nRUN b\n")
        (tmp_path / "r.txt").write_text("six\n")
        by_path, by_text = Environment.from_dockerfile("e", file), Environment.from_dockerfile("e", "FROM a\nRUN b\n")
        assert by_path._recipe() == by_text._recipe() == {"kind": "dockerfile", "dockerfile": "FROM a\nRUN b\n"}
        more = Environment.from_dockerfile("e", str(file), pip_requirements=tmp_path / "r.txt")._recipe()
        assert more["kind"] == "dockerfile" and "six" in more["conda"]
        with pytest.raises(UserErrorException, match="There is no Dockerfile"):
            Environment.from_dockerfile("e", "none/Dockerfile")
        both = Environment.from_dockerfile("e", file)
        both.docker.base_image = "x"
        with pytest.raises(UserErrorException, match="set one of them to None"):
            both._recipe()

    def test_image_as_it_is(self) -> None:
        assert Environment.from_docker_image("e", "a:1")._recipe() == {"kind": "system", "base_image": "a:1"}


class TestAttaching:
    def test_local_target_without_a_workspace(self) -> None:
        assert ScriptRunConfig(".", "a.py", compute_target=LocalTarget()).run_config.target == "local"
        assert type(LocalTarget()) is LocalTarget and LocalTarget().get_status().state == "Succeeded"

    def test_configurations(self, tmp_path: Path) -> None:
        asked = RemoteCompute.attach_configuration(address="a", username="u", password="p", cpus=2)
        assert asked.driver == "remotedocker" and asked.secrets == {"password": "p"}
        assert asked.config == {"address": "a", "port": 22, "username": "u", "cpus": "2"}
        assert "p'" not in repr(asked)
        assert DockerTarget.attach_configuration(gpus="all", pids=50).config == {"gpus": "all", "pids": 50}
        assert DockerTarget.attach_configuration(volumes={"/x": "/y"}).config == {"volumes": "/x:/y"}
        for wrong in ({"username": "u"}, {"address": "a"}):
            with pytest.raises(UserErrorException, match="Give "):
                RemoteCompute.attach_configuration(**wrong)  # type: ignore[arg-type]
        (tmp_path / "id.pub").write_text("ssh-ed25519 AAAA me")
        with pytest.raises(UserErrorException, match="public half"):
            RemoteCompute.attach_configuration("a", 22, "u", private_key_file=tmp_path / "id.pub")

    def test_folders_of_a_machine_behind_ssh_are_given_to_nobody(self) -> None:
        words = "computetarget attach -n vm --type remotedocker --address a -u u --password p --volume /x:/y"
        with pytest.raises(UserErrorException, match="--type localdocker"):
            targets._asked(build().parse_args(words.split()), "remotedocker")

    def test_the_same_is_adopted_and_another_is_not(self) -> None:
        studio: Any = Studio(LOCAL, DOCKER)
        same = DockerTarget.attach_configuration(memory="2g")
        assert attach.attach(studio, "docker", same) == (DOCKER, True)
        with pytest.raises(ComputeTargetException, match="its cpus is not set, and not 4"):
            attach.attach(studio, "docker", DockerTarget.attach_configuration(cpus=4))
        with pytest.raises(ComputeTargetException, match="of the kind docker, and not remotedocker"):
            attach.attach(studio, "docker", RemoteCompute.attach_configuration("a", 22, "u"))

    @pytest.mark.parametrize("given", ["SHA256:abc", "abc", " SHA256:abc= "])
    def test_fingerprints_as_people_type_them(self, given: str) -> None:
        assert attach.same_key("SHA256:abc", given) and not attach.same_key("SHA256:abd", given)


class TestWords:
    def parsed(self, *words: str) -> argparse.Namespace:
        return build().parse_args(list(words))

    def test_what_follows_the_script_is_its_own(self) -> None:
        found = self.parsed("experiment", "submit", "-c", "docker", "a.py", "-c", "x", "--wait", "--json")
        assert (found.run_configuration, found.script, found.words) == (
            "docker",
            "a.py",
            ["-c", "x", "--wait", "--json"],
        )
        assert found.json is False and found.wait is True
        assert self.parsed("experiment", "submit", "--run-configuration", "d", "--no-wait").wait is False

    def test_attach_of_2017(self) -> None:
        found = self.parsed(
            "computetarget", "attach", "--name", "vm", "--address", "a", "--username", "u", "--password", "p",
            "--type", "remotedocker",
        )  # fmt: skip
        assert (found.name, found.address, found.type, found.kind) == ("vm", "a", "remotedocker", None)
        assert self.parsed("computetarget", "attach", "remotedocker", "-n", "vm").kind == "remotedocker"

    def test_a_configuration_for_spark_is_refused_before_it_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        asked = self.parsed("runconfiguration", "create", "--name", "docker", "--framework", "PySpark")
        with pytest.raises(UserErrorException, match="PySpark scripts need Spark compute, which this version"):
            asked.call(asked)
        assert not list(tmp_path.iterdir())

    def test_what_was_found_on_a_machine(self) -> None:
        facts = {"engine": "Docker 20.10.24", "system": "Debian", "cpus": 2, "memory_bytes": 1 << 30, "gpus": []}
        assert targets._facts({"facts": facts}).startswith("(Docker 20.10.24, Debian, 2 processors, 1")

    def test_forms_of_output_that_az_has(self) -> None:
        assert az._output(["account", "list", "-o", "table"]) == ["account", "list"]
        assert az._output(["list", "--output", "json"]) == ["list", "--json"]
        assert az._output(["submit", "a.py", "-o", "json"]) == ["submit", "a.py", "-o", "json"]


def test_az_beside_atelier(tmp_path: Path) -> None:
    """In a virtual environment of its own; another az is left alone."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    python, place = tmp_path / "v" / "bin" / "python", tmp_path / "v" / "bin" / "az"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(SOURCE)}

    def call(*words: Any, code: int = 0) -> str:
        done = subprocess.run([str(word) for word in words], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "There is no az of Atelier" in call(python, "-m", "atelier", "install-az", "--remove", code=1)
    assert str(place) in call(python, "-m", "atelier", "install-az")
    assert "az ml experiment submit" in call(place, "--help")
    assert "atelier" in call(place, "--version")
    assert "it knows ml, login and account" in call(place, "vm", "create", code=2)
    assert "--run-configuration" in call(place, "ml", "experiment", "submit", "--help")
    call(python, "-m", "atelier", "install-az")
    call(python, "-m", "atelier", "install-az", "--remove")
    assert not place.exists()
    place.write_text("#!/bin/sh\necho azure\n")
    assert "another program: it is left alone" in call(python, "-m", "atelier", "install-az", code=1)
    assert "left alone" in call(python, "-m", "atelier", "install-az", "--remove", code=1)
    assert place.read_text() == "#!/bin/sh\necho azure\n"
