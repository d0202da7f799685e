"""The command line ``atelier``."""

from __future__ import annotations

import sys
from typing import Sequence

from atelier.cli.parser import build


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 refused or failed, 2 wrong use, 3 the run that was waited for failed, 130 interrupted.
    ``experiment submit`` ends with the exit code of its run where that has one."""
    from atelier.exceptions import ActivityFailedException, AzureMLException

    words = list(sys.argv[1:] if argv is None else argv)
    # What follows -- belongs to the script, whatever it looks like.
    cut = words.index("--") if "--" in words else len(words)
    parser = build()
    arguments = parser.parse_args(words[:cut])
    arguments.script_arguments = words[cut + 1 :]
    if arguments.script_arguments and not hasattr(arguments, "script"):
        parser.error("only `run submit` and `experiment submit` take arguments after --")
    try:
        return int(arguments.call(arguments) or 0)
    except ActivityFailedException as error:
        print(f"atelier: {error}", file=sys.stderr)
        return 3
    except AzureMLException as error:
        print(f"atelier: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`): not an error, and the interpreter must not complain at its end.
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"atelier: {error}", file=sys.stderr)
        return 1
