"""Fixtures: the images, the file system of the server's image, and a tiny model."""
import pathlib
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).parents[2] / folder)
                for folder in ("integration", "integration/foreign", "support")]
import containers  # noqa: E402
import make_tiny_model  # noqa: E402
import tools  # noqa: E402

SERVER, FETCH = "localhost/ebbinghaus-test/server", "localhost/ebbinghaus-test/fetch"
ARGUMENTS = {"REVISION": "0123456789abcdef0123456789abcdef01234567", "CREATED": "2026-01-31T12:00:00Z"}


@pytest.fixture(scope="session")
def base():
    """Debian 13, as a local image."""
    containers.require_tools()
    with containers.store():
        containers.make_base()
        yield


@pytest.fixture(scope="session")
def fetch_image(base):
    containers.build(FETCH, "fetch", **ARGUMENTS)
    return FETCH


@pytest.fixture(scope="session")
def server_image(base):
    containers.build(SERVER, "runtime", **ARGUMENTS)
    return SERVER


@pytest.fixture(scope="session")
def image_root(server_image):
    """The folder where the server image's file system is mounted."""
    working = containers.buildah("from", "--pull-never", server_image).stdout.strip()
    try:
        yield pathlib.Path(containers.buildah("mount", working).stdout.strip())
    finally:
        containers.buildah("rm", working)  # unmounts too


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A tiny checkpoint with random weights, which everybody may read."""
    folder = make_tiny_model.make(tmp_path_factory.mktemp("models") / "tiny-llama")
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def pytest_sessionfinish(session):
    tools.tell_ctest(session)
