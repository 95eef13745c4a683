"""What surrounds the process: streams that nobody reads or that are closed, and names that the surroundings give."""
import contextlib
import os
import pathlib
import socket
import subprocess

import pytest

import harness


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bare:
    """A server whose standard streams the test chooses; it is known to serve by its HTTP port. Must exit with 0."""

    def __init__(self, model, *arguments, **streams):
        self.grpc_address = "127.0.0.1:%d" % free_port()
        self.http_address = "127.0.0.1:%d" % free_port()
        self.process = subprocess.Popen(
            [harness.PROGRAM, "--model", str(model), "--listen", self.grpc_address, "--http-listen", self.http_address,
             *harness.Server.TINY, *arguments], env=harness.environment(), **streams)

    http = harness.Server.http

    def serves(self):
        assert self.process.poll() is None, "the server ended with %s" % self.process.returncode
        try:
            return self.http("/readyz")[0] == 200
        except OSError:  # not listening yet
            return False

    def __enter__(self):
        harness.wait_until(self.serves, "the server to serve", harness.START_SECONDS)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.process.terminate()
            assert self.process.wait(harness.STEP_SECONDS) == 0
        else:
            self.process.kill()
            self.process.wait()


def answer(pb, address, count=1):
    """The texts of so many calls."""
    with harness.grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = pb.Stub(channel)
        message = pb.GenerateRequest(text="x", max_new_tokens=2, ignore_eos=True)
        return [stub.Complete(message, timeout=harness.STEP_SECONDS).text for _ in range(count)]


def test_a_log_that_is_not_read_stops_neither_requests_nor_health_nor_the_end(pb, model):
    read_end, write_end = os.pipe()
    try:
        with Bare(model, "--log-level", "debug", "--log-prompts", stdout=subprocess.DEVNULL, stderr=write_end) as server:
            assert len(answer(pb, server.grpc_address, 300)) == 300
            assert harness.select.select([], [write_end], [], 0)[1] == [], "the pipe should be full by now"
            assert server.http("/healthz")[0] == 200
            assert len(answer(pb, server.grpc_address)) == 1
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_log_whose_reader_has_gone_costs_the_log_only(pb, model):
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        with Bare(model, "--log-level", "debug", stdout=subprocess.DEVNULL, stderr=write_end) as server:
            assert len(answer(pb, server.grpc_address, 3)) == 3
    finally:
        os.close(write_end)


