"""Processor time of a gRPC call that does nothing: grpcio's servers, and the HTTP/2 of the gateway.

One server at a time in a process of its own, the same lean client for all, servers taking turns round by round.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import calls
import lab
import psutil
from predict import free_port

SERVERS = ("ours", "grpcio, asyncio", "grpcio, threads")
CLIENTS = (1, 16, 64)


async def ours(port: int) -> None:
    from catena.core.settings import ReachSettings
    from catena.reach.gateway.grpc.messages import framed
    from catena.reach.gateway.grpc.serving import Door
    from catena.reach.gateway.grpc.status import GOOD_END

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        fields = [(b"content-type", b"application/grpc"), (b"catena-receipt", b"rcpt_0")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": framed([message["body"][5:]], GOOD_END)})

    door = Door(app, ReachSettings())  # type: ignore[arg-type]
    await door.open(port)
    await door.watch()


def handler(work: Any) -> Any:
    import grpc

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(work)

    return Handler()


async def grpcio_asyncio(port: int) -> None:
    import grpc.aio

    async def work(message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("catena-receipt", "rcpt_0"),))
        return message

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler(work),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def grpcio_threads(port: int) -> None:
    import grpc

    def work(message: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("catena-receipt", "rcpt_0"),))
        return message

    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((handler(work),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def serve(name: str, port: int) -> None:
    import uvloop

    if name == "grpcio, threads":
        grpcio_threads(port)
    else:
        uvloop.run(ours(port) if name == "ours" else grpcio_asyncio(port))


async def ask(address: str, num_clients: int, seconds: float) -> int:
    message = calls.question("net", [0.0] * 16)
    until_s, count = time.perf_counter() + seconds, 0

    async def one() -> None:
        nonlocal count
        client = await calls.Client.open(address)
        while time.perf_counter() < until_s:
            await client.ask(message)
            count += 1
        client.close()

    await asyncio.gather(*[one() for _ in range(num_clients)])
    return count


def measure(name: str, seconds: float) -> dict[str, float]:
    """Microseconds of processor time per call, by the number of clients."""
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, "--serve", name, "--port", str(port)])
    try:
        for _ in range(200):
            try:
                asyncio.run(ask(f"127.0.0.1:{port}", 1, 0.2))
                break
            except OSError:
                time.sleep(0.05)
        found: dict[str, float] = {}
        watched = psutil.Process(process.pid)
        for num_clients in CLIENTS:
            before = watched.cpu_times()
            count = asyncio.run(ask(f"127.0.0.1:{port}", num_clients, seconds))
            after = watched.cpu_times()
            found[str(num_clients)] = (after.user + after.system - before.user - before.system) / count * 1e6
        return found
    finally:
        process.kill()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--serve")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
        return
    rounds = [{name: measure(name, options.seconds) for name in SERVERS} for _ in range(options.rounds)]
    result: dict[str, Any] = {"rounds": options.rounds, "seconds": options.seconds}
    for name in SERVERS:
        result[name] = {
            f"cpu_us_{count}_clients": lab.median([one[name][str(count)] for one in rounds]) for count in CLIENTS
        }
        if name != "ours":
            result[name] |= {
                f"times_ours_{count}_clients": lab.median(
                    [one[name][str(count)] / one["ours"][str(count)] for one in rounds]
                )
                for count in CLIENTS
            }
    lab.save("call_choice", result)


if __name__ == "__main__":
    main()
