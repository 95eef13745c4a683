"""What Generate and Complete promise, in every mode."""
import concurrent.futures

import grpc
import pytest
from google.protobuf import text_format

import harness

MODES = ["GENERATION_MODE_BASELINE", "GENERATION_MODE_SOFT_DELETE", "GENERATION_MODE_SPARSE_ATTENTION"]
PROMPT = "Memory fades in the end, and the curve of forgetting is steep at first."


def request(pb, text="", **fields):
    """A request from proto text, greedy and of fixed length unless told otherwise."""
    base = pb.GenerateRequest(text=PROMPT, max_new_tokens=24, ignore_eos=True)
    base.sampling.temperature = 0
    text_format.Merge(text, base)
    for name, value in fields.items():
        setattr(base, name, value)
    return base


def check_stream(events):
    """The invariants of every stream that ends with OK; returns started, tokens, memory events, finished."""
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started" and kinds.count("started") == 1, kinds
    assert kinds[-1] == "finished" and kinds.count("finished") == 1, kinds
    started, finished = events[0].started, events[-1].finished
    tokens = [event.token for event in events if event.WhichOneof("event") == "token"]
    memory = [event.memory for event in events if event.WhichOneof("event") == "memory"]
    assert finished.usage.generated_tokens == len(tokens)
    assert finished.usage.prompt_tokens == started.prompt_tokens
    assert len(tokens) <= started.max_new_tokens
    assert all(event.ByteSize() <= 1 << 20 for event in events)
    return started, tokens, memory, finished


def generate(stub, message):
    return check_stream(list(stub.Generate(message, timeout=harness.STEP_SECONDS)))


def ids_of(tokens):
    return [token.id for token in tokens]


@pytest.mark.parametrize("mode", MODES)
def test_stream_complete_and_detokenize_agree(pb, stub, mode):
    message = request(pb, "generation_mode: %s" % mode)
    started, tokens, _, finished = generate(stub, message)
    assert started.mode == pb.GenerationMode.Value(mode)
    assert started.request_id
    text = "".join(token.text for token in tokens)
    complete = stub.Complete(message, timeout=harness.STEP_SECONDS)
    assert list(complete.token_ids.ids) == ids_of(tokens)
    assert complete.text == text
    assert complete.started.mode == started.mode
    assert complete.finished.finish_reason == finished.finish_reason == pb.FINISH_REASON_LENGTH
    assert stub.Detokenize(pb.DetokenizeRequest(ids=ids_of(tokens))).text == text


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(pb, stub, mode):
    sampled = "generation_mode: %s sampling { temperature: 1.5 top_p: 1 seed: %d }"
    first = ids_of(generate(stub, request(pb, sampled % (mode, 7)))[1])
    again = ids_of(generate(stub, request(pb, sampled % (mode, 7)))[1])
    other = ids_of(generate(stub, request(pb, sampled % (mode, 8)))[1])
    assert first == again
    assert first != other


def test_an_unset_seed_is_random_and_echoed(pb, stub):
    message = request(pb, "sampling { temperature: 1.5 top_p: 1 }")
    seeds, streams = set(), []
    for _ in range(3):
        started, tokens, _, _ = generate(stub, message)
        seeds.add(started.seed)
        streams.append((started.seed, ids_of(tokens)))
    assert len(seeds) == 3
    seed, expected = streams[0]
    message.sampling.seed = seed
    assert ids_of(generate(stub, message)[1]) == expected


def test_a_call_without_any_options_takes_the_servers_defaults(pb, stub):
    started, tokens, _, finished = generate(stub, pb.GenerateRequest(text=PROMPT))
    assert started.mode == pb.GENERATION_MODE_BASELINE
    assert started.max_new_tokens == 100
    assert started.sampling.temperature == pytest.approx(0.7)
    assert started.sampling.top_p == pytest.approx(0.9)
    assert not started.HasField("memory")
    assert finished.finish_reason in (pb.FINISH_REASON_EOS, pb.FINISH_REASON_LENGTH)


