"""Every way of the proxy to misbehave, over real sockets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faultproxy import BOTH, DOWN, UP, Direction, FaultProxy

LONG_SECONDS = 10.0
SHORT_SECONDS = 0.3  # for what must not happen: silence cannot be awaited


class EchoServer:
    """Sends back what comes, and ends its side when the client has."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.received = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(peer,), daemon=True).start()

    def _echo(self, peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(65_536):
                    self.received += data
                    peer.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with closing(EchoServer()) as server:
        yield server


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo.port, seed=1) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    """A connection on which one byte has already gone both ways."""
    with connected(proxy) as client:
        yield client


def connected(proxy: FaultProxy, *, ready: bool = True) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=LONG_SECONDS)
    if ready:
        client.sendall(b"!")
        assert receive(client, 1) == b"!"
    return client


def receive(client: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, or fewer if the connection ends in order."""
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def silent(client: socket.socket) -> bool:
    client.settimeout(SHORT_SECONDS)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(LONG_SECONDS)
    return False


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_bytes_pass_in_both_directions_and_are_counted(proxy: FaultProxy, client: socket.socket) -> None:
    data = bytes(range(256)) * 4_000
    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
    assert receive(client, len(data)) == data
    counters = proxy.counters()
    assert (counters.accepted, counters.open) == (1, 1)
    assert counters.bytes_up == counters.bytes_down == len(data) + 1


def test_the_end_of_one_side_is_passed_on_and_the_other_side_may_still_send(
    proxy: FaultProxy, client: socket.socket
) -> None:
    client.sendall(b"last words")
    client.shutdown(socket.SHUT_WR)
    assert receive(client, 100) == b"last words"
    eventually(lambda: proxy.counters().open == 0)


@pytest.mark.parametrize("direction", [UP, DOWN])
def test_a_delay_holds_bytes_back_and_keeps_their_order(
    proxy: FaultProxy, client: socket.socket, direction: Direction
) -> None:
    proxy.delay(0.2, 0.1, direction)
    started = time.monotonic()
    for number in range(20):
        client.sendall(bytes((number,)))
    assert receive(client, 20) == bytes(range(20))
    assert time.monotonic() - started >= 0.2
    proxy.heal()
    client.sendall(b"now")
    assert receive(client, 3) == b"now"


@pytest.mark.parametrize("direction", [UP, DOWN, BOTH])
def test_what_is_dropped_waits_without_a_close_and_goes_on_later(
    proxy: FaultProxy, client: socket.socket, echo: EchoServer, direction: Direction
) -> None:
    proxy.drop(direction)
    client.sendall(b"hello")
    assert silent(client)
    assert (bytes(echo.received) == b"!hello") == (direction == DOWN)
    assert proxy.counters().open == 1
    proxy.heal()
    assert receive(client, 5) == b"hello"


def test_a_connection_that_lost_bytes_is_reset_when_the_proxy_heals(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.drop(UP, discard=True)
    client.sendall(b"lost")
    assert silent(client)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        receive(client, 1)
    with connected(proxy) as other:
        other.sendall(b"fine")
        assert receive(other, 4) == b"fine"


def test_a_new_connection_is_dropped_too(proxy: FaultProxy) -> None:
    proxy.drop()
    with connected(proxy, ready=False) as client:
        client.sendall(b"hello")
        assert silent(client)
        proxy.heal()
        assert receive(client, 5) == b"hello"


def test_what_is_stranded_stays_mute_and_open_while_new_connections_are_sound(
    proxy: FaultProxy, client: socket.socket
) -> None:
    assert proxy.strand() == 1
    client.sendall(b"lost")
    client.settimeout(SHORT_SECONDS)
    with pytest.raises(TimeoutError):
        client.recv(1)
    with connected(proxy):
        pass
    client.settimeout(LONG_SECONDS)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_reset_reaches_both_sides(proxy: FaultProxy, client: socket.socket) -> None:
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        receive(client, 1)
    eventually(lambda: proxy.counters().open == 0)
    assert proxy.counters().resets == 1


def test_a_reset_ends_a_connection_that_is_dropped(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.drop()
    client.sendall(b"hello")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        receive(client, 1)
    eventually(lambda: proxy.counters().open == 0)


@pytest.mark.parametrize("count", [0, 1, 7, 70_000])
def test_a_connection_is_closed_after_exactly_so_many_bytes(
    proxy: FaultProxy, client: socket.socket, count: int
) -> None:
    proxy.cut_after(count, DOWN, how="close")
    threading.Thread(target=_send_all, args=(client, b"x" * 200_000), daemon=True).start()
    assert len(_read_to_the_end(client)) == count
    assert proxy.counters().cuts == 1


def test_a_connection_is_reset_after_so_many_bytes(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.cut_after(3, UP)
    client.sendall(b"hello")
    with pytest.raises(ConnectionResetError):
        receive(client, 10)


def _send_all(client: socket.socket, data: bytes) -> None:
    try:
        client.sendall(data)
    except OSError:
        return


def _read_to_the_end(client: socket.socket) -> bytes:
    data = b""
    try:
        while piece := client.recv(65_536):
            data += piece
    except ConnectionResetError:
        pass  # the proxy closed while bytes of ours were still under way
    return data


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("offset", [0, 4, 99_999])
def test_exactly_one_byte_is_corrupted(
    proxy: FaultProxy, client: socket.socket, direction: Direction, offset: int
) -> None:
    proxy.corrupt(offset, direction, mask=0x01)
    data = bytes(100_000)
    threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
    received = receive(client, len(data))
    assert [at for at, byte in enumerate(received) if byte] == [offset]
    assert proxy.counters().corrupted == 1


def test_what_is_armed_for_a_new_connection_strikes_the_next_one_only(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.corrupt(2, UP, new=True)
    client.sendall(b"aaaa")
    assert receive(client, 4) == b"aaaa"
    with connected(proxy, ready=False) as second:
        second.sendall(b"bbbb")
        assert receive(second, 4) == b"bb\x9db"
    with connected(proxy, ready=False) as third:
        third.sendall(b"cccc")
        assert receive(third, 4) == b"cccc"


def test_a_throttle_bounds_the_bytes_per_second(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.throttle(20_000, DOWN)
    started = time.monotonic()
    client.sendall(b"x" * 10_000)
    assert len(receive(client, 10_000)) == 10_000
    assert time.monotonic() - started > 0.4


def test_a_throttled_connection_keeps_a_bounded_number_of_bytes(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.throttle(1_000, UP)
    client.settimeout(SHORT_SECONDS)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(64 * 1024 * 1024))


def test_new_connections_are_refused_and_open_ones_go_on(proxy: FaultProxy, client: socket.socket) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    client.sendall(b"open")
    assert receive(client, 4) == b"open"
    proxy.heal()
    assert proxy.port == port
    connected(proxy).close()


def test_new_connections_fall_into_a_black_hole_and_open_ones_go_on(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.blackhole()
    with connected(proxy, ready=False) as lost:
        lost.sendall(b"hello?")
        assert silent(lost)
        assert proxy.counters().blackholed == 1
        client.sendall(b"open")
        assert receive(client, 4) == b"open"
        proxy.heal()
        assert silent(lost)
    connected(proxy).close()


def test_a_target_that_does_not_answer_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with FaultProxy("127.0.0.1", port) as proxy:
        # The reset may come while the client still connects.
        with pytest.raises(ConnectionResetError), connected(proxy, ready=False) as client:
            receive(client, 1)
        assert proxy.counters().unreachable == 1


def test_stopping_ends_every_connection_and_the_thread(echo: EchoServer) -> None:
    before = threading.active_count()
    proxy = FaultProxy("127.0.0.1", echo.port).start()
    client = connected(proxy)
    proxy.drop()
    proxy.stop()
    with client, pytest.raises(ConnectionResetError):
        receive(client, 1)
    eventually(lambda: threading.active_count() <= before + 1)  # the echo's thread may be ending


def test_as_a_process_it_obeys_the_lines_of_its_input(echo: EchoServer) -> None:
    command = [sys.executable, "-m", "tests.faultproxy", "--to", f"127.0.0.1:{echo.port}"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def tell(line: str) -> str:
            stdin.write(f"{line}\n")
            stdin.flush()
            return stdout.readline().strip()

        port = int(stdout.readline().rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=LONG_SECONDS) as client:
            client.sendall(b"a")
            assert receive(client, 1) == b"a"
            assert tell("corrupt 1 up") == "ok"
            client.sendall(b"bb")
            assert receive(client, 2) == b"b\x9d"
            assert json.loads(tell("counters"))["corrupted"] == 1
            assert tell("explode").startswith("error: explode is none of")
            assert tell("delay much").startswith("error: ")
            assert tell("cut_after 0 down close") == "ok"
        stdin.close()
        assert process.wait(timeout=LONG_SECONDS) == 0
