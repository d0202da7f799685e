"""The studio with one page more, which shows nothing but the log view of a unit."""

from studio.settings import *  # noqa: F403 - settings upon settings

ROOT_URLCONF = "tests.compute.log_page"
