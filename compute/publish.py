"""Handing work to the Celery workers, without ever depending on the broker being there."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app as app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def publish(task: str, *arguments: Any) -> None:
    """Send a task once the present transaction is committed.

    A broker that is away costs a moment: the reconciling beat finds the work by itself.
    """

    def send() -> None:
        try:
            app.send_task(task, args=arguments, retry=False, ignore_result=True)
        except (OperationalError, OSError) as error:
            log.warning("%s%r was not sent, the reconciling beat will do it: %s", task, arguments, error)

    transaction.on_commit(send)
