"""What grpc is told about limits, and why. gRPC's own defaults leave almost everything open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace_server.settings import ServerSettings

METADATA_BYTES = 8 * 1024
HANDSHAKE_MS = 10_000
LONGEST_KEEPALIVE_TIMEOUT_MS = 20_000
SHORTEST_PING_MS = 20_000
AGE_GRACE_MS = 60_000


def channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """The options of the server's connections."""
    ms = 1_000
    sign_of_life_within = min(int(settings.keepalive * ms), LONGEST_KEEPALIVE_TIMEOUT_MS)
    return [
        # A second server on the same port must fail, not silently take a part of the connections.
        ("grpc.so_reuseport", 0),
        # A whole batch must fit; what is larger is refused before it is read into memory.
        ("grpc.max_receive_message_length", settings.max_message),
        ("grpc.max_send_message_length", settings.max_message),
        # Between the soft and the hard limit grpc refuses at random; one number makes it exact.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        # Beyond this number calls wait in the client without a word, until their deadline. So it lies above what all
        # the quotas together admit: those answer RESOURCE_EXHAUSTED.
        ("grpc.max_concurrent_streams", concurrent_calls(settings) + 100),
        # Sockets and memory are finite, and a client that opens a connection for each call would take them all.
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # A peer that connects and says nothing holds one of those connections; grpc waits 2 minutes for it.
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        # A peer that vanished without a word is noticed, and its watchers' seats are free again.
        ("grpc.keepalive_time_ms", int(settings.keepalive * ms)),
        ("grpc.keepalive_timeout_ms", sign_of_life_within),
        # The one that counts: grpc (1.85) waits this long for the answer to a ping, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", sign_of_life_within),
        # Clients may look for us in the same way, even without a call, but no more often than this (the name with
        # `recv_` in it, as in C++, is silently ignored here).
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", SHORTEST_PING_MS),
        ("grpc.http2.max_ping_strikes", 2),
        # Clients find a new server only with a new connection. A watch ends in order, by KIND_GOING_AWAY, at its
        # own age, and the connection waits for that.
        ("grpc.max_connection_idle_ms", int(settings.connection_idle * ms)),
        ("grpc.max_connection_age_ms", int(settings.connection_age * ms)),
        ("grpc.max_connection_age_grace_ms", int(settings.watch_age * ms) + AGE_GRACE_MS),
    ]


def concurrent_calls(settings: ServerSettings) -> int:
    """Calls that the whole server runs at a time. Watchers count too, so their quota is added, not shared."""
    return settings.max_watchers + settings.max_calls
