"""`python -m services.rss_agg`."""

from marketswarm.agent import run
from services.rss_agg.loop import main

run(main)
