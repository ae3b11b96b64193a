"""What is written leaves soon: all of it, in order, and that of many in a row."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from wattshed.serve.outgoing import FEW, MOST_WAITING, Departures, Outgoing

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Written(asyncio.Transport):
    """Notes what is written, in one list for all."""

    def __init__(self, name: int, sent: list[tuple[int, bytes]]) -> None:
        super().__init__()
        self.name, self.sent, self.closed = name, sent, False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent.append((self.name, data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


def outgoing(number: int) -> tuple[list[Outgoing], list[tuple[int, bytes]]]:
    sent: list[tuple[int, bytes]] = []
    departures = Departures(asyncio.get_running_loop())
    return [Outgoing(Written(name, sent), departures) for name in range(number)], sent


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([0, 1, 7, MOST_WAITING, MOST_WAITING + 1]),
            st.sampled_from(["", "flush", "turn"]),
        ),
        max_size=20,
    )
)
def test_each_connection_sends_all_in_order(
    writes: list[tuple[int, int, str]],
) -> None:
    async def scene() -> None:
        those, sent = outgoing(3)
        wanted = {0: b"", 1: b"", 2: b""}
        for number, (name, size, then) in enumerate(writes):
            data = bytes([number]) * size
            those[name].write(data)
            wanted[name] += data
            if then == "flush":
                those[name].flush()
            elif then == "turn":
                await asyncio.sleep(0)
                assert not any(each.unsent for each in those)
        await asyncio.sleep(0)
        for name, all_of_it in wanted.items():
            assert b"".join(data for whose, data in sent if whose == name) == all_of_it
        assert all(data for _, data in sent)

    asyncio.run(scene())


def test_many_send_at_the_end_of_a_turn_each_in_one_write() -> None:
    async def scene() -> None:
        those, sent = outgoing(FEW + 1)
        for each in those:
            each.write(b"first")
        await asyncio.sleep(0)
        sent.clear()
        for data in (b"head", b"body"):
            for each in those:
                each.write(data)
        assert sent == []
        assert those[0].unsent
        await asyncio.sleep(0)
        assert sent == [(name, b"headbody") for name in range(FEW + 1)]

    asyncio.run(scene())


def test_few_send_at_once() -> None:
    async def scene() -> None:
        those, sent = outgoing(FEW)
        for _ in range(3):
            for each in those:
                each.write(b"head")
                each.write(b"body")
                assert not each.unsent
            await asyncio.sleep(0)
        assert sent == 3 * [(name, part) for name in range(FEW) for part in (b"head", b"body")]

    asyncio.run(scene())


def test_a_connection_closes_behind_what_waits_or_sends_nothing_more() -> None:
    async def scene() -> None:
        (closed, dropped, *others), sent = outgoing(FEW + 2)
        for each in (closed, dropped, *others):
            each.write(b"first")
        await asyncio.sleep(0)
        sent.clear()
        closed.write(b"last words")
        dropped.write(b"to nobody")
        closed.close()
        dropped.drop()
        assert sent == [(0, b"last words")]
        await asyncio.sleep(0)
        assert sent == [(0, b"last words")]

    asyncio.run(scene())


def test_a_connection_that_fails_takes_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Written):
        def write(self, data: Any) -> None:
            raise RuntimeError("the handler is closed")

        def abort(self) -> None:
            self.sent.append((self.name, b"aborted"))

    async def scene() -> None:
        sent: list[tuple[int, bytes]] = []
        departures = Departures(asyncio.get_running_loop())
        departures.few = False
        those = [Outgoing(Failing(9, sent), departures)]
        those += [Outgoing(Written(name, sent), departures) for name in range(FEW)]
        for each in those:
            each.write(b"all")
        await asyncio.sleep(0)
        assert sent == [(9, b"aborted"), *((name, b"all") for name in range(FEW))]
        assert not any(each.unsent for each in those)

    asyncio.run(scene())
    assert "a connection failed" in caplog.text


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_takes_nothing_is_seen_by_whoever_writes(loop: Any) -> None:
    """The transport says when to pause, and when to go on."""

    class Side(asyncio.Protocol):
        def __init__(self) -> None:
            self.told: list[str] = []

        def connection_made(self, transport: Any) -> None:
            self.out = Outgoing(transport, Departures(asyncio.get_running_loop()))

        def pause_writing(self) -> None:
            self.told.append("pause")

        def resume_writing(self) -> None:
            self.told.append("go on")

    async def scene() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            running = asyncio.get_running_loop()
            _, side = await running.create_connection(Side, sock=ours)
            written = 0
            while not side.told:
                side.out.write(b"x" * 10_000)
                written += 10_000
                await asyncio.sleep(0)
            while written:
                written -= len(await running.sock_recv(theirs, 2**20))
            await asyncio.sleep(0.01)
            assert side.told == ["pause", "go on"]
            assert not side.out.unsent
            side.out.close()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scene())
