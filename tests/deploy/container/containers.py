"""Builds images and runs containers without a daemon: buildah and podman, with a store of their own in the cache folder.

The base image is made by debootstrap, since these tests reach Debian's packages and no image registry. Base, layers and
compiler cache stay there for the next run; they start anew when what they are made from changes.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import harness
from tools import cache, missing

BASE = "localhost/ebbinghaus-test/debian:13"
FOLDER = cache("container")
STORE = ("--root", str(FOLDER / "storage"), "--runroot", str(FOLDER / "run"), "--storage-driver", "overlay")
BUILD_SECONDS = 2400
STEP_SECONDS = 120
# Machines without systemd and with version 1 of control groups have limits below podman's defaults, and need runc.
PODMAN = ("podman", *STORE, "--tmpdir", str(FOLDER / "tmp"), "--volumepath", str(FOLDER / "volumes"), "--runtime", "runc",
          "--cgroup-manager", "cgroupfs", "--events-backend", "file")
ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


def command(*arguments, timeout=STEP_SECONDS, check=True, **more):
    """Runs it to its end; with what it said if it failed."""
    done = subprocess.run([str(argument) for argument in arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout, check=False, **more)
    if check and done.returncode != 0:
        raise AssertionError("%s\nexited with %d:\n%s" % (" ".join(map(str, arguments)), done.returncode,
                                                          (done.stdout + done.stderr)[-6000:]))
    return done


def podman(*arguments, **more):
    return command(*PODMAN, *arguments, **more)


def buildah(*arguments, **more):
    environment = {**os.environ, "TMPDIR": str(FOLDER / "build")}  # where buildah keeps the caches of RUN --mount
    return command("buildah", *STORE, *arguments, env=environment, **more)


def require_tools():
    if os.geteuid() != 0:
        missing("root, to make a root folder of Debian and to mount layers")
    for tool in ("buildah", "podman", "runc", "debootstrap"):
        if not shutil.which(tool):
            missing(tool)
    if "\toverlay\n" not in pathlib.Path("/proc/filesystems").read_text():
        missing("the kernel's overlay file system")


@contextlib.contextmanager
def store():
    """One run at a time has the store; what an earlier one left running when it was ended goes first."""
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start_anew_if_changed()
        podman("rm", "--force", "--all", "--time", 0)
        buildah("rm", "--all")
        yield


def start_anew_if_changed():
    """Empties the store when layers of an earlier state would only fill the disk."""
    made_from = hashlib.sha256()
    for name in ("Dockerfile", "scripts/setup.sh"):
        made_from.update((harness.ROOT / name).read_bytes())
    stamp = FOLDER / "made-from"
    if not stamp.exists() or stamp.read_text() != made_from.hexdigest():
        for name in ("storage", "run", "tmp"):
            remove_tree(FOLDER / name)
        stamp.write_text(made_from.hexdigest())
    for name in ("build", "run", "tmp", "volumes"):
        (FOLDER / name).mkdir(exist_ok=True)


def remove_tree(folder):
    """Also where something is still mounted below it, after a run that was ended."""
    for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if pathlib.PurePath(place).is_relative_to(folder):
            command("umount", "--lazy", place)
    shutil.rmtree(folder, ignore_errors=True)


def make_base():
    """Debian 13 as `debian:13-slim` has it, nearly: the packages that every Debian has, and apt."""
    if buildah("images", "--quiet", BASE, check=False).stdout.strip():
        return
    archive = FOLDER / "debian13.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            root = pathlib.Path(folder) / "root"
            made = command("debootstrap", "--variant=minbase", "trixie", root, timeout=900, check=False)
            if made.returncode != 0:
                missing("Debian 13 by debootstrap, which said: " + (made.stdout + made.stderr)[-1000:])
            for downloaded in (root / "var/cache/apt/archives", root / "var/lib/apt/lists"):
                for path in downloaded.glob("*_*"):
                    path.unlink()
            command("tar", "-C", root, "-cf", archive.with_suffix(".part"), ".")
            archive.with_suffix(".part").rename(archive)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        os.link(archive, pathlib.Path(folder) / "root.tar")
        (pathlib.Path(folder) / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["bash"]\n')
        buildah("bud", "--isolation=chroot", "--format", "docker", "--tag", BASE, folder, timeout=300)


def build(tag, target, **arguments):
    """The Dockerfile's stage as an image."""
    options = [option for name, value in arguments.items() for option in ("--build-arg", "%s=%s" % (name, value))]
    buildah("bud", "--isolation=chroot", "--pull-never", "--format", "docker", "--layers", "--target", target,
            "--build-arg", "BASE=" + BASE, *options, "--tag", tag, harness.ROOT, timeout=BUILD_SECONDS)


class Container:
    """A running container as strict as a cluster runs one: root file system read-only, nothing to write to, no
    capability, nothing to gain, and no network but its own loopback unless asked for. Gone at the end."""

    STRICT = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges",
              "--no-healthcheck", *ULIMITS)  # podman's own health check would need systemd's timers

    def __init__(self, image, *options, arguments=(), network="none"):
        self.id = podman("run", "--detach", "--network", network, *self.STRICT, *options, image,
                         *arguments).stdout.strip()

    def state(self):
        return json.loads(podman("inspect", "--type", "container", self.id).stdout)[0]["State"]

    def log(self):
        done = podman("logs", self.id)
        return done.stdout, done.stderr

    def wait_for(self, pattern, seconds=STEP_SECONDS):
        """The match in its standard output, or in the log of one that has ended."""
        def look():
            running = self.state()["Running"]  # before the log: what it said at its end is then there
            output, errors = self.log()
            found = pattern.search(output)
            assert found or running, "it ended: " + output + errors
            return found
        return harness.wait_until(look, pattern.pattern, seconds)

    def wait(self, seconds=STEP_SECONDS):
        """Its exit code, once it has ended by itself."""
        return int(podman("wait", self.id, timeout=seconds).stdout)

    def execute(self, *arguments, **more):
        return podman("exec", self.id, *arguments, **more)

    def process(self, name):
        """A file of its first process in /proc, as this machine sees it."""
        return pathlib.Path("/proc/%d" % self.state()["Pid"]) / name

    def stop(self, seconds=60):
        """Ends it as an operator would; the exit code."""
        podman("stop", "--time", seconds, self.id, timeout=seconds + STEP_SECONDS)
        return self.state()["ExitCode"]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(*self.log())
        podman("rm", "--force", "--time", 0, self.id)
