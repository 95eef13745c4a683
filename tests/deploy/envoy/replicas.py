"""Several servers with the same model, calls to them from asyncio, and what becomes of those when one dies or drains."""
import asyncio
import contextlib
import dataclasses
import signal

import grpc
import grpc.aio

import harness

MAX_BATCH = 4
STREAMS = 48  # at once, in the kill tests
LONG = 1500  # tokens: so that hardly any of them is over when a replica is killed
PATIENCE = 120  # against hanging only


class Fleet:
    """Replicas that can be killed, drained and started again on the same ports. Use as a context manager: at the end those
    that live must drain and exit with 0."""

    def __init__(self, model, folder, count, *arguments):
        self.arguments = arguments
        self.models = []  # a server tells its model's name in every answer: so each replica's is its own
        for i in range(count):
            self.models.append(folder / ("replica-%d" % i))
            if not self.models[-1].exists():
                self.models[-1].symlink_to(model)
        self.servers = [None] * count
        self.addresses = [("127.0.0.1:0", "127.0.0.1:0")] * count  # of gRPC and HTTP
        try:
            for i in range(count):
                self.start(i)
        except BaseException:
            self.kill_all()
            raise

    def start(self, i):
        """Returns when it serves; the second time on the addresses of the first."""
        grpc_address, http_address = self.addresses[i]
        server = harness.Server(self.models[i], "--listen", grpc_address, "--http-listen", http_address,
                                "--max-batch", str(MAX_BATCH), *self.arguments)
        self.servers[i] = server
        self.addresses[i] = server.grpc_address, server.http_address

    def kill(self, i):
        self.servers[i].channel.close()
        self.servers[i].process.send_signal(signal.SIGKILL)
        self.servers[i].process.wait()
        self.servers[i].process.stdout.close()

    def drain(self, i):
        """Ends it as an operator would, and returns when it has ended."""
        with self.servers[i] as server:  # whose end that is
            server.signal()
            server.wait(PATIENCE)

    def kill_all(self):
        for i, server in enumerate(self.servers):
            if server is not None and server.process.poll() is None:
                self.kill(i)

    def name(self, i):
        return self.models[i].name

    def grpc_addresses(self):
        return [grpc_address for grpc_address, _ in self.addresses]

    def target(self):
        """All of them, as gRPC's clients write several addresses."""
        return "ipv4:" + ",".join(self.grpc_addresses())

    def status(self, pb, i):
        """Asked directly."""
        return pb.Stub(self.servers[i].channel).GetServerStatus(pb.GetServerStatusRequest(), timeout=harness.STEP_SECONDS)

    def metric(self, i, series):
        return self.servers[i].metrics()["ebbinghaus_" + series]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            for i, server in enumerate(self.servers):
                print("%s:\n%s" % (self.name(i), server.read_log()[-2000:]))
            return self.kill_all()
        for i, server in enumerate(self.servers):
            if server.process.poll() is None:
                self.drain(i)
        return None


@dataclasses.dataclass
class Answer:
    """What came of one call."""
    code: grpc.StatusCode = None
    details: str = ""
    responded: bool = False  # whether anything of an answer came, headers included
    started: object = None
    tokens: int = 0
    finished: object = None
    trailers: dict = dataclasses.field(default_factory=dict)

    @property
    def replica(self):
        return self.started.model if self.started else None

    @property
    def whole(self):
        return self.code == grpc.StatusCode.OK and self.finished is not None

    def __str__(self):
        return "%s (%s), %s, %d tokens from %s" % (self.code, self.details,
                                                  "with a response" if self.responded else "without a response",
                                                  self.tokens, self.replica)


async def read(call, answer):
    """Reads a stream to its end into `answer`, which may be looked at meanwhile."""
    try:
        async for event in call:
            answer.responded = True
            kind = event.WhichOneof("event")
            if kind == "token":
                answer.tokens += 1
            elif kind in ("started", "finished"):
                setattr(answer, kind, getattr(event, kind))
        answer.code = await call.code()
    except grpc.aio.AioRpcError as error:
        answer.code, answer.details = error.code(), error.details()
        answer.responded = answer.responded or bool(tuple(error.initial_metadata() or ()))
        answer.trailers = dict(error.trailing_metadata() or ())
    return answer


