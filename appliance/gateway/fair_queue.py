"""The requests that wait for one deployment, in an order that is fair between accounts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from appliance.errors import QueueFull

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Accounts take turns; within one account, who came first goes first.

    An account that comes anew, or anew after its last item left, joins at the end of the turns.
    So with k accounts waiting each is served at least once in every k pops.
    """

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._lines: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        """By account, the next one first; a line is never empty. OrderedDict, because its first is found at once."""
        self._accounts: dict[T, str] = {}

    def push(self, account_id: str, item: T) -> T | None:
        """Let an item wait that does not wait yet. Gives back the item that had to leave for it, if one had to.

        A full queue takes from the account that waits with the most the item that came last, if that account has
        more than the newcomer's: nobody can keep others out by filling the queue. Else it raises QueueFull.
        """
        assert item not in self._accounts, "an item waits once"
        displaced = self._make_room(account_id) if len(self._accounts) >= self._size_max else None
        line = self._lines.get(account_id)
        if line is None:
            line = self._lines[account_id] = OrderedDict()
        line[item] = None
        self._accounts[item] = account_id
        return displaced

    def pop(self) -> T | None:
        """The item whose turn it is; None if nothing waits."""
        if not self._lines:
            return None
        account_id = next(iter(self._lines))
        item = next(iter(self._lines[account_id]))
        self._lines.move_to_end(account_id)
        self.remove(item)
        return item

    def remove(self, item: T) -> bool:
        """An item waits no longer: its deadline passed, its caller hung up. Whether it was still waiting."""
        account_id = self._accounts.pop(item, None)
        if account_id is None:
            return False
        line = self._lines[account_id]
        del line[item]
        if not line:
            del self._lines[account_id]
        return True

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[T]:
        """All that wait, in the order they came. Items may be removed meanwhile."""
        return iter(tuple(self._accounts))

    def _make_room(self, account_id: str) -> T:
        longest = max(self._lines.values(), key=len, default=())
        if len(longest) <= len(self._lines.get(account_id, ())):
            raise QueueFull
        newest = next(reversed(longest))
        self.remove(newest)
        return newest
