"""The studio. It reads dataset definitions with its client's own code, so the client's sources are on the path."""

import sys
from pathlib import Path

_CLIENT = str(Path(__file__).resolve().parent.parent / "client" / "src")
if _CLIENT not in sys.path:
    sys.path.append(_CLIENT)
