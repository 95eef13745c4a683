"""What the templates are given: conversations, tools and variables, as clients give them."""
import itertools

CONTENTS = ["Hello.", "  two lines,\n\twith blanks \n", "", "Grüße, 世界 👩‍🚀 e\u0301", "{{ 1 + 1 }} {% if x %} {# no #}",
            "<|im_end|> </s> <end_of_turn> <think> </think>", "a 'quoted' \"text\" \\ back", "<think>\nplan\n</think>\n\nanswer"]
TURNS = [["user"], ["system", "user"], ["user", "assistant"], ["user", "assistant", "user"], ["system", "user", "assistant", "user"],
         ["user", "assistant", "user", "assistant", "user"], ["assistant"], ["user", "user"], ["system"],
         ["system", "user", "assistant", "user", "assistant", "user", "assistant"], ["developer", "user"], ["narrator"]]
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Says what the weather is.\nIn <one> place.",
     "parameters": {"type": "object", "properties": {
         "place": {"type": "string", "description": "City & country"}, "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
         "days": {"type": "array", "items": {"type": "integer", "minimum": 0}}, "deep": {"type": "object", "properties": {
             "x": {"type": ["number", "null"]}}}}, "required": ["place"]},
     "return": {"type": "string", "description": "Words"}}},
    {"type": "function", "function": {"name": "now", "description": "Says the time: 世界.", "parameters": {"type": "object", "properties": {}}}},
]


def say(role, content, **fields):
    return {"role": role, "content": content, **fields}


def call(name, arguments, id):
    return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}


def plain():
    """Roles in every order, each with several contents."""
    for roles in TURNS:
        for first in range(0, len(CONTENTS), 2):
            words = itertools.cycle(CONTENTS[first:] + CONTENTS[:first])
            yield [say(role, next(words)) for role in roles]


def with_tools():
    ask = [say("system", "Be brief."), say("user", "Weather in Köln?")]
    weather = {"place": "Köln", "days": [1, 2], "deep": {"x": None}, "unit": "C", "sure": True, "by": 1.5}
    calls = say("assistant", "", tool_calls=[call("get_weather", weather, "call00001")])
    thought = say("assistant", "I look.", reasoning_content="They ask\nfor weather.", tool_calls=[call("now", {}, "abcdefghi")])
    two = say("assistant", "", tool_calls=[call("get_weather", weather, "call00001"), call("now", {}, "call00002")])
    answer = say("tool", "{\"sky\": \"grey\"}", tool_call_id="call00001", name="get_weather")
    other = say("tool", "12:00", tool_call_id="call00002", name="now")
    yield ask
    yield ask[1:]
    yield ask + [calls]
    yield ask + [calls, answer]
    yield ask[1:] + [calls, answer, say("assistant", "It is grey.")]
    yield ask + [two, answer, other]
    yield ask + [two, answer, other, say("assistant", "Grey, at noon.", reasoning_content="Both are there."), say("user", "Thanks!")]
    yield ask + [thought, say("tool", "12:00", tool_call_id="abcdefghi", name="now"), say("assistant", "Noon."), say("user", "And then?")]
    yield ask + [dict(calls, content=None), answer]
    yield ask + [say("assistant", None, tool_calls=[call("get_weather", "{\"place\": \"Köln\"}", "call00001")]), answer]
    yield [say("user", [{"type": "text", "text": "In parts. "}, {"type": "text", "text": "Two."}])]
    yield ask[1:] + [say("assistant", "a", reasoning_content="r"), say("user", "b", name="Ann"), say("assistant", "c")]


def variables():
    """(messages, the other variables) of every case."""
    base = {"tools": None, "documents": None}
    for messages in plain():
        for add in (True, False):
            yield messages, {**base, "add_generation_prompt": add}
    options = [{}, {"enable_thinking": True}, {"enable_thinking": False}, {"reasoning_effort": "high", "thinking": True},
               {"date_string": "26 Jul 2024", "tools_in_user_message": False, "builtin_tools": ["brave_search"]},
               {"add_generation_prompt": False}]
    for messages in with_tools():
        for tools, some in ((None, options[:2]), (TOOLS, options), (TOOLS[1:], options[:1]), ([], options[:1])):
            for option in some:
                yield messages, {**base, "add_generation_prompt": True, "tools": tools, **option}
    documents = [{"title": "One", "text": "First."}, {"title": "Zwei", "text": "Zweites\nBlatt.", "doc_id": 2}]
    yield [say("user", "What do they say?")], {**base, "add_generation_prompt": True, "documents": documents}
    yield [say("user", "What do they say?")], {"add_generation_prompt": True}
