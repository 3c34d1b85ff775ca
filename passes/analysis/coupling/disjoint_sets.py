"""Sets that grow together: union-find (Galler & Fischer, 1964) with path compression."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class DisjointSets(Generic[T]):
    """A partition; whatever it is asked about is in a set of its own until it is joined."""

    def __init__(self) -> None:
        self._parent: dict[T, T] = {}

    def find(self, member: T) -> T:
        """The member that stands for the whole set."""
        root = member
        while self._parent.get(root, root) != root:
            root = self._parent[root]
        while self._parent.get(member, member) != root:
            self._parent[member], member = root, self._parent.get(member, member)
        return root

    def join(self, a: T, b: T) -> None:
        """Makes one set of those of `a` and `b`; what stands for that of `a` stands for both."""
        self._parent[self.find(b)] = self.find(a)
