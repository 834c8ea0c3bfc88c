"""What `import headrace` offers, and what it costs."""

import subprocess
import sys
from importlib.resources import files

import headrace


def test_all_names_what_is_public() -> None:
    """`__all__` is sorted and holds exactly the public names that the package defines."""
    submodules = {"aio", "cli", "client", "errors", "models", "v1"}
    imported = {"TYPE_CHECKING", "annotations", "importlib"}
    public = {name for name in dir(headrace) if not name.startswith("_")} - submodules - imported
    assert headrace.__all__ == sorted(public)


def test_every_public_name_can_be_had() -> None:
    """Each name of `__all__` can be imported, those that are loaded late included."""
    assert [name for name in headrace.__all__ if not hasattr(headrace, name)] == []


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist fails as in any module."""
    assert not hasattr(headrace, "Kient")


def test_package_is_typed() -> None:
    """Type checkers find the marker."""
    assert files("headrace").joinpath("py.typed").is_file()


def _modules_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_client_needs_nothing_of_the_other_rooms() -> None:
    """The clients and the whole command line but `dev` load no Redis client and none of the other rooms."""
    loaded = _modules_after("import headrace\nheadrace.Client, headrace.AsyncClient\nimport headrace.cli._app")
    foreign = {"redis", "headrace_broker", "headrace_server", "headrace_worker", "pydantic", "structlog"}
    assert loaded & foreign == set()


def test_importing_the_package_does_not_import_grpc() -> None:
    """`import headrace` and the command line start without gRPC; only a client loads it."""
    assert "grpc" not in _modules_after("import headrace\nimport headrace.cli._app")
    assert "grpc" in _modules_after("import headrace\nheadrace.AsyncClient")
