"""Other programs in the place of media children."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.media.children import Children

#: The environment of a process that imports this module.
IMPORTS = {"PYTHONPATH": f"{Path(__file__).parents[1]}:{Path(__file__).parent}"}

#: What be_child gives to a test.
BeChild = Callable[[Sequence[str]], None]

_SERVE = """
import os, signal, sys
from pipeline.media.forkserver import serve
def become():
    # Python ignores them, and programs would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
serve(become)
"""


def children_running(command: Sequence[str]) -> Children:
    """Each child is started as usual, and then becomes this program."""
    return Children([sys.executable, "-P", "-c", _SERVE, *command])
