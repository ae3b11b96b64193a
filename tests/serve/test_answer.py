"""Energy is put into usage, and nothing else of an answer changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.serve.answer import Usage, put_energy, put_usage, read_usage, usage_of

ENERGY = {"joules": 1.5}
SENT = b'{"joules":1.5}'


@pytest.mark.parametrize(
    "document",
    [
        b'{"id": 1,  "usage" : {"prompt_tokens": 3, "completion_tokens": 4 } , "x": "\\u00e9"}',
        b'{"usage":{}}',
        b'{"choices":[{"text":"say \\"usage\\": {\\"a\\": 1}"}],"usage":{"a":1}}',
        b'{"inner":{"usage":{"a":1}},"usage":{"a":1}}',
        b'{"usage":{"a":1},"inner":{"usage":{"a":1}}}',
        b'{"us\\u0061ge":{"a":1}}',
    ],
)
def test_only_the_usage_at_the_top_grows(document: bytes) -> None:
    found = json.loads(put_energy(document, SENT))
    before = json.loads(document)
    assert found.pop("usage") == {**before.pop("usage"), "energy": ENERGY}
    assert found == before


def test_every_other_byte_stays() -> None:
    document = b'{"a" : 1e2,\n "usage": {"b": 2 }\n, "c":"\\/"}\n'
    assert put_energy(document, SENT) == (
        b'{"a" : 1e2,\n "usage": {"b": 2 ,"energy":{"joules":1.5}}\n, "c":"\\/"}\n'
    )


def test_energy_of_a_gateway_behind_this_one_is_replaced() -> None:
    found = json.loads(put_energy(b'{"usage":{"a":1,"energy":{"joules":9}}}', SENT))
    assert found == {"usage": {"a": 1, "energy": ENERGY}}


@pytest.mark.parametrize("document", [b'{"a":1}', b"{}", b'{"usage":null,"a":1}'])
def test_a_missing_usage_is_added(document: bytes) -> None:
    found = json.loads(put_usage(document, {"prompt_tokens": 1}))
    assert found == {**json.loads(document), "usage": {"prompt_tokens": 1}}


def test_usage_is_read_in_both_dialects() -> None:
    assert read_usage(b'{"prompt_tokens": 3, "completion_tokens": 4}') == Usage(3, 4)
    assert read_usage(b'{"input_tokens": 3, "output_tokens": 4}') == Usage(3, 4)
    assert read_usage(b'{"prompt_tokens": 3}') == Usage(3, 0)
    for nothing in (b"", b"null", b"{}", b'{"prompt_tokens": "3"}', b'{"prompt_tokens": -3}'):
        assert read_usage(nothing) is None
    too_many = b"%d" % 2**64  # which no ledger holds
    assert read_usage(b'{"prompt_tokens": ' + too_many + b"}") is None
    assert read_usage(b'{"prompt_tokens": 3, "completion_tokens": ' + too_many + b"}") is None


KEYS = st.sampled_from(["usage", "a", "b"]) | st.text(max_size=4)
JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=9) | st.just('"usage": {}'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(KEYS, JSON, max_size=4),
    st.dictionaries(st.text(max_size=3), JSON, max_size=2),
    st.sampled_from([None, 1]),
    st.randoms(use_true_random=False),
)
def test_any_document_keeps_its_content(
    others: dict[str, Any], usage: dict[str, Any], indent: int | None, chance: Any
) -> None:
    items = [*((k, v) for k, v in others.items() if k != "usage"), ("usage", usage)]
    chance.shuffle(items)
    document = json.dumps(dict(items), indent=indent).encode()
    found = json.loads(put_energy(document, SENT))
    assert found == {**dict(items), "usage": {**usage, "energy": ENERGY}}
    assert json.loads(usage_of(put_energy(document, SENT)))["energy"] == ENERGY
