from __future__ import annotations

from ggrpc.engine.wire.inbox import ROOM, Inbox


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
    fill(inbox, b"x" * (ROOM - 3) + b"abc")
    inbox.skip(ROOM - 3)
    inbox.reserve(10 * ROOM)
    assert len(inbox.space()) == ROOM - 3
    fill(inbox, b"y" * (ROOM - 3))
    inbox.reserve(10 * ROOM)
    assert len(inbox.space()) == ROOM
    assert bytes(inbox.peek(0, 4)) == b"abcy"


def test_announcement_alone_takes_no_memory() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * 9)
    inbox.reserve(1 << 62)
    assert len(inbox.space()) == ROOM - 9


def test_full_inbox_makes_room_at_the_front() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * ROOM)
    inbox.skip(ROOM - 1)
    inbox.reserve(9)
    assert len(inbox.space()) == ROOM - 1


def test_memory_of_a_large_message_is_given_back() -> None:
    inbox = Inbox()
    fill(inbox, b"x" * ROOM)
    inbox.reserve(10 * ROOM)
    fill(inbox, b"x" * ROOM)
    inbox.skip(2 * ROOM)
    assert len(inbox.space()) == ROOM


def test_take_moves_what_fits() -> None:
    inbox, place = Inbox(), bytearray(4)
    fill(inbox, b"abcdef")
    assert inbox.take(memoryview(place)) == 4
    assert place == b"abcd"
    assert inbox.take(memoryview(place)) == 2
