from services.rss_agg.hosts import NEVER, Hosts


def waiting(*pairs):
    hosts = Hosts()
    for host, feed in pairs:
        hosts.wait(host, feed)
    return hosts


def taken(hosts, now, at_once=2, spacing_sec=0.0):
    found = []
    while (turn := hosts.take(now, at_once, spacing_sec)) is not None:
        assert turn[0] == turn[1][0]  # the host
        found.append(turn[1])
    return found


def test_of_one_host_so_many_at_once_and_no_more():
    hosts = waiting(*(("a", f"a{n}") for n in range(4)), ("b", "b0"))
    assert sorted(taken(hosts, 0.0)) == ["a0", "a1", "b0"]
    assert hosts.next_at(0.0, 2) == NEVER
    hosts.done("a", 1.0)
    assert taken(hosts, 1.0) == ["a2"]


def test_hosts_take_turns():
    hosts = waiting(("a", "a0"), ("a", "a1"), ("b", "b0"), ("b", "b1"))
    assert taken(hosts, 0.0) == ["a0", "b0", "a1", "b1"]


def test_between_two_readings_of_a_host_there_is_a_pause():
    hosts = waiting(("a", "a0"), ("a", "a1"), ("b", "b0"))
    assert taken(hosts, 10.0, spacing_sec=0.5) == ["a0", "b0"]
    assert hosts.next_at(10.1, 2) == 10.5
    assert taken(hosts, 10.49, spacing_sec=0.5) == []
    assert taken(hosts, 10.5, spacing_sec=0.5) == ["a1"]


def test_a_host_that_wants_to_be_left_alone_is():
    hosts = waiting(("a", "a0"), ("a", "a1"))
    assert hosts.take(0.0, 1, 0.0) == ("a", "a0")
    hosts.done("a", 1.0, 60.0)
    assert taken(hosts, 60.9) == []
    assert hosts.next_at(2.0, 1) == 61.0
    assert taken(hosts, 61.0) == ["a1"]


def test_who_is_forgotten_does_not_wait_and_a_pause_stays():
    hosts = waiting(("a", "a0"), ("a", "a1"))
    hosts.take(0.0, 2, 5.0)
    hosts.forget()
    assert taken(hosts, 10.0) == []
    hosts.wait("a", "a2")
    assert taken(hosts, 1.0) == []
    assert taken(hosts, 5.0) == ["a2"]


def test_hosts_that_nothing_is_left_to_say_of_are_forgotten():
    hosts = Hosts()
    for n in range(5000):
        hosts.wait(f"h{n}", "x")
        hosts.take(float(n), 1, 0.0)
        hosts.done(f"h{n}", float(n))
    assert len(hosts._hosts) <= 2001
