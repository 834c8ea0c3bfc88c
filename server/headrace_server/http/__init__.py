"""HTTP/JSON on a port of its own, from the same contract: each call becomes one gRPC call to this very server.

| module | its part |
|---|---|
| server.py | the port: binds, serves, drains |
| app.py | what stands around every request: the log, the guard, CORS, the way to the route |
| routes.py | which method of the contract an HTTP request means, by its google.api.http annotation |
| transcoder.py | one request: JSON → message → gRPC → message → JSON, or a stream of them |
| bodies.py, request.py, json_check.py | from a request to a message, with every problem named |
| answers.py, streams.py, refusals.py | from messages and errors to answers |
| loopback.py | the gRPC call, through a socket that nobody else can reach |
| guard.py, protocol.py | who may call, and how slowly |
| ancestor.py | the routes of the REST queue that headrace descends from, for those who come from there |
| openapi.py | the same contract as an OpenAPI document |
"""
