"""A tournament and a heap in plain arrays, compiled."""

from __future__ import annotations

from typing import Any

from wattshed.compiled import inlined


@inlined
def replay(tree: Any, key: Any, i: int) -> None:
    """Play the matches of `i` again after its key has changed; equal keys: the lower index wins."""
    node = (len(tree) // 2 + i) >> 1
    while node >= 1:
        left, right = tree[2 * node], tree[2 * node + 1]
        winner = left if right < 0 or key[left] <= key[right] else right
        if winner == tree[node] and winner != i:
            return
        tree[node] = winner
        node >>= 1


@inlined
def remove(slots: Any, base: int, size: int, at: int) -> None:
    """Take entry `at` (0: the least) from the heap of `size` entries that begins at `base`."""
    last = size - 1
    if at == last:
        return
    hole = at
    while True:
        child = 2 * hole + 1
        if child >= last:
            break
        if child + 1 < last and slots[base + child + 1].key < slots[base + child].key:
            child += 1
        _move(slots, base + child, base + hole)
        hole = child
    rise(slots, base, hole, slots[base + last].key, slots[base + last].request)


@inlined
def rise(slots: Any, base: int, hole: int, key: int, request: int) -> None:
    """Put an entry into the hole of the heap that begins at `base`, and let it rise."""
    while hole > 0:
        parent = (hole - 1) >> 1
        if slots[base + parent].key <= key:
            break
        _move(slots, base + parent, base + hole)
        hole = parent
    slots[base + hole].key = key
    slots[base + hole].request = request


@inlined
def _move(slots: Any, source: int, target: int) -> None:
    slots[target].key = slots[source].key
    slots[target].request = slots[source].request
