"""What a service asks of the machine that it runs on."""

from __future__ import annotations

from typing import Any


class ResourceConfiguration:
    """``cpu`` in cores, ``memory_in_gb`` in gigabytes, ``gpu`` in devices."""

    def __init__(self, cpu: float | None = None, memory_in_gb: float | None = None, gpu: int | None = None) -> None:
        self.cpu = cpu
        self.memory_in_gb = memory_in_gb
        self.gpu = gpu

    def serialize(self) -> dict[str, Any]:
        given = {"cpu": self.cpu, "memory_in_gb": self.memory_in_gb, "gpu": self.gpu}
        return {name: value for name, value in given.items() if value is not None}

    def __repr__(self) -> str:
        return f"ResourceConfiguration(cpu={self.cpu}, memory_in_gb={self.memory_in_gb}, gpu={self.gpu})"
