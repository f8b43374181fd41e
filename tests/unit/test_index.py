"""The index: what is in the file, what is due to leave it, and the ledger over all."""

from edge.index import Index
from edge.ledger import Ledger
from edge.sealed import Draft, EpochRow, Sealed
from shared.link import Range, Settled
from shared.model import Kind


def drafts(*counts: int) -> list[Draft]:
    """Readings batches with so many readings; 0 stands for a batch of events."""
    return [Draft(Kind.READINGS if n else Kind.EVENTS, n or 1, 0, 0, b"", b"") for n in counts]


def told(epoch: int, delivered: int, *seqs: Range, collapsed: int = 0) -> Settled:
    return Settled(epoch=epoch, seqs=seqs, delivered=delivered, collapsed=collapsed, quarantined=0)


def begun(epoch: int = 7, base: int = 50, *counts: int) -> Index:
    index = Index()
    index.begin(EpochRow(epoch, base))
    index.noted(drafts(*counts))
    return index


def test_what_is_committed_gets_ids_above_all_others() -> None:
    index = begun(7, 50, 3, 0, 4)
    assert index.next_id == 53
    assert index.pending() == [(7, ((0, 2),))]
    assert index.ledger() == Ledger(7, 0, 0, 0, pending=7, gaps=0)
    index.begin(EpochRow(8, 53))
    assert (index.next_id, index.next_seq) == (53, 0)


def test_only_what_is_in_the_file_is_due_to_leave_it() -> None:
    index = begun(7, 50, 3, 0, 4)
    index.settle([told(7, 20, (1, 9)), told(99, 5, (0, 0))])
    ((row, settled),) = index.due()
    assert (row.epoch, settled.seqs, settled.delivered) == (7, ((1, 2),), 20)
    assert index.is_settled(7, 2)
    assert not index.is_settled(7, 0)
    assert not index.is_settled(99, 0)


def test_the_ledger_balances_while_batches_are_due_and_when_they_have_left() -> None:
    index = begun(7, 50, 3, 0, 4)
    index.settle([told(7, 3, (2, 2), collapsed=1)])
    assert index.ledger().imbalance() == 0
    index.deleted(index.due(), {7: 4})
    ledger = index.ledger()
    assert (ledger.produced, ledger.delivered, ledger.collapsed, ledger.pending) == (7, 3, 1, 3)
    assert ledger.imbalance() == 0
    assert index.due() == []


def test_what_is_told_while_the_file_is_at_work_stays_due() -> None:
    index = begun(7, 50, 3, 0, 4)
    index.settle([told(7, 3, (0, 0))])
    at_work = index.due()
    # The batch of events changes no total.
    index.settle([told(7, 3, (1, 1))])
    index.deleted(at_work, {7: 3})
    assert [settled.seqs for _, settled in index.due()] == [((1, 1),)]
    index.settle([told(7, 7, (2, 2))])
    index.deleted(index.due(), {7: 4})
    assert index.pending() == []
    assert not index.is_anything_due()


def test_receipts_that_come_again_change_nothing() -> None:
    index = begun(7, 50, 3, 4)
    for _ in range(2):
        index.settle([told(7, 3, (0, 0))])
        index.deleted(index.due(), {7: 3 if index.ledger().pending == 7 else 0})
        assert index.ledger().pending == 4
        assert index.ledger().imbalance() == 0


def test_dropped_readings_are_gaps() -> None:
    index = begun(7, 50, 3, 4)
    index.dropped(7, ((0, 0),), 3)
    ledger = index.ledger()
    assert (ledger.produced, ledger.pending, ledger.gaps, ledger.imbalance()) == (7, 4, 3, 0)


def test_readings_of_this_gateway_that_its_file_never_knew_are_elsewhere() -> None:
    index = begun(7, 50, 3)
    index.settle([told(7, 103, (0, 40))])
    index.deleted(index.due(), {7: 3})
    assert index.ledger().elsewhere == 100
    assert index.ledger().imbalance() == 0


def test_what_is_missing_in_one_epoch_is_not_hidden_by_another() -> None:
    index = begun(7, 50, 3)
    index.begin(EpochRow(8, 60))
    index.noted(drafts(5))
    index.settle([told(7, 8, (0, 0)), told(8, 0, (0, 0))])
    index.deleted(index.due(), {7: 3, 8: 5})
    assert index.ledger().imbalance() == 5


def test_the_packed_index_is_that_without_what_leaves() -> None:
    index = begun(7, 50, 3, 0, 4)
    assert index.pack() == [[7, [[0, 2]], 7]]
    assert index.pack({7: (((0, 0), (2, 2)), 7)}) == [[7, [[1, 1]], 0]]
    assert index.pack({7: (((0, 2),), 7)}) == []


def test_segments_found_in_the_file_are_indexed() -> None:
    index = Index()
    for seq, kind in ((3, Kind.READINGS), (4, Kind.EVENTS), (6, Kind.READINGS)):
        index.recovered(Sealed(50 + seq, 7, seq, kind, 5, 0, 0, b"", b""))
    assert index.pending() == [(7, ((3, 4), (6, 6)))]
    assert index.epochs[7].row.base == 50
    assert index.ledger().pending == 10


def test_hello_names_no_more_than_it_may_and_the_newest() -> None:
    index = Index()
    for nth in range(10_050):
        index.begin(EpochRow(20_000 - nth, nth * 10))
        index.noted(drafts(1))
    pending = index.pending()
    assert len(pending) == 10_000
    assert pending[-1][0] == 20_000 - 10_049


def test_an_older_receipt_that_comes_late_does_not_lower_the_totals() -> None:
    # The chaos proxy swaps frames: the older totals must not be the last word.
    index = begun(7, 50, 3, 4)
    index.settle([told(7, 7, (1, 1))])
    index.settle([told(7, 3, (0, 0))])
    index.deleted(index.due(), {7: 7})
    assert index.ledger() == Ledger(7, 7, 0, 0, pending=0, gaps=0)
    index.settle([told(7, 3, (0, 0))])  # and once more, when all is done
    index.deleted(index.due(), {7: 0})
    assert index.ledger().imbalance() == 0
