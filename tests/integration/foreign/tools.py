"""Gets other people's clients and tools, or says which one is missing."""
import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
SKIPPED = 77  # ctest's word for a test that did not run
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


def node():
    """The path of node; the packages of node/package-lock.json are in the second value, for NODE_PATH."""
    if not shutil.which("node") or not shutil.which("npm"):
        missing("Node.js with npm")
    folder = cache("foreign-node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "node" / name, folder)
    install("the packages of tests/integration/foreign/node", "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund",
            "--prefer-offline", cwd=folder)
    return shutil.which("node"), str(folder / "node_modules")


def tell_ctest(session):
    """At pytest's end: when nothing ran, ctest shall know."""
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    if stats.get("skipped") and not any(stats.get(key) for key in ("passed", "failed", "error")):
        session.exitstatus = SKIPPED
