"""Properties of the control plane's pure functions, over whatever hypothesis thinks of."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.control import circuit
from worker.control.circuit import Circuit, CircuitPolicy, CircuitStatus, Work
from worker.control.errors import ErrorClass
from worker.control.limits import Limits, Spent
from worker.control.progress import Progress, fingerprint
from worker.control.retry import RetryPolicy
from worker.control.verdict import GiveUp, Retry, after_failure

SECONDS = st.floats(min_value=0, max_value=10_000)
POLICIES = st.builds(RetryPolicy, st.integers(0, 50), SECONDS, SECONDS)


@given(POLICIES, st.integers(1, 10_000))
def test_waits_double_never_shrink_and_keep_below_the_maximum(policy: RetryPolicy, attempt: int) -> None:
    """wait = min(base * 2^(n-1), max)."""
    wait, following = policy.wait_seconds(attempt), policy.wait_seconds(attempt + 1)
    assert 0 <= wait <= following <= policy.max_seconds
    assert policy.wait_seconds(1) == min(policy.base_seconds, policy.max_seconds)
    assert following in {min(2 * wait, policy.max_seconds), policy.max_seconds, wait}


@given(POLICIES, st.lists(st.sampled_from("ab"), min_size=60, max_size=60), st.integers(1, 60))
def test_every_task_ends(policy: RetryPolicy, states: list[str], k: int) -> None:
    """n retries are at most n + 1 attempts; fewer only where k attempts in a row ended alike."""
    progress = Progress()
    for attempt, state in enumerate(states, start=1):
        progress = progress.after(state)
        verdict = after_failure(policy, attempt, progress, k)
        if isinstance(verdict, GiveUp):
            assert attempt <= policy.max_retries + 1
            assert verdict.stalled == (attempt <= policy.max_retries)
            assert not verdict.stalled or len(set(states[attempt - k : attempt])) == 1
            return
        assert isinstance(verdict, Retry)
    raise AssertionError("a task went on for ever")


@given(st.integers(1, 30), st.integers(0, 100))
def test_n_turns_allow_n_calls(max_turns: int, wanted: int) -> None:
    """Whoever asks before each call makes exactly as many as are allowed."""
    limits, calls = Limits(max_turns=max_turns), 0
    while calls < wanted and limits.reached(Spent(turns=calls)) is None:
        calls += 1
    assert calls == min(wanted, max_turns)


@given(st.integers(1, 10_000), st.lists(st.integers(0, 3_000), max_size=50))
def test_the_budget_warns_once_and_before_it_stops(budget: int, costs: list[int]) -> None:
    """However the day's tokens come in, there is at most one warning, and none is missing where runs are stopped."""
    limits, spent, warnings = Limits(budget_tokens_per_day=budget), 0, 0
    for cost in costs:
        if limits.reached(Spent(tokens_today=spent)) is not None:
            break
        warnings += limits.warning(spent, spent + cost) is not None
        spent += cost
    assert warnings == (spent >= budget * 0.8)


STATE = st.tuples(st.integers(), st.integers(), st.integers(), st.text(), st.text())


@given(STATE, STATE)
def test_fingerprints_differ_where_states_do(
    one: tuple[int, int, int, str, str], other: tuple[int, int, int, str, str]
) -> None:
    """Equal states have equal fingerprints, other states others."""
    assert (_fingerprint(*one) == _fingerprint(*other)) == (one == other)


def _fingerprint(task: int, history: int, compressed: int, error_class: str, reply: str) -> str:
    return fingerprint(
        task_id=task,
        history_count=history,
        compressed_count=compressed,
        error_class=error_class,
        reply_hash=reply,
    )


POLICY = CircuitPolicy(threshold=3, cooldown_seconds=30)
RUN_CLASSES = [each for each in ErrorClass if each is not ErrorClass.COMMAND_SOURCE_API]


class CircuitMachine(RuleBasedStateMachine):
    """Work is begun only where it is admitted, and ends in any order, while the clock runs."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = Circuit()
        self.probes = 0
        self.under_way: list[tuple[Work, bool]] = []

    @rule(seconds=st.floats(min_value=0, max_value=40))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        before = self.state
        self.state = circuit.cooled(self.state, POLICY, self.now)
        if before.status is CircuitStatus.OPEN and self.state.status is CircuitStatus.HALF_OPEN:
            assert self.now - before.opened_at >= POLICY.cooldown_seconds
            self.probes = 0

    @rule(work=st.sampled_from(Work))
    def begin(self, work: Work) -> None:
        if work is Work.POLL and any(each is Work.POLL for each, _ in self.under_way):
            return  # there is one poller
        if circuit.admits(self.state, work):
            assert self.state.status is not CircuitStatus.OPEN or (work, self.state.probe) == (Work.POLL, Work.RUN)
            probe = circuit.is_probe(self.state, work)
            self.probes += probe
            self.state = circuit.begun(self.state, work)
            self.under_way.append((work, probe))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), outcome=st.sampled_from(["well", "badly", "not at all"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        work, probe = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.probes -= probe
        was = self.state.status
        if outcome == "well":
            self.state = circuit.succeeded(self.state, work, probe=probe)
            assert (self.state.status is CircuitStatus.CLOSED) == (probe or was is CircuitStatus.CLOSED)
        elif outcome == "badly":
            classes = [ErrorClass.COMMAND_SOURCE_API] if work is Work.POLL else RUN_CLASSES
            error_class = data.draw(st.sampled_from(classes))
            self.state = circuit.failed(self.state, POLICY, work, error_class, self.now, probe=probe)
            assert not probe or self.state.status is CircuitStatus.OPEN
        else:
            self.state = circuit.abandoned(self.state, probe=probe)
            assert self.state.status is was

    @invariant()
    def one_probe_at_most(self) -> None:
        assert self.probes <= 1

    @invariant()
    def it_never_stays_open(self) -> None:
        later = circuit.cooled(self.state, POLICY, self.now + POLICY.cooldown_seconds)
        assert later.status is not CircuitStatus.OPEN
        assert circuit.admits(later, Work.POLL)


TestCircuit = CircuitMachine.TestCase
