#!/usr/bin/env python3
"""Compares the tokenizer with the ids that llama.cpp expects of its own vocabularies.

    vocabulary_test.py PATH/TO/tokenize_lines [name ...]

The vocabularies come with PyPI's llama-cpp-python as GGUF files; of most of them there are also texts (.inp) and their ids
(.out), without special tokens. The others have to load, and to give back what they encode.
"""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import oracle

SEPARATOR = "\n__ggml_vocab_test__\n"
NAMES = {"model": "model", "pre": "pre", "tokens": "tokens", "token_types": "token_type", "merges": "merges",
         "scores": "scores", "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id",
         "unknown_token_id": "unknown_token_id", "add_bos_token": "add_bos_token", "add_eos_token": "add_eos_token",
         "add_space_prefix": "add_space_prefix", "remove_extra_whitespaces": "remove_extra_whitespaces",
         "precompiled_charsmap": "precompiled_charsmap"}
LOSSLESS = {"gpt2", "llama", "gemma4"}  # models that give back every text


def ask(driver, vocabulary, texts, scratch):
    path = scratch / "vocabulary.json"
    path.write_text(json.dumps(vocabulary))
    requests = "".join(json.dumps({"segments": [[text, False]], "add_special": False}) + "\n" for text in texts)
    answers = subprocess.run([driver, "--gguf", str(path)], input=requests, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in answers.split("\n") if line]


def main(driver, only):
    scratch = oracle.CACHE / "tokenizers" / "vocabulary-scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    files = sorted(oracle.llama_cpp_models().glob("ggml-vocab-*.gguf"))
    assert len(files) == 19, len(files)
    lines = json.loads((pathlib.Path(__file__).parent / "fixtures" / "lines.json").read_text())
    compared = failed = 0
    for path in files:
        if only and path.stem.removeprefix("ggml-vocab-") not in only:
            continue
        fields = oracle.tokenizer_fields(path)
        vocabulary = {ours: fields[f"tokenizer.ggml.{key}"] for ours, key in NAMES.items() if f"tokenizer.ggml.{key}" in fields}
        texts, wanted = [], []
        if (inputs := path.with_name(path.name + ".inp")).exists():
            texts = inputs.read_text(encoding="utf-8").split(SEPARATOR)
            outputs = path.with_name(path.name + ".out").read_text().split("\n")
            wanted = [[int(i) for i in line.split()] for line in outputs][: len(texts)]
        bad = 0
        answers = ask(driver, vocabulary, texts + lines, scratch)
        for text, ids, answer in zip(texts, wanted, answers):
            compared += 1
            if answer["ids"] != ids:
                bad += 1
                print(f"{path.stem}: {text!r}: {answer['ids']} instead of {ids}")
        if vocabulary["model"] in LOSSLESS:
            for text, answer in zip(lines, answers[len(texts):]):
                if "qwen" in vocabulary.get("pre", "") or any(t in text for t in "<[▁\x0b"):
                    continue  # composed marks, added tokens, spaces by another name, a byte that Falcon lacks
                if answer["plain"] != text:
                    bad += 1
                    print(f"{path.stem}: {text!r} comes back as {answer['plain']!r}")
        failed += bad
        print(f"{path.stem}: model {vocabulary['model']}, split {vocabulary.get('pre')}, {len(texts)} texts, {bad} failed", flush=True)
    print(f"{compared} compared, {failed} failed")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    oracle.enter_venv()
    sys.exit(main(sys.argv[1], set(sys.argv[2:])))