def test_token_ids_chat_and_text_are_the_same_prompt(pb, stub):
    ids = stub.Tokenize(pb.TokenizeRequest(text=PROMPT)).ids
    by_ids = request(pb)
    by_ids.token_ids.ids.extend(ids)
    assert ids_of(generate(stub, by_ids)[1]) == ids_of(generate(stub, request(pb))[1])

    chat = pb.Chat(messages=[pb.Message(role="user", content="Hello")])
    rendered = stub.Tokenize(pb.TokenizeRequest(chat=chat))
    assert b"".join(rendered.pieces).decode() == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    by_chat = request(pb)
    by_chat.chat.CopyFrom(chat)
    by_ids.token_ids.ids[:] = rendered.ids
    chat_stream = generate(stub, by_chat)
    assert ids_of(chat_stream[1]) == ids_of(generate(stub, by_ids)[1])
    assert chat_stream[0].prompt_tokens == len(rendered.ids)


def test_special_tokens_in_contents_are_text_unless_asked_for(pb, stub):
    plain = stub.Tokenize(pb.TokenizeRequest(text="a<|im_end|>"))
    special = stub.Tokenize(pb.TokenizeRequest(text="a<|im_end|>", parse_special=True))
    assert len(special.ids) == 2 and len(plain.ids) > 2
    assert b"".join(plain.pieces) == b"".join(special.pieces) == b"a<|im_end|>"
    chat = pb.Chat(messages=[pb.Message(role="user", content="<|im_end|>")])
    trusted = stub.Tokenize(pb.TokenizeRequest(chat=chat, parse_special=True)).ids
    untrusted = stub.Tokenize(pb.TokenizeRequest(chat=chat)).ids
    assert list(untrusted).count(special.ids[1]) == 1
    assert list(trusted).count(special.ids[1]) == 2


@pytest.mark.parametrize("text", ["plain", "", "  spaces   and\n\nlines\t", "naïve 漢字 🙂 e\u0301", "\x00\x01"])
def test_tokenize_and_detokenize_are_inverse(pb, stub, text):
    answer = stub.Tokenize(pb.TokenizeRequest(text=text))
    assert b"".join(answer.pieces).decode() == text
    assert stub.Detokenize(pb.DetokenizeRequest(ids=answer.ids)).text == text


def test_stop_strings_are_cut_exactly(pb, stub):
    whole = stub.Complete(request(pb, max_new_tokens=60)).text
    assert len(whole) > 12
    for begin, length in [(3, 1), (4, 3), (6, 5)]:
        stop = whole[begin:begin + length]
        message = request(pb, max_new_tokens=60)
        message.stop.append(stop)
        _, tokens, _, finished = generate(stub, message)
        assert finished.finish_reason == pb.FINISH_REASON_STOP
        assert finished.matched_stop == stop
        assert "".join(token.text for token in tokens) == whole[:whole.index(stop)]


def test_a_stop_token_ends_the_text(pb, stub):
    ids = list(stub.Complete(request(pb)).token_ids.ids)
    stop = ids[5]
    answer = stub.Complete(request(pb, "stop_token_ids: %d" % stop))
    assert answer.finished.finish_reason == pb.FINISH_REASON_STOP
    assert list(answer.token_ids.ids) == ids[:ids.index(stop) + 1]


def test_eos_ends_the_text_unless_ignored(pb, stub):
    eos = stub.GetModel(pb.GetModelRequest()).eos_token_ids[0]
    message = request(pb, "sampling { logit_bias { key: %d value: 100 } }" % eos, ignore_eos=False)
    _, tokens, _, finished = generate(stub, message)
    assert finished.finish_reason == pb.FINISH_REASON_EOS
    assert ids_of(tokens) == [eos] and tokens[0].text == ""
    message.ignore_eos = True
    assert len(generate(stub, message)[1]) == 24
    message.ignore_eos, message.min_new_tokens = False, 5
    _, tokens, _, finished = generate(stub, message)
    assert finished.finish_reason == pb.FINISH_REASON_EOS
    assert len(tokens) == 6 and eos not in ids_of(tokens[:5])


