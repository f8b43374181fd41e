"""The outbox against the plainest model of conservation, step by step as Hypothesis likes."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.holes import GapReason
from shared.batch import decode
from shared.model import Kind
from tests.integration.outbox_kit import (
    ALL,
    START_US,
    commit,
    copied,
    opened,
    spoil,
    state_of,
    told,
)


class OutboxMachine(RuleBasedStateMachine):
    """The outbox against the plainest model of conservation."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="spine-outbox-"))
        self.folder = self.root / "0"
        self.folder.mkdir()
        self.epoch = 0
        self.now_us = START_US
        self.counts: dict[tuple[int, int], int] = {}
        self.settled: set[tuple[int, int]] = set()
        self.lost: set[tuple[int, int]] = set()
        self.unflushed = False

    def teardown(self) -> None:
        self.do(self.outbox.close())
        self.runner.close()
        shutil.rmtree(self.root)

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.epoch += 1
        self.outbox = self.do(opened(self.folder, self.epoch))

    @rule(counts=st.lists(st.integers(1, 30), min_size=1, max_size=3))
    def commit(self, counts: list[int]) -> None:
        for count in counts:
            self.counts[self.epoch, self.outbox.index.next_seq] = count
            self.do(commit(self.outbox, count, self.now_us, b"\x81\xa1d\x92\x05\x91\xc4\x01x"))
            self.now_us += 100

    def pending(self) -> list[tuple[int, int]]:
        return sorted(self.counts.keys() - self.settled - self.lost)

    @rule(data=st.data(), collapsed=st.integers(0, 1))
    def tell(self, data: st.DataObject, collapsed: int) -> None:
        """Tell what central settled, in any order, partly again."""
        known = sorted(self.counts.keys() - self.lost)
        chosen = data.draw(st.lists(st.sampled_from(known), max_size=6)) if known else []
        self.settled |= set(chosen)
        for epoch in {name[0] for name in chosen}:
            seqs = [name[1] for name in chosen if name[0] == epoch]
            total = sum(self.counts[name] for name in self.settled if name[0] == epoch)
            self.outbox.index.settle([told(epoch, seqs, total - collapsed, collapsed)])
            self.unflushed = True

    @rule()
    def flush(self) -> None:
        self.do(self.outbox.flush(now=True))
        self.unflushed = False

    @precondition(lambda self: self.pending())
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        here = {(one.epoch, one.seq): one for one in self.do(self.outbox.fetch(0, ALL, 10_000))}
        chosen = data.draw(st.lists(st.sampled_from(self.pending()), unique=True, max_size=4))
        self.do(self.outbox.drop([here[name] for name in chosen], GapReason.OUTBOX_FULL))
        self.lost |= set(chosen)

    @precondition(lambda self: self.pending())
    @rule(data=st.data(), column=st.sampled_from(["body", "count", "epoch", "t0", "kind", "crc"]))
    def damage(self, data: st.DataObject, column: str) -> None:
        """Change one segment behind the outbox's back; it is found when it is to be sent."""
        epoch, seq = data.draw(st.sampled_from(self.pending()))
        id_ = self.outbox.index.epochs[epoch].row.base + seq
        value = "randomblob(50)" if column == "body" else "999"
        damage = f"UPDATE segments SET {column} = {value} WHERE id = {id_}"  # noqa: S608 - drawn
        spoil(self.outbox, damage)
        self.do(self.outbox.fetch(0, ALL, 10_000))
        self.lost.add((epoch, seq))

    @rule(cleanly=st.booleans())
    def restart(self, cleanly: bool) -> None:
        """Stop, or lose the power: the file set is opened as it is."""
        if cleanly:
            self.do(self.outbox.close())
            before = None
        else:
            before = state_of(self.outbox)
            self.folder = copied(self.folder, self.root / str(self.epoch))
            self.do(self.outbox.close())
        self.open()
        if before and not self.unflushed:
            assert state_of(self.outbox) == before
        # What was told and not flushed is told again: in `welcome`.
        self.unflushed = False
        for epoch in {name[0] for name in self.settled}:
            seqs = [name[1] for name in self.settled if name[0] == epoch]
            total = sum(self.counts[name] for name in self.settled if name[0] == epoch)
            self.outbox.index.settle([told(epoch, seqs, total)])

    @invariant()
    def the_books_balance(self) -> None:
        if not self.epoch:
            return
        ledger = self.outbox.index.ledger()
        assert ledger.imbalance() == 0
        assert ledger.elsewhere == 0
        assert ledger.produced == sum(self.counts.values())
        assert ledger.gaps == sum(self.counts[name] for name in self.lost)
        unsettled = sum(self.counts[name] for name in self.pending())
        done = ledger.delivered + ledger.collapsed + ledger.quarantined
        assert ledger.pending + done == unsettled + sum(self.counts[n] for n in self.settled)

    @invariant()
    def everything_pending_is_there_and_nothing_else(self) -> None:
        if not self.epoch:
            return
        found = self.do(self.outbox.fetch(0, ALL, 10_000))
        readings = {(one.epoch, one.seq): one for one in found if one.kind is Kind.READINGS}
        assert sorted(readings) == self.pending()
        assert all(one.count == self.counts[name] for name, one in readings.items())
        assert all(len(decode(one.body)) == one.count for one in readings.values())


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
