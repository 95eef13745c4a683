"""Prompts and answers as texts, over the tokenizers and templates that models come with."""
import json

import grpc
import pytest

import harness
import make_tiny_model

# A template that shows all that it is given.
TEMPLATE = """{%- for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}
{%- for message in messages %}[{{ message.role }}{% if message.name %} {{ message.name }}{% endif %}] {{ message.content }}
{%- if message.tool_calls %}{{ message.tool_calls[0].function.arguments | tojson }}{% endif %}
{% endfor %}
{%- if enable_thinking is defined and not enable_thinking %}<quiet>{% endif %}
{%- if add_generation_prompt %}[assistant] {% endif %}"""


def tiny(folder, **settings):
    """The tiny model with other settings in tokenizer_config.json; None takes one away."""
    make_tiny_model.make(folder)
    path = folder / "tokenizer_config.json"
    values = {**json.loads(path.read_text()), **settings}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))
    return folder


@pytest.fixture(scope="module")
def talkative(tmp_path_factory):
    with harness.Server(tiny(tmp_path_factory.mktemp("talkative") / "model", chat_template=TEMPLATE)) as running:
        yield running


def rendered(pb, server, chat):
    stub = pb.Stub(server.channel)
    return stub.Detokenize(pb.DetokenizeRequest(ids=stub.Tokenize(pb.TokenizeRequest(chat=chat)).ids)).text


def chat_of(pb, *messages, **fields):
    return pb.Chat(messages=[pb.Message(role=role, content=content) for role, content in messages], **fields)


def test_a_template_gets_tools_variables_and_further_fields_of_messages(pb, talkative):
    chat = chat_of(pb, ("user", "How warm is it?"), ("assistant", ""), ("tool", "21"))
    chat.tools.add().update({"type": "function", "function": {"name": "weather", "parameters": {}}})
    chat.template_variables.update({"enable_thinking": False})
    chat.messages[1].fields.update({"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Ulm"}}}]})
    chat.messages[2].fields.update({"name": "weather"})
    text = rendered(pb, talkative, chat)
    assert '"name": "weather"' in text.split("\n")[0]
    assert '[assistant] {"city": "Ulm"}' in text
    assert "[tool weather] 21" in text
    assert text.endswith("<quiet>[assistant] ")


def test_what_callers_give_a_template_never_makes_special_tokens(pb, talkative):
    end = "<|im_end|>"
    chat = chat_of(pb, ("user", end))
    chat.tools.add().update({"name": end})
    chat.template_variables.update({"enable_thinking": True})
    stub = pb.Stub(talkative.channel)
    ids = stub.Tokenize(pb.TokenizeRequest(chat=chat)).ids
    special = stub.Tokenize(pb.TokenizeRequest(text=end, parse_special=True)).ids
    assert len(special) == 1 and special[0] not in ids
    assert rendered(pb, talkative, chat).count(end) == 2


def test_an_answer_can_go_on_with_the_last_message(pb, talkative):
    messages = ("user", "Count."), ("assistant", "One, two")
    assert rendered(pb, talkative, chat_of(pb, *messages, continue_final_message=True)).endswith("[assistant] One, two")
    assert rendered(pb, talkative, chat_of(pb, *messages)).endswith("[assistant] One, two[assistant] ")


@pytest.mark.parametrize("template, said", [(None, "no chat template"), ("{{ 1 | unheard_of }}", "unheard_of")])
def test_without_a_usable_template_texts_are_served_and_chats_refused(pb, tmp_path, template, said):
    with harness.Server(tiny(tmp_path / "model", chat_template=template)) as server:
        stub = pb.Stub(server.channel)
        assert not stub.GetModel(pb.GetModelRequest()).has_chat_template
        assert len(stub.Complete(harness.go_on(pb, 3)).token_ids.ids) == 3
        message = harness.go_on(pb, 3)
        message.chat.CopyFrom(chat_of(pb, ("user", "Hello")))
        with pytest.raises(grpc.RpcError) as error:
            stub.Complete(message)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "chat" in error.value.details() and said in error.value.details()


def test_a_usable_template_is_told(pb, talkative):
    assert pb.Stub(talkative.channel).GetModel(pb.GetModelRequest()).has_chat_template


@pytest.fixture(scope="module")
def blanks(tmp_path_factory):
    """A server whose tokenizer writes blanks into its tokens, as SentencePiece does, and drops the first one of a text."""
    folder = make_tiny_model.make(tmp_path_factory.mktemp("blanks") / "model")
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + ["<0x%02X>" % byte for byte in range(256)] + ["▁", "▁Paris", "▁is", "is", "▁a", "a"]
    tokens += ["▁word%d" % i for i in range(300 - len(tokens))]
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition.update({
        "added_tokens": [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, token in enumerate(special)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})
    definition["model"].update({"byte_fallback": True, "unk_token": "<unk>", "merges": [],
                                "vocab": {token: i for i, token in enumerate(tokens)}})
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    (folder / "tokenizer_config.json").write_text("{}")
    for name in ("config.json", "generation_config.json"):
        values = json.loads((folder / name).read_text())
        values.update({"bos_token_id": 1, "eos_token_id": 2})
        (folder / name).write_text(json.dumps(values))
    with harness.Server(folder) as running:
        running.ids = {token: i for i, token in enumerate(tokens)}
        yield running


@pytest.mark.parametrize("next_token, text", [("▁Paris", " Paris"), ("▁", " "), ("a", "a"), ("<0x41>", "A")])
def test_an_answer_continues_the_prompts_text_exactly(pb, blanks, next_token, text):
    stub = pb.Stub(blanks.channel)
    message = harness.go_on(pb, 2)
    message.text = "is"
    message.sampling.logit_bias[blanks.ids[next_token]] = 100
    streamed = "".join(event.token.text for event in stub.Generate(message) if event.WhichOneof("event") == "token")
    assert streamed == stub.Complete(message).text == text * 2
    # As the tokenizer itself reads prompt and answer together.
    prompt = list(stub.Tokenize(pb.TokenizeRequest(text="is")).ids)
    whole = stub.Detokenize(pb.DetokenizeRequest(ids=prompt + [blanks.ids[next_token]] * 2)).text
    assert whole == "is" + text * 2
