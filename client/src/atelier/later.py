"""v1 names that this client does not have yet: importing one says so, instead of failing later in a stub."""

from __future__ import annotations

from typing import Any, Callable

_PARTS = {
    "pipeline": "Pipelines",
    "train": "Sweeps, AutoML and estimators",
    "parallel": "Distributed jobs",
}

NAMES = {
    **dict.fromkeys(
        [
            "DataPathComputeBinding",
            "InputPortBinding",
            "Module",
            "OutputPortBinding",
            "Pipeline",
            "PipelineDraft",
            "PipelineEndpoint",
            "PipelineOutputFileDataset",
            "PipelineOutputTabularDataset",
            "PipelineParameter",
            "PipelineRun",
            "PipelineStep",
            "PublishedPipeline",
            "PublishedPipelineEndpoint",
            "Schedule",
            "ScheduleRecurrence",
            "StepRun",
            "StepSequence",
            "TrainingOutput",
        ],
        "pipeline",
    ),
    **dict.fromkeys(
        ["MpiConfiguration", "PyTorchConfiguration", "TensorflowConfiguration", "ParallelRunConfig"], "parallel"
    ),
    "LinkedService": "pipeline",
    "SynapseWorkspaceLinkedServiceConfiguration": "pipeline",
}


def message(name: str, part: str) -> str:
    return f"{name}: {_PARTS.get(part, 'This')} cannot be used with this version of the Atelier client and studio."


def refuse(module: str) -> None:
    """For a module that is not there yet: raises ImportError."""
    raise ImportError(message(module, module.split(".")[1]))


def absent(module: str) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that tells a name which is not there yet from a typing error."""

    def look(name: str) -> Any:
        if name in NAMES:
            raise ImportError(message(f"{module}.{name}", NAMES[name]))
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look
