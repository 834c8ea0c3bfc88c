"""The command `headrace`."""


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from headrace.cli._app import app  # noqa: PLC0415 - `import headrace.cli` alone needs none of it

    app(prog_name="headrace")
