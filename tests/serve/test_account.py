"""What the gateway knows of its endpoints from what it sent and saw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.records import Endpoint
from wattshed.serve.account import Account
from wattshed.serve.breaker import Breaker


def state(account: Account) -> Endpoint:
    return account.state("e", "d", healthy=True)


def test_a_request_waits_until_its_first_token_and_then_grows() -> None:
    account = Account()
    flight = account.begin(100, 0.0)
    assert state(account) == Endpoint("e", "d", 0, 1, prompt_tokens=100)
    account.run(flight, 1.0)
    account.grow(flight, 1)
    account.grow(flight, 2)
    assert state(account) == Endpoint("e", "d", 1, 0, context_tokens=103)
    account.end(flight, 2.0)
    assert state(account) == Endpoint("e", "d")


def test_what_is_not_streamed_is_taken_to_run_when_its_prompt_is_due() -> None:
    account = Account()
    flight = account.begin(100, 0.0)
    account.expect(flight, 0.5, 20)
    account.advance(0.4)
    assert state(account).waiting == 1
    account.advance(0.5)
    assert state(account) == Endpoint("e", "d", 1, 0, context_tokens=120)
    account.end(flight, 0.6)
    assert state(account) == Endpoint("e", "d")
    account.expect(account.begin(100, 1.0), 1.5, 20)
    assert account.state("e", "d", healthy=True, now_s=1.4).waiting == 1
    assert account.state("e", "d", healthy=True, now_s=1.5).running == 1


def test_an_engine_of_single_queries_works_on_one() -> None:
    account = Account(alone=True)
    for _ in range(3):
        account.begin(10, 0.0)
    assert (state(account).running, state(account).waiting) == (1, 2)


def test_how_many_ran_beside_it_is_a_harmonic_mean_over_time() -> None:
    account = Account()
    first = account.begin(1, 0.0)
    account.run(first, 0.0)
    second = account.begin(1, 1.0)
    account.run(second, 1.0)
    assert account.beside(second, 2.0) == pytest.approx(2.0)
    account.end(second, 2.0)
    assert account.beside(first, 4.0) == pytest.approx(4.0 / (1.0 + 0.5 + 2.0))
    assert account.beside(account.begin(1, 4.0), 9.0) == 1.0  # it never ran


def test_the_most_at_a_time_is_since_it_was_asked_last() -> None:
    account = Account()
    flights = [account.begin(1, 0.0) for _ in range(3)]
    account.run(flights[0], 1.0)
    for flight in flights[:2]:
        account.end(flight, 2.0)
    assert account.take_most() == (3, 3)
    assert account.take_most() == (1, 1)


@given(st.lists(st.tuples(st.sampled_from(["begin", "run", "grow", "end"]), st.integers(0, 5))))
def test_nothing_is_left_when_all_have_ended(steps: list[tuple[str, int]]) -> None:
    account, flights, now = Account(), [], 0.0
    for what, which in steps:
        now += 0.5
        flight = flights[which % len(flights)] if flights else None
        if what == "begin":
            flights.append(account.begin(which, now))
            if which % 2:
                account.expect(flights[-1], now + which, 3)
        elif flight and not flight.ended and what == "run":
            account.run(flight, now)
        elif flight and flight.running and not flight.ended and what == "grow":
            account.grow(flight, which)
        elif flight and what == "end":
            account.end(flight, now)
        account.advance(now)
        found = state(account)
        assert min(found.running, found.waiting, found.context_tokens, found.prompt_tokens) >= 0
        assert account.in_flight == sum(not f.ended for f in flights)
    for flight in flights:
        account.end(flight, now)
        account.end(flight, now)  # once more is no matter
    account.advance(now + 10)
    assert state(account) == Endpoint("e", "d")


def test_a_breaker_opens_tries_once_and_closes() -> None:
    breaker = Breaker(failures=2, wait_s=1.0, longest_s=3.0)
    breaker.failed(0.0)
    assert breaker.allows(0.0)
    breaker.failed(0.0)
    assert not breaker.allows(0.9)
    assert breaker.retry_after_s(0.25) == 0.75
    assert breaker.allows(1.0)
    breaker.sent()
    assert not breaker.allows(1.0)  # one trial at a time
    breaker.failed(1.0)
    assert not breaker.allows(2.9)  # twice as long
    breaker.sent()
    breaker.gave_up()
    assert breaker.allows(3.0)
    for _ in range(5):
        breaker.failed(3.0)
    assert breaker.retry_after_s(3.0) == 3.0  # and no longer
    breaker.worked()
    assert breaker.allows(3.0)
    assert breaker.retry_after_s(3.0) == 0.0


def test_who_ran_beside_is_a_mean_over_tokens_not_over_time() -> None:
    """Two tokens alone in a second, two beside another in ten: (1 + 1 + 1/2 + 1/2) / 4."""
    account = Account()
    first, second = account.begin(10, 0.0), account.begin(10, 0.0)
    account.run(first, 0.0)
    account.grow(first, 2)
    account.run(second, 1.0)
    account.grow(first, 2)
    assert account.beside(first, 11.0) == pytest.approx(4 / 3)
    assert not first.joined
    assert second.joined