def long_request(pb, i=0, tokens=LONG, **fields):
    message = pb.GenerateRequest(text="client %d" % i, max_new_tokens=tokens, ignore_eos=True, **fields)
    message.sampling.temperature = 0
    return message


async def ask(pb, channel, request, metadata=None):
    return await asyncio.wait_for(read(pb.Stub(channel).Generate(request, metadata=metadata), Answer()), PATIENCE)


@contextlib.asynccontextmanager
async def channels(target, count, *options):
    """As many connections: of as many clients."""
    made = [grpc.aio.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1), *options]) for _ in range(count)]
    try:
        yield made
    finally:
        for channel in made:
            await channel.close()


async def until(condition, what, seconds=PATIENCE):
    """As harness.wait_until, while other tasks go on; `condition` runs on a thread of its own, so it may block."""
    end = asyncio.get_running_loop().time() + seconds
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < end, "timed out: " + what
        await asyncio.sleep(0.005)


def victim_is_loaded(fleet, pb, victim):
    """It answers some calls and has others that wait, which have no response yet."""
    now = fleet.status(pb, victim)
    return now.requests_running >= 1 and now.requests_queued >= 5


def check_killed(answers, fleet, victim, code=grpc.StatusCode.UNAVAILABLE):
    """The promise: who had no response yet is served elsewhere; who had one is told by `code`, and does not hang."""
    lost = [answer for answer in answers if not answer.whole]
    for answer in lost:
        assert answer.responded, answer
        assert answer.replica in (fleet.name(victim), None), answer
        assert answer.code == code, answer
    # The test tested something: some had begun, and most of what the victim had was served by others.
    assert 1 <= len(lost) <= 3 * MAX_BATCH, [str(answer) for answer in lost]
    assert all(answer.finished.usage.generated_tokens == LONG for answer in answers if answer.whole)


async def kill_under_load(pb, fleet, victim, made):
    """Kills a replica in the middle of STREAMS calls; their answers."""
    answers = [Answer() for _ in range(STREAMS)]
    tasks = [asyncio.create_task(read(pb.Stub(made[i % len(made)]).Generate(long_request(pb, i)), answer))
             for i, answer in enumerate(answers)]
    await until(lambda: victim_is_loaded(fleet, pb, victim), "the victim to be loaded")
    # The client must have seen that some began there, or it could not tell them from those that had not.
    await until(lambda: any(answer.replica == fleet.name(victim) and answer.tokens > 0 for answer in answers),
                "a token from the victim")
    assert victim_is_loaded(fleet, pb, victim), "too fast: there is nothing to lose"
    await asyncio.to_thread(fleet.kill, victim)
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    return answers


async def until_served_by(pb, fleet, replica, made):
    """Asks until this replica answers: it has traffic again. All calls must be answered meanwhile."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while True:
        answers = await asyncio.gather(*(ask(pb, channel, long_request(pb, tokens=5)) for channel in made))
        assert all(answer.whole for answer in answers), [str(answer) for answer in answers]
        if any(answer.replica == fleet.name(replica) for answer in answers):
            return
        assert asyncio.get_running_loop().time() < end, "%s gets no traffic" % fleet.name(replica)


async def restart_one_by_one(pb, fleet, made, clients=8):
    """A rolling restart under load; the answers of all calls."""
    answers, over = [], asyncio.Event()

    async def client(i):
        while not over.is_set():
            answers.append(await ask(pb, made[i % len(made)], long_request(pb, i, tokens=60)))

    tasks = [asyncio.create_task(client(i)) for i in range(clients)]
    for replica in range(len(fleet.servers)):
        await until_served_by(pb, fleet, replica, made)
        await asyncio.to_thread(fleet.drain, replica)
        await asyncio.to_thread(fleet.start, replica)
        await until_served_by(pb, fleet, replica, made)
    over.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    return answers


def check_nothing_lost(pb, answers, fleet):
    bad = [answer for answer in answers
           if not answer.whole or answer.finished.finish_reason != pb.FINISH_REASON_LENGTH]
    assert not bad, "%d of %d: %s" % (len(bad), len(answers), bad[0])
    assert {answer.replica for answer in answers} == {fleet.name(i) for i in range(len(fleet.servers))}
