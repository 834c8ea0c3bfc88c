"""`python -m headrace_server.healthcheck [HOST:PORT]`: exit code 0 when the server on this machine serves jobs.

It asks the health service for JobService, which is SERVING only while Valkey answers. Without an argument it asks at
the port of HEADRACE_LISTEN, on the loopback address. Meant for containers, where no grpc_health_probe is at hand.
"""

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SERVICE = "headrace.v1.JobService"
_TIMEOUT = 3.0  # seconds


def main() -> int:
    """Ask once and say what was heard: 0 for SERVING, 1 for anything else."""
    port = os.environ.get("HEADRACE_LISTEN", "127.0.0.1:50051").rpartition(":")[2]
    address = sys.argv[1] if len(sys.argv) > 1 else f"127.0.0.1:{port}"
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=_SERVICE)
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT).status
        except grpc.RpcError as error:
            print(f"{address}: {error.code().name}", file=sys.stderr)  # noqa: T201  a command's answer
            return 1
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(status))  # noqa: T201  a command's answer
    return int(status != health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())
