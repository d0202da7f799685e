"""Errors. The v1 names are kept, because scripts catch them by name."""

from __future__ import annotations

from typing import Any


class AzureMLException(Exception):
    """Root of all errors of this client. ``message`` is what ``str()`` gives."""

    def __init__(self, message: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class UserErrorException(AzureMLException):
    """The call cannot work as it was made; the message says what would."""


class ServiceException(AzureMLException):
    """The studio refused or failed. ``status_code`` is the HTTP status, ``problem`` the problem+json body."""

    def __init__(self, message: str, status_code: int = 0, problem: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.problem = problem or {}


class StudioUnreachable(ServiceException):
    """No answer from the studio, after all retries."""


class AuthenticationException(AzureMLException):
    """No credentials, or the studio does not accept them."""


class ComputeTargetException(AzureMLException):
    """A compute target is absent or not ready."""


class WebserviceException(AzureMLException):
    """A service is absent, not ready, or answered with an error."""

    def __init__(self, message: str = "", status_code: int | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.status_code = status_code


class ModelNotFoundException(WebserviceException):
    """No such model or version in the workspace."""


class ProjectSystemException(UserErrorException):
    """A project folder or its configuration is not there."""


class SnapshotException(UserErrorException):
    """The source folder cannot be sent."""


class RunEnvironmentException(AzureMLException):
    """``Run.get_context(allow_offline=False)`` outside a run."""


class ExperimentExecutionException(AzureMLException):
    """A run could not be submitted."""


class DatasetTimestampMissingError(AzureMLException):
    """A dataset without timestamp columns was filtered by time."""


class ActivityFailedException(AzureMLException):
    """A run ended as Failed. ``error_details`` is the run's error as JSON text."""

    def __init__(self, error_details: str = "", **details: Any) -> None:
        super().__init__(f"Activity Failed:\n{error_details}", **details)
        self.error_details = error_details
