"""The part of the OpenAPI document that no annotation tells: probes, the ancestor's routes, errors."""

from __future__ import annotations

from typing import Any

_ANCESTOR, _PROBES = "go-redis-job-queue", "probes"


def _answer(about: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": about, "content": content}


def _get(name: str, about: str, tag: str, responses: dict[str, Any], *parameters: dict[str, Any]) -> dict[str, Any]:
    operation = {"operationId": name, "tags": [tag], "summary": about, "responses": responses}
    return {"get": {**operation, "parameters": list(parameters)} if parameters else operation}


_JOB_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_PLAIN_ERROR = _answer("What went wrong.", "PlainError")

FIXED_PATHS: dict[str, Any] = {
    "/healthz": _get("Live", "Whether the process answers", _PROBES, {"200": _answer("It does.", "Health")}),
    "/readyz": _get(
        "Ready",
        "Whether the store answers, and the server does not drain",
        _PROBES,
        {"200": _answer("All is well.", "Health"), "503": _answer("Send work elsewhere.", "Health")},
    ),
    "/jobs": {
        "post": {
            "operationId": "AcceptJob",
            "tags": [_ANCESTOR],
            "summary": "Store one job",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PlainJob"}}},
            },
            "responses": {"202": _answer("The job is stored.", "Accepted"), "default": _PLAIN_ERROR},
        }
    },
    "/jobs/{id}": _get(
        "JobRecord",
        "Where a job is",
        _ANCESTOR,
        {"200": _answer("The job, as text throughout; times in seconds.", "JobRecord"), "default": _PLAIN_ERROR},
        _JOB_ID,
    ),
    "/dlq": _get(
        "DeadLetters",
        "The latest 1,000 dead letters, oldest first",
        _ANCESTOR,
        {"200": _answer("Each with its job as a JSON text.", "DeadLetters"), "default": _PLAIN_ERROR},
    ),
}

_TEXT = {"type": "string"}

FIXED_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "description": "An error as AIP-193 has it.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status", "details"],
                "properties": {
                    "code": {"type": "integer", "description": "The code of HTTP."},
                    "message": {"type": "string", "description": "What is wrong, for people."},
                    "status": {"type": "string", "description": "The name of the code of gRPC."},
                    "details": {
                        "type": "array",
                        "description": "google.rpc.ErrorInfo, and BadRequest, ResourceInfo, PreconditionFailure or "
                        "RetryInfo where they fit.",
                        "items": {"type": "object", "properties": {"@type": _TEXT}, "additionalProperties": True},
                    },
                },
            }
        },
    },
    "Health": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string", "enum": ["ok", "unavailable"]}},
    },
    "PlainError": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
    "PlainJob": {
        "type": "object",
        "required": ["type", "payload"],
        "properties": {
            "type": {"type": "string", "description": "Name of the handler that runs the job."},
            "payload": {"description": "What the handler is given: any JSON value."},
            "scheduled_at": {
                "type": "integer",
                "format": "int64",
                "description": "Seconds since the epoch from which the job may run. 0, or a moment that has passed: at "
                "once.",
            },
        },
        "additionalProperties": False,
    },
    "Accepted": {
        "type": "object",
        "required": ["id", "status"],
        "properties": {"id": _TEXT, "status": {"const": "accepted"}},
    },
    "JobRecord": {
        "type": "object",
        "required": ["status", "created_at", "updated_at", "attempts"],
        "properties": {
            "status": {
                "type": "string",
                "enum": [
                    "scheduled",
                    "queued",
                    "processing",
                    "retrying",
                    "succeeded",
                    "failed",
                    "cancelled",
                    "expired",
                ],
            },
            **dict.fromkeys(
                ("created_at", "scheduled_at", "started_at", "finished_at", "updated_at", "attempts", "last_error"),
                _TEXT,
            ),
        },
    },
    "DeadLetters": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["job"],
            "properties": {
                "job": {"type": "string", "description": "JSON: id, type, payload, attempt, max_attempts, …"}
            },
        },
    },
}
