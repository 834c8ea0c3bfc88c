"""How a handler wants to be called: (payload), (payload, ctx), (ctx) or (). Decided once, where it is registered."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace_worker._payload import BadAnnotation, Decode, decoder
from headrace_worker.context import Context

CONTEXT_NAMES = ("ctx", "context")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_ALLOWED = "a handler takes (payload), (payload, ctx), (ctx) or ()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a handler's parameters are."""

    decode: Decode | None
    """Decodes the payload for the handler; None: it does not take the payload."""
    takes_context: bool
    context_first: bool = False

    def arguments(self, payload: bytes, content_type: str, context: Context | None) -> tuple[Any, ...]:
        """Returns what to call the handler with. Raises BadPayload."""
        if self.decode is None:
            return (context,) if self.takes_context else ()
        value = self.decode(payload, content_type)
        if not self.takes_context:
            return (value,)
        return (context, value) if self.context_first else (value, context)


def signature_of(function: Callable[..., Any]) -> Signature:
    """Reads how a handler wants to be called.

    The context is the parameter annotated `Context`, or an unannotated one named `ctx` or `context`; the other one is
    the payload. Further parameters are fine as long as they have defaults.

    Raises:
        TypeError: it cannot be called in any of the four ways; the message says why.
    """
    context_at: list[int] = []
    payload_at: list[int] = []
    decode: Decode | None = None
    for place, parameter in enumerate(_parameters(function)):
        annotation = _resolve(parameter.annotation, parameter.name, function)
        if _is_context(parameter, annotation):
            context_at.append(place)
        elif not payload_at:
            payload_at.append(place)
            decode = _decoder(parameter.name, annotation)
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"what is {parameter.name!r}? {_ALLOWED}; annotate the context with `Context`")
    if len(context_at) > 1:
        raise TypeError(f"it takes the context {len(context_at)} times; {_ALLOWED}")
    if max(context_at + payload_at, default=0) > 1:
        raise TypeError(f"payload and context must be its first two parameters; {_ALLOWED}")
    return Signature(
        decode=decode, takes_context=bool(context_at), context_first=bool(context_at) and context_at[0] == 0
    )


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    found = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in _POSITIONAL:
            found.append(parameter)
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty:
            raise TypeError(f"its keyword-only parameter {parameter.name!r} has no default; {_ALLOWED}")
        elif parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise TypeError(f"it takes {parameter}; {_ALLOWED}")
    return found


def _is_context(parameter: inspect.Parameter, annotation: Any) -> bool:
    if annotation is inspect.Parameter.empty:
        return parameter.name in CONTEXT_NAMES
    return annotation is Context or Context in typing.get_args(annotation)


def _resolve(annotation: Any, name: str, function: Callable[..., Any]) -> Any:
    """Turns an annotation written as a string, or under `from __future__ import annotations`, into what it names."""
    if not isinstance(annotation, str):
        return annotation
    plain = inspect.unwrap(getattr(function, "__func__", function))
    scope = getattr(plain, "__globals__", {})
    holder = type("holder", (), {"__annotations__": {name: annotation}})
    try:
        return typing.get_type_hints(holder, scope, _enclosing(plain), include_extras=True)[name]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise TypeError(
            f"the annotation {annotation!r} of {name!r} cannot be resolved ({error}); "
            "import or define that type at the top of the module, not under TYPE_CHECKING or in a function"
        ) from error


def _enclosing(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the names of enclosing functions that the handler uses; its annotations may name those."""
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):  # no plain function, so there are none; or one of them has no value yet
        return {}


def _decoder(name: str, annotation: Any) -> Decode:
    try:
        return decoder(annotation)
    except BadAnnotation as error:
        raise TypeError(f"no payload can be decoded to the annotation of {name!r}: {error}") from error
