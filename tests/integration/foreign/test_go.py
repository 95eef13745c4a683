"""Go with grpc-go; and ghz, a load tester that others use, which is written with it."""
import json
import os
import shutil

import pytest

import harness
from tools import HERE, cache, install, missing, run

pytestmark = pytest.mark.foreign

GHZ = "v0.120.0"  # newer than what the module proxy lists
PACKAGE = "ebbinghaus.test/foreign/inference"
PROTO = "ebbinghaus/v1/inference.proto"


@pytest.fixture(scope="module")
def program(go):
    """The Go client, compiled with the code that protoc generates for it."""
    if not shutil.which("protoc"):
        missing("protoc")
    folder = cache("foreign-go")
    for name in ("go.mod", "go.sum", "main.go"):
        shutil.copy(HERE / "go" / name, folder)
    environment = {**os.environ, "GOBIN": str(folder / "bin")}
    install("the modules of tests/integration/foreign/go", go, "install", "tool", cwd=folder, env=environment)
    mapping = "M%s=%s" % (PROTO, PACKAGE)
    made = run("protoc", "-I%s" % (harness.ROOT / "proto"),
               *("--plugin=protoc-gen-%s=%s" % (name, folder / "bin" / ("protoc-gen-" + name)) for name in ("go", "go-grpc")),
               *("--%s_%s" % (name, option) for name in ("go", "go-grpc")
                 for option in ("out=%s" % folder, "opt=module=ebbinghaus.test/foreign", "opt=" + mapping)), PROTO)
    assert made.returncode == 0, made.stderr
    install("the Go client", go, "build", "-o", str(folder / "bin/foreign"), ".", cwd=folder)
    return str(folder / "bin/foreign")


def test_grpc_go(server, program):
    done = run(program, server.grpc_address, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 5, done.stdout


@pytest.fixture(scope="module")
def ghz(go):
    folder = cache("foreign-ghz-" + GHZ)
    if not (folder / "ghz").exists():
        install("ghz", go, "install", "github.com/bojand/ghz/cmd/ghz@" + GHZ, env={**os.environ, "GOBIN": str(folder)})
    return str(folder / "ghz")


def load(ghz, server, method, request, total, at_once):
    """ghz's report, as it writes it."""
    done = run(ghz, "--insecure", "--proto", str(harness.ROOT / "proto" / PROTO), "--import-paths",
               str(harness.ROOT / "proto"), "--call", "ebbinghaus.v1.InferenceService." + method, "--data",
               json.dumps(request), "--total", str(total), "--concurrency", str(at_once), "--format", "json",
               server.grpc_address, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ghz_with_a_unary_call(ghz, server):
    report = load(ghz, server, "Tokenize", {"text": "some words to be cut"}, 2000, 20)
    assert report["count"] == 2000
    assert report["statusCodeDistribution"] == {"OK": 2000}, report["errorDistribution"]


def test_ghz_with_streams(ghz, server):
    before = server.metrics()['ebbinghaus_tokens_total{kind="generated",mode="baseline"}']
    report = load(ghz, server, "Generate", {"text": "go on", "max_new_tokens": 10, "ignore_eos": True}, 200, 20)
    assert report["count"] == 200
    assert report["statusCodeDistribution"] == {"OK": 200}, report["errorDistribution"]
    after = server.metrics()['ebbinghaus_tokens_total{kind="generated",mode="baseline"}']
    assert after - before == 200 * 10


def test_ghz_sees_refusals_as_such(ghz, server):
    report = load(ghz, server, "Generate", {"text": "x", "max_new_tokens": 0}, 100, 10)
    assert report["statusCodeDistribution"] == {"InvalidArgument": 100}, report["errorDistribution"]
