"""What the warm process of the executor does for jobs: Galaxy's code is imported, and each piece of work gets a fork.

Each function runs in a process of its own that is forked from the warm one, in the place where Galaxy would start a
fresh Python that imports 3300 modules first (4 s of CPU). What it calls is what that fresh Python would have called,
with the same working directory, so that the result is the same. It raises what Galaxy's code raises: the process then
ends with a code other than 0.
"""

import os
import sys

from galaxy.metadata.set_metadata import set_metadata_portable
from galaxy.tools import data_fetch


def set_metadata(job_directory: str) -> None:
    """Set the metadata of the outputs of the job in this directory; Galaxy wrote there what to do."""
    os.chdir(job_directory)
    set_metadata_portable()


def fetch(working_directory: str, arguments: list[str], stdout: str, stderr: str) -> None:
    """Fetch uploaded data: what the command line of Galaxy's tool `__DATA_FETCH__` does, output to these two files."""
    os.chdir(working_directory)
    for descriptor, path in ((1, stdout), (2, stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    try:
        data_fetch.main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
