"""Every kind of bad input: the code, the field's name and its range, and all violations at once."""
import re

import grpc
import pytest
from google.protobuf import text_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import harness

SOFT = "generation_mode: GENERATION_MODE_SOFT_DELETE "
SPARSE = "generation_mode: GENERATION_MODE_SPARSE_ATTENTION "
V = 300  # the tiny model's vocabulary
C = 8192  # and its context

# proto text (merged into a good request), the field's last part, what the message must say about the range
BAD = [
    ("sampling { temperature: -0.1 }", "temperature", ["0", "2"]),
    ("sampling { temperature: 2.01 }", "temperature", ["0", "2"]),
    ("sampling { temperature: nan }", "temperature", ["0", "2"]),
    ("sampling { temperature: inf }", "temperature", ["0", "2"]),
    ("sampling { top_p: 0 }", "top_p", ["0", "1"]),
    ("sampling { top_p: 1.01 }", "top_p", ["0", "1"]),
    ("sampling { top_p: nan }", "top_p", ["0", "1"]),
    ("sampling { min_p: -0.1 }", "min_p", ["0", "1"]),
    ("sampling { min_p: 1.01 }", "min_p", ["0", "1"]),
    ("sampling { top_k: %d }" % (V + 1), "top_k", [str(V)]),
    ("sampling { repetition_penalty: 0 }", "repetition_penalty", ["0", "10"]),
    ("sampling { repetition_penalty: 1e-46 }", "repetition_penalty", ["0", "10", "32-bit"]),
    ("sampling { repetition_penalty: 10.1 }", "repetition_penalty", ["0", "10"]),
    ("sampling { presence_penalty: -2.1 }", "presence_penalty", ["-2", "2"]),
    ("sampling { presence_penalty: -inf }", "presence_penalty", ["-2", "2"]),
    ("sampling { frequency_penalty: 2.1 }", "frequency_penalty", ["-2", "2"]),
    ("sampling { logit_bias { key: %d value: 1 } }" % V, "logit_bias", [str(V - 1)]),
    ("sampling { logit_bias { key: 1 value: 101 } }", "logit_bias", ["-100", "100"]),
    ("sampling { logit_bias { key: 1 value: nan } }", "logit_bias", ["-100", "100"]),
    ("max_new_tokens: 0", "max_new_tokens", ["1"]),
    ("max_new_tokens: %d" % C, "max_new_tokens", ["1"]),
    ("max_new_tokens: 5 min_new_tokens: 6", "min_new_tokens", ["max_new_tokens"]),
    ("stop: ''", "stop", ["1", "256"]),
    ("stop: '%s'" % ("x" * 257), "stop", ["1", "256"]),
    (" ".join("stop: 's%d'" % i for i in range(17)), "stop", ["16"]),
    ("stop_token_ids: %d" % V, "stop_token_ids", [str(V - 1)]),
    ("stop_token_ids: %s min_new_tokens: 1" % list(range(V)), "stop_token_ids", ["min_new_tokens"]),
    ("token_ids { }", "token_ids", ["at least one"]),
    ("token_ids { ids: [1, %d] }" % V, "ids", [str(V - 1)]),
    ("chat { }", "messages", ["at least one"]),
    ("attention { layers: 4 } return_attention_weights: true", "layers", ["4"]),
    ("attention { every_n_tokens: 0 } return_attention_weights: true", "every_n_tokens", ["1"]),
    ("return_logprobs: true top_logprobs: 21", "top_logprobs", ["20"]),
    ("memory { time_step: 0.1 }", "memory", ["BASELINE|baseline"]),
    ("memory { preset: MEMORY_PRESET_TIGHT }", "memory", ["BASELINE|baseline"]),
    (SOFT + "memory { initial_strength: 0 }", "initial_strength", ["0", "1e6|1000000|1e\\+06"]),
    (SOFT + "memory { initial_strength: 1.1e6 }", "initial_strength", ["0", "1e6|1000000|1e\\+06"]),
    (SOFT + "memory { time_step: -1 }", "time_step", ["0", "1e3|1000"]),
    (SOFT + "memory { time_step: 1001 }", "time_step", ["0", "1e3|1000"]),
    (SOFT + "memory { time_step: nan }", "time_step", ["0", "1e3|1000"]),
    (SOFT + "memory { reset_threshold: 0 }", "reset_threshold", ["0", "1"]),
    (SOFT + "memory { reset_threshold: 1.1 }", "reset_threshold", ["0", "1"]),
    (SOFT + "memory { soft_floor: 0 }", "soft_floor", ["0", "1"]),
    (SOFT + "memory { soft_ceiling: 1.1 }", "soft_ceiling", ["1"]),
    (SOFT + "memory { soft_floor: 0.9 soft_ceiling: 0.8 }", "soft_floor", ["soft_ceiling"]),
    (SOFT + "memory { soft_layer_ratio: 1.1 }", "soft_layer_ratio", ["0", "1"]),
    (SOFT + "memory { observe_interval: 0 }", "observe_interval", ["1"]),
    (SOFT + "memory { strength_cap: 1 }", "strength_cap", ["initial_strength|5"]),
    (SOFT + "memory { prompt_ticks: 1 }", "prompt_ticks", ["prompt_observation"]),
    (SPARSE + "memory { forget_threshold: 0 }", "forget_threshold", ["0", "1"]),
    (SPARSE + "memory { forget_threshold: 0.99999999999 }", "forget_threshold", ["0", "1", "32-bit"]),
    (SPARSE + "memory { forget_threshold: 1 }", "forget_threshold", ["0", "1"]),
    (SPARSE + "memory { vote_ratio: 0 }", "vote_ratio", ["0", "1"]),
    (SPARSE + "memory { vote_ratio: 1.5 }", "vote_ratio", ["0", "1"]),
    (SPARSE + "memory { min_live_tokens: 0 }", "min_live_tokens", ["1"]),
    (SPARSE + "memory { max_live_tokens: 10 }", "max_live_tokens", ["69"]),
    (SPARSE + "memory { pinned { begin: 3 end: 3 } }", "pinned", ["begin"]),
    # set for a mode that does not use it
    (SPARSE + "memory { soft_floor: 0.5 }", "soft_floor", ["sparse_attention|SPARSE_ATTENTION|soft_delete|SOFT_DELETE"]),
    (SOFT + "memory { forget_threshold: 0.5 }", "forget_threshold",
     ["sparse_attention|SPARSE_ATTENTION|soft_delete|SOFT_DELETE"]),
    # enum numbers nobody knows
    ("generation_mode: 9", "generation_mode", ["GENERATION_MODE_BASELINE"]),
    (SPARSE + "memory { preset: 77 }", "preset", ["MEMORY_PRESET_CHAT"]),
    (SPARSE + "memory { scope: 77 }", "scope", ["FORGET_SCOPE_CONSENSUS"]),
    (SPARSE + "memory { vote_layers: 77 }", "vote_layers", ["VOTE_LAYERS_ALL"]),
    (SOFT + "memory { soft_form: 77 }", "soft_form", ["SOFT_FORM_LOG_BIAS"]),
    (SOFT + "memory { prompt_observation: 77 }", "prompt_observation", ["PROMPT_OBSERVATION_ALL"]),
]


