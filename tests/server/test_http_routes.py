"""Which method an HTTP request means: templates, verbs, and what the contract itself is annotated with."""

from collections import Counter

import pytest
from google.protobuf import descriptor_pool

from headrace_server.app import SERVICES
from headrace_server.http.refusals import NoSuchRoute, WrongMethod
from headrace_server.http.routes import Routes, compiled

ROUTES = Routes(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_of_the_contract_has_a_route(service: str):
    """Whatever can be called over gRPC can be called over HTTP, but for streams of requests."""
    methods = descriptor_pool.Default().FindServiceByName(service).methods
    routed = {route.method.full_name for route in ROUTES.all}
    assert [one.name for one in methods if not one.client_streaming and one.full_name not in routed] == []


def test_no_route_is_there_twice():
    """No two routes have the same verb and path, and all of them are under /v1/."""
    shapes = Counter((route.verb, route.pattern.pattern) for route in ROUTES.all)
    assert [shape for shape, count in shapes.items() if count > 1] == []
    assert [route.template for route in ROUTES.all if not route.template.startswith("/v1/")] == []


def test_every_route_names_fields_that_exist():
    """Fields in paths, bodies and answers are fields of the method's messages."""
    for route in ROUTES.all:
        asked, answered = route.method.input_type.fields_by_name, route.method.output_type.fields_by_name
        assert {name.partition(".")[0] for name in route.fields} <= set(asked), route.template
        assert route.body in {"", "*"} or route.body in asked, route.template
        assert not route.response_body or route.response_body in answered, route.template
        assert route.verb != "GET" or not route.body, route.template


@pytest.mark.parametrize(
    ("template", "path", "fields"),
    [
        ("/v1/jobs", "/v1/jobs", {}),
        ("/v1/jobs/{job_id}", "/v1/jobs/A", {"job_id": "A"}),
        ("/v1/jobs/{job_id}", "/v1/jobs/", None),
        ("/v1/jobs/{job_id}", "/v1/jobs/A/B", None),
        ("/v1/jobs/{job_id}", "/v1/jobs/A:watch", None),
        ("/v1/jobs/{job_id}:watch", "/v1/jobs/A:watch", {"job_id": "A"}),
        ("/v1/jobs/{job_id}:watch", "/v1/jobs/A", None),
        ("/v1/{name=queues/*}", "/v1/queues/q.1", {"name": "queues/q.1"}),
        ("/v1/{name=queues/*/jobs/**}:run", "/v1/queues/q/jobs/a/b:run", {"name": "queues/q/jobs/a/b"}),
        ("/v1/{job.queue}/x/*", "/v1/q/x/y", {"job.queue": "q"}),
        ("/v1/a.b", "/v1/aXb", None),
    ],
)
def test_templates(template: str, path: str, fields: dict[str, str] | None):
    """Templates of google.api.http match what they should, and nothing else."""
    names, pattern = compiled(template)
    found = pattern.fullmatch(path)
    assert (dict(zip(names, found.groups(), strict=True)) if found else None) == fields


def test_find():
    """A route is found by verb and path; its fields are unquoted."""
    route, fields = ROUTES.find("GET", "/v1/jobs/%41%2FB%3A")
    assert (route.method.name, fields) == ("GetJob", {"job_id": "A/B:"})
    assert ROUTES.find("HEAD", "/v1/jobs/A")[0].method.name == "GetJob"


def test_not_found():
    """Another path is no route; another verb names those that there are."""
    with pytest.raises(NoSuchRoute, match="'/v1/nope'"):
        ROUTES.find("GET", "/v1/nope")
    with pytest.raises(WrongMethod) as caught:
        ROUTES.find("HEAD", "/v1/jobs/A:watch")
    assert caught.value.headers() == {"Allow": "GET"}
