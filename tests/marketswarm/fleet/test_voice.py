import json
import os
import threading

from marketswarm.fleet.voice import Voice


def test_lines_come_whole_and_in_order():
    reading, writing = os.pipe()
    voice = Voice(writing, lambda: None)
    for number in range(1000):
        voice.say(b"%d" % number)
    voice.close()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read().split() == [b"%d" % number for number in range(1000)]


def test_a_reader_that_stalls_holds_nobody_up_and_what_is_lost_is_counted():
    reading, writing = os.pipe()
    voice = Voice(writing, lambda: None)
    for _ in range(20_000):  # a pipe holds 64 KiB
        voice.say(b"x" * 100)
    voice.close(within_sec=0.05)  # gives up
    lines = []
    with os.fdopen(reading, "rb") as pipe:
        while not lines or b"log.dropped" not in lines[-1]:
            lines.append(pipe.readline())
    voice.close()
    os.close(writing)
    assert len(lines) - 1 + json.loads(lines[-1])["lines"] == 20_000


def test_a_reader_that_went_away_is_noticed():
    reading, writing = os.pipe()
    gone = threading.Event()
    voice = Voice(writing, gone.set)
    os.close(reading)
    voice.say(b"x")
    assert gone.wait(2)
    voice.close()
    os.close(writing)
