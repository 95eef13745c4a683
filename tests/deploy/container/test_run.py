"""The images as containers: read-only, without capabilities, as their own user."""
import json
import os
import re
import shutil

import pytest

import harness
from containers import Container, command
from fetch_model_test import REPOSITORY, Hub
from tools import missing

READY = re.compile(r"^ready grpc=\[::\]:50051 http=\[::\]:9464 model=(\S+)$", re.MULTILINE)
MEMORY_BYTES = 1 << 30


@pytest.fixture(scope="module")
def container(server_image, tiny_model):
    """A server with one processor of this machine's and 1 GiB of memory."""
    limits = ("--cpus", "1", "--memory", str(MEMORY_BYTES), "--memory-swap", str(MEMORY_BYTES))
    with Container(server_image, "--volume", "%s:/models/current:ro" % tiny_model, *limits) as running:
        running.wait_for(READY)
        yield running


def info(container):
    return json.loads(container.execute("ebbinghaus", "info", "--json").stdout)


def generated(container, *options):
    """The tokens of a short answer."""
    answer = container.execute("ebbinghaus", "generate", "--prompt", "Why do we forget?", "--max-tokens", "12",
                               "--ignore-eos", "--temperature", "0", "--json", *options)
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    return [event["token"]["id"] for event in events if "token" in event]


def test_it_is_confined_as_asked(container):
    status = dict(line.split(":\t", 1) for line in container.process("status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65532"] * 4 and status["Gid"].split() == ["65532"] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"].strip() == "1"
    root = next(line.split() for line in container.process("mountinfo").read_text().splitlines() if line.split()[4] == "/")
    assert "ro" in root[5].split(",")


def test_generate_works_in_every_mode(container):
    for mode in ("baseline", "soft_delete", "sparse_attention"):
        assert len(generated(container, "--mode", mode)) == 12, mode


def test_its_health_check_passes(container):
    assert container.execute("ebbinghaus", "health").stdout.strip() == "SERVING"
    assert container.execute("ebbinghaus", "health", "--target", "127.0.0.1:1", check=False).returncode == 1


def test_the_limits_of_its_control_group_are_seen(container):
    about = info(container)
    assert int(about["server"]["threads"]) == 1
    # A fifth stays free, weights and workspace take their part; without a limit it would be most of this machine's.
    capacity = int(about["server"]["kv_capacity_bytes"])
    assert MEMORY_BYTES // 4 < capacity < MEMORY_BYTES * 4 // 5


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="missing: a second processor")
def test_a_larger_limit_gives_more(server_image, tiny_model, container):
    limits = ("--cpus", "2", "--memory", str(2 * MEMORY_BYTES), "--memory-swap", str(2 * MEMORY_BYTES))
    with Container(server_image, "--volume", "%s:/models/current:ro" % tiny_model, *limits) as larger:
        larger.wait_for(READY)
        about = info(larger)
        assert int(about["server"]["threads"]) == 2
        gained = int(about["server"]["kv_capacity_bytes"]) - int(info(container)["server"]["kv_capacity_bytes"])
        assert MEMORY_BYTES // 2 < gained <= MEMORY_BYTES


def test_sigterm_ends_it_with_0(server_image, tiny_model):
    with Container(server_image, "--volume", "%s:/models/current:ro" % tiny_model) as running:
        running.wait_for(READY)
        assert generated(running)
        assert running.stop() == 0
        assert "stopped" in running.log()[1]


def test_without_a_model_it_says_so_and_fails(server_image):
    with Container(server_image) as alone:
        assert alone.wait() == 1
        assert alone.log() == ("", "ebbinghaus-server: /models/current: no such file or folder; a model is a Hugging Face "
                                   "folder with config.json or a .gguf file\n")


# --- The image `fetch` ---

@pytest.fixture
def volume(tmp_path):
    """An empty volume of the images' user."""
    folder = tmp_path / "models"
    folder.mkdir()
    os.chown(folder, 65532, 65532)
    return folder


def serve_from(volume, server_image, *arguments):
    """Starts the server on what was fetched: the model's name, and what it generates."""
    with Container(server_image, "--volume", "%s:/models:ro" % volume, arguments=arguments) as running:
        return running.wait_for(READY)[1], len(generated(running))


def test_fetch_fills_a_volume_from_the_hub_and_the_server_finds_the_model(fetch_image, server_image, tiny_model, volume):
    hub = Hub({path.name: path.read_bytes() for path in tiny_model.iterdir()}, ["model.safetensors"])
    try:
        with Container(fetch_image, "--volume", "%s:/models" % volume, "--env", "HF_ENDPOINT=http://" + hub.hub.address,
                       arguments=[REPOSITORY], network="host") as fetch:
            code = fetch.wait()
            assert code == 0, fetch.log()
            assert fetch.log()[0] == "/models/current\n"
    finally:
        hub.stop()
    assert hub.served == (tiny_model / "model.safetensors").stat().st_size
    assert os.readlink(volume / "current") == os.path.relpath((volume / "current").resolve(), volume)
    assert serve_from(volume, server_image) == ("tiny-model", 12)


def test_fetch_finds_a_default_model_that_is_there_already(fetch_image, server_image, volume):
    """Without any network: the file is checked, not fetched. The server has the model's name, not the link's."""
    model = os.environ.get("EBBINGHAUS_DEFAULT_MODEL") or command(
        harness.ROOT / "scripts/fetch-model.sh", "default", timeout=600).stdout.splitlines()[-1]
    if not os.path.exists(model):
        missing("the default model")
    folder = volume / "cache/ebbinghaus"
    folder.mkdir(parents=True)
    shutil.copy(model, folder)
    command("chown", "-R", "65532:65532", volume)
    with Container(fetch_image, "--volume", "%s:/models" % volume) as fetch:
        assert fetch.wait() == 0, fetch.log()
        assert "is there" in fetch.log()[1]
    name = os.path.basename(model).removesuffix(".gguf")
    assert serve_from(volume, server_image, "--kv-memory", "256MiB") == (name, 12)


def test_fetch_says_why_it_cannot_write(fetch_image, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir(0o755)
    with Container(fetch_image, "--volume", "%s:/models" % folder) as fetch:
        assert fetch.wait() == 1
        assert "user 65532:65532 cannot write in /models" in fetch.log()[1]