def make(pb, text):
    message = pb.GenerateRequest(text="a good prompt", max_new_tokens=1)
    text_format.Merge(text, message)
    return message


def failure(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        answer = call(*arguments, timeout=harness.STEP_SECONDS)
        if hasattr(answer, "__next__"):
            list(answer)
    return caught.value


def violations(error):
    """[(field path, description)] from the details; each must be in the message too."""
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    detail = error_details_pb2.BadRequest()
    assert rpc_status.from_call(error).details[0].Unpack(detail)
    found = [(violation.field, violation.description) for violation in detail.field_violations]
    assert all("%s: %s" % violation in error.details() for violation in found)
    return found


def check_violation(error, field, parts):
    descriptions = [text for path, text in violations(error) if field in path]
    assert descriptions, error.details()
    for part in parts:
        assert any(re.search(part, text) for text in descriptions), (part, descriptions)


@pytest.mark.parametrize("text, field, parts", BAD, ids=[text[:60] for text, _, _ in BAD])
def test_bad_input_is_refused_with_its_field_and_range(pb, stub, text, field, parts):
    error = failure(stub.Generate, make(pb, text))
    check_violation(error, field, parts)
    # Complete refuses the same in the same words.
    assert failure(stub.Complete, make(pb, text)).details() == error.details()


def test_the_good_request_is_good(pb, stub):
    assert len(list(stub.Generate(make(pb, "")))) == 3


def test_no_input_names_input(pb, stub):
    check_violation(failure(stub.Generate, pb.GenerateRequest()), "input", ["text"])
    check_violation(failure(stub.Tokenize, pb.TokenizeRequest()), "input", ["text"])


def test_tokenize_refuses_the_same_chats(pb, stub):
    for chat in [pb.Chat(), pb.Chat(messages=[pb.Message(content="x")]), pb.Chat(messages=[pb.Message()] * (C + 1))]:
        error = failure(stub.Tokenize, pb.TokenizeRequest(chat=chat))
        check_violation(error, "chat.messages", [])
        assert failure(stub.Generate, pb.GenerateRequest(chat=chat)).details() == error.details()


def test_an_empty_text_is_an_empty_prompt(pb, stub):
    error = failure(stub.Generate, pb.GenerateRequest(text=""))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and "text" in error.details()


def test_a_prompt_longer_than_the_context_is_refused(pb, stub):
    message = pb.GenerateRequest()
    message.token_ids.ids.extend([1] * C)
    error = failure(stub.Generate, message)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and str(C) in error.details()


def test_many_violations_arrive_at_once_with_their_fields(pb, stub):
    error = failure(stub.Generate, make(
        pb, "generation_mode: 9 sampling { temperature: 3 top_p: 2 } stop: '' memory { scope: 9 } top_logprobs: 99"))
    for field in ["generation_mode", "temperature", "top_p", "stop", "scope", "top_logprobs"]:
        assert field in error.details()
    fields = {field for field, _ in violations(error)}
    assert {"generation_mode", "sampling.temperature", "sampling.top_p", "memory.scope", "top_logprobs"} <= fields


def test_of_very_many_violations_the_first_are_named_and_the_rest_counted(pb, stub):
    message = pb.GenerateRequest()
    message.token_ids.ids.extend([V] * 5000)
    message.sampling.temperature = 9
    for i in range(16):
        message.stop.append("x" * 300)
    error = failure(stub.Generate, message)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(r"\d+ more", error.details())
    assert len(error.details()) <= 4096


def test_a_refused_call_has_no_initial_metadata_and_a_usable_connection(pb, stub):
    call = stub.Generate(pb.GenerateRequest())
    with pytest.raises(grpc.RpcError):
        next(call)
    assert len(list(stub.Generate(make(pb, "")))) == 3


def test_ids_beyond_the_vocabulary_cannot_be_detokenized(pb, stub):
    error = failure(stub.Detokenize, pb.DetokenizeRequest(ids=[1, V]))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ids[1]" in error.details() and str(V) in error.details()


def test_a_message_over_the_limit_is_refused_and_the_server_lives(pb, stub):
    error = failure(stub.Generate, pb.GenerateRequest(text="x" * (17 << 20)))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.GetModel(pb.GetModelRequest()).vocabulary_size == V
