"""The reference interpreter: jinja2 set up as `transformers` sets it up for chat templates."""
import datetime
import json

NOW = 1_700_000_000  # 14 November 2023


def environment():
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller):
            return caller()

    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(NOW).strftime(form)
    return made


def render(source, variables, cache={}):
    """The text, or None where jinja2 refuses: it raises many kinds, and any of them is a refusal."""
    if "environment" not in cache:
        cache["environment"] = environment()
    try:
        if cache.get("source") != source:
            cache["source"], cache["template"] = source, None
            cache["template"] = cache["environment"].from_string(source)
        if cache["template"] is None:
            return None
        text = cache["template"].render(**variables)
        text.encode("utf-8")
        return text
    except Exception:
        return None
