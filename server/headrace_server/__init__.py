"""The gRPC server of headrace: it parses, makes one call to the broker, and replies."""

import headrace_broker  # noqa: F401  before all else: it says what to install where only the client is
