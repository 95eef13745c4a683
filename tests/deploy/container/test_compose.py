"""deploy/compose.yaml, read by the library that Docker Compose itself reads such files with. The Prometheus and Grafana
images cannot be had here, so they are not started; the server and fetch images are, in the other tests."""
import json
import os
import pathlib
import re
import shutil

import pytest

import harness
from tools import cache, install, missing, run

HERE = pathlib.Path(__file__).parent
FILE = harness.ROOT / "deploy/compose.yaml"
DEFAULTS = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


@pytest.fixture(scope="module")
def reader():
    """The program compose/main.go."""
    go = shutil.which("go")
    if not go:
        missing("go")
    folder = cache("compose")
    for name in ("go.mod", "go.sum", "main.go"):
        shutil.copy(HERE / "compose" / name, folder)
    install("compose-go", go, "build", "-o", str(folder / "compose"), ".", cwd=folder)
    return str(folder / "compose")


@pytest.fixture(scope="module")
def read(reader):
    def read(path=FILE, **environment):
        return run(reader, str(path), env={**DEFAULTS, **environment})
    return read


@pytest.fixture(scope="module")
def services(read):
    done = read()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


def mounts(service):
    return {volume["target"]: volume for volume in service["volumes"]}


def test_it_has_the_server_its_model_and_those_who_watch_it(services):
    assert set(services) == {"fetch", "server", "prometheus", "grafana"}
    assert services["server"]["depends_on"]["fetch"]["condition"] == "service_completed_successfully"
    for name, target in (("fetch", "fetch"), ("server", "runtime")):
        build = services[name]["build"]
        assert pathlib.Path(build["context"]) == harness.ROOT
        dockerfile = (pathlib.Path(build["context"]) / build["dockerfile"]).read_text()
        assert re.search(r"^FROM \S+ AS %s$" % build["target"], dockerfile, re.MULTILINE) and build["target"] == target
    for name in ("prometheus", "grafana"):
        assert re.fullmatch(r"\S+/\S+:v?\d+\.\d+\.\d+", services[name]["image"]), "a pinned version"


def test_every_service_is_confined_and_only_this_machine_reaches_it(services):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged") and not service.get("cap_add"), name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
    assert all(services[name]["read_only"] for name in ("fetch", "server", "prometheus"))


def test_what_is_mounted_fits_what_looks_there(services):
    assert mounts(services["fetch"])["/models"]["source"] == mounts(services["server"])["/models"]["source"] == "models"
    assert mounts(services["server"])["/models"]["read_only"]
    bound = [volume for service in services.values() for volume in service.get("volumes", []) if volume["type"] == "bind"]
    assert bound
    for volume in bound:
        assert pathlib.Path(volume["source"]).is_dir(), volume["source"]
        assert volume["read_only"], volume["source"]
    prometheus = pathlib.Path(mounts(services["prometheus"])["/etc/prometheus"]["source"])
    assert (prometheus / "prometheus.yml").exists()
    assert any("server:9464" in path.read_text() for path in prometheus.glob("*.yml"))
    # Grafana is told where the dashboards lie, and where Prometheus answers.
    provisioning = pathlib.Path(mounts(services["grafana"])["/etc/grafana/provisioning"]["source"])
    told = "".join(path.read_text() for path in sorted(provisioning.rglob("*.y*ml")))
    folder = re.search(r"^\s*path:\s*(\S+)$", told, re.MULTILINE)[1]
    assert folder in mounts(services["grafana"])
    assert "http://prometheus:9090" in told


def test_the_health_check_and_the_time_to_stop_fit_the_server(services):
    server = services["server"]
    assert server["healthcheck"]["test"] == ["CMD", "ebbinghaus", "health"]
    drain = re.search(r"--drain-timeout.*?\(default (\d+)s\)", harness.run("--help").stdout, re.DOTALL)
    assert server["stop_grace_period"].endswith("s") and int(server["stop_grace_period"][:-1]) > int(drain[1])
    options = {line.split()[0] for line in harness.run("--help").stdout.splitlines() if line.startswith("  --")}
    for name in server["environment"]:
        assert "--" + name.removeprefix("EBBINGHAUS_").lower().replace("_", "-") in options, name
    ports = {(port["target"], port["published"]) for port in server["ports"]}
    assert ports == {(50051, "50051"), (9464, "9464")}


def test_limits_and_model_come_from_the_environment(read):
    done = read(CPUS="3", MEMORY="6g", MODEL="owner/name:file.gguf", WEIGHTS="int8", HF_TOKEN="hf_x", VERSION="1.2.3")
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services["server"]["cpus"] == 3 and services["server"]["mem_limit"] == str(6 << 30)
    assert services["server"]["environment"] == {"EBBINGHAUS_WEIGHTS": "int8"}
    assert services["server"]["image"] == "ebbinghaus:1.2.3"
    assert services["fetch"]["command"] == ["owner/name:file.gguf"]
    assert services["fetch"]["environment"]["HF_TOKEN"] == "hf_x"
    assert "HF_TOKEN" not in json.dumps(services["server"])


@pytest.mark.parametrize("good, bad, complaint", [
    ("mem_limit:", "memory_limit:", "memory_limit"),                                     # no such field
    ("condition: service_completed_successfully", "condition: service_finished", "condition"),
    ('["models:/models"]', '["weights:/models"]', "weights"),                            # no such volume
    ("depends_on: [prometheus]", "depends_on: [prometheus2]", "prometheus2"),
])
def test_the_reader_refuses_mistakes(read, tmp_path, good, bad, complaint):
    text = FILE.read_text()
    assert text.count(good) == 1
    path = tmp_path / "compose.yaml"
    path.write_text(text.replace(good, bad))
    done = read(path)
    assert done.returncode != 0 and complaint in done.stderr, done.stderr
