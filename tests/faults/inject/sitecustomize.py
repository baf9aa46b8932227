"""Imported by every Python process that has this folder on its path, before its own code."""

import os
import sys
import traceback

try:
    from faults.injection import install_from_environment

    install_from_environment()
except BaseException:  # noqa: BLE001
    # Python itself would only print this, and the test would go on without its faults.
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(70)
