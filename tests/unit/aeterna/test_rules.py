"""The small decisions: restarts, soaks, addresses, steering and metrics."""

from __future__ import annotations

import pytest
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.probes.checks import place, read_counters, total
from aeterna.supervisor.sockets.steering import program
from aeterna.table.addresses import BadAddress, difference, identity, parse
from aeterna.table.restart import Deaths, RestartRules, plan_restart
from aeterna.table.soak import Counted, Soak, SoakRules, checked, counted, failure


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("always", 0, True),
        ("always", 1, True),
        ("on-failure", 0, False),
        ("on-failure", 137, True),
        ("never", 1, False),
    ],
)
def test_the_policy_decides_about_a_restart(policy: str, code: int, again: bool) -> None:
    assert plan_restart(RestartRules(policy=policy), Deaths(), code, 1.0).restart is again  # type: ignore[arg-type]


def test_each_death_in_a_row_waits_longer_up_to_a_limit() -> None:
    rules, deaths, delays = RestartRules(first_s=1, factor=2, longest_s=10), Deaths(), []
    for _ in range(6):
        plan = plan_restart(rules, deaths, 1, 0.5)
        deaths = plan.deaths
        delays.append(plan.delay_s)

    assert delays == [1, 2, 4, 8, 10, 10]


def test_a_long_run_resets_the_count_of_deaths() -> None:
    assert plan_restart(RestartRules(first_s=1, stable_s=10), Deaths(5), 1, 10.0).delay_s == 1


def test_restarts_end_after_the_allowed_attempts() -> None:
    assert not plan_restart(RestartRules(attempts_max=3), Deaths(3), 1, 0.0).restart
    assert plan_restart(RestartRules(), Deaths(10**6), 1, 0.0).delay_s == 30.0


def test_checks_fail_in_a_row_or_not_at_all() -> None:
    rules, soak = SoakRules(failures_max=3), Soak()
    for passed in (False, False, True, False, False):
        soak = checked(soak, passed)
        assert failure(rules, soak) is None

    assert "3 checks" in (failure(rules, checked(soak, False)) or "")


@pytest.mark.parametrize(
    ("requests", "errors", "fails"), [(100, 5, False), (100, 6, True), (19, 19, False), (20, 20, True), (0, 0, False)]
)
def test_a_rate_needs_enough_requests_and_counts_from_the_start(requests: float, errors: float, fails: bool) -> None:
    rules = SoakRules(error_rate_max=0.05, requests_min=20)
    soak = counted(counted(Soak(), Counted(1000, 500)), Counted(1000 + requests, 500 + errors))

    assert (failure(rules, soak) is not None) is fails


def test_counters_that_went_backwards_are_a_new_start() -> None:
    soak = counted(counted(Soak(), Counted(1000, 900)), Counted(5, 0))

    assert soak.first == soak.last == Counted(5, 0)


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [
        (":80", "tcp://[::]:80"),
        ("80", "tcp://[::]:80"),
        ("*:80", "tcp://[::]:80"),
        ("localhost:80", "tcp://127.0.0.1:80"),
        ("127.0.0.1:080", "tcp://127.0.0.1:80"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("[0:0:0::1]:80", "tcp://[::1]:80"),
        ("[::ffff:10.0.0.1]:80", "tcp://10.0.0.1:80"),
        ("udp://:53", "udp://[::]:53"),
        ("unix:/a//b/./c", "unix:/a/b/c"),
        ("/a/b", "unix:/a/b"),
        ("@hidden", "unix:@hidden"),
    ],
)
def test_one_socket_has_one_spelling(spelt: str, meant: str) -> None:
    assert str(parse(spelt)) == meant
    assert parse(str(parse(spelt))) == parse(spelt)


@pytest.mark.parametrize(
    "spelt", ["", ":", "x", ":x", "http://a:1", "name:80", "unix:rel", "/a/../b", "/" + "x" * 200, ":٣"]
)
def test_nonsense_is_refused(spelt: str) -> None:
    with pytest.raises(BadAddress):
        parse(spelt)


def test_added_and_removed_listeners() -> None:
    change = difference({"a", "b"}, {"b", "c"})

    assert [set(part) for part in (change.opened, change.kept, change.closed)] == [{"c"}, {"b"}, {"a"}]
    assert identity("x", parse(":80")) == identity("y", parse("[::]:80"))
    assert identity("x", parse(":0")) != identity("y", parse(":0"))


def run(instructions: list[tuple[int, int, int, int]], random: int, port: int = 0) -> int:
    """Run the instructions as the kernel would for an IPv4 packet."""
    packet = {0xFFF00000: 0x45, 0xFFF00014: port, 0xFFFFF038: random}
    at = value = 0
    while True:
        code, yes, no, k = instructions[at]
        at += 1
        if code in (0x30, 0x28, 0x20):
            value = packet[k]
        elif code == 0x74:
            value >>= k
        elif code == 0x05:
            at += k
        elif code == 0x15:
            at += yes if value == k else no
        elif code == 0x35:
            at += yes if value >= k else no
        else:
            assert code == 0x06
            return k


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.25, 0.5, 1.0])
def test_the_kernel_gets_the_right_share(fraction: float) -> None:
    steps = program(fraction, 0, 1)
    sample = [run(steps, i * 0xFFFFFFFF // 1000) for i in range(1000)]

    assert sum(sample) / 1000 == pytest.approx(fraction, abs=0.002)
    assert run(program(fraction, 0, 1, 4711), 0xFFFFFFFF, 4711) == 1


def test_counters_are_summed_over_their_labels() -> None:
    page = 'r_total{code="200"} 90\nr_total{code="500"} 10\nr_total_created 5\n# r_total 3\nother 1\n'

    assert total(page, "r_total") == 100
    assert total(page, 'r_total{code="500"}') == 10
    assert read_counters("100.0 10.0") == Counted(100, 10)
    assert read_counters("nonsense") is None


def test_where_a_url_points() -> None:
    assert [
        str(place(u)[0]) + " " + place(u)[1] for u in ("http://127.0.0.1:81/x", "http://127.0.0.1", "unix:/s:/x")
    ] == [
        "tcp://127.0.0.1:81 /x",
        "tcp://127.0.0.1:80 /",
        "unix:/s /x",
    ]


def test_prometheus_can_read_the_page() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    metrics = Metrics()
    metrics.restarts.add(label='a "quoted"\nreason')
    metrics.phase_seconds.observe(0.0004, "soaking")
    families = {family.name: family for family in text_string_to_metric_families(metrics.text())}
    buckets = {s.labels["le"]: s.value for s in families["aeterna_phase_duration_seconds"].samples if "le" in s.labels}

    assert buckets["0.00025"] == 0
    assert buckets["0.0005"] == buckets["+Inf"] == 1
    assert families["aeterna_restarts"].samples[0].labels["reason"] == 'a "quoted"\nreason'
    copy = Metrics()
    copy.resume(metrics.keep())
    assert copy.text() == metrics.text()
