"""The ``mediaweave`` command."""

import sys
from typing import NoReturn

from pipeline.errors import PipelineError

#: Exit codes: every asset succeeded; some failed; the command could not do what was asked.
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


def main() -> NoReturn:
    """Run the command line; errors that we know are one line, not a traceback."""
    from sqlalchemy.exc import DBAPIError

    from workers.cli.commands import app

    try:
        app(prog_name="mediaweave")
    except PipelineError as error:
        print(f"mediaweave: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except DBAPIError as error:
        # Such as a permission that an analyst's account does not have.
        print(f"mediaweave: the database refused: {error.orig}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    sys.exit(EXIT_OK)
