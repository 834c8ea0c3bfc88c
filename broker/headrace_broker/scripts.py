"""The Lua scripts of lua/, one for each transition, ready to be called by their file's name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from headrace_broker.store import Client

PRELUDE = "_prelude"


@dataclass(frozen=True, slots=True)
class Script:
    """One script, as the store is given it."""

    name: str
    text: str
    sha: str

    async def __call__(self, redis: Client, key: str, *arguments: str | bytes | float) -> Any:
        """Runs the script on the shard that `key` names, and teaches it to the store where it is not known yet.

        Every script may be repeated with the same arguments, so the second try cannot do harm.
        """
        try:
            return await redis.evalsha(self.sha, 1, key, *arguments)
        except NoScriptError:
            return await redis.eval(self.text, 1, key, *arguments)


def source(name: str) -> str:
    """Returns the text of lua/NAME.lua."""
    return (files("headrace_broker") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def names() -> list[str]:
    """Returns the names of all scripts."""
    found = (entry.name.removesuffix(".lua") for entry in (files("headrace_broker") / "lua").iterdir())
    return sorted(name for name in found if not name.startswith("_"))


def load(name: str, *, shebang: bool = True) -> Script:
    """Returns a script with the prelude after its first line; `shebang=False` leaves out `#!lua` for fakeredis."""
    first, _, rest = source(name).partition("\n")
    text = "\n".join([first] * shebang + [source(PRELUDE), rest])
    return Script(name=name, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def load_all(*, shebang: bool = True) -> dict[str, Script]:
    """Returns all scripts by name."""
    return {name: load(name, shebang=shebang) for name in names()}
