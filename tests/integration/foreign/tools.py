"""Gets other people's clients and tools, or says which one is missing."""
import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
INSTALL_SECONDS = 900  # a Go module with all that it needs, compiled on a slow machine


def missing(what):
    """Ends the test: as skipped, or in CI, which has everything, as failed."""
    text = "missing: %s (scripts/setup.sh --all installs the tools)" % what
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def cache(name):
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ebbinghaus" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(*command, timeout=60, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **more)


def install(what, *command, **more):
    done = run(*command, timeout=INSTALL_SECONDS, **more)
    if done.returncode != 0:
        missing("%s; %s said: %s" % (what, command[0], done.stderr.strip()[-1000:]))
