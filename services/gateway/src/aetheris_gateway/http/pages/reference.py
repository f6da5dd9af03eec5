"""The page that documents the API, made from its OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import HTMLResponse

from aetheris_gateway.http.pages.rendering import rendered


def reference(openapi: Mapping[str, Any]) -> HTMLResponse:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation["summary"],
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "body": _body_fields(operation),
                    "answer": _answer_fields(operation, openapi["components"]["schemas"]),
                }
            )
    return rendered("docs.html", groups=groups, title=openapi["info"]["title"], about=openapi["info"]["description"])


def _body_fields(operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = operation.get("requestBody", {}).get("content", {})
    return _fields(content.get("application/json", {}).get("schema", {}))


def _answer_fields(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
    shape = success.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return [field | {"required": False} for field in _fields(schemas.get(shape.rpartition("/")[2], {}))]


def _fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {"name": name, "about": field.get("description", ""), "kind": _kind(field), "required": name in required}
        for name, field in schema.get("properties", {}).items()
    ]


def _kind(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    if field.get("format") == "date-time":
        return "date and time"
    return str(field.get("type", "any JSON"))
