"""The receivers that notifiers and sentinels send to."""

from support.fixtures import opened
from support.rig.receiver import Receiver

receiver = opened(Receiver)
other = opened(Receiver)
