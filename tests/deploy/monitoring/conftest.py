"""Fixtures, and how ctest learns that nothing ran."""
import pathlib
import shutil
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS / "integration"), str(TESTS / "integration/foreign"), str(TESTS / "support")]
import tools  # noqa: E402
from fixtures import model, pb  # noqa: E402,F401  pylint: disable=unused-import


@pytest.fixture(scope="session")
def promtool():
    return shutil.which("promtool") or tools.missing("promtool, of Debian's package prometheus")


@pytest.fixture(scope="session")
def prometheus():
    return shutil.which("prometheus") or tools.missing("prometheus")


@pytest.fixture(scope="session")
def typescript():
    """A folder with Grafana's types and our own, and the TypeScript compiler's command."""
    if not shutil.which("node") or not shutil.which("npm"):
        tools.missing("Node.js with npm")
    folder = tools.cache("grafana-types")
    for name in ("package.json", "package-lock.json", "tsconfig.json", "types.ts"):
        shutil.copy(pathlib.Path(__file__).parent / "grafana-types" / name, folder)
    tools.install("the packages of tests/deploy/monitoring/grafana-types", "npm", "ci", "--ignore-scripts", "--no-audit",
                  "--no-fund", "--prefer-offline", cwd=folder)
    return folder, [shutil.which("node"), str(folder / "node_modules/typescript/bin/tsc")]


def pytest_sessionfinish(session):
    tools.tell_ctest(session)
