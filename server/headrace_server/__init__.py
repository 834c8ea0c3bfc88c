"""The gRPC server of headrace: it parses, makes one call to the broker, and replies."""
