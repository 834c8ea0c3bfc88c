"""The block that `headrace dev` shows once everything is up: what runs where, and what to try."""

import re

from rich.text import Text

from headrace.cli._dev_plan import DEFAULT_LISTEN, DEFAULT_WORKER, Options

_HELLO = """'{"job":{"type":"echo.process","json":{"msg":"hello"},"delay":"3s"}}'"""


def banner(options: Options, *, redis_url: str, allocator: str, seconds: float) -> Text:
    """What runs where, and three commands to try. `allocator` is the embedded Valkey's."""
    own = bool(options.redis_url)
    rows = {
        "server": options.listen,
        "http": f"http://{options.http_listen}" if options.http_listen else "off",
        "worker": options.worker,
        "store": f"{without_password(redis_url)} (yours)"
        if own
        else f"embedded Valkey, {redis_url}, malloc: {allocator}",
        "data": "in your store" if own else f"{options.data.resolve()}, kept for the next start",
    }
    lines = [
        Text(f"\nheadrace is ready ({seconds:.1f} s)", "bold green"),
        *(Text(f"  {name:<8}{value}") for name, value in rows.items()),
        Text("Try in another terminal:", "bold"),
        *(Text(f"  {command}") for command in _commands(options)),
        Text("Ctrl-C stops everything.\n", "bold"),
    ]
    return Text("\n").join(lines)


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    shown = re.sub(r"(?<=//)([^/?#@:]*):[^/?#]*@", r"\1:***@", url)
    return re.sub(r"(?<=sentinel_password=)[^&#]*", "***", shown)


def _commands(options: Options) -> list[str]:
    address = options.listen.replace("127.0.0.1", "localhost")
    server = "" if options.listen == DEFAULT_LISTEN else f" --server {options.listen}"
    if options.worker != DEFAULT_WORKER:
        return [f"headrace{server} dlq list", f"grpcurl -plaintext {address} list", "headrace --help"]
    return [
        f"""headrace{server} enqueue echo.process --json '{{"msg": "hello"}}' --watch""",
        f"grpcurl -plaintext -d {_HELLO} {address} headrace.v1.JobService/Enqueue",
        f"headrace{server} dlq list",
    ]
