"""What probers need: an authority of our own, and the context of one probe."""

import pytest

from services.massive.probes.probers.context import ProbeContext, SystemLookUp
from support.rig.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def context():
    look_up = SystemLookUp(1)
    yield ProbeContext(5.0, look_up)
    look_up.close()