@contextlib.contextmanager
def full_pipe():
    """The writing end of a pipe that is full and that nobody reads."""
    read_end, write_end = os.pipe()
    try:
        os.set_blocking(write_end, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(write_end, b"x" * 4096)
        os.set_blocking(write_end, True)
        yield write_end
    finally:
        os.close(read_end)
        os.close(write_end)


def test_standard_output_that_is_full_does_not_keep_it_from_serving(pb, model, tmp_path):
    log = tmp_path / "log"
    with full_pipe() as write_end, log.open("w") as file, Bare(model, stdout=write_end, stderr=file) as server:
        assert len(answer(pb, server.grpc_address)) == 1
    assert "ready_line_not_written" in log.read_text()


def test_closed_standard_streams_are_not_taken_by_files_or_sockets(pb, model):
    def close_all():
        for stream in (0, 1, 2):
            os.close(stream)
    with Bare(model, "--log-level", "debug", preexec_fn=close_all) as server:
        assert len(answer(pb, server.grpc_address, 3)) == 3
        for stream in (0, 1, 2):
            assert os.readlink("/proc/%d/fd/%d" % (server.process.pid, stream)) == "/dev/null"


def test_a_failure_to_start_is_told_although_nobody_reads(model, tmp_path):
    with full_pipe() as write_end:
        for arguments, code in [(["--model", str(tmp_path / "nothing")], 1), (["--no-such-flag"], 2)]:
            ended = subprocess.run([harness.PROGRAM, *arguments, "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"],
                                   stdout=subprocess.DEVNULL, stderr=write_end, timeout=harness.STEP_SECONDS,
                                   env=harness.environment(), check=False)
            assert ended.returncode == code


def refused(model, *arguments, **more):
    """What a server that must not start says."""
    ended = subprocess.run([harness.PROGRAM, "--model", str(model), "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                            "--threads", "1", *arguments], capture_output=True, text=True, timeout=harness.START_SECONDS,
                           env=harness.environment(), check=False, **more)
    assert ended.returncode == 1 and ended.stdout == "", ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_more_memory_than_there_is_is_refused_with_the_sum(model):
    line = refused(model, "--kv-memory", "900TB")
    for part in ("not enough memory", "weights", "workspace", "--kv-memory 900000000 MB", "machine or cgroup has"):
        assert part in line, line


def memory_groups():
    """Folders of this process's memory control group and of the top, and what the limit is called in each."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for level in (path, ""):
            if controllers == "memory":
                yield pathlib.Path("/sys/fs/cgroup/memory" + level), "memory.limit_in_bytes"
            elif controllers == "":
                yield pathlib.Path("/sys/fs/cgroup" + level), "memory.max"


@pytest.fixture
def tight_group():
    """A control group with 300 MiB."""
    for level, limit in memory_groups():
        group = level / ("ebbinghaus-test-%d" % os.getpid())
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(300 << 20))
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("no memory control group can be made here (root and a writable /sys/fs/cgroup)")


def test_a_tight_control_group_is_told_before_the_weights_are_packed(model, tight_group):
    def enter():
        (tight_group / "cgroup.procs").write_text(str(os.getpid()))
    line = refused(model, preexec_fn=enter)
    for part in ("not enough memory", "weights", "workspace", "are 251 MB"):
        assert part in line, line


def test_the_warm_up_leaves_nothing_in_the_prefix_cache(model):
    with harness.Server(model) as server:
        assert server.metrics()["ebbinghaus_kv_cached_bytes"] == 0


def check(*arguments, **environment):
    return subprocess.run([harness.PROGRAM, "--check-config", *arguments], capture_output=True, text=True, check=False,
                          timeout=harness.START_SECONDS, env=harness.environment(**environment))


def test_check_config_accepts_what_would_start(model):
    ended = check("--model", str(model), EBBINGHAUS_SERVICE_HOST="10.0.0.1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("configuration ok")
    assert "no model" in check().stdout


def test_check_config_finds_what_starting_would(model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((model / "config.json").read_text())
    tokens = tmp_path / "tokens"
    tokens.write_text("")
    for arguments, code, parts in [
            (["--model", str(broken)], 1, ["broken", "tokenizer.json", "config.json"]),
            (["--model", str(model), "--kv-memory", "900TB"], 1, ["not enough memory", "weights"]),
            (["--model", str(model), "--max-context", "1000000000"], 1, ["--max-context"]),
            (["--tls-cert", str(tokens), "--tls-key", str(tokens)], 1, ["tokens"]),
            (["--auth-token-file", str(tmp_path / "none"), "--model", str(tmp_path / "nothing")], 1, ["none", "nothing"]),
            (["--max-batch", "0"], 2, ["--max-batch"])]:
        ended = check(*arguments)
        assert ended.returncode == code and ended.stdout == "", (arguments, ended)
        for part in parts:
            assert part in ended.stderr, (arguments, ended.stderr)


def test_check_config_shows_the_warnings_of_a_start(model):
    ended = check("--model", str(model), EBBINGHAUS_MAX_BATCHES="3")
    assert ended.returncode == 0
    assert "warning: " in ended.stderr and "EBBINGHAUS_MAX_BATCHES" in ended.stderr


def test_a_service_called_ebbinghaus_costs_no_warning(model, tmp_path):
    names = {"EBBINGHAUS_SERVICE_HOST": "10.0.0.1", "EBBINGHAUS_SERVICE_PORT": "50051", "EBBINGHAUS_PORT": "tcp://10.0.0.1:50051",
             "EBBINGHAUS_PORT_50051_TCP": "tcp://10.0.0.1:50051", "EBBINGHAUS_PORT_50051_TCP_PROTO": "tcp",
             "EBBINGHAUS_PORT_50051_TCP_PORT": "50051", "EBBINGHAUS_PORT_50051_TCP_ADDR": "10.0.0.1"}
    with harness.Server(model, env=names) as server:
        assert "warning" not in server.read_log()


def test_what_print_config_writes_starts_a_server_also_from_an_odd_path(model, tmp_path):
    odd = tmp_path / "a # \"path\" = 'x' \\ \u00e9"
    odd.symlink_to(model)
    printed = subprocess.run([harness.PROGRAM, "--print-config", "--model", str(odd), "--threads", "1"], capture_output=True,
                             text=True, check=True, env=harness.environment()).stdout
    (tmp_path / "server.conf").write_text("\ufeff" + printed.replace("\n", "\r\n"))
    ended = check("--config", str(tmp_path / "server.conf"))
    assert ended.returncode == 0 and "the model" in ended.stdout, ended
