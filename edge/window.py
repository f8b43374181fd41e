"""What of the outbox is on its way: which batches were sent, accepted, put off, and what is next.

Live batches go first, then those that are due again, then the backlog, oldest first. The window
bounds the bytes that were sent and not yet accepted.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from edge.sealed import Sealed
from shared.link import WINDOW_BATCHES, Accepted, Settled
from shared.seqs import SeqSet

RESEND_S: Final = 30.0
"""A batch that is not settled after this time, and up to as much jitter, is sent again."""

Name = tuple[int, int]
"""A batch by epoch and seq."""


@dataclass(slots=True)
class Sent:
    """A batch on its way."""

    id: int
    size: int
    due_s: float
    accepted: bool = False


@dataclass(slots=True)
class Window:
    """The batches of one session that were sent and are not settled.

    `live_from` is the first id that was not yet in the outbox when the session began: what is below
    is backlog.
    """

    limit_bytes: int
    live_from: int
    rng: random.Random = field(default_factory=random.Random)
    sent: dict[Name, Sent] = field(default_factory=dict)
    waiting_bytes: int = 0
    waiting_batches: int = 0
    live_sent: int = field(init=False)
    backlog_sent: int = 0
    _again: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live_sent = self.live_from - 1

    def has_room(self) -> bool:
        """Tell whether another batch may be sent now; one always may."""
        return self.waiting_bytes < self.limit_bytes and self.waiting_batches < WINDOW_BATCHES

    def may_follow_more(self) -> bool:
        """Tell whether a batch that was not sent yet may be; one that is due again always may."""
        return len(self.sent) < UNSETTLED

    def may_follow_backlog(self) -> bool:
        """Tell whether more backlog may be sent: what is live must not wait long behind it."""
        return len(self.sent) < BACKLOG_AHEAD

    def note_sent(self, batch: Sealed, now_s: float) -> None:
        """Take in that a batch was sent, for the first time or again."""
        name = (batch.epoch, batch.seq)
        old = self.sent.get(name)
        if old is not None:
            self._leave(old)
        due_s = now_s + RESEND_S * self.rng.uniform(1.0, 2.0)
        self.sent[name] = Sent(batch.id, len(batch.body), due_s)
        self.waiting_bytes += len(batch.body)
        self.waiting_batches += 1
        heapq.heappush(self._again, (due_s, batch.id))
        if batch.id >= self.live_from:
            self.live_sent = max(self.live_sent, batch.id)
        else:
            self.backlog_sent = max(self.backlog_sent, batch.id)

    def note_accepted(self, accepted: Sequence[Accepted]) -> None:
        """Take in that batches are in the log: they leave the window and wait to be settled."""
        for one in accepted:
            seqs = SeqSet(one.seqs)
            for name, sent in self.sent.items():
                if name[0] == one.epoch and name[1] in seqs:
                    self._leave(sent)

    def _leave(self, sent: Sent) -> None:
        if not sent.accepted:
            sent.accepted = True
            self.waiting_bytes -= sent.size
            self.waiting_batches -= 1

    def note_settled(self, settled: Sequence[Settled]) -> None:
        """Take in that batches are settled: nothing waits for them any more."""
        for one in settled:
            seqs = SeqSet(one.seqs)
            for name in [n for n in self.sent if n[0] == one.epoch and n[1] in seqs]:
                self._leave(self.sent.pop(name))

    def put_off(self, epoch: int, seq: int, until_s: float) -> None:
        """Take in that central cannot take a batch now: it is due again at `until_s`."""
        sent = self.sent.get((epoch, seq))
        if sent is None:
            return
        self._leave(sent)
        sent.due_s = until_s
        heapq.heappush(self._again, (until_s, sent.id))

    def due_again(self, now_s: float) -> int | None:
        """Tell the id of a batch that is to be sent again now, if there is one."""
        due = {sent.id: sent.due_s for sent in self.sent.values()} if self._is_due(now_s) else {}
        while self._is_due(now_s):
            at_s, id_ = heapq.heappop(self._again)
            if due.get(id_) == at_s:
                return id_
        return None

    def _is_due(self, now_s: float) -> bool:
        return bool(self._again) and self._again[0][0] <= now_s


BACKLOG_AHEAD: Final = 32
"""The most batches that wait to be settled while backlog is sent: some tenths of a second of it."""

UNSETTLED: Final = 4_096
"""The most batches of a session that wait to be settled; then no new ones are sent."""
