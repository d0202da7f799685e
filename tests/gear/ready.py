"""``python -m tests.gear.ready``: the images that several test processes would otherwise wait for, made once before."""

from __future__ import annotations

from tests.gear import docker, images


def main() -> None:
    if docker.engine_version():
        docker.test_image()
        images.postgres_image()
        images.redis_image()


if __name__ == "__main__":
    main()
