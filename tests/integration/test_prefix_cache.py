"""The prefix cache, as a client and an operator see it."""
import pytest

import harness
from test_generate import MODES, generate, ids_of, request

# Ends where a word ends, so that the ids of a longer text begin with these.
TEXT = " ".join(["It was the best of times, it was the worst of times, it was the age of wisdom."] * 4)
WAYS = ["generation_mode: " + mode for mode in MODES]
WAYS.append("generation_mode: GENERATION_MODE_SPARSE_ATTENTION memory { preset: MEMORY_PRESET_CHAT }")


def asking(pb, way, text):
    message = request(pb, way)
    message.text = text
    return message


@pytest.mark.parametrize("way", WAYS)
def test_a_prompt_that_goes_on_finds_what_was_read_and_gives_the_same(pb, model, way):
    with harness.Server(model) as server, harness.Server(model, "--prefix-cache", "off") as plain:
        stub, plain_stub = pb.Stub(server.channel), pb.Stub(plain.channel)
        first = generate(stub, asking(pb, way, TEXT))[0]
        assert first.cached_prompt_tokens == 0
        longer = asking(pb, way + " return_logprobs: true", TEXT + " And then?")
        started, tokens, _, _ = generate(stub, longer)
        assert first.prompt_tokens - 64 < started.cached_prompt_tokens <= first.prompt_tokens < started.prompt_tokens
        not_cached, expected, _, _ = generate(plain_stub, longer)
        assert not_cached.cached_prompt_tokens == 0
        assert ids_of(tokens) == ids_of(expected)
        assert [token.logprob for token in tokens] == [token.logprob for token in expected]

        status = stub.GetServerStatus(pb.GetServerStatusRequest())
        assert status.kv_used_bytes == 0
        assert 0 < status.kv_cached_bytes < status.kv_capacity_bytes
        assert plain_stub.GetServerStatus(pb.GetServerStatusRequest()).kv_cached_bytes == 0
        metrics = server.metrics()
        assert metrics["ebbinghaus_kv_cached_bytes"] == status.kv_cached_bytes
        mode = pb.GenerationMode.Name(started.mode).replace("GENERATION_MODE_", "").lower()
        read = metrics['ebbinghaus_tokens_total{kind="prompt",mode="%s"}' % mode]
        cached = metrics['ebbinghaus_tokens_total{kind="prompt_cached",mode="%s"}' % mode]
        assert cached == started.cached_prompt_tokens
        assert read == first.prompt_tokens + started.prompt_tokens - cached
