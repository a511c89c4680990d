"""The interface's documentation as one plain page. Swagger's own page would be loaded from another site, and this one works offline."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; color: #181a1e; background: #fff; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin: 2rem 0 .3rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; } h3 code { font-size: 17px; }
pre { background: #f4f4f2; padding: .7rem; overflow-x: auto; border-radius: 4px; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; }
@media (prefers-color-scheme: dark) { body { color: #e8e8e6; background: #17181b; } pre { background: #24262b; } a { color: #8ab4f8; } }
"""
ERRORS = (
    ("400", "bad_request", "The request cannot be read."),
    ("400", "host_refused", "The server was asked by a name that it does not answer to."),
    ("401", "token_needed", "Send Authorization: Bearer TOKEN."), ("403", "origin_refused", "A page of another site asked."),
    ("404", "not_found", "There is nothing at this address."),
    ("404", "reading_unknown", "The reading expired, made room for others or never was: upload again."),
    ("405", "method_not_allowed", "The address does not take this verb."), ("413", "upload_too_large", "Too many bytes."),
    ("413", "picture_too_large", "Too many pixels."), ("413", "too_many_labels", "Too many labels and synonyms."),
    ("415", "wrong_content_type", "Neither a form nor a picture."), ("422", "bad_image", "Not a picture, or a broken one."),
    ("422", "bad_labels", "Labels that cannot be used."), ("422", "bad_settings", "A method, format or number that cannot be used."),
    ("422", "bad_request", "A field that is missing, misspelt or of the wrong kind."),
    ("422", "model_failed", "The model made nothing of the picture."),
    ("429", "busy", "Ask again after Retry-After seconds."), ("500", "internal", "A fault of the server, which has logged it."),
    ("503", "loading", "The model is being loaded."), ("503", "shutting_down", "The server is about to end."),
    ("504", "timeout", "It took too long."),
)  # fmt: skip
VERBS = ("get", "post", "put", "patch", "delete")


def write_docs(openapi: Mapping[str, Any]) -> str:
    """An OpenAPI description as HTML: for each address its fields, an example of its body, and its answers."""
    title, about = escape(openapi["info"]["title"]), escape(openapi["info"]["description"])
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: interface</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>',
        f"<h1>{title} {escape(openapi['info']['version'])}</h1><p>{about}</p>",
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a>. The page: <a href="/">/</a>.</p>',
        f"<h2>Errors</h2><table><tr><th>status</th><th>code</th><th></th></tr>{''.join(map(_error, ERRORS))}</table>",
    ]
    for tag in openapi.get("tags", ()):
        routes = list(_routes(openapi, tag["name"]))
        if routes:
            parts.append(f"<h2>{escape(tag['name'].capitalize())}</h2><p>{escape(tag.get('description', ''))}</p>")
            parts += [_route(openapi, verb, path, route) for verb, path, route in routes]
    return "\n".join([*parts, "</body></html>"])


def _error(row: tuple[str, str, str]) -> str:
    status, code, meaning = row
    return f"<tr><td>{status}</td><td><code>{code}</code></td><td>{escape(meaning)}</td></tr>"


def _routes(openapi: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, verbs in openapi["paths"].items():
        for verb in VERBS:
            if verb in verbs and tag in verbs[verb].get("tags", ()):
                yield verb, path, verbs[verb]


def _route(openapi: Mapping[str, Any], verb: str, path: str, route: Mapping[str, Any]) -> str:
    """One address."""
    parts = [f"<h3><code>{verb.upper()} {escape(path)}</code></h3>", f"<p>{escape(route.get('description', route.get('summary', '')))}</p>"]
    rows = [_row(openapi, one["name"], one["schema"], one.get("required", False), one["in"]) for one in route.get("parameters", ())]
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        schema = _resolve(openapi, content.get("schema", {}))
        required = schema.get("required", ())
        rows += [_row(openapi, name, field, name in required, kind) for name, field in schema.get("properties", {}).items()]
        if kind == "application/json":
            example = {name: _example(openapi, field) for name, field in schema.get("properties", {}).items()}
            parts.append(f"<pre>{escape(json.dumps(example, indent=1, ensure_ascii=False))}</pre>")
    if rows:
        parts.append(f"<table><tr><th>field</th><th>type</th><th>where</th><th></th></tr>{''.join(rows)}</table>")
    return "\n".join([*parts, _answers(openapi, route)])


def _answers(openapi: Mapping[str, Any], route: Mapping[str, Any]) -> str:
    """What an address answers: the fields of a success, the numbers of errors."""
    good = [(code, answer.get("content", {})) for code, answer in route["responses"].items() if code.startswith("2")]
    lines = []
    for code, contents in good:
        fields = [
            f"<code>{escape(name)}</code>"
            for content in contents.values() for name in _resolve(openapi, content.get("schema", {})).get("properties", {})
        ]  # fmt: skip
        kinds = " or ".join(escape(kind) for kind in contents) or "nothing"
        lines.append(f"<p>Answers {code} with {kinds}{': ' + ', '.join(fields) if fields else ''}.")
    bad = sorted(code for code in route["responses"] if not code.startswith("2"))
    return "".join(lines) + (f" Errors: {', '.join(bad)}.</p>" if bad else "</p>")


def _row(openapi: Mapping[str, Any], name: str, schema: Mapping[str, Any], required: bool, where: str) -> str:
    schema = _resolve(openapi, schema)
    needed = " (needed)" if required else ""
    cells = (f"<code>{escape(name)}</code>{needed}", escape(_type(openapi, schema)), escape(where), escape(schema.get("description", "")))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _type(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    schema = _resolve(openapi, schema)
    if "anyOf" in schema:
        return " or ".join(_type(openapi, one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {_type(openapi, schema.get('items', {}))}"
    return str(schema.get("format", schema.get("type", "any")))


def _example(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    schema = _resolve(openapi, schema)
    return schema["examples"][0] if schema.get("examples") else schema.get("default")


def _resolve(openapi: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference means, with what stands beside it."""
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rpartition("/")[2]
    return {**openapi["components"]["schemas"][name], **{key: value for key, value in schema.items() if key != "$ref"}}
