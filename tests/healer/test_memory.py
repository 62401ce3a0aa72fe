"""A program that frees large blocks between small ones that stay, with and without what the healer sets."""

import ctypes
import subprocess
import sys

import pytest

from healer import memory

PROGRAM = """
import sys
from healer.memory import return_free_memory, return_large_blocks

def resident_mb():
    with open("/proc/self/status") as status:
        (line,) = (line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024

if "large" in sys.argv:
    assert return_large_blocks()
del (first := [bytearray(16 << 20)])[:]  # from here on, glibc keeps smaller blocks in its heap
before = resident_mb()
large, small = [], []
for _ in range(40):
    large.append(bytearray(2 << 20))
    small.append(bytearray(4096))
del large[:]
if "free" in sys.argv:
    assert return_free_memory()
print(resident_mb() - before)
"""
glibc = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")


def measure_kept_mb(*words: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, check=True, text=True)
    return float(done.stdout)


@glibc
def test_large_blocks_that_are_free_again_are_returned():
    assert measure_kept_mb() > 60, "glibc itself keeps them"
    assert measure_kept_mb("large") < 10


@glibc
def test_what_is_free_is_returned_when_it_is_asked_for():
    assert measure_kept_mb("free") < 10


def test_another_library_than_glibc_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not memory.return_large_blocks()
    assert not memory.return_free_memory()
