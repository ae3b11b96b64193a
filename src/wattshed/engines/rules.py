"""What steps take and draw, compiled; `tables` is anything with the arrays of `Tables`."""

from __future__ import annotations

from typing import Any

from wattshed.compiled import inlined


@inlined
def piece_of(tables: Any, f: int, tokens: int) -> int:
    """Piece of the prompt curve that holds for so many prompt tokens in a step."""
    i = tables.clocks[f].piece_end - 1
    while i > tables.clocks[f].piece and tables.pieces[i].start > tokens:
        i -= 1
    return int(i)


@inlined
def decode_step(tables: Any, f: int, batch: int, held: float) -> float:
    """Seconds of a step of `batch` decoding sequences over `held` context tokens."""
    return float(tables.seconds[f, batch] + tables.clocks[f].s_context * held)


@inlined
def decode_above(tables: Any, f: int, batch: int, held: float, power_w: float) -> float:
    """Joules of such a step above a power that is there in any case."""
    clock = tables.clocks[f]
    energy = tables.joules[f, batch] + clock.j_context * held
    return float(energy - power_w * (tables.seconds[f, batch] + clock.s_context * held))


@inlined
def prompt_steps(tables: Any, f: int, batch: int, held: float, room: int, tokens: int) -> float:
    """Seconds of the steps that process prompt tokens beside `batch` decoding sequences.

    Parameters
    ----------
    tables : Tables
    f : int
        Clock.
    batch, held : int
        Decoding sequences and their context tokens.
    room : int
        Prompt tokens in one step.
    tokens : int
        In all.
    """
    clock = tables.clocks[f]
    each = tables.seconds[f, batch] + clock.s_context * held
    if batch > 0:
        each -= clock.s_saved
    whole, left = tokens // room, tokens % room
    piece = tables.pieces[piece_of(tables, f, room)]
    seconds = whole * (each + piece.s_fixed + piece.s_token * room)
    if left > 0:
        piece = tables.pieces[piece_of(tables, f, left)]
        seconds += each + piece.s_fixed + piece.s_token * left
    return float(seconds)


@inlined
def prompt_above(tables: Any, f: int, batch: int, room: int, tokens: int, power_w: float) -> float:
    """Joules that prompt tokens add to steps, above a power that is there in any case."""
    clock = tables.clocks[f]
    each = -(clock.j_saved - power_w * clock.s_saved)
    if batch == 0:
        each = tables.joules[f, 0] - power_w * tables.seconds[f, 0]
    whole, left = tokens // room, tokens % room
    piece = tables.pieces[piece_of(tables, f, room)]
    joules = whole * (
        each
        + piece.j_fixed
        - power_w * piece.s_fixed
        + (piece.j_token - power_w * piece.s_token) * room
    )
    if left > 0:
        piece = tables.pieces[piece_of(tables, f, left)]
        joules += each + piece.j_fixed - power_w * piece.s_fixed
        joules += (piece.j_token - power_w * piece.s_token) * left
    return float(joules)
