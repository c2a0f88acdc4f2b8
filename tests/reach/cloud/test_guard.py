"""The guard of the process: sockets reach this machine only, and what an open departure names."""

from __future__ import annotations

import subprocess
import sys
import textwrap

START = """
import asyncio, socket, threading
from catena.reach.cloud import guard
from catena.reach.cloud.departure import Departure, departing

guard.install()
guard.install()

def refused(do, *given):
    try:
        do(*given)
    except guard.Guarded:
        return True
    except OSError:
        return False
    return False

class Heard:
    def looked_up(self, name): pass

tcp = socket.socket()
tcp.setblocking(False)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
AWAY = ("192.0.2.1", 443)  # RFC 5737: nobody's
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_departure_nothing_is_reached_or_looked_up() -> None:
    assert not run("""
        assert refused(tcp.connect, AWAY) and refused(tcp.connect_ex, AWAY)
        assert refused(udp.sendto, b"x", AWAY) and refused(udp.sendmsg, [b"x"], [], 0, AWAY)
        assert refused(socket.socket(socket.AF_INET6).connect, ("2001:db8::1", 443))
        for name in ("127.0.0.1.example.org", "localhost.example", "example.org"):
            assert refused(socket.create_connection, (name, 80)) and refused(socket.getaddrinfo, name.encode(), 80)
        assert refused(socket.gethostbyname, "example.org") and refused(socket.gethostbyaddr, "example.org")
        assert guard.num_refused == 13, guard.num_refused
    """)


def test_this_machine_is_open() -> None:
    assert not run("""
        made = socket.create_server(("127.0.0.1", 0))
        socket.create_connection(made.getsockname()).close()
        socket.create_connection(("localhost", made.getsockname()[1])).close()
        udp.sendto(b"x", made.getsockname())
        socket.getaddrinfo("192.0.2.1", 443); socket.getaddrinfo(None, 80); socket.getaddrinfo("localhost", 80)
        near, far = socket.socketpair()
        near.send(b"x")
        try: socket.socket(socket.AF_UNIX).connect("/nowhere")
        except FileNotFoundError: pass
        assert not guard.num_refused
    """)


def test_an_open_departure_leads_to_its_own_host_and_only_while_it_lasts() -> None:
    assert not run("""
        way = Departure(Heard(), [("far.example", 443), ("192.0.2.7", 8080)], "")
        with departing(way):
            assert refused(tcp.connect, AWAY) and refused(socket.getaddrinfo, "far.example", 443)
            with guard.looking_up("Far.example"):
                assert not refused(socket.getaddrinfo, "far.example", 443)
            way.resolved("far.example", 443, ["192.0.2.1"])
            assert not refused(tcp.connect, AWAY)
            assert refused(tcp.connect, ("192.0.2.1", 80)) and refused(tcp.connect, ("192.0.2.7", 443))
            there = []
            other = threading.Thread(target=lambda: there.append(refused(tcp.connect, AWAY)))
            other.start(); other.join()
            assert there == [True], "another thread has no leave"
            way.is_over = True
            assert refused(tcp.connect, AWAY)
        assert refused(tcp.connect, AWAY) and refused(socket.getaddrinfo, "far.example", 443)
    """)


def test_asyncio_is_guarded_too() -> None:
    assert not run("""
        async def reach():
            try:
                await asyncio.open_connection("192.0.2.1", 443)
            except guard.Guarded:
                return True
        assert asyncio.run(reach())
    """)
