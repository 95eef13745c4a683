"""Starts and stops the server's program, and speaks to it."""
import contextlib
import importlib
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import grpc
import grpc_tools
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("EBBINGHAUS_SERVER", str(ROOT / "build/release/bin/ebbinghaus-server"))
READY = re.compile(r"^ready grpc=(\S+:\d+) http=(\S+:\d+) model=(\S+)\n$")
START_SECONDS = 120  # a loaded machine; a tiny model needs less than one
STEP_SECONDS = 30


def stubs(folder):
    """The messages, and `Stub` beside them, made from the proto as any client would; `folder` is for the generated code."""
    includes = pathlib.Path(grpc_tools.__path__[0]) / "_proto"
    code = protoc.main(["protoc", "-I%s" % (ROOT / "proto"), "-I%s" % includes, "--python_out=%s" % folder,
                        "--grpc_python_out=%s" % folder, "ebbinghaus/v1/inference.proto"])
    assert code == 0
    sys.path.insert(0, str(folder))
    module = importlib.import_module("ebbinghaus.v1.inference_pb2")
    module.Stub = importlib.import_module("ebbinghaus.v1.inference_pb2_grpc").InferenceServiceStub
    return module


def environment(**extra):
    """The caller's environment without settings of ours."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EBBINGHAUS_")}
    return {**clean, **extra}


def run(*arguments, env=None, timeout=START_SECONDS):
    """Runs the program to its end."""
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout,
                          env=environment(**(env or {})))


def knows(flag):
    """Whether this build of the program has the flag."""
    return re.search(r"--%s\b" % re.escape(flag), run("--help").stdout) is not None


def wait_until(condition, what, seconds=STEP_SECONDS):
    """Polls; the time limit is for failing, not for waiting."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("timed out: " + what)


def go_on(pb, tokens, **fields):
    """A request for exactly so many tokens, the same ones every time."""
    message = pb.GenerateRequest(text="go on", max_new_tokens=tokens, ignore_eos=True, **fields)
    message.sampling.temperature = 0
    return message


def status(pb, stub):
    return stub.GetServerStatus(pb.GetServerStatusRequest(), timeout=STEP_SECONDS)


def wait_idle(pb, stub):
    def idle():
        now = status(pb, stub)
        return now.requests_running == 0 and now.requests_queued == 0 and now.kv_used_bytes == 0
    wait_until(idle, "the server to have nothing left")


def first_token(call):
    for event in call:
        if event.WhichOneof("event") == "token":
            return event.token
    raise AssertionError("no token")


class Server:
    """A running server. Use as a context manager: at the end it must drain and exit with 0."""

    TINY = ("--weights", "f32", "--kv", "f32", "--threads", "1", "--kv-memory", "256MiB")  # what most tests want

    def __init__(self, model, *arguments, env=None, defaults=TINY, log=None):
        """`log`: where the log goes if read_log() is not to have it."""
        self.log = tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [PROGRAM, "--model", str(model), "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
             *defaults, *arguments],
            stdout=subprocess.PIPE, stderr=log or self.log, text=True, env=environment(**(env or {})))
        readable, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        match = READY.match(line)
        if not match:
            self.kill()
            raise AssertionError("no ready line but %r; log:\n%s" % (line, self.read_log()))
        self.grpc_address, self.http_address, self.model_name = match.groups()
        self.channel = grpc.insecure_channel(self.grpc_address)

    def read_log(self):
        self.log.seek(0)
        return self.log.read()

    def http(self, path):
        """(status, headers, text), errors included."""
        try:
            with urllib.request.urlopen("http://%s%s" % (self.http_address, path), timeout=STEP_SECONDS) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def metrics(self):
        """{series: value}."""
        values = {}
        for line in self.http("/metrics")[2].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def descriptors(self):
        """What the process's file descriptors are; of sockets also their state, as /proc/net/tcp numbers it (1: connected)."""
        states = {}
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path("/proc/net/" + table).read_text().splitlines()[1:]:
                fields = line.split()
                states["socket:[%s]" % fields[9]] = "state %d" % int(fields[3], 16)
        targets = []
        for entry in pathlib.Path("/proc/%d/fd" % self.process.pid).iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                target = os.readlink(entry)
                targets.append(" ".join([target, states.get(target, "")]).strip())
        return sorted(targets)

    def threads(self):
        """The names of the process's threads."""
        return sorted(path.read_text().strip() for path in pathlib.Path("/proc/%d/task" % self.process.pid).glob("*/comm"))

    def resources(self):
        """What the process holds now: file descriptors, threads, and resident bytes."""
        folder = pathlib.Path("/proc/%d" % self.process.pid)
        resident = re.search(r"^VmRSS:\s+(\d+) kB$", (folder / "status").read_text(), re.MULTILINE)
        return {"descriptors": len(list((folder / "fd").iterdir())), "threads": len(list((folder / "task").iterdir())),
                "resident_bytes": int(resident[1]) * 1024}

    def cpu_seconds(self):
        """What all threads have used so far, to the nanosecond."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # Linux's id of another process's clock

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, seconds=STEP_SECONDS):
        return self.process.wait(seconds)

    def stop(self):
        """Ends it as an operator would; the exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.signal()
        return self.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(self.read_log()[-4000:])
        try:
            code = self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            self.process.stdout.close()
        if kind is None:
            assert code == 0, self.read_log()
