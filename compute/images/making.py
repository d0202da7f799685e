"""One image, from the order to the name under which the engine has it. Talks to the engine; no database."""

from __future__ import annotations

import contextlib
from typing import Any

from docker import APIClient
from docker.auth import AuthConfig
from docker.errors import APIError, DockerException

from compute.environments import recipe_from_dict
from compute.images import dockerfile, plan, probe, resolve, transport
from compute.images.building import BuildFailed, build, disk_full, problem
from compute.images.words import say

GET_BASE = (
    "Check its name, add its registry with a user name and password to the workspace, or build the image in "
    "deploy/images/base on the machine of the engine and make it the workspace's base image."
)


class Making:
    """``image()`` is the whole of it. Raises BuildFailed for what will not get better by itself."""

    def __init__(self, client: APIClient, order: dict[str, Any], registries: list[dict[str, Any]]) -> None:
        self.client, self.order, self.registries = client, order, registries
        self.recipe = recipe_from_dict(order["recipe"])
        self.base = str(order["base_image"])
        self.warnings: list[str] = []
        self.text = ""
        client._auth_configs = AuthConfig({"auths": transport.configs(registries)})
        self.index = resolve.index_settings()
        self.near = order["access"].get("kind") == "docker" and resolve.on_this_machine(self.index)

    def image(self) -> dict[str, Any]:
        probe.sweep(self.client)
        say(f"Environment {self.order['label']}" if self.order["mode"] == "environment" else f"Image {self.base}")
        ids = [self._base(image, line) for line, image in self._bases()]
        if self.order["mode"] == "base":
            return self._result(self.base, "base", ids)
        tag = plan.tag(self.order["content_hash"], "+".join(ids))
        how = "" if self.order.get("fresh") else self._there(tag)
        if not how:
            self._build(tag)
            how = "built"
            self._push(tag)
        return self._result(tag, how, ids)

    # What it is built on.

    def _bases(self) -> list[tuple[int, str]]:
        return dockerfile.bases(self.recipe.dockerfile) if self.recipe.dockerfile else [(0, self.base)]

    def _base(self, image: str, line: int) -> str:
        """The id of a base image, which is on the engine afterwards."""
        known = transport.present(self.client, image)
        if known is None or self.order.get("fresh"):
            say(f"Pulling {image}")
            try:
                transport.pull(self.client, image, self.registries)
            except transport.TransportFailed as error:
                if known is None:
                    raise BuildFailed([self._no_base(image, line, error)]) from error
                say(f"  It is taken as it is here: {error}")
            known = transport.present(self.client, image)
        if known is None:
            raise BuildFailed([problem("base-missing", f"{image} is not on the engine.", hint=GET_BASE, line=line)])
        if wrong := dockerfile.triggers((known.get("Config") or {}).get("OnBuild") or [], image):
            raise BuildFailed([problem("dockerfile", text, line=line) for text in wrong])
        return str(known["Id"])

    def _no_base(self, image: str, line: int, error: transport.TransportFailed) -> dict[str, Any]:
        where = f"Line {line}: " if line else ""
        if error.code == "disk-full":
            return disk_full()
        return problem("base-missing", f"{where}the image {image} cannot be had: {error}", hint=GET_BASE, line=line)

    # Not built because it is there.

    def _there(self, tag: str) -> str:
        if transport.present(self.client, tag) is not None:
            say(f"{tag} is already there.")
            return "there"
        if not self.order.get("push_to"):
            return ""
        remote = f"{self.order['push_to']}/{tag}"
        say(f"Looking for {remote}")
        try:
            transport.pull(self.client, remote, self.registries)
            self.client.tag(remote, plan.REPOSITORY, tag=transport.split(tag)[1])
        except transport.TransportFailed as error:
            say("  It is not there." if error.code == "absent" else f"  It cannot be had from there: {error}")
            return ""
        self._untag(remote)
        say(f"Pulled {tag}.")
        return "pulled"

    def _untag(self, reference: str) -> None:
        """A second name would keep the image from being removed by its first."""
        with contextlib.suppress(DockerException):
            self.client.remove_image(reference, noprune=True)

    # Building.

    def _build(self, tag: str) -> None:
        base = self.base
        found, beginning = self._look(
            base if not self.recipe.dockerfile else self._head(plan.head(self.recipe, base, None))
        )
        way = plan.choose(self.recipe, found, self._called(), strict=bool(self.order.get("strict")))
        self._stop_at(list(way.problems))
        self.warnings += [text for text in way.warnings if text not in self.warnings]
        if way.conda or not self.recipe.dockerfile:
            beginning = plan.head(self.recipe, base, way)
        if way.conda:
            say()
            say(
                f"Python {way.conda_python} from conda" + (f", {len(way.specs)} packages of conda" if way.specs else "")
            )
            found, _id = self._look(self._head(beginning), interpreter=f"{plan.PREFIX}/bin/python")
        beginning = plan.head(self.recipe, base, way)
        pins = self._resolved(found, list(way.packages))
        parts = plan.layers(way.packages, pins, found.installed, most=plan.most_layers(found))
        labels = plan.labels(self.order["label"], self.order["installation"], self.order["content_hash"])
        whole = plan.compose(beginning, parts, found, labels)
        self.text = whole.text
        say()
        say(f"Building {tag}")
        made = self._run(whole, fresh=bool(self.order.get("fresh")) and not plan.has_own_head(self.recipe, way))
        self._name(made, tag)

    def _called(self) -> str:
        return "the image of the Dockerfile" if self.recipe.dockerfile else self.base

    def _head(self, text: str) -> str:
        """The id of what the beginning alone makes: it has to be looked at before the rest can be planned."""
        self.text = text
        say()
        say("Building the beginning of it")
        return self._run(plan.Plan(text, {}), fresh=bool(self.order.get("fresh")))

    def _run(self, what: plan.Plan, *, fresh: bool) -> str:
        return build(
            self.client,
            what,
            # Lines of people's own do not see what pip is told of the index: theirs are in the cache by then.
            carried=plan.carried(self.index) if what.lines else "",
            proxies=resolve.proxies(),
            # Nor do they run in the network of the engine's machine, with what listens on its loopback.
            network="host" if self.near and (what.lines or not self.recipe.dockerfile) else None,
            fresh=fresh,
        )

    def _look(self, image: str, *, interpreter: str = "") -> tuple[plan.Found, str]:
        try:
            return probe.look(self.client, image, interpreter=interpreter), image
        except probe.NoShell as error:
            hint = "Choose an image with a shell and Python 3.8 or later, for the processor of the engine's machine."
            text = f"{self._called()} could not be looked into: {error}"
            raise BuildFailed([problem("base-unusable", text, hint=hint)]) from error

    def _resolved(self, found: plan.Found, packages: list[str]) -> list[plan.Pin]:
        if not packages:
            return []
        say()
        say(f"Resolving {len(packages)} requirements for Python {found.python}")
        pins, problems = resolve.resolve(self.order["uv"], found, packages)
        self._stop_at(problems)
        for pin in pins:
            say("  " + pin.text)
        return pins

    def _stop_at(self, problems: list[dict[str, str]]) -> None:
        if problems:
            say("Nothing was installed, because:")
            raise BuildFailed([dict(one) for one in problems])

    def _name(self, made: str, tag: str) -> None:
        """Give the whole image its name. Where another builder was first, its image stays."""
        other = None if self.order.get("fresh") else transport.present(self.client, tag)
        if other is not None and other["Id"] != made:
            say("Another build of the same was first: its image is taken.")
            with contextlib.suppress(DockerException):
                self.client.remove_image(made)
            return
        self.client.tag(made, plan.REPOSITORY, tag=transport.split(tag)[1])

    # Afterwards.

    def _push(self, tag: str) -> None:
        if not self.order.get("push_to"):
            return
        remote = f"{self.order['push_to']}/{tag}"
        say()
        say(f"Pushing {remote}")
        try:
            repository, number = transport.split(remote)
            self.client.tag(tag, repository, tag=number)
            transport.push(self.client, remote, self.registries)
        except (transport.TransportFailed, APIError) as error:
            text = f"The image could not be sent to {self.order['push_to']}: {error}"
            self.warnings.append(text)
            say(f"  {text}")
        finally:
            self._untag(remote)

    def _result(self, image: str, how: str, ids: list[str]) -> dict[str, Any]:
        wanted = self.recipe.interpreter or (f"{plan.PREFIX}/bin/python" if how != "base" else "")
        found, _image = self._look(image, interpreter=wanted)
        config = self.client.inspect_image(image)
        version = tuple(int(part) for part in found.python.split(".")[:2]) if found.python else ()
        if version < (3, 8):
            has = f"Python {found.python}" if found.python else "no Python"
            hint = "Runs need Python 3.8 or later in their image."
            raise BuildFailed([problem("python", f"{image} has {has}.", hint=hint)])
        if how != "base" and how != "built":
            self._warn_of(found)
        return {
            "image": image,
            "image_id": config["Id"],
            "how": how,
            "interpreter": found.interpreter,
            "python": found.python,
            "packages": [f"{name}=={number}" for name, number in sorted(found.installed.items())],
            "size": int(config.get("Size") or 0),
            "base_image": self.base if not self.recipe.dockerfile else "",
            "base_image_id": "+".join(ids),
            "dockerfile": self.text,
            "warnings": self.warnings,
        }

    def _warn_of(self, found: plan.Found) -> None:
        """Another Python than the recipe asks for is said of an image that others built too."""
        wanted = self.recipe.python
        if not wanted or plan.fits(found.python, wanted):
            return
        text = f"The recipe asks for Python {wanted}; the image has {found.python}."
        if self.order.get("strict"):
            raise BuildFailed([problem("python", text, hint="Turn strict off, or choose another base image.")])
        self.warnings.append(text)