def test_logit_bias_forces_a_token(pb, stub):
    _, tokens, _, _ = generate(stub, request(pb, "sampling { logit_bias { key: 65 value: 100 } }"))
    assert set(ids_of(tokens)) == {65}


def test_logprobs_are_of_the_raw_logits_and_sorted(pb, stub):
    plain = generate(stub, request(pb))[1]
    assert not any(token.HasField("logprob") or token.candidates for token in plain)
    tokens = generate(stub, request(pb, "return_logprobs: true top_logprobs: 5"))[1]
    assert ids_of(tokens) == ids_of(plain)
    for token in tokens:
        values = [candidate.logprob for candidate in token.candidates]
        assert len(values) == 5 and values == sorted(values, reverse=True) and values[0] <= 0
        assert token.candidates[0].id == token.id  # greedy
        assert token.logprob == pytest.approx(values[0], abs=1e-6)
    biased = generate(stub, request(pb, "return_logprobs: true sampling { logit_bias { key: 65 value: 100 } }"))[1]
    assert biased[0].id == 65 and biased[0].logprob < -0.1
    assert not biased[0].candidates


def test_the_context_limits_the_length(pb, stub):
    context = stub.GetModel(pb.GetModelRequest()).context_tokens
    message = pb.GenerateRequest(ignore_eos=True)
    message.token_ids.ids.extend([65] * (context - 3))
    started, tokens, _, finished = generate(stub, message)
    assert started.max_new_tokens == 3 and len(tokens) == 3
    assert finished.finish_reason == pb.FINISH_REASON_LENGTH


def test_concurrent_streams_in_mixed_modes_give_what_each_gives_alone(pb, stub):
    messages = []
    for i in range(12):
        text = "generation_mode: %s max_new_tokens: %d" % (MODES[i % 3], 20 + i)
        if i % 2:
            text += " sampling { temperature: 1.2 seed: %d }" % i
        if i % 3 == 2:
            text += " memory { preset: MEMORY_PRESET_TIGHT recent_tokens: 4 max_live_tokens: %d }" % (16 + i)
        message = request(pb, text)
        message.text = PROMPT[i:]
        messages.append(message)
    alone = [ids_of(generate(stub, message)[1]) for message in messages]
    with concurrent.futures.ThreadPoolExecutor(len(messages)) as pool:
        together = list(pool.map(lambda message: ids_of(generate(stub, message)[1]), messages))
    assert together == alone


def test_usage_adds_up(pb, stub):
    _, tokens, _, finished = generate(stub, request(pb))
    usage = finished.usage
    decode = usage.decode_duration.ToTimedelta().total_seconds()
    assert decode > 0 and usage.prefill_duration.ToTimedelta().total_seconds() > 0
    assert usage.tokens_per_second == pytest.approx((len(tokens) - 1) / decode, rel=1e-2)


def test_score_is_unimplemented_for_now(pb, stub):
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Score(pb.ScoreRequest(text="x")))
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


EDGES = {
    "temperature": [1e-45, 1, 2], "top_p": [1e-45, 1], "top_k": [1, 0], "min_p": [0, 1], "repetition_penalty": [1e-45, 10],
    "presence_penalty": [-2, 2], "frequency_penalty": [-2, 2],
}


@pytest.mark.parametrize("one, other", [(a, b) for a in EDGES for b in EDGES if a < b])
def test_sampling_fields_at_the_edges_of_their_ranges_generate(pb, stub, one, other):
    for first in EDGES[one]:
        for second in EDGES[other]:
            message = pb.GenerateRequest(text="the cat the cat the cat", max_new_tokens=4, ignore_eos=True)
            setattr(message.sampling, one, first)
            setattr(message.sampling, other, second)
            _, tokens, _, _ = generate(stub, message)
            assert len(tokens) == 4, (first, second)
