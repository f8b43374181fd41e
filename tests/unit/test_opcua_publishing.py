"""Publish requests in order, and no notification that goes missing unnoticed."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from protocols.opcua.faults import TooManyRequests
from protocols.opcua.publishing import REQUESTS, Publishing
from protocols.opcua.session import Session, Subscription
from shared.errors import LinkLost

SUBSCRIPTION: Final = Subscription(5, keepalive_s=0.05)
KEEP_ALIVE: Final = True


class Answers:
    """A session whose server gives these answers, then waits for ever."""

    def __init__(self, answers: Sequence[bytes | Exception]) -> None:
        self._answers = list(answers)
        self.acknowledged: list[tuple[int, int]] = []
        self.waiting = 0

    async def publish(self, acknowledged: Sequence[tuple[int, int]]) -> bytes:
        self.acknowledged += acknowledged
        if self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        return b""


def answer(sequence: int, *, is_keep_alive: bool = False, subscription: int = 5) -> bytes:
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.UInt32(subscription)
    response.Parameters.NotificationMessage.SequenceNumber = ua.UInt32(sequence)
    empty: list[Any] = [] if is_keep_alive else [ua.DataChangeNotification()]
    response.Parameters.NotificationMessage.NotificationData = empty
    return struct_to_binary(response)


async def sequences(answers: Answers, count: int) -> list[int]:
    publishing = Publishing(cast(Session, answers), SUBSCRIPTION, "opc.tcp://plc")
    try:
        return [(await publishing.next(0.1)).sequence for _ in range(count)]
    finally:
        await asyncio.sleep(0)  # what was asked last gets to the server
        await publishing.close()
        assert answers.waiting == 0


async def test_answers_come_in_order_and_are_acknowledged() -> None:
    answers = Answers([answer(sequence) for sequence in (1, 2, 3, 4, 5)])
    assert await sequences(answers, 5) == [1, 2, 3, 4, 5]
    assert answers.acknowledged == [(5, 1), (5, 2), (5, 3), (5, 4)]


class Unordered:
    """A session whose server answers the second request that waits before the first."""

    def __init__(self) -> None:
        self._asked = 0
        self._second_answered = asyncio.Event()

    async def publish(self, acknowledged: Sequence[tuple[int, int]]) -> bytes:
        del acknowledged
        self._asked += 1
        if self._asked == 2:
            self._second_answered.set()
            return answer(1)
        if self._asked == 1:
            await self._second_answered.wait()
            return answer(2, is_keep_alive=True)
        await asyncio.Event().wait()
        return b""


async def test_answers_are_taken_as_they_come_and_not_as_they_were_asked_for() -> None:
    publishing = Publishing(cast(Session, Unordered()), SUBSCRIPTION, "opc.tcp://plc")
    came = [await publishing.next(5.0) for _ in range(2)]
    await publishing.close()
    assert [one.sequence for one in came] == [1, 2]
    assert [one.is_keep_alive for one in came] == [False, True]


@pytest.mark.parametrize(
    "keep_alives",
    [
        pytest.param((3, 3), id="it names the next one, as specified"),
        pytest.param((2, 2), id="it names the last one again"),
        pytest.param((0, 0), id="it names none"),
    ],
)
async def test_keep_alives_may_be_numbered_as_servers_do(keep_alives: Sequence[int]) -> None:
    between = [answer(number, is_keep_alive=True) for number in keep_alives]
    answers = Answers([answer(1), answer(2), *between, answer(3)])
    assert (await sequences(answers, 5))[-1] == 3


async def test_keep_alives_may_be_counted_as_notifications() -> None:
    between = [answer(number, is_keep_alive=True) for number in (3, 4)]
    answers = Answers([answer(1), answer(2), *between, answer(5)])
    assert (await sequences(answers, 5))[-1] == 5


async def test_the_sequence_starts_over_after_its_largest_number() -> None:
    answers = Answers([answer(2**32 - 1), answer(1), answer(2)])
    assert await sequences(answers, 3) == [2**32 - 1, 1, 2]


@pytest.mark.parametrize("is_keep_alive", [False, True])
async def test_a_missing_notification_is_a_lost_link(
    is_keep_alive: bool,  # noqa: FBT001, RUF100 - a parameter of the test
) -> None:
    answers = Answers([answer(1), answer(4, is_keep_alive=is_keep_alive)])
    with pytest.raises(LinkLost, match="notification 2 is missing, 4 came"):
        await sequences(answers, 2)


async def test_silence_beyond_the_keep_alive_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match="not even a keep-alive"):
        await sequences(Answers([answer(1)]), 2)


async def test_an_answer_that_cannot_be_read_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match="cannot be read"):
        await sequences(Answers([answer(1)[:-20]]), 1)


async def test_fewer_requests_wait_at_a_server_that_wants_fewer() -> None:
    refusals = [TooManyRequests("BadTooManyPublishRequests")] * (REQUESTS - 1)
    answers = Answers([*refusals, answer(1), answer(2)])
    assert (await sequences(answers, REQUESTS + 1))[-2:] == [1, 2]


async def test_a_server_that_keeps_no_request_at_all_is_a_lost_link() -> None:
    answers = Answers([TooManyRequests("BadTooManyPublishRequests")] * REQUESTS)
    with pytest.raises(LinkLost, match="keeps no publish request"):
        await sequences(answers, REQUESTS)
