"""What ``compute`` announces.

Receivers run inside the transaction that made the change, so their rows and ours agree.
"""

from django.dispatch import Signal

# unit: compute.models.Unit after the change; old: the state it was in before.
unit_changed = Signal()

# unit; lines: list[bytes], complete lines of events.jsonl, each exactly once and in order.
unit_events = Signal()

# build: compute.models.EnvironmentBuild that became ready or failed.
build_finished = Signal()
