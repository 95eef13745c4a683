"""Fixtures: the tools; and how ctest learns that there was none."""
import shutil

import pytest

from tools import HERE, cache, install, missing

SKIPPED = 77  # ctest's word for a test that did not run


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def go():
    if not shutil.which("go"):
        missing("Go")
    return shutil.which("go")


def pytest_sessionfinish(session):
    """Nothing ran: ctest shall know."""
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    if stats.get("skipped") and not any(stats.get(key) for key in ("passed", "failed", "error")):
        session.exitstatus = SKIPPED
