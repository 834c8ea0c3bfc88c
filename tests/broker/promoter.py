"""A process that promotes the queue `default` without a pause, and says so whenever it has moved jobs.

Usage: python promoter.py URL NAMESPACE
"""

import asyncio
import sys

from headrace_broker import Broker


async def main(url: str, namespace: str) -> None:
    """Promotes until it is killed."""
    async with Broker(url=url, namespace=namespace) as broker:
        await broker.ping()
        sys.stdout.write("ready\n")
        while True:
            promoted = await broker.promote(shard=0, queues=["default"])
            if promoted.moved:
                sys.stdout.write(f"moved {promoted.moved}\n")


asyncio.run(main(*sys.argv[1:]))
