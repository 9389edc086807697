from __future__ import annotations

from ggrpc.engine.wire.inbox import CAPACITY, Inbox


def fill(inbox: Inbox, data: bytes) -> None:
    inbox.space()[: len(data)] = data
    inbox.filled(len(data))


def test_bytes_come_out_in_order() -> None:
    inbox = Inbox()
    fill(inbox, b"abcdef")
    assert bytes(inbox.peek(1, 3)) == b"bc"
    inbox.skip(2)
    assert bytes(inbox.peek(0, 4)) == b"cdef"
    assert len(inbox) == 4


def test_unread_bytes_survive_growth() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * (CAPACITY - 3) + b"abc")
    inbox.skip(CAPACITY - 3)
    inbox.reserve(10 * CAPACITY)
    assert len(inbox.space()) == CAPACITY - 3
    fill(inbox, b"y" * (CAPACITY - 3))
    inbox.reserve(10 * CAPACITY)
    assert len(inbox.space()) == CAPACITY
    assert bytes(inbox.peek(0, 4)) == b"abcy"


def test_announcement_alone_takes_no_memory() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * 9)
    inbox.reserve(1 << 62)
    assert len(inbox.space()) == CAPACITY - 9


def test_full_inbox_makes_room_at_the_front() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * CAPACITY)
    inbox.skip(CAPACITY - 1)
    inbox.reserve(9)
    assert len(inbox.space()) == CAPACITY - 1


def test_memory_of_a_large_message_is_given_back() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * CAPACITY)
    inbox.reserve(10 * CAPACITY)
    fill(inbox, b"x" * CAPACITY)
    inbox.skip(2 * CAPACITY)
    assert len(inbox.space()) == CAPACITY


def test_take_moves_what_fits() -> None:
    inbox, place = Inbox(), bytearray(4)
    fill(inbox, b"abcdef")
    assert inbox.take(memoryview(place)) == 4
    assert place == b"abcd"
    assert inbox.take(memoryview(place)) == 2
